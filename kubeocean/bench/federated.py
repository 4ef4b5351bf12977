"""Federated: the same Pods through Kubeocean.

Sent to the virtual API server, bound by its scheduler to virtual nodes, run elsewhere, and done when the virtual Pods say
so; deleted, and done when they are gone on both sides.
"""

from __future__ import annotations

from kubeocean.bench.burst import create_all, delete_all
from kubeocean.bench.direct import WARM_UP
from kubeocean.bench.federation import MOUNT_NAMESPACE
from kubeocean.bench.managed import Manager
from kubeocean.bench.pipeline import trace
from kubeocean.bench.procfs import cpu_seconds, memory
from kubeocean.bench.quiet import measure_quiet
from kubeocean.bench.results import Federated, Lap, Memory
from kubeocean.bench.rig import Rig
from kubeocean.bench.workload import build_pod, pod_names


async def measure_federated(rig: Rig, manager: Manager, pods: int, *, token: bool, quiet_seconds: float) -> Federated:
    """Return the figures of one burst, and of a quiet time after it (none when `quiet_seconds` is 0)."""
    twins = [(client, MOUNT_NAMESPACE) for client in rig.physical]
    meter = rig.meter
    async with rig.namespace(rig.virtual, "token" if token else "plain") as namespace:
        warm = [build_pod(name, namespace, token=token) for name in pod_names("warm", min(pods, WARM_UP))]
        await delete_all(rig.virtual, (await create_all(rig.virtual, warm))[0], twins)
        await meter.settle()

        rig.progress.say(f"federated: a burst of {pods} Pods")
        before, used = memory(manager.pid), cpu_seconds(manager.pid)
        wanted = [build_pod(name, namespace, token=token) for name in pod_names("pod", pods)]
        manager.profile_on()
        meter.start()
        created, create = await create_all(rig.virtual, wanted)
        await meter.settle()
        creating = meter.stop()
        meter.start()
        delete = await delete_all(rig.virtual, created, twins)
        await meter.settle()
        deleting = meter.stop()
        await manager.profile_off()
        manager.check()
        after, used_then = memory(manager.pid), cpu_seconds(manager.pid)

        quiet = None
        if quiet_seconds:
            rig.progress.say(f"federated: {quiet_seconds:g} quiet seconds")
            quiet = await measure_quiet(rig, namespace, twins, seconds=quiet_seconds, token=token)
    return Federated(
        Lap(create, delete), trace(creating.virtual, creating.physical, namespace), creating.phase, deleting.phase,
        Memory(before[0], after[1], after[0]) if before and after else None,
        (used_then - used) / pods if used is not None and used_then is not None else None,
        quiet,
    )
