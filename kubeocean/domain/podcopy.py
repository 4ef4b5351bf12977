"""Executes the field tables: copies what they keep, at every depth, and names what they refuse.

The copy shares plain values with the original, so neither may be changed afterwards. Rows that say REWRITE are left out:
the module that builds such a field adds it. Only a `fieldRef` is rewritten here, because it occurs at many depths.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from kubeocean.domain.naming import physical_name
from kubeocean.domain.poddownward import Downward
from kubeocean.domain.podfields import CLOSED, TABLES, Treatment
from kubeocean.domain.refusal import Refusal
from kubeocean.kube.meta import Json

# Per table what survives of it: for a field "" (as it is), _NAME, or the table that says more.
_NAME: Final = " name"
_KEPT: Final[dict[str, dict[str, str]]] = {
    title: {
        field: _NAME if rule.treatment is Treatment.RENAME else rule.of
        for field, rule in table.items() if rule.treatment in (Treatment.KEEP, Treatment.RENAME)
    }
    for title, table in TABLES.items()
}


class Copier:
    """Copies parts of one virtual Pod for its twin."""

    __slots__ = ("_downward", "_namespace")

    def __init__(self, namespace: str, downward: Downward) -> None:
        self._namespace = namespace
        self._downward = downward

    def copy(self, value: Json, table: str) -> Json:
        """Return what `table` keeps of an object, and the tables below it of what is in it."""
        if table == "ObjectFieldSelector":
            return self._downward.rewrite(value)
        kept = _KEPT[table]
        copied: Json = {}
        for field, item in value.items():
            below = kept.get(field)
            if below is not None:
                copied[field] = self._below(item, below) if below else item
        return copied

    def copy_all(self, values: list[Json] | None, table: str) -> list[Json]:
        """Return `copy` of each element."""
        return [self.copy(value, table) for value in values or ()]

    def rename(self, name: str) -> str:
        """Return what the copy of an object of the Pod's namespace is called; "" refers to nothing and stays."""
        return physical_name(name, self._namespace) if name else name

    def _below(self, item: Any, below: str) -> Any:
        if below == _NAME:
            return self.rename(item)
        if isinstance(item, list):
            return self.copy_all(item, below)
        return item if item is None else self.copy(item, below)


def check_fields(vpod: Json) -> Refusal | None:
    """Return a refusal that names every field of a virtual Pod that no twin can have; None without one."""
    return _refusal(_problems(vpod["spec"], "PodSpec", "spec"))


def check_ephemeral_fields(container: Json, where: str) -> Refusal | None:
    """Return the same of one ephemeral container."""
    return _refusal(_problems(container, "EphemeralContainer", where))


def _refusal(found: Iterator[str]) -> Refusal | None:
    problems = list(found)
    if not problems:
        return None
    message = f"cannot be carried to a physical cluster: {'; '.join(problems)}. Remove it from the Pod"
    return Refusal("FieldNotSupported", message)


def _problems(value: Json, table: str, where: str) -> Iterator[str]:
    rules, closed = TABLES[table], table in CLOSED
    for field, item in value.items():
        rule = rules.get(field)
        if rule is None:
            if closed:
                yield f"{where}.{field} (unknown to this version of Kubeocean)"
        elif rule.treatment is Treatment.REFUSE:
            if item or closed:
                yield f"{where}.{field} ({rule.why})"
        elif rule.of and rule.treatment is not Treatment.DROP:
            yield from _below(item, rule.of, f"{where}.{field}")


def _below(item: Any, table: str, where: str) -> Iterator[str]:
    if isinstance(item, list):
        for index, element in enumerate(item):
            yield from _problems(element, table, f"{where}[{index}]")
    elif item is not None:
        yield from _problems(item, table, where)
