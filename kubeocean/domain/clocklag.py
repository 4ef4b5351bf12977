"""How far the clocks of the two clusters contradict each other, as the times on one Pod show.

Some things cannot have happened before others: no twin is made before its Pod was scheduled, and no status is mirrored before
it was. Where the times say otherwise one of the clocks is wrong, by at least as much. Nothing finer follows from whole
seconds, and clocks that differ by less than a Pod took on its way contradict nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from kubeocean.api import names
from kubeocean.domain.podstory import became_true, begun_at, container_statuses, created_at
from kubeocean.kube.meta import Json, annotations_of, parse_time, uid_of

TOLD_FROM: Final = timedelta(seconds=2)  # one second may be the fraction that times in the API have lost
_NONE: Final = timedelta(0)


def clock_lag(vpod: Json, ppod: Json | None, copies: Iterable[Json] = ()) -> timedelta:
    """Return how far the physical cluster's clock is ahead of the virtual one's at least, negative when behind; 0 = unknown."""
    if ppod is None:
        return _NONE
    needed = became_true(vpod, "PodScheduled") or created_at(vpod)
    behind = min(created_at(each) - needed for each in _made_for(vpod, ppod, copies))
    if behind < _NONE:
        return behind
    written = _last_status_write(vpod)
    said = max(_mirrored(vpod, ppod), default=None)
    return max(_NONE, said - written) if written and said else _NONE


def tell_lag(lag: timedelta) -> str:
    """Return in a line what the times contradict, "" when it is nothing worth telling."""
    if abs(lag) < TOLD_FROM:
        return ""
    seconds, where = int(abs(lag).total_seconds()) - 1, "ahead of" if lag > _NONE else "behind"
    return (
        f"the clocks of both clusters differ by at least {seconds} s: the physical one's is {where} the virtual one's. TIME is "
        "what each cluster wrote, TOOK allows for the difference; have the nodes of both clusters synchronise their clocks"
    )


def _made_for(vpod: Json, ppod: Json, copies: Iterable[Json]) -> Iterator[Json]:
    """Yield what was created in the physical cluster for this Pod alone, and so after it was scheduled."""
    yield ppod
    for copy in copies:
        if annotations_of(copy).get(names.VIRTUAL_POD_UID_ANNOTATION) == uid_of(vpod):
            yield copy


def _mirrored(vpod: Json, ppod: Json) -> Iterator[datetime]:
    """Yield the times of the physical cluster that have come up: the status of the virtual Pod was written later."""
    mine, theirs = vpod.get("status") or {}, ppod.get("status") or {}
    if (started := theirs.get("startTime")) and started == mine.get("startTime"):
        yield parse_time(started)
    known = {begun_at(status) for status in container_statuses(vpod)}
    yield from (begun for status in container_statuses(ppod) if (begun := begun_at(status)) and begun in known)
    if (ready := became_true(ppod, "Ready")) and ready == became_true(vpod, "Ready"):
        yield ready


def _last_status_write(pod: Json) -> datetime | None:
    entries = pod["metadata"].get("managedFields") or ()
    times = [entry["time"] for entry in entries if entry.get("subresource") == "status" and entry.get("time")]
    return max(map(parse_time, times), default=None)
