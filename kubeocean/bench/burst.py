"""Many Pods at once: sent, until all of them run; deleted, until all of them are gone.

The same two functions measure the direct way and the federated one, so that nothing but the way differs. The clock runs
from the first request to the moment the news of the last Pod arrives at a watch of our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from time import monotonic

from kubeocean.bench.flight import CALL_DEADLINE, in_flight
from kubeocean.bench.podwatch import RUNNING, PodWatch, until
from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json, name_of, namespace_of, uid_of
from kubeocean.kube.resources import PODS


def patience(pods: int) -> float:
    """Return after how many seconds a burst is given up: far beyond any figure worth having."""
    return 90.0 + 0.5 * pods


async def create_all(client: Client, pods: Sequence[Json]) -> tuple[list[Json], float]:
    """Create `pods` and return them, with the seconds until the last one was seen Running in the same cluster."""
    left = set(map(name_of, pods))

    def take(_: str, pod: Json, __: float) -> None:
        left.discard(name_of(pod))

    async with PodWatch(client, namespace_of(pods[0]), take, kinds=("ADDED",), field_selector=RUNNING) as watch:
        began = monotonic()
        created = await in_flight(pods, lambda pod: client.create(PODS, pod, deadline=CALL_DEADLINE))
        ended = await until(
            [watch], lambda: not left, within=patience(len(pods)),
            what=lambda: f"all Pods run in {client.cluster}; {len(left)} of {len(pods)} do not, such as {min(left)}",
        )
    return created, ended - began


async def delete_all(client: Client, pods: Sequence[Json], twins: Sequence[tuple[Client, str]] = ()) -> float:
    """Delete `pods` and return the seconds until they are gone, and their twins too.

    twins: the physical clusters and the namespaces in them where the twins are, one of each Pod in one of them.
    """
    namespace = namespace_of(pods[0])
    left = {"pods": len(pods), "twins": len(pods) if twins else 0}

    def watch(where: str, client: Client, namespace: str) -> PodWatch:
        def take(*_: object) -> None:
            left[where] -= 1

        return PodWatch(client, namespace, take, kinds=("DELETED",))

    async with AsyncExitStack() as stack:
        watches = [await stack.enter_async_context(watch("pods", client, namespace))]
        watches += [await stack.enter_async_context(watch("twins", *each)) for each in twins]
        began = monotonic()
        await in_flight(pods, lambda pod: client.delete(
            PODS, name_of(pod), namespace, uid=uid_of(pod), deadline=CALL_DEADLINE
        ))
        ended = await until(
            watches, lambda: not any(left.values()), within=patience(len(pods)),
            what=lambda: f"all Pods are gone; still there: {left['pods']} in {client.cluster}, {left['twins']} twins",
        )
    return ended - began
