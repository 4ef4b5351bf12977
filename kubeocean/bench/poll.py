"""Waiting for what no watch tells: looks again and again, for a limited time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from kubeocean.bench.errors import BenchError


async def until_true(
    look: Callable[[], Awaitable[bool]], *, within: float, what: str | Callable[[], str], every: float = 0.1
) -> None:
    """Return once `look()` is true. Raises BenchError saying `what` was waited for when it is not `within` seconds."""
    give_up = monotonic() + within
    while not await look():
        if monotonic() > give_up:
            raise BenchError(f"not within {within:.0f} s: {what if isinstance(what, str) else what()}")
        await asyncio.sleep(every)
