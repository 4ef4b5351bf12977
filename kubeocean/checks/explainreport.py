"""What `kubeocean explain` says: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kubeocean.checks.explaining import Explanation
from kubeocean.domain.explanation import Step
from kubeocean.domain.forgediff import Fate, FieldChange
from kubeocean.domain.podstory import phase_of, reason_and_message
from kubeocean.kube.meta import Json, format_time, is_deleting, key_of

_LONGEST = 240  # characters of a value in the table


def as_json(explanation: Explanation) -> dict[str, Any]:
    """Return everything as what `--output json` prints."""
    vpod = explanation.story.vpod
    status = vpod.get("status") or {}
    return {
        "pod": str(key_of(vpod)), "phase": phase_of(vpod),
        "node": vpod["spec"].get("nodeName") or "", "binding": explanation.binding,
        "reason": status.get("reason") or "", "message": status.get("message") or "",
        "twin": str(explanation.twin) if explanation.twin else "", "trouble": explanation.trouble,
        "notReadable": list(explanation.unread), "clocks": explanation.clocks,
        "timeline": [
            {
                "what": step.what, "side": step.side.value, "at": format_time(step.at) if step.at else None,
                "secondsAfterTheLast": step.after, "detail": step.detail,
            }
            for step in explanation.timeline
        ],
        "waitsFor": explanation.waits, "fieldsAreForecast": explanation.forged,
        "fields": [
            {"path": each.path, "fate": each.fate.value, "why": each.why, "before": each.before, "after": each.after}
            for each in explanation.fields
        ],
    }


def print_explanation(console: Console, explanation: Explanation) -> None:
    """Print the story of a Pod."""
    vpod = explanation.story.vpod
    console.print(Text(f"Pod {key_of(vpod)}: {_state(vpod)}", style="bold"), soft_wrap=True)
    if explanation.story.node:
        console.print(Text(f"  on {_place(explanation)}"), soft_wrap=True)
    if explanation.trouble:
        console.print(Text(f"  the physical side cannot be looked at: {explanation.trouble}", style="red"), soft_wrap=True)
    console.print()
    console.print(_timeline(explanation.timeline))
    if explanation.clocks:
        console.print(Text(explanation.clocks, style="yellow"), soft_wrap=True)
    for number, wait in enumerate(explanation.waits):
        console.print(Text(f"{'waits for' if number == 0 else '      and'} {wait}", style="yellow"), soft_wrap=True)
    for note in explanation.unread:
        console.print(Text(f"not looked at: {note}", style="red"), soft_wrap=True)
    if explanation.fields:
        console.print()
        _print_fields(console, explanation)


def _state(vpod: Json) -> str:
    """Return phase and, of one that failed, why."""
    why = reason_and_message(vpod.get("status") or {})
    deleting = ", being deleted" if is_deleting(vpod) else ""
    return f"{phase_of(vpod)}{deleting}{f' ({why})' if why else ''}"


def _place(explanation: Explanation) -> str:
    story = explanation.story
    if not explanation.binding:
        whose = f"of clusterID {story.unbound_cluster}" if story.unbound_cluster else "no virtual node"
        return f"{story.node}, {'which is gone' if story.node_gone else whose}"
    twin = f"twin {explanation.twin}" if explanation.twin else "no twin"
    if explanation.trouble:
        twin = "its twin was not seen"
    return f"{story.node}{', which is gone,' if story.node_gone else ''} of ClusterBinding {explanation.binding}, {twin}"


def _timeline(steps: list[Step]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("TIME", "TOOK", "SIDE", "WHAT", "DETAIL"):
        table.add_column(column, overflow="fold", justify="right" if column == "TOOK" else "left")
    for step in steps:
        took = "" if step.after is None else f"{step.after:+g} s"
        _add_row(table, format_time(step.at) if step.at else "-", took, step.side.value, step.what, step.detail)
    return table


def _print_fields(console: Console, explanation: Explanation) -> None:
    verb = "would become" if explanation.forged else "became"
    console.print(Text(f"What {verb} of its fields on the way to the twin:", style="bold"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("FIELD", "FATE", "FROM", "TO", "WHY"):
        table.add_column(column, overflow="fold", ratio=1 if column in ("FIELD", "WHY") else None)
    kept = [each.path.removeprefix("spec.") for each in explanation.fields if each.fate is Fate.KEPT]
    for each in _gathered(explanation.fields):
        _add_row(table, each.path, each.fate.value, _short(each.before), _short(each.after), each.why)
    console.print(table)
    if kept:
        console.print(Text(f"kept as they are: {', '.join(kept)}", style="dim"), soft_wrap=True)


def _gathered(fields: Iterable[FieldChange]) -> Iterator[FieldChange]:
    """Yield what was not kept; elements that were added beside each other for one reason are told together, by their keys."""
    added: dict[tuple[str, str], list[str]] = {}
    rest = []
    for each in fields:
        parent, bracket, key = each.path.removesuffix("]").rpartition("[")
        if each.fate is Fate.ADDED and bracket and each.path.endswith("]"):
            added.setdefault((parent, each.why), []).append(key)
        elif each.fate is not Fate.KEPT:
            rest.append(each)
    yield from rest
    for (parent, why), keys in added.items():
        yield FieldChange(parent, Fate.ADDED, why, None, ", ".join(keys))


def _add_row(table: Table, *cells: str) -> None:
    table.add_row(*map(Text, cells))  # as they are: what stands in brackets is no markup


def _short(value: object) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST - 1]}…"


