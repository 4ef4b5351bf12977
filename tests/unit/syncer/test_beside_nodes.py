"""What goes with a virtual node: the placeholder of its host ports, its CSINode, its kubelet port. In virtual time."""

import asyncio
from typing import Any

import pytest

from kubeocean.kube.loopback import VNODE_LOOPBACK
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, labels_of, name_of
from kubeocean.kube.resources import CSINODES, NAMESPACES, NODES, PODS
from kubeocean.syncer.bottomup.csinodes import CsiNodeController, remove_csinodes
from kubeocean.syncer.bottomup.placeholders import PlaceholderController, remove_placeholders
from kubeocean.syncer.pairing import Pairing
from tests.unit.syncer.world import World

pytestmark = pytest.mark.looptime
FAKE = "kubeocean-fake"
VNODE = "vnode-edge-node-1"


async def placeholders(pairing: Pairing) -> None:
    part = PlaceholderController(pairing)
    part.attach()
    await part.controller.run()


async def csi_nodes(pairing: Pairing) -> None:
    part = CsiNodeController(pairing)
    part.attach()
    await part.run()


def foreign(world: World, name: str, *ports: Json, phase: str = "Running", **spec: Any) -> None:
    """Have the lender run a Pod on node-1."""
    world.physical_server.put(PODS, {
        "metadata": {"name": name, "namespace": "lender"},
        "spec": {"nodeName": "node-1", "containers": [{"name": "main", "ports": list(ports)}], **spec},
        "status": {"phase": phase},
    })


def taken(world: World) -> list[list[int]]:
    """Return the ports of every placeholder."""
    found = [pod for (plural, key), pod in world.virtual_server.objects.items() if (plural, key.namespace) == ("pods", FAKE)]
    return [[port["hostPort"] for port in pod["spec"]["containers"][0]["ports"]] for pod in found]


async def test_a_placeholder_follows_the_ports_that_foreign_pods_take() -> None:
    world = World()
    foreign(world, "web", {"containerPort": 80, "hostPort": 8080})
    foreign(world, "quiet", {"containerPort": 80})
    async with world.leading(placeholders):
        await asyncio.sleep(5)
        assert taken(world) == [[8080]]
        foreign(world, "dns", {"containerPort": 53, "protocol": "UDP"}, hostNetwork=True)
        await asyncio.sleep(1)
        assert taken(world) == [[8080, 53]]
        foreign(world, "web", {"containerPort": 80, "hostPort": 8080}, phase="Succeeded")
        await asyncio.sleep(1)
        assert taken(world) == [[53]]
        world.physical_server.remove(PODS, ObjectKey("lender", "dns"))
        await asyncio.sleep(1)
        assert taken(world) == []
        assert world.reasons("Pod") == []


async def test_a_successor_finds_the_placeholder_and_writes_nothing() -> None:
    world = World()
    foreign(world, "web", {"containerPort": 80, "hostPort": 8080})
    async with world.leading(placeholders):
        await asyncio.sleep(5)
    world.writes.clear()
    async with world.leading(placeholders):
        await asyncio.sleep(120)
    assert world.writes == []


async def test_the_old_placeholder_goes_before_the_new_one_comes() -> None:
    # The scheduler forgets ports that two Pods of a node had when one of them goes.
    world = World()
    foreign(world, "web", {"containerPort": 80, "hostPort": 8080})
    async with world.leading(placeholders):
        await asyncio.sleep(5)
        world.writes.clear()
        foreign(world, "more", {"containerPort": 80, "hostPort": 9090})
        await asyncio.sleep(5)
        assert [write for write in world.writes if write.endswith("pods")] == ["delete pods", "create pods"]


async def test_one_that_is_deleted_or_loses_its_labels_is_made_anew() -> None:
    world = World()
    foreign(world, "web", {"containerPort": 80, "hostPort": 8080})
    async with world.leading(placeholders):
        await asyncio.sleep(5)
        (pod,) = [pod for (plural, key), pod in world.virtual_server.objects.items() if key.namespace == FAKE]
        world.virtual_server.put(PODS, {**pod, "metadata": {**pod["metadata"], "labels": {}}})
        await asyncio.sleep(5)
        assert labels_of(world.virtual_server.find(PODS, name_of(pod), FAKE))["kubeocean.io/hostport-fake-pod"] == "true"
        world.virtual_server.remove(PODS, ObjectKey(FAKE, name_of(pod)))
        await asyncio.sleep(5)
        assert taken(world) == [[8080]]


