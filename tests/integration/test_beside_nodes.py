"""What goes with a virtual node: its CSINode, the placeholder of its host ports, its kubelet port; and unusual machines."""

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from kubeocean.kube.errors import AlreadyExists
from kubeocean.kube.meta import Json, annotations_of, is_deleting, labels_of, name_of, uid_of
from kubeocean.kube.resources import CSINODES, NAMESPACES, NODES, PODS
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.federation import (
    Federation,
    Lender,
    build_pod,
    discard,
    eventually,
    find,
    for_a_module,
    make_namespace,
)
from tests.integration.programs import Program

FAKE = "kubeocean-fake"


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    with for_a_module(sandbox, lambda federation: federation.lend(nodes=2)) as lender:
        yield lender


# --- host ports --------------------------------------------------------------------------------------------------------
async def run_foreign(federation: Federation, lender: Lender, name: str, *ports: Json, **spec: Any) -> None:
    """Have the lender run a Pod of his own on the pool's first node."""
    federation.made.physical.append((0, PODS, name, "default"))
    container = {"name": "main", "image": "busybox", "ports": list(ports)}
    await federation.physical[0].create(PODS, {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": lender.pool.nodes[0], "containers": [container], "terminationGracePeriodSeconds": 1, **spec},
    })


async def placeholders(federation: Federation, lender: Lender) -> list[Json]:
    pods = (await federation.virtual.list(PODS, FAKE)).items
    return [pod for pod in pods if pod["spec"].get("nodeName") in lender.vnodes]


async def takes(federation: Federation, lender: Lender, *ports: tuple[str, str, int]) -> Json:
    """Return the placeholder once there is exactly one, with exactly these ports in this order."""
    async def shown() -> Json:
        (pod,) = await placeholders(federation, lender) or [{}]
        assert pod, "no placeholder"
        (container,) = pod["spec"]["containers"]
        found = [(port["hostIP"], port["protocol"], port["hostPort"]) for port in container["ports"]]
        assert found == list(ports), f"it takes {found}"
        return pod

    placeholder: Json = await eventually(shown, within=15, what="the placeholder")
    return placeholder


async def test_host_ports_of_foreign_pods_keep_ours_off_the_node(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    tag = lender.pool.name
    await run_foreign(federation, lender, f"web-{tag}", {"containerPort": 80, "hostPort": 8080})
    first = await takes(federation, lender, ("0.0.0.0", "TCP", 8080))
    marks = {"kubeocean.io/hostport-fake-pod": "true", "kubeocean.io/managed-by": "kubeocean"}
    assert labels_of(first).items() >= marks.items()
    assert name_of(first).startswith("fake-pod-for-hostport-")
    assert {"operator": "Exists"} in first["spec"]["tolerations"]
    assert first["spec"]["containers"][0]["ports"][0]["name"] == "port-0"

    await run_foreign(federation, lender, f"dns-{tag}", {"containerPort": 53, "protocol": "UDP"}, hostNetwork=True)
    second = await takes(federation, lender, ("0.0.0.0", "TCP", 8080), ("0.0.0.0", "UDP", 53))
    assert uid_of(second) != uid_of(first)

    # The virtual scheduler knows: both Pods that want the port end up on the other node, or nowhere.
    port = [{"name": "main", "image": "busybox", "ports": [{"containerPort": 80, "hostPort": 8080}]}]
    await federation.virtual.create(PODS, build_pod("fits", namespace, lender, containers=port))
    (fits,) = await federation.running(namespace, "fits")
    assert fits["spec"]["nodeName"] == lender.vnode(1)
    await federation.virtual.create(PODS, build_pod("fits-not", namespace, lender, containers=port))

    async def refused() -> bool:
        pod = await federation.virtual.get(PODS, "fits-not", namespace)
        told = [each for each in pod["status"].get("conditions") or () if each["type"] == "PodScheduled"]
        assert told, "not looked at yet"
        assert "free ports" in told[0].get("message", ""), told
        return True

    await eventually(refused, what="the scheduler says that the port is taken")
    status = (await takes(federation, lender, ("0.0.0.0", "TCP", 8080), ("0.0.0.0", "UDP", 53)))["status"]
    assert not [each for each in status.get("conditions") or () if each["type"].startswith("PhysicalPod")], "nobody maps it"
    assert len(await federation.twins(lender)) == 1

    await discard(federation.physical[0], PODS, f"web-{tag}", "default", grace_seconds=0)
    await takes(federation, lender, ("0.0.0.0", "UDP", 53))
    await discard(federation.physical[0], PODS, f"dns-{tag}", "default", grace_seconds=0)

    async def none() -> bool:
        return not await placeholders(federation, lender)

    await eventually(none, what="no placeholder without ports")
    await discard(federation.virtual, PODS, "fits", namespace, grace_seconds=1)


async def test_the_placeholder_goes_at_unbinding_and_its_namespace_with_the_last_one(federation: Federation) -> None:
    one, other = await federation.lend(), await federation.lend()
    for lender in (one, other):
        await run_foreign(federation, lender, f"web-{lender.pool.name}", {"containerPort": 80, "hostPort": 8080})
        await takes(federation, lender, ("0.0.0.0", "TCP", 8080))
    await federation.unbind(one)
    assert not await placeholders(federation, one)
    kept = await federation.virtual.get(NAMESPACES, FAKE)
    assert not is_deleting(kept)
    assert len(await placeholders(federation, other)) == 1
    await federation.unbind(other)
    if (await federation.virtual.list(PODS, FAKE)).items:
        return  # other tests of this session need it

    async def gone() -> bool:
        return await find(federation.virtual, NAMESPACES, FAKE) is None

    await eventually(gone, within=20, what="the namespace we made is gone")


# --- CSINodes ----------------------------------------------------------------------------------------------------------
DRIVER: Json = {
    "name": "csi.example.com", "nodeID": "machine-1", "topologyKeys": ["example.com/zone"], "allocatable": {"count": 8},
}


def build_csinode(name: str, *drivers: Json) -> Json:
    return {
        "apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": name}, "spec": {"drivers": list(drivers)},
    }


