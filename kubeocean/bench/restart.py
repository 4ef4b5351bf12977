"""What a new process makes of many Pods that are there already.

Nothing is left to do in that federation: whatever the new manager writes beside Leases is needless, and any deletion is a
fault. *Steady* is when it has looked at every Pod at least once since it leads and wants no other look; its own metrics tell.

    cold      the old one is stopped, then the new one started: a crash, or a Deployment that recreates
    rolling   the new one is a standby with its caches warm when the old one is told to stop: a rolling update
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
import orjson

from kubeocean.bench.audit import WriteCount
from kubeocean.bench.errors import BenchError
from kubeocean.bench.managed import Manager
from kubeocean.bench.poll import until_true
from kubeocean.bench.procfs import cpu_seconds
from kubeocean.bench.rig import Rig

STEADY_WITHIN = 120.0  # seconds


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


async def restart_cold(rig: Rig, manager: Manager, pods: int) -> Restart:
    """Stop the manager, start it, and return what that took."""
    rig.meter.start()
    began, said = datetime.now(UTC), manager.log.stat().st_size
    await manager.stop()
    ports = _Ports.choose()
    await manager.start(*ports.flags)
    return await _until_steady(rig, manager, ports, pods, began, said)


async def restart_rolling(rig: Rig, manager: Manager, pods: int) -> Restart:
    """Have a second manager wait, stop the first, and return what the change took."""
    rig.meter.start()
    said, ports = manager.log.stat().st_size, _Ports.choose()
    async with manager.replaced(*ports.flags):
        await until_true(lambda: ports.answers("health", "/readyz"), within=STEADY_WITHIN, what="the standby is ready")
        began = datetime.now(UTC)
    return await _until_steady(rig, manager, ports, pods, began, said)


async def _until_steady(rig: Rig, manager: Manager, ports: _Ports, pods: int, began: datetime, said: int) -> Restart:
    async def steady() -> bool:
        manager.check()
        return is_steady(await ports.ask("metrics", "/metrics") or "", pods)

    await until_true(steady, within=STEADY_WITHIN, what="the new manager is steady", every=0.05)
    ended, used = datetime.now(UTC), cpu_seconds(manager.pid)
    leading = _moment_of_leading(manager.log.read_bytes()[said:])
    await rig.meter.settle()
    phase = rig.meter.stop().phase
    ours = [each for each in phase.writes if each.ours]
    return Restart((leading - began).total_seconds(), (ended - leading).total_seconds(), used, ours)


@dataclass(frozen=True, slots=True)
class _Ports:
    """Where a manager answers, on loopback."""

    metrics: int
    health: int

    @classmethod
    def choose(cls) -> _Ports:
        with socket.socket() as one, socket.socket() as other:
            for each in (one, other):
                each.bind(("127.0.0.1", 0))
            return cls(one.getsockname()[1], other.getsockname()[1])

    @property
    def flags(self) -> tuple[str, ...]:
        return (
            "--metrics-bind-address", f"127.0.0.1:{self.metrics}", "--health-probe-bind-address", f"127.0.0.1:{self.health}",
        )

    async def answers(self, which: str, path: str) -> bool:
        return await self.ask(which, path) is not None

    async def ask(self, which: str, path: str) -> str | None:
        """Return a page, or None while it is not there."""
        address = f"http://127.0.0.1:{getattr(self, which)}{path}"
        with suppress(aiohttp.ClientError, asyncio.TimeoutError):
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session, session.get(address) as answer,
            ):
                return await answer.text() if answer.status == 200 else None
        return None


def is_steady(metrics: str, pods: int) -> bool:
    """Tell from a manager's metrics whether every Pod was looked at and nobody wants another look."""
    looked, open_wishes = 0.0, 0.0
    for line in metrics.splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith('controller_runtime_reconcile_total{controller="pods-'):
            looked += float(value)
        elif name.startswith(("workqueue_depth{", "controller_runtime_active_workers{")):
            open_wishes += float(value)
    return looked >= pods and open_wishes == 0


def _moment_of_leading(log: bytes) -> datetime:
    for line in log.splitlines():
        if b'"leading"' in line and (entry := orjson.loads(line)).get("event") == "leading":
            return datetime.fromisoformat(entry["timestamp"])
    raise BenchError("the new manager works and does not say since when it leads")
