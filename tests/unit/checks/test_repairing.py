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
from kubeocean.kube.meta import Json, ObjectKey, uid_of
from kubeocean.kube.patch import apply_merge
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
WRITTEN = {
    "clusterID": "edge", "secretRef": {"name": "s", "namespace": "s"}, "mountNamespace": "lent", "serviceNamespaces": ["shop"],
}
SPEC = ClusterBindingSpec.model_validate(WRITTEN)
SCENE = PodScene(OWNER, "lent", {VNODE: NODE}.get)


class Clusters:
    """Both clusters in memory, with one virtual Pod and its twin; what a look found is made by hand."""

    def __init__(self) -> None:
        self.virtual, self.physical = Server(lambda: NOON), Server(lambda: NOON)
        for server in (self.virtual, self.physical):
            server.put(NAMESPACES, {"metadata": {"name": "kube-system"}})
        self.physical.put(NAMESPACES, {"metadata": {"name": "lent"}})
        self.bound = self.virtual.put(CLUSTERBINDINGS, {"metadata": {"name": "b", "finalizers": ["f"]}, "spec": WRITTEN})
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


@pytest.mark.parametrize(("edit", "words"), [
    ({"serviceNamespaces": []}, "the binding was edited meanwhile; look again"), ({"clusterID": "Not valid"}, "is not valid"),
])
async def test_nothing_is_mended_by_what_the_binding_said_before_it_was_edited(
    clusters: Clusters, edit: Json, words: str
) -> None:
    sides = clusters.sides
    clusters.virtual.remove(PODS, ObjectKey("shop", "web-0"))
    clusters.virtual.put(CLUSTERBINDINGS, {**clusters.bound, "spec": {**WRITTEN, **edit}})
    mended, done = await repair(sides, orphan(clusters))
    assert not mended
    assert words in done
    assert clusters.writes == []


SERVICE = {"metadata": {"name": "db", "namespace": "shop"}, "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 1}]}}
LEAVING = {"metadata": {"deletionTimestamp": "2026-01-01T12:00:00Z", "finalizers": ["his"]}}
SLICE = {
    "metadata": {"name": "db-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "db"}}, "addressType": "IPv4",
    "endpoints": [],
}
POLICY = {"metadata": {"name": "deny", "namespace": "shop"}, "spec": {"podSelector": {}}}


@pytest.mark.parametrize(("resource", "original", "stays"), [
    (SERVICES, SERVICE, True), (SERVICES, apply_merge(SERVICE, LEAVING), True),
    (SERVICES, apply_merge(SERVICE, {"spec": {"type": "ExternalName"}}), False),
    (SERVICES, apply_merge(SERVICE, {"metadata": {"namespace": "other"}}), False),
    (SERVICES, apply_merge(SERVICE, {"metadata": {"uid": "a successor's"}}), False),
    (ENDPOINTSLICES, SLICE, True), (ENDPOINTSLICES, apply_merge(SLICE, {"metadata": {"namespace": "other"}}), False),
    (NETWORKPOLICIES, apply_merge(POLICY, LEAVING), True),
], ids=[
    "Service", "Service on its way out", "ExternalName", "in a namespace not mirrored", "another Service by now",
    "slice of a Service", "slice without Service", "policy on its way out",
])
async def test_a_mirror_goes_only_when_its_original_is_proved_not_to_be_mirrored(
    clusters: Clusters, resource: Resource, original: Json, stays: bool
) -> None:
    clusters.virtual.put(SERVICES, SERVICE)
    live = clusters.virtual.put(resource, original)
    about = clusters.physical.put(resource, {"metadata": {"name": "m", "namespace": "lent", "labels": OWNER.labels()}})
    origin = ref_to(Side.VIRTUAL, resource, live)._replace(uid=f"uid-{resource.plural}-{original['metadata']['name']}")
    finding = Finding(
        Kind.ORPHAN_MIRROR, "NotMirrored", ref_to(Side.PHYSICAL, resource, about), "c", "r", Mend.DELETE, origin
    )
    mended, done = await repair(clusters.sides, finding)
    assert mended is not stays, done
    assert clusters.writes == ([] if stays else [f"delete {resource.plural}"])


@pytest.mark.parametrize("resource", [CONFIGMAPS, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES])
async def test_marks_stay_on_what_has_a_twin_after_all(clusters: Clusters, resource: Resource) -> None:
    namespaced = {} if resource == PERSISTENTVOLUMES else {"namespace": "shop"}
    marks = {"labels": {"kubeocean.io/synced-by-edge": "true"}, "finalizers": ["kubeocean.io/finalizer-edge"]}
    original = clusters.virtual.put(resource, {"metadata": {"name": "data", **namespaced, **marks}, "spec": {}})
    place = ObjectKey("lent", physical_name("data", "shop"))
    if not namespaced:
        place = ObjectKey("", volume_twin_names("data", OWNER.annotation)[0])
    twin = {"name": place.name, "labels": OWNER.labels(), "annotations": OWNER.annotations()}
    clusters.physical.put(resource, {"metadata": {**twin, **({"namespace": "lent"} if namespaced else {})}})
    finding = Finding(Kind.STALE_MARK, "NotInUse", ref_to(Side.VIRTUAL, resource, original), "c", "r", Mend.UNMARK)
    mended, done = await repair(clusters.sides, finding)
    assert not mended
    assert done.endswith("is there after all")
    assert clusters.writes == []
    clusters.physical.remove(resource, place)
    assert await repair(clusters.sides, finding) == (True, "our marks are off")


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
