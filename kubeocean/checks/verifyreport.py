"""What `kubeocean verify` says: a table for people, JSON for programs. Both hold the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kubeocean.checks.verifying import Told, Verdict, exit_code


def as_json(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return everything as what `--output json` prints."""
    return {
        "clean": exit_code(list(verdicts)) == 0,
        "bindings": [
            {
                "name": verdict.binding, "looked": not verdict.error, "error": verdict.error, "notes": list(verdict.notes),
                "virtualNodes": verdict.nodes, "virtualPods": verdict.pods,
                "findings": [_finding(each) for each in verdict.told],
            }
            for verdict in verdicts if verdict.binding
        ],
        "goneBindings": [
            {"looked": not verdict.error, "error": verdict.error, "notes": list(verdict.notes)}
            for verdict in verdicts if not verdict.binding
        ],
        "leftByGoneBindings": [_finding(each) for verdict in verdicts if not verdict.binding for each in verdict.told],
    }


def _finding(told: Told) -> dict[str, Any]:
    finding = told.finding
    about = finding.about
    return {
        "kind": finding.kind.value, "reason": finding.reason, "side": about.side.value, "cause": finding.cause,
        "object": {
            "kind": about.resource.kind, "namespace": about.key.namespace, "name": about.key.name, "uid": about.uid,
        },
        "remedy": finding.remedy, "repairable": finding.repairable, "mend": finding.mend.value,
        **({"repaired": told.mended, "done": told.done} if told.done else {}),
    }


def print_verdicts(console: Console, verdicts: Sequence[Verdict]) -> None:
    """Print what was found, binding by binding."""
    if not any(verdict.binding for verdict in verdicts):
        console.print("There is no ClusterBinding: nothing to compare.")
    for verdict in verdicts:
        _print_verdict(console, verdict)


def _print_verdict(console: Console, verdict: Verdict) -> None:
    title = Text(f"ClusterBinding {verdict.binding}" if verdict.binding else "ClusterBindings that are gone", style="bold")
    if verdict.error:
        console.print(title.append(Text(f": could not look: {verdict.error}", style="red")), soft_wrap=True)
        return
    seen = f" ({_counted(verdict.nodes, 'virtual node')}, {_counted(verdict.pods, 'virtual Pod')})" if verdict.binding else ""
    if not verdict.told:
        agree = "both sides agree" if verdict.binding else "nothing was found of theirs"
        console.print(title.append(Text(f": {agree}{seen}", style="green")), soft_wrap=True)
    else:
        found = _counted(len(verdict.told), "finding")
        console.print(title.append(Text(f": {found}{seen}", style="yellow")), soft_wrap=True)
        console.print(_table(verdict.told))
        console.print(Text(_summary(verdict), style="dim"), soft_wrap=True)
    for note in verdict.notes:
        console.print(Text(f"note: {note}", style="dim"), soft_wrap=True)


def _table(told: Sequence[Told]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    repaired = any(each.done for each in told)
    for column in ("FINDING", "OBJECT", "CAUSE", "DONE" if repaired else "REMEDY"):
        table.add_column(column, overflow="fold", ratio=None if column == "FINDING" else 1)
    for each in told:
        finding = each.finding
        about = finding.about
        remedy = f"--repair: {finding.mend}; else {finding.remedy}" if finding.repairable else finding.remedy
        cells = (f"{finding.kind}\n({finding.reason})", f"{about.side} {about}", finding.cause, each.done or remedy)
        table.add_row(*map(Text, cells))  # as they are: what stands in brackets is no markup
    return table


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _summary(verdict: Verdict) -> str:
    kinds = Counter(each.finding.kind.value for each in verdict.told)
    text = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    repairable = sum(each.finding.repairable for each in verdict.told)
    if any(each.done for each in verdict.told):
        return f"{text}; {len(verdict.told) - verdict.left} mended, {verdict.left} left"
    return f"{text}; --repair would mend {repairable} of {len(verdict.told)}"
