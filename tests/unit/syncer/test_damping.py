"""Pauses between writes of the same, in virtual time."""

import asyncio

import pytest

from kubeocean.syncer.topdown.damping import LONGEST, QUIET, Damper

pytestmark = pytest.mark.looptime


async def pauses(damper: Damper[str], times: int, meaning: str = "blue") -> list[float]:
    """Have an object changed as soon as it was made right; return how long each write waited."""
    waited = []
    for _ in range(times):
        waited.append(pause := damper.pause("a", meaning))
        await asyncio.sleep(pause)
        damper.wrote("a", meaning)
    return waited


async def test_what_is_changed_once_is_mended_at_once_and_what_is_changed_again_after_growing_pauses() -> None:
    damper = Damper[str]()
    assert await pauses(damper, 6) == [0, 0, 1, 2, 4, 8]
    assert max(await pauses(damper, 10)) == LONGEST


async def test_what_is_meant_otherwise_waits_for_nothing() -> None:
    damper = Damper[str]()
    await pauses(damper, 6)
    assert damper.pause("a", "blue") == 16
    assert damper.pause("a", "green") == 0
    assert damper.pause("b", "blue") == 0
    damper.wrote("a", "green")
    assert damper.pause("a", "blue") == 0


async def test_a_pause_runs_from_the_last_write_whenever_it_is_asked_for() -> None:
    damper = Damper[str]()
    await pauses(damper, 6)
    await asyncio.sleep(10)
    assert damper.pause("a", "blue") == pytest.approx(6)
    await asyncio.sleep(10)
    assert damper.pause("a", "blue") == 0


@pytest.mark.parametrize("gone", [True, False])
async def test_what_is_gone_or_quiet_is_forgotten(gone: bool) -> None:
    damper = Damper[str]()
    await pauses(damper, 6)
    if gone:
        damper.forget("a")
    else:
        await asyncio.sleep(QUIET + 1)
    damper.pause("b", "")
    assert not damper._mends
