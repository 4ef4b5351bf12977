"""The same answer in words: edges, totals by the day, and who has to leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kubeocean.domain.forecast import Fate
from kubeocean.domain.simulation import Stage
from kubeocean.simulate import amounts
from kubeocean.simulate.eviction import NodeForecast
from kubeocean.simulate.names import describe_names
from kubeocean.simulate.schedule import Group, Schedule, Span, Week

_STYLES = {
    Stage.OPEN: "green", Stage.GRACE: "yellow", Stage.RECLAIMED: "red",
    Stage.SHUT: "bright_black", Stage.NOT_LEASED: "bright_black",
}
_BECOMES = {
    Stage.OPEN: "opens", Stage.GRACE: "closes; Pods may stay a little", Stage.SHUT: "closes; running Pods may stay",
    Stage.RECLAIMED: "Pods must go", Stage.NOT_LEASED: "not leased",
}
_IS = _BECOMES | {
    Stage.OPEN: "is open", Stage.GRACE: "is closing", Stage.SHUT: "is closed", Stage.RECLAIMED: "is closed, Pods must go",
}


@dataclass(frozen=True, slots=True)
class Edge:
    """A line of the table: from `when` on these nodes stand so."""

    when: datetime
    group: Group
    change: str
    span: Span


def edges_of(schedule: Schedule) -> list[Edge]:
    """Return every change of all that is leased in order of time; a group's first says how it stands at the beginning."""
    found = [edge for group in schedule.groups if group.is_leased for edge in _edges(group)]
    return sorted(found, key=lambda edge: edge.when)


def _edges(group: Group) -> Iterator[Edge]:
    before: Span | None = None
    for span in group.spans:
        words = _IS[span.stage] if before is None else _BECOMES[span.stage]
        if before and before.stage is Stage.OPEN and span.stage is Stage.RECLAIMED:
            words = "closes; Pods must go"
        yield Edge(span.begin, group, words, span)
        before = span


def print_schedule(console: Console, schedule: Schedule, resources: Sequence[str]) -> None:
    """Print the edges and the totals of each day."""
    for note in schedule.world.notes:
        console.print(Text(f"Note: {note}", style="yellow"), soft_wrap=True)
    console.print(_edge_table(schedule, resources))
    for group in schedule.groups:
        if not group.is_leased:
            console.print(Text(f"Never leased: {describe_names(group.names)}: {group.spans[0].message}"), soft_wrap=True)
    console.print(_day_table(schedule, resources))


def _edge_table(schedule: Schedule, resources: Sequence[str]) -> Table:
    week = schedule.week
    table = Table(
        title=f"Lease of {schedule.world.binding_name} ({week.zone.key})", title_justify="left", title_style="bold", box=None,
        pad_edge=False, header_style="bold",
    )
    for heading in ("When", "Nodes", "What", "Policy"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("When", "Nodes"))
    for resource in resources:
        table.add_column(resource, justify="right", no_wrap=True)
    shown = ""
    for edge in edges_of(schedule):
        when = show_time(week, edge.when)
        leased = [amounts.show_under(name, edge.span.leased[name]) if name in edge.span.leased else "" for name in resources]
        what = Text(edge.change, style=_STYLES[edge.span.stage])
        nodes = Text(describe_names(edge.group.names))
        table.add_row(when if when != shown else "", nodes, what, Text(edge.span.policy or edge.span.message), *leased)
        shown = when
    return table


def _day_table(schedule: Schedule, resources: Sequence[str]) -> Table:
    table = Table(
        title="\nLeased each day (of all there is)", title_justify="left", title_style="bold", box=None,
        pad_edge=False, header_style="bold",
    )
    table.add_column("Day", no_wrap=True)
    table.add_column("hours", justify="right")
    for resource in resources:
        table.add_column(_hours_of(resource), justify="right", no_wrap=True)
    days = list(schedule.week.days())
    for begin, end in days:
        table.add_row(f"{schedule.week.local(begin):%a %Y-%m-%d}", *_totals(schedule, begin, end, resources))
    if len(days) > 1:
        table.add_row("together", *_totals(schedule, schedule.week.begin, schedule.week.end, resources), style="bold")
    return table


def _hours_of(resource: str) -> str:
    unit = amounts.unit(resource)
    return f"{resource} ({unit.removesuffix('s')}-hours)" if unit else f"{resource} (hours)"


def _totals(schedule: Schedule, begin: datetime, end: datetime, resources: Sequence[str]) -> list[str]:
    hours = (end - begin).total_seconds() / 3600
    texts = [amounts.number(hours)]
    for resource in resources:
        total = schedule.total(begin, end, resource) / (amounts.GIB if amounts.is_bytes(resource) else 1)
        owned = amounts.value(resource, schedule.owned(resource)) * hours
        texts.append(f"{amounts.number(total)} ({total / owned if owned else 0:4.0%})")
    return texts


def print_forecasts(console: Console, week: Week, forecasts: Sequence[NodeForecast]) -> None:
    """Print who has to leave at the next edge of each virtual node, in order of time."""
    table = Table(
        title="\nPods at the next closing", title_justify="left", title_style="bold", box=None, pad_edge=False,
        header_style="bold",
    )
    for heading in ("When", "Virtual node", "Pod", "Priority", "What"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "Priority" else "left")
    rows = [(node, departure) for node in forecasts for departure in node.forecast.departures]
    rows.sort(key=lambda row: (row[1].when is None, row[1].when.timestamp() if row[1].when else 0.0))
    for node, departure in rows:
        pod = departure.pod
        table.add_row(
            show_time(week, departure.when, seconds=True) if departure.when else "", Text(node.vnode), Text(str(pod.key)),
            str(pod.priority), Text(departure.fate.value, style="red" if departure.when else "green"),
        )
    if rows:
        console.print(table)
    else:
        console.print("\nNo Pod on these virtual nodes has to leave in this time.", style="green")
    for line in _remarks(week, forecasts):
        console.print(Text(line), soft_wrap=True)


def _remarks(week: Week, forecasts: Sequence[NodeForecast]) -> Iterator[str]:
    """Yield until when disruption budgets count, for the nodes where anybody is evicted."""
    held: dict[datetime, list[str]] = {}
    for node in forecasts:
        evicts = any(departure.fate is Fate.EVICTED for departure in node.forecast.departures)
        if evicts and node.forecast.deadline:
            held.setdefault(node.forecast.deadline, []).append(node.vnode)
    for deadline, nodes in sorted(held.items()):
        yield f"Disruption budgets may hold evictions up until {show_time(week, deadline)} on {describe_names(nodes)}."


def show_time(week: Week, moment: datetime, *, seconds: bool = False) -> str:
    """Return a moment by the clock of the chosen zone, with its offset: one hour of a year is shown twice."""
    local = week.local(moment)
    clock = f"{local:%H:%M:%S}" if seconds or local.second else f"{local:%H:%M}"
    return f"{local:%a %Y-%m-%d} {clock} {local:%Z}"
