"""A stream through the proxier: the caller's connection and one to the physical API server, joined byte for byte.

The caller's connection begins as an HTTP request of the server (aiohttp). Once the far end has switched protocols, the
transport is taken away from it and given to two *pumps*, one a direction; aiohttp is told that its connection is lost, so it
forgets it and cancels the handler, while the session lives on in a task of its own. A pump waits for the slower side
(drain), so a session holds no more than its buffers. Whichever direction ends first ends the session: what has been read by
then is still delivered, then both connections are closed. TLS knows no half-closed connection, and neither protocol needs one.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from aiohttp import web

from kubeocean.proxier.upstream import BUFFER, Upstream

CHUNK: Final = 2**16
IDLE_FOR: Final = 4 * 3600.0  # seconds without a byte after which a stream is given up, as a kubelet does
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}  # seconds, seconds, probes
CLOSE_WITHIN: Final = 5.0  # seconds for the last bytes of a session to reach a slow caller


@dataclass(slots=True)
class Traffic:
    """What a session carried: bytes from the caller, and to it. All of it is counted elsewhere, too, as it comes."""

    count_received: Callable[[int], None] = lambda _: None
    count_sent: Callable[[int], None] = lambda _: None
    received: int = 0
    sent: int = 0

    def note_received(self, count: int) -> None:
        """Add bytes that came from the caller."""
        self.received += count
        self.count_received(count)

    def note_sent(self, count: int) -> None:
        """Add bytes that went to it."""
        self.sent += count
        self.count_sent(count)


class Taken(NamedTuple):
    """The caller's connection, no longer HTTP."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def join(taken: Taken, upstream: Upstream, traffic: Traffic, *, idle_for: float = IDLE_FOR) -> None:
    """Carry bytes between the caller and `upstream` until either ends, or nothing has come for `idle_for`; both are closed.

    A peer that vanished without a word is noticed within a minute or so, by TCP itself.
    """
    reader, writer = taken
    for end in (writer, upstream.writer):
        _keep_alive(end.transport.get_extra_info("socket"))
    writer.write(upstream.head)
    down = asyncio.create_task(_pump(upstream.reader, writer, traffic.note_sent), name="stream to the caller")
    up = asyncio.create_task(_pump(reader, upstream.writer, traffic.note_received), name="stream from the caller")
    try:
        await _until_done_or_idle((down, up), traffic, idle_for)
    finally:
        for pump in (down, up):
            pump.cancel()
        await asyncio.gather(down, up, return_exceptions=True)
        await asyncio.gather(_close(writer), _close(upstream.writer))


def take_over(request: web.BaseRequest) -> Taken:
    """Take the connection of `request` away from the server, whose handler is cancelled by that at its next await.

    Raises ConnectionResetError when the caller has gone.
    """
    transport, before, loop = request.transport, request.protocol, asyncio.get_running_loop()
    if transport is None:
        raise ConnectionResetError("the caller has gone")
    reader = asyncio.StreamReader(limit=BUFFER, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    if early := getattr(before, "_message_tail", b""):
        reader.feed_data(early)  # sent without waiting for our answer
    before.transport = None  # or it would close it, believing that it is its own
    before.connection_lost(None)
    with suppress(AttributeError, RuntimeError):
        transport.resume_reading()
    return Taken(reader, writer)


async def _until_done_or_idle(pumps: tuple[asyncio.Task[None], ...], traffic: Traffic, idle_for: float) -> None:
    """Return when one of `pumps` has ended, or after between one and two `idle_for` without a byte."""
    carried = -1
    while carried != (carried := traffic.received + traffic.sent):
        done, _ = await asyncio.wait(pumps, timeout=idle_for, return_when=asyncio.FIRST_COMPLETED)
        if done:
            return


def _keep_alive(connection: socket.socket | None) -> None:
    if connection is None:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        if (number := getattr(socket, option, None)) is not None:  # not every system has each
            connection.setsockopt(socket.IPPROTO_TCP, number, value)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, note: Callable[[int], None]) -> None:
    with suppress(ConnectionError, TimeoutError, OSError):
        while chunk := await source.read(CHUNK):
            note(len(chunk))
            sink.write(chunk)
            await sink.drain()


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close after what is still buffered has gone out, or after a few seconds without."""
    writer.close()
    try:
        async with asyncio.timeout(CLOSE_WITHIN):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()
