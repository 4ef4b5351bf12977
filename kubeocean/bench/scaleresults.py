"""The figures of many Pods that stay, as plain data: what is printed, and what `--output json` holds."""

from __future__ import annotations

from dataclasses import dataclass

from kubeocean.bench.audit import WriteCount
from kubeocean.bench.percentiles import Spread
from kubeocean.bench.results import Floor, Lap


@dataclass(frozen=True, slots=True)
class Restart:
    """Seconds until the new process leads, and from then until it is steady; its CPU until then, and our writes but Leases.

    The first are counted from the moment the old one was told to stop.
    """

    leading: float
    steady: float
    cpu_seconds: float | None
    writes: list[WriteCount]

    @property
    def deletes(self) -> int:
        """Return how much of it was deletion."""
        return sum(each.count for each in self.writes if each.verb.startswith("delete"))


@dataclass(frozen=True, slots=True)
class ManagerMemory:
    """Resident bytes of the manager; None where the system does not tell.

    With no Pods, with those of the lenders, after the burst of ours, after the restart.
    """

    empty: int | None
    foreign: int | None
    burst: int | None
    restart: int | None


@dataclass(slots=True)
class Neighbourhood:
    """From bound to the twin's creation: in one namespace of the crowd, and for the neighbour. None before it is measured."""

    crowd: Spread | None = None
    neighbour: Spread | None = None


@dataclass(frozen=True, slots=True)
class ScaleSetting:
    """Under which conditions the figures came about; `load` is the machine's before anything was started."""

    pods: int
    foreign: int
    nodes: int
    clusters: int
    token: bool
    rest_seconds: float
    load: float


@dataclass(frozen=True, slots=True)
class Scale:
    """The figures. `lap`: until all Pods ran, until all were gone; `cpu_…`: CPU seconds of the manager, None where unknown."""

    setting: ScaleSetting
    floor: Floor
    ceiling: Floor
    lap: Lap
    neighbourhood: Neighbourhood
    cpu_creating: float | None
    cpu_deleting: float | None
    writes_at_rest: list[WriteCount]
    cpu_at_rest: float | None
    restart: Restart
    rolling: Restart
    memory: ManagerMemory

    @property
    def bytes_per_pair(self) -> float | None:
        """Return what a Pod and its twin cost a process that has only read them; None where that cannot be known."""
        if self.memory.restart is None or self.memory.foreign is None:
            return None
        return (self.memory.restart - self.memory.foreign) / self.setting.pods

    @property
    def bytes_per_foreign(self) -> float | None:
        """Return what a Pod of the lender's costs; None where that cannot be known, or there were none."""
        if not self.setting.foreign or self.memory.foreign is None or self.memory.empty is None:
            return None
        return (self.memory.foreign - self.memory.empty) / self.setting.foreign
