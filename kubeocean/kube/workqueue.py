"""Which keys want a pass, each at most once and never in two workers: client-go's work queue for asyncio.

A key is *dirty* while a pass is wanted and *processing* while one runs:

    add ──► dirty + ready ──get──► processing ──done──► (nothing)
              ▲                        │ add meanwhile: dirty only
              └────────────────────────┘ done: ready again

so any number of adds before a pass make one pass, and an add during a pass makes exactly one more after it: the worker
may have read its caches before the change came. Which ready key is handed out next is the business of one small object
(`readyqueue.ReadyQueue`), the place for priorities and fairness. A wish may be a low one, which can wait for the others: of
several wishes for one pass the highest counts.

Delays (`add_after`, `retry`) live in one heap with one timer; of several for one key the earliest counts, and an `add`
in between does not undo them. Everything runs on the event loop's thread; there are no locks.

Metrics have client-go's names, so the dashboards that operators own already show them.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from heapq import heapify, heappop, heappush
from itertools import count
from time import perf_counter
from typing import Generic, TypeVar

from prometheus_client import Counter, Gauge, Histogram

from kubeocean.kube.backoff import Backoff
from kubeocean.kube.readyqueue import Fifo, ReadyQueue

K = TypeVar("K", bound=Hashable)

_LABELS = ["name"]
_SECONDS = tuple(10.0**exponent for exponent in range(-8, 4))  # client-go's: 10 ns … 1000 s
_SPARE = 64  # replaced wishes that the heap may keep beside as many as there are keys
_EARLY = 0.002  # seconds; a loop's clock may be coarser (uvloop: 1 ms) than its timers' instants
_SHORTEST = 2 * _EARLY  # seconds; a pass that came so early and asks for the rest would spin until it is over

_DEPTH = Gauge("workqueue_depth", "Keys that are ready for a worker.", _LABELS)
_ADDS = Counter("workqueue_adds_total", "Keys that became dirty.", _LABELS)
_WAIT = Histogram("workqueue_queue_duration_seconds", "From dirty to the start of the pass.", _LABELS, buckets=_SECONDS)
_WORK = Histogram("workqueue_work_duration_seconds", "From the start of a pass to its end.", _LABELS, buckets=_SECONDS)
_UNFINISHED = Gauge("workqueue_unfinished_work_seconds", "Sum of the ages of the passes that run now.", _LABELS)
_LONGEST = Gauge("workqueue_longest_running_processor_seconds", "Age of the oldest pass that runs now.", _LABELS)
_RETRIES = Counter("workqueue_retries_total", "Passes repeated because one failed.", _LABELS)


class QueueShutDown(Exception):
    """The queue was shut down and has nothing left to hand out."""


class Workqueue(Generic[K]):
    """Keys that want a pass. `len()` counts the ready ones. `backoff` spaces the retries of one key [D2]."""

    def __init__(self, name: str, *, backoff: Backoff | None = None, ready: ReadyQueue[K] | None = None) -> None:
        self.name = name
        self._backoff = backoff or Backoff(base=1.0, cap=300.0)
        self._ready: ReadyQueue[K] = ready if ready is not None else Fifo()
        self._dirty: dict[K, float] = {}  # since when
        self._low: set[K] = set()  # those of the dirty that only low wishes want
        self._processing: dict[K, float] = {}  # since when
        self._failures: dict[K, int] = {}
        self._due: dict[K, float] = {}  # loop time; what the heap says about a key counts only if it agrees
        self._delayed: list[tuple[float, int, K]] = []
        self._order = count()
        self._timer: asyncio.Handle | None = None
        self._rings_at = 0.0  # not `_timer.when()`: for an instant that is now, uvloop makes a handle without one
        self._idle: deque[asyncio.Future[None]] = deque()  # workers that wait for a key
        self._closed = False
        self._measure()

    def __len__(self) -> int:
        return len(self._ready)

    def add(self, key: K, *, low: bool = False) -> None:
        """Want a pass for `key` as soon as a worker is free; a `low` wish can wait until there are no others."""
        if self._closed:
            return
        if key in self._dirty:
            if not low and key in self._low:
                self._raise_up(key)
            return
        self._count_add()
        self._dirty[key] = perf_counter()
        if low:
            self._low.add(key)
        if key not in self._processing:
            self._offer(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Want a pass for `key` in `seconds`. An earlier wish for the same key wins over a later one."""
        if seconds <= 0:
            self.add(key)
            return
        when = asyncio.get_running_loop().time() + max(seconds, _SHORTEST)
        if self._closed or self._due.get(key, float("inf")) <= when:
            return
        self._due[key] = when
        heappush(self._delayed, (when, next(self._order), key))
        self._compact()
        self._arm()

    def withdraw(self, key: K) -> None:
        """Take back the wish for a pass at a later time, if there is one: what it was about is gone."""
        self._due.pop(key, None)
        self._compact()

    def retry(self, key: K, immediate: bool = False) -> None:
        """Want another pass because one failed: later with each failure in a row, or the first time at once."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self._count_retry()
        if not immediate:
            self.add_after(key, self._backoff.delay(failures))
        elif failures == 1:
            self.add(key)
        else:
            self.add_after(key, self._backoff.delay(failures - 1))

    def hasten(self) -> None:
        """Want a pass now for every key that waits because its last one failed: what was in their way is gone."""
        waiting = [key for key in self._failures if key in self._due]
        self._failures.clear()  # also of passes that run now: should they fail, their next attempt is soon
        for key in waiting:
            del self._due[key]
            self.add(key)
        self._compact()

    def forget(self, key: K) -> None:
        """Take that a pass went well: the next failure is the first again."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        """Return how often `key` has failed in a row."""
        return self._failures.get(key, 0)

    async def get(self) -> K:
        """Wait for a key and start its pass; the caller must call `done(key)`. Raises QueueShutDown at the end.

        Returns without giving way to the loop when a key is ready.
        """
        while not len(self._ready):
            if self._closed:
                raise QueueShutDown(self.name)
            await self._wait()
        key = self._ready.pop()
        self._low.discard(key)
        now = perf_counter()
        self._observe_wait(now - self._dirty.pop(key))
        self._processing[key] = now
        return key

    def done(self, key: K) -> None:
        """End the pass of `key`; what was added meanwhile is ready now. KeyError when there is no pass."""
        self._observe_work(perf_counter() - self._processing.pop(key))
        if key in self._dirty:
            self._offer(key)

    def shutdown(self) -> None:
        """Take no more keys, drop the delayed ones; what is ready is still handed out, then `get` raises."""
        self._closed = True
        self._due.clear()
        self._delayed.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._idle:
            self._wake_one()

    def _raise_up(self, key: K) -> None:
        self._low.discard(key)
        if key not in self._processing:  # else it is not ready yet, and will be offered as what it is now
            self._ready.raise_up(key)

    # -- waiting workers ---------------------------------------------------------------------------------------------

    def _offer(self, key: K) -> None:
        self._ready.push(key, low=key in self._low)
        if self._idle:
            self._wake_one()

    def _wake_one(self) -> None:
        while self._idle:
            worker = self._idle.popleft()
            if not worker.done():
                worker.set_result(None)
                return

    async def _wait(self) -> None:
        worker = asyncio.get_running_loop().create_future()
        self._idle.append(worker)
        try:
            await worker
        except asyncio.CancelledError:
            with suppress(ValueError):  # an add may have found and passed over it already
                self._idle.remove(worker)
            if len(self._ready) and not worker.cancelled():
                self._wake_one()  # woken and cancelled at once: the key is somebody else's now
            raise

    # -- delays ------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Make the one timer fire at the earliest instant."""
        when = self._delayed[0][0]
        if self._timer is not None:
            if self._rings_at <= when:
                return
            self._timer.cancel()
        self._rings_at = when
        self._timer = asyncio.get_running_loop().call_at(when, self._ring)

    def _compact(self) -> None:
        """Drop the wishes that were replaced or withdrawn once they are most: those for a far-off instant would pile up."""
        if len(self._delayed) <= 2 * len(self._due) + _SPARE:
            return
        self._delayed = [wish for wish in self._delayed if self._due.get(wish[2]) == wish[0]]
        heapify(self._delayed)

    def _ring(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time() + _EARLY
        while self._delayed and self._delayed[0][0] <= now:
            when, _, key = heappop(self._delayed)
            if self._due.get(key) == when:  # else an earlier wish has replaced this one
                del self._due[key]
                self.add(key)
        if self._delayed:
            self._arm()

    # -- metrics -----------------------------------------------------------------------------------------------------

    def _measure(self) -> None:
        """Bind the metrics. Gauges look at the queue when scraped, and do not keep it alive."""
        name = self.name
        self._count_add, self._count_retry = _ADDS.labels(name).inc, _RETRIES.labels(name).inc
        self._observe_wait, self._observe_work = _WAIT.labels(name).observe, _WORK.labels(name).observe
        alive = weakref.ref(self)

        def look(figure: Callable[[Workqueue[K]], float]) -> Callable[[], float]:
            return lambda: figure(queue) if (queue := alive()) is not None else 0.0

        _DEPTH.labels(name).set_function(look(lambda queue: float(len(queue))))
        _UNFINISHED.labels(name).set_function(look(lambda queue: sum(queue._ages())))
        _LONGEST.labels(name).set_function(look(lambda queue: max(queue._ages(), default=0.0)))

    def _ages(self) -> list[float]:
        now = perf_counter()
        return [now - since for since in list(self._processing.values())]
