"""Repairs that must not happen: between the look and the write the world has changed, or the object was never ours."""

import copy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from kubeocean.api import names
from kubeocean.api.binding import ClusterBindingSpec
from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.checks.opening import Sides
from kubeocean.checks.repairing import repair
from kubeocean.clusters.identity import ClusterIdentityChanged, Identity
from kubeocean.domain.findings import Finding, Kind, Mend, Ref, Side, ref_to
from kubeocean.domain.naming import physical_name, volume_twin_names
from kubeocean.domain.podfindings import Claims, PodScene, check_homeless, check_token_secret, check_twin, check_vpod
from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json, ObjectKey, finalizers_of, uid_of
from kubeocean.kube.resources import (
    CONFIGMAPS,
    ENDPOINTSLICES,
    NAMESPACES,
    NETWORKPOLICIES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    SECRETS,
    SERVICES,
    Resource,
)
from tests.unit.domain.test_podfindings import NODE, OWNER, VNODE, made_by_the_go_project, pair
from tests.unit.syncer.world import Server

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WRITTEN: Json = {"clusterID": "edge", "secretRef": {"name": "s", "namespace": "s"}, "mountNamespace": "lent"}
SPEC = ClusterBindingSpec.model_validate(WRITTEN)
SCENE = PodScene(OWNER, "lent", {VNODE: NODE}.get)


class Clusters:
    """Both clusters in memory, with one virtual Pod and its twin; what a look found is made by hand."""

    def __init__(self) -> None:
        self.virtual, self.physical = Server(lambda: NOON), Server(lambda: NOON)
        for server in (self.virtual, self.physical):
            server.put(NAMESPACES, {"metadata": {"name": "kube-system"}})
        self.physical.put(NAMESPACES, {"metadata": {"name": "lent"}})
        self.bound = self.virtual.put(CLUSTERBINDINGS, {
            "metadata": {"name": "b", "finalizers": [names.BINDING_SYNCER_FINALIZER]}, "spec": WRITTEN,
        })
        vpod, twin = pair()
        self.vpod, self.twin = self.virtual.put(PODS, vpod), self.physical.put(PODS, twin)
        self.above, self.below = Identity(cast(Client, self.virtual)), Identity(cast(Client, self.physical))
        self.above.uid = self.below.uid = "uid-namespaces-kube-system"

    @property
    def sides(self) -> Sides:
        virtual, physical = cast(Client, self.virtual), cast(Client, self.physical)
        return Sides("b", SPEC, OWNER, "lent", virtual, physical, self.above, self.below, uid_of(self.bound))

    @property
    def writes(self) -> list[str]:
        return [*self.virtual.writes, *self.physical.writes]


@pytest.fixture
async def clusters() -> Clusters:
    return Clusters()


def orphan(clusters: Clusters) -> Finding:
    """Return what is found while the virtual Pod seems to be gone."""
    finding = check_twin(clusters.twin, None, Claims(), SCENE)
    assert finding
    return finding


async def test_an_orphan_whose_virtual_pod_lives_after_all_stays(clusters: Clusters) -> None:
    mended, done = await repair(clusters.sides, orphan(clusters))
    assert not mended
    assert "lives after all" in done
    assert clusters.writes == []


async def test_an_orphan_goes_once_its_virtual_pod_is_proved_gone_or_another(clusters: Clusters) -> None:
    clusters.virtual.remove(PODS, ObjectKey("shop", "web-0"))
    clusters.virtual.put(PODS, pair(uid="v-2")[0])
    assert await repair(clusters.sides, orphan(clusters)) == (True, "deleted")
    assert clusters.writes == ["delete pods"]


async def test_a_pod_that_took_the_name_meanwhile_stays(clusters: Clusters) -> None:
    clusters.virtual.remove(PODS, ObjectKey("shop", "web-0"))
    finding = orphan(clusters)
    clusters.physical.put(PODS, {**clusters.twin, "metadata": {**clusters.twin["metadata"], "uid": "p-new"}})
    mended, done = await repair(clusters.sides, finding)
    assert (mended, done) == (False, "left: it is gone by itself")
    assert clusters.writes == []


