"""How much is leased, as a stepped area: one layer for each policy, all nodes together as the dashed line above."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime

from kubeocean.kube.quantity import ZERO, Quantity
from kubeocean.simulate import amounts
from kubeocean.simulate.axis import Axis
from kubeocean.simulate.schedule import Schedule
from kubeocean.simulate.shapes import Anchor, Line, Polygon, Shape, Text, fit
from kubeocean.simulate.theme import FAINT, GRID_FINE, INK, tint

_STEPS = (1, 2, 2.5, 5, 10)
_TITLES = {"cpu": "CPU", "memory": "Memory"}


def draw_area(
    schedule: Schedule, resource: str, axis: Axis, span: tuple[float, float], colors: Mapping[str, str], *, margin: float
) -> Iterator[Shape]:
    """Yield the area of one resource between the heights `span` (top, bottom)."""
    top, bottom = span
    owned = amounts.value(resource, schedule.owned(resource))
    edges = [*schedule.edges(), schedule.week.end]
    layers = {policy: _layer(schedule, resource, policy, edges) for policy in schedule.policies}
    peak = max((sum(layer[position] for layer in layers.values()) for position in range(len(edges) - 1)), default=0.0)
    shown = owned if owned <= 3 * peak else peak  # a line far above all would flatten what there is to see
    step = _step(shown)
    scale = (bottom - top - 8) / (max(shown, peak, step) or 1)

    yield from _words(resource, owned, peak, margin, axis.left - margin - 56, top)
    yield from _ruler(axis, bottom, step, scale, max(shown, peak))
    floor = [0.0] * (len(edges) - 1)
    for policy, layer in layers.items():
        roof = [below + amount for below, amount in zip(floor, layer, strict=True)]
        for first, last in _runs(layer):
            yield Polygon(_outline(axis, edges, (floor, roof), range(first, last), bottom, scale), tint(colors[policy], 0.25))
        floor = roof
    if owned == shown and owned > 0:
        y = bottom - owned * scale
        yield Line(axis.left, y, axis.right, y, INK, 1.0, dashed=True)
    yield Line(axis.left, bottom, axis.right, bottom, FAINT)


def _layer(schedule: Schedule, resource: str, policy: str, edges: list[datetime]) -> list[float]:
    found: list[Quantity] = [schedule.leased_at(edge, policy).get(resource, ZERO) for edge in edges[:-1]]
    return [amounts.value(resource, amount) for amount in found]


def _runs(layer: list[float]) -> Iterator[tuple[int, int]]:
    """Yield from where to where (not included) there is anything: an area without height would still show as a line."""
    start = None
    for position, amount in enumerate([*layer, 0.0]):
        if amount and start is None:
            start = position
        elif not amount and start is not None:
            yield start, position
            start = None


def _outline(
    axis: Axis, edges: list[datetime], heights: tuple[list[float], list[float]], steps: range, bottom: float, scale: float
) -> tuple[tuple[float, float], ...]:
    """Return the corners of a stepped area: along its roof, and back along its floor."""
    floor, roof = heights
    there = [(axis.x(edges[at]), bottom - roof[step] * scale) for step in steps for at in (step, step + 1)]
    back = [(axis.x(edges[at]), bottom - floor[step] * scale) for step in reversed(steps) for at in (step + 1, step)]
    return tuple(there + back)


def _words(resource: str, owned: float, peak: float, x: float, room: float, top: float) -> Iterator[Shape]:
    unit = amounts.unit(resource)
    of = f" {unit}" if unit else ""
    yield Text(x, top + 18, fit(_TITLES.get(resource, resource), 12, room), 12, INK, bold=True)
    yield Text(x, top + 34, fit(f"peak {amounts.number(peak)}{of}", 10.5, room), 10.5, FAINT)
    yield Text(x, top + 49, fit(f"of {amounts.number(owned)}{of}", 10.5, room), 10.5, FAINT)


def _ruler(axis: Axis, bottom: float, step: float, scale: float, highest: float) -> Iterator[Shape]:
    for count in range(int(highest / step + 1e-9) + 1):
        y = bottom - count * step * scale
        if count:
            yield Line(axis.left, y, axis.right, y, GRID_FINE)
        yield Text(axis.left - 6, y + 3.5, amounts.number(count * step), 10, FAINT, Anchor.END)


def _step(highest: float) -> float:
    """Return a round distance between the ruler's lines that makes three to five of them."""
    if highest <= 0:
        return 1.0
    rough = highest / 4
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in _STEPS if step * power >= rough)
