"""Notices when the wall clock and the clock that timers wait on no longer agree.

When to look again is computed from the wall clock ("the window shuts at 17:01"), but the event loop waits on the monotonic
one. They part when the wall clock is set, and when the machine sleeps, for the monotonic clock stands still meanwhile (which
is why it is that one, and not CLOCK_BOOTTIME, that the wall clock is held against). Then every timer that is set is
wrong, so everything is looked at again. A process that was merely stopped needs no help: its timers are due when it goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from time import monotonic
from typing import NoReturn

import structlog

CHECK_EVERY = 0.5  # seconds
TOLERATED = 0.5  # seconds; what slewing adds up to counts as well

log = structlog.get_logger(__name__)


async def watch_clock(
    wall: Callable[[], datetime], on_step: Callable[[], None], *, steady: Callable[[], float] = monotonic
) -> NoReturn:
    """Call `on_step` whenever the wall clock has moved against `steady` (seconds) by more than TOLERATED; for ever."""
    reference = wall().timestamp() - steady()
    while True:
        await asyncio.sleep(CHECK_EVERY)
        apart = wall().timestamp() - steady() - reference
        if abs(apart) > TOLERATED:
            reference += apart
            log.warning("the clock has stepped: everything is looked at again", seconds=round(apart, 3))
            on_step()