async def write_csinode(federation: Federation, node: str, *drivers: Json) -> None:
    obj = build_csinode(node, *drivers)
    try:
        await federation.physical[0].create(CSINODES, obj)
        federation.made.physical.append((0, CSINODES, node, ""))
    except AlreadyExists:
        await federation.physical[0].patch(CSINODES, node, "", {"spec": obj["spec"]})


async def test_a_csinode_is_mirrored_with_its_node(federation: Federation, lender: Lender) -> None:
    node, vnode = lender.pool.nodes[0], lender.vnode(0)
    await write_csinode(federation, node, DRIVER)

    async def shows(*names: str) -> Json:
        found = await find(federation.virtual, CSINODES, vnode)
        assert found, "no CSINode"
        assert [driver["name"] for driver in found["spec"]["drivers"]] == list(names), found["spec"]
        return found

    csinode = await eventually(lambda: shows("csi.example.com"), what="CSINode")
    assert csinode["spec"]["drivers"] == [DRIVER]
    owner = await federation.virtual.get(NODES, vnode)
    assert labels_of(csinode) == labels_of(owner)
    for key in ("physical-node-name", "physical-node-uid", "policies-applied", "policy-details"):
        assert annotations_of(csinode)[f"kubeocean.io/{key}"] == annotations_of(owner)[f"kubeocean.io/{key}"]
    await write_csinode(federation, node, DRIVER, {**DRIVER, "name": "second.example.com"})
    await eventually(lambda: shows("csi.example.com", "second.example.com"), what="a second driver")
    await discard(federation.virtual, CSINODES, vnode)
    await eventually(lambda: shows("csi.example.com", "second.example.com"), what="CSINode is back")
    await discard(federation.physical[0], CSINODES, node)

    async def gone() -> bool:
        return await find(federation.virtual, CSINODES, vnode) is None

    await eventually(gone, what="it goes with the machine's")


async def test_a_csinode_that_is_not_ours_is_left_alone(federation: Federation) -> None:
    pool = await federation.pool()
    await write_csinode(federation, pool.nodes[0], DRIVER)
    lender = await federation.bind(pool)
    before = await federation.create(CSINODES, build_csinode(lender.vnode()))
    await federation.policy(lender)
    await federation.vnodes(lender)
    await federation.unbind(lender)
    after = await federation.virtual.get(CSINODES, lender.vnode())
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_unbinding_takes_the_csinodes_along(federation: Federation) -> None:
    lender = await federation.lend()
    await write_csinode(federation, lender.pool.nodes[0], DRIVER)

    async def there() -> bool:
        return await find(federation.virtual, CSINODES, lender.vnode()) is not None

    await eventually(there, what="CSINode")
    await federation.unbind(lender)
    assert not await there()


