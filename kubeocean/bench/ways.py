"""Ways to one and the same container, and commands that are run along them, as kubectl runs them.

Three ways are compared:

    straight        us → physical API server → kubelet
    proxier         us → proxier → physical API server → kubelet
    through         us → virtual API server → proxier → physical API server → kubelet

The first is what there would be without a federation, the last is kubectl's on a virtual node. The one between them leaves
out the second API server, whose share no proxier can make smaller; we go it as that server does, with its certificate.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from kubeocean.bench.errors import BenchError
from kubeocean.bench.execframes import LONGEST, PROTOCOL, STATUS, STDERR, STDOUT, build_stdin, parse_exit, parse_frame

OPENS_WITHIN = 60.0  # seconds: 200 at once wait for each other
CLOSES_WITHIN = 10.0  # seconds


class Running:
    """A command that runs; what it writes to stderr is kept in `complaints`."""

    def __init__(self, way: str, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.complaints = b""
        self.exit_code: int | None = None  # once it has ended
        self._way, self._socket, self._ended = way, socket, False

    async def send(self, data: bytes) -> None:
        """Send `data` to its stdin, in as many frames as it takes."""
        for start in range(0, len(data), LONGEST):
            try:
                await self._socket.send_bytes(build_stdin(data[start:start + LONGEST]))
            except ConnectionError as error:
                raise BenchError(f"{self._way}: the stream broke off: {error}") from error

    async def read(self) -> bytes:
        """Return the next bytes of its stdout, b"" once it has ended and told how. Raises BenchError if it breaks off."""
        while not self._ended:
            message = await self._socket.receive()
            if message.type is not aiohttp.WSMsgType.BINARY:
                raise BenchError(f"{self._way}: the stream broke off ({message.type.name}, {message.extra or message.data})")
            channel, data = parse_frame(message.data)
            if channel == STDOUT and data:
                return data
            if channel == STDERR:
                self.complaints += data
            elif channel == STATUS:
                self._ended, self.exit_code = True, parse_exit(data)
                self.complaints += b"" if self.exit_code == 0 else data
        return b""

    async def read_all(self) -> bytes:
        """Return everything it still writes."""
        parts = []
        while part := await self.read():
            parts.append(part)
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the container; `target` makes path and query of a command."""

    name: str
    url: str
    session: aiohttp.ClientSession
    target: Callable[..., str]

    @asynccontextmanager
    async def run(self, *command: str, stdin: bool = False) -> AsyncIterator[Running]:
        """Run a command and give it once its streams are open; in the end the connection is closed. Raises BenchError."""
        socket = await self._open(command, stdin=stdin)
        try:
            yield Running(self.name, socket)
        finally:
            await socket.close()

    async def _open(self, command: Sequence[str], *, stdin: bool) -> aiohttp.ClientWebSocketResponse:
        try:
            return await self.session.ws_connect(
                self.url + self.target(command, stdin=stdin), protocols=(PROTOCOL,), max_msg_size=0,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSES_WITHIN),
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise BenchError(f"{self.name}: no exec: {str(error) or 'no answer in time'}") from error


@asynccontextmanager
async def open_way(name: str, url: str, context: ssl.SSLContext | None, target: Callable[..., str]) -> AsyncIterator[Way]:
    """Give a way, with connections of its own: one for each command, as kubectl has it."""
    connector = aiohttp.TCPConnector(limit=0, ssl=context or True, force_close=True)
    timeout = aiohttp.ClientTimeout(total=OPENS_WITHIN)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
        yield Way(name, url, session, target)
