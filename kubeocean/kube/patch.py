"""What must be written so that an object becomes what we want, and nothing more.

Two kinds of patch, both computed as a difference, so that "nothing differs" is None and costs no call:

- a *merge patch* (RFC 7386): maps are merged, lists replaced, and a key goes away only by null;
- a *strategic merge patch* for status: the server also merges some lists by a key. Such a list is either one we share
  with others (conditions, by type: only the elements that differ are sent, nobody else's is lost) or one we own whole
  (podIPs: it must be led by `{"$patch": "replace"}`, or a changed podIP becomes two).

And the three-way merges that let users and us write to the same map or taint list: what we wanted *last* time tells our
entries from theirs. Everywhere null means absent; inputs are never changed, and results may share parts with them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

from kubeocean.kube.meta import Json

_V = TypeVar("_V")
_NO_LISTS: Final[Mapping[str, str]] = MappingProxyType({})


def diff_merge(old: Json, new: Json) -> Json | None:
    """Return the merge patch that turns `old` into `new`; None when they say the same.

    >>> diff_merge({"a": 1, "b": 2}, {"a": 1, "c": {"d": 3}})
    {'c': {'d': 3}, 'b': None}
    """
    return diff_strategic(old, new)


def apply_merge(target: Json, patch: Json) -> Json:
    """Return `target` with a merge patch applied, as the API server would (RFC 7386)."""
    merged = dict(target)
    for key, change in patch.items():
        if change is None:
            merged.pop(key, None)
        elif isinstance(change, dict):
            current = merged.get(key)
            merged[key] = apply_merge(current if isinstance(current, dict) else {}, change)
        else:
            merged[key] = change
    return merged


def diff_strategic(
    old: Json, new: Json, *, shared: Mapping[str, str] = _NO_LISTS, owned: Collection[str] = (), path: str = ""
) -> Json | None:
    """Return the strategic merge patch that turns `old` into `new`; None when they say the same.

    Lists are named by dotted path ("status.conditions"). `shared` gives those that the server merges, with their merge
    key: only elements of `new` that differ are sent, and what only `old` has is left alone. `owned` are lists that the
    server would merge but that we replace whole. Any other list is atomic: sent whole when it differs.
    """
    patch: Json = {}
    for key in {**new, **old}:  # no set: a patch is the same text in every process
        before, value = old.get(key), new.get(key)
        here = f"{path}.{key}" if path else key
        if before == value or (value is None and here in shared):
            continue
        if isinstance(value, dict):
            change = diff_strategic(_as_map(before), value, shared=shared, owned=owned, path=here)
            if change is not None or not isinstance(before, dict):
                patch[key] = change or {}
        elif value is not None and here in shared:
            if changes := _diff_shared(before or [], value, shared[here]):
                patch[key] = changes
        else:
            patch[key] = [{"$patch": "replace"}, *value] if value is not None and here in owned else value
    return patch or None


def three_way_map(last: Mapping[str, _V] | None, desired: Mapping[str, _V], live: Mapping[str, _V]) -> dict[str, _V]:
    """Return the labels or annotations an object should have: ours as desired, everybody else's as they are.

    `last` is what we desired the last time; a key of it that we no longer desire is removed. None (nothing recorded, or
    the record is corrupt) removes nothing: doubt keeps.
    """
    dropped = (last or {}).keys() - desired.keys()
    return {key: value for key, value in live.items() if key not in dropped} | dict(desired)


def three_way_taints(last: Iterable[Json] | None, desired: Iterable[Json], live: Iterable[Json]) -> list[Json]:
    """Return the taints a Node should have, by the rules of `three_way_map`; a taint is known by key and effect.

    Keeps the order of `live`, so that nothing is written for order's sake, and a live taint whose value is right stays
    as it is: the server's `timeAdded` on it is not ours to reset.
    """
    wanted = {_taint_key(taint): taint for taint in desired}
    dropped = {_taint_key(taint) for taint in last or ()} - wanted.keys()
    taints = []
    for taint in live:
        key = _taint_key(taint)
        if key in dropped:
            continue
        ours = wanted.pop(key, taint)
        taints.append(taint if (ours.get("value") or "") == (taint.get("value") or "") else ours)
    return taints + list(wanted.values())


def _diff_shared(old: list[Json], new: list[Json], merge_key: str) -> list[Json]:
    before = {element[merge_key]: element for element in old}
    changes = []
    for element in new:
        change = diff_merge(before.get(element[merge_key], {}), element)
        if change is not None:
            changes.append({merge_key: element[merge_key], **change})
    return changes


def _as_map(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _taint_key(taint: Json) -> tuple[str, str]:
    return taint["key"], taint.get("effect") or ""
