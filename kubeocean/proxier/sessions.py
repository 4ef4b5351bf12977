"""Streams that are open: how many one caller and one cluster may have, who had which, and how they end with the process.

Every session leaves one line in the log when it ends: who, which Pod, what (of a command the first word only: the rest may
hold secrets), how many bytes each way, for how long, and how it ended.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final

import structlog
from prometheus_client import Counter as Metric
from prometheus_client import Gauge

from kubeocean.proxier.callers import Caller
from kubeocean.proxier.tunnel import Traffic

MOST_PER_CALLER: Final = 2000  # kube-apiserver is one caller, and speaks for every user
MOST_PER_CLUSTER: Final = 4000

OPEN = Gauge("kubeocean_proxier_sessions", "Streams that are open.", ("clusterbinding", "action"))
BYTES = Metric("kubeocean_proxier_stream_bytes_total", "Bytes carried, by direction.", ("clusterbinding", "direction"))

log = structlog.get_logger(__name__)


class TooManySessions(Exception):
    """A limit is reached; the message names it."""


class Sessions:
    """The open streams of one process."""

    def __init__(self) -> None:
        self._by_caller: Counter[str] = Counter()
        self._by_cluster: Counter[str] = Counter()
        self._tasks: dict[asyncio.Task[object], str] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def start(
        self, caller: Caller, binding: str, action: str, run: Callable[[Traffic], Awaitable[None]], **what: str
    ) -> None:
        """Run a session in a task of its own; see `session`."""

        async def session() -> None:
            async with self.session(caller, binding, action, **what) as traffic:
                await run(traffic)

        task: asyncio.Task[object] = asyncio.create_task(session(), name=f"{action} by {caller.user}")
        self._tasks[task] = binding  # holds it as well: the loop itself keeps no tasks alive
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()):
            log.warning("session failed", session=task.get_name(), error=str(error))

    @asynccontextmanager
    async def session(self, caller: Caller, binding: str, action: str, **what: str) -> AsyncIterator[Traffic]:
        """Count a session while it lasts and tell of it when it ends. Raises TooManySessions."""
        self.check(caller, binding)
        traffic, began, task = Traffic(), monotonic(), asyncio.current_task()
        assert task is not None, "sessions run in tasks"
        self._by_caller[caller.user] += 1
        self._by_cluster[binding] += 1
        self._tasks[task] = binding
        OPEN.labels(binding, action).inc()
        ended = "closed"
        try:
            yield traffic
        except asyncio.CancelledError:
            ended = "cut"
            raise
        except Exception as error:
            ended = type(error).__name__
            raise
        finally:
            self._forget(task, caller, binding)
            OPEN.labels(binding, action).dec()
            BYTES.labels(binding, "received").inc(traffic.received)
            BYTES.labels(binding, "sent").inc(traffic.sent)
            log.info(
                "session", user=caller.user, binding=binding, action=action, received=traffic.received, sent=traffic.sent,
                seconds=round(monotonic() - began, 3), ended=ended, **what,
            )

    def check(self, caller: Caller, binding: str) -> None:
        """Raise TooManySessions if one more were too many."""
        if self._by_caller[caller.user] >= MOST_PER_CALLER:
            raise TooManySessions(f"{caller.user} has {MOST_PER_CALLER} streams open, which is the limit")
        if self._by_cluster[binding] >= MOST_PER_CLUSTER:
            raise TooManySessions(f"the cluster of binding {binding} has {MOST_PER_CLUSTER} streams, which is the limit")

    def _forget(self, task: asyncio.Task[object], caller: Caller, binding: str) -> None:
        self._tasks.pop(task, None)
        for counter, key in ((self._by_caller, caller.user), (self._by_cluster, binding)):
            counter[key] -= 1
            if counter[key] <= 0:
                del counter[key]

    def cut(self, binding: str | None = None) -> int:
        """End the streams of one binding, or all of them; returns how many."""
        tasks = [task for task, of in self._tasks.items() if binding in (None, of)]
        for task in tasks:
            task.cancel()
        return len(tasks)

    async def drain(self, within: float) -> None:
        """Wait until all streams have ended by themselves, then cut those that have not."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=within)
        self.cut()
