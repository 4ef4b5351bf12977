"""The patrol: finds what no event told, has its controller look, writes nothing by itself, and is quiet about the rest."""

import asyncio
import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from prometheus_client import REGISTRY

from kubeocean.api import names
from kubeocean.domain.findings import Kind
from kubeocean.kube.informer import Informer
from kubeocean.kube.meta import ObjectKey
from kubeocean.kube.resources import (
    CONFIGMAPS,
    NETWORKPOLICIES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    SERVICES,
    Resource,
)
from kubeocean.syncer import patrol as patrol_module
from kubeocean.syncer.bottomup.leases import LeaseKeeper
from kubeocean.syncer.bottomup.nodes import NodeController
from kubeocean.syncer.patrol import PAUSE, SLICE, Patrol, _unhurried
from kubeocean.syncer.topdown.claims import ClaimSource
from kubeocean.syncer.topdown.netpolicies import NetworkPolicyMirror
from kubeocean.syncer.topdown.objects import ObjectSource
from kubeocean.syncer.topdown.services import ServiceMirror
from kubeocean.syncer.topdown.strays import StrayController
from tests.unit.syncer.test_pod_proofs import KEY, Case, with_twin
from tests.unit.syncer.world import Server, World

pytestmark = pytest.mark.looptime
MANY = 1000
T = TypeVar("T")


@pytest.fixture
async def case() -> Case:
    world = World()
    made = await with_twin(world)
    twin = made.twin()
    assert twin is not None
    world.physical_server.put(PODS, {**twin, "spec": {**twin["spec"], "nodeName": "node-1"}, "status": {"phase": "Running"}})
    await asyncio.sleep(0.1)
    await made.run()
    await made.run()
    return made


def patrol_of(case: Case) -> tuple[Patrol, StrayController]:
    strays = StrayController(case.pods.pairing, case.pods.controller.enqueue)
    nodes = NodeController(case.pods.pairing, LeaseKeeper(case.pods.pairing))
    return Patrol(case.pods.pairing, case.pods, strays, nodes), strays


def counted(kind: Kind) -> float:
    return REGISTRY.get_sample_value("kubeocean_syncer_orphans_total", {"clusterbinding": "lender", "kind": kind}) or 0.0


async def test_where_both_sides_agree_it_asks_and_writes_nothing(case: Case) -> None:
    patrol, _ = patrol_of(case)
    world = case.world
    before = len(world.virtual_server.writes), len(world.physical_server.writes)
    assert await patrol.round() == set()
    assert (len(world.virtual_server.writes), len(world.physical_server.writes)) == before
    assert len(case.pods.controller.queue) == 0


async def test_an_orphan_is_queued_and_counted_once(case: Case) -> None:
    patrol, _ = patrol_of(case)
    known, twin = counted(Kind.ORPHAN_TWIN), case.twin()
    case.world.virtual_server.remove(PODS, KEY)
    await asyncio.sleep(0.1)
    (suspect,) = await patrol.round()
    assert (suspect.kind, suspect.reason, suspect.key) == (Kind.ORPHAN_TWIN, "NoVirtualPod", KEY)
    assert await case.pods.controller.queue.get() == KEY
    case.pods.controller.queue.done(KEY)
    assert case.twin() == twin, "the patrol itself takes nothing away"
    await patrol.round()
    assert counted(Kind.ORPHAN_TWIN) == known + 1
    await case.run()
    await asyncio.sleep(60)
    assert case.twin() is None, "its controller has proved that the virtual Pod is gone"
    assert await patrol.round() == set()


async def test_what_it_finds_can_wait_for_what_happens_now(case: Case) -> None:
    patrol, _ = patrol_of(case)
    case.world.virtual_server.remove(PODS, KEY)
    await asyncio.sleep(0.1)
    await patrol.round()
    now = ObjectKey(KEY.namespace, "now")
    case.pods.controller.enqueue(now)
    assert [await case.pods.controller.queue.get() for _ in range(2)] == [now, KEY]


async def test_it_rests_after_each_slice_of_work() -> None:
    now = asyncio.get_running_loop().time
    began, worked = now(), 0.0
    async for _ in _unhurried(range(1000)):
        await asyncio.sleep(SLICE / 10)  # stands for work
        worked += SLICE / 10
    rested = now() - began - worked
    assert rested == pytest.approx(worked / SLICE * PAUSE, rel=0.15), "others have the loop for most of the time"


async def test_a_pod_that_was_bound_a_moment_ago_is_left_to_its_controller(case: Case) -> None:
    patrol, _ = patrol_of(case)
    vpod = copy.deepcopy(case.vpod())
    assert vpod is not None
    late = ObjectKey(KEY.namespace, "late")
    vpod["metadata"] = {"name": late.name, "namespace": late.namespace}
    vpod["status"] = {"phase": "Pending"}
    case.world.virtual_server.put(PODS, vpod)
    await asyncio.sleep(0.1)
    assert await patrol.round() == set()
    await asyncio.sleep(30)
    (suspect,) = await patrol.round()
    assert (suspect.kind, suspect.key) == (Kind.MISSING_TWIN, late)


def fill(server: Server, resource: Resource, informer: Informer[Any], **content: Any) -> None:
    """Have a cache hold MANY objects."""
    server.serve(resource, informer)
    for number in range(MANY):
        metadata = {"name": f"{resource.plural}-{number}", **({"namespace": "ns"} if resource.namespaced else {})}
        server.put(resource, {"metadata": metadata, **content})


def sources_of(case: Case) -> list[Any]:
    return [*case.pods.dependencies.sources, *case.pods.dependencies.gates]


def the(kind: type[T], case: Case) -> T:
    return next(each for each in sources_of(case) if isinstance(each, kind))


