"""A virtual API server that knows fewer fields than the physical one: what it drops is said once, and nothing waits for it."""

import asyncio
import copy
from typing import Any

import pytest

from kubeocean.kube.client import PatchType
from kubeocean.kube.meta import Json, labels_of
from kubeocean.kube.patch import apply_merge
from kubeocean.kube.resources import PODS, Resource
from kubeocean.syncer.bottomup.leases import LeaseKeeper
from kubeocean.syncer.bottomup.nodes import NodeController
from kubeocean.syncer.patrol import Patrol
from kubeocean.syncer.topdown.strays import StrayController
from tests.unit.syncer.test_pod_proofs import KEY, Case, with_twin
from tests.unit.syncer.world import World

pytestmark = pytest.mark.looptime
NEW_FIELD = {"requests": {"cpu": "1"}}


@pytest.fixture
async def case(monkeypatch: pytest.MonkeyPatch) -> Case:
    """A Pod that runs, above it a server that drops `resources` of container statuses; a patch that changes nothing is none."""
    world = World()
    server, patch = world.virtual_server, world.virtual_server.patch

    async def drop(resource: Resource, name: str, namespace: str, sent: Json, **rest: Any) -> Json:
        sent = copy.deepcopy(sent)
        for status in (sent.get("status") or {}).get("containerStatuses") or ():
            status.pop("resources", None)
        found = server.find(resource, name, namespace)
        if rest.get("kind") is PatchType.STRATEGIC and apply_merge(found, sent) == found:
            server.writes.append(f"vain patch {resource.plural}")
            return found
        return await patch(resource, name, namespace, sent, **rest)

    monkeypatch.setattr(server, "patch", drop)
    made = await with_twin(world)
    run_twin(made, started=False)
    for _ in range(3):
        await made.run()
    return made


def run_twin(case: Case, *, started: bool) -> None:
    twin = case.twin()
    assert twin
    statuses = [{"name": "main", "ready": started, "resources": NEW_FIELD}]
    running = {"spec": {"nodeName": "node-1"}, "status": {"phase": "Running", "containerStatuses": statuses}}
    case.world.physical_server.put(PODS, apply_merge(twin, running))


def vain(case: Case) -> int:
    return case.world.virtual_server.writes.count("vain patch pods")


async def test_it_is_sent_once(case: Case) -> None:
    vpod = case.vpod()
    assert vpod
    assert vpod["status"]["phase"] == "Running"
    assert vain(case) == 1
    for _ in range(3):
        await case.run()
    assert vain(case) == 1


async def test_news_of_the_twin_are_told_all_the_same(case: Case) -> None:
    await asyncio.sleep(0.1)
    run_twin(case, started=True)
    await asyncio.sleep(0.1)
    for _ in range(4):
        await case.run()
    vpod = case.vpod()
    assert vpod
    assert vpod["status"]["containerStatuses"] == [{"name": "main", "ready": True}]
    assert vain(case) == 2


async def test_later_changes_reach_the_twin(case: Case) -> None:
    vpod = case.vpod()
    assert vpod
    case.world.virtual_server.put(PODS, apply_merge(vpod, {"metadata": {"labels": {"tier": "gold"}}}))
    await asyncio.sleep(0.1)
    for _ in range(3):
        await case.run()
    twin = case.twin()
    assert twin
    assert labels_of(twin)["tier"] == "gold"


async def test_the_patrol_does_not_have_it_tried_again(case: Case) -> None:
    pairing = case.pods.pairing
    patrol = Patrol(
        pairing, case.pods, StrayController(pairing, case.pods.controller.enqueue),
        NodeController(pairing, LeaseKeeper(pairing)),
    )
    assert await patrol.round() == set()


async def test_a_pod_that_is_gone_is_forgotten(case: Case) -> None:
    case.pods.attach()
    case.world.virtual_server.remove(PODS, KEY)
    await asyncio.sleep(0.1)
    assert case.pods.unsaid._revisions == {}
