"""From the edge of a window to an empty node, in virtual time: the controllers themselves against two clusters in memory."""

import asyncio
import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from kubeocean.api.resources import RESOURCELEASINGPOLICIES
from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.kube.resources import NODES, PODS
from tests.unit.syncer.world import World

pytestmark = pytest.mark.looptime

# The world begins at 12:00:00.25 on its wall clock: the edge at 12:01 comes 59.75 s later.
UNTIL_NOON: list[Json] = [{"start": "09:00", "end": "12:00"}]
ALL_DAY: list[Json] = [{"start": "00:00", "end": "23:58"}]
NIGHT: list[Json] = [{"start": "22:00", "end": "05:59"}]
EDGE = 59.75
FORCE: Json = {"forceReclaim": True}
GRACE: Json = {"forceReclaim": True, "gracefulReclaimPeriodSeconds": 30, "reclaimTimeoutSeconds": 60}
TOLERATES: list[Json] = [{"key": "kubeocean.io/out-of-time-windows", "operator": "Exists", "effect": "NoExecute"}]


def now() -> float:
    return asyncio.get_running_loop().time()


async def when(world: World, check: Callable[[], Any]) -> float:
    """Return the loop time of the write to the virtual cluster that made `check` true."""
    changed = world.virtual_server.changed
    async with asyncio.timeout(400):
        while not check():
            changed.clear()
            await changed.wait()
    return now()


async def test_the_taint_comes_with_the_edge_and_goes_with_the_next() -> None:
    world = World()
    world.policy(timeWindows=[*UNTIL_NOON, {"start": "12:02", "end": "13:00"}])
    async with world.leading():
        assert world.effects() == []
        assert await when(world, lambda: world.effects() == ["NoSchedule"]) == pytest.approx(EDGE, abs=0.05)
        assert await when(world, lambda: world.effects() == []) == pytest.approx(EDGE + 60, abs=0.05)
        assert world.reasons("ResourceLeasingPolicy") == world.reasons("Node")[1:] == ["WindowClosed", "WindowOpened"]


async def test_nothing_is_written_at_rest_open_shut_or_forced() -> None:
    world = World()
    for windows in (ALL_DAY, NIGHT):
        for force in ({}, GRACE):
            world.policy(timeWindows=windows, noticeSeconds=3600, resourceLimits=[{"resource": "cpu", "quantity": 1}], **force)
            world.pod("stays", cpu="2", tolerations=TOLERATES)
            async with world.leading():
                await asyncio.sleep(100)
                world.writes.clear()
                await asyncio.sleep(120)
                assert world.writes == []
            async with world.leading():  # nor by a successor
                await asyncio.sleep(60)
                assert world.writes == []


async def test_pods_go_after_the_grace_and_force_follows_when_nobody_is_left() -> None:
    world = World()
    world.policy(timeWindows=UNTIL_NOON, **GRACE)
    world.virtual_server.grace = 5
    world.pod("goes")
    world.pod("tolerant", tolerations=TOLERATES)
    async with world.leading():
        assert await when(world, lambda: world.effects() == ["NoSchedule"]) == pytest.approx(EDGE, abs=0.05)
        assert await when(world, lambda: world.pods() == ["tolerant"]) == pytest.approx(EDGE + 30, abs=0.05)
        assert await when(world, lambda: "NoExecute" in world.effects()) == pytest.approx(EDGE + 30, abs=0.1)
        await asyncio.sleep(100)
    assert world.pods() == ["tolerant"]
    assert world.effects() == ["NoSchedule", "NoExecute"]
    assert world.heard_by("goes") == ["WindowClosed", "Evicted"]
    assert world.heard_by("tolerant") == []
    assert world.reasons("ResourceLeasingPolicy") == ["WindowClosed", "Reclaimed"]
    assert [name for _, name in world.virtual_server.evictions] == ["goes"]


async def test_without_grace_they_go_at_once() -> None:
    world = World()
    world.policy(timeWindows=UNTIL_NOON, **FORCE)
    world.pod("goes")
    async with world.leading():
        assert await when(world, lambda: world.pods() == []) == pytest.approx(EDGE, abs=0.1)
        assert await when(world, lambda: "NoExecute" in world.effects()) == pytest.approx(EDGE, abs=0.2)