def have_synced(*informers: Informer[Any]) -> None:
    for informer in informers:
        informer.list_begins()
        informer.list_ends(0)


def many_policies(case: Case, _: pytest.MonkeyPatch) -> None:
    have_synced(the(NetworkPolicyMirror, case).copies.informer)
    fill(case.world.virtual_server, NETWORKPOLICIES, case.world.virtual.network_policies, spec={"podSelector": {}})


def many_services(case: Case, _: pytest.MonkeyPatch) -> None:
    mirror, pairing = the(ServiceMirror, case), case.pods.pairing
    have_synced(mirror.services.informer, mirror.slices.informer)
    pairing.spec = pairing.spec.model_copy(update={"service_namespaces": ["ns"]})
    fill(case.world.virtual_server, SERVICES, case.world.virtual.services, spec={"type": "ExternalName"})


def many_configmaps(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = the(ObjectSource, case).keeper
    for question in ("_in_use", "_in_order"):
        monkeypatch.setattr(keeper, question, lambda _: True)
    have_synced(keeper.marked, keeper.copies)
    fill(case.world.virtual_server, CONFIGMAPS, keeper.marked)


def many_claims(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    source = the(ClaimSource, case)
    monkeypatch.setattr(source, "_open", True)
    fill(case.world.physical_server, PERSISTENTVOLUMECLAIMS, source.storage.claims, spec={})


def many_nodes(case: Case, _: pytest.MonkeyPatch) -> None:
    status = {"allocatable": {"cpu": "8", "pods": "110"}, "conditions": []}
    labels = {"type": "virtual-kubelet"}
    for number in range(MANY):
        metadata = {"name": f"other-{number}", "labels": labels}
        case.world.physical_server.put(NODES, {"metadata": metadata, "spec": {}, "status": status})


@pytest.mark.parametrize("have", [many_policies, many_services, many_configmaps, many_claims, many_nodes])
async def test_it_rests_between_things_that_are_all_in_order(
    case: Case, monkeypatch: pytest.MonkeyPatch, have: Callable[[Case, pytest.MonkeyPatch], None]
) -> None:
    have(case, monkeypatch)
    await asyncio.sleep(0.1)
    rests: list[float] = []
    looks = iter(range(1_000_000))

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    # A clock by which each look takes a tenth of a slice.
    loop = SimpleNamespace(time=lambda: next(looks) * SLICE / 10)
    monkeypatch.setattr(patrol_module, "asyncio", SimpleNamespace(get_running_loop=lambda: loop, sleep=rest))
    patrol, _ = patrol_of(case)
    assert await patrol.round() == set()
    assert rests.count(PAUSE) >= MANY / 20


async def test_a_lost_twin_is_queued(case: Case) -> None:
    patrol, _ = patrol_of(case)
    case.world.physical_server.remove(PODS, case.twin_key)
    await asyncio.sleep(0.1)
    (suspect,) = await patrol.round()
    assert (suspect.kind, suspect.key) == (Kind.LOST_TWIN, KEY)
    await case.run()
    vpod = case.vpod()
    assert vpod is not None
    assert vpod["status"]["reason"] == names.PHYSICAL_POD_LOST


async def test_a_copied_manifest_goes_to_whoever_removes_strays(case: Case) -> None:
    patrol, strays = patrol_of(case)
    second = copy.deepcopy(case.twin())
    assert second is not None
    second["metadata"] |= {"name": "copied", "uid": "p-2"}
    case.world.physical_server.put(PODS, second)
    await asyncio.sleep(0.1)
    (suspect,) = await patrol.round()
    assert (suspect.kind, suspect.place and suspect.place.name) == (Kind.SECOND_TWIN, "copied")
    assert len(case.pods.controller.queue) == 0
    assert await strays.controller.queue.get() == "all"


async def test_a_stray_that_is_somebody_elses_by_now_is_left_alone(case: Case) -> None:
    _, strays = patrol_of(case)
    mine, theirs = copy.deepcopy(case.twin()), copy.deepcopy(case.twin())
    assert mine is not None
    assert theirs is not None
    mine["metadata"] |= {"name": "mine", "uid": "p-2"}
    theirs["metadata"] |= {"name": "theirs", "uid": "p-3"}
    server = case.world.physical_server
    for pod in (mine, theirs):
        server.put(PODS, pod)
    await asyncio.sleep(0.1)
    theirs["metadata"]["annotations"] = {names.OWNER_ANNOTATION: "virtual-uid/another"}
    server.put(PODS, theirs)  # our cache has not seen that yet
    await strays.reconcile("all")
    await asyncio.sleep(60)
    assert ("pods", ObjectKey("mount", "mine")) not in server.objects
    assert "deletionTimestamp" not in server.find(PODS, "theirs", "mount")["metadata"]


async def test_what_settles_between_two_looks_is_no_suspect(case: Case) -> None:
    patrol, _ = patrol_of(case)
    vpod = case.vpod()
    case.world.virtual_server.remove(PODS, KEY)
    await asyncio.sleep(0.1)
    looking = asyncio.create_task(patrol.round())
    await asyncio.sleep(2)
    assert vpod is not None
    case.world.virtual_server.put(PODS, vpod)
    assert await looking == set()
    assert len(case.pods.controller.queue) == 0


async def test_it_does_not_judge_by_what_it_cannot_see(case: Case) -> None:
    patrol, _ = patrol_of(case)
    case.world.virtual_server.remove(PODS, KEY)
    case.pods.pairing.unbinding = True
    going = asyncio.create_task(patrol.run())
    await asyncio.sleep(1000)
    assert len(case.pods.controller.queue) == 0
    case.pods.pairing.unbinding = False
    await asyncio.sleep(200)
    assert len(case.pods.controller.queue) == 1
    going.cancel()
