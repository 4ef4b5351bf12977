"""How soon something that a cluster refused, a twin or what it needs, is tried again.

A refusal (quota, admission, a limit) is an answer, not a failure: it stands until somebody over there changes something, which
nobody tells us. So we ask again, at most 30 s apart: whoever frees a quota expects his Pod to start soon, not after the five
minutes that a failing pass may come to [D2]. A whole crowd of refused Pods shares 20 attempts a second.

What else happens to such a Pod meanwhile (that its refusal was written on it, for one) makes it no sooner due.
"""

from __future__ import annotations

import asyncio

from kubeocean.kube.backoff import Backoff
from kubeocean.kube.errors import BadRequest, Forbidden, Invalid, ServerError, TooManyRequests
from kubeocean.kube.meta import ObjectKey

BACKOFF = Backoff(base=1.0, cap=30.0)
ATTEMPTS = 20.0  # per second, of all refused Pods of one binding together
TOLD_AFTER = 3  # refusals in a row of a kind that mostly passes by itself (5xx, 429), before anybody is told


REFUSED = (Forbidden, Invalid, BadRequest, ServerError, TooManyRequests)  # what waiting may not mend


def may_pass(error: Exception, times: int) -> bool:
    """Tell whether an error, the last of `times` in a row, is nothing to bother anybody with yet."""
    return isinstance(error, ServerError | TooManyRequests) and times < TOLD_AFTER


class Refusals:
    """The refused Pods of one binding. Times are loop time."""

    def __init__(self) -> None:
        self._refused: dict[ObjectKey, tuple[int, float]] = {}  # how often in a row; not before

    def wait(self, key: ObjectKey) -> float:
        """Return in how many seconds the next attempt is due; 0 = now."""
        _, due = self._refused.get(key, (0, 0.0))
        return max(0.0, due - asyncio.get_running_loop().time())

    def times(self, key: ObjectKey) -> int:
        """Return how often in a row a Pod was refused."""
        return self._refused.get(key, (0, 0.0))[0]

    def add(self, key: ObjectKey) -> float:
        """Take that an attempt was refused; return in how many seconds the next one is due."""
        times = self.times(key) + 1
        self._refused[key] = times, 0.0
        delay = max(BACKOFF.delay(times), len(self._refused) / ATTEMPTS)
        self._refused[key] = times, asyncio.get_running_loop().time() + delay
        return delay

    def forget(self, key: ObjectKey) -> None:
        """Take that a Pod has its twin, or needs none any more."""
        self._refused.pop(key, None)
