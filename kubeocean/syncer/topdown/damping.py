"""Keeps us from fighting over an object with somebody in the physical cluster who undoes what we write.

A GitOps tool or a controller of the lender may change one of our copies back each time, and each of his writes wakes us: two
programs would write as fast as two API servers can. So what was written once is mended at once when it is undone; what was
mended already waits a second, and twice as long each time after that. Who comes back only every minute or so is mended at once
each time: that costs a write a minute, and what runs relies on the object meanwhile.

A pause belongs to an object *and to what it is meant to be* (its `meaning`): a change by the user is another meaning, and
never waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

K = TypeVar("K", bound=Hashable)

FIRST, LONGEST = 1.0, 300.0  # seconds
QUIET = 600.0  # seconds without a write after which an object is new to us; twice the longest pause
SOON = 1.5  # times the pause before: what is written again later than that had been let alone for a while
AT_ONCE = 2  # writes of the same: the first, and the first mend

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Mended:
    """How often in a row an object was written with this meaning, and the clock's time at which it was last."""

    meaning: str
    times: int
    at: float

    @property
    def length(self) -> float:
        """Return the seconds that have to pass between this write and the next."""
        beyond = self.times - AT_ONCE
        return 0.0 if beyond < 0 else min(FIRST * 2.0 ** min(beyond, 30), LONGEST)


class Damper(Generic[K]):
    """What was written to whom, of one kind of object. `clock` is the running loop's, in seconds, if none is given."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._mended: dict[K, _Mended] = {}  # the one that was longest quiet first

    def __len__(self) -> int:
        return len(self._mended)

    def pause(self, key: K, meaning: str) -> float:
        """Return in how many seconds `key` may be written as what `meaning` stands for; 0 = now."""
        last = self._last(key, meaning)
        return max(0.0, last.at + last.length - self._clock()) if last else 0.0

    def length(self, key: K, meaning: str) -> float:
        """Return how long the whole pause is of which `pause` tells the rest: the same for all of it."""
        last = self._last(key, meaning)
        return last.length if last else 0.0

    def mended(self, key: K, meaning: str) -> float:
        """Take that `key` was written as what `meaning` stands for; return for how many seconds that has to do."""
        last = self._last(key, meaning)
        self._mended.pop(key, None)
        at, times = self._clock(), last.times + 1 if last else 1
        if last and at - last.at > SOON * max(last.length, FIRST):
            times = AT_ONCE  # it stayed as it was for longer than it had to: this is no fight, or none any more
        self._mended[key] = now = _Mended(meaning, times, at)
        return now.length

    def forget(self, key: K) -> None:
        """Take that `key` is no longer kept."""
        self._mended.pop(key, None)

    def _last(self, key: K, meaning: str) -> _Mended | None:
        self._drop_quiet()
        last = self._mended.get(key)
        return last if last and last.meaning == meaning else None

    def _drop_quiet(self) -> None:
        before = self._clock() - QUIET
        while self._mended and (oldest := next(iter(self._mended.items())))[1].at <= before:
            del self._mended[oldest[0]]


def log_fight(kind: str, place: object, pause: float) -> None:
    """Tell in the log of an object that was mended, if it is left alone for `pause` seconds now (`Damper.mended`)."""
    if pause:
        log.warning("somebody keeps undoing what is written", kind=kind, name=str(place), next_in_seconds=pause)
