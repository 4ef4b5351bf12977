"""A report for people: tables on a terminal, plain text elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.table import Table

from kubeocean.bench.percentiles import Spread
from kubeocean.bench.results import Federated, Lap, Phase, Report, Setting, Variant
from kubeocean.bench.verdict import Check, checks, compare, doubts, lap_cpu

_SMALL_SHARE = 0.05  # writes per Pod below which a row is left out: the rig's own noise
_SMALL_CPU = 0.05  # CPU seconds


def print_report(report: Report, console: Console) -> None:
    """Print everything a person wants to see; the JSON holds more."""
    console.print(_headline(report.setting))
    for variant in report.variants:
        console.print()
        for part in _variant(variant, report.setting.pods):
            console.print(part)
    if report.hotspots:
        console.print(_hotspots(report))
    for doubt in doubts(report):
        console.print(f"[bold yellow]note:[/] {doubt}")


def _headline(setting: Setting) -> str:
    return (
        f"[bold]{setting.pods} Pods, {setting.nodes} nodes in {setting.clusters} clusters[/]; launcher {setting.launcher}, "
        f"directScheduling {str(setting.direct_scheduling).lower()}; {setting.cores} cores, Python {setting.python}, "
        f"load before {setting.load:.1f}"
    )


def _variant(variant: Variant, pods: int) -> Iterable[RenderableType]:
    federated = variant.federated
    yield f"[bold]{'With' if variant.token else 'Without'} a ServiceAccount token in every Pod[/]"
    yield _laps(variant)
    yield _pipelines(federated)
    yield _writes(federated, pods)
    yield _cpu(variant, pods)
    yield f"CPU of all programs for a whole lap: {lap_cpu(federated):.1f} s, {compare(variant).cpu:.2f}× a round of the floor"
    yield _manager(federated)
    yield build_verdict(checks(variant, pods))


def _laps(variant: Variant) -> Table:
    baseline, ratios = variant.baseline, compare(variant)
    title = "The burst; × floor: midway between floor before and floor after"
    table = Table("seconds", "create → all Running", "ratio", "delete → all gone", "ratio", title=title)
    direct, floor, after, lap = baseline.direct, baseline.floor, variant.floor_after, variant.federated.lap
    table.add_row("direct", f"{direct.create:.2f}", "", f"{direct.delete:.2f}", "")
    ceiling = baseline.ceiling
    table.add_row(
        f"floor before {_rounds(floor.rounds)}", f"{floor.best.create:.2f}", f"{ratios.floor_create:.2f}× direct",
        f"{floor.best.delete:.2f}", f"{ratios.floor_delete:.2f}× direct",
    )
    table.add_row(
        f"floor after {_rounds(after.rounds)}",
        f"{after.best.create:.2f}", f"{after.best.create / floor.best.create:.2f}× before",
        f"{after.best.delete:.2f}", f"{after.best.delete / floor.best.delete:.2f}× before",
    )
    table.add_row(
        f"the rig's own ceiling {_rounds(ceiling.rounds)}", f"{ceiling.best.create:.2f}", f"{ratios.ceiling_create:.2f}× floor",
        f"{ceiling.best.delete:.2f}", f"{ratios.ceiling_delete:.2f}× floor",
    )
    table.add_row(
        f"federated {_rounds(variant.federated.rounds)}", f"{lap.create:.2f}", f"[bold]{ratios.create:.2f}× floor[/]",
        f"{lap.delete:.2f}", f"[bold]{ratios.delete:.2f}× floor[/]",
    )
    table.add_row(
        "", "", f"{ratios.create_beside_ceiling:.2f}× ceiling", "", f"{ratios.delete_beside_ceiling:.2f}× ceiling",
    )
    return table


def _rounds(rounds: Iterable[Lap]) -> str:
    return f"(best of {', '.join(f'{each.create:.2f}' for each in rounds)})"


def _pipelines(federated: Federated) -> Table:
    table = Table("from → to", "burst p50", "burst p99", "quiet p50", "quiet p99", title="A Pod's way, ms (audit logs)")
    burst, quiet = federated.pipeline, federated.quiet.pipeline if federated.quiet else None
    for title, name in (
        ("created → bound", "created_to_bound"), ("bound → twin created", "bound_to_twin"),
        ("twin created → Running", "twin_to_running"), ("twin Running → mirrored", "running_to_mirrored"),
    ):
        table.add_row(title, *_spread(getattr(burst, name)), *_spread(getattr(quiet, name) if quiet else None))
    if federated.quiet:
        observed = federated.quiet.observed
        table.add_row("bound → twin, as a watch sees it", "", "", *_spread(observed.bound_to_twin))
        table.add_row("Running → mirrored, as a watch sees it", "", "", *_spread(observed.running_to_mirrored))
    return table


def _spread(latency: Spread | None) -> tuple[str, str]:
    return (f"{latency.p50:.1f}", f"{latency.p99:.1f}") if latency else ("–", "–")


def _writes(federated: Federated, pods: int) -> Table:
    table = Table("cluster", "program", "verb and resource", "create", "delete", "mean ms", title="API writes per Pod")
    rows: dict[tuple[str, str, str], dict[str, float]] = {}
    for name, phase in (("create", federated.create_phase), ("delete", federated.delete_phase)):
        for each in phase.writes:
            row = rows.setdefault((each.side, each.program, f"{each.verb} {each.resource}"), {"ms": each.mean_ms})
            row[name] = each.count / pods
    for key, row in sorted(rows.items(), key=lambda item: (item[0][0] != "virtual", item[0])):
        create, delete = row.get("create", 0.0), row.get("delete", 0.0)
        if create + delete >= _SMALL_SHARE:
            table.add_row(*key, f"{create:.2f}", f"{delete:.2f}", f"{row['ms']:.1f}")
    return table


def _cpu(variant: Variant, pods: int) -> Table:
    federated, baseline = variant.federated, variant.baseline
    columns: list[tuple[str, Phase | None]] = [
        ("direct", baseline.direct_phase), ("floor, 3 rounds", baseline.floor_phase),
        ("ceiling, 3 rounds", baseline.ceiling_phase),
        ("create", federated.create_phase), ("delete", federated.delete_phase),
        ("quiet", federated.quiet.phase if federated.quiet else None),
    ]
    table = Table("program", *(name for name, _ in columns), title="CPU seconds")
    programs = {program for _, phase in columns if phase for program in phase.cpu}
    for program in sorted(programs, key=lambda name: -federated.create_phase.cpu.get(name, 0.0)):
        used = [phase.cpu.get(program, 0.0) if phase else 0.0 for _, phase in columns]
        if max(used) >= _SMALL_CPU:
            table.add_row(program, *(f"{seconds:.2f}" for seconds in used))
    table.add_row("sum", *(f"{sum(phase.cpu.values()):.2f}" if phase else "–" for _, phase in columns))
    return table


def _manager(federated: Federated) -> str:
    parts = []
    if memory := federated.memory:
        parts.append("memory {:.0f} MiB before, {:.0f} at its peak, {:.0f} after".format(
            *(each / 2**20 for each in (memory.before, memory.peak, memory.after))
        ))
    if federated.manager_cpu_per_pod is not None:
        parts.append(f"{1000 * federated.manager_cpu_per_pod:.2f} ms of CPU per Pod's life")
    return "Manager: " + (", ".join(parts) or "memory and CPU are unknown on this system")


def build_verdict(found: Iterable[Check]) -> Table:
    """Return how figures stand against their budgets."""
    table = Table("budget", "measured", "limit now", "final limit", "", title="Verdict")
    for check in found:
        state = "[green]good[/]" if check.keeps_final else "[yellow]on its way[/]" if check.keeps_now else "[red]over[/]"
        table.add_row(check.what, _amount(check.value, check), _amount(check.now, check), _amount(check.final, check), state)
    return table


def _amount(value: float, check: Check) -> str:
    return f"{value:.2f}×" if check.unit == "×" else f"{value:.2f} {check.unit}"


def _hotspots(report: Report) -> Table:
    table = Table("function", "calls", "own s", "total s", title="Manager, CPU time of all bursts by function (profiled)")
    for each in report.hotspots:
        table.add_row(each.function, str(each.calls), f"{each.own:.3f}", f"{each.total:.3f}")
    return table
