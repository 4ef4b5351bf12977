"""What the forge made of a virtual Pod, field by field, and why: the field tables, read against a Pod and its twin.

`podcopy` executes the tables; here they explain. Every field of the virtual Pod is met with its row, at every depth, and every
field of the twin that its virtual Pod does not have as well. A twin that lives shows what is true; before there is one, what
would be forged shows what is to come. What its own cluster filled in (defaults, admission, its scheduler) is told as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from kubeocean.api import names
from kubeocean.domain.podchange import copied_annotations
from kubeocean.domain.podfields import TABLES, Rule, Treatment
from kubeocean.kube.meta import Json, annotations_of, labels_of, name_of, namespace_of

_BY_THE_CLUSTER: Final = "filled in by the physical cluster: a default, or its admission"
_UNKNOWN: Final = "unknown to this version of Kubeocean, so it stays behind"
_OURS: Final = "says whose it is, and of what it is the twin"


class Fate(StrEnum):
    """What became of a field."""

    KEPT = "kept"
    RENAMED = "renamed"
    REWRITTEN = "rewritten"
    DROPPED = "dropped"
    REFUSED = "refused"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field: where, what became of it, why ("" for one that is simply kept), and its values; None = not there."""

    path: str
    fate: Fate
    why: str
    before: Any = None
    after: Any = None


def diff_forged(vpod: Json, ppod: Json) -> list[FieldChange]:
    """Return what became of every field on the way from a virtual Pod to `ppod`, its twin or what is forged for one."""
    return [*_metadata(vpod, ppod), *_compare(vpod["spec"], ppod["spec"], "PodSpec", "spec")]


# --- metadata --------------------------------------------------------------------------------------------------------
def _metadata(vpod: Json, ppod: Json) -> Iterator[FieldChange]:
    yield FieldChange("metadata.name", Fate.REWRITTEN, "a function of namespace and name", name_of(vpod), name_of(ppod))
    yield FieldChange(
        "metadata.namespace", Fate.REWRITTEN, "the mountNamespace of the binding", namespace_of(vpod), namespace_of(ppod)
    )
    for field, why in (
        ("ownerReferences", "its owners live in the virtual cluster"), ("finalizers", "they hold up the virtual Pod only"),
        ("generateName", "its name is a function of the virtual Pod's"),
    ):
        if before := vpod["metadata"].get(field):
            yield FieldChange(f"metadata.{field}", Fate.DROPPED, why, before)
    yield from _map("metadata.labels", labels_of(vpod), labels_of(vpod), labels_of(ppod))
    yield from _map("metadata.annotations", annotations_of(vpod), copied_annotations(vpod), annotations_of(ppod))


def _map(path: str, mine: Mapping[str, str], carried: Mapping[str, str], theirs: Mapping[str, str]) -> Iterator[FieldChange]:
    for key, before in mine.items():
        where = f"{path}[{key}]"
        if key not in carried:
            yield FieldChange(where, Fate.DROPPED, "a note on the virtual Pod only", before)
        elif theirs.get(key) == before:
            yield FieldChange(where, Fate.KEPT, "", before, before)
        else:
            ours = key.startswith(names.PREFIX)
            why = "a name of ours: on the twin it says what is true there" if ours else "changed on one side since"
            yield FieldChange(where, Fate.REWRITTEN, why, before, theirs.get(key))
    for key, after in theirs.items():
        if key not in mine:
            why = _OURS if key.startswith(names.PREFIX) else "put there by the physical cluster, or taken off the virtual Pod"
            yield FieldChange(f"{path}[{key}]", Fate.ADDED, why, None, after)


# --- spec ------------------------------------------------------------------------------------------------------------
def _compare(mine: Json, theirs: Json, table: str, where: str) -> Iterator[FieldChange]:
    rules = TABLES.get(table, {})
    for field in {**mine, **theirs}:
        path = f"{where}.{field}"
        rule, before, after = rules.get(field), mine.get(field), theirs.get(field)
        if rule is None:
            yield FieldChange(path, Fate.DROPPED if after is None else Fate.ADDED, _UNKNOWN, before, after)
        else:
            yield from _field(path, rule, before, after)


def _field(path: str, rule: Rule, before: Any, after: Any) -> Iterator[FieldChange]:
    match rule.treatment:
        case Treatment.REFUSE:
            yield FieldChange(path, Fate.REFUSED, rule.why, before, after)
        case Treatment.DROP:
            if before is not None or after is not None:
                yield FieldChange(path, Fate.DROPPED if before is not None else Fate.ADDED, rule.why, before, after)
        case Treatment.RENAME if before != after:
            yield FieldChange(path, Fate.RENAMED, rule.why, before, after)
        case _ if rule.of and (isinstance(before, list) or isinstance(after, list)):
            yield from _elements(path, rule, before or [], after or [])
        case _ if rule.of and before is not None and after is not None and (before or after):
            yield from _compare(before, after, rule.of, path)
        case _:
            yield from _plain(path, rule, before, after)


def _plain(path: str, rule: Rule, before: Any, after: Any) -> Iterator[FieldChange]:
    if before == after:
        # A condition of keeping is no news where it was met.
        yield FieldChange(path, Fate.KEPT, rule.why if rule.treatment is Treatment.REWRITE else "", before, after)
    elif rule.treatment is Treatment.REWRITE:
        yield FieldChange(path, Fate.ADDED if before is None else Fate.REWRITTEN, rule.why, before, after)
    elif before is None:
        yield FieldChange(path, Fate.ADDED, _BY_THE_CLUSTER, before, after)
    else:
        why = "taken off or changed by the physical cluster, or changed since"
        yield FieldChange(path, Fate.REWRITTEN, why, before, after)


def _elements(path: str, rule: Rule, before: list[Any], after: list[Any]) -> Iterator[FieldChange]:
    named = TABLES[rule.of].get("name", rule).treatment is not Treatment.RENAME  # else the twin's is called otherwise
    left = dict(_keyed(after, named))
    for key, item in _keyed(before, named):
        twin = left.pop(key, None)
        if twin is None:
            yield FieldChange(f"{path}[{key}]", Fate.DROPPED, rule.why, item)
        elif item == twin:
            yield FieldChange(f"{path}[{key}]", Fate.KEPT, "", item, twin)
        elif rule.of == "Volume":
            yield FieldChange(f"{path}[{key}]", Fate.REWRITTEN, _why_volume(item, twin), item, twin)
        else:
            yield from _compare(item, twin, rule.of, f"{path}[{key}]")
    why = rule.why if rule.treatment is Treatment.REWRITE else _BY_THE_CLUSTER
    for key, item in left.items():
        yield FieldChange(f"{path}[{key}]", Fate.ADDED, why, None, item)


def _why_volume(before: Json, after: Json) -> str:
    source = next((field for field in before if field != "name"), "")
    rule = TABLES["Volume"].get(source)
    if source == "projected" and after != before:
        return "its tokens and root certificate are those of the virtual cluster: they come in a Secret of ours"
    return (rule.why if rule else "") or "the names in it are those of our copies"


def _keyed(items: list[Any], named: bool) -> Iterator[tuple[str, Any]]:
    """Yield elements with what tells them apart: their name if they are `named`, else their place."""
    seen: set[str] = set()
    for index, item in enumerate(items):
        key = str((item.get("name") if named and isinstance(item, dict) else None) or index)
        if key in seen:
            key = f"{key}#{index}"
        seen.add(key)
        yield key, item
