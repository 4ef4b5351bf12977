"""What time it is: the real time, or for tests and trials a clock that is so many seconds ahead of it.

Shifting beats racing: such a clock runs at the pace of the timers that wait on it, so a grace of two seconds takes two, and a
day of windows is passed through by steps from one moment of interest to the next, which is what a real clock does when it is
set. Only what *we* decide by the wall clock may ask it. Whatever is held against a time that an API server wrote
(creationTimestamp, deletionTimestamp) goes by `real_time`: those clocks are not ours to set.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

Clock = Callable[[], datetime]  # aware


def real_time() -> datetime:
    """Return the real time, in UTC."""
    return datetime.now(UTC)


class ShiftedClock:
    """A clock ahead of the real time by the number of seconds in a file, which may be replaced at any moment.

    While the file cannot be read, the shift stays as it was. Raises OSError or ValueError if it never could be.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._shift = file, read_shift(file)

    def __call__(self) -> datetime:
        """Return what this clock shows, in UTC."""
        with suppress(OSError, ValueError):  # somebody is writing to it
            self._shift = read_shift(self._file)
        return real_time() + self._shift


def read_shift(file: Path) -> timedelta:
    """Return how far ahead the file says the clock is. Raises OSError, or ValueError for what is no number of seconds."""
    text = file.read_text().strip()
    try:
        shift = timedelta(seconds=float(text))
        _ = real_time() + shift
    except (ValueError, OverflowError):
        raise ValueError(f"{file} says {text[:40]!r}; write how many seconds it is ahead, such as 86400 or -90") from None
    return shift
