"""Many Pods that stay: what a burst of them takes, what they cost at rest, and a new process (`bench.restart`).

The floor (`bench.floor`) of as many Pods stands beside the burst. A lender's clusters are not empty: with `foreign`, Pods of
his own run there all the while, and what each costs the manager, for which it is only less room, is measured before ours come.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from kubeocean.bench.audit import WriteCount
from kubeocean.bench.burst import create_all, delete_all
from kubeocean.bench.errors import BenchError
from kubeocean.bench.federation import federate
from kubeocean.bench.floor import measure_floor
from kubeocean.bench.managed import Manager
from kubeocean.bench.meter import LONG_SILENCE
from kubeocean.bench.procfs import cpu_seconds, memory
from kubeocean.bench.restart import Restart, restart_cold, restart_rolling
from kubeocean.bench.results import Floor, Phase
from kubeocean.bench.rig import Rig, RigSpec, open_rig
from kubeocean.bench.run import PODS_PER_NODE
from kubeocean.bench.workload import build_foreign, deal_pods
from kubeocean.kube.meta import Json, name_of
from kubeocean.kube.resources import NODES
from kubeocean.sandbox.progress import Progress

_NAMESPACES = 5  # tenants among whom the Pods are dealt out


@dataclass(frozen=True, slots=True)
class ScaleSpec:
    """What to measure: `pods` on the rig's nodes beside `foreign` ones, `rest_seconds` of doing nothing, one restart."""

    pods: int = 5000
    foreign: int = 0
    token: bool = False
    rest_seconds: float = 60.0
    rig: RigSpec = field(default_factory=lambda: RigSpec(nodes=100))


@dataclass(frozen=True, slots=True)
class Scale:
    """The figures. Memory in bytes, of the manager; None where the system does not tell."""

    pods: int
    foreign: int
    nodes: int
    clusters: int
    token: bool
    load_before: float
    floor: Floor
    burst_seconds: float
    rest_seconds: float
    writes_at_rest: list[WriteCount]
    cpu_at_rest: float | None
    restart: Restart
    rolling: Restart
    memory_empty: int | None
    memory_foreign: int | None
    memory_after_burst: int | None
    memory_after_restart: int | None
    delete_seconds: float

    @property
    def bytes_per_pair(self) -> float | None:
        """Return what a Pod and its twin cost a process that has only read them; None where that cannot be known."""
        if self.memory_after_restart is None or self.memory_foreign is None:
            return None
        return (self.memory_after_restart - self.memory_foreign) / self.pods

    @property
    def bytes_per_foreign(self) -> float | None:
        """Return what a Pod of the lender's costs; None where that cannot be known, or there were none."""
        if not self.foreign or self.memory_foreign is None or self.memory_empty is None:
            return None
        return (self.memory_foreign - self.memory_empty) / self.foreign


async def measure_scale(spec: ScaleSpec, progress: Progress) -> Scale:
    """Measure. Raises BenchError, SandboxError or KubeError; whatever was started is ended."""
    load = os.getloadavg()[0]
    async with open_rig(spec.rig, progress) as rig:
        if spec.pods + spec.foreign > rig.nodes * PODS_PER_NODE:
            raise BenchError(f"{rig.nodes} nodes take {rig.nodes * PODS_PER_NODE} Pods: ask for more --nodes")
        progress.say(f"floor, {spec.pods} Pods")
        floor, _ = await measure_floor(rig, spec.pods, token=spec.token)
        progress.say("starting the manager, binding all clusters")
        async with federate(rig, direct_scheduling=True, profile=None) as manager, AsyncExitStack() as stack:
            tenants = [
                await stack.enter_async_context(rig.namespace(rig.virtual, f"tenant-{number}"))
                for number in range(_NAMESPACES)
            ]
            await rig.meter.settle()
            empty = _resident(manager)
            if spec.foreign:
                progress.say(f"{spec.foreign} Pods of the lenders'")
                await _lend(rig, stack, spec.foreign)
            foreign = _resident(manager)
            progress.say(f"a burst of {spec.pods} Pods")
            created, burst = await _fill(rig, spec, tenants)
            await rig.meter.settle(LONG_SILENCE)
            full = _resident(manager)
            progress.say(f"{spec.rest_seconds:g} seconds at rest")
            at_rest, cpu_at_rest = await _rest(rig, manager, spec.rest_seconds)
            progress.say("restarting the manager")
            restart = await restart_cold(rig, manager, spec.pods)
            restarted = _resident(manager)
            progress.say("a second manager takes over")
            rolling = await restart_rolling(rig, manager, spec.pods)
            progress.say("deleting the Pods")
            deleting = max(await asyncio.gather(*(delete_all(rig.virtual, pods) for pods in created)))
    return Scale(
        spec.pods, spec.foreign, rig.nodes, len(rig.physical), spec.token, load, floor, burst, spec.rest_seconds, at_rest.ours,
        cpu_at_rest, restart, rolling, empty, foreign, full, restarted, deleting,
    )


async def _fill(rig: Rig, spec: ScaleSpec, namespaces: list[str]) -> tuple[list[list[Json]], float]:
    """Create the Pods of all namespaces at once; return them, and the seconds until all of them ran."""
    wanted = deal_pods("pod", spec.pods, namespaces, token=spec.token)
    laps = await asyncio.gather(*(create_all(rig.virtual, pods) for pods in wanted if pods))
    return [created for created, _ in laps], max(seconds for _, seconds in laps)


async def _lend(rig: Rig, stack: AsyncExitStack, count: int) -> None:
    """Have `count` Pods of the lenders' run in the physical clusters, as long as the rig does."""
    namespaces = [await stack.enter_async_context(rig.namespace(client, "lender")) for client in rig.physical]
    nodes = [list(map(name_of, (await client.list(NODES)).items)) for client in rig.physical]
    for client, pods in zip(rig.physical, build_foreign(count, nodes, namespaces), strict=True):
        if pods:
            await create_all(client, pods)
    await rig.meter.settle(LONG_SILENCE)


async def _rest(rig: Rig, manager: Manager, seconds: float) -> tuple[Phase, float | None]:
    used = cpu_seconds(manager.pid)
    rig.meter.start()
    await asyncio.sleep(seconds)
    manager.check()
    used_then = cpu_seconds(manager.pid)
    return rig.meter.stop().phase, used_then - used if used is not None and used_then is not None else None


def _resident(manager: Manager) -> int | None:
    known = memory(manager.pid)
    return known[0] if known else None
