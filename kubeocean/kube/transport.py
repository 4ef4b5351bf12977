"""One cluster's HTTP: from a verb and a path to the bytes of a successful answer, or one of `kube.errors`.

A call passes these stations: the deadline that bounds all that follows -> the guard (may we still write?) -> the token
bucket, and the guard again -> its turn, for only so many are in flight at once -> the Authorization header -> a pooled
connection -> the guard once more, at the last moment before the first byte, because turn and connection may have taken seconds
-> the answer -> metrics. 401 asks for a fresh credential and repeats once; what else is worth repeating is decided in `retry`.

Turns are ours, not the pool's: aiohttp's gives a connection that comes free to whoever asks in that moment, mostly the task
that had it, and those who wait may wait until a burst is over. A semaphore's waiters are served in the order they came.

Two aiohttp sessions: calls share one keep-alive pool; watches have their own, take no turn and have no total timeout, so that
a hundred long-lived streams never hold up a call. This is the hot path (thousands of calls per second on one core):
URLs are built encoded, metrics are bound once, and the usual case enters two context managers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import NamedTuple

import aiohttp
from aiohttp.connector import Connection
from prometheus_client import Counter, Histogram
from yarl import URL

from kubeocean.kube.answers import TRANSPORT_FAILURES, build_error, build_unreachable
from kubeocean.kube.config import ServerConfig
from kubeocean.kube.errors import KubeError, Unauthorized, Unreachable
from kubeocean.kube.retry import READS, is_repeatable, repeat
from kubeocean.kube.sockets import build_socket
from kubeocean.kube.tokenbucket import TokenBucket

REQUESTS = Counter(
    "rest_client_requests_total", "HTTP requests, by status code (<error> = no answer), method and host.",
    ("code", "method", "host"),
)
DURATION = Histogram(
    "rest_client_request_duration_seconds", "Time from sending a request to the end of its answer.", ("verb", "host"),
    buckets=(0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0),  # client-go's
)

CONNECT_TIMEOUT = 10.0  # seconds for TCP and TLS of one new connection
IDLE_CONNECTION = 15.0  # seconds; also the longest that connections of a vanished server stay in the pool
WATCH_HEAD_TIMEOUT = 30.0  # seconds until the head of a watch's answer must be there
WATCH_BUFFER = 2**18  # bytes read ahead per watch before the socket is paused

Guard = Callable[[], None]


class Call(NamedTuple):
    """One request as it goes over the wire; `query` and `path` are already percent-encoded, `accept` "" means JSON."""

    method: str
    path: str
    query: str = ""
    body: bytes | None = None
    content_type: str = ""
    accept: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class ByteStream:
    """The body of a watch: iterate over its chunks as they arrive, of any size and cut anywhere.

    Ends when the server ends it; raises Unreachable when the connection breaks.
    """

    __slots__ = ("_build_failure", "_content")

    def __init__(self, content: aiohttp.StreamReader, build_failure: Callable[[BaseException], Unreachable]) -> None:
        self._content = content
        self._build_failure = build_failure

    def __aiter__(self) -> ByteStream:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._content.readany()
        except TRANSPORT_FAILURES as failure:
            raise self._build_failure(failure) from failure
        if not chunk:
            raise StopAsyncIteration
        return chunk


class Transport:
    """Sends calls to one API server. `guard` raises NotLeading when nothing may be changed at this moment."""

    def __init__(
        self, config: ServerConfig, *, cluster: str, user_agent: str, bucket: TokenBucket | None, guard: Guard | None,
        connections: int,
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._bucket = bucket
        self._guard = guard
        self._turns = asyncio.Semaphore(connections)
        self._headers = {"User-Agent": user_agent, "Accept": "application/json", "Accept-Encoding": "identity"}
        self._sessions: dict[bool, aiohttp.ClientSession] = {}  # by "is it for watches"
        self._renewing = asyncio.Lock()
        self._host = URL(config.server).authority
        self._count: dict[tuple[str, str], Callable[[], None]] = {}
        self._observe: dict[str, Callable[[float], None]] = {}
        self._closed = False

    async def close(self) -> None:
        """Close both sessions; calls in flight fail with Unreachable. May be repeated."""
        self._closed = True
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            await session.close()

    async def call(self, call: Call, deadline: float) -> bytes:
        """Return the body of a 2xx answer, within `deadline` seconds whatever happens; raise a KubeError otherwise."""
        try:
            async with asyncio.timeout(deadline) as limit:
                try:
                    return await self._attempt(call)
                except KubeError as error:
                    if not is_repeatable(call.method, error):
                        raise
                    left = (limit.when() or 0.0) - asyncio.get_running_loop().time()
                    return await repeat(call.method, lambda: self._attempt(call), error, within=left)
        except TimeoutError as timeout:
            raise self._late(call, deadline) from timeout

    @asynccontextmanager
    async def stream(self, path: str, query: str, accept: str = "") -> AsyncIterator[ByteStream]:
        """Open a watch; entering raises a KubeError when the server answers anything but success."""
        call = Call("GET", path, query, accept=accept)
        try:
            async with asyncio.timeout(WATCH_HEAD_TIMEOUT):
                response = await self._open(call, watch=True)
        except TimeoutError as timeout:
            raise self._late(call, WATCH_HEAD_TIMEOUT) from timeout
        try:
            yield ByteStream(response.content, lambda failure: build_unreachable(self._cluster, str(call), failure))
        finally:
            response.close()

    async def _attempt(self, call: Call) -> bytes:
        self._check_guard(call)  # what may not be sent waits for nothing, and takes nobody's turn
        if self._bucket is not None:
            await self._bucket.take()
            self._check_guard(call)
        async with self._turns:
            began = perf_counter()
            body = await self._read(call, await self._open(call, watch=False))
            self._observe_duration(call.method, perf_counter() - began)
            return body

    def _check_guard(self, call: Call) -> None:
        if self._guard is not None and call.method not in READS:
            self._guard()

    async def _open(self, call: Call, *, watch: bool) -> aiohttp.ClientResponse:
        """Return the successful answer, its body unread. A refused credential is renewed and tried again, once."""
        authorization = await self._config.authorization(False)
        try:
            return await self._send(call, authorization, watch)
        except Unauthorized:
            renewed = await self._renew(authorization)
            if renewed == authorization:
                raise
        return await self._send(call, renewed, watch)

    async def _renew(self, refused: str | None) -> str | None:
        """Return a newer credential than `refused`; of many calls refused at once only the first asks for one."""
        async with self._renewing:
            current = await self._config.authorization(False)
            return current if current != refused else await self._config.authorization(True)

    async def _send(self, call: Call, authorization: str | None, watch: bool) -> aiohttp.ClientResponse:
        session = self._sessions.get(watch) or self._open_session(watch)
        headers = {}
        if authorization:
            headers["Authorization"] = authorization
        if call.content_type:
            headers["Content-Type"] = call.content_type
        if call.accept:
            headers["Accept"] = call.accept
        server = self._config.server
        url = URL(f"{server}{call.path}?{call.query}" if call.query else server + call.path, encoded=True)
        try:
            response = await session.request(
                call.method, url, data=call.body, headers=headers, allow_redirects=False,
                server_hostname=self._config.tls_server_name or None,
            )
        except TRANSPORT_FAILURES as failure:
            self._count_answer(call.method, "<error>")
            raise build_unreachable(self._cluster, str(call), failure) from failure
        self._count_answer(call.method, str(response.status))
        if 200 <= response.status < 300:
            return response
        body = await self._read(call, response)
        raise build_error(self._cluster, str(call), response.status, response.headers, body)

    async def _read(self, call: Call, response: aiohttp.ClientResponse) -> bytes:
        try:
            return await response.read()
        except TRANSPORT_FAILURES as failure:
            raise build_unreachable(self._cluster, str(call), failure) from failure

    def _open_session(self, watch: bool) -> aiohttp.ClientSession:
        """Return a new session; made at the first call because aiohttp wants the running loop."""
        if self._closed:
            raise Unreachable(f"{self._cluster}: the client is closed", cluster=self._cluster)
        connector = aiohttp.TCPConnector(
            limit=0, ssl=self._config.ssl or True, keepalive_timeout=IDLE_CONNECTION, socket_factory=build_socket,
        )
        session = self._sessions[watch] = aiohttp.ClientSession(
            connector=connector, headers=self._headers, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
            read_bufsize=WATCH_BUFFER if watch else 2**16, middlewares=(_once,),
            request_class=_guarded(self._guard) if self._guard else aiohttp.ClientRequest,
        )
        return session

    def _late(self, call: Call, seconds: float) -> Unreachable:
        return Unreachable(f"{self._cluster}: {call}: no answer within {seconds:g} s", cluster=self._cluster)

    def _count_answer(self, method: str, code: str) -> None:
        count = self._count.get((method, code))
        if count is None:
            count = self._count[method, code] = REQUESTS.labels(code, method, self._host).inc
        count()

    def _observe_duration(self, method: str, seconds: float) -> None:
        observe = self._observe.get(method)
        if observe is None:
            observe = self._observe[method] = DURATION.labels(method, self._host).observe
        observe(seconds)


class _ConnectionBroken(aiohttp.ClientError):
    """A connection ended between request and answer."""


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending again by itself (GET, PUT and DELETE): the first try of a write may have taken effect.

    It does so for these two classes only, so they get another name on their way out.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise  # never connected; says more as it is
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as failure:
        raise _ConnectionBroken(str(failure) or "connection closed without an answer") from failure


def _guarded(guard: Guard) -> type[aiohttp.ClientRequest]:
    """Return a request that asks `guard` once more when it holds a connection and is about to write its first byte."""

    class GuardedRequest(aiohttp.ClientRequest):
        async def send(self, conn: Connection) -> aiohttp.ClientResponse:
            if self.method not in READS:
                guard()
            return await super().send(conn)

    return GuardedRequest
