"""A copy that somebody keeps altering: when that is told, and how long it has to stay right before it counts again."""

import asyncio

import pytest

from kubeocean.kube.meta import ObjectKey
from kubeocean.syncer.topdown.holding import HELD, LASTS, LONGEST, QUIET, TOLD_AFTER, Holding

pytestmark = pytest.mark.looptime
WEB, MEANT = ObjectKey("ns", "web"), "hash"


def written() -> Holding:
    """Return what is known of a copy that was created and seen right."""
    holding = Holding()
    assert not holding.wrong(WEB, MEANT, ""), "there was none: ours to make"
    assert holding.right(WEB, MEANT) == 0
    return holding


async def alter(holding: Holding, times: int, every: float = 1.0) -> bool:
    """Have a copy altered and mended a number of times; return whether that is told."""
    told = False
    for number in range(times):
        told = holding.wrong(WEB, MEANT, f"altered-{number}")
        holding.right(WEB, MEANT)
        await asyncio.sleep(every)
    return told


async def test_it_is_told_after_the_third_alteration_and_not_before() -> None:
    holding = written()
    assert not await alter(holding, TOLD_AFTER - 1)
    assert holding.right(WEB, MEANT) == 0
    assert await alter(holding, 1)


async def test_looking_at_one_alteration_many_times_makes_no_more_of_it() -> None:
    holding = written()
    assert not any(holding.wrong(WEB, MEANT, "altered") for _ in range(10))


async def test_what_stays_altered_is_told_too() -> None:
    holding = written()
    assert not holding.wrong(WEB, MEANT, "altered")
    await asyncio.sleep(LASTS)
    assert holding.wrong(WEB, MEANT, "altered")


async def test_a_cache_that_does_not_show_what_was_created_is_nobodys_meddling() -> None:
    holding = Holding()
    for _ in range(10):
        assert not holding.wrong(WEB, MEANT, "")
        await asyncio.sleep(LASTS)


async def test_one_that_is_deleted_each_time_is_altered_each_time() -> None:
    holding, told = written(), False
    for _ in range(TOLD_AFTER):
        holding.deleted(WEB)
        told = holding.wrong(WEB, MEANT, "")
    assert told


async def test_once_told_it_counts_when_it_has_stayed_for_a_while() -> None:
    holding = written()
    await alter(holding, TOLD_AFTER, every=0)
    assert holding.right(WEB, MEANT) == HELD
    await asyncio.sleep(HELD)
    assert holding.right(WEB, MEANT) == 0


async def test_who_leaves_it_in_peace_for_a_while_each_time_is_waited_for_longer() -> None:
    holding = written()
    await alter(holding, 20, every=2 * HELD)
    assert holding.right(WEB, MEANT) == LONGEST - 2 * HELD


async def test_another_meaning_is_another_matter() -> None:
    holding = written()
    await alter(holding, 20, every=0)
    assert not holding.wrong(WEB, "what its user says now", "altered")
    assert holding.right(WEB, "what its user says now") == 0


async def test_old_stories_are_forgotten() -> None:
    holding = written()
    await alter(holding, TOLD_AFTER - 1)
    await asyncio.sleep(QUIET)
    assert not holding.wrong(WEB, MEANT, "altered again")
    holding.forget(WEB)
    assert len(holding) == 0
