"""How the figures of many Pods that stay stand against their budgets. Pure.

The burst has none here: that of `bench.verdict` is for 500 to 1,000 Pods, and the ratios stand in the report.
"""

from __future__ import annotations

from collections.abc import Iterator

from kubeocean.bench.scaleresults import Scale
from kubeocean.bench.verdict import MEMORY, MEMORY_PER_POD, Check

MEMORY_PER_FOREIGN = 3 * 2**10  # bytes
STEADY_SECONDS = 15.0  # from leadership; the budget is for 10,000 Pods


def scale_checks(scale: Scale) -> list[Check]:
    """Return every budget that the figures can be held against."""
    return [
        Check("our writes at rest, beside Leases", "writes", sum(each.count for each in scale.writes_at_rest), 0, 0),
        *_restarts(scale),
        *_memory(scale),
    ]


def scale_ratios(scale: Scale) -> dict[str, float]:
    """Return the burst and the rig's own ceiling as multiples of the floor."""
    floor, ceiling, lap = scale.floor.best, scale.ceiling.best, scale.lap
    return {
        "create": lap.create / floor.create, "delete": lap.delete / floor.delete,
        "ceiling_create": ceiling.create / floor.create, "ceiling_delete": ceiling.delete / floor.delete,
    }


def _restarts(scale: Scale) -> Iterator[Check]:
    for how, restart in (("restart", scale.restart), ("rolling restart", scale.rolling)):
        yield Check(f"{how}: from leadership to steady", "s", restart.steady, STEADY_SECONDS, STEADY_SECONDS)
        yield Check(f"{how}: our writes beside Leases", "writes", sum(each.count for each in restart.writes), 0, 0)


def _memory(scale: Scale) -> Iterator[Check]:
    pods, foreign = scale.setting.pods, scale.setting.foreign
    limit = (MEMORY + pods * MEMORY_PER_POD + foreign * MEMORY_PER_FOREIGN) / 2**20
    for when, used in (("after the burst", scale.memory.burst), ("after the restart", scale.memory.restart)):
        if used is not None:
            yield Check(f"manager's memory {when}", "MiB", used / 2**20, limit, limit)
    for what, each, most in (
        ("memory per Pod of a lender's", scale.bytes_per_foreign, MEMORY_PER_FOREIGN),
        ("memory per Pod pair, after the restart", scale.bytes_per_pair, MEMORY_PER_POD),
    ):
        if each is not None:
            yield Check(what, "KiB", each / 2**10, most / 2**10, most / 2**10)