async def test_what_is_not_ours_any_more_is_not_touched(clusters: Clusters) -> None:
    clusters.virtual.remove(PODS, ObjectKey("shop", "web-0"))
    finding = orphan(clusters)
    labels = {**clusters.twin["metadata"]["labels"], names.OWNER_LABEL: "0123456789abcdef"}
    clusters.physical.put(PODS, {**clusters.twin, "metadata": {**clusters.twin["metadata"], "labels": labels}})
    mended, done = await repair(clusters.sides, finding)
    assert (mended, done) == (False, "left: it is not ours any more")
    assert clusters.writes == []


@pytest.mark.parametrize("side", ["above", "below"])
async def test_another_cluster_behind_the_same_address_proves_nothing(clusters: Clusters, side: str) -> None:
    clusters.virtual.remove(PODS, ObjectKey("shop", "web-0"))
    cast(Identity, getattr(clusters, side)).uid = "what it was"
    with pytest.raises(ClusterIdentityChanged):
        await repair(clusters.sides, orphan(clusters))
    assert clusters.writes == []


@pytest.mark.parametrize("change", [{"deletionTimestamp": "2026-01-01T12:00:00Z"}, {"uid": "made anew"}, None])
async def test_nothing_is_made_once_the_binding_is_on_its_way_out(clusters: Clusters, change: Json | None) -> None:
    sides = clusters.sides
    original = clusters.virtual.put(CONFIGMAPS, {"metadata": {"name": "settings", "namespace": "shop"}})
    copied = Ref(Side.PHYSICAL, CONFIGMAPS, ObjectKey("lent", physical_name("settings", "shop")))
    source = ref_to(Side.VIRTUAL, CONFIGMAPS, original)
    finding = Finding(Kind.MISSING_COPY, "CopyIsGone", copied, "c", "r", Mend.COPY, source)
    if change:
        clusters.virtual.put(CLUSTERBINDINGS, {**clusters.bound, "metadata": {**clusters.bound["metadata"], **change}})
    else:
        clusters.virtual.remove(CLUSTERBINDINGS, ObjectKey("", "b"))
    mended, done = await repair(sides, finding)
    assert not mended
    assert "unbinding has the word" in done
    assert clusters.writes == []
    clusters.virtual.put(CLUSTERBINDINGS, clusters.bound)
    assert await repair(sides, finding) == (True, "copied")


@pytest.mark.parametrize("change", [
    {"mountNamespace": "another"}, {"serviceNamespaces": ["shop"]}, {"timeZone": "Mars"}, {"clusterID": "Not valid!"},
], ids=str)
async def test_nothing_is_done_on_the_strength_of_a_spec_that_was_edited_meanwhile(clusters: Clusters, change: Json) -> None:
    clusters.virtual.remove(PODS, ObjectKey("shop", "web-0"))
    clusters.virtual.put(CLUSTERBINDINGS, {**clusters.bound, "spec": {**WRITTEN, **change}})
    assert await repair(clusters.sides, orphan(clusters)) == (False, "left: the binding was edited meanwhile; look again")
    assert clusters.writes == []


@pytest.mark.parametrize("change", [{"uid": "made anew"}, None], ids=str)
async def test_nobody_is_lost_for_a_binding_that_is_gone(clusters: Clusters, change: Json | None) -> None:
    finding = check_vpod(clusters.vpod, None, SCENE)
    assert finding
    sides = clusters.sides
    clusters.physical.remove(PODS, ObjectKey("lent", clusters.twin["metadata"]["name"]))
    clusters.virtual.remove(CLUSTERBINDINGS, ObjectKey("", "b"))
    if change:
        clusters.virtual.put(CLUSTERBINDINGS, {**clusters.bound, "metadata": {**clusters.bound["metadata"], **change}})
    mended, done = await repair(sides, finding)
    assert (mended, "unbinding has the word" in done) == (False, True)
    assert clusters.writes == []


