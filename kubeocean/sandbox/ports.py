"""Free TCP ports, chosen once and remembered in the sandbox's state."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Collection, Container

# Below the range from which Linux takes the ports of outgoing connections (32768 up): one of those could snatch the
# port between our look and the server's bind.
_RANGE = range(20000, 32000)


class PortError(Exception):
    """There are not enough ports to listen on; the message names the remedy."""


def choose_ports(count: int, addresses: Collection[str], taken: Container[int] = ()) -> list[int]:
    """Return `count` different ports that are free at all IPv4 `addresses` and not in `taken`.

    They start at a random place, so two sandboxes started at once hardly meet. Raises PortError.
    """
    start = random.randrange(len(_RANGE))
    found: list[int] = []
    for offset in range(len(_RANGE)):
        if len(found) == count:
            return found
        port = _RANGE[(start + offset) % len(_RANGE)]
        if port not in taken and all(_is_free(port, address) for address in addresses):
            found.append(port)
    raise PortError(f"no {count} free ports between {_RANGE.start} and {_RANGE.stop - 1}; end other sandboxes first")


def _is_free(port: int, address: str) -> bool:
    with socket.socket() as probe:
        # As servers do: a connection of a former server in TIME_WAIT does not make the port unusable.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise PortError(f"{address} is no address of this machine; listen at one that is, or at 0.0.0.0") from None
            return False
    return True
