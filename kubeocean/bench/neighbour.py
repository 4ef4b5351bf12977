"""A neighbour: somebody in a namespace of his own who creates a Pod now and then, while others send thousands.

What he waits for their sake is what fairness between namespaces is about. He shares the schedulers with them, so what counts
begins when his Pod is bound; it ends when its twin is there. The audit logs tell both, and the same for one of the crowd.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from kubeocean.bench.burst import delete_all
from kubeocean.bench.flight import CALL_DEADLINE
from kubeocean.bench.meter import LONG_SILENCE
from kubeocean.bench.pipeline import trace
from kubeocean.bench.rig import Rig
from kubeocean.bench.scaleresults import Neighbourhood
from kubeocean.bench.workload import build_pod
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import PODS

EVERY = 1.0  # seconds from one of his Pods to the next


@asynccontextmanager
async def beside_a_neighbour(rig: Rig, crowded: str, namespace: str, *, token: bool) -> AsyncIterator[Neighbourhood]:
    """Have the neighbour in `namespace` create Pods while the block lasts; what is given is filled in at its end.

    `crowded` is a namespace of those whom the block creates Pods for.
    """
    found, pods = Neighbourhood(), list[Json]()
    await rig.meter.settle()
    rig.meter.start()
    enough = asyncio.Event()
    creating = asyncio.create_task(_create_until(enough, rig, namespace, pods, token=token), name="neighbour")
    try:
        yield found
    finally:
        enough.set()  # not cancelled: a call in flight may have made a Pod
        await asyncio.wait({creating})
    creating.result()  # raises what ended it
    await rig.meter.settle(LONG_SILENCE)
    reading = rig.meter.stop()
    found.crowd = trace(reading.virtual, reading.physical, crowded).bound_to_twin
    found.neighbour = trace(reading.virtual, reading.physical, namespace).bound_to_twin
    await delete_all(rig.virtual, pods)
    await rig.meter.settle(LONG_SILENCE)


async def _create_until(enough: asyncio.Event, rig: Rig, namespace: str, pods: list[Json], *, token: bool) -> None:
    """Create Pods, at least one, and note them in `pods`."""
    while not (pods and enough.is_set()):
        pod = build_pod(f"neighbour-{len(pods):05}", namespace, token=token)
        pods.append(await rig.virtual.create(PODS, pod, deadline=CALL_DEADLINE))
        with suppress(TimeoutError):
            async with asyncio.timeout(EVERY):
                await enough.wait()
