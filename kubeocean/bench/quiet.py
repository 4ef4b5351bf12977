"""Quiet: ten Pods a second, far below what the machine can do, so that a latency is one of Kubeocean and not of a queue.

Seen twice: by watches of our own on both sides, which add their own delay, and in the audit logs (see `pipeline`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from time import monotonic

from kubeocean.bench.burst import delete_all, patience
from kubeocean.bench.flight import CALL_DEADLINE
from kubeocean.bench.percentiles import spread
from kubeocean.bench.pipeline import trace
from kubeocean.bench.podwatch import PodWatch, until
from kubeocean.bench.results import Observed, Quiet
from kubeocean.bench.rig import Rig
from kubeocean.bench.workload import build_pod, pod_names
from kubeocean.domain.naming import physical_name
from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json, name_of
from kubeocean.kube.resources import PODS

PER_SECOND = 10


class Observer:
    """Notes when the news of each station of each Pod first arrived, by the name of the Pod or of its twin."""

    def __init__(self) -> None:
        self.bound: dict[str, float] = {}
        self.mirrored: dict[str, float] = {}
        self.twin: dict[str, float] = {}
        self.running: dict[str, float] = {}

    def take_virtual(self, _: str, pod: Json, moment: float) -> None:
        """See a virtual Pod."""
        if pod["spec"].get("nodeName"):
            self.bound.setdefault(name_of(pod), moment)
        if (pod.get("status") or {}).get("phase") == "Running":
            self.mirrored.setdefault(name_of(pod), moment)

    def take_physical(self, _: str, pod: Json, moment: float) -> None:
        """See a twin."""
        self.twin.setdefault(name_of(pod), moment)
        if (pod.get("status") or {}).get("phase") == "Running":
            self.running.setdefault(name_of(pod), moment)

    def summary(self, namespace: str) -> Observed:
        """Return what was seen of the Pods of virtual `namespace`."""
        twins = {name: physical_name(name, namespace) for name in self.bound}
        return Observed(
            spread(self.twin[twins[name]] - moment for name, moment in self.bound.items() if twins[name] in self.twin),
            spread(
                moment - self.running[twins[name]] for name, moment in self.mirrored.items() if twins[name] in self.running
            ),
        )


async def measure_quiet(
    rig: Rig, namespace: str, twins: Sequence[tuple[Client, str]], *, seconds: float, token: bool
) -> Quiet:
    """Create Pods at an even pace for `seconds`, and remove them again when all figures are taken."""
    observer = Observer()
    names = pod_names("quiet", max(1, round(PER_SECOND * seconds)))
    async with AsyncExitStack() as stack:
        watches = [await stack.enter_async_context(PodWatch(rig.virtual, namespace, observer.take_virtual))]
        watches += [await stack.enter_async_context(PodWatch(*each, observer.take_physical)) for each in twins]
        rig.meter.start()
        created = await _at_an_even_pace(rig.virtual, [build_pod(name, namespace, token=token) for name in names])
        await until(
            watches, lambda: len(observer.mirrored) >= len(names), within=patience(len(names)),
            what=lambda: f"all Pods are mirrored; {len(names) - len(observer.mirrored)} of {len(names)} are not",
        )
        await rig.meter.settle()
        reading = rig.meter.stop()
    await delete_all(rig.virtual, created, twins)
    pipeline = trace(reading.virtual, reading.physical, namespace)
    return Quiet(pipeline, observer.summary(namespace), reading.phase)


async def _at_an_even_pace(client: Client, pods: Sequence[Json]) -> list[Json]:
    # Each in a task of its own: a slow answer must not delay the next Pod, or the pace would hide what is slow.
    began = monotonic()
    async with asyncio.TaskGroup() as tasks:
        calls = []
        for number, pod in enumerate(pods):
            await asyncio.sleep(max(0.0, began + number / PER_SECOND - monotonic()))
            calls.append(tasks.create_task(client.create(PODS, pod, deadline=CALL_DEADLINE)))
    return [call.result() for call in calls]
