"""Who else writes? Pauses between mends of an object that somebody in the physical cluster keeps changing.

What was changed is mended at once. When the same has to be written once more soon after, somebody is at it: a controller of the
lender's, or a GitOps tool. To answer each of his writes with one of ours would cost both API servers hundreds of calls a
second, and help nobody. So the next mend waits a second, the one after it twice as long, up to five minutes; after a quarter
of an hour without any, all is forgotten. What is meant counts: as soon as something else is to be written, for the user wants
it so, that is done at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, NamedTuple, TypeVar

FIRST: Final = 1.0  # seconds
LONGEST: Final = 300.0  # seconds
QUIET: Final = 900.0  # seconds after which a fight is over
_UNDONE: Final = 2  # times that the same was written: what somebody meant, and once more after it had been changed
_STEEPEST: Final = 30

K = TypeVar("K", bound=Hashable)


class _Mends(NamedTuple):
    meaning: Hashable
    times: int
    last: float  # loop time


class Damper(Generic[K]):
    """Remembers what was written lately. Time is the running loop's."""

    def __init__(self) -> None:
        self._mends: OrderedDict[K, _Mends] = OrderedDict()  # by the time of the last one

    def pause(self, key: K, meaning: Hashable) -> float:
        """Return in how many seconds an object may be made what is meant (again); 0 = now."""
        self._drop_old()
        known = self._mends.get(key)
        if known is None or known.meaning != meaning or known.times < _UNDONE:
            return 0.0
        pause = min(FIRST * 2.0 ** min(known.times - _UNDONE, _STEEPEST), LONGEST)
        return max(0.0, known.last + pause - asyncio.get_running_loop().time())

    def wrote(self, key: K, meaning: Hashable) -> None:
        """Note that an object was just made what is meant, for the first time or again."""
        known = self._mends.get(key)
        times = known.times + 1 if known and known.meaning == meaning else 1
        self._mends[key] = _Mends(meaning, times, asyncio.get_running_loop().time())
        self._mends.move_to_end(key)

    def forget(self, key: K) -> None:
        """Note that an object is gone, or nobody's concern any more."""
        self._mends.pop(key, None)

    def _drop_old(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._mends and now - next(iter(self._mends.values())).last > QUIET:
            self._mends.popitem(last=False)


def describe_fight(kind: str, where: object) -> str:
    """Return what is told of an object of ours that somebody keeps changing. It does not change while that lasts."""
    return (
        f"somebody in the physical cluster keeps changing {kind} {where}, which is ours; it is made right again and again, "
        f"with pauses of up to {LONGEST / 60:.0f} minutes. The lender can see in its managedFields who it is"
    )
