"""The figures of `kubeocean bench streams`, as plain data. By way (`ways`) where a name is the key."""

from __future__ import annotations

from dataclasses import dataclass

from kubeocean.bench.percentiles import Spread

STRAIGHT, PROXIER, THROUGH = "straight", "proxier", "through"
WAYS = (STRAIGHT, PROXIER, THROUGH)


@dataclass(frozen=True, slots=True)
class Rate:
    """Megabytes (10^6) a second of each round, one direction of one way; `proxier_cpu`: its CPU seconds for a gigabyte."""

    rounds: list[float]
    proxier_cpu: float | None

    @property
    def best(self) -> float:
        """Return what it can be: whatever else the machine did meanwhile only makes it less."""
        return max(self.rounds)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the proxier holds: resident bytes and open files (None where the system does not tell), its own counts."""

    memory: int | None
    files: int | None
    sessions: int
    tasks: int


@dataclass(frozen=True, slots=True)
class Idle:
    """The proxier before `sessions` streams on which nothing happens were opened, with them, and once they had ended.

    `again`: with as many once more. Memory that is free again stays with the process; what is lost for good shows here.
    """

    sessions: int
    before: Footprint
    full: Footprint
    after: Footprint
    again: Footprint

    @property
    def bytes_per_session(self) -> float | None:
        """Return the memory of one; None where that cannot be known."""
        if self.before.memory is None or self.full.memory is None:
            return None
        return (self.full.memory - self.before.memory) / self.sessions


@dataclass(frozen=True, slots=True)
class Crowd:
    """Many commands begun at once: seconds until the last one had told its end, of each round, and what failed in them."""

    rounds: list[float]
    failures: list[str]

    @property
    def best(self) -> float:
        """Return the shortest round."""
        return min(self.rounds)


@dataclass(frozen=True, slots=True)
class StreamSetting:
    """Under which conditions the figures came about; `asked` is how many idle sessions there were to be."""

    node: str
    cores: int
    load: float
    python: str
    megabytes: float
    parallel: int
    asked: int


@dataclass(frozen=True, slots=True)
class Streams:
    """One run."""

    setting: StreamSetting
    keystrokes: dict[str, Spread]
    output: dict[str, Rate]
    input: dict[str, Rate]
    idle: Idle
    crowd: dict[str, Crowd]
