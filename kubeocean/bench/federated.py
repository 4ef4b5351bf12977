"""Federated: the same Pods through Kubeocean.

Sent to the virtual API server, bound by its scheduler to virtual nodes, run elsewhere, and done when the virtual Pods say
so; deleted, and done when they are gone on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubeocean.bench.burst import create_all, delete_all
from kubeocean.bench.federation import MOUNT_NAMESPACE
from kubeocean.bench.managed import Manager
from kubeocean.bench.meter import Reading
from kubeocean.bench.pipeline import trace
from kubeocean.bench.procfs import cpu_seconds, memory
from kubeocean.bench.quiet import measure_quiet
from kubeocean.bench.results import Federated, Lap, Memory
from kubeocean.bench.rig import Rig
from kubeocean.bench.sideprocess import ROUNDS
from kubeocean.bench.workload import build_pod, pod_names
from kubeocean.kube.client import Client


async def measure_federated(rig: Rig, manager: Manager, pods: int, *, token: bool, quiet_seconds: float) -> Federated:
    """Return the figures of bursts, and of a quiet time after them (none when `quiet_seconds` is 0).

    As with floor and ceiling there is a round to get warm, and then the best of three.
    """
    twins = [(client, MOUNT_NAMESPACE) for client in rig.physical]
    async with rig.namespace(rig.virtual, "token" if token else "plain") as namespace:
        burst = Burst(rig, namespace, twins, pods, token)
        await burst.round("warm")
        rig.progress.say(f"federated: {ROUNDS} bursts of {pods} Pods")
        before, used = memory(manager.pid), cpu_seconds(manager.pid)
        manager.profile_on()
        rounds = [await burst.round(f"round{number}") for number in range(ROUNDS)]
        await manager.profile_off()
        manager.check()
        after, used_then = memory(manager.pid), cpu_seconds(manager.pid)

        quiet = None
        if quiet_seconds:
            rig.progress.say(f"federated: {quiet_seconds:g} quiet seconds")
            quiet = await measure_quiet(rig, namespace, twins, seconds=quiet_seconds, token=token)
    creating = min(rounds, key=lambda each: each.lap.create)
    deleting = min(rounds, key=lambda each: each.lap.delete)
    return Federated(
        Lap(creating.lap.create, deleting.lap.delete), [each.lap for each in rounds],
        trace(creating.created.virtual, creating.created.physical, namespace), creating.created.phase, deleting.deleted.phase,
        Memory(before[0], after[1], after[0]) if before and after else None,
        (used_then - used) / pods / ROUNDS if used is not None and used_then is not None else None,
        quiet,
    )


@dataclass(frozen=True, slots=True)
class Round:
    """One lap, and what happened in its two halves."""

    lap: Lap
    created: Reading
    deleted: Reading


@dataclass(frozen=True, slots=True)
class Burst:
    """Pods that come all at once and go all at once; `twins` is where theirs are looked for."""

    rig: Rig
    namespace: str
    twins: list[tuple[Client, str]]
    pods: int
    token: bool

    async def round(self, name: str) -> Round:
        """Return the figures of one round, once nobody writes any more."""
        meter = self.rig.meter
        wanted = [build_pod(each, self.namespace, token=self.token) for each in pod_names(name, self.pods)]
        await meter.settle()
        meter.start()
        created, create = await create_all(self.rig.virtual, wanted)
        await meter.settle()
        creating = meter.stop()
        meter.start()
        delete = await delete_all(self.rig.virtual, created, self.twins)
        await meter.settle()
        return Round(Lap(create, delete), creating, meter.stop())
