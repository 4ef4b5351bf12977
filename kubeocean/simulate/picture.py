"""The week as a picture: rows of bars above, stepped areas below, one axis of real time for both.

Time runs evenly from left to right, in real hours: a day on which the clocks change is drawn 23 or 25 hours wide and
says so, and its hours stand where a clock in the chosen zone shows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kubeocean.domain.simulation import Stage
from kubeocean.simulate import amounts
from kubeocean.simulate.areas import draw_area
from kubeocean.simulate.axis import Axis, draw_axis
from kubeocean.simulate.names import describe_names
from kubeocean.simulate.schedule import Group, Schedule, Span
from kubeocean.simulate.shapes import Line, Picture, Polygon, Rect, Shape, Text, fit, text_width
from kubeocean.simulate.theme import (
    CLOSED,
    CLOSED_HATCH,
    FAINT,
    GRID,
    INK,
    RECLAIM,
    RECLAIMED,
    ink_on,
    policy_colors,
    tint,
)

WIDTH, LEFT, RIGHT = 1280.0, 216.0, 20.0
_MARGIN = 18.0
_TOP = 76.0  # title and subtitle
_HEADER = 44.0  # days and hours
_ROW, _BAR = 42.0, 28.0
_PANEL, _BETWEEN = 132.0, 22.0
_MOST_ROWS = 40


def draw_schedule(schedule: Schedule, resources: Sequence[str], *, now: datetime | None = None) -> Picture:
    """Return the picture of a schedule, with an area for each of `resources`; `now` is marked when it is inside."""
    groups = schedule.groups[:_MOST_ROWS]
    colors = policy_colors(schedule.policies)
    axis = Axis(schedule.week, LEFT, WIDTH - RIGHT)
    rows_end = _TOP + _HEADER + _ROW * len(groups) + (20 if len(groups) < len(schedule.groups) else 0)
    panels = [rows_end + _BETWEEN + (_PANEL + _BETWEEN) * position for position in range(len(resources))]
    end = rows_end + (_PANEL + _BETWEEN) * len(resources)
    shapes: list[Shape] = [*_headline(schedule), *draw_axis(axis, _TOP, _TOP + _HEADER, end, now=now)]
    for position, group in enumerate(groups):
        shapes += _row(group, axis, _TOP + _HEADER + _ROW * position, resources, colors)
    if len(groups) < len(schedule.groups):
        shapes.append(Text(_MARGIN, rows_end - 4, f"and {len(schedule.groups) - len(groups)} more rows", 11, FAINT))
    for top, resource in zip(panels, resources, strict=True):
        shapes += draw_area(schedule, resource, axis, (top, top + _PANEL), colors, margin=_MARGIN)
    legend = list(_legend(schedule, colors, end + 34))
    shapes += legend
    height = max((shape.y for shape in legend if isinstance(shape, Text)), default=end) + 22
    return Picture(WIDTH, height, _title(schedule), _summary(schedule), shapes)


# --- words -----------------------------------------------------------------------------------------------------------
def _title(schedule: Schedule) -> str:
    week = schedule.week
    first, last = week.local(week.begin), week.local(week.end - timedelta(seconds=1))
    span = f"{last:%a} {last.day} {last:%b %Y}"
    if first.date() != last.date():
        span = f"{first:%a} {first.day} {first:%b} to {span}"
    return f"Lease of {schedule.world.binding_name}, {span}"


def _summary(schedule: Schedule) -> str:
    nodes, policies = len(schedule.nodes), len(schedule.policies)
    leased = sum(len(group.nodes) for group in schedule.groups if group.policies)
    return (
        f"{_count(leased, 'node')} of {nodes} under {_count(policies, 'policy', 'policies')} · "
        f"times in {schedule.week.zone.key}"
    )


def _count(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _headline(schedule: Schedule) -> Iterator[Shape]:
    yield Text(_MARGIN, 34, fit(_title(schedule), 20, WIDTH - 2 * _MARGIN), 20, INK, bold=True)
    yield Text(_MARGIN, 55, fit(_summary(schedule), 12, WIDTH - 2 * _MARGIN), 12, FAINT)


# --- rows ------------------------------------------------------------------------------------------------------------
def _row(
    group: Group, axis: Axis, top: float, resources: Sequence[str], colors: Mapping[str, str]
) -> Iterator[Shape]:
    room = LEFT - _MARGIN - 12
    yield Text(_MARGIN, top + 18, fit(describe_names(group.names, width=26), 12, room), 12, INK, bold=True)
    count = f"{_count(len(group.nodes), 'node')} · "
    who = fit(", ".join(group.policies) or "not leased", 10.5, room - text_width(count, 10.5))
    yield Text(_MARGIN, top + 33, count + who, 10.5, FAINT)
    yield Line(_MARGIN, top + _ROW, axis.right, top + _ROW, GRID, 0.6)
    before: Span | None = None
    for span in group.spans:
        yield from _bar(span, axis, top + (_ROW - _BAR) / 2, resources, colors)
        if span.stage is Stage.RECLAIMED and before is not None:
            yield from _mark(axis.x(span.begin), top + (_ROW - _BAR) / 2)
        before = span


def _bar(
    span: Span, axis: Axis, top: float, resources: Sequence[str], colors: Mapping[str, str]
) -> Iterator[Shape]:
    left, right = axis.x(span.begin), axis.x(span.end)
    width, tip = max(right - left, 1.0), _tip(span, axis, resources)
    if span.stage is Stage.NOT_LEASED:
        yield Line(left, top + _BAR / 2, right, top + _BAR / 2, CLOSED_HATCH, dashed=True)
        words = fit(span.message, 10.5, width - 16)
        if words:
            yield Rect(left + 4, top + 4, text_width(words, 10.5) + 8, _BAR - 8, "#ffffff", tip=tip)
            yield Text(left + 8, top + _BAR / 2 + 4, words, 10.5, FAINT)
        return
    fill, hatch = bar_style(span.stage, colors[span.policy])
    yield Rect(left, top, width, _BAR, fill, hatch, tip)
    if span.stage is Stage.OPEN:
        yield from _bar_words(span, left, width, top, resources, ink_on(fill))


def _bar_words(
    span: Span, left: float, width: float, top: float, resources: Sequence[str], ink: str
) -> Iterator[Shape]:
    """Write as many of the amounts into a bar as it has room for: in one line, in two, or only the first."""
    texts = [amounts.show(name, span.leased[name]) for name in resources if name in span.leased][:2]
    one = " · ".join(texts)
    if texts and text_width(one, 10.5) + 10 <= width:
        yield Text(left + 6, top + _BAR / 2 + 4, one, 10.5, ink)
    elif texts and max(text_width(text, 9.5) for text in texts) + 8 <= width:
        step = _BAR / (len(texts) + 1)
        for position, text in enumerate(texts):
            yield Text(left + 4, top + step * (position + 1) + 3.5, text, 9.5, ink)


def bar_style(stage: Stage, color: str) -> tuple[str, str]:
    """Return fill and hatch of a bar."""
    if stage is Stage.OPEN:
        return color, ""
    if stage is Stage.GRACE:
        return tint(color, 0.75), color
    return (RECLAIMED, "") if stage is Stage.RECLAIMED else (CLOSED, CLOSED_HATCH)


def _mark(x: float, top: float) -> Iterator[Shape]:
    yield Line(x, top - 4, x, top + _BAR, RECLAIM, 1.6)
    yield Polygon(((x - 4.5, top - 5), (x + 4.5, top - 5), (x, top + 2)), RECLAIM)


def _tip(span: Span, axis: Axis, resources: Sequence[str]) -> str:
    begin, end = axis.week.local(span.begin), axis.week.local(span.end)
    what = ", ".join(amounts.show(name, span.leased[name]) for name in resources if name in span.leased)
    words = span.message or " ".join(filter(None, (span.policy, span.stage.value, what)))
    return f"{begin:%a %H:%M} to {end:%a %H:%M}: {words}"


# --- legend ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Entry:
    words: str
    fill: str
    hatch: str = ""
    mark: bool = False
    line: bool = False


def _legend(schedule: Schedule, colors: Mapping[str, str], top: float) -> Iterator[Shape]:
    x, y = LEFT, top
    for entry in _entries(schedule, colors):
        words = fit(entry.words, 11, WIDTH - RIGHT - LEFT - 40)
        width = 24 + text_width(words, 11) + 18
        if x > LEFT and x + width > WIDTH - RIGHT:
            x, y = LEFT, y + 22
        if entry.mark:
            yield Polygon(((x + 4.5, y - 9), (x + 13.5, y - 9), (x + 9, y - 1)), entry.fill)
        elif entry.line:
            yield Line(x, y - 4, x + 18, y - 4, entry.fill, 1.0, dashed=True)
        else:
            yield Rect(x, y - 10, 18, 12, entry.fill, entry.hatch)
        yield Text(x + 24, y, words, 11, INK)
        x += width


def _entries(schedule: Schedule, colors: Mapping[str, str]) -> Iterator[_Entry]:
    """Yield what needs a word in this picture, and nothing else."""
    stages = {span.stage for group in schedule.groups for span in group.spans}
    for policy in schedule.policies:
        yield _Entry(policy, colors[policy])
    if Stage.GRACE in stages:
        yield _Entry("closing, Pods may stay a little", tint(INK, 0.75), INK)
    if Stage.RECLAIMED in stages:
        yield _Entry("closed, Pods must go", RECLAIMED)
        yield _Entry("evicted from here on", RECLAIM, mark=True)
    if Stage.SHUT in stages:
        yield _Entry("closed, running Pods may stay", CLOSED, CLOSED_HATCH)
    yield _Entry("what all nodes have", INK, line=True)