async def test_nobody_is_lost_in_a_namespace_that_the_syncer_left_meanwhile(clusters: Clusters) -> None:
    """The spec was edited long ago, twins lived in the earlier namespace still: until the last of them was gone."""
    finding = check_vpod(clusters.vpod, None, SCENE)
    assert finding
    edited = {**WRITTEN, "mountNamespace": "next"}
    clusters.virtual.put(CLUSTERBINDINGS, {**clusters.bound, "spec": edited})
    sides = replace(clusters.sides, spec=ClusterBindingSpec.model_validate(edited))
    clusters.physical.remove(PODS, ObjectKey("lent", clusters.twin["metadata"]["name"]))
    clusters.physical.put(PODS, {**clusters.twin, "metadata": {**clusters.twin["metadata"], "namespace": "next"}})
    assert await repair(sides, finding) == (False, "left: twins live in namespace next by now; look again")
    assert clusters.writes == []


async def test_a_pod_is_lost_only_when_its_twin_is_proved_gone(clusters: Clusters) -> None:
    finding = check_vpod(clusters.vpod, None, SCENE)
    assert finding
    mended, done = await repair(clusters.sides, finding)
    assert (mended, done) == (False, "left: its twin lives after all")
    clusters.physical.remove(PODS, ObjectKey("lent", clusters.twin["metadata"]["name"]))
    mended, _ = await repair(clusters.sides, finding)
    assert mended
    assert clusters.virtual.find(PODS, "web-0", "shop")["status"]["reason"] == names.PHYSICAL_POD_LOST


async def test_a_pod_whose_twin_is_to_be_adopted_is_neither_lost_nor_released(clusters: Clusters) -> None:
    lost, release = check_vpod(clusters.vpod, None, SCENE), stuck(clusters)
    assert lost
    clusters.physical.put(PODS, made_by_the_go_project(clusters.vpod, clusters.twin))
    assert await repair(clusters.sides, release) == (False, "left: its twin lives after all")
    metadata = {**clusters.vpod["metadata"]}
    del metadata["deletionTimestamp"]
    clusters.virtual.put(PODS, {**clusters.vpod, "metadata": metadata})
    assert await repair(clusters.sides, lost) == (False, "left: its twin lives after all")
    assert clusters.writes == []


async def test_a_copy_that_came_into_use_stays(clusters: Clusters) -> None:
    made = clusters.physical.put(CONFIGMAPS, {"metadata": {"name": "c", "namespace": "lent", "labels": OWNER.labels()}})
    original = clusters.virtual.put(CONFIGMAPS, {"metadata": {
        "name": "settings", "namespace": "shop", "labels": {"kubeocean.io/synced-by-edge": "true"},
    }})
    finding = Finding(
        Kind.ORPHAN_COPY, "NotInUse", ref_to(Side.PHYSICAL, CONFIGMAPS, made), "c", "r", Mend.DELETE,
        ref_to(Side.VIRTUAL, CONFIGMAPS, original),
    )
    mended, _ = await repair(clusters.sides, finding)
    assert not mended
    assert clusters.writes == []


COPIES = {
    CONFIGMAPS: ("lent", physical_name("data", "shop")), SECRETS: ("lent", physical_name("data", "shop")),
    PERSISTENTVOLUMECLAIMS: ("lent", physical_name("data", "shop")),
    PERSISTENTVOLUMES: ("", volume_twin_names("data", OWNER.annotation)[0]),
}


@pytest.mark.parametrize("resource", COPIES, ids=lambda resource: resource.plural)
async def test_our_finalizer_stays_on_what_has_a_copy_after_all_and_no_copy_of_others_holds_it(
    clusters: Clusters, resource: Resource
) -> None:
    mark = "kubeocean.io/finalizer-edge"
    original = clusters.virtual.put(resource, {"metadata": {
        "name": "data", "namespace": "shop" if resource.namespaced else "", "finalizers": ["his", mark],
    }})
    finding = Finding(Kind.STALE_MARK, "NotInUse", ref_to(Side.VIRTUAL, resource, original), "c", "r", Mend.UNMARK)
    namespace, name = COPIES[resource]
    metadata: Json = {"name": name, "namespace": namespace, "labels": OWNER.labels(), "annotations": OWNER.annotations()}
    clusters.physical.put(resource, {"metadata": metadata})
    mended, done = await repair(clusters.sides, finding)
    assert (mended, "is there, which is made of it" in done) == (False, True)
    assert clusters.writes == []
    clusters.physical.put(resource, {"metadata": {**metadata, "labels": {}, "annotations": {}}})
    assert await repair(clusters.sides, finding) == (True, "our marks are off")
    assert finalizers_of(clusters.virtual.find(resource, "data", original["metadata"]["namespace"])) == ["his"]


