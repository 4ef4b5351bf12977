"""The proxier as somebody's child process: it serves as long as its parent does, and tells it how it fares.

stdin is a pipe that nobody writes to; it closes when the parent lets go of us, or ends in whatever way, be it by SIGKILL. Then
the ports of virtual nodes are closed at once, for whoever serves next; the streams that are open go on until they end by
themselves, at most for `linger` seconds. A thread watches over that, so that no hung event loop keeps a port, or its memory.
SIGTERM is the shorter way out: the streams get some seconds, whether we linger already or not.

stdout carries reports, a line each (`domain.proxierstate`), with what we count, for the parent's /metrics, until we are let go;
logs go to stderr, as ever. Another thread writes them: a pipe that a hung parent does not empty must hold up no stream.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol

from kubeocean.domain.proxierstate import ProxierReport
from kubeocean.obs.exit import exit_loudly
from kubeocean.proxier import metrics

LOOK_EVERY: Final = 0.25  # seconds between looks for something new to tell
TELL_EVERY: Final = 5.0  # seconds between reports without news, by which the parent knows that we are not hung
PORTS_CLOSED_WITHIN: Final = 10.0  # seconds after the parent has gone
GONE_WITHIN: Final = 28.0  # seconds for a graceful stop
_STDIN, _STDOUT = 0, 1


class Serving(Protocol):
    """What of a proxier is needed here."""

    def report(self) -> ProxierReport:
        """Return how it fares."""

    @property
    def lingers(self) -> bool:
        """Tell whether it has closed its ports for good."""

    def leave(self) -> bool:
        """Close the ports for good and end with the last stream; False when it does not serve yet."""


def leave_with_parent(proxier: Serving, linger: float) -> None:
    """Have `proxier` leave when the parent lets go of us or has ended, and this process end `linger` seconds later at most."""
    loop = asyncio.get_running_loop()

    def alone() -> None:
        if not proxier.leave():
            os.kill(os.getpid(), signal.SIGTERM)

    def watch() -> None:
        with suppress(OSError):
            while os.read(_STDIN, 4096):
                pass
        with suppress(RuntimeError):  # the loop is closed: the process ends already
            loop.call_soon_threadsafe(alone)
        _end_if_hung(proxier, linger)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _end_if_hung(proxier: Serving, linger: float) -> None:
    give_up = time.monotonic() + PORTS_CLOSED_WITHIN
    while not proxier.lingers:
        if time.monotonic() > give_up:
            exit_loudly(f"its parent is gone, and it did not close its ports within {PORTS_CLOSED_WITHIN:.0f} s")
        time.sleep(LOOK_EVERY)
    time.sleep(linger + GONE_WITHIN)
    exit_loudly(f"its parent is gone for {linger:.0f} s, and it did not stop")


async def report(proxier: Serving) -> None:
    """Tell the parent how `proxier` fares until it lingers: from then on nobody listens."""
    parent, told_at = _Parent(_STDOUT), 0.0
    told: ProxierReport | None = None
    metrics.count_process()
    while not proxier.lingers:
        news = proxier.report()
        if news != told or time.monotonic() - told_at > TELL_EVERY:
            told, told_at = news, time.monotonic()
            parent.tell(replace(news, metrics=metrics.as_text()).encode())
        await asyncio.sleep(LOOK_EVERY)


class _Parent:
    """Gets the newest line; an older one that it had no time for, never."""

    def __init__(self, pipe: int) -> None:
        self._pipe, self._line, self._has_news = pipe, "", threading.Event()
        threading.Thread(target=self._write, name="reports", daemon=True).start()

    def tell(self, line: str) -> None:
        """Have a line written, soon."""
        self._line = line
        self._has_news.set()

    def _write(self) -> None:
        while True:
            self._has_news.wait()
            self._has_news.clear()
            rest = f"{self._line}\n".encode()
            try:
                while rest:
                    rest = rest[os.write(self._pipe, rest):]
            except OSError:
                return  # the parent is gone, which the other thread sees to
