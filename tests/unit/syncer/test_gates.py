"""What a Pod waits for although it does not name it: Services for a while, network policies for as long as it takes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from kubeocean.domain.naming import physical_name
from kubeocean.kube.errors import Forbidden, ServerError
from kubeocean.kube.events import EventRecorder
from kubeocean.kube.informer import Informer
from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.kube.patch import apply_merge
from kubeocean.kube.resources import ENDPOINTSLICES, NETWORKPOLICIES, NODES, PODS, SERVICES, Resource
from kubeocean.syncer.pairing import Pairing, SyncerOptions
from kubeocean.syncer.topdown.dependencies import Blocked
from kubeocean.syncer.topdown.netpolicies import KEPT, NetworkPolicyMirror
from kubeocean.syncer.topdown.services import ServiceMirror
from tests.unit.syncer.world import SPEC, Server, World, meanwhile

pytestmark = pytest.mark.looptime
WEB = ObjectKey("ns", "web")
COPY = ObjectKey("mount", physical_name("web", "ns"))
POD: Json = {"metadata": {"name": "pod", "namespace": "ns", "uid": "uid-pod", "labels": {"app": "web"}}}


class Case:
    """Both mirrors of one binding whose list has namespace "ns", with their caches fed by the servers in memory."""

    def __init__(self, world: World) -> None:
        self.world, self.woken = world, list[ObjectKey]()
        spec = SPEC.model_copy(update={"service_namespaces": ["ns"]})
        self.pairing = Pairing(
            "lender", "binding-uid", spec, world.physical.owner, world.virtual, world.physical, cast(EventRecorder, world),
            SyncerOptions(), clock=world.now, real_time=world.now,
        )
        self.services = ServiceMirror(self.pairing, self.woken.append)
        self.policies = NetworkPolicyMirror(self.pairing, self.woken.append)
        self.feed(world.virtual_server, SERVICES, world.virtual.services)
        self.feed(world.virtual_server, NETWORKPOLICIES, world.virtual.network_policies)
        self.feed(world.physical_server, SERVICES, self.services.services.informer)
        self.feed(world.physical_server, ENDPOINTSLICES, self.services.slices.informer)
        self.feed(world.physical_server, NETWORKPOLICIES, self.policies.copies.informer)

    def feed(self, server: Server, resource: Resource, informer: Informer[Any]) -> None:
        informer.list_begins()
        informer.list_ends(0)
        server.serve(resource, informer)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        gates = (self.services, self.policies)
        for gate in gates:
            gate.attach()
        self.world.virtual_server.put(NODES, {"metadata": {"name": "vnode-edge-node-1", "labels": {
            "kubeocean.io/managed-by": "kubeocean", "kubeocean.io/physical-cluster-id": "edge", "type": "virtual-kubelet",
            "kubeocean.io/physical-node-name": "node-1",
        }, "annotations": {"kubeocean.io/physical-node-name": "node-1"}}, "spec": {}, "status": {}})
        tasks = [asyncio.create_task(gate.controller.run()) for gate in gates]
        try:
            await asyncio.sleep(0.1)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.pairing.stop_listening()

    def put(self, resource: Resource, **spec: Any) -> Json:
        return self.world.virtual_server.put(resource, {"metadata": {"name": "web", "namespace": "ns"}, "spec": spec})

    def copy(self, resource: Resource) -> Json | None:
        return self.world.physical_server.objects.get((resource.plural, COPY))

    def is_ready(self) -> bool:
        return self.services.check(POD) is None and self.policies.check(POD) is None


def remembered(mirror: NetworkPolicyMirror, what: str) -> int:
    """Return of how many a mirror remembers something."""
    return len(getattr(mirror, what))


@pytest.fixture
async def case() -> Case:
    return Case(World())


def assign_address(case: Case) -> None:
    """Do what the server does with a Service when it is created."""
    copy = case.copy(SERVICES)
    assert copy is not None
    case.world.physical_server.put(SERVICES, {**copy, "spec": {**copy["spec"], "clusterIP": "172.20.0.7"}})


async def test_a_pod_waits_for_a_service_on_its_way_and_is_then_told_where_it_is(case: Case) -> None:
    async with case.working():
        case.put(SERVICES, type="ClusterIP", clusterIP="10.96.0.7")
        await asyncio.sleep(0.01)
        assert case.services.check(POD) == Blocked()
        await asyncio.sleep(0.1)
        assert not case.woken
        assign_address(case)
        await asyncio.sleep(0.1)
        assert case.woken == [ObjectKey("ns", "pod")]
        assert case.is_ready()
        around = case.pairing.surroundings("ns")
        assert [service["spec"]["clusterIP"] for service in around.services] == ["172.20.0.7"]
        assert around.host_aliases == (("172.20.0.7", ("web", "web.ns", "web.ns.svc", "web.ns.svc.cluster.local")),)
        written = len(case.world.physical_server.writes)
        case.services.controller.enqueue(WEB)
        await asyncio.sleep(0.1)
        assert len(case.world.physical_server.writes) == written


async def test_a_service_that_never_gets_an_address_holds_nobody_for_longer_than_ten_seconds(case: Case) -> None:
    async with case.working():
        case.put(SERVICES, type="ClusterIP", clusterIP="10.96.0.7")
        await asyncio.sleep(9)
        assert case.services.check(POD) == Blocked()
        await asyncio.sleep(2)
        assert case.woken == [ObjectKey("ns", "pod")]
        assert case.is_ready()


async def test_somebody_who_makes_services_all_the_time_holds_a_pod_no_longer_than_the_first_of_them(case: Case) -> None:
    async with case.working():
        case.world.pod("pod")
        waited = 0
        for number in range(20):
            metadata = {"name": f"web-{number}", "namespace": "ns"}
            spec = {"type": "ClusterIP", "clusterIP": f"10.96.1.{number}"}
            case.world.virtual_server.put(SERVICES, {"metadata": metadata, "spec": spec})
            await asyncio.sleep(1)
            if case.services.check(POD) is None:
                break
            waited += 1
        assert waited == 10
        assert case.woken == [ObjectKey("ns", "pod")]


@pytest.mark.parametrize("alive", [True, False])
async def test_a_mirror_goes_only_when_its_service_is_proved_gone(case: Case, *, alive: bool) -> None:
    service = case.put(SERVICES, type="ClusterIP", clusterIP="10.96.0.7")
    async with case.working():
        await asyncio.sleep(0.1)
        assign_address(case)
        await asyncio.sleep(0.1)
        if not alive:
            del case.world.virtual_server.objects["services", WEB]
        # A list that lacks it: no server said DELETED.
        informer = case.world.virtual.services
        informer.list_begins()
        informer.list_ends(int(service["metadata"]["resourceVersion"]))
        await asyncio.sleep(0.5)
        assert (case.copy(SERVICES) is not None) is alive


async def test_a_namespace_that_leaves_the_list_takes_its_mirrors_along(case: Case) -> None:
    case.put(SERVICES, type="ClusterIP", clusterIP="10.96.0.7")
    async with case.working():
        await asyncio.sleep(0.1)
        assert case.copy(SERVICES) is not None
        case.pairing.spec = SPEC
        case.services.spec_changed()
        await asyncio.sleep(0.1)
        assert case.copy(SERVICES) is None
        assert case.is_ready()


async def test_a_pod_waits_until_the_policy_that_selects_it_is_in_force_and_others_do_not(case: Case) -> None:
    case.put(NETWORKPOLICIES, podSelector={"matchLabels": {"app": "web"}}, policyTypes=["Ingress"])
    async with case.working():
        assert case.policies.check({"metadata": {"name": "other", "namespace": "ns"}}) is None
        assert case.copy(NETWORKPOLICIES) is None, "nobody needs it so far"
        assert case.policies.check(POD) == Blocked()
        await asyncio.sleep(0.1)
        assert case.copy(NETWORKPOLICIES) is not None
        assert case.woken == [ObjectKey("ns", "pod")]
        assert case.is_ready()
        case.put(NETWORKPOLICIES, podSelector={}, policyTypes=["Egress"])
        await asyncio.sleep(0.006)
        assert case.policies.check(POD) == Blocked(), "what it says now is not in force yet"
        await asyncio.sleep(0.1)
        assert case.is_ready()


async def test_a_policy_that_is_refused_holds_the_pods_it_selects_and_lets_them_go_when_it_is_not(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.put(NETWORKPOLICIES, podSelector={}, policyTypes=["Ingress"])

    async def refuse(*_: Any, **__: Any) -> Json:
        raise Forbidden("may not create networkpolicies", cluster="lender", status=403)

    async with case.working():
        with monkeypatch.context() as patched:
            patched.setattr(case.world.physical_server, "create", refuse)
            assert case.policies.check(POD) == Blocked()
            await asyncio.sleep(0.1)
            assert case.woken == [ObjectKey("ns", "pod")], "to say what it waits for"
            blocked = case.policies.check(POD)
            assert blocked is not None
            assert blocked.reason == "NetworkPolicyNotEnforced"
            assert "may not create networkpolicies" in blocked.message
            await asyncio.sleep(40)
            assert case.world.reasons("NetworkPolicy") == ["NetworkPolicyNotEnforced"], "once"
        await asyncio.sleep(40)
        assert case.is_ready()
        assert len(case.woken) == 2


async def test_a_policy_that_no_answer_of_the_server_lets_through_is_told_after_the_third(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.put(NETWORKPOLICIES, podSelector={}, policyTypes=["Ingress"])

    async def fail(*_: Any, **__: Any) -> Json:
        raise ServerError("failed calling webhook", cluster="lender", status=500)

    monkeypatch.setattr(case.world.physical_server, "create", fail)
    async with case.working():
        case.policies.check(POD)
        await asyncio.sleep(0.5)
        assert case.world.reasons("NetworkPolicy") == []
        await asyncio.sleep(60)
        assert case.world.reasons("NetworkPolicy") == ["NetworkPolicyNotEnforced"]


Lender = Callable[[Json, Server], None]


def change_it(copy: Json, server: Server) -> None:
    server.put(NETWORKPOLICIES, {**copy, "spec": {**copy["spec"], "podSelector": {"matchLabels": {"nobody": "has this"}}}})


def delete_it(copy: Json, server: Server) -> None:
    server.remove(NETWORKPOLICIES, COPY)


def hold_it_up(copy: Json, server: Server) -> None:
    gone = {"deletionTimestamp": "2026-01-01T12:00:00Z", "finalizers": ["lender/keeps"]}
    server.put(NETWORKPOLICIES, {**copy, "metadata": {**copy["metadata"], **gone}})


class Meddler:
    """Somebody in the physical cluster who does the same to the copy every time it is as it should be, a little later."""

    def __init__(self, case: Case, act: Lender, after: float = 0.05) -> None:
        self.server, self.case, self.act, self.after = case.world.physical_server, case, act, after
        self.task = asyncio.create_task(self.run())

    async def run(self) -> None:
        meant: Json | None = None
        while True:
            await asyncio.sleep(self.after)
            copy = self.case.copy(NETWORKPOLICIES)
            if copy and meant is None:
                meant = copy["spec"]
            if copy and copy["spec"] == meant and "deletionTimestamp" not in copy["metadata"]:
                self.act(copy, self.server)


@asynccontextmanager
async def meddling(case: Case, act: Lender, after: float = 0.05) -> AsyncIterator[None]:
    meddler = Meddler(case, act, after)
    try:
        yield
    finally:
        meddler.task.cancel()


@pytest.mark.parametrize("act", [change_it, delete_it, hold_it_up])
async def test_pods_are_told_of_a_policy_whose_copy_somebody_keeps_altering_and_start_when_he_has_stopped(
    case: Case, act: Lender
) -> None:
    case.put(NETWORKPOLICIES, podSelector={}, policyTypes=["Ingress"])
    async with case.working():
        assert case.policies.check(POD) == Blocked()
        await asyncio.sleep(0.02)
        async with meddling(case, act):
            await asyncio.sleep(20)
            case.woken.clear()
            for _ in range(40):  # never in such a moment in which it happens to be right
                blocked = case.policies.check(POD)
                assert blocked is not None
                assert blocked.reason == "NetworkPolicyNotEnforced"
                assert "NetworkPolicy web selects this Pod, and is not in force" in blocked.message
                assert f"keeps changing or deleting its copy {COPY}" in blocked.message
                await asyncio.sleep(0.73)
            assert case.world.reasons("NetworkPolicy") == ["NetworkPolicyNotEnforced"], "once"
        if act is hold_it_up:
            case.world.physical_server.remove(NETWORKPOLICIES, COPY)
        await asyncio.sleep(2 * 300)
        assert case.woken, "it may start now"
        assert case.is_ready()


async def test_a_copy_that_the_lenders_admission_changes_is_told_though_no_write_of_ours_changes_anything(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.put(NETWORKPOLICIES, podSelector={}, policyTypes=["Ingress"])
    server = case.world.physical_server
    put = server.put

    def admit(resource: Resource, obj: Json) -> Json:
        if resource != NETWORKPOLICIES:
            return put(resource, obj)
        changed = {**obj, "spec": {**obj["spec"], "policyTypes": ["Egress"]}}
        stored = case.copy(NETWORKPOLICIES)
        return stored if stored and stored["spec"] == changed["spec"] else put(resource, changed)

    monkeypatch.setattr(server, "put", admit)
    async with case.working():
        assert case.policies.check(POD) == Blocked()
        await asyncio.sleep(30)
        blocked = case.policies.check(POD)
        assert blocked is not None
        assert "keeps changing or deleting its copy" in blocked.message


@pytest.mark.parametrize("act", [change_it, delete_it])
async def test_a_copy_that_is_altered_once_is_mended_without_a_word(case: Case, act: Lender) -> None:
    case.put(NETWORKPOLICIES, podSelector={}, policyTypes=["Ingress"])
    async with case.working():
        assert case.policies.check(POD) == Blocked()
        await asyncio.sleep(0.1)
        copy = case.copy(NETWORKPOLICIES)
        assert copy is not None
        act(copy, case.world.physical_server)
        await asyncio.sleep(0.006)
        assert case.policies.check(POD) == Blocked(), "it is not in force in this moment"
        await asyncio.sleep(0.1)
        assert case.is_ready()
        assert case.world.reasons("NetworkPolicy") == []


async def test_a_policy_that_its_user_changes_all_the_time_is_nobodys_meddling(case: Case) -> None:
    async with case.working():
        case.world.pod("one")
        for number in range(12):
            case.put(NETWORKPOLICIES, podSelector={"matchLabels": {"app": f"web-{number}"}}, policyTypes=["Ingress"])
            await asyncio.sleep(1)
            copy = case.copy(NETWORKPOLICIES)
            assert copy is not None
            assert copy["spec"]["podSelector"]["matchLabels"] == {"app": f"web-{number}"}
        assert case.world.reasons("NetworkPolicy") == []


async def test_the_policies_of_a_namespace_whose_pods_are_all_refused_stay_where_they_are(case: Case) -> None:
    case.put(NETWORKPOLICIES, podSelector={}, policyTypes=["Ingress"])
    async with case.working():
        case.world.pod("one", hostNetwork=True)
        await asyncio.sleep(10)
        assert case.copy(NETWORKPOLICIES) is None


async def test_copies_outlast_the_last_pod_by_a_minute_but_never_leave_a_twin_alone(case: Case) -> None:
    case.put(NETWORKPOLICIES, podSelector={}, policyTypes=["Ingress"])
    async with case.working():
        await asyncio.sleep(0.1)
        case.world.pod("one")
        await asyncio.sleep(0.1)
        assert case.copy(NETWORKPOLICIES) is not None
        twin = {"metadata": {"name": "twin", "namespace": "mount", "labels": case.pairing.owner.labels(), "annotations": {
            "kubeocean.io/virtual-pod-namespace": "ns", "kubeocean.io/virtual-pod-name": "one",
        }}, "spec": {"containers": []}}
        case.world.physical_server.put(PODS, twin)
        case.world.virtual_server.remove(PODS, ObjectKey("ns", "one"))
        await asyncio.sleep(70)
        assert case.copy(NETWORKPOLICIES) is not None
        case.world.physical_server.remove(PODS, ObjectKey("mount", "twin"))
        await asyncio.sleep(11)
        assert case.copy(NETWORKPOLICIES) is None


@pytest.mark.parametrize(("phase", "stays"), [("Running", True), ("Succeeded", False), ("Failed", False)])
async def test_copies_guard_twins_that_run_and_no_completed_ones(case: Case, *, phase: str, stays: bool) -> None:
    case.put(NETWORKPOLICIES, podSelector={}, policyTypes=["Ingress"])
    async with case.working():
        await asyncio.sleep(0.1)
        case.world.pod("one")
        case.world.physical_server.put(PODS, {
            "metadata": {"name": "twin", "namespace": "mount", "labels": case.pairing.owner.labels(), "annotations": {
                "kubeocean.io/virtual-pod-namespace": "ns", "kubeocean.io/virtual-pod-name": "one",
            }}, "spec": {"containers": []}, "status": {"phase": phase},
        })
        await asyncio.sleep(0.1)
        assert case.copy(NETWORKPOLICIES) is not None
        ended = case.world.virtual_server.find(PODS, "one", "ns")
        case.world.virtual_server.put(PODS, {**ended, "status": {"phase": "Succeeded"}})
        await asyncio.sleep(KEPT + 1)
        assert (case.copy(NETWORKPOLICIES) is not None) is stays


async def test_namespaces_whose_pods_came_and_went_are_forgotten(case: Case) -> None:
    """The growth of years: namespaces of one Pod each, some with a policy."""
    async with case.working():
        for number in range(50):
            pod = {**POD["metadata"], "namespace": f"ns-{number}"}
            case.world.virtual_server.put(PODS, {"metadata": pod, "spec": {"nodeName": "vnode-edge-node-1", "containers": []}})
            await asyncio.sleep(5)
            case.world.virtual_server.remove(PODS, ObjectKey(f"ns-{number}", "pod"))
            await asyncio.sleep(5)
            assert remembered(case.policies, "_emptied") <= KEPT / 10 + 1


async def test_a_pod_that_is_deleted_while_it_waits_is_forgotten_and_others_are_not(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.put(NETWORKPOLICIES, podSelector={}, policyTypes=["Ingress"])
    monkeypatch.setattr(case.world.physical_server, "forbidden", {"create networkpolicies"})
    async with case.working():
        for name in ("stays", "goes"):
            case.world.pod(name)
        await asyncio.sleep(0.1)
        pods = [case.world.virtual_server.find(PODS, name, "ns") for name in ("stays", "goes")]
        assert all(case.policies.check(pod) for pod in pods)
        case.world.virtual_server.remove(PODS, ObjectKey("ns", "goes"))
        await asyncio.sleep(0.1)
        case.woken.clear()
        case.world.physical_server.forbidden.clear()
        await asyncio.sleep(40)
        assert case.woken == [ObjectKey("ns", "stays")]
        case.world.virtual_server.remove(PODS, ObjectKey("ns", "stays"))
        await asyncio.sleep(0.1)
        assert remembered(case.policies, "_waiting") == 0


async def test_a_policy_that_goes_while_we_may_not_read_its_copies_is_forgotten(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.policies = NetworkPolicyMirror(case.pairing, case.woken.append)  # nobody fills its cache

    looks: list[float] = []

    def refuse() -> bool:
        looks.append(asyncio.get_running_loop().time())
        raise Forbidden("may not list networkpolicies", cluster="lender", status=403)

    monkeypatch.setattr(case.policies.copies, "check_readable", refuse)
    case.put(NETWORKPOLICIES, podSelector={}, policyTypes=["Ingress"])
    async with case.working():
        assert case.policies.check(POD) == Blocked()
        await asyncio.sleep(0.1)
        blocked = case.policies.check(POD)
        assert blocked is not None
        assert "may not list networkpolicies" in blocked.message
        case.world.virtual_server.remove(NETWORKPOLICIES, WEB)
        await asyncio.sleep(40)
        assert remembered(case.policies, "_refused") == 0
        looks.clear()
        await asyncio.sleep(100)
        assert not looks, "nobody looks again at what is gone"


async def test_a_policy_that_goes_takes_its_copy_along_at_once(case: Case) -> None:
    case.put(NETWORKPOLICIES, podSelector={}, policyTypes=["Ingress"])
    async with case.working():
        assert case.policies.check(POD) == Blocked()
        await asyncio.sleep(0.1)
        case.world.virtual_server.remove(NETWORKPOLICIES, WEB)
        await asyncio.sleep(0.1)
        assert case.copy(NETWORKPOLICIES) is None
        assert case.is_ready()


@pytest.mark.parametrize("missing", [True, False])
async def test_selectors_of_namespaces_wait_until_these_are_read(case: Case, *, missing: bool) -> None:
    peers = [{"namespaceSelector": {"matchLabels": {"stage": "prod"}}}]
    case.put(NETWORKPOLICIES, podSelector={}, policyTypes=["Ingress"], ingress=[{"from": peers}])
    namespaces = case.world.virtual.namespaces.informer
    async with case.working():
        assert case.policies.check(POD) == Blocked()
        await asyncio.sleep(0.5)
        assert case.copy(NETWORKPOLICIES) is None
        namespaces.list_begins()
        if not missing:
            namespaces.put({"metadata": {"name": "ns", "resourceVersion": "1", "labels": {"stage": "prod"}}})
        namespaces.list_ends(1)
        await asyncio.sleep(0.5)
        copy = case.copy(NETWORKPOLICIES)
        assert copy is not None
        assert ("ingress" in copy["spec"]) is not missing


@asynccontextmanager
async def undoing(case: Case, resource: Resource, spec: Json | None) -> AsyncIterator[None]:
    """Have somebody in the physical cluster set fields of a copy's spec, or delete it (None), whenever we have written it."""
    async def undo() -> None:
        while True:
            copy = case.copy(resource)
            if copy and spec is None:
                case.world.physical_server.remove(resource, COPY)
            elif copy and spec:
                case.world.physical_server.put(resource, apply_merge(copy, {"spec": spec}))
            await asyncio.sleep(0.02)

    async with meanwhile(undo()):
        yield


