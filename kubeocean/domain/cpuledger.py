"""Counters of CPU time that never go back, out of sources that come, go and tell different things.

Who reads usage (metrics-server, Prometheus) wants a counter and takes differences. A kubelet has one per container;
metrics.k8s.io tells only how many cores were in use over a window that ended at some moment. So a rate is *integrated*: it
holds from the sample before to this one. When the source changes, the counter goes on from where it was.

A node's counter is not the sum of those of its containers, because that would fall when a Pod goes: it gathers what was used
since we began to look. A container that is older than that look and new to us has used its time unseen by this counter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

# What runs has used some time, however short: metrics-server takes a counter of 0 for a failure and drops the whole Pod.
LEAST_SECONDS: Final = 1e-6


class CounterKey(NamedTuple):
    """One run of one container; `container` and `run` are "" for the Pod as a whole."""

    uid: str
    container: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source says of one counter at a moment `time`: `cores` in use, and `seconds` where it has a counter itself.

    A rate held for `window` seconds before; `started` is when the container began, 0 if unknown.
    """

    key: CounterKey
    time: float
    cores: float = 0.0
    window: float = 0.0
    seconds: float | None = None
    started: float = 0.0


class Counter(NamedTuple):
    """A counter as we tell it; `source` is what the source's own counter was then, None if it had none."""

    seconds: float
    time: float
    source: float | None


@dataclass(frozen=True, slots=True)
class Ledger:
    """The counters of one virtual node, the sum of what its containers used, and the time of the newest reading."""

    counters: Mapping[CounterKey, Counter] = field(default_factory=lambda: MappingProxyType({}))
    total: float = LEAST_SECONDS
    looked: float = 0.0


def advance(ledger: Ledger, readings: Iterable[Reading], alive: Iterable[CounterKey]) -> Ledger:
    """Return the ledger after some readings. A counter that is not `alive` is forgotten, what it counted is not."""
    kept = set(alive)
    counters = {key: counter for key, counter in ledger.counters.items() if key in kept}
    total, looked = ledger.total, ledger.looked
    for reading in readings:
        before = counters.get(reading.key)
        if reading.key not in kept or (before and reading.time <= before.time):
            continue
        now = _go_on(before, reading) if before else _begin(reading)
        counters[reading.key] = now
        looked = max(looked, reading.time)
        if not reading.key.container:
            continue  # its containers are counted
        if before:
            total += now.seconds - before.seconds
        elif not ledger.looked or reading.started >= ledger.looked:
            total += now.seconds
    return Ledger(MappingProxyType(counters), total, looked)


def _begin(reading: Reading) -> Counter:
    if reading.seconds is not None:
        seconds = reading.seconds
    else:
        age = reading.time - reading.started if reading.started else reading.window
        seconds = max(0.0, reading.cores) * max(0.0, min(reading.window, age))
    return Counter(max(seconds, LEAST_SECONDS), reading.time, reading.seconds)


def _go_on(before: Counter, reading: Reading) -> Counter:
    if reading.seconds is not None and before.source is not None:
        fell = reading.seconds < before.source  # the source has begun anew
        used = reading.seconds - (0.0 if fell else before.source)
    else:
        used = reading.cores * (reading.time - before.time)
    return Counter(before.seconds + max(0.0, used), reading.time, reading.seconds)
