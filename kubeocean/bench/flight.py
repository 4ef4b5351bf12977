"""Many calls to an API server, a bounded number of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from kubeocean.kube.causes import first_cause
from kubeocean.kube.client import Client

IN_FLIGHT = 64
CALL_DEADLINE = 60.0  # seconds; a write that waits its turn on a loaded machine is slow, not lost

T = TypeVar("T")
R = TypeVar("R")


async def in_flight(work: Iterable[T], call: Callable[[T], Awaitable[R]], *, limit: int = IN_FLIGHT) -> list[R]:
    """Call for every item, at most `limit` at once; return the answers as they came. The first error ends it all."""
    answers: list[R] = []
    items = iter(work)

    async def worker() -> None:
        for item in items:
            answers.append(await call(item))

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(limit):
                tasks.create_task(worker())
    except BaseExceptionGroup as group:
        raise first_cause(group) from None
    return answers


async def warm_up(clients: Iterable[Client]) -> None:
    """Open the connections that a burst will use: handshakes are not what is measured."""
    for client in clients:
        await asyncio.gather(*(client.raw("GET", "/readyz", deadline=CALL_DEADLINE) for _ in range(IN_FLIGHT)))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the fastest event loop at hand: the driver of a load should cost little itself."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], Any] = uvloop.new_event_loop
    return factory
