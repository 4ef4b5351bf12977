"""The life of one Pod across two clusters: when what happened, and how long each phase took.

Times are what the API servers and kubelets wrote, in whole seconds, by two clusters' clocks: a phase that crosses from one to
the other is only as exact as the two agree. Where they contradict each other (`clocklag`) the order of a Pod's life is kept,
and no phase takes less than nothing. When the mapping annotations were written is written nowhere; they come with the twin's
first status.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from kubeocean.domain.clocklag import clock_lag
from kubeocean.domain.findings import Side
from kubeocean.domain.podpair import recorded_twin
from kubeocean.domain.podstory import (
    PodStory,
    asked_to_go_at,
    became_true,
    begun_at,
    container_statuses,
    created_at,
    grace_of,
    restarts_of,
)
from kubeocean.kube.meta import Json, format_time, name_of, namespace_of, parse_time


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened; `at` None = it has, but nobody wrote when. `after` is how long the phase before it took.

    `at` is by the clock of the cluster that wrote it, `after` allows for what the clocks differ by.
    """

    what: str
    side: Side
    at: datetime | None
    detail: str = ""
    after: float | None = None


def build_timeline(story: PodStory) -> list[Step]:
    """Return what happened, in the order of time; what has no time stands behind what must have come before it."""
    lag = clock_lag(story.vpod, story.ppod, story.copies)
    placed = sorted(_placed(list(_steps(story, lag)), story, lag), key=lambda pair: (pair[0], _rank(pair[1])))
    timed: list[Step] = []
    last: datetime | None = None
    for moment, step in placed:
        timed.append(replace(step, after=(moment - last).total_seconds()) if last else step)
        last = moment
    return _with_mapping(timed, story)


_CREATED, _SCHEDULED, _DEPENDENCY, _TWIN, _MAPPED = "created", "scheduled", "dependency ready", "twin created", "mapped"
_TWIN_SCHEDULED, _ACCEPTED, _STARTED, _READY = "twin scheduled", "accepted by the kubelet", "started", "ready"
_READY_ABOVE, _FINISHED, _ENDING, _TWIN_ENDING = (
    "ready in the virtual cluster", "finished", "deletion requested", "deletion of the twin requested",
)
_ORDER = (
    _CREATED, _SCHEDULED, _DEPENDENCY, _TWIN, _TWIN_SCHEDULED, _ACCEPTED, _STARTED, _READY, _READY_ABOVE, _FINISHED, _ENDING,
    _TWIN_ENDING,
)


def _rank(step: Step) -> int:
    # Within one second the order of a Pod's life decides.
    return _ORDER.index(step.what)


def _placed(steps: list[Step], story: PodStory, lag: timedelta) -> Iterator[tuple[datetime, Step]]:
    """Yield each step with its moment by the virtual clock: nothing of the twin is before it, whatever nodes' clocks say."""
    twin = created_at(story.ppod) - lag if story.ppod else None
    ready = became_true(story.ppod, "Ready") if story.ppod else None
    for step in steps:
        assert step.at is not None
        moment = step.at - lag if step.side is Side.PHYSICAL or (step.what == _READY_ABOVE and step.at == ready) else step.at
        if twin and step.side is Side.PHYSICAL and step.what != _DEPENDENCY:
            moment = max(moment, twin)
        if twin and ready and step.what == _READY_ABOVE:
            moment = max(moment, ready - lag, twin)
        yield moment, step


def _steps(story: PodStory, lag: timedelta) -> Iterator[Step]:
    vpod, ppod = story.vpod, story.ppod
    yield Step(_CREATED, Side.VIRTUAL, created_at(vpod))
    if at := became_true(vpod, "PodScheduled"):
        yield Step(_SCHEDULED, Side.VIRTUAL, at, f"onto {story.node}")
    for copy in story.copies:
        yield _dependency(copy, vpod, lag)
    if at := became_true(vpod, "Ready"):
        yield Step(_READY_ABOVE, Side.VIRTUAL, at)
    if at := asked_to_go_at(vpod):
        yield Step(_ENDING, Side.VIRTUAL, at, f"with {grace_of(vpod)} s of grace")
    yield from _steps_below(ppod) if ppod else ()
    yield from _ends(ppod or vpod, Side.PHYSICAL if ppod else Side.VIRTUAL)


def _dependency(copy: Json, vpod: Json, lag: timedelta) -> Step:
    """Return when a copy was ready for the Pod: one that was there before it, for another Pod, as soon as it was needed."""
    made, what = created_at(copy), f"{copy.get('kind', 'object')} {name_of(copy)}"
    if made - lag < created_at(vpod):
        needed = became_true(vpod, "PodScheduled") or created_at(vpod)
        return Step(_DEPENDENCY, Side.PHYSICAL, needed + lag, f"{what}, there since {format_time(made)}")
    return Step(_DEPENDENCY, Side.PHYSICAL, made, what)


def _steps_below(ppod: Json) -> Iterator[Step]:
    yield Step(_TWIN, Side.PHYSICAL, created_at(ppod), f"{namespace_of(ppod)}/{name_of(ppod)}")
    if at := became_true(ppod, "PodScheduled"):
        yield Step(_TWIN_SCHEDULED, Side.PHYSICAL, at, f"onto {ppod['spec'].get('nodeName')}")
    if started := (ppod.get("status") or {}).get("startTime"):
        yield Step(_ACCEPTED, Side.PHYSICAL, parse_time(started))
    for status in container_statuses(ppod):
        if begun := begun_at(status):
            yield Step(_STARTED, Side.PHYSICAL, begun, f"container {status['name']}{restarts_of(status)}")
    if at := became_true(ppod, "Ready"):
        yield Step(_READY, Side.PHYSICAL, at)
    if at := asked_to_go_at(ppod):
        yield Step(_TWIN_ENDING, Side.PHYSICAL, at, f"with {grace_of(ppod)} s of grace")


def _ends(pod: Json, side: Side) -> Iterator[Step]:
    for status in container_statuses(pod):
        ended = (status.get("state") or {}).get("terminated") or {}
        if at := ended.get("finishedAt"):
            why = f"{ended.get('reason') or 'ended'}, exit code {ended.get('exitCode')}"
            yield Step(_FINISHED, side, parse_time(at), f"container {status['name']}: {why}")


def _with_mapping(steps: list[Step], story: PodStory) -> list[Step]:
    recorded = recorded_twin(story.vpod)
    if not recorded:
        return steps
    place = next((index + 1 for index, step in enumerate(steps) if step.what == _TWIN), len(steps))
    mapped = Step(_MAPPED, Side.VIRTUAL, None, f"uid {recorded} noted on the virtual Pod, with the twin's first status")
    return [*steps[:place], mapped, *steps[place:]]
