"""Many measurements as three numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """How `count` latencies are spread. Milliseconds."""

    count: int
    p50: float
    p99: float
    highest: float


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile: the smallest value that `percent` of all values do not exceed.

    `ordered` is sorted and not empty. No interpolation: the answer is always something that really happened.

    >>> percentile([10, 20, 30, 40], 50), percentile([10, 20, 30, 40], 99)
    (20, 40)
    """
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def spread(seconds: Iterable[float]) -> Spread | None:
    """Return how durations are spread, None when there are none."""
    ordered = sorted(1000 * each for each in seconds)
    if not ordered:
        return None
    return Spread(len(ordered), percentile(ordered, 50), percentile(ordered, 99), ordered[-1])
