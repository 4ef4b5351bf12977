"""What `kubeocean explain pod` reads, and what it says of what it may not: nothing unseen is called absent."""

import io
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from rich.console import Console

from kubeocean.api import names
from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.checks.explaining import Explanation, explain_in, read_story
from kubeocean.checks.explainreport import as_json, print_explanation
from kubeocean.domain.naming import physical_name
from kubeocean.kube.client import Client
from kubeocean.kube.errors import KubeError
from kubeocean.kube.meta import Json, ObjectKey, name_of
from kubeocean.kube.resources import CONFIGMAPS, NODES, PERSISTENTVOLUMECLAIMS, PODS, STORAGECLASSES
from tests.unit.checks.test_repairing import Clusters
from tests.unit.domain.test_podfindings import NODE, VNODE, pair
from tests.unit.syncer.world import Server


def vnode(cluster_id: str = "edge") -> Json:
    return {"metadata": {
        "name": VNODE, "annotations": {names.PHYSICAL_NODE_NAME_ANNOTATION: NODE},
        "labels": {names.MANAGED_BY_LABEL: "kubeocean", names.PHYSICAL_CLUSTER_ID_LABEL: cluster_id},
    }}


@pytest.fixture
async def clusters() -> Clusters:
    clusters = Clusters()
    clusters.virtual.put(NODES, vnode())
    clusters.physical.cluster = "the physical cluster of b"
    return clusters


async def story(clusters: Clusters, vpod: Json | None = None) -> Explanation:
    return await read_story(clusters.sides, vpod or clusters.vpod, vnode(), clusters.bound)


def printed(explanation: Explanation) -> str:
    console = Console(file=io.StringIO(), width=400)
    print_explanation(console, explanation)
    return cast(io.StringIO, console.file).getvalue()


# --- what may not be read ------------------------------------------------------------------------------------------------
async def test_a_twin_that_may_not_be_read_is_trouble_with_the_right_to_grant_and_not_missing(clusters: Clusters) -> None:
    clusters.physical.forbidden.add("get pods")
    with pytest.raises(KubeError, match=(
        r"twin lent/web-0-\S+ may not be read, so whether there is one is unknown: .*may not get pods.*"
        "the lender has to grant .*`kubeocean rbac --mount-namespace lent`"
    )):
        await story(clusters)


def naming(vpod: Json, **volume: Any) -> Json:
    return {**vpod, "spec": {**vpod["spec"], "volumes": [{"name": "data", **volume}]}}


async def test_a_copy_that_may_not_be_read_is_told_and_not_taken_for_absent(clusters: Clusters) -> None:
    vpod = naming(clusters.vpod, configMap={"name": "settings"})
    clusters.physical.put(CONFIGMAPS, {"metadata": {"name": physical_name("settings", "shop"), "namespace": "lent"}})
    told = await story(clusters, vpod)
    assert [name_of(copy) for copy in told.story.copies] == [physical_name("settings", "shop")]
    assert told.unread == ()
    clusters.physical.forbidden.add("get configmaps")
    told = await story(clusters, vpod)
    (note,) = told.unread
    assert note.startswith(f"ConfigMap lent/{physical_name('settings', 'shop')} of the physical cluster may not be read")
    assert "the right to get configmaps in namespace lent is missing; grant it, `kubeocean rbac --mount-namespace lent`" in note
    assert f"not looked at: {note}" in printed(told)
    assert as_json(told)["notReadable"] == [note]


async def test_an_original_that_may_not_be_read_is_told_and_not_called_missing(clusters: Clusters) -> None:
    clusters.physical.remove(PODS, ObjectKey("lent", name_of(clusters.twin)))
    vpod = naming(clusters.vpod, configMap={"name": "settings"})
    assert (await story(clusters, vpod)).story.missing == ("ConfigMap shop/settings (spec.volumes[0].configMap)",)
    clusters.virtual.forbidden.add("get configmaps")
    told = await story(clusters, vpod)
    assert told.story.missing == ()
    assert "ConfigMap shop/settings of the virtual cluster may not be read" in told.unread[0]


# --- whose the name is ---------------------------------------------------------------------------------------------------
async def test_what_has_the_twins_name_and_is_not_the_twin_is_told_by_whose_it_is(clusters: Clusters) -> None:
    successor, _ = pair(uid="v-2")
    successor["metadata"] |= {"annotations": {}, "creationTimestamp": "2026-01-01T12:00:00Z"}
    successor["status"] = {"phase": "Pending"}
    fields = {"deletionTimestamp": "2026-01-01T12:00:30Z", "deletionGracePeriodSeconds": 30}
    clusters.physical.put(PODS, {**clusters.twin, "metadata": {**clusters.twin["metadata"], **fields}})
    told = await story(clusters, successor)
    assert told.twin is None
    assert told.waits[0].startswith("the twin of an earlier Pod of this name, lent/web-0-")

    stranger = {**clusters.twin, "metadata": {"name": name_of(clusters.twin), "namespace": "lent"}}
    clusters.physical.put(PODS, stranger)
    told = await story(clusters, successor)
    assert told.waits[0].startswith("the lender, to remove Pod lent/web-0-")


