"""The budgets, and how the figures of a run stand against them. Pure.

Every budget has two limits: `now`, which this version keeps, and `final`, which it is on its way to. A ratio compares
within one run; times alone say nothing about another machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kubeocean.bench.audit import own_writes
from kubeocean.bench.percentiles import Spread
from kubeocean.bench.results import Federated, Report, Variant

CREATE_NOW, CREATE_FINAL = 1.5, 1.25  # × floor
DELETE_NOW, DELETE_FINAL = 1.5, 1.25
WORST_FLOOR = 2.2  # × direct; beyond that something disturbed the run
WORST_DRIFT = 0.2  # by how much the floor before and the floor after may differ; beyond that the machine's pace has changed
TWIN_MS = {False: (8.0, 25.0), True: (15.0, 50.0)}  # by token: p50, p99
MIRROR_MS = (7.0, 25.0)
WRITES = {False: (3, 2), True: (4, 4)}  # by token: virtual, physical, in a Pod's life
MEMORY, MEMORY_PER_POD = 90 * 2**20, 16 * 2**10  # bytes


@dataclass(frozen=True, slots=True)
class Check:
    """One figure against its limits; `unit` is "×", "ms", "s", "writes", "KiB", "MiB" or "streams"."""

    what: str
    unit: str
    value: float
    now: float
    final: float

    @property
    def keeps_now(self) -> bool:
        """Tell whether this version's own limit is kept."""
        return self.value <= self.now

    @property
    def keeps_final(self) -> bool:
        """Tell whether the final limit is kept."""
        return self.value <= self.final


@dataclass(frozen=True, slots=True)
class Ratios:
    """How the laps of one variant compare; `cpu` is that of all programs of the rig for a whole lap.

    Others who use the machine lengthen every lap, but hardly its CPU time: on a shared machine trust `cpu` before the rest.
    """

    create: float
    delete: float
    floor_create: float
    floor_delete: float
    cpu: float
    ceiling_create: float
    ceiling_delete: float
    create_beside_ceiling: float
    delete_beside_ceiling: float


def compare(variant: Variant) -> Ratios:
    """Return federated / floor, floor / direct, CPU, ceiling / floor and federated / ceiling."""
    baseline, lap, floor = variant.baseline, variant.federated.lap, variant.floor
    direct, ceiling, before = baseline.direct, baseline.ceiling.best, baseline.floor.best
    floor_cpu = sum(baseline.floor_phase.cpu.values()) / len(baseline.floor.rounds)
    return Ratios(
        lap.create / floor.create, lap.delete / floor.delete, before.create / direct.create, before.delete / direct.delete,
        lap_cpu(variant.federated) / floor_cpu if floor_cpu else 0.0,
        ceiling.create / before.create, ceiling.delete / before.delete,
        lap.create / ceiling.create, lap.delete / ceiling.delete,
    )


def lap_cpu(federated: Federated) -> float:
    """Return the CPU seconds of all programs for one federated lap."""
    return sum(federated.create_phase.cpu.values()) + sum(federated.delete_phase.cpu.values())


def life_writes(federated: Federated, side: str, pods: int) -> float:
    """Return how often Kubeocean wrote to one side per Pod, from its creation until it was gone."""
    return sum(own_writes(phase.writes, side) for phase in (federated.create_phase, federated.delete_phase)) / pods


def checks(variant: Variant, pods: int) -> list[Check]:
    """Return every budget that the figures of one variant can be held against."""
    ratios, federated, token = compare(variant), variant.federated, variant.token
    virtual, physical = WRITES[token]
    return [
        Check("burst, federated / floor", "×", ratios.create, CREATE_NOW, CREATE_FINAL),
        Check("delete, federated / floor", "×", ratios.delete, DELETE_NOW, DELETE_FINAL),
        Check("writes in a Pod's life, virtual", "writes", life_writes(federated, "virtual", pods), virtual, virtual),
        Check("writes in a Pod's life, physical", "writes", life_writes(federated, "physical", pods), physical, physical),
        *_latencies(federated, token=token),
        *_memory(federated, pods),
    ]


def _latencies(federated: Federated, *, token: bool) -> Iterator[Check]:
    if federated.quiet is None:
        return
    pipeline = federated.quiet.pipeline
    yield from _percentiles("quiet, bound → twin", pipeline.bound_to_twin, TWIN_MS[token])
    yield from _percentiles("quiet, running → mirrored", pipeline.running_to_mirrored, MIRROR_MS)


def _percentiles(what: str, latency: Spread | None, limits: tuple[float, float]) -> Iterator[Check]:
    if latency:
        yield Check(f"{what}, p50", "ms", latency.p50, limits[0], limits[0])
        yield Check(f"{what}, p99", "ms", latency.p99, limits[1], limits[1])


def _memory(federated: Federated, pods: int) -> Iterator[Check]:
    if federated.memory:
        limit = (MEMORY + pods * MEMORY_PER_POD) / 2**20
        yield Check("manager's memory, peak", "MiB", federated.memory.peak / 2**20, limit, limit)


def doubts(report: Report) -> list[str]:
    """Return what makes the figures of this run less than trustworthy."""
    setting, found = report.setting, []
    if setting.load > setting.cores / 2:
        found.append(f"the machine was busy before the run began (load {setting.load:.1f} on {setting.cores} cores)")
    if setting.profiled:
        found.append("the manager ran under a profiler, which slows it: its times, CPU and memory are not its own")
    for variant in report.variants:
        ratio, name = compare(variant).floor_create, "with token" if variant.token else "without token"
        if ratio > WORST_FLOOR:
            found.append(f"a bad run: the floor {name} is {ratio:.2f}× direct, more than {WORST_FLOOR}×")
        found += [
            f"the machine's pace changed: {what} the floor's Pods {name} took {before:.2f} s before and {after:.2f} s after"
            for what, before, after in _floors(variant) if max(before, after) > min(before, after) * (1 + WORST_DRIFT)
        ]
    return found


def _floors(variant: Variant) -> Iterator[tuple[str, float, float]]:
    before, after = variant.baseline.floor.best, variant.floor_after.best
    yield "creating", before.create, after.create
    yield "deleting", before.delete, after.delete
