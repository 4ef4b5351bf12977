"""Keeps a sink true to what an API server has, for ever.

This is the driver: it asks what `listwatch.ListWatch` wants asked, cuts chunks into lines and feeds them back. One task
per reflector, one connection at a time; no task or timer per event. A chunk of a busy watch holds hundreds of events
whose handling never waits for anything, so the driver gives way to the loop after 8 ms of work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import NoReturn, Protocol

import structlog

from kubeocean.kube.errors import Forbidden, KubeError, Unreachable
from kubeocean.kube.listwatch import LineSplitter, ListWatch, Phase, Sink, Timing
from kubeocean.kube.meta import Json, revision
from kubeocean.kube.resources import Resource
from kubeocean.kube.skim import Skimmer

_log = structlog.get_logger(__name__)
_SLICE = 0.008  # seconds of work before others may run; the design says 10 ms
_REARM = 1.0  # seconds; the silence timer is moved at most so often, not for every chunk


class Listed(Protocol):
    """A complete list: what `client.Listing` is."""

    @property
    def items(self) -> list[Json]:
        """Return the objects."""

    @property
    def resource_version(self) -> str:
        """Return the resourceVersion of the list as a whole."""


class WatchClient(Protocol):
    """The part of `client.Client` that watching takes."""

    @property
    def cluster(self) -> str:
        """Return the name by which messages call the cluster."""

    def stream(self, path: str, params: dict[str, str], /) -> AbstractAsyncContextManager[AsyncIterable[bytes]]:
        """Open a watch; entering raises KubeErrors for refusals, iterating for cuts. Only silence is bounded by us."""

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> Listed:
        """Return a complete list, whose items carry apiVersion and kind, or raise."""


class Reflector:
    """Runs one list-and-watch into `sink`. Selectors are Kubernetes' own text; "" selects all.

    `last_activity` is the loop time of the last byte from the server (-inf before the first).

    `place_is_gone` is asked when we are refused (403): what a Role grants in a namespace goes with the namespace, and then no
    list will ever say that nothing is left in it. True is proof that there is no such namespace.
    """

    def __init__(
        self, client: WatchClient, resource: Resource, sink: Sink, *, namespace: str = "", label_selector: str = "",
        field_selector: str = "", timing: Timing | None = None, skimmer: Skimmer | None = None,
        place_is_gone: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self._client, self._resource, self._sink, self._namespace = client, resource, sink, namespace
        self._label_selector, self._field_selector = label_selector, field_selector
        self._place_is_gone = place_is_gone
        self._selectors = {
            name: text for name, text in (("labelSelector", label_selector), ("fieldSelector", field_selector)) if text
        }
        self._path = resource.path(namespace)
        self._timing = timing or Timing()
        self.machine = ListWatch(sink, timing=self._timing, cluster=client.cluster, what=self._path, skimmer=skimmer)
        self.last_activity = float("-inf")
        self._complaint = ""  # what was last said about the present trouble, so that it is said once
        self._hurry = asyncio.Event()  # somebody knows that the server answers
        self._silence: asyncio.Timeout | None = None  # of the open watch

    async def run(self) -> NoReturn:
        """List and watch until cancelled; errors are waited out. May be run again after that: it resumes."""
        while True:
            await self._rest(await self._attempt())

    def resume(self) -> None:
        """Make the next request now: the server answers again, and whatever is open may be dead at its other end."""
        self._hurry.set()
        if self._silence is not None:
            self._silence.reschedule(asyncio.get_running_loop().time())

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        self._hurry.clear()

    async def _attempt(self) -> float:
        """Make one request; return the seconds to wait before the next."""
        machine = self.machine
        try:
            if machine.begin() is Phase.PAGED_LIST:
                await self._list()
                wait = 0.0
            else:
                wait = await self._watch()
        except Exception as error:
            # A reflector never dies of an answer: garbage, bugs and outages alike are waited out.
            wait = machine.failed(error)
            if isinstance(error, Forbidden) and self._place_is_gone and await self._place_is_gone():
                self._forget_all()
            if not isinstance(error, KubeError | OSError | ValueError):
                _log.exception("watch failed in an unexpected way", cluster=self._client.cluster, path=self._path)
        self._report()
        return wait

    def _forget_all(self) -> None:
        """Tell the sink that there is nothing. Where the watch resumes stays: the namespace may be made again."""
        self._sink.list_begins()
        self._sink.list_ends(revision(self.machine.position))

    async def _list(self) -> None:
        listing = await self._client.list(
            self._resource, self._namespace, label_selector=self._label_selector, field_selector=self._field_selector
        )
        loop = asyncio.get_running_loop()
        self.last_activity = since = loop.time()
        for obj in listing.items:
            self._sink.put(obj)
            if loop.time() - since > _SLICE:
                await asyncio.sleep(0)
                since = loop.time()
        self.machine.listed(listing.resource_version)

    async def _watch(self) -> float:
        machine, loop = self.machine, asyncio.get_running_loop()
        opened = loop.time()
        silence = asyncio.timeout(self._timing.silence)
        try:
            async with silence:
                self._silence = silence
                async with self._client.stream(self._path, machine.params(self._selectors)) as body:
                    machine.accepted()
                    await self._consume(body, silence)
        except TimeoutError:
            if not silence.expired():
                raise
            return 0.0 if self._hurry.is_set() else machine.silent()
        finally:
            self._silence = None
        return machine.ended(lived=loop.time() - opened)

    async def _consume(self, body: AsyncIterable[bytes], silence: asyncio.Timeout) -> None:
        lines, receive, clock = LineSplitter(), self.machine.receive, asyncio.get_running_loop().time
        since = armed = clock()
        async for chunk in body:
            self.last_activity = now = clock()
            if now - armed >= _REARM and not self._hurry.is_set():
                armed = now
                silence.reschedule(now + self._timing.silence)
            for line in lines.feed(chunk):
                receive(line)
                if clock() - since > _SLICE:
                    await asyncio.sleep(0)
                    since = clock()
            if self._complaint:
                self._report()
        if lines.unfinished:
            # What came of it is no object; the next connection resumes behind the last whole line.
            cluster = self._client.cluster
            raise Unreachable(f"{cluster}: watch of {self._path}: cut in the middle of a line", cluster=cluster)

    def _report(self) -> None:
        """Say that there is trouble, or another one, or none any more: once each."""
        error = self.machine.last_error
        complaint = type(error).__name__ if error is not None else ""
        if complaint == self._complaint:
            return
        self._complaint = complaint
        if error is not None:
            _log.warning("watch failed", cluster=self._client.cluster, path=self._path, error=str(error))
        else:
            _log.info("watch is well again", cluster=self._client.cluster, path=self._path)
