"""Outgoing sockets that leave their local port to whoever wants to listen on it.

The kernel gives an outgoing connection any free local port, and half of those from which virtual nodes get theirs are among
them. It would then refuse that port to a listener for as long as the connection lives, and a minute longer: a proxier that
starts again would lose ports to its own connections. It allows both when both say SO_REUSEADDR, as asyncio's listeners do.
"""

from __future__ import annotations

import socket

from aiohttp import AddrInfoType


def build_socket(address: AddrInfoType) -> socket.socket:
    """Return an unconnected socket for one answer of getaddrinfo; aiohttp's and aiohappyeyeballs' `socket_factory`."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made