async def until_undone(case: Case, resource: Resource, seconds: float) -> int:
    """Return how often we write in so many seconds."""
    before = len(case.world.physical_server.writes)
    await asyncio.sleep(seconds)
    return len([write for write in case.world.physical_server.writes[before:] if write.endswith(resource.plural)])


ADDRESS: Json = {"type": "ClusterIP", "clusterIP": "10.96.0.7"}
FIGHTS: dict[str, tuple[Resource, Json, Json | None]] = {
    "a mirrored Service is changed": (SERVICES, ADDRESS, {"sessionAffinity": "ClientIP"}),
    "a mirrored Service is deleted": (SERVICES, ADDRESS, None),
    "a policy is opened": (NETWORKPOLICIES, {"podSelector": {}, "policyTypes": ["Ingress"]}, {"ingress": [{}]}),
}


@pytest.mark.parametrize(("resource", "spec", "undone"), FIGHTS.values(), ids=FIGHTS.keys())
async def test_who_undoes_what_we_mirror_is_answered_ever_more_rarely_and_a_users_change_at_once(
    case: Case, resource: Resource, spec: Json, undone: Json | None
) -> None:
    async with case.working():
        case.services.check(POD)
        case.policies.check(POD)
        case.world.pod("pod")
        case.put(resource, **spec)
        await asyncio.sleep(0.1)
        async with undoing(case, resource, undone):
            assert 6 <= await until_undone(case, resource, 60) <= 9  # after 1, 2, 4, 8, 16 and 32 s
            case.put(resource, **spec, **({"ports": [{"port": 80}]} if resource == SERVICES else {"egress": [{}]}))
            assert 1 <= await until_undone(case, resource, 0.9) <= 2
        await asyncio.sleep(1.5)  # it has nearly everything of a pause left
        assert case.copy(resource)
        assert (case.copy(resource) or {})["spec"].get("ingress") is None


