"""Throughput: how fast a command's output comes, and its input goes. The far end counts, so nothing is lost unnoticed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter

from kubeocean.bench.errors import BenchError
from kubeocean.bench.execframes import LONGEST
from kubeocean.bench.keystrokes import expect_end
from kubeocean.bench.procfs import cpu_seconds
from kubeocean.bench.streamresults import Rate
from kubeocean.bench.ways import Way

ROUNDS = 3
MEGA, GIGA = 10**6, 10**9
_SLOWEST = MEGA  # bytes a second

Carry = Callable[[Way, int], Awaitable[float]]


async def measure_throughput(ways: Sequence[Way], size: int, carry: Carry, proxier: int) -> dict[str, Rate]:
    """Return how fast `carry` brought `size` bytes on each way; the ways take turns. `proxier` is a process id."""
    took: dict[str, list[float]] = {way.name: [] for way in ways}
    used = dict.fromkeys(took, 0.0)
    for _ in range(ROUNDS):
        for way in ways:
            before = cpu_seconds(proxier) or 0.0
            async with asyncio.timeout(60 + size / _SLOWEST):
                took[way.name].append(await carry(way, size))
            used[way.name] += (cpu_seconds(proxier) or 0.0) - before
    known = cpu_seconds(proxier) is not None
    return {
        name: Rate([size / seconds / MEGA for seconds in each], used[name] / (ROUNDS * size / GIGA) if known else None)
        for name, each in took.items()
    }


async def take_output(way: Way, size: int) -> float:
    """Return the seconds that `size` bytes of output took, from the open stream to the command's end."""
    async with way.run("head", "-c", str(size), "/dev/zero") as running:
        began, came = perf_counter(), 0
        while part := await running.read():
            came += len(part)
        took = perf_counter() - began
        if came != size or running.exit_code != 0:
            raise BenchError(f"{way.name}: {came} of {size} bytes came, exit code {running.exit_code}")
    return took


async def give_input(way: Way, size: int) -> float:
    """Return the seconds until a command had read `size` bytes of input, and said so."""
    # It ends after so many bytes, and not at the end of its stdin, of which KWOK tells nobody.
    async with way.run("sh", "-c", f"head -c {size} | wc -c", stdin=True) as running:
        began, block = perf_counter(), bytes(LONGEST)
        for start in range(0, size, LONGEST):
            await running.send(block[:size - start])
        counted = (await running.read()).strip()
        took = perf_counter() - began
        if counted != str(size).encode():
            raise BenchError(f"{way.name}: {counted!r} of {size} bytes arrived, {running.complaints!r}")
        await expect_end(way.name, running)
    return took
