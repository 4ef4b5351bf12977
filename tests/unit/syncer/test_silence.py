"""A physical cluster that has been silent for 40 s: nobody knows how its nodes and Pods fare, and they say so. Virtual time."""

import asyncio

import pytest

from kubeocean.domain.naming import physical_name
from kubeocean.kube.meta import Json, uid_of
from kubeocean.kube.resources import NODES, PODS
from kubeocean.syncer.bottomup.silence import watch_silence
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.pods import PodController
from tests.unit.syncer.world import World

pytestmark = pytest.mark.looptime
READY: Json = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": "2026-01-01T00:00:00Z"}


async def pods(pairing: Pairing) -> None:
    part = PodController(pairing)
    part.attach()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(part.controller.run())
        tasks.create_task(watch_silence(pairing, part.enqueue_all))


async def begin() -> World:
    """Return a world with a Ready node, and on it a Pod whose twin is Ready."""
    world = World()
    async with world.leading():
        pass  # the virtual node is there
    node = world.physical_server.find(NODES, "node-1")
    world.physical_server.put(NODES, {**node, "status": {**node["status"], "conditions": [READY]}})
    world.pod("web")
    vpod = world.virtual_server.find(PODS, "web", "ns")
    owner = world.physical.owner
    world.physical_server.put(PODS, {
        "metadata": {
            "name": physical_name("web", "ns"), "namespace": "mount", "labels": owner.labels(), "annotations": {
                **owner.annotations(), "kubeocean.io/virtual-pod-namespace": "ns", "kubeocean.io/virtual-pod-name": "web",
                "kubeocean.io/virtual-pod-uid": uid_of(vpod),
            },
        },
        "spec": {"nodeName": "node-1", "containers": []}, "status": {"phase": "Running", "conditions": [READY]},
    })
    return world


def fall_silent(world: World) -> None:
    for _ in range(3):
        world.reachability.failed("timeout")


def ready(world: World) -> tuple[str, str]:
    """Return what virtual node and virtual Pod say about Ready."""
    conditions = world.virtual_server.find(PODS, "web", "ns")["status"].get("conditions") or ()
    return world.condition("Ready"), next((each["status"] for each in conditions if each["type"] == "Ready"), "")


async def test_after_40_s_nodes_are_unknown_and_pods_out_of_service_until_it_is_heard_again() -> None:
    world = await begin()
    async with world.leading(pods):
        await asyncio.sleep(10)
        assert ready(world) == ("True", "True")
        world.reachability.succeeded()
        await asyncio.sleep(14)
        fall_silent(world)
        await asyncio.sleep(25)
        assert ready(world) == ("True", "True"), "39 s since its last answer"
        await asyncio.sleep(2)
        assert ready(world) == ("Unknown", "False")
        (condition,) = world.virtual_server.find(PODS, "web", "ns")["status"]["conditions"]
        assert condition["reason"] == "NodeLost"
        since = next(each for each in world.vnode()["status"]["conditions"] if each["type"] == "Ready")["lastTransitionTime"]
        assert since == "2026-01-01T12:00:50Z"
        assert "kubeocean.io/cluster-unreachable" in {taint["key"] for taint in world.vnode()["spec"]["taints"]}
        world.reachability.succeeded()
        await asyncio.sleep(1)
        assert ready(world) == ("True", "True")
        assert "kubeocean.io/cluster-unreachable" not in {taint["key"] for taint in world.vnode()["spec"]["taints"]}


async def test_it_is_said_once() -> None:
    world = await begin()
    async with world.leading(pods):
        await asyncio.sleep(10)
        fall_silent(world)
        await asyncio.sleep(60)
        assert ready(world) == ("Unknown", "False")
        world.writes.clear()
        await asyncio.sleep(3600)
        assert world.writes == []


async def test_a_short_silence_changes_nothing_about_ready() -> None:
    world = await begin()
    async with world.leading(pods):
        await asyncio.sleep(10)
        world.reachability.succeeded()
        fall_silent(world)
        await asyncio.sleep(30)
        world.reachability.succeeded()
        world.writes.clear()
        await asyncio.sleep(60)
        assert not [write for write in world.writes if "status" in write]
        assert ready(world) == ("True", "True")
