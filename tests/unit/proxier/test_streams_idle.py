"""A stream over which nothing goes is given up after a while; one that is used lasts."""

import asyncio

import pytest

from kubeocean.proxier.tunnel import Traffic, _until_done_or_idle

pytestmark = pytest.mark.looptime


async def _ended_after(traffic: Traffic, pump: asyncio.Task[None]) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await _until_done_or_idle((pump,), traffic, idle_for=100)
    pump.cancel()
    return loop.time() - began


async def test_silence_ends_it() -> None:
    assert 100 <= await _ended_after(Traffic(), asyncio.create_task(asyncio.sleep(10_000))) <= 200


async def test_a_byte_now_and_then_keeps_it() -> None:
    traffic = Traffic()

    async def types() -> None:
        for _ in range(10):
            await asyncio.sleep(90)
            traffic.received += 1
        await asyncio.sleep(10_000)

    assert 1000 <= await _ended_after(traffic, asyncio.create_task(types())) <= 1100


async def test_it_ends_with_its_first_pump() -> None:
    assert await _ended_after(Traffic(), asyncio.create_task(asyncio.sleep(30))) == pytest.approx(30, abs=1)
