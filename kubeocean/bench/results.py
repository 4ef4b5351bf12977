"""The figures of one run, as plain data: what is printed, and what `--output json` holds. Seconds unless a name says more."""

from __future__ import annotations

from dataclasses import dataclass, field

from kubeocean.bench.audit import WriteCount
from kubeocean.bench.percentiles import Spread
from kubeocean.bench.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Lap:
    """How long a burst took: `create` until all were Running, `delete` until all were gone."""

    create: float
    delete: float


@dataclass(frozen=True, slots=True)
class Phase:
    """What happened elsewhere meanwhile: who wrote what, and the CPU seconds of every program of the rig."""

    writes: list[WriteCount]
    cpu: dict[str, float]

    @property
    def ours(self) -> list[WriteCount]:
        """Return what Kubeocean wrote, Leases left out."""
        return [each for each in self.writes if each.ours]


@dataclass(frozen=True, slots=True)
class Floor:
    """The least it could have taken: the best create and the best delete of `rounds`."""

    best: Lap
    rounds: list[Lap]


@dataclass(frozen=True, slots=True)
class Baseline:
    """What federating is compared with; `ceiling` is the least that the rig itself would take (`bench.ceiling`)."""

    direct: Lap
    direct_phase: Phase
    floor: Floor
    floor_phase: Phase
    ceiling: Floor
    ceiling_phase: Phase


@dataclass(frozen=True, slots=True)
class Observed:
    """Latencies as an observer saw them, his own delay included."""

    bound_to_twin: Spread | None
    running_to_mirrored: Spread | None


@dataclass(frozen=True, slots=True)
class Quiet:
    """A system with little to do: `pipeline` from the audit logs, `observed` from watches."""

    pipeline: Pipeline
    observed: Observed
    phase: Phase


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of the manager in bytes: before the burst, at its peak, after all Pods were gone."""

    before: int
    peak: int
    after: int


@dataclass(frozen=True, slots=True)
class Federated:
    """The same burst through Kubeocean, best of `rounds`; `manager_cpu_per_pod` is for a whole life."""

    lap: Lap
    rounds: list[Lap]
    pipeline: Pipeline
    create_phase: Phase
    delete_phase: Phase
    memory: Memory | None
    manager_cpu_per_pod: float | None
    quiet: Quiet | None


@dataclass(frozen=True, slots=True)
class Variant:
    """All figures with or without a token in every Pod; `floor_after` is the floor measured again when Kubeocean had gone."""

    token: bool
    baseline: Baseline
    federated: Federated
    floor_after: Floor

    @property
    def floor(self) -> Lap:
        """Return what federating is held against: midway between the floor before it and the floor after it."""
        before, after = self.baseline.floor.best, self.floor_after.best
        return Lap((before.create + after.create) / 2, (before.delete + after.delete) / 2)


@dataclass(frozen=True, slots=True)
class Hotspot:
    """One function in the manager's profile, CPU seconds: its own, and with all it called."""

    function: str
    calls: int
    own: float
    total: float


@dataclass(frozen=True, slots=True)
class Setting:
    """Under which conditions the figures came about; `load` is the machine's load average before anything was started."""

    pods: int
    nodes: int
    clusters: int
    launcher: str
    direct_scheduling: bool
    cores: int
    load: float
    python: str
    profiled: bool


@dataclass(frozen=True, slots=True)
class Report:
    """One run."""

    setting: Setting
    variants: list[Variant]
    hotspots: list[Hotspot] = field(default_factory=list)
