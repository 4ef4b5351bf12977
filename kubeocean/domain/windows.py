"""When a policy's time window is open, and when that changes next.

The clock on the wall decides: a window is open at an instant exactly when a clock in the policy's time zone shows one
of its minutes. From that single sentence follow the rules that are easily got wrong:

- the end minute is inside, so `09:00`-`17:00` closes at 17:01:00 and `start == end` is one minute;
- `end` before `start` crosses midnight, and the hours after midnight belong to the day the window *started* on: Friday
  22:00-06:00 is open on Saturday at 05:00 and closed on Friday at 05:00;
- when the clocks go forward, minutes that no clock shows are not waited for: a window that starts inside the gap opens
  where the gap ends, and one that lies wholly inside it stays shut that day;
- when they go back, minutes that are shown twice count twice.

`state` finds the next change by looking, not by calculating with offsets: between two neighbours of {all edges of all
windows, all shifts of the zone's offset} nothing can change, so it asks the sentence above at each of them in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from kubeocean.api.policy import TimeWindow

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
# Windows repeat weekly, but a whole week's occurrence may fall into a gap of the clock: two weeks always show a change.
_HORIZON_DAYS = 15


@dataclass(frozen=True, slots=True)
class WindowState:
    """Whether leasing is on, and by which window (None when there are none: always open).

    `next_change` is when `open` flips, `revisit_at` when `open` or `active` may differ; both in UTC, None = never.
    """

    open: bool
    active: TimeWindow | None = None
    next_change: datetime | None = None
    revisit_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Window:
    source: TimeWindow
    start: time
    end: time
    days: frozenset[int]

    def shows(self, wall: datetime) -> bool:
        """Tell whether the wall clock time `wall` (naive) is inside."""
        minute, day = wall.time().replace(second=0, microsecond=0), wall.weekday()
        if self.start <= self.end:
            return day in self.days and self.start <= minute <= self.end
        if minute >= self.start:
            return day in self.days
        return minute <= self.end and (day - 1) % 7 in self.days

    def edges(self, day: date) -> tuple[datetime, datetime]:
        """Return the wall clock times at which the window that starts on `day` opens and is shut again (naive)."""
        last = day + _DAY if self.end < self.start else day
        return datetime.combine(day, self.start), datetime.combine(last, self.end) + _MINUTE


def state(windows: Sequence[TimeWindow], zone: str, now: datetime) -> WindowState:
    """Return whether one of `windows` is open at `now` (aware), and when that changes. No windows = always open.

    `zone` is an IANA name. Windows and zone are known to be valid: `api.policy.parse_policy` has checked them.
    """
    if not windows:
        return WindowState(open=True)
    tz, now = ZoneInfo(zone), now.astimezone(UTC)
    parsed = tuple(_parse(window) for window in windows)

    def active_at(instant: datetime) -> TimeWindow | None:
        wall = instant.astimezone(tz).replace(tzinfo=None)
        return next((window.source for window in parsed if window.shows(wall)), None)

    active = active_at(now)
    next_change, revisit_at = _look_ahead(parsed, tz, now, active_at)
    return WindowState(active is not None, active, next_change, revisit_at)


def _parse(window: TimeWindow) -> _Window:
    days = frozenset(_WEEKDAYS.index(day.lower()) for day in window.days) or frozenset(range(7))
    return _Window(window, time.fromisoformat(window.start), time.fromisoformat(window.end), days)


def _look_ahead(
    windows: Sequence[_Window], tz: ZoneInfo, now: datetime, active_at: Callable[[datetime], TimeWindow | None]
) -> tuple[datetime | None, datetime | None]:
    before, revisit_at = active_at(now), None
    for days in (2, _HORIZON_DAYS):  # the next edge is nearly always near, and looking far costs seven times more
        # Windows that start later are not asked for their edges: what was found counts only before the first of those may be.
        unseen = datetime.combine(now.astimezone(tz).date() + (days + 1) * _DAY, time.min, tz).astimezone(UTC)
        for instant in sorted({*_edges(windows, tz, now, days), *_shifts(tz, now, days)}):
            if not now < instant < unseen:
                continue
            active = active_at(instant)
            if revisit_at is None and active != before:
                revisit_at = instant
            if (active is None) != (before is None):
                return instant, revisit_at
    return None, revisit_at


def _edges(windows: Sequence[_Window], tz: ZoneInfo, now: datetime, days: int) -> Iterator[datetime]:
    """Yield every instant at which a clock shows an edge of a window that starts yesterday or in the next `days`."""
    today = now.astimezone(tz).date()
    for offset in range(-1, days + 1):
        day = today + offset * _DAY
        for window in windows:
            for wall in window.edges(day):
                yield wall.replace(tzinfo=tz, fold=0).astimezone(UTC)
                yield wall.replace(tzinfo=tz, fold=1).astimezone(UTC)


def _shifts(tz: ZoneInfo, now: datetime, days: int) -> Iterator[datetime]:
    """Yield the instants within `days` after `now` at which the zone's offset changes, to the second."""
    for offset in range(-1, days + 1):
        early, late = now + offset * _DAY, now + (offset + 1) * _DAY
        if _offset(tz, early) == _offset(tz, late):
            continue
        early, late = early.replace(microsecond=0), late.replace(microsecond=0)
        while late - early > timedelta(seconds=1):
            middle = (early + (late - early) / 2).replace(microsecond=0)
            early, late = (middle, late) if _offset(tz, middle) == _offset(tz, early) else (early, middle)
        yield late


def _offset(tz: ZoneInfo, instant: datetime) -> timedelta | None:
    return instant.astimezone(tz).utcoffset()
