"""A syncer that dies at any call leaves facts from which the next one comes to the same end, and then rests.

Each point is a seed: which Pods come and go, and with which call, how far through it, the process dies. Everything is as in
a real session, but that both clusters are in memory and time is virtual.
"""

import asyncio
from collections import Counter
from random import Random

import pytest

from kubeocean.kube.meta import Json, ObjectKey, annotations_of, labels_of, uid_of
from tests.unit.syncer.lives import GLANCE, NODE_NAMES, PODS_MADE, Doom, Stage, uid_of_virtual

pytestmark = pytest.mark.looptime
POINTS = range(100)
CALLS = 46  # what a life needs at least until it comes to rest: each of them may be its last


@pytest.mark.parametrize("seed", POINTS)
async def test_the_next_life_ends_what_was_begun_and_the_one_after_it_writes_nothing(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, rng = Stage(seed, monkeypatch), Random(seed)
    users = asyncio.create_task(stage.users())
    await die(stage, Doom(rng.randint(1, CALLS), rng.choice(("before", "after"))))
    born_first = nodes_of(stage)
    async with stage.life():
        await users
        await stage.rest()
    assert_both_sides_agree(stage, pods=PODS_MADE)
    assert born_first.items() <= nodes_of(stage).items(), "a virtual node was made anew"
    await assert_another_life_writes_nothing(stage)


@pytest.mark.parametrize("release", [1, 2, 3])
async def test_a_release_that_was_cut_between_the_servers_two_writes_is_ended(
    release: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(0, monkeypatch)
    users = asyncio.gather(*(stage.user(f"web-{number}", 0.2, 0.3) for number in range(3)))
    await die(stage, Doom(release, "between"))
    await users
    left = below(stage.virtual.objects, "pods", "ns")
    assert any(pod["metadata"].get("deletionGracePeriodSeconds") == 0 for pod in left)
    async with stage.life():
        await stage.rest()
    assert_both_sides_agree(stage, pods=3)
    await assert_another_life_writes_nothing(stage)


async def die(stage: Stage, doom: Doom) -> None:
    async with stage.life(doom) as life, asyncio.timeout(10):
        await life.over


async def assert_another_life_writes_nothing(stage: Stage) -> None:
    before = Counter(stage.writes())
    async with stage.life():
        await stage.rest(GLANCE)
    assert Counter(stage.writes()) - before == Counter()


def nodes_of(stage: Stage) -> dict[str, str]:
    return {key.name: uid_of(obj) for (plural, key), obj in stage.virtual.objects.items() if plural == "nodes"}


def assert_both_sides_agree(stage: Stage, *, pods: int) -> None:
    vpods, twins = below(stage.virtual.objects, "pods", "ns"), below(stage.physical.objects, "pods", "mount")
    # No Pod was lost or kept, and each that stays has the one twin it ever had.
    assert not stage.deleted & {uid_of(vpod) for vpod in vpods}
    assert len(vpods) == pods - len(stage.deleted)
    recorded = {uid_of(vpod): annotations_of(vpod).get("kubeocean.io/physical-pod-uid") for vpod in vpods}
    assert recorded == {uid_of_virtual(twin): uid_of(twin) for twin in twins}
    assert {vpod["status"].get("phase") for vpod in vpods} <= {"Running"}
    assert len(stage.made) == len(set(stage.made.values())), "a Pod was given two twins"
    assert set(stage.ended.values()) <= stage.deleted, "a Pod that nobody deleted lost its twin"
    # What they need is there, once each, and nothing is left of what the others needed.
    tokens = below(stage.physical.objects, "secrets", "mount")
    assert sorted(map(uid_of_virtual, tokens)) == sorted(recorded)
    needed = any(vpod["spec"]["containers"][0]["envFrom"] for vpod in vpods)
    assert bool(below(stage.physical.objects, "configmaps", "mount")) == needed
    app = stage.virtual.objects["configmaps", ObjectKey("ns", "app")]
    assert bool(labels_of(app)) == bool(app["metadata"].get("finalizers")) == needed
    assert sorted(nodes_of(stage)) == [f"vnode-edge-{name}" for name in NODE_NAMES]
    assert stage.physical.objects["pods", ObjectKey("default", "theirs")] == stage.foreign


def below(objects: dict[tuple[str, ObjectKey], Json], plural: str, namespace: str) -> list[Json]:
    return [obj for (kind, key), obj in objects.items() if kind == plural and key.namespace == namespace]
