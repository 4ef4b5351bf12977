"""The mark on a lent node is written once, though passes come before the watch shows it; and anew when somebody took it off."""

import asyncio
import copy
from typing import cast

import pytest

from kubeocean.kube.events import EventRecorder
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import NODES
from kubeocean.syncer.bottomup.marks import SEEN_WITHIN, Marks
from kubeocean.syncer.pairing import Pairing, SyncerOptions
from tests.unit.syncer.world import SPEC, World

pytestmark = pytest.mark.looptime
LABEL = "kubeocean.io/policy-applied"


class Case:
    """A physical node, as a cache that hears of nothing new shows it, and as it is."""

    def __init__(self) -> None:
        self.world = World()
        pairing = Pairing(
            "lender", "binding-uid", SPEC, self.world.physical.owner, self.world.virtual, self.world.physical,
            cast(EventRecorder, self.world), SyncerOptions(), clock=self.world.now, real_time=self.world.now,
        )
        self.marks, self.cached = Marks(pairing), self.live()

    def live(self) -> Json:
        return copy.deepcopy(self.world.physical_server.find(NODES, "node-1"))

    def writes(self) -> int:
        return self.world.physical_server.writes.count("patch nodes")


async def test_passes_that_come_before_the_watch_write_nothing() -> None:
    case = Case()
    for _ in range(3):
        assert await case.marks.mark_leased(case.cached, "rlp")
    assert case.writes() == 1
    assert case.live()["metadata"]["labels"][LABEL] == "rlp"


async def test_another_policy_and_the_end_of_the_lease_are_news() -> None:
    case = Case()
    await case.marks.mark_leased(case.cached, "rlp")
    await case.marks.mark_leased(case.cached, "another")
    assert case.live()["metadata"]["labels"][LABEL] == "another"
    await case.marks.unmark(case.cached)
    assert LABEL not in case.live()["metadata"]["labels"]
    await case.marks.unmark(case.cached)
    assert case.writes() == 3


async def test_a_mark_that_the_lender_took_off_comes_back() -> None:
    case = Case()
    await case.marks.mark_leased(case.cached, "rlp")
    bare = case.live()
    del bare["metadata"]["labels"][LABEL]
    case.world.physical_server.put(NODES, bare)
    await case.marks.mark_leased(case.live(), "rlp")
    assert case.writes() == 2


async def test_a_cache_that_stays_behind_is_believed_in_the_end() -> None:
    case = Case()
    await case.marks.mark_leased(case.cached, "rlp")
    await asyncio.sleep(SEEN_WITHIN)
    await case.marks.mark_leased(case.cached, "rlp")
    assert case.writes() == 2


async def test_our_own_mark_does_not_decide_whether_a_node_is_selected() -> None:
    world = World()
    unmarked = {"nodeSelectorTerms": [{"matchExpressions": [{"key": LABEL, "operator": "DoesNotExist"}]}]}
    world.policy(nodeSelector=unmarked)
    async with world.leading():
        await asyncio.sleep(10)
        labels = world.physical_server.find(NODES, "node-1")["metadata"]["labels"]
        assert labels[LABEL] == "rlp"
        first = world.vnode()["metadata"]["uid"]
        writes = len(world.writes), len(world.physical_server.writes)
        await asyncio.sleep(60)
        assert (len(world.writes), len(world.physical_server.writes)) == writes
        world.policy(nodeSelector=unmarked, resourceLimits=[{"resource": "cpu", "quantity": "4"}])
        await asyncio.sleep(10)
        assert world.vnode()["status"]["allocatable"]["cpu"] == "4", "an edit wakes it"
        assert world.vnode()["metadata"]["uid"] == first


async def test_the_mark_of_another_borrower_decides() -> None:
    world = World()
    lent = world.physical_server.find(NODES, "node-1")
    lent["metadata"] |= {"labels": {LABEL: "theirs"}, "annotations": {"kubeocean.io/policy-applied-by": "another/edge"}}
    world.physical_server.put(NODES, lent)
    world.policy(nodeSelector={"nodeSelectorTerms": [{"matchExpressions": [{"key": LABEL, "operator": "DoesNotExist"}]}]})
    async with world.leading():
        await asyncio.sleep(10)
        assert "create nodes" not in world.writes