async def test_without_force_reclaim_nobody_is_asked() -> None:
    world = World()
    world.policy(timeWindows=UNTIL_NOON)
    world.pod("stays")
    async with world.leading():
        await asyncio.sleep(1000)
    assert (world.pods(), world.effects(), world.virtual_server.evictions) == (["stays"], ["NoSchedule"], [])


async def test_a_budget_is_honoured_until_the_timeout_and_asked_again_meanwhile() -> None:
    world = World()
    world.policy(timeWindows=UNTIL_NOON, **GRACE)
    world.pod("kept")
    world.pod("goes")
    world.virtual_server.blocked.add("kept")
    async with world.leading():
        assert await when(world, lambda: world.pods() == ["kept"]) == pytest.approx(EDGE + 30, abs=0.1)
        assert await when(world, lambda: "NoExecute" in world.effects()) == pytest.approx(EDGE + 30 + 60, abs=0.1)
        await asyncio.sleep(100)
    asked = [moment for moment, name in world.virtual_server.evictions if name == "kept"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert all(1.9 < gap < 3.2 for gap in gaps), gaps
    assert asked[-1] < EDGE + 30 + 60.1
    # The taint manager is not played here: it would delete it now.
    assert world.heard_by("kept") == ["WindowClosed", "EvictionBlocked", "ReclaimTimeout"]
    assert world.reasons("ResourceLeasingPolicy") == ["WindowClosed", "ReclaimTimeout"]


async def test_a_budget_that_gives_way_is_noticed() -> None:
    world = World()
    world.policy(timeWindows=NIGHT, **FORCE)
    world.pod("kept")
    world.virtual_server.blocked.add("kept")
    async with world.leading():
        await asyncio.sleep(20)
        assert world.effects() == ["NoSchedule"]
        world.virtual_server.blocked.clear()
        assert await when(world, lambda: world.effects() == ["NoSchedule", "NoExecute"]) < 23.5


async def test_pods_that_their_budgets_hold_back_hold_nobody_else_up() -> None:
    world = World()
    world.policy(timeWindows=NIGHT, **FORCE)
    for number in range(40):
        world.pod(f"kept-{number:02}")
        world.virtual_server.blocked.add(f"kept-{number:02}")
    for number in range(10):
        world.pod(f"goes-{number}", priority=5)
    async with world.leading():
        assert await when(world, lambda: not any(name.startswith("goes") for name in world.pods())) < 6.5
    asked = [moment for moment, _ in world.virtual_server.evictions]
    assert max(sum(begin <= each < begin + 1 for each in asked) for begin in asked) <= 10, "faster than our pace"


@pytest.mark.parametrize("at", [10.0, 30.5, 50.0, 200.0], ids=["grace", "just evicting", "evicting", "forced"])
async def test_a_window_that_opens_in_the_middle_undoes_it(at: float) -> None:
    world = World()
    world.policy(timeWindows=UNTIL_NOON, **GRACE)
    for number in range(25):
        world.pod(f"p{number:02}")
    world.virtual_server.blocked.add("p00")
    async with world.leading():
        await asyncio.sleep(EDGE + at - now())
        world.policy(timeWindows=ALL_DAY, **GRACE)
        assert await when(world, lambda: world.effects() == []) < EDGE + at + 0.1
        asked, left = len(world.virtual_server.evictions), world.pods()
        await asyncio.sleep(300)
    assert (len(world.virtual_server.evictions), world.pods()) == (asked, left)
    assert "kubeocean.io/closed-at" not in world.vnode()["metadata"]["annotations"]
    assert world.reasons("ResourceLeasingPolicy")[-1] == "WindowOpened"


async def test_a_window_that_opens_while_evictions_are_slow_stops_the_next_one() -> None:
    world = World()
    world.policy(timeWindows=NIGHT, **FORCE)
    for number in range(10):
        world.pod(f"p{number}")
    evict = world.virtual_server._evict

    async def slowly(eviction: Json) -> Json:
        await asyncio.sleep(1)
        return await evict(eviction)

    world.virtual_server._evict = slowly  # type: ignore[method-assign]  # the point of the test
    async with world.leading():
        await asyncio.sleep(2.5)
        world.policy()
        await asyncio.sleep(60)
    assert len(world.pods()) == 7


async def test_a_new_leader_restarts_nothing() -> None:
    world = World()
    world.policy(timeWindows=UNTIL_NOON, noticeSeconds=50, **GRACE)
    world.pod("kept")
    world.virtual_server.blocked.add("kept")
    while now() < EDGE + 120:
        async with world.leading():  # a process that lives for five seconds
            await asyncio.sleep(5)
            forced_at = now()
            if "NoExecute" in world.effects():
                break
    assert forced_at == pytest.approx(EDGE + 30 + 60, abs=6)
    heard = world.heard_by("kept")
    assert (heard.count("LeaseEnding"), heard.count("WindowClosed"), heard.count("ReclaimTimeout")) == (1, 1, 1)
    assert world.reasons("Node").count("WindowClosed") == 1


async def test_a_leader_that_was_away_over_the_edge_begins_the_grace_when_the_pods_could_know() -> None:
    world = World()
    world.policy(timeWindows=UNTIL_NOON, **GRACE)
    world.pod("goes")
    async with world.leading():
        pass
    await asyncio.sleep(EDGE + 100)
    back = now()
    async with world.leading():
        assert world.effects() == ["NoSchedule"]
        assert await when(world, lambda: world.pods() == []) == pytest.approx(back + 30, abs=0.2)


async def test_a_lease_that_ends_honours_budgets_however_long_its_window_was_shut_before() -> None:
    world = World()
    world.policy(timeWindows=NIGHT)
    world.pod("kept")
    world.virtual_server.blocked.add("kept")
    async with world.leading():
        await asyncio.sleep(3600)
        world.virtual_server.remove(RESOURCELEASINGPOLICIES, ObjectKey("", "rlp"))
        ended = now()
        assert await when(world, lambda: world.pods() == []) == pytest.approx(ended + 300, abs=3)
        await when(world, lambda: not any(plural == "nodes" for plural, _ in world.virtual_server.objects))
    assert world.heard_by("kept") == ["EvictionBlocked", "ReclaimTimeout"]


async def test_a_virtual_node_that_was_deleted_behind_our_back_asks_again_before_it_forces() -> None:
    world = World()
    world.policy(timeWindows=NIGHT, **FORCE)
    world.pod("kept")
    world.virtual_server.blocked.add("kept")
    async with world.leading():
        await asyncio.sleep(5)
        world.virtual_server.remove(NODES, ObjectKey("", "vnode-edge-node-1"))
        await asyncio.sleep(5)
        assert world.effects() == ["NoSchedule"]
    assert world.pods() == ["kept"]


# --- notice ----------------------------------------------------------------------------------------------------------
async def test_the_end_is_announced_once_to_all_and_to_who_comes_late() -> None:
    world = World()
    world.policy(timeWindows=UNTIL_NOON, noticeSeconds=40, **FORCE)
    world.pod("goes")
    world.pod("tolerant", tolerations=TOLERATES)
    world.pod("late", node="nowhere")
    async with world.leading():
        assert world.condition("LeaseEnding") == ""
        assert await when(world, lambda: world.condition("LeaseEnding") == "True") == pytest.approx(EDGE - 40, abs=0.05)
        await asyncio.sleep(10)
        world.virtual_server.put(PODS, unbound("latest"))
        await asyncio.sleep(1)
        world.pod("latest")
        await asyncio.sleep(1)
        assert [world.heard_by(name) for name in ("goes", "tolerant", "latest")] == [["LeaseEnding"], [], ["LeaseEnding"]]
        assert await when(world, lambda: world.condition("LeaseEnding") == "False") == pytest.approx(EDGE, abs=0.05)
    assert world.reasons("ResourceLeasingPolicy")[0] == "LeaseEnding"


async def test_an_end_that_is_put_off_is_taken_back_and_announced_again() -> None:
    world = World()
    world.policy(timeWindows=UNTIL_NOON, noticeSeconds=40, **FORCE)
    world.pod("goes")
    async with world.leading():
        await asyncio.sleep(EDGE - 20)
        world.policy(timeWindows=[{"start": "09:00", "end": "12:01"}], noticeSeconds=40, **FORCE)
        assert await when(world, lambda: world.condition("LeaseEnding") == "False") < EDGE - 19
        assert await when(world, lambda: world.condition("LeaseEnding") == "True") == pytest.approx(EDGE + 60 - 40, abs=0.05)
        await asyncio.sleep(1)
    assert world.heard_by("goes") == ["LeaseEnding", "LeaseEnding"]


# --- overhang --------------------------------------------------------------------------------------------------------
def limit(cpu: int) -> Json:
    return {"resourceLimits": [{"resource": "cpu", "quantity": cpu}]}


async def test_a_limit_that_shrinks_moves_just_enough_after_the_grace() -> None:
    world = World()
    for number, priority in enumerate([5, 0, 0, 9]):
        world.pod(f"p{number}", cpu="2", priority=priority)
        await asyncio.sleep(1)  # p2 is younger than p1
    async with world.leading():
        await asyncio.sleep(1)
        shrunk = now()
        world.policy(**GRACE, **limit(6))
        assert await when(world, lambda: world.condition("LeaseExceeded") == "True") < shrunk + 0.1
        # The instant is noted in whole seconds, and never too early.
        assert shrunk + 30 <= await when(world, lambda: len(world.pods()) < 4) < shrunk + 31.5
        await asyncio.sleep(10)
        assert world.pods() == ["p0", "p1", "p3"]
        assert world.condition("LeaseExceeded") == "False"
        await asyncio.sleep(100)
    assert world.pods() == ["p0", "p1", "p3"]
    assert world.heard_by("p2") == ["Evicted"]
    assert world.reasons("ResourceLeasingPolicy") == ["LeaseExceeded", "LeaseKept"]
    assert world.effects() == []


async def test_without_force_an_overhang_is_only_told() -> None:
    world = World()
    world.pod("large", cpu="4")
    async with world.leading():
        world.policy(**limit(2))
        await asyncio.sleep(1000)
    assert (world.pods(), world.condition("LeaseExceeded"), world.virtual_server.evictions) == (["large"], "True", [])


async def test_an_overhang_that_a_budget_protects_ends_with_the_timeout() -> None:
    world = World()
    world.pod("kept", cpu="4")
    world.virtual_server.blocked.add("kept")
    async with world.leading():
        world.policy(**GRACE, **limit(2))
        assert 90 <= await when(world, lambda: world.pods() == []) < 93
    assert world.heard_by("kept") == ["EvictionBlocked", "ReclaimTimeout"]


async def test_who_is_placed_at_the_moment_a_limit_shrinks_is_found() -> None:
    world = World()
    world.policy(**FORCE, **limit(2))
    async with world.leading():
        world.pod("first", cpu="2", priority=1)
        await asyncio.sleep(30)
        world.pod("overbooked", cpu="2")
        assert await when(world, lambda: world.pods() == ["first"]) < 37


# --- the clock -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("step", [3600.0, 45.0, 1.0], ids=["an hour", "short of the edge", "a second"])
async def test_a_clock_that_is_set_forward_reaches_the_edge_in_time(step: float) -> None:
    world = World()
    world.policy(timeWindows=UNTIL_NOON)
    async with world.leading():
        await asyncio.sleep(10)
        world.stepped = timedelta(seconds=step)
        edge = max(now(), EDGE - step)
        assert await when(world, lambda: world.effects() == ["NoSchedule"]) <= edge + 1.0


async def test_a_clock_that_is_set_back_opens_the_window_again() -> None:
    world = World()
    world.policy(timeWindows=UNTIL_NOON)
    async with world.leading():
        await when(world, lambda: world.effects() == ["NoSchedule"])
        world.stepped = timedelta(seconds=-300)
        assert await when(world, lambda: world.effects() == []) <= EDGE + 1.1


async def test_many_nodes_are_tainted_before_any_is_empty() -> None:
    world = World()
    world.policy(timeWindows=UNTIL_NOON, **FORCE)
    for number in range(2, 51):
        world.add_node(f"node-{number}")
    for number in range(1, 51):
        for each in range(20):
            world.pod(f"p-{number}-{each}", node=f"node-{number}")
    everywhere = [f"node-{number}" for number in range(1, 51)]
    async with world.leading():
        assert await when(world, lambda: all(world.effects(node) for node in everywhere)) <= EDGE + 0.1
        assert await when(world, lambda: world.pods() == []) <= EDGE + 3


def unbound(name: str) -> Json:
    return {"metadata": {"name": name, "namespace": "ns"}, "spec": {"containers": []}, "status": {"phase": "Pending"}}


