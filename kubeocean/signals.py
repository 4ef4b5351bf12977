"""A program as a process: SIGINT and SIGTERM stop it gracefully, and what does not stop is ended."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from kubeocean.obs.exit import exit_loudly

STOP_DEADLINE = 28.0  # seconds for a graceful stop: a kubelet sends SIGKILL after 30, and that would leave no word of why

log = structlog.get_logger(__name__)


def run(program: Callable[[], Coroutine[Any, Any, None]], *, uvloop: bool = True) -> None:
    """Run a program to its end; SIGINT and SIGTERM stop it gracefully. With `uvloop`, on that loop when it is installed."""
    with asyncio.Runner(loop_factory=_loop_factory() if uvloop else None) as runner:
        runner.run(_until_signalled(program))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _until_signalled(program: Callable[[], Coroutine[Any, Any, None]]) -> None:
    task = asyncio.create_task(program(), name="program")
    loop = asyncio.get_running_loop()
    last_resort: asyncio.TimerHandle | None = None  # set when we were told to stop

    def stop() -> None:
        nonlocal last_resort
        if last_resort is None:
            last_resort = loop.call_later(STOP_DEADLINE, exit_loudly, f"told to stop, it did not within {STOP_DEADLINE:.0f} s")
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if last_resort is None:
            raise
        log.info("stopped")
    finally:
        if last_resort:
            last_resort.cancel()
