"""Streams that are open: how many one caller and one cluster may have, who had which, and how they end with the process.

Every session leaves one line in the log when it ends: who, which Pod, what (of a command the first word only: the rest may
hold secrets), how many bytes each way, for how long, and how it ended. One that the far side refused leaves its line, too.

A session is counted before anything is asked about its Pod or the far end is dialled: else many that are opened at one moment
would all find room.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

import structlog

from kubeocean.proxier.callers import Caller
from kubeocean.proxier.metrics import BYTES, ENDED, OPEN, outcome_of
from kubeocean.proxier.tunnel import Traffic

CUT_WITHIN: Final = 6.0  # seconds for what was cut to end: a tunnel still delivers what it has read

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many streams may be open at a time in one process."""

    per_caller: int = 2000  # kube-apiserver is one caller, and speaks for every user
    per_cluster: int = 4000


class TooManySessions(Exception):
    """A limit is reached; the message names it."""


@dataclass(slots=True, eq=False)
class Session:
    """One stream, from before the far end is dialled; `ended` is how it ended, once it has."""

    caller: Caller
    binding: str
    action: str
    what: dict[str, str]
    traffic: Traffic = field(default_factory=Traffic)
    began: float = field(default_factory=monotonic)
    ended: str = ""
    carried_on: bool = False  # a task of its own has it


class Sessions:
    """The open streams of one process."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._by_caller: Counter[str] = Counter()
        self._by_cluster: Counter[str] = Counter()
        self._tasks: dict[asyncio.Task[object], str] = {}

    def __len__(self) -> int:
        return self._by_cluster.total()

    def open(self, caller: Caller, binding: str, action: str, **what: str) -> Session:
        """Count one session more, which must be closed. Raises TooManySessions."""
        if self._by_caller[caller.user] >= self._limits.per_caller:
            raise TooManySessions(f"{caller.user} has {self._limits.per_caller} streams open, which is the limit")
        if self._by_cluster[binding] >= self._limits.per_cluster:
            raise TooManySessions(
                f"the cluster of binding {binding} has {self._limits.per_cluster} streams open, which is the limit"
            )
        self._by_caller[caller.user] += 1
        self._by_cluster[binding] += 1
        OPEN.labels(binding, action).inc()
        traffic = Traffic(BYTES.labels(binding, "received").inc, BYTES.labels(binding, "sent").inc)
        return Session(caller, binding, action, what, traffic)

    def close(self, session: Session, ended: str) -> None:
        """Count a session no longer, and tell of it; only the first time."""
        if session.ended:
            return
        session.ended, traffic = ended, session.traffic
        for counter, key in ((self._by_caller, session.caller.user), (self._by_cluster, session.binding)):
            counter[key] -= 1
            if counter[key] <= 0:
                del counter[key]
        OPEN.labels(session.binding, session.action).dec()
        ENDED.labels(session.binding, session.action, outcome_of(ended)).inc()
        log.info(
            "session", user=session.caller.user, binding=session.binding, action=session.action, received=traffic.received,
            sent=traffic.sent, seconds=round(monotonic() - session.began, 3), ended=ended, **session.what,
        )

    @contextmanager
    def hold(self, session: Session) -> Iterator[Session]:
        """Close `session` when the block ends, unless it was carried on; until then the current task is what `cut` cuts."""
        task = asyncio.current_task()
        assert task is not None, "sessions run in tasks"
        self._tasks[task] = session.binding
        try:
            yield session
        except asyncio.CancelledError:
            self.close(session, "cut")
            raise
        except Exception as error:
            self.close(session, type(error).__name__)
            raise
        finally:
            self._tasks.pop(task, None)
            if not session.carried_on:
                self.close(session, "closed")

    def start(self, session: Session, run: Callable[[], Coroutine[Any, Any, None]], abandon: Callable[[], None]) -> None:
        """Carry on `session` in a task of its own; `abandon` frees what it held, also when it never began."""

        async def carried_on() -> None:
            await run()

        session.carried_on = True
        task: asyncio.Task[object] = asyncio.create_task(carried_on(), name=f"{session.action} by {session.caller.user}")
        self._tasks[task] = session.binding  # holds it as well: the loop itself keeps no tasks alive

        def ended(task: asyncio.Task[object]) -> None:
            self._tasks.pop(task, None)
            abandon()
            error = None if task.cancelled() else task.exception()
            if error:
                log.warning("session failed", session=task.get_name(), error=str(error))
            self.close(session, "cut" if task.cancelled() else type(error).__name__ if error else "closed")

        task.add_done_callback(ended)

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
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=CUT_WITHIN)