async def test_it_goes_with_its_node_and_keeps_nobody_from_going() -> None:
    world = World()
    foreign(world, "web", {"containerPort": 80, "hostPort": 8080})
    async with world.leading(placeholders):
        await asyncio.sleep(5)
        assert taken(world)
        world.policy(cluster="another")
        await asyncio.sleep(10)
        assert world.virtual_server.evictions == []
        assert taken(world) == []
        assert ("nodes", ObjectKey("", VNODE)) not in world.virtual_server.objects


async def test_it_is_no_overhang_and_is_not_moved_when_the_window_shuts() -> None:
    world = World()
    foreign(world, "web", {"containerPort": 80, "hostPort": 8080})
    world.policy(forceReclaim=True, resourceLimits=[{"resource": "pods", "quantity": 0}])
    async with world.leading(placeholders):
        await asyncio.sleep(30)
        assert world.condition("LeaseExceeded") == ""
        world.policy(forceReclaim=True, timeWindows=[{"start": "22:00", "end": "22:01"}])
        await asyncio.sleep(30)
        assert world.effects() == ["NoSchedule", "NoExecute"]
        assert (world.virtual_server.evictions, taken(world)) == ([], [[8080]])


async def test_the_namespace_goes_with_the_last_placeholder_if_we_made_it() -> None:
    world = World()
    foreign(world, "web", {"containerPort": 80, "hostPort": 8080})
    async with world.leading(placeholders):
        await asyncio.sleep(5)
    other = {"metadata": {"name": "fake-pod-for-hostport-x", "namespace": FAKE}, "spec": {"nodeName": "another"}, "status": {}}
    world.virtual_server.put(PODS, other)
    await remove_placeholders(world.virtual, "edge")
    assert world.virtual_server.find(NAMESPACES, FAKE)
    world.virtual_server.remove(PODS, ObjectKey(FAKE, "fake-pod-for-hostport-x"))
    await remove_placeholders(world.virtual, "edge")
    assert ("namespaces", ObjectKey("", FAKE)) not in world.virtual_server.objects


# --- CSINodes ----------------------------------------------------------------------------------------------------------
DRIVER: Json = {"name": "csi.example.com", "nodeID": "n-1", "allocatable": {"count": 8}}


def drivers(world: World) -> list[Json]:
    return list(world.virtual_server.find(CSINODES, VNODE)["spec"]["drivers"])


def attach_volumes(world: World, *drivers: Json) -> None:
    world.physical_server.put(CSINODES, {"metadata": {"name": "node-1"}, "spec": {"drivers": list(drivers)}})


def know_all(world: World) -> None:
    for informer in (world.virtual.csi_nodes, world.physical.csi_nodes):
        informer._synced.set()


async def test_a_csinode_follows_its_machine_and_goes_with_its_node() -> None:
    world = World()
    know_all(world)
    attach_volumes(world, DRIVER)
    async with world.leading(csi_nodes):
        await asyncio.sleep(5)
        assert drivers(world) == [DRIVER]
        assert labels_of(world.virtual_server.find(CSINODES, VNODE)) == labels_of(world.vnode())
        attach_volumes(world, DRIVER, {"name": "other", "nodeID": "n-1"})
        await asyncio.sleep(1)
        assert [driver["name"] for driver in drivers(world)] == ["csi.example.com", "other"]
        attach_volumes(world, {**DRIVER, "nodeID": "n-2"})
        await asyncio.sleep(1)
        assert [driver["nodeID"] for driver in drivers(world)] == ["n-2"]
        world.writes.clear()
        world.policy(timeWindows=[{"start": "22:00", "end": "22:01"}])
        await asyncio.sleep(60)
        assert not [write for write in world.writes if "csinodes" in write], "a window changes nothing about volumes"
        world.policy(cluster="another")
        await asyncio.sleep(10)
        assert ("csinodes", ObjectKey("", VNODE)) not in world.virtual_server.objects


