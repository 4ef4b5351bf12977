"""Many commands at once, each with an output of its own: nothing may be lost, and nothing go to the wrong one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter

from kubeocean.bench.errors import BenchError
from kubeocean.bench.streamresults import Crowd
from kubeocean.bench.ways import Way

ROUNDS = 3
_LINES = 2000
_COUNTED = "".join(f"{number}\n" for number in range(1, _LINES + 1)).encode()
_ENDS_WITHIN = 120.0  # seconds


async def measure_crowd(ways: Sequence[Way], count: int) -> dict[str, Crowd]:
    """Run `count` commands at once on one way after the other, some rounds; each opens connections of its own."""
    crowds = {way.name: Crowd([], []) for way in ways}
    for _ in range(ROUNDS):
        for way in ways:
            began = perf_counter()
            said = await asyncio.gather(*(_run(way, number) for number in range(count)))
            crowds[way.name].rounds.append(perf_counter() - began)
            crowds[way.name].failures.extend(filter(None, said))
    return crowds


async def _run(way: Way, number: int) -> str:
    """Return what was wrong with one command, "" when nothing was."""
    try:
        async with asyncio.timeout(_ENDS_WITHIN):
            async with way.run("sh", "-c", f"echo stream {number}; seq 1 {_LINES}") as running:
                came = await running.read_all()
                return judge(number, came, running.exit_code)
    except (BenchError, OSError) as error:  # a TimeoutError is an OSError
        return f"stream {number}: {str(error) or 'no end in time'}"


def judge(number: int, came: bytes, exit_code: int | None) -> str:
    """Return what is wrong with the output of command `number` and its end, "" when nothing is."""
    expected = f"stream {number}\n".encode() + _COUNTED
    if exit_code != 0:
        return f"stream {number}: exit code {exit_code}"
    if came != expected:
        return f"stream {number}: {len(came)} bytes that begin with {came[:20]!r}, instead of {len(expected)}"
    return ""
