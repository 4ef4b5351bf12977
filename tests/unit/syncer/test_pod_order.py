"""Which Pod is looked at first: what happens now before what a start, or an edited binding, has everybody look at again."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.kube.resources import PODS
from tests.unit.syncer.test_pod_proofs import Case
from tests.unit.syncer.world import World

pytestmark = pytest.mark.looptime
EXISTING = [ObjectKey("ns", f"old-{number}") for number in range(3)]


@pytest.fixture
async def case() -> AsyncIterator[Case]:
    """Three Pods on a leased node, and a Pod controller that has begun to listen but has no workers yet."""
    world = World()
    async with world.leading():
        await asyncio.sleep(0.2)
    for key in EXISTING:
        world.pod(key.name)
    await asyncio.sleep(0.1)
    made = Case(world)
    made.pods.attach()
    yield made
    made.pods.pairing.stop_listening()


async def order(case: Case) -> list[str]:
    queue = case.pods.controller.queue
    keys = [await queue.get() for _ in range(len(queue))]
    for key in keys:
        queue.done(key)
    return [key.name for key in keys]


def as_stored(case: Case, key: ObjectKey) -> Json:
    return case.world.virtual_server.find(PODS, key.name, key.namespace)


async def test_a_new_pod_comes_before_those_that_a_start_finds(case: Case) -> None:
    case.world.pod("new")
    await asyncio.sleep(0.1)
    assert await order(case) == ["new", "old-0", "old-1", "old-2"]


async def test_a_namespace_with_many_pods_does_not_keep_another_one_waiting(case: Case) -> None:
    await order(case)
    for number in range(50):
        case.pods.controller.enqueue(ObjectKey("crowded", f"one-of-many-{number}"))
    case.pods.controller.enqueue(ObjectKey("quiet", "alone"))
    assert (await order(case)).index("alone") <= 1


async def test_what_happens_to_a_pod_that_a_start_has_found_moves_it_up(case: Case) -> None:
    changed = as_stored(case, EXISTING[2])
    case.world.virtual_server.put(PODS, {**changed, "status": {"phase": "Failed"}})
    await asyncio.sleep(0.1)
    assert await order(case) == ["old-2", "old-0", "old-1"]


async def test_an_edited_binding_has_everybody_looked_at_after_what_happens_now(case: Case) -> None:
    await order(case)
    case.pods.enqueue_all()
    case.world.pod("new")
    await asyncio.sleep(0.1)
    assert await order(case) == ["new", "old-0", "old-1", "old-2"]


async def test_what_a_list_after_a_gap_brings_can_wait(case: Case) -> None:
    await order(case)
    informer = case.world.virtual.pods
    informer.list_begins()
    for key in EXISTING:
        stored = as_stored(case, key)
        missed = {**stored["metadata"], "resourceVersion": str(int(stored["metadata"]["resourceVersion"]) + 100)}
        informer.put({**stored, "metadata": missed})
    informer.list_ends(1000)
    case.pods.controller.enqueue(ObjectKey("ns", "now"))
    assert await order(case) == ["now", "old-0", "old-1", "old-2"]
