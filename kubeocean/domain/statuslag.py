"""What of a twin's status has really not come up, and when the twin last changed.

`diff_pod_status` tells what a syncer would write, and more often than not something is in flight. Besides, an older virtual API
server drops fields that it does not know: these are written in vain, and nobody can mend that (`syncer.unsaid`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from kubeocean.domain.podstory import asked_to_go_at, conditions_of
from kubeocean.kube.meta import Json, parse_time

# Came to Kubernetes late, or are kept only while a feature is on: where the virtual Pod has none at all they were dropped.
_NEWER: Final = frozenset({
    "hostIPs", "observedGeneration", "resources", "allocatedResources", "allocatedResourcesStatus", "volumeMounts", "user",
    "stopSignal", "recursiveReadOnly",
})
_NO_NEWS: Final = frozenset({"uid", "resourceVersion"})  # of a patch's metadata: what it is for, not what it writes


def lagging_fields(vpod: Json, ppod: Json, patch: Json) -> list[str]:
    """Return which fields of a virtual Pod say less than its twin; `patch` is what `diff_pod_status` gave for the two."""
    status = {field for field, value in (patch.get("status") or {}).items() if _lags(field, value, vpod, ppod)}
    return sorted(status | patch["metadata"].keys() - _NO_NEWS)


def last_change(ppod: Json, *, of_status: bool) -> datetime | None:
    """Return when a twin last changed, None when it does not tell. `of_status`: writes of anything else do not count."""
    return max(_times(ppod, of_status=of_status), default=None)


def _lags(field: str, value: object, vpod: Json, ppod: Json) -> bool:
    mine, theirs = vpod.get("status") or {}, ppod.get("status") or {}
    if field == "conditions":
        assert isinstance(value, list)
        return any(_condition_lags(element, conditions_of(vpod)) for element in value)
    if field == "observedGeneration":
        return mine.get(field) is not None
    return not (field in _NEWER and not mine.get(field)) and not _says_as_much(mine.get(field), theirs.get(field))


def _condition_lags(element: Json, live: dict[str, Json]) -> bool:
    if "$patch" in element or element["type"] not in live:
        return True
    wanted = {key: value for key, value in element.items() if value is not None}
    return not _says_as_much({key: value for key, value in live[element["type"]].items() if value is not None}, wanted)


def _says_as_much(mine: object, theirs: object) -> bool:
    """Tell whether a value is what the other one is, but for what a server of another version may have dropped."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        known = theirs.keys() - (_NEWER - mine.keys())
        return mine.keys() == known and all(_says_as_much(mine[key], theirs[key]) for key in known)
    if isinstance(mine, list) and isinstance(theirs, list):
        return len(mine) == len(theirs) and all(map(_says_as_much, mine, theirs))
    return mine == theirs


def _times(ppod: Json, *, of_status: bool) -> Iterator[datetime]:
    metadata, status = ppod["metadata"], ppod.get("status") or {}
    for entry in metadata.get("managedFields") or ():
        if entry.get("time") and (not of_status or entry.get("subresource") == "status"):
            yield parse_time(entry["time"])
    if asked := asked_to_go_at(ppod):
        yield asked
    states: list[Json] = [
        state for field in ("initContainerStatuses", "containerStatuses") for each in status.get(field) or ()
        for state in (each.get("state") or {}).values()
    ]
    texts = [metadata.get("creationTimestamp"), status.get("startTime")]
    texts += [each.get("lastTransitionTime") for each in status.get("conditions") or ()]
    texts += [state.get(field) for state in states for field in ("startedAt", "finishedAt")]
    yield from (parse_time(text) for text in texts if text)
