"""Brings keys to a pass, and decides what a pass that went wrong means.

handler → `enqueue(key)` → queue → worker → `reconcile(key)` → outcome → forget, come back later, or retry.

A key is a name, never an event: the pass reads the caches as they are when it starts. What leaves `reconcile`:

    Result             well; `requeue_after` brings the key back when time alone may change the answer
    Conflict           somebody wrote first: once more at once (what `freshness` expects holds it back until the cache
                       has caught up), then with backoff
    Terminal           no retry can help until something changes; the change itself will queue the key
    NotLeading         we may not write any more: ends `run`, for whoever holds the leadership to deal with
    other KubeErrors   the world's fault: backoff, said once per key and reason
    anything else      our fault: backoff, with a traceback

Workers are tasks that live as long as `run`, none is made per key. A key whose caches are stale is parked by a
callback, not by a waiting worker. Passes that never wait for I/O would keep the loop to themselves, so workers give way
after 8 ms.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, NoReturn, TypeVar

import structlog
from prometheus_client import Counter, Gauge, Histogram

from kubeocean.kube.causes import first_cause
from kubeocean.kube.errors import ApiError, Conflict, KubeError, NotLeading
from kubeocean.kube.freshness import Freshness
from kubeocean.kube.workqueue import Workqueue

K = TypeVar("K", bound=Hashable)

_log = structlog.get_logger(__name__)
_SLICE = 0.008  # seconds of passes before others may run; the design says 10 ms

_LABELS = ["controller"]
_SECONDS = (  # controller-runtime's, thinned out above a second
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5, 2, 3, 5,
    10, 20, 30, 60,
)
_TOTAL = Counter("controller_runtime_reconcile_total", "Passes by result.", ["controller", "result"])
_ERRORS = Counter("controller_runtime_reconcile_errors_total", "Passes that failed.", _LABELS)
_TERMINAL = Counter("controller_runtime_terminal_reconcile_errors_total", "Passes that failed beyond retry.", _LABELS)
_TIME = Histogram("controller_runtime_reconcile_time_seconds", "Length of a pass.", _LABELS, buckets=_SECONDS)
_ACTIVE = Gauge("controller_runtime_active_workers", "Passes that run now.", _LABELS)
_WORKERS = Gauge("controller_runtime_max_concurrent_reconciles", "Workers.", _LABELS)


@dataclass(frozen=True, slots=True)
class Result:
    """What a pass that went well wants: to come back in `requeue_after` seconds, or (None) when something changes."""

    requeue_after: float | None = None


class Terminal(Exception):
    """A pass failed in a way that no repetition mends; the message says what must change."""


class Controller(Generic[K]):
    """Runs `reconcile` for queued keys, `workers` at a time, each pass bounded by `deadline` seconds.

    A pass longer than `slow_pass` seconds is logged. `freshness` is where a pass says what it wrote.
    """

    def __init__(
        self, name: str, reconcile: Callable[[K], Awaitable[Result]], *, workers: int = 8, deadline: float = 60.0,
        slow_pass: float = 1.0, queue: Workqueue[K] | None = None,
    ) -> None:
        self.name = name
        self.queue: Workqueue[K] = queue if queue is not None else Workqueue(name)
        self.freshness: Freshness[K] = Freshness(name)
        self._reconcile = reconcile
        self._workers = workers
        self._deadline, self._slow_pass = deadline, slow_pass
        self._running = 0
        self._parked: set[K] = set()
        self._complaints: dict[K, str] = {}  # what was last said about a key that fails, so that it is said once
        self._resumed = 0.0  # loop time at which the workers last came back from giving way
        self._bind_metrics()

    def enqueue(self, key: K, *, low: bool = False) -> None:
        """Want a pass for `key`; a `low` wish can wait until there are no others."""
        self.queue.add(key, low=low)

    def withdraw(self, key: K) -> None:
        """Take that nothing is wanted of `key` at a later time, and that its failures are history: what it named is gone."""
        self.queue.withdraw(key)
        self.queue.forget(key)
        self._complaints.pop(key, None)

    def hasten(self) -> None:
        """Take that what made passes fail may be over: those that wait for their next attempt have it now."""
        self.queue.hasten()

    async def run(self) -> NoReturn:
        """Work until cancelled; what was interrupted is queued again, so it may be run once more later.

        Raises NotLeading as soon as one pass does.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._workers):
                    group.create_task(self._work(), name=f"{self.name}-{number}")
        except BaseExceptionGroup as failures:
            raise _first(failures) from None
        raise AssertionError("workers never return")

    async def _work(self) -> NoReturn:
        clock = asyncio.get_running_loop().time
        self._resumed = clock()
        while True:
            key = await self.queue.get()
            try:
                if not self.freshness.ready(key):
                    self._park(key)
                else:
                    await self._pass(key)
            except BaseException:
                self.queue.add(key)  # cancelled or not leading: not done, and not lost either
                raise
            finally:
                self.queue.done(key)
            if clock() - self._resumed > _SLICE:
                await asyncio.sleep(0)
                self._resumed = clock()

    def _park(self, key: K) -> None:
        """Set `key` aside until its caches have caught up; adds meanwhile end here too."""
        if key in self._parked:
            return

        def unpark() -> None:
            self._parked.discard(key)
            self.queue.add(key)

        self._parked.add(key)
        self.freshness.when_ready(key, unpark)

    async def _pass(self, key: K) -> None:
        clock = asyncio.get_running_loop().time
        started = clock()
        self._running += 1
        try:
            async with asyncio.timeout(self._deadline):
                result = await self._reconcile(key)
        except NotLeading:
            raise
        except Exception as error:
            self._fail(key, error)
        else:
            self._succeed(key, result)
        finally:
            self._running -= 1
            seconds = clock() - started
            self._observe(seconds)
            if seconds > self._slow_pass:
                _log.warning("slow pass", controller=self.name, key=str(key), seconds=round(seconds, 3))

    def _succeed(self, key: K, result: Result) -> None:
        self.queue.forget(key)
        if self._complaints and self._complaints.pop(key, None) is not None:
            _log.info("pass is well again", controller=self.name, key=str(key))
        if result.requeue_after is None:
            self._count_success()
        else:
            self._count_requeue_after()
            self.queue.add_after(key, result.requeue_after)

    def _fail(self, key: K, error: Exception) -> None:
        if isinstance(error, Conflict):
            # The everyday fate of an optimistic write: neither an error nor worth a word above debug.
            self._count_requeue()
            _log.debug("pass met a conflict", controller=self.name, key=str(key), error=str(error))
            self.queue.retry(key, immediate=True)
            return
        self._count_error()
        self._count_errors()
        if isinstance(error, Terminal):
            self._count_terminal()
            self._complain(key, error)
            self.queue.forget(key)
            return
        if isinstance(error, KubeError | TimeoutError):
            self._complain(key, error)
        else:
            _log.error("pass failed in an unexpected way", controller=self.name, key=str(key), exc_info=error)
        self.queue.retry(key)

    def _complain(self, key: K, error: Exception) -> None:
        """Log what is wrong with `key`: as a warning when it is news, else for debugging only."""
        reason = type(error).__name__ + (f"/{error.reason}" if isinstance(error, ApiError) else "")
        news = self._complaints.get(key) != reason
        self._complaints[key] = reason
        message = str(error) or f"no end after {self._deadline:g} s"
        (_log.warning if news else _log.debug)(
            "pass failed", controller=self.name, key=str(key), reason=reason, error=message,
            failures=self.queue.failures(key) + 1,
        )

    def _bind_metrics(self) -> None:
        name = self.name
        self._count_success = _TOTAL.labels(name, "success").inc
        self._count_error = _TOTAL.labels(name, "error").inc
        self._count_requeue = _TOTAL.labels(name, "requeue").inc
        self._count_requeue_after = _TOTAL.labels(name, "requeue_after").inc
        self._count_errors, self._count_terminal = _ERRORS.labels(name).inc, _TERMINAL.labels(name).inc
        self._observe = _TIME.labels(name).observe
        alive = weakref.ref(self)  # a metric must not keep a controller alive
        _ACTIVE.labels(name).set_function(lambda: float(one._running) if (one := alive()) is not None else 0.0)
        _WORKERS.labels(name).set(self._workers)


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what ended the workers: NotLeading if it is among the causes, else the first of them."""
    return first_cause(failures.subgroup(NotLeading) or failures)
