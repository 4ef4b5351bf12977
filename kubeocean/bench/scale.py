"""Many Pods that stay: what a burst of them takes, what they cost at rest, and a new process (`bench.restart`).

Floor (`bench.floor`) and ceiling (`bench.ceiling`) of as many Pods stand beside the burst. A lender's clusters are not empty:
with `foreign`, Pods of his own run there all the while, and what each costs the manager, for which it is only less room, is
measured before ours come. Beside the burst somebody in another namespace creates a Pod now and then (`bench.neighbour`).
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from kubeocean.bench.burst import create_all, delete_all
from kubeocean.bench.ceiling import measure_ceiling
from kubeocean.bench.errors import BenchError
from kubeocean.bench.federation import federate
from kubeocean.bench.floor import measure_floor
from kubeocean.bench.managed import Manager
from kubeocean.bench.meter import LONG_SILENCE
from kubeocean.bench.neighbour import beside_a_neighbour
from kubeocean.bench.procfs import cpu_seconds, memory
from kubeocean.bench.restart import restart_cold, restart_rolling
from kubeocean.bench.results import Floor, Lap, Phase
from kubeocean.bench.rig import Rig, RigSpec, open_rig
from kubeocean.bench.run import PODS_PER_NODE
from kubeocean.bench.scaleresults import ManagerMemory, Scale, ScaleSetting
from kubeocean.bench.workload import build_foreign, deal_pods
from kubeocean.kube.meta import Json, name_of
from kubeocean.kube.resources import NODES
from kubeocean.sandbox.progress import Progress

_NAMESPACES = 5  # tenants among whom the Pods are dealt out


@dataclass(frozen=True, slots=True)
class ScaleSpec:
    """What to measure: `pods` on the rig's nodes beside `foreign` ones, `rest_seconds` of doing nothing, two restarts."""

    pods: int = 5000
    foreign: int = 0
    token: bool = False
    rest_seconds: float = 60.0
    rig: RigSpec = field(default_factory=lambda: RigSpec(nodes=100))


async def measure_scale(spec: ScaleSpec, progress: Progress) -> Scale:
    """Measure. Raises BenchError, SandboxError or KubeError; whatever was started is ended."""
    load = os.getloadavg()[0]
    async with open_rig(spec.rig, progress) as rig:
        if spec.pods + spec.foreign > rig.nodes * PODS_PER_NODE:
            raise BenchError(f"{rig.nodes} nodes take {rig.nodes * PODS_PER_NODE} Pods: ask for more --nodes")
        setting = ScaleSetting(
            spec.pods, spec.foreign, rig.nodes, len(rig.physical), spec.token, spec.rest_seconds, load,
        )
        progress.say(f"floor, {spec.pods} Pods")
        floor, _ = await measure_floor(rig, spec.pods, token=spec.token)
        progress.say(f"the rig's ceiling, {spec.pods} Pods")
        ceiling, _ = await measure_ceiling(rig, spec.pods, token=spec.token)
        progress.say("starting the manager, binding all clusters")
        async with federate(rig, direct_scheduling=True, profile=None) as manager, AsyncExitStack() as stack:
            return await _measure_stay(rig, manager, stack, setting, floor, ceiling)


async def _measure_stay(
    rig: Rig, manager: Manager, stack: AsyncExitStack, setting: ScaleSetting, floor: Floor, ceiling: Floor
) -> Scale:
    say, pods = rig.progress.say, setting.pods
    tenants = [
        await stack.enter_async_context(rig.namespace(rig.virtual, f"tenant-{number}")) for number in range(_NAMESPACES)
    ]
    await rig.meter.settle()
    empty = _resident(manager)
    if setting.foreign:
        say(f"{setting.foreign} Pods of the lenders'")
        await _lend(rig, stack, setting.foreign)
    foreign = _resident(manager)
    say(f"a burst of {pods} Pods")
    used = cpu_seconds(manager.pid)
    neighbour = await stack.enter_async_context(rig.namespace(rig.virtual, "neighbour"))
    async with beside_a_neighbour(rig, tenants[0], neighbour, token=setting.token) as neighbourhood:
        created, creating = await _fill(rig, setting, tenants)
        cpu_creating = _since(used, manager)
    full = _resident(manager)
    say(f"{setting.rest_seconds:g} seconds at rest")
    at_rest, cpu_at_rest = await _rest(rig, manager, setting.rest_seconds)
    say("restarting the manager")
    restart = await restart_cold(rig, manager, pods)
    restarted = _resident(manager)
    say("a second manager takes over")
    rolling = await restart_rolling(rig, manager, pods)
    say("deleting the Pods")
    used = cpu_seconds(manager.pid)
    deleting = max(await asyncio.gather(*(delete_all(rig.virtual, some) for some in created)))
    await rig.meter.settle()
    cpu_deleting = _since(used, manager)
    return Scale(
        setting, floor, ceiling, Lap(creating, deleting), neighbourhood, cpu_creating, cpu_deleting, at_rest.ours, cpu_at_rest,
        restart, rolling, ManagerMemory(empty, foreign, full, restarted),
    )


async def _fill(rig: Rig, setting: ScaleSetting, namespaces: list[str]) -> tuple[list[list[Json]], float]:
    """Create the Pods of all namespaces at once; return them, and the seconds until all of them ran."""
    wanted = deal_pods("pod", setting.pods, namespaces, token=setting.token)
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
    cpu = _since(used, manager)
    return rig.meter.stop().phase, cpu


def _since(used: float | None, manager: Manager) -> float | None:
    """Return the CPU seconds the manager has used beyond `used`; None where that cannot be known."""
    now = cpu_seconds(manager.pid)
    return now - used if used is not None and now is not None else None


def _resident(manager: Manager) -> int | None:
    known = memory(manager.pid)
    return known[0] if known else None
