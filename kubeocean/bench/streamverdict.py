"""What the figures of streams come to, and how they stand against their budgets. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kubeocean.bench.percentiles import Spread
from kubeocean.bench.streamresults import PROXIER, STRAIGHT, THROUGH, Crowd, Rate, Streams
from kubeocean.bench.verdict import Check

KEYSTROKE_MS = 1.0  # that a virtual node may add, at the median


def added(keystrokes: dict[str, Spread], way: str) -> tuple[float, float]:
    """Return by how many milliseconds the median and the 99th percentile of a way are above those of the straight one."""
    straight, other = keystrokes[STRAIGHT], keystrokes[way]
    return other.p50 - straight.p50, other.p99 - straight.p99


def rate_ratio(rates: dict[str, Rate], way: str) -> float:
    """Return how much of the straight way's throughput another way has."""
    return rates[way].best / rates[STRAIGHT].best


def crowd_ratio(crowd: dict[str, Crowd]) -> float:
    """Return how many times as long as straight a crowd takes through the virtual node."""
    return crowd[THROUGH].best / crowd[STRAIGHT].best


def stream_checks(streams: Streams) -> list[Check]:
    """Return every budget that the figures can be held against."""
    return [
        *_keystrokes(streams.keystrokes),
        *(
            Check(f"{streams.setting.parallel} at once, {way}: failed", "streams", len(crowd.failures), 0, 0)
            for way, crowd in streams.crowd.items()
        ),
        Check("streams still open after all had ended", "streams", streams.idle.after.sessions, 0, 0),
    ]


def _keystrokes(keystrokes: dict[str, Spread]) -> Iterator[Check]:
    for way, what in ((THROUGH, "keystroke, added in all, p50"), (PROXIER, "keystroke, added by the proxier alone, p50")):
        yield Check(what, "ms", added(keystrokes, way)[0], KEYSTROKE_MS, KEYSTROKE_MS)


def stream_doubts(streams: Streams) -> list[str]:
    """Return what makes the figures of this run less than trustworthy, or other than was asked for."""
    setting, found = streams.setting, []
    if setting.load > setting.cores / 2:
        found.append(f"the machine was busy before the run began (load {setting.load:.1f} on {setting.cores} cores)")
    if streams.idle.sessions < setting.asked:
        found.append(
            f"{streams.idle.sessions} idle sessions instead of {setting.asked}: too few open files are allowed (ulimit -n)"
        )
    return found
