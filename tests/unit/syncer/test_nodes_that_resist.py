"""A node's end, its window and its heartbeat do not depend on others' good will."""

import asyncio
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest

from kubeocean.kube.errors import Forbidden
from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.kube.resources import LEASES, NODES, PODS
from kubeocean.syncer.bottomup.leases import LeaseKeeper
from kubeocean.syncer.bottomup.marks import is_marked
from kubeocean.syncer.pairing import Pairing
from tests.unit.syncer.world import World

pytestmark = pytest.mark.looptime
EVERYTHING = [{"operator": "Exists"}]


def daemon(world: World) -> Json:
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "cni", "uid": "d", "controller": True}
    return world.virtual_server.put(PODS, {
        "metadata": {"name": "cni-x", "namespace": "ns", "ownerReferences": [owner]},
        "spec": {"nodeName": "vnode-edge-node-1", "tolerations": EVERYTHING, "containers": [{"name": "main"}]},
        "status": {"phase": "Running"},
    })


async def test_a_daemonset_that_tolerates_everything_does_not_keep_a_node_for_ever() -> None:
    world = World()
    async with world.leading() as nodes:
        daemon(world)
        world.pod("web")
        await asyncio.sleep(0.5)
        world.policy(nodeSelector={"nodeSelectorTerms": [{"matchExpressions": [{"key": "no", "operator": "Exists"}]}]})
        nodes.enqueue_all()
        await asyncio.sleep(10)
    assert ("nodes", ObjectKey("", "vnode-edge-node-1")) not in world.virtual_server.objects
    assert [name for _, name in world.virtual_server.evictions] == ["web"]


def marks_are_forbidden(world: World) -> AbstractContextManager[Any]:
    patch = world.physical_server.patch

    async def refuse(resource: Any, *arguments: Any, **options: Any) -> Json:
        if resource == NODES:
            raise Forbidden("nodes may not be patched", status=403)
        return await patch(resource, *arguments, **options)

    return mock.patch.object(world.physical_server, "patch", refuse)  # a fault no real server gives on demand


async def test_a_window_closes_in_time_although_marks_cannot_be_written() -> None:
    world = World()
    world.policy(timeWindows=[{"start": "11:00", "end": "12:00"}])  # it is 12:00:00.25: shut at 12:01
    with marks_are_forbidden(world):
        async with world.leading():
            await asyncio.sleep(58)
            assert world.effects() == []
            await asyncio.sleep(2.5)
            assert world.effects() == ["NoSchedule"]


def a_kubelet_is_always_faster(world: World) -> AbstractContextManager[Any]:
    patch = world.physical_server.patch

    async def after_the_kubelet(resource: Any, name: str, *arguments: Any, **options: Any) -> Json:
        if resource == NODES:
            world.physical_server.put(NODES, dict(world.physical_server.find(NODES, name)))
        return await patch(resource, name, *arguments, **options)

    return mock.patch.object(world.physical_server, "patch", after_the_kubelet)  # a race that no real server loses on demand


async def test_a_node_is_marked_at_once_although_its_kubelet_writes_to_it_all_the_time() -> None:
    world = World()
    world.policy()
    with a_kubelet_is_always_faster(world):
        async with world.leading():
            await asyncio.sleep(0.5)
    assert is_marked(world.physical_server.find(NODES, "node-1"), "virtual-uid/edge")
    assert world.physical_server.writes.count("patch nodes") == 1


async def test_a_heartbeat_left_by_another_program_is_taken_over() -> None:
    world = World()
    kept: list[LeaseKeeper] = []

    async def leases(pairing: Pairing) -> None:
        kept.append(LeaseKeeper(pairing))
        await kept[0].run()

    world.virtual_server.put(LEASES, {
        "metadata": {"name": "vnode-edge-node-1", "namespace": "kube-node-lease"},
        "spec": {"renewTime": "2020-01-01T00:00:00.000000Z"},
    })
    async with world.leading(leases):
        await asyncio.sleep(2)
    lease = world.virtual_server.find(LEASES, "vnode-edge-node-1", "kube-node-lease")
    assert lease["spec"]["renewTime"].startswith("2026-01-01")
    assert [owner["kind"] for owner in lease["metadata"]["ownerReferences"]] == ["Node"]
