"""What caches lack is no proof: each test takes something away and expects that nobody's Pod suffers for it."""

import asyncio
from datetime import timedelta
from typing import cast

import pytest

from kubeocean.clusters.identity import ClusterIdentityChanged
from kubeocean.domain.naming import physical_name
from kubeocean.kube.errors import ServerError
from kubeocean.kube.events import EventRecorder
from kubeocean.kube.meta import Json, ObjectKey, format_time, uid_of
from kubeocean.kube.resources import NAMESPACES, NODES, PODS
from kubeocean.syncer.pairing import Pairing, SyncerOptions
from kubeocean.syncer.pods import PodController
from tests.unit.syncer.world import SPEC, World

pytestmark = pytest.mark.looptime
KEY = ObjectKey("ns", "web")


class Case:
    """One virtual Pod on a leased node, and the Pod controller, driven pass by pass."""

    def __init__(self, world: World) -> None:
        self.world = world
        pairing = Pairing(
            "lender", "binding-uid", SPEC, world.physical.owner, world.virtual, world.physical, cast(EventRecorder, world),
            SyncerOptions(), clock=world.now, real_time=world.now,
        )
        self.pods = PodController(pairing)
        world.physical_server.put(NAMESPACES, {"metadata": {"name": "mount"}})
        self.twin_key = ObjectKey("mount", physical_name("web", "ns"))

    async def run(self, key: ObjectKey = KEY) -> None:
        await self.pods.reconcile(key)
        await asyncio.sleep(0.1)

    def twin(self) -> Json | None:
        return self.world.physical_server.objects.get(("pods", self.twin_key))

    def vpod(self) -> Json | None:
        return self.world.virtual_server.objects.get(("pods", KEY))


async def with_twin(world: World) -> Case:
    """Lease the node, bind the Pod to it, and have its twin made."""
    async with world.leading():
        await asyncio.sleep(0.2)
    world.pod("web")
    made = Case(world)
    await asyncio.sleep(0.1)
    await made.run()
    assert made.twin() is not None
    return made


@pytest.fixture
async def case() -> Case:
    return await with_twin(World())


async def test_a_twin_survives_the_loss_of_its_virtual_node(case: Case) -> None:
    server = case.world.virtual_server
    server.remove(NODES, ObjectKey("", "vnode-edge-node-1"))
    await asyncio.sleep(0.1)
    await case.run()
    twin = case.twin()
    assert twin is not None
    assert "deletionTimestamp" not in twin["metadata"]


async def test_a_twin_goes_when_its_virtual_pod_was_removed_by_force(case: Case) -> None:
    case.world.virtual_server.remove(PODS, KEY)
    await asyncio.sleep(0.1)
    await case.run()
    assert case.twin() is None


async def test_nothing_is_deleted_when_the_virtual_cluster_became_another(case: Case) -> None:
    server = case.world.virtual_server
    server.put(NAMESPACES, {"metadata": {"name": "kube-system", "uid": "rebuilt-empty"}})
    server.remove(PODS, KEY)
    await asyncio.sleep(0.1)
    with pytest.raises(ClusterIdentityChanged):
        await case.run()
    assert case.twin() is not None


async def test_a_twin_that_found_a_node_unseen_is_not_given_up(case: Case) -> None:
    physical = case.world.physical_server
    twin = case.twin()
    assert twin is not None
    old = {**twin, "metadata": {**twin["metadata"], "creationTimestamp": format_time(case.world.now() - timedelta(minutes=9))}}
    physical.put(PODS, old)
    await asyncio.sleep(0.1)
    await case.run()  # the mapping is written first
    # The watch is cut: what happens from here on is in the cluster, not in the cache.
    del physical.informers["pods"]
    physical.put(PODS, {**old, "spec": {**old["spec"], "nodeName": "node-1"}})
    await case.run()
    vpod = case.vpod()
    assert vpod is not None
    assert vpod["status"]["phase"] == "Running"
    assert case.twin() is not None


async def test_the_last_words_of_a_twin_are_heard_though_writing_them_fails_at_first(
    case: Case, monkeypatch: pytest.MonkeyPatch,
) -> None:
    case.pods.attach()
    physical, twin = case.world.physical_server, case.twin()
    assert twin is not None
    physical.put(PODS, {**twin, "status": {"phase": "Running", "podIP": "10.1.1.1"}})
    await asyncio.sleep(0.1)
    await case.run()  # notes the twin
    physical.put(PODS, {**twin, "status": {"phase": "Succeeded"}})
    physical.remove(PODS, case.twin_key)
    await asyncio.sleep(0.1)
    with monkeypatch.context() as broken:
        broken.setattr(case.world.virtual_server, "patch", refuse)
        with pytest.raises(ServerError):
            await case.run()
    await case.run()
    await case.run()
    vpod = case.vpod()
    assert vpod is not None
    assert vpod["status"]["phase"] == "Succeeded"


async def refuse(*_: object, **__: object) -> Json:
    raise ServerError("no", status=500)


async def test_a_twin_without_a_node_is_given_up_in_the_end(case: Case) -> None:
    twin = case.twin()
    assert twin is not None
    created = format_time(case.world.now() - timedelta(minutes=9))
    case.world.physical_server.put(PODS, {**twin, "metadata": {**twin["metadata"], "creationTimestamp": created}})
    await asyncio.sleep(0.1)
    for _ in range(3):
        await case.run()
    vpod = case.vpod()
    assert vpod is not None
    assert (vpod["status"]["phase"], vpod["status"]["reason"]) == ("Failed", "FailedSchedulingPod")
    assert case.twin() is None


async def test_while_unbinding_no_twin_is_made(case: Case) -> None:
    case.pods.pairing.unbinding = True
    case.world.pod("late")
    await asyncio.sleep(0.1)
    await case.run(ObjectKey("ns", "late"))
    assert ("pods", ObjectKey("mount", physical_name("late", "ns"))) not in case.world.physical_server.objects


async def test_a_released_pod_that_a_finalizer_keeps_ends_first(case: Case) -> None:
    vpod = case.vpod()
    assert vpod is not None
    held = {**vpod, "metadata": {**vpod["metadata"], "finalizers": ["batch.kubernetes.io/job-tracking"]}}
    case.world.virtual_server.put(PODS, held)
    twin = case.twin()
    assert twin is not None
    await asyncio.sleep(0.1)
    await case.run()
    doomed = case.vpod()
    assert doomed is not None
    metadata = {**doomed["metadata"], "deletionTimestamp": format_time(case.world.now()), "deletionGracePeriodSeconds": 30}
    case.world.virtual_server.put(PODS, {**doomed, "metadata": metadata})
    case.world.physical_server.remove(PODS, case.twin_key)
    await asyncio.sleep(0.1)
    await case.run()
    kept = case.vpod()
    assert kept is not None
    assert uid_of(kept) == uid_of(vpod)
    assert kept["status"]["phase"] == "Failed"