async def test_the_token_of_a_pod_that_is_gone_goes_and_that_of_one_that_has_finished_stays(clusters: Clusters) -> None:
    notes = clusters.twin["metadata"]["annotations"]
    metadata = {"name": "t", "namespace": "lent", "labels": OWNER.labels(), "annotations": notes}
    secret = clusters.physical.put(SECRETS, {"metadata": metadata})
    finding = check_token_secret(secret, None)
    assert finding
    assert (await repair(clusters.sides, finding))[0] is False
    clusters.virtual.put(PODS, {**clusters.vpod, "status": {"phase": "Succeeded"}})
    assert (await repair(clusters.sides, finding))[0] is False
    clusters.virtual.remove(PODS, ObjectKey("shop", "web-0"))
    assert await repair(clusters.sides, finding) == (True, "deleted")


async def test_the_label_of_another_borrower_stays(clusters: Clusters) -> None:
    node: Json = {"metadata": {"name": NODE, "labels": {names.POLICY_APPLIED_LABEL: "his"}, "annotations": {
        names.POLICY_APPLIED_BY_ANNOTATION: "another/borrower",
    }}}
    found = clusters.physical.put(NODES, copy.deepcopy(node))
    finding = Finding(Kind.STALE_NODE_LABEL, "NotLeased", ref_to(Side.PHYSICAL, NODES, found), "c", "r", Mend.UNLABEL)
    assert await repair(clusters.sides, finding) == (False, "left: the label is not ours any more")
    assert clusters.writes == []


async def test_what_nothing_mends_is_left(clusters: Clusters) -> None:
    given: dict[str, Any] = {"about": ref_to(Side.VIRTUAL, PODS, clusters.vpod), "cause": "c", "remedy": "r"}
    assert (await repair(clusters.sides, Finding(Kind.WRONG_NODE, "RunsElsewhere", **given)))[0] is False


def service(namespace: str = "shop", **spec: str) -> Json:
    return {"metadata": {"name": "web", "namespace": namespace, "uid": "u-web"}, "spec": {"ports": [], **spec}}


def endpoints(namespace: str = "shop", of: str = "web") -> Json:
    labels = {"kubernetes.io/service-name": of}
    metadata = {"name": "web", "namespace": namespace, "uid": "u-web", "labels": labels}
    return {"metadata": metadata, "endpoints": [], "addressType": "IPv4"}


POLICY: Json = {"metadata": {"name": "web", "namespace": "shop", "uid": "u-web"}, "spec": {"podSelector": {}}}
LEAVING = {"deletionTimestamp": "2026-01-01T12:00:00Z", "finalizers": ["somebody/s"]}
_STAYS, _GOES = False, True
ORIGINALS: dict[str, tuple[Resource, list[tuple[Resource, Json]], bool]] = {
    "of a Service that is gone": (SERVICES, [], _GOES),
    "of a Service": (SERVICES, [(SERVICES, service())], _STAYS),
    "of a Service that is about to go": (
        SERVICES, [(SERVICES, {**service(), "metadata": {**service()["metadata"], **LEAVING}})], _STAYS,
    ),
    "of a Service made anew": (
        SERVICES, [(SERVICES, {**service(), "metadata": {**service()["metadata"], "uid": "2"}})], _STAYS,
    ),
    "of a Service that became ExternalName": (SERVICES, [(SERVICES, service(type="ExternalName"))], _GOES),
    "of a Service whose namespace is not listed": (SERVICES, [(SERVICES, service("other"))], _GOES),
    "of a slice whose Service is there": (ENDPOINTSLICES, [(ENDPOINTSLICES, endpoints()), (SERVICES, service())], _STAYS),
    "of a slice whose Service is gone": (ENDPOINTSLICES, [(ENDPOINTSLICES, endpoints())], _GOES),
    "of a slice of no Service": (ENDPOINTSLICES, [(ENDPOINTSLICES, endpoints(of="")), (SERVICES, service())], _GOES),
    "of a slice whose namespace is not listed": (
        ENDPOINTSLICES, [(ENDPOINTSLICES, endpoints("other")), (SERVICES, service("other"))], _GOES,
    ),
    "of a policy that is gone": (NETWORKPOLICIES, [], _GOES),
    "of a policy": (NETWORKPOLICIES, [(NETWORKPOLICIES, POLICY)], _STAYS),
}


