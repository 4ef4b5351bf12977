"""The loopback address of virtual nodes on a machine that is no Pod.

Everything on a laptop connects from 127.0.0.1, and the kernel gives each connection any free port there: half of those from
which virtual nodes get theirs are among them, and whose connection it is cannot be told to share (`kube.sockets` can, of our
own). On the address next to it the ports are nobody's. Linux has the whole of 127.0.0.0/8; elsewhere it is one address.
"""

from __future__ import annotations

import sys
from typing import Final

VNODE_LOOPBACK: Final = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
