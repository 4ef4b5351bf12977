"""A token bucket for coroutines: first come, first served, and nobody pays for a caller who gave up."""

from __future__ import annotations

import asyncio
from collections import deque


class TokenBucket:
    """Lets `qps` calls per second through on average and up to `burst` at once; time is the running loop's.

    Waiters are served in order of arrival. A waiter that is cancelled (its deadline passed) leaves its token to the
    next one, so a crowd of timed-out calls cannot starve those behind it.
    """

    __slots__ = ("_burst", "_qps", "_refilled_at", "_timer", "_tokens", "_waiting")

    def __init__(self, qps: float, burst: int) -> None:
        if qps <= 0:
            raise ValueError("qps must be positive; leave the bucket out for no limit")
        self._qps = qps
        self._burst = float(max(1, burst))
        self._tokens = self._burst
        self._refilled_at: float | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def take(self) -> None:
        """Return as soon as one call may be made."""
        loop = asyncio.get_running_loop()
        self._refill(loop)
        if not self._waiting and self._tokens >= 1:
            self._tokens -= 1
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        self._serve(loop)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # served and cancelled in the same instant: hand the token on
                self._tokens += 1
                self._serve(loop)
            raise

    def _refill(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        if self._refilled_at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._refilled_at) * self._qps)
        self._refilled_at = now

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        self._refill(loop)
        while self._waiting and (self._waiting[0].done() or self._tokens >= 1 - 1e-9):  # 1e-9: rounding of the timer
            turn = self._waiting.popleft()
            if not turn.done():
                self._tokens -= 1
                turn.set_result(None)
        if self._waiting and self._timer is None:
            self._timer = loop.call_later((1 - self._tokens) / self._qps, self._on_timer, loop)

    def _on_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._serve(loop)
