"""The far end of a stream: a connection of its own to the physical API server, switched away from HTTP.

No library parses what follows (SPDY or WebSocket): once the server has answered 101 the bytes are only carried. Its answer's
head goes back to the caller as it came; so does any other answer, for its words are the ones the user must see.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from aiohappyeyeballs import start_connection
from multidict import CIMultiDictProxy
from yarl import URL

from kubeocean.kube.config import ServerConfig
from kubeocean.kube.errors import Unreachable
from kubeocean.kube.sockets import build_socket

CONNECT_WITHIN: Final = 10.0  # seconds for TCP and TLS
ANSWER_WITHIN: Final = 30.0  # seconds until the head of the answer: the physical API server dials the kubelet first
BUFFER: Final = 2**16  # bytes read ahead per direction
_LONGEST_HEAD: Final = 2**16
_LONGEST_REFUSAL: Final = 2**16  # bytes of the body of an answer that is not 101
_PASSED: Final = ("upgrade", "connection", "x-stream-protocol-version")
_PASSED_PREFIX: Final = "sec-websocket-"


@dataclass(slots=True)
class Upstream:
    """An answer: `head` verbatim with its empty line; of a refusal also `body`, and the connection is closed already."""

    status: int
    head: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    body: bytes = b""
    content_type: str = ""

    @property
    def switched(self) -> bool:
        """Tell whether the stream is open."""
        return self.status == 101


async def open_upstream(
    config: ServerConfig, method: str, target: str, headers: CIMultiDictProxy[str], *, cluster: str, user_agent: str
) -> Upstream:
    """Ask the API server of `config` to open the stream `target`. Raises Unreachable when it gives no answer."""
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            reader, writer = await _connect(config)
    except (OSError, TimeoutError) as error:
        raise Unreachable(f"{cluster}: no connection to {config.server}: {_words(error)}", cluster=cluster) from error
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            authorization = await config.authorization(False)
            writer.write(_build_head(config, method, target, headers, authorization, user_agent))
            upstream = await _read_answer(reader, writer)
            if not upstream.switched:
                upstream.body = await _read_body(reader, _fields(upstream.head))
    except BaseException as error:
        writer.transport.abort()
        if isinstance(error, OSError | EOFError | asyncio.LimitOverrunError | ValueError):
            message = f"{cluster}: {target.partition('?')[0]}: {_words(error)}"
            raise Unreachable(message, cluster=cluster) from error
        raise
    if not upstream.switched:
        writer.transport.abort()
    return upstream


def _words(error: BaseException) -> str:
    return str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)


async def _connect(config: ServerConfig) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    server = URL(config.server)
    host, port = server.host or "", server.port or (443 if server.scheme == "https" else 80)
    answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    connected = await start_connection(answers, socket_factory=build_socket)
    if config.ssl is None:
        return await asyncio.open_connection(sock=connected, limit=BUFFER)
    return await asyncio.open_connection(
        sock=connected, limit=BUFFER, ssl=config.ssl, server_hostname=config.tls_server_name or host,
        ssl_handshake_timeout=CONNECT_WITHIN,
    )


def _build_head(
    config: ServerConfig, method: str, target: str, headers: CIMultiDictProxy[str], authorization: str | None, user_agent: str
) -> bytes:
    server = URL(config.server)
    lines = [f"{method} {server.raw_path.rstrip('/')}{target} HTTP/1.1", f"Host: {server.authority}"]
    lines.append(f"User-Agent: {user_agent}")
    if authorization:
        lines.append(f"Authorization: {authorization}")
    if method == "POST":
        lines.append("Content-Length: 0")
    for name, value in headers.items():
        if name.lower() in _PASSED or name.lower().startswith(_PASSED_PREFIX):
            lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def _read_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Upstream:
    head = await reader.readuntil(b"\r\n\r\n")
    if len(head) > _LONGEST_HEAD:
        raise ValueError("the head of the answer is too long")
    status = head.split(b"\r\n", 1)[0].split(b" ")
    if len(status) < 2 or not status[1].isdigit():
        raise ValueError("the answer is not HTTP")
    fields = dict(_fields(head))
    return Upstream(int(status[1]), head, reader, writer, content_type=fields.get("content-type", ""))


def _fields(head: bytes) -> Iterable[tuple[str, str]]:
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            yield name.strip().lower(), value.strip()


async def _read_body(reader: asyncio.StreamReader, fields: Iterable[tuple[str, str]]) -> bytes:
    """Read what a refusal says, up to a limit: it is for a human."""
    head = dict(fields)
    if head.get("transfer-encoding", "").lower() == "chunked":
        body = bytearray()
        while len(body) < _LONGEST_REFUSAL and (size := int((await reader.readline()).split(b";")[0], 16)):
            body += (await reader.readexactly(min(size, _LONGEST_REFUSAL)))
            await reader.readline()
        return bytes(body)
    length = head.get("content-length", "")
    return await reader.readexactly(min(int(length), _LONGEST_REFUSAL)) if length.isdigit() else b""
