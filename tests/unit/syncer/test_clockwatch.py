"""A step of the wall clock is noticed within a second; slewing and stopped processes are none, until they add up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from kubeocean.syncer.bottomup.clockwatch import watch_clock

pytestmark = pytest.mark.looptime
START = datetime(2026, 1, 1, tzinfo=UTC)


class Clocks:
    """A wall clock and a steady one; `asleep` is how long the machine slept, which only the wall clock saw."""

    def __init__(self) -> None:
        self.stepped = self.asleep = self.rate = 0.0
        self.noticed: list[float] = []

    def steady(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> datetime:
        return START + timedelta(seconds=self.steady() * (1 + self.rate) + self.stepped + self.asleep)


@asynccontextmanager
async def watched() -> AsyncIterator[Clocks]:
    clocks = Clocks()
    task = asyncio.create_task(watch_clock(clocks.wall, lambda: clocks.noticed.append(clocks.steady()), steady=clocks.steady))
    await asyncio.sleep(10)
    yield clocks
    task.cancel()


@pytest.mark.parametrize("seconds", [0.6, -0.6, 3600.0, -3600.0])
async def test_a_step_is_noticed_within_a_second_and_once(seconds: float) -> None:
    async with watched() as clocks:
        clocks.stepped = seconds
        await asyncio.sleep(100)
        (moment,) = clocks.noticed
        assert moment <= 11


async def test_a_machine_that_slept_is_noticed() -> None:
    async with watched() as clocks:
        clocks.asleep = 600
        await asyncio.sleep(1)
        assert len(clocks.noticed) == 1


async def test_every_step_counts() -> None:
    async with watched() as clocks:
        for seconds in (60.0, 0.0, 60.0):
            clocks.stepped = seconds
            await asyncio.sleep(1)
        assert len(clocks.noticed) == 3


async def test_clocks_that_agree_are_left_alone() -> None:
    async with watched() as clocks:
        clocks.stepped = 0.4
        await asyncio.sleep(1000)
        assert clocks.noticed == []


async def test_slewing_counts_once_it_has_added_up() -> None:
    async with watched() as clocks:
        clocks.rate = 500e-6  # as fast as a kernel slews
        await asyncio.sleep(3600)
        assert 2 <= len(clocks.noticed) <= 4
