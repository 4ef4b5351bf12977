"""All workloads, both ways, at once: each one's run is judged by a test of its own afterwards (`test_workloads.py`)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubeocean.api import names
from kubeocean.kube.client import Client
from kubeocean.kube.errors import AlreadyExists
from kubeocean.kube.meta import annotations_of, key_of, namespace_of
from tests.e2e.cluster import Cluster
from tests.e2e.folders import STORAGECLASSES, build_class, provide
from tests.e2e.performance import Outcome, namespace_of_run, perform
from tests.e2e.plays import PLAYS
from tests.e2e.run import Way
from tests.e2e.workload import Workload

AT_ONCE: Final = 12  # workloads, each both ways; more would only wait for the two processors
GOING: Final = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Stage:
    """Two clusters joined by a binding, a physical node with real containers, its virtual node, and a folder of its disk."""

    virtual: Client
    physical: Client
    node: str
    vnode: str
    disk: Path


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of one workload. `direct` is None where running it directly makes no sense."""

    direct: Outcome | None
    virtual: Outcome


@dataclass(frozen=True, slots=True)
class Show:
    """What became of every workload, and the Pods that were still there a while after all namespaces were deleted."""

    outcomes: dict[str, Outcomes]
    left: list[str]


async def run_all(stage: Stage, workloads: Iterable[Workload]) -> Show:
    """Run the workloads both ways; all their Pods are gone afterwards."""
    tag = uuid.uuid4().hex[:5]
    async with _watched(stage) as (virtual, physical):
        directly = Way("directly", physical, physical, (stage.node,), {"HOST_PORT": "18080"})
        virtually = Way("through the virtual node", virtual, physical, (stage.vnode,), {"HOST_PORT": "18081"})
        turns = asyncio.Semaphore(AT_ONCE)

        async def both(workload: Workload) -> Outcomes:
            play = PLAYS.get(workload.name)
            async with turns:
                if workload.expect.only:
                    return Outcomes(None, await perform(workload, virtually, tag, play))
                direct, virtual = await asyncio.gather(*(perform(workload, way, tag, play) for way in (directly, virtually)))
                return Outcomes(direct, virtual)

        every = list(workloads)
        found: dict[str, Outcomes] = {}
        for crowd in (False, True):  # the large ones have the node to themselves
            chosen = [workload for workload in every if (workload.expect.pods == 50) is crowd]
            outcomes = await asyncio.gather(*map(both, chosen))
            found |= {workload.name: outcome for workload, outcome in zip(chosen, outcomes, strict=True)}
        return Show(found, await _all_gone(virtual, physical, {namespace_of_run(workload, tag) for workload in every}))


async def _all_gone(virtual: Cluster, physical: Cluster, namespaces: set[str]) -> list[str]:
    """Wait until no Pod of these namespaces and no twin of one is left; return those that are, after all."""
    def left() -> list[str]:
        found = [f"{cluster.client.cluster}: {key_of(pod)}" for cluster in (virtual, physical) for pod in cluster.every_pod()
                 if {namespace_of(pod), annotations_of(pod).get(names.VIRTUAL_POD_NAMESPACE_ANNOTATION)} & namespaces]
        return sorted(found)

    with suppress(AssertionError):
        await virtual.until(lambda: not left(), within=GOING, what=lambda: "Pods are left")
    return left()


@asynccontextmanager
async def _watched(stage: Stage) -> AsyncIterator[tuple[Cluster, Cluster]]:
    """Have both clusters watched, and a StorageClass in both; in the physical one somebody stands behind it."""
    virtual, physical = Cluster(stage.virtual), Cluster(stage.physical)
    for cluster in (physical, virtual):
        with suppress(AlreadyExists):
            await cluster.client.create(STORAGECLASSES, build_class())
    async with asyncio.TaskGroup() as group:
        lasting = [cluster.watching() for cluster in (virtual, physical)] + [provide(stage.physical, stage.disk)]
        tasks = [group.create_task(each) for each in lasting]
        yield virtual, physical
        for task in tasks:
            task.cancel()