# --- names, machines, conditions, ports --------------------------------------------------------------------------------
async def test_a_node_with_a_very_long_name_is_leased_under_a_short_one(federation: Federation, lender: Lender) -> None:
    name = f"{lender.pool.name}-" + "very-long-" * 4 + "name"  # fits into a label, but not with our prefix
    full = f"vnode-{lender.cluster_id}-{name}"
    short = f"{full[:30]}-{hashlib.md5(full.encode()).hexdigest()}"
    assert len(short) == 63
    await federation.add_node(lender.pool, name)

    async def leased() -> Json | None:
        return await find(federation.virtual, NODES, short)

    vnode = await eventually(leased, what="its virtual node")
    assert annotations_of(vnode)["kubeocean.io/physical-node-name"] == name
    assert labels_of(vnode)["kubernetes.io/hostname"] == short
    namespace = await make_namespace(federation.virtual)
    await federation.virtual.create(PODS, build_pod("web", namespace, lender, nodeSelector={"kubernetes.io/hostname": short}))
    (pod,) = await federation.running(namespace, "web")
    twin = await federation.twin(lender, pod)
    assert twin
    assert twin["spec"]["nodeName"] == name
    await discard(federation.physical[0], NODES, name)

    async def gone() -> bool:
        return await leased() is None

    await eventually(gone, within=30, what="it goes with its machine")


async def test_another_machine_under_the_same_name_gets_a_virtual_node_of_its_own(federation: Federation) -> None:
    lender = await federation.lend()
    namespace = await make_namespace(federation.virtual)
    await federation.virtual.create(PODS, build_pod("web", namespace, lender, terminationGracePeriodSeconds=1))
    await federation.running(namespace, "web")
    before = await federation.virtual.get(NODES, lender.vnode())
    await discard(federation.physical[0], NODES, lender.pool.nodes[0])
    machine = await federation.add_node(lender.pool, lender.pool.nodes[0])

    async def made_anew() -> Json:
        vnode = await find(federation.virtual, NODES, lender.vnode())
        assert vnode, "gone, and not back yet"
        assert uid_of(vnode) != uid_of(before), f"the old one: {vnode['spec']}"
        return vnode

    after = await eventually(made_anew, within=30, what="a new virtual node")
    assert annotations_of(after)["kubeocean.io/physical-node-uid"] == uid_of(machine)
    assert await find(federation.virtual, PODS, "web", namespace) is None, "it was not drained"


async def test_conditions_come_and_go_with_the_machines(federation: Federation, lender: Lender) -> None:
    node, vnode = lender.pool.nodes[1], lender.vnode(1)
    deadlock = {"type": "KernelDeadlock", "status": "False", "reason": "KernelHasNoDeadlock", "message": "fine"}
    await federation.virtual.patch(NODES, vnode, "", {
        "status": {"conditions": [
            *(await federation.virtual.get(NODES, vnode))["status"]["conditions"], {"type": "UsersOwn", "status": "True"},
        ]},
    }, subresource="status")

    async def patch(conditions: list[Json]) -> None:
        await federation.physical[0].patch(NODES, node, "", {"status": {"conditions": conditions}}, subresource="status")

    async def shown(kind: str, expected: bool) -> bool:
        conditions = (await federation.virtual.get(NODES, vnode))["status"]["conditions"]
        assert (kind in {each["type"] for each in conditions}) is expected, conditions
        return True

    before = (await federation.physical[0].get(NODES, node))["status"]["conditions"]
    await patch([*before, deadlock])
    await eventually(lambda: shown("KernelDeadlock", True), what="a condition that node-problem-detector adds")
    await patch(before)
    await eventually(lambda: shown("KernelDeadlock", False), what="the condition goes")
    assert await shown("UsersOwn", True)


async def test_an_edited_port_label_is_put_right(federation: Federation, lender: Lender) -> None:
    label = "kubeocean.io/proxier_port"
    before = labels_of(await federation.virtual.get(NODES, lender.vnode(1)))[label]
    await federation.virtual.patch(NODES, lender.vnode(1), "", {"metadata": {"labels": {label: "4711"}}})

    async def repaired() -> bool:
        vnode = await federation.virtual.get(NODES, lender.vnode(1))
        assert vnode["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] == int(before)
        return labels_of(vnode)[label] == before

    await eventually(repaired, what="the port is as it was")


async def test_a_node_that_goes_does_not_wait_for_its_placeholder(federation: Federation) -> None:
    lender = await federation.lend(nodes=2)
    await run_foreign(federation, lender, f"web-{lender.pool.name}", {"containerPort": 80, "hostPort": 8080})
    await takes(federation, lender, ("0.0.0.0", "TCP", 8080))
    await discard(federation.physical[0], NODES, lender.pool.nodes[0])

    async def gone() -> bool:
        assert await find(federation.virtual, NODES, lender.vnode(0)) is None
        return not await placeholders(federation, lender)

    await eventually(gone, within=20, what="node and placeholder are gone")