@pytest.mark.parametrize("case", ORIGINALS)
async def test_before_a_mirror_goes_it_is_asked_live_whether_its_original_is_to_be_mirrored(
    clusters: Clusters, case: str
) -> None:
    resource, there, goes = ORIGINALS[case]
    for kind, obj in there:
        clusters.virtual.put(kind, obj)
    spec = {**WRITTEN, "serviceNamespaces": ["shop"]}
    clusters.virtual.put(CLUSTERBINDINGS, {**clusters.bound, "spec": spec})
    sides = replace(clusters.sides, spec=ClusterBindingSpec.model_validate(spec))
    namespace = there[0][1]["metadata"]["namespace"] if there else "shop"
    notes = {names.VIRTUAL_NAMESPACE_ANNOTATION: namespace, names.VIRTUAL_NAME_ANNOTATION: "web"}
    made = clusters.physical.put(resource, {"metadata": {
        "name": physical_name("web", namespace), "namespace": "lent", "labels": OWNER.labels(),
        "annotations": {**OWNER.annotations(), **notes, names.VIRTUAL_UID_ANNOTATION: "u-web"},
    }})
    finding = Finding(
        Kind.ORPHAN_MIRROR, "NotMirrored", ref_to(Side.PHYSICAL, resource, made), "c", "r", Mend.DELETE,
        Ref(Side.VIRTUAL, resource, ObjectKey(namespace, "web"), "u-web"),
    )
    mended, _ = await repair(sides, finding)
    assert mended is goes
    assert clusters.writes == ([f"delete {resource.plural}"] if goes else [])


def stuck(clusters: Clusters, node: str = VNODE) -> Finding:
    """Have the virtual Pod on its way out for long, its twin gone from our sight; return what is found."""
    metadata = {**clusters.vpod["metadata"], "deletionTimestamp": "2026-01-01T11:00:00Z", "deletionGracePeriodSeconds": 30}
    spec = {**clusters.vpod["spec"], "nodeName": node}
    clusters.vpod = clusters.virtual.put(PODS, {**clusters.vpod, "metadata": metadata, "spec": spec})
    check = check_vpod if node == VNODE else check_homeless
    finding = check(clusters.vpod, None, replace(SCENE, now=NOON))
    assert finding
    return finding


async def test_a_pod_that_should_be_gone_is_released_only_when_its_twin_is_proved_gone(clusters: Clusters) -> None:
    finding = stuck(clusters)
    assert await repair(clusters.sides, finding) == (False, "left: its twin lives after all")
    assert clusters.writes == []
    clusters.physical.remove(PODS, ObjectKey("lent", clusters.twin["metadata"]["name"]))
    assert await repair(clusters.sides, finding) == (True, "released: its twin is gone")
    assert clusters.writes == ["delete pods"]
    assert ("pods", ObjectKey("shop", "web-0")) not in clusters.virtual.objects


async def test_a_successor_of_a_pod_that_should_be_gone_is_not_released(clusters: Clusters) -> None:
    finding = stuck(clusters)
    clusters.virtual.remove(PODS, ObjectKey("shop", "web-0"))
    clusters.virtual.put(PODS, pair(uid="v-2")[0])
    assert await repair(clusters.sides, finding) == (False, "left: it is gone by itself")
    assert clusters.writes == []


async def test_a_pod_without_its_node_is_released_only_while_the_node_is_gone(clusters: Clusters) -> None:
    finding = stuck(clusters, "vnode-edge-gone")
    clusters.physical.remove(PODS, ObjectKey("lent", clusters.twin["metadata"]["name"]))
    clusters.virtual.put(NODES, {"metadata": {"name": "vnode-edge-gone"}})
    mended, done = await repair(clusters.sides, finding)
    assert (mended, done) == (False, "left: Node vnode-edge-gone is there again, and its syncer ends the Pod")
    clusters.virtual.remove(NODES, ObjectKey("", "vnode-edge-gone"))
    assert (await repair(clusters.sides, finding))[0] is True
