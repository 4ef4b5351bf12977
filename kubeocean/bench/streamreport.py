"""The report of `kubeocean bench streams` for people."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from kubeocean.bench.report import build_verdict
from kubeocean.bench.streamresults import STRAIGHT, THROUGH, WAYS, Footprint, Idle, Rate, Streams
from kubeocean.bench.streamverdict import added, crowd_ratio, rate_ratio, stream_checks, stream_doubts

_TITLES = {
    "straight": "straight to the physical API server", "proxier": "straight to the proxier",
    "through": "through the virtual API server",
}


def print_streams(streams: Streams, console: Console) -> None:
    """Print everything a person wants to see; the JSON holds more."""
    setting = streams.setting
    console.print(
        f"[bold]exec on a virtual node[/]; node: {setting.node}; {setting.cores} cores, Python {setting.python}, "
        f"load before {setting.load:.1f}"
    )
    for part in (_keystrokes(streams), _throughput(streams), _idle(streams.idle), _crowd(streams)):
        console.print(part)
    for crowd in streams.crowd.values():
        for failure in crowd.failures[:5]:
            console.print(f"[red]failed:[/] {failure}")
    console.print(build_verdict(stream_checks(streams)))
    for doubt in stream_doubts(streams):
        console.print(f"[bold yellow]note:[/] {doubt}")


def _keystrokes(streams: Streams) -> Table:
    count = streams.keystrokes[STRAIGHT].count
    table = Table("way", "p50", "p99", "added p50", "added p99", title=f"A keystroke and its echo, ms ({count} on each way)")
    for way in WAYS:
        spread, more = streams.keystrokes[way], added(streams.keystrokes, way)
        extra = ("", "") if way == STRAIGHT else (f"{more[0]:+.3f}", f"{more[1]:+.3f}")
        table.add_row(_TITLES[way], f"{spread.p50:.3f}", f"{spread.p99:.3f}", *extra)
    return table


def _throughput(streams: Streams) -> Table:
    title = f"Throughput, MB/s (best of 3 × {streams.setting.megabytes:g} MB)"
    table = Table("way", "output", "ratio", "input", "ratio", "proxier's CPU s per GB out", "in", title=title)
    for way in WAYS:
        cells: list[str] = []
        for rates in (streams.output, streams.input):
            cells += [f"{rates[way].best:.1f}", "" if way == STRAIGHT else f"{rate_ratio(rates, way):.2f}×"]
        used = ("", "") if way == STRAIGHT else (_cpu(streams.output[way]), _cpu(streams.input[way]))
        table.add_row(_TITLES[way], *cells, *used)
    return table


def _cpu(rate: Rate) -> str:
    return "–" if rate.proxier_cpu is None else f"{rate.proxier_cpu:.1f}"


def _idle(idle: Idle) -> Table:
    table = Table("the proxier", "memory", "open files", "streams", "tasks", title=f"{idle.sessions} idle sessions")
    for when, held in (
        ("before", idle.before), ("with them", idle.full), ("after they had ended", idle.after),
        ("with as many once more", idle.again),
    ):
        table.add_row(
            when, _known(held, lambda each: each.memory, lambda memory: f"{memory / 2**20:.1f} MiB"),
            _known(held, lambda each: each.files, str), str(held.sessions), str(held.tasks),
        )
    if idle.bytes_per_session is not None:
        table.add_row("for each", f"[bold]{idle.bytes_per_session / 2**10:.1f} KiB[/]", "", "", "")
    return table


def _known(held: Footprint, read: Callable[[Footprint], int | None], show: Callable[[int], str]) -> str:
    value = read(held)
    return "–" if value is None else show(value)


def _crowd(streams: Streams) -> Table:
    table = Table("way", "seconds", "best", "ratio", "failed", title=f"{streams.setting.parallel} commands at once")
    for way, crowd in streams.crowd.items():
        rounds = ", ".join(f"{seconds:.2f}" for seconds in crowd.rounds)
        ratio = f"{crowd_ratio(streams.crowd):.2f}×" if way == THROUGH else ""
        table.add_row(_TITLES[way], rounds, f"{crowd.best:.2f}", ratio, str(len(crowd.failures)))
    return table
