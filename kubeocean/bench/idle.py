"""Streams on which nothing happens: what each costs the proxier, and whether it is all given back.

A stream begins with two reads. The connections of these are kept for whoever reads next, as many as there were streams that
began at once (`AT_ONCE`) to each of two API servers: they are open "after", too, however many streams there have been.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from kubeocean.bench.flight import in_flight
from kubeocean.bench.keystrokes import echo, expect_end, press
from kubeocean.bench.proxierwatch import ProxierWatch
from kubeocean.bench.streamresults import Footprint, Idle
from kubeocean.bench.ways import Running, Way

AT_ONCE = 16
_ENDS_WITHIN = 30.0  # seconds for one
# Of one stream, in the process that has most of them open (KWOK: a connection and a command's three pipes).
_FILES_EACH, _FILES_BESIDE = 6, 500


def fitting(asked: int, open_files: int) -> int:
    """Return how many of `asked` streams there can be where a process may have so many `open_files`.

    >>> fitting(1000, 20_000), fitting(1000, 1024)
    (1000, 87)
    """
    return max(1, min(asked, (open_files - _FILES_BESIDE) // _FILES_EACH))


async def measure_idle(way: Way, count: int, watch: ProxierWatch) -> Idle:
    """Open `count` streams, look, have them end, and look again; all of it twice."""
    before = await watch.look(sessions=0)
    full = await _fill(way, count, watch)
    after = await watch.look(sessions=0)
    again = await _fill(way, count, watch)
    await watch.look(sessions=0)
    return Idle(count, before, full, after, again)


async def _fill(way: Way, count: int, watch: ProxierWatch) -> Footprint:
    """Look while `count` streams are open, each of which is proved to reach its command and back, before and after."""
    async with AsyncExitStack() as stack:

        async def begin(_: int) -> Running:
            async with asyncio.timeout(_ENDS_WITHIN):
                running = await stack.enter_async_context(way.run(*echo(2), stdin=True))
                await press(running)
                return running

        async def end(running: Running) -> None:
            async with asyncio.timeout(_ENDS_WITHIN):
                await press(running)
                await expect_end(way.name, running)

        streams = await in_flight(range(count), begin, limit=AT_ONCE)
        full = await watch.look(sessions=count)
        await in_flight(streams, end, limit=AT_ONCE)
    return full
