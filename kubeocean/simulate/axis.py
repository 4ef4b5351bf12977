"""The time axis: even in real hours, labelled by the clock of the chosen zone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from kubeocean.simulate.schedule import Week
from kubeocean.simulate.shapes import Anchor, Line, Rect, Shape, Text, text_width
from kubeocean.simulate.theme import CLOCKS, FAINT, GRID, GRID_FINE, INK, NOW, WEEKEND

_WEEKEND = (5, 6)
_HOURS = (6, 12, 18)


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps the time asked to x between `left` and `right`."""

    week: Week
    left: float
    right: float

    def x(self, moment: datetime) -> float:
        """Return where a moment lies."""
        share = (moment - self.week.begin) / (self.week.end - self.week.begin)
        return self.left + share * (self.right - self.left)


def draw_axis(axis: Axis, top: float, rows: float, bottom: float, *, now: datetime | None) -> Iterator[Shape]:
    """Yield day names and hours between `top` and `rows`, and the grid from there to `bottom`."""
    days = list(axis.week.days())
    wide = (axis.right - axis.left) / len(days) >= 100
    for begin, end in days:
        if axis.week.local(begin).weekday() in _WEEKEND:
            yield Rect(axis.x(begin), rows, axis.x(end) - axis.x(begin), bottom - rows, WEEKEND)
    for begin, end in days:
        yield from _day(axis, begin, end, top)
        if wide:
            yield from _hours(axis, begin, end, rows, bottom)
        elif (local := axis.week.local(begin)).day == 1 or begin == days[0][0]:
            yield Text(axis.x(begin) + 3, rows - 7, f"{local:%b}", 10, FAINT)
        yield Line(axis.x(begin), rows, axis.x(begin), bottom, GRID)
    yield Line(axis.right, rows, axis.right, bottom, GRID)
    yield Line(axis.left, rows, axis.right, rows, GRID)
    for shift in axis.week.shifts():
        yield Line(axis.x(shift), rows - 4, axis.x(shift), bottom, CLOCKS, 1.2, dashed=True)
        yield _centred(axis, axis.x(shift), bottom + 12, _what_clocks_do(axis.week, shift), CLOCKS)
    if now and axis.week.begin < now < axis.week.end:
        yield Line(axis.x(now), rows - 4, axis.x(now), bottom, NOW, 1.4)
        yield _centred(axis, axis.x(now), rows - 18, "now", NOW)


def _day(axis: Axis, begin: datetime, end: datetime, top: float) -> Iterator[Shape]:
    """Yield a day's name, as long as there is room for, and how long it is when the clocks change."""
    local, room = axis.week.local(begin), axis.x(end) - axis.x(begin) - 6
    middle = (axis.x(begin) + axis.x(end)) / 2
    shifted = any(begin <= shift < end for shift in axis.week.shifts())
    length = f" · {_length(axis.week, begin)}" if shifted else ""
    short = f"{local:%a} {local.day}"
    names = (f"{short} {local:%b}{length}", f"{short}{length}", short, f"{local.day}")
    for words in names:
        if text_width(words, 11.5) <= room:
            yield Text(middle, top + 14, words, 11.5, CLOCKS if shifted else INK, Anchor.MIDDLE, bold=True)
            return


def _hours(axis: Axis, begin: datetime, end: datetime, rows: float, bottom: float) -> Iterator[Shape]:
    """Yield 06, 12 and 18 o'clock where a clock shows them."""
    midnight = axis.week.local(begin).replace(hour=0, minute=0, second=0, microsecond=0)
    for hour in _HOURS:
        moment = midnight.replace(hour=hour)
        if begin <= moment < end:
            yield Line(axis.x(moment), rows, axis.x(moment), bottom, GRID_FINE, 0.8)
            yield Text(axis.x(moment), rows - 7, f"{hour:02}", 9.5, FAINT, Anchor.MIDDLE)


def _what_clocks_do(week: Week, shift: datetime) -> str:
    before, after = week.local(shift - timedelta(minutes=1)), week.local(shift)
    return f"clocks {before + timedelta(minutes=1):%H:%M} to {after:%H:%M}"


def _centred(axis: Axis, x: float, y: float, words: str, color: str) -> Text:
    """Return words at a line, kept between the axis' ends."""
    half = text_width(words, 10) / 2
    return Text(min(max(x, axis.left + half), axis.right - half), y, words, 10, color, Anchor.MIDDLE)


def _length(week: Week, begin: datetime) -> str:
    midnight = week.local(begin).replace(hour=0, minute=0, second=0, microsecond=0)
    next_day = (midnight + timedelta(days=1)).timestamp() - midnight.timestamp()
    return f"{next_day / 3600:g} h"
