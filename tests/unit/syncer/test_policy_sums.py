"""What a policy's status sums up is the whole, also just after a start."""

import asyncio
from typing import Any

import pytest

from kubeocean.api.resources import RESOURCELEASINGPOLICIES
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import NODES
from kubeocean.syncer.bottomup.policies import PolicyController
from kubeocean.syncer.pairing import Pairing
from tests.unit.syncer.world import World

pytestmark = pytest.mark.looptime
NODES_LENT = 20  # more than the node controller looks at at once
SUMS = "patch resourceleasingpolicies/status"


async def policies(pairing: Pairing) -> None:
    """Keep the policies of the pairing."""
    kept = PolicyController(pairing)
    kept.attach()
    await kept.controller.run()


async def wide_world() -> World:
    """Return a world, known to the caches, with many nodes that it takes a while to look at."""
    world = World()
    for number in range(2, NODES_LENT + 1):
        world.add_node(f"node-{number}")
    world.policy()
    create = world.virtual_server.create

    async def slowly(resource: Any, *arguments: Any, **options: Any) -> Json:
        if resource == NODES:
            await asyncio.sleep(3)
        return await create(resource, *arguments, **options)

    world.virtual_server.create = slowly  # type: ignore[method-assign]  # as slow as no real server is on demand
    await asyncio.sleep(0.1)
    return world


async def test_a_policy_is_summed_up_once_and_only_when_every_node_was_looked_at() -> None:
    world = await wide_world()
    async with world.leading(policies):
        await asyncio.sleep(4)
        assert SUMS not in world.writes
        await asyncio.sleep(20)
        assert world.writes.count(SUMS) == 1
    status = world.virtual_server.find(RESOURCELEASINGPOLICIES, "rlp")["status"]
    assert (status["nodes"], status["leased"]["cpu"]) == (NODES_LENT, str(8 * NODES_LENT))


async def test_a_node_that_is_gone_before_its_turn_keeps_no_policy_waiting() -> None:
    world = await wide_world()
    async with world.leading(policies) as nodes:
        nodes.pairing.undecided_nodes.add("node-of-yesterday")
        await asyncio.sleep(30)
        assert SUMS not in world.writes
        nodes.controller.enqueue("node-of-yesterday")  # as its deletion does
        await asyncio.sleep(2)
    assert world.writes.count(SUMS) == 1
