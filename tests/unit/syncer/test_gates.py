"""What a Pod waits for although it does not name it: Services for a while, network policies for as long as it takes."""

import asyncio
from collections.abc import AsyncIterator
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
from kubeocean.syncer.topdown.netpolicies import NetworkPolicyMirror
from kubeocean.syncer.topdown.services import ServiceMirror
from tests.unit.syncer.world import SPEC, Server, World

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


async def keep_changing(case: Case, resource: Resource, change: Json) -> None:
    """Play a controller of the lender's that wants a copy otherwise."""
    server = case.world.physical_server
    while True:
        copied = case.copy(resource)
        if copied and apply_merge(copied, change) != copied:
            server.put(resource, apply_merge(copied, change))
        await asyncio.sleep(0.1)


async def test_a_policy_that_somebody_keeps_changing_is_not_in_force_and_pods_are_told(case: Case) -> None:
    case.put(NETWORKPOLICIES, podSelector={}, policyTypes=["Ingress"])
    async with case.working():
        case.policies.check(POD)
        await asyncio.sleep(1)
        assert case.is_ready()
        opponent = asyncio.create_task(keep_changing(case, NETWORKPOLICIES, {"spec": {"policyTypes": ["Egress"]}}))
        await asyncio.sleep(590)
        assert case.world.physical_server.writes.count("patch networkpolicies") <= 12
        blocked = case.policies.check(POD)
        assert blocked is not None
        assert blocked.reason == "NetworkPolicyNotEnforced"
        assert "keeps changing NetworkPolicy mount/web-" in blocked.message
        opponent.cancel()
        await asyncio.sleep(310)
        assert case.is_ready()


async def test_a_mirror_that_somebody_keeps_changing_is_mended_with_growing_pauses_and_told(case: Case) -> None:
    async with case.working():
        case.put(SERVICES, type="ClusterIP", clusterIP="10.96.0.7", ports=[{"port": 80}])
        await asyncio.sleep(1)
        opponent = asyncio.create_task(keep_changing(case, SERVICES, {"spec": {"ports": [{"port": 81}]}}))
        await asyncio.sleep(590)
        assert case.world.physical_server.writes.count("patch services") <= 12
        assert "MirrorContested" in case.world.reasons("Service")
        opponent.cancel()
        await asyncio.sleep(310)
        copied = case.copy(SERVICES)
        assert copied
        assert copied["spec"]["ports"] == [{"port": 80}]


async def test_a_service_made_anew_waits_for_nothing(case: Case) -> None:
    async with case.working():
        for _ in range(4):
            case.put(SERVICES, type="ClusterIP", clusterIP="10.96.0.7")
            await asyncio.sleep(0.1)
            assert case.copy(SERVICES)
            case.world.virtual_server.remove(SERVICES, WEB)
            await asyncio.sleep(0.1)
            assert case.copy(SERVICES) is None
