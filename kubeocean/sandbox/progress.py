"""Tells a person who waits what is going on: a live line on a terminal, otherwise a line every ten seconds.

Long work gets a `Progress` and calls `show` as often as it likes with what is true now, and `say` for what should stay
on the screen. How much of that becomes visible is decided here, so the work never thinks about terminals.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.status import Status
from rich.text import Text


class Progress(Protocol):
    """Where long work tells what it is doing."""

    def say(self, text: str) -> None:
        """Tell something that stays readable afterwards."""

    def show(self, text: str) -> None:
        """Tell the current state; the next call replaces it."""


class Silence:
    """A progress that nobody looks at."""

    def say(self, text: str) -> None:
        """Tell nobody."""

    def show(self, text: str) -> None:
        """Tell nobody."""


class LineProgress:
    """Progress as plain lines for `write`: everything said, and what is shown at most once in `every` seconds."""

    def __init__(
        self, write: Callable[[str], None], *, every: float = 10.0, clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write, self._every, self._clock = write, every, clock
        self._last = clock()

    def say(self, text: str) -> None:
        """Write the line now."""
        self._last = self._clock()
        self._write(text)

    def show(self, text: str) -> None:
        """Write the line when the last one is long enough ago."""
        if self._clock() - self._last >= self._every:
            self.say(text)


class LiveProgress:
    """Progress on a terminal: one line that changes below the lines that stay."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def say(self, text: str) -> None:
        """Print a line above the live one."""
        self._status.console.print(Text(text))

    def show(self, text: str) -> None:
        """Change the live line."""
        self._status.update(Text(text))


@contextmanager
def open_progress(stream: TextIO) -> Iterator[Progress]:
    """Give the progress that suits `stream`; the live line is gone when the block ends."""
    # Asked of the stream itself: rich takes $FORCE_COLOR for a terminal, and a CI log for one that moves its cursor.
    console = Console(file=stream, force_terminal=stream.isatty())
    if not stream.isatty() or console.is_dumb_terminal:
        yield LineProgress(lambda text: print_line(stream, text))
        return
    with console.status("") as status:
        yield LiveProgress(status)


def print_line(stream: TextIO, text: str) -> None:
    """Write one line and push it out: whoever reads a pipe wants it now."""
    stream.write(f"{text}\n")
    stream.flush()


def duration(seconds: float) -> str:
    """Write a duration as people say it.

    >>> duration(8.4), duration(185)
    ('8 s', '3 min 05 s')
    """
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
