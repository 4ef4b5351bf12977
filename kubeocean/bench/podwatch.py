"""Eyes on the Pods of a namespace: what happened, and the moment the news arrived here.

Cheap on purpose, for it runs on the machine that is measured: the server selects (a watch for `status.phase=Running`
tells of a Pod once, when it comes up), and lines of a kind nobody asked for are not even decoded.

An API server closes a watch whose reader does not keep up in a burst. That is no failure: the next one goes on behind the
last event that was taken, and because events come in order of resourceVersion, none is taken twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, NoReturn

from kubeocean.bench.errors import BenchError
from kubeocean.kube.client import Client
from kubeocean.kube.codec import decode
from kubeocean.kube.errors import KubeError, Unreachable
from kubeocean.kube.listwatch import LineSplitter
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import PODS

RUNNING = "status.phase=Running"
_PAUSE = 0.01  # seconds until a closed watch is opened again
Take = Callable[[str, Json, float], None]


class PodWatch:
    """Calls `take(kind, pod, moment)` for every event of one of `kinds`; moments are monotonic. `async with` it."""

    def __init__(
        self, client: Client, namespace: str, take: Take, *, kinds: tuple[str, ...] = ("ADDED", "MODIFIED", "DELETED"),
        field_selector: str = "",
    ) -> None:
        self.cluster = client.cluster
        self.told: Callable[[float], None] = lambda _: None  # called after every piece of news, with its moment
        self.following: asyncio.Task[None]
        self._client, self._namespace, self._take, self._selector = client, namespace, take, field_selector
        self._wanted = tuple(f'{{"type":"{kind}"'.encode() for kind in kinds)
        self._since = ""

    async def __aenter__(self) -> PodWatch:
        page = decode(await self._client.raw("GET", PODS.path(self._namespace), params={"limit": "1"}))
        self._since = page["metadata"]["resourceVersion"]
        opened = asyncio.Event()
        self.following = asyncio.create_task(self._follow(opened), name="pod watch")
        waiting = asyncio.create_task(opened.wait())
        await asyncio.wait((self.following, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.following.cancel()
        await asyncio.wait((self.following,))

    async def _follow(self, opened: asyncio.Event) -> NoReturn:
        selector = {"fieldSelector": self._selector} if self._selector else {}
        while True:
            params = {"watch": "1", "resourceVersion": self._since, "timeoutSeconds": "7200", **selector}
            async with self._client.stream(PODS.path(self._namespace), params) as chunks:
                opened.set()
                await self._consume(chunks)
            await asyncio.sleep(_PAUSE)

    async def _consume(self, chunks: AsyncIterator[bytes]) -> None:
        lines = LineSplitter()  # what a closed watch left unfinished comes again whole
        with suppress(Unreachable):  # cut instead of closed: all the same
            async for chunk in chunks:
                moment = monotonic()
                for line in lines.feed(chunk):
                    self._receive(line, moment)
                self.told(moment)

    def _receive(self, line: bytes, moment: float) -> None:
        if line.startswith(self._wanted):
            event = decode(line)
            self._since = event["object"]["metadata"]["resourceVersion"]
            self._take(event["type"], event["object"], moment)
        elif line.startswith(b'{"type":"ERROR"'):
            message = (decode(line)["object"] or {}).get("message", "")
            raise KubeError(f"watch of Pods: {message}", cluster=self.cluster)


async def until(
    watches: Sequence[PodWatch], reached: Callable[[], bool], *, within: float, what: Callable[[], str]
) -> float:
    """Return the moment of the news, from any of `watches`, that made `reached()` true (now, if it is already).

    Raises BenchError with `what()` when that takes longer than `within` seconds, or when a watch has ended.
    """
    news: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def look(moment: float) -> None:
        if not news.done() and reached():
            news.set_result(moment)

    for watch in watches:
        watch.told = look
    look(monotonic())
    anything: list[asyncio.Future[Any]] = [news, *(watch.following for watch in watches)]
    await asyncio.wait(anything, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    if news.done():
        return news.result()
    for watch in watches:
        if watch.following.done():
            raise BenchError(f"the watch of {watch.cluster} failed ({watch.following.exception()}) while waiting: {what()}")
    raise BenchError(f"not within {within:.0f} s: {what()}")