async def test_a_csinode_without_a_machines_or_with_another_owner_is_left_alone() -> None:
    world = World()
    know_all(world)
    mine = world.virtual_server.put(CSINODES, {"metadata": {"name": VNODE, "labels": {"mine": "1"}}, "spec": {"drivers": []}})
    attach_volumes(world, DRIVER)
    async with world.leading(csi_nodes):
        await asyncio.sleep(30)
        assert world.virtual_server.find(CSINODES, VNODE) == mine


async def test_where_csinodes_may_not_be_read_nothing_else_suffers() -> None:
    world = World()
    async with world.leading(csi_nodes):
        await asyncio.sleep(30)
        assert world.vnode()
        assert not [write for write in world.writes if "csinodes" in write]


async def test_unbinding_removes_the_csinodes_of_the_binding_only() -> None:
    world = World()
    know_all(world)
    attach_volumes(world, DRIVER)
    world.virtual_server.put(CSINODES, {"metadata": {"name": "real-node"}, "spec": {"drivers": []}})
    async with world.leading(csi_nodes):
        await asyncio.sleep(5)
    await remove_csinodes(world.virtual, "edge")
    left = [key.name for plural, key in world.virtual_server.objects if plural == "csinodes"]
    assert left == ["real-node"]


# --- kubelet ports -----------------------------------------------------------------------------------------------------
async def test_an_edited_port_label_is_repaired_and_the_port_stays() -> None:
    world = World()
    async with world.leading():
        port = labels_of(world.vnode())["kubeocean.io/proxier_port"]
        await world.virtual_server.patch(NODES, VNODE, "", {"metadata": {"labels": {"kubeocean.io/proxier_port": "1"}}})
        await asyncio.sleep(1)
        assert labels_of(world.vnode())["kubeocean.io/proxier_port"] == port
        assert world.vnode()["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] == int(port)


async def test_two_processes_that_chose_one_port_do_not_keep_it_both() -> None:
    world = World()
    async with world.leading():
        port = int(labels_of(world.vnode())["kubeocean.io/proxier_port"])
        world.virtual_server.put(NODES, {
            "metadata": {
                "name": "vnode-core-x", "labels": {"kubeocean.io/proxier_port": str(port)},
                "creationTimestamp": "2025-12-31T00:00:00Z",
            },
            "status": {"addresses": [{"type": "InternalIP", "address": VNODE_LOOPBACK}]},
        })
        await asyncio.sleep(1)
        assert world.vnode()["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] == port + 1


# --- what users do to it -----------------------------------------------------------------------------------------------
async def test_the_labels_that_make_a_node_ours_come_back_when_they_are_taken_off() -> None:
    world = World()
    async with world.leading():
        before = labels_of(world.vnode())
        for label in ("managed-by", "physical-cluster-id", "cluster-binding"):
            await world.virtual_server.patch(NODES, VNODE, "", {"metadata": {"labels": {f"kubeocean.io/{label}": None}}})
            await asyncio.sleep(1)
            assert labels_of(world.vnode()) == before, label
        assert world.reasons("Node") == ["Leased"]


# --- another machine under the name ------------------------------------------------------------------------------------
async def test_a_machine_of_another_uid_gets_a_new_virtual_node_after_the_old_one_is_drained() -> None:
    world = World()
    world.virtual_server.grace = 5
    async with world.leading():
        world.pod("web")
        world.virtual_server.put(NODES, {**world.vnode(), "metadata": {**world.vnode()["metadata"], "annotations": {
            **annotations_of(world.vnode()), "mark": "old",
        }}})
        world.physical_server.remove(NODES, ObjectKey("", "node-1"))
        world.physical_server.put(NODES, {
            "metadata": {"name": "node-1", "uid": "another"}, "spec": {},
            "status": {"allocatable": {"cpu": "4", "pods": "110"}, "conditions": []},
        })
        await asyncio.sleep(3)
        assert "mark" in annotations_of(world.vnode()), "not before it is drained"
        assert world.vnode()["spec"]["unschedulable"]
        await asyncio.sleep(20)
        assert world.heard_by("web") == ["Evicted"]
        assert "mark" not in annotations_of(world.vnode())
        assert annotations_of(world.vnode())["kubeocean.io/physical-node-uid"] == "another"
        assert not world.vnode()["spec"].get("unschedulable")
