"""Keystrokes: one byte to a command that sends it back, and the time until it has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from time import perf_counter

from kubeocean.bench.errors import BenchError
from kubeocean.bench.percentiles import Spread, spread
from kubeocean.bench.ways import Running, Way

WARM_UP = 100
_KEY = b"k"


def echo(keys: int) -> tuple[str, ...]:
    """Return a command that sends each byte back at once, and ends by itself after `keys` of them.

    Not `cat`: KWOK never tells a command that its stdin has ended, so it would outlive us.
    """
    return ("dd", "bs=1", f"count={keys}", "status=none")


async def measure_keystrokes(ways: Sequence[Way], count: int) -> dict[str, Spread]:
    """Return the round trip of `count` keystrokes on each way.

    The ways take turns, key by key: what disturbs the machine for a while disturbs them all.
    """
    keys = WARM_UP + count
    took: dict[str, list[float]] = {way.name: [] for way in ways}
    async with asyncio.timeout(60 + keys), AsyncExitStack() as stack:
        turns = [(way.name, await stack.enter_async_context(way.run(*echo(keys), stdin=True))) for way in ways]
        for _ in range(keys):
            for name, running in turns:
                took[name].append(await press(running))
            turns.append(turns.pop(0))  # nobody always comes after the same one
        for name, running in turns:
            await expect_end(name, running)
    return {name: _spread(each[WARM_UP:]) for name, each in took.items()}


async def press(running: Running) -> float:
    """Return the seconds from a keystroke to its echo. Raises BenchError when something else comes."""
    began = perf_counter()
    await running.send(_KEY)
    if (came := await running.read()) != _KEY:
        raise BenchError(f"a keystroke came back as {came!r}; {running.complaints.decode(errors='replace')}")
    return perf_counter() - began


async def expect_end(name: str, running: Running) -> None:
    """Return when the command has ended well and without another word. Raises BenchError."""
    if (rest := await running.read_all()) or running.exit_code != 0:
        raise BenchError(f"{name}: {len(rest)} bytes more, exit code {running.exit_code}, {running.complaints!r}")


def _spread(seconds: Sequence[float]) -> Spread:
    found = spread(seconds)
    assert found, "at least one key was pressed"
    return found
