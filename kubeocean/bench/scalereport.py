"""The report of `kubeocean bench scale` for people."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from kubeocean.bench.audit import WriteCount
from kubeocean.bench.report import build_verdict
from kubeocean.bench.scaleresults import Scale
from kubeocean.bench.scaleverdict import scale_checks, scale_ratios


def print_scale(scale: Scale, console: Console) -> None:
    """Print everything a person wants to see; the JSON holds more."""
    setting = scale.setting
    beside = f" beside {setting.foreign} of the lenders'" if setting.foreign else ""
    console.print(
        f"[bold]{setting.pods} Pods {'with' if setting.token else 'without'} token{beside}, {setting.nodes} nodes in "
        f"{setting.clusters} clusters[/]; launcher inprocess, directScheduling true; load before {setting.load:.1f}"
    )
    for part in (_laps(scale), _staying(scale), build_verdict(scale_checks(scale))):
        console.print(part)


def _laps(scale: Scale) -> Table:
    floor, ratios = scale.floor.best, scale_ratios(scale)
    table = Table("seconds", "create → all Running", "ratio", "delete → all gone", "ratio", title="The burst")
    table.add_row("floor", f"{floor.create:.1f}", "", f"{floor.delete:.1f}", "")
    for name, lap, key in (("the rig's own ceiling", scale.ceiling.best, "ceiling_"), ("federated", scale.lap, "")):
        create, delete = (f"{ratios[f'{key}{phase}']:.2f}× floor" for phase in ("create", "delete"))
        table.add_row(name, f"{lap.create:.1f}", create, f"{lap.delete:.1f}", delete)
    creating, deleting = (_per_pod(used, scale.setting.pods) for used in (scale.cpu_creating, scale.cpu_deleting))
    table.add_row("the manager's CPU, ms per Pod", creating, "", deleting, "")
    return table


def _per_pod(seconds: float | None, pods: int) -> str:
    return "–" if seconds is None else f"{1000 * seconds / pods:.2f}"


def _staying(scale: Scale) -> Table:
    seconds, memory = scale.setting.rest_seconds, scale.memory
    table = Table("what", "measured", title="Many Pods that stay")
    for whose, latency in (("one of the crowd", scale.neighbourhood.crowd), ("a neighbour", scale.neighbourhood.neighbour)):
        if latency:
            table.add_row(f"burst, bound → twin, for {whose}: p50 / p99", f"{latency.p50:.0f} / {latency.p99:.0f} ms")
    table.add_row(f"our writes in {seconds:g} s at rest, beside Leases", _list_writes(scale.writes_at_rest))
    if scale.cpu_at_rest is not None and seconds:
        table.add_row("CPU at rest", f"{100 * scale.cpu_at_rest / seconds:.1f} % of a core")
    for how, restart in (("restart", scale.restart), ("rolling restart", scale.rolling)):
        table.add_row(f"{how}: from the stop of the old one until it leads", f"{restart.leading:.1f} s")
        table.add_row(f"{how}: from leadership to steady", f"{restart.steady:.1f} s")
        if restart.cpu_seconds is not None:
            table.add_row(f"{how}: CPU until steady", f"{restart.cpu_seconds:.1f} s")
        table.add_row(f"{how}: our writes beside Leases", _list_writes(restart.writes))
        table.add_row(f"{how}: deletions among them", str(restart.deletes))
    for when, used in (
        ("before the first Pod", memory.empty),
        ("with the lenders' Pods", memory.foreign if scale.setting.foreign else None),
        ("after the burst", memory.burst), ("after the restart", memory.restart),
    ):
        if used is not None:
            table.add_row(f"manager's memory {when}", f"{used / 2**20:.0f} MiB")
    return table


def _list_writes(writes: Iterable[WriteCount]) -> str:
    return ", ".join(f"{each.count} × {each.side} {each.verb} {each.resource}" for each in writes) or "none"
