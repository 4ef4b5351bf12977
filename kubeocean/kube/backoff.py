"""How long to wait after the n-th failure in a row: exponential, capped, never two clients in step."""

from __future__ import annotations

from dataclasses import dataclass
from random import random

_STEEPEST = 30  # 2 ** 30 times any base is beyond every cap; keeps the power small after days of failure


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubles from `base` to `cap` seconds; `jitter` is the share by which a delay is stretched at random.

    >>> Backoff(base=1.0, cap=300.0, jitter=0.0).delay(4)
    8.0
    """

    base: float = 1.0
    cap: float = 300.0
    jitter: float = 0.3

    def delay(self, failures: int) -> float:
        """Return the seconds to wait after `failures` (1, 2, …) failures in a row: between `base` and `cap`."""
        doubled = self.base * 2.0 ** min(failures - 1, _STEEPEST)
        return min(self.cap, doubled * (1.0 + self.jitter * random()))
