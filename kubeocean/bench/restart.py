"""What a new process makes of many Pods that are there already.

Nothing is left to do in that federation: whatever the new manager writes beside Leases is needless, and any deletion is a
fault. *Steady* is when it has looked at every Pod at least once since it leads and wants no other look; its own metrics tell.

    cold      the old one is stopped, then the new one started: a crash, or a Deployment that recreates
    rolling   the new one is a standby with its caches warm when the old one is told to stop: a rolling update
"""

from __future__ import annotations

from datetime import UTC, datetime

import orjson

from kubeocean.bench.errors import BenchError
from kubeocean.bench.managed import Manager
from kubeocean.bench.meter import LONG_SILENCE
from kubeocean.bench.page import read_page
from kubeocean.bench.poll import until_true
from kubeocean.bench.procfs import cpu_seconds
from kubeocean.bench.rig import Rig
from kubeocean.bench.scaleresults import Restart
from kubeocean.sandbox.commands import LOOPBACK
from kubeocean.sandbox.ports import choose_ports

STEADY_WITHIN = 120.0  # seconds


async def restart_cold(rig: Rig, manager: Manager, pods: int) -> Restart:
    """Stop the manager, start it, and return what that took."""
    rig.meter.start()
    metrics, _, flags = _choose_addresses()
    began, said = datetime.now(UTC), manager.log.stat().st_size
    await manager.stop()
    await manager.start(*flags)
    return await _until_steady(rig, manager, metrics, pods, began, said)


async def restart_rolling(rig: Rig, manager: Manager, pods: int) -> Restart:
    """Have a second manager wait, stop the first, and return what the change took."""
    rig.meter.start()
    metrics, health, flags = _choose_addresses()
    said = manager.log.stat().st_size

    async def waits() -> bool:
        return await read_page(f"http://{health}/readyz") is not None

    async with manager.replaced(*flags):
        await until_true(waits, within=STEADY_WITHIN, what="the standby is ready")
        began = datetime.now(UTC)
    return await _until_steady(rig, manager, metrics, pods, began, said)


def _choose_addresses() -> tuple[str, str, tuple[str, ...]]:
    """Return where a manager is to tell its metrics and its health, and the flags that say so."""
    metrics, health = (f"{LOOPBACK}:{port}" for port in choose_ports(2, (LOOPBACK,)))
    return metrics, health, ("--metrics-bind-address", metrics, "--health-probe-bind-address", health)


async def _until_steady(rig: Rig, manager: Manager, metrics: str, pods: int, began: datetime, said: int) -> Restart:
    async def steady() -> bool:
        manager.check()
        return is_steady(await read_page(f"http://{metrics}/metrics") or "", pods)

    await until_true(steady, within=STEADY_WITHIN, what="the new manager is steady", every=0.05)
    ended, used = datetime.now(UTC), cpu_seconds(manager.pid)
    leading = _moment_of_leading(manager.log.read_bytes()[said:])
    await rig.meter.settle(LONG_SILENCE)
    ours = rig.meter.stop().phase.ours
    return Restart((leading - began).total_seconds(), (ended - leading).total_seconds(), used, ours)


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