# --- the virtual side alone ----------------------------------------------------------------------------------------------
@pytest.fixture
async def virtual() -> Server:
    """A virtual cluster with one Pod on a virtual node, and a ClusterBinding to another cluster."""
    server = Server(lambda: datetime(2026, 1, 1, 12, tzinfo=UTC))
    vpod, _ = pair()
    vpod["status"] = {"phase": "Pending"}
    server.put(PODS, vpod)
    server.put(CLUSTERBINDINGS, {"metadata": {"name": "other"}, "spec": {"clusterID": "other", "secretRef": {
        "name": "s", "namespace": "n",
    }, "mountNamespace": "lent"}})
    return server


async def explain(server: Server) -> Explanation:
    return await explain_in(cast(Client, server), "shop", "web-0")


async def test_a_virtual_node_whose_binding_is_gone_is_told_with_its_cluster(virtual: Server) -> None:
    virtual.put(NODES, vnode("gone"))
    (wait,) = (await explain(virtual)).waits
    assert f"node {VNODE}, which belongs to clusterID gone, of which there is no ClusterBinding" in wait


async def test_a_pod_on_an_ordinary_node_is_told_to_be_on_one(virtual: Server) -> None:
    virtual.put(NODES, {"metadata": {"name": VNODE}})
    assert f"on {VNODE}, no virtual node\n" in printed(await explain(virtual))


async def test_a_virtual_node_that_is_gone_is_told_by_its_name(virtual: Server) -> None:
    told = await explain(virtual)
    assert "by its name it was a virtual node, and no ClusterBinding has its clusterID" in told.waits[0]
    for cluster_id, name in (("edge", "lender"), ("edge-node", "longer")):  # the longest that fits is meant
        virtual.put(CLUSTERBINDINGS, {"metadata": {"name": name}, "spec": {"clusterID": cluster_id}})
    told = await explain(virtual)
    assert (told.binding, told.story.node_gone) == ("longer", True)
    assert told.trouble.startswith("ClusterBinding longer is not valid")
    assert f"on {VNODE}, which is gone, of ClusterBinding longer, its twin was not seen" in printed(told)


async def test_a_pod_without_a_node_names_the_claim_that_has_no_volume(virtual: Server) -> None:
    vpod = naming(virtual.find(PODS, "web-0", "shop"), persistentVolumeClaim={"claimName": "data"})
    vpod["spec"]["nodeName"] = ""
    virtual.put(PODS, vpod)
    virtual.objects.pop(("clusterbindings", ObjectKey("", "other")))
    told = await explain(virtual)
    assert told.waits[1] == (
        "PersistentVolumeClaim shop/data (spec.volumes[0].persistentVolumeClaim), which does not exist: create it"
    )
    claim = {"metadata": {"name": "data", "namespace": "shop"}, "spec": {"storageClassName": "fast"}}
    virtual.put(PERSISTENTVOLUMECLAIMS, claim)
    assert "there is no StorageClass fast" in (await explain(virtual)).waits[1]
    virtual.put(STORAGECLASSES, {"metadata": {"name": "fast"}, "volumeBindingMode": "WaitForFirstConsumer"})
    assert "usual with StorageClass fast (WaitForFirstConsumer)" in (await explain(virtual)).waits[1]


async def test_a_pod_that_failed_says_why_in_its_first_line(virtual: Server) -> None:
    vpod = virtual.find(PODS, "web-0", "shop")
    virtual.put(PODS, {**vpod, "status": {"phase": "Failed", "reason": "PhysicalPodLost", "message": "its node is gone"}})
    told = await explain(virtual)
    assert printed(told).startswith("Pod shop/web-0: Failed (PhysicalPodLost: its node is gone)")
    assert (as_json(told)["reason"], as_json(told)["message"]) == ("PhysicalPodLost", "its node is gone")


async def test_a_binding_that_complains_or_is_being_deleted_is_told_to_a_pod_without_a_twin(clusters: Clusters) -> None:
    clusters.physical.remove(PODS, ObjectKey("lent", name_of(clusters.twin)))
    vpod = {**clusters.vpod, "metadata": {**clusters.vpod["metadata"], "annotations": {}}, "status": {"phase": "Pending"}}
    said = {"type": "Connected", "status": "False", "reason": "Unreachable", "message": "no answer"}
    none_of_a_pods_business = {"type": "ProxierReady", "status": "False", "reason": "NotStarted"}
    clusters.bound["status"] = {"conditions": [said, {"type": "Ready", "status": "True"}, none_of_a_pods_business]}
    assert (await story(clusters, vpod)).waits[1] == "ClusterBinding b, which says Connected=False (Unreachable: no answer)"
    clusters.bound["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    (wait,) = (await story(clusters, vpod)).waits
    assert wait.startswith("nothing: it gets no twin any more, for ClusterBinding b is being deleted")
