"""Direct: the same Pods sent straight to one physical API server, as if there were no federation."""

from __future__ import annotations

from kubeocean.bench.burst import create_all, delete_all
from kubeocean.bench.results import Lap, Phase
from kubeocean.bench.rig import Rig
from kubeocean.bench.workload import build_pod, pod_names

WARM_UP = 20  # Pods that come and go before, so that no cache of the rig is cold


async def measure_direct(rig: Rig, pods: int, *, token: bool) -> tuple[Lap, Phase]:
    """Return the lap through the first physical cluster, scheduled by its scheduler, run by KWOK."""
    client = rig.physical[0]
    async with rig.namespace(client, "direct-token" if token else "direct") as namespace:
        warm = [build_pod(name, namespace, token=token) for name in pod_names("warm", min(pods, WARM_UP))]
        await delete_all(client, (await create_all(client, warm))[0])
        await rig.meter.settle()
        rig.meter.start()
        wanted = [build_pod(name, namespace, token=token) for name in pod_names("pod", pods)]
        created, create = await create_all(client, wanted)
        delete = await delete_all(client, created)
        await rig.meter.settle()
        return Lap(create, delete), rig.meter.stop().phase
