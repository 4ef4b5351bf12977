"""A Pod bound to a virtual node runs on the physical node behind it, and both sides know each other."""

import hashlib
from collections.abc import Iterator

import pytest

from kubeocean.kube.meta import Json, annotations_of, labels_of, name_of, namespace_of, uid_of
from kubeocean.kube.resources import DEPLOYMENTS, NAMESPACES, NODES, PODS, PRIORITYCLASSES
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.federation import (
    Federation,
    Lender,
    build_pod,
    build_pod_spec,
    condition,
    eventually,
    for_a_module,
    is_running,
    make_namespace,
    twin_name,
)
from tests.integration.programs import Program


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    with for_a_module(sandbox, lambda federation: federation.lend(nodes=2)) as lender:
        yield lender


@pytest.fixture(scope="module")
def direct(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    """A binding of the second physical cluster, with directScheduling."""
    with for_a_module(sandbox, lambda federation: federation.lend(cluster=1, directScheduling=True)) as lender:
        yield lender


async def run(federation: Federation, lender: Lender, pod: Json) -> tuple[Json, Json]:
    """Create a Pod; return it and its twin once it runs."""
    await federation.virtual.create(PODS, pod)
    (vpod,) = await federation.running(namespace_of(pod), name_of(pod))
    twin = await federation.twin(lender, vpod)
    assert twin, "runs without a twin"
    return vpod, twin


async def test_a_pod_runs_on_the_node_behind_its_virtual_node_by_affinity(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    pod = build_pod("web", namespace, lender, nodeSelector={"kubernetes.io/hostname": lender.vnode(1)})
    vpod, twin = await run(federation, lender, pod)
    assert vpod["spec"]["nodeName"] == lender.vnode(1)
    assert twin["spec"]["nodeName"] == lender.pool.nodes[1]
    assert condition(twin, "PodScheduled")["status"] == "True", "the physical scheduler placed it"
    terms = twin["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms == [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [lender.pool.nodes[1]]}]}]


async def test_with_direct_scheduling_the_twin_is_born_on_its_node(
    federation: Federation, direct: Lender, namespace: str
) -> None:
    vpod, twin = await run(federation, direct, build_pod("web", namespace, direct))
    assert twin["spec"]["nodeName"] == direct.pool.nodes[0]
    assert "affinity" not in twin["spec"]
    assert vpod["spec"]["nodeName"] == direct.vnode()


async def test_both_sides_name_each_other(federation: Federation, lender: Lender, namespace: str) -> None:
    metadata = {"labels": {"app": "web"}, "annotations": {"example.com/note": "hello"}}
    vpod, twin = await run(federation, lender, build_pod("web", namespace, lender, metadata=metadata))
    assert (name_of(twin), namespace_of(twin)) == (twin_name("web", namespace), lender.mount_namespace)
    told = {key: text for key, text in annotations_of(vpod).items() if key.startswith("kubeocean.io/")}
    assert told == {
        "kubeocean.io/physical-pod-namespace": lender.mount_namespace,
        "kubeocean.io/physical-pod-name": name_of(twin),
        "kubeocean.io/physical-pod-uid": uid_of(twin), "kubeocean.io/mapped-uid": uid_of(vpod),
    }
    virtual_uid = uid_of(await federation.virtual.get(NAMESPACES, "kube-system"))
    owner = f"{virtual_uid}/{lender.cluster_id}"
    marks = dict(annotations_of(twin))
    assert marks.pop("kubeocean.io/content-hash")
    assert marks.pop("kubeocean.io/expected-metadata")
    assert marks == {
        "example.com/note": "hello",
        "kubeocean.io/virtual-pod-namespace": namespace,
        "kubeocean.io/virtual-pod-name": "web",
        "kubeocean.io/virtual-pod-uid": uid_of(vpod),
        "kubeocean.io/virtual-node-name": vpod["spec"]["nodeName"],
        "kubeocean.io/owner": owner,
    }
    assert labels_of(twin) == {
        "app": "web",
        "kubeocean.io/managed-by": "kubeocean",
        "kubeocean.io/owner": hashlib.sha256(owner.encode()).hexdigest()[:16],
        "kubeocean.io/virtual-namespace": namespace,
        "kubeocean.io/workload-type": "pod",
        "kubeocean.io/workload-name": "web",
    }
    assert "ownerReferences" not in twin["metadata"]
    assert "finalizers" not in twin["metadata"]
    assert "kubeocean" not in str(labels_of(vpod)), "the user's labels are the user's"


async def test_the_mount_namespace_is_claimed_and_the_priority_class_is_there(
    federation: Federation, lender: Lender
) -> None:
    mount = await federation.physical[0].get(NAMESPACES, lender.mount_namespace)
    virtual_uid = uid_of(await federation.virtual.get(NAMESPACES, "kube-system"))
    assert annotations_of(mount)["kubeocean.io/claimed-by"] == f"{virtual_uid}/{lender.cluster_id}"
    priority = await federation.physical[0].get(PRIORITYCLASSES, "kubeocean-default")
    assert priority["value"] == -10000
    assert "kubeocean.io/owner" not in labels_of(priority), "all borrowers share it"


async def test_a_twin_is_a_guest_of_the_physical_cluster(federation: Federation, lender: Lender, namespace: str) -> None:
    _, twin = await run(federation, lender, build_pod("web", namespace, lender))
    spec = twin["spec"]
    assert spec["priorityClassName"] == "kubeocean-default"
    assert spec["priority"] == -10000
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert "nodeSelector" not in spec
    assert spec["schedulerName"] == "default-scheduler"
    env = {each["name"]: each.get("value", "") for each in spec["containers"][0]["env"]}
    # Unknown virtual API server: rather none than the lender's, to which the kubelet would point.
    assert env["KUBERNETES_SERVICE_HOST"] == env["KUBERNETES_SERVICE_PORT"] == ""
    assert spec["hostname"] == env["HOSTNAME"] == "web"


async def test_what_the_downward_api_tells_is_the_virtual_pods(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    paths = {"NAME": "metadata.name", "NAMESPACE": "metadata.namespace", "NODE": "spec.nodeName", "UID": "metadata.uid"}
    env = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in paths.items()]
    containers = [{"name": "main", "image": "busybox", "env": env}]
    vpod, twin = await run(federation, lender, build_pod("web", namespace, lender, containers=containers))
    expected = {"NAME": "web", "NAMESPACE": namespace, "NODE": vpod["spec"]["nodeName"], "UID": uid_of(vpod)}
    for each in twin["spec"]["containers"][0]["env"]:
        if each["name"] in expected:
            path = each["valueFrom"]["fieldRef"]["fieldPath"]
            assert path.startswith("metadata.annotations['"), each
            assert annotations_of(twin)[path.split("'")[1]] == expected.pop(each["name"])
    assert not expected, f"not there: {expected}"


async def test_a_deployments_pods_say_so_on_their_twins(federation: Federation, lender: Lender, namespace: str) -> None:
    labels = {"app": "shop"}
    await federation.virtual.create(DEPLOYMENTS, {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop", "namespace": namespace},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": build_pod_spec(lender)},
        },
    })

    async def three_run() -> list[Json]:
        pods = (await federation.virtual.list(PODS, namespace)).items
        assert [is_running(pod) for pod in pods] == [True] * 3, [pod.get("status") for pod in pods]
        return pods

    for pod in await eventually(three_run, within=20, what="three replicas run"):
        twin = await federation.twin(lender, pod)
        assert twin is not None
        assert labels_of(twin)["kubeocean.io/workload-type"].lower() == "deployment"
        assert labels_of(twin)["kubeocean.io/workload-name"] == "shop"


async def test_the_same_name_in_two_namespaces_is_two_pods(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    other = await make_namespace(federation.virtual)
    federation.made.virtual.append((NAMESPACES, other, ""))
    await federation.virtual.create(PODS, build_pod("web", other, lender))
    one, twin = await run(federation, lender, build_pod("web", namespace, lender))
    (two,) = await federation.running(other, "web")
    other_twin = await federation.twin(lender, two)
    assert other_twin is not None
    assert annotations_of(twin)["kubeocean.io/virtual-pod-uid"] == uid_of(one)
    assert annotations_of(other_twin)["kubeocean.io/virtual-pod-uid"] == uid_of(two)
    assert name_of(twin) != name_of(other_twin)


async def test_what_the_physical_scheduler_has_against_a_pod_is_told_until_it_gives_way(
    federation: Federation, namespace: str, manager: Program
) -> None:
    lender = await federation.lend()
    physical, (node,) = federation.physical[0], lender.pool.nodes
    keep_out: Json = {"key": "lender.example/maintenance", "effect": "NoSchedule"}
    await physical.patch(NODES, node, "", {"spec": {"taints": [keep_out]}})
    await federation.virtual.create(PODS, build_pod("web", namespace, lender, nodeName=lender.vnode()))

    async def told() -> Json:
        pod = await federation.virtual.get(PODS, "web", namespace)
        said = condition(pod, "PhysicalPodScheduled")
        assert (said.get("status"), said.get("reason")) == ("False", "Unschedulable"), pod["status"]
        assert "untolerated taint" in said["message"], said
        return pod

    pod = await eventually(told, within=20, what="the scheduler's words")
    assert pod["status"]["phase"] == "Pending"
    await physical.patch(NODES, node, "", {"spec": {"taints": None}})
    (pod,) = await federation.running(namespace, "web")
    assert condition(pod, "PhysicalPodScheduled") == {}, "what was in the way is in the way no more"
