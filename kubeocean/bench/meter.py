"""Counts, for one phase of a run, what everybody wrote and how much CPU everybody used."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic

from kubeocean.bench.audit import LEASES, AuditTail, Write, count_writes
from kubeocean.bench.procfs import cpu_seconds
from kubeocean.bench.results import Phase
from kubeocean.sandbox.sandbox import Sandbox

SILENCE = 1.0  # seconds without a write: then what a phase set off has ended
LONG_SILENCE = 6.0  # the same for a phase whose every write counts: counts of nodes and Pods are told every few seconds only
PATIENCE = 20.0  # seconds; somebody may write for ever


@dataclass(frozen=True, slots=True)
class Reading:
    """A phase with the single writes it is made of, by side."""

    phase: Phase
    virtual: list[Write]
    physical: list[Write]


class Meter:
    """Begin with `start`, then call `stop` (and `start` again, for the next phase)."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._clusters = [(cluster.role, AuditTail(cluster.audit_log)) for cluster in (sandbox.virtual, *sandbox.physical)]
        self._programs: dict[str, list[int]] = {"bench": [os.getpid()]}
        roles = {cluster.name: cluster.role for cluster in sandbox.record.clusters}
        for cluster, component in sandbox.record.all_components:
            title = f"{roles[cluster]} {component.name}" if cluster else component.name
            self._programs.setdefault(title, []).append(component.pid)
        self._used: Mapping[str, float] = {}

    def add(self, program: str, pid: int) -> None:
        """Count the CPU of one more process, for good: one that has ended uses none."""
        self._programs.setdefault(program, []).append(pid)

    def start(self) -> None:
        """Forget what was; the phase begins."""
        for _, tail in self._clusters:
            tail.read()
        self._used = self._cpu()

    def stop(self) -> Reading:
        """Return what happened since `start`."""
        used = {program: seconds - self._used.get(program, 0.0) for program, seconds in self._cpu().items()}
        writes: dict[str, list[Write]] = {"virtual": [], "physical": []}
        for role, tail in self._clusters:
            writes[role] += tail.read()
        return Reading(Phase(count_writes(writes), used), writes["virtual"], writes["physical"])

    async def settle(self, silence: float = SILENCE) -> None:
        """Wait until nobody has written anything but leases for `silence` seconds."""
        tails = [AuditTail(tail.path) for _, tail in self._clusters]
        quiet_since, give_up = monotonic(), monotonic() + PATIENCE
        while monotonic() - quiet_since < silence and monotonic() < give_up:
            await asyncio.sleep(0.1)
            if any(write.resource != LEASES for tail in tails for write in tail.read()):
                quiet_since = monotonic()

    def _cpu(self) -> dict[str, float]:
        return {program: sum(cpu_seconds(pid) or 0.0 for pid in pids) for program, pids in self._programs.items()}
