"""The memory of an idle stream: nearly all of it is what asyncio reads TLS into, made whole with every connection.

That is 256 KiB, and a stream has two connections: an idle one took 580 KiB, as 300 of them measured. With two TLS records at
a time instead of sixteen it takes 139, a keystroke is as quick, and a gigabyte costs a tenth more CPU (3.0 s instead of 2.7 on
a machine of two cores). Most streams are people at a prompt, and there may be thousands of them: so memory counts for more.
"""

from __future__ import annotations

from asyncio import sslproto
from typing import Final

TLS_BUFFER: Final = 2**15


def shrink_tls_buffers() -> None:
    """Have connections that this process opens or takes from now on read TLS in smaller pieces."""
    sslproto.SSLProtocol.max_size = TLS_BUFFER
