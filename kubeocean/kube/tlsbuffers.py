"""The memory of a TLS connection: nearly all of it is what asyncio reads into, made whole with every connection.

That is 256 KiB. With two TLS records at a time instead of sixteen,

    an idle stream of the proxier, which has two connections,   takes 139 KiB instead of 580 (300 of them measured),
    a pooled connection to an API server                        takes 105 KiB instead of 328 (100 of them measured),

a keystroke is as quick, and a gigabyte costs a tenth more CPU (3.0 s instead of 2.7 on a machine of two cores). Most streams
are people at a prompt, most answers are one object; there may be thousands of the first, and a burst keeps a manager's
connections busy, 16 for each lender and 32 more. So memory counts for more. uvloop has its own TLS and is as it is: 84 KiB.
"""

from __future__ import annotations

from asyncio import sslproto
from typing import Final

TLS_BUFFER: Final = 2**15


def shrink_tls_buffers() -> None:
    """Have connections that this process opens or takes from now on read TLS in smaller pieces."""
    sslproto.SSLProtocol.max_size = TLS_BUFFER
