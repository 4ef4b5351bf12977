"""The proxier as somebody's child process: it ends with its parent, and tells it how it fares.

stdin is a pipe that nobody writes to; it closes when the parent ends, in whatever way: also after a SIGKILL no proxier is
left that holds the ports of virtual nodes. A thread watches it, so that a hung event loop ends as well. stdout carries
reports, a line each (`domain.proxierstate`), with what we count, for the parent's /metrics; logs go to stderr, as ever.
Another thread writes them: a pipe that a hung parent does not empty must hold up no stream.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import Final

from kubeocean.domain.proxierstate import ProxierReport
from kubeocean.obs.exit import exit_loudly
from kubeocean.proxier import metrics
from kubeocean.proxier.proxier import Proxier

LOOK_EVERY: Final = 0.25  # seconds between looks for something new to tell
TELL_EVERY: Final = 5.0  # seconds between reports without news, by which the parent knows that we are not hung
GONE_WITHIN: Final = 28.0  # seconds for a graceful stop once the parent is gone
_STDIN, _STDOUT = 0, 1


def end_with_parent() -> None:
    """Have this process stopped, as by SIGTERM, when its parent has ended."""
    threading.Thread(target=_until_alone, name="parent", daemon=True).start()


def _until_alone() -> None:
    with suppress(OSError):
        while os.read(_STDIN, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GONE_WITHIN)
    exit_loudly(f"its parent is gone, and it did not stop within {GONE_WITHIN:.0f} s")


async def report(proxier: Proxier) -> None:
    """Tell the parent how `proxier` fares, until cancelled."""
    parent, told_at = _Parent(_STDOUT), 0.0
    told: ProxierReport | None = None
    metrics.count_process()
    while True:
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