async def test_a_service_that_goes_and_comes_back_is_mirrored_at_once_each_time(case: Case) -> None:
    async with case.working():
        for _ in range(5):
            case.put(SERVICES, type="ClusterIP", clusterIP="10.96.0.7")
            await asyncio.sleep(0.1)
            assert case.copy(SERVICES)
            case.world.virtual_server.remove(SERVICES, WEB)
            await asyncio.sleep(0.1)
            assert not case.copy(SERVICES)


async def test_a_service_that_turns_headless_and_back_is_made_anew_at_once(case: Case) -> None:
    async with case.working():
        for address in ("10.96.0.7", "None") * 3:
            case.put(SERVICES, type="ClusterIP", clusterIP=address)
            await asyncio.sleep(0.1)
            assert ((case.copy(SERVICES) or {})["spec"].get("clusterIP") == "None") is (address == "None")


async def test_what_was_refused_of_a_namespace_that_left_the_list_is_new_when_it_is_back(case: Case) -> None:
    spec = case.pairing.spec
    case.world.physical_server.forbidden.add("create services")
    async with case.working():
        case.put(SERVICES, **ADDRESS)
        await asyncio.sleep(0.1)
        assert case.is_ready(), "what is refused holds up nobody"
        case.pairing.spec = spec.model_copy(update={"service_namespaces": []})
        case.services.spec_changed()
        assert not case.services._said
        case.world.physical_server.forbidden.clear()
        case.pairing.spec = spec
        case.services.spec_changed()
        assert case.services.check(POD) == Blocked()
