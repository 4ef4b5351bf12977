"""The proxier as somebody's child process: it ends with its parent, and tells it how it fares.

stdin is a pipe that nobody writes to; it closes when the parent ends, in whatever way: also after a SIGKILL no proxier is
left that holds the ports of virtual nodes. A thread watches it, so that a hung event loop ends as well. stdout carries
reports, a line each (`domain.proxierstate`); logs go to stderr, as ever.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from contextlib import suppress
from typing import Final

from kubeocean.obs.exit import exit_loudly
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
    told, told_at = "", 0.0
    while True:
        line = proxier.report().encode()
        if line != told or time.monotonic() - told_at > TELL_EVERY:
            told, told_at = line, time.monotonic()
            with suppress(BrokenPipeError):  # the thread above sees to that
                os.write(_STDOUT, f"{line}\n".encode())
        await asyncio.sleep(LOOK_EVERY)
