"""The life of one Pod across two clusters: when what happened, how long each phase took, and what it waits for.

Times are what the API servers and kubelets wrote, in whole seconds, by two clusters' clocks: a phase that crosses from one to
the other is only as exact as the two agree. When the mapping annotations were written is written nowhere; they come with the
twin's first status.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kubeocean.api import names
from kubeocean.domain.eligibility import check_eligible
from kubeocean.domain.findings import Side
from kubeocean.domain.podpair import recorded_twin
from kubeocean.domain.podrefs import references_of
from kubeocean.domain.podscheduling import given_up
from kubeocean.domain.podstatus import TERMINAL_PHASES
from kubeocean.kube.meta import Json, ObjectKey, finalizers_of, format_time, is_deleting, name_of, namespace_of, parse_time


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened; `at` None = it has, but nobody wrote when. `after` is how long the phase before it took."""

    what: str
    side: Side
    at: datetime | None
    detail: str = ""
    after: float | None = None


@dataclass(frozen=True, slots=True)
class PodStory:
    """What is known of a Pod. `ours`: it sits on a virtual node of the binding; `copies` are what it needs, beside the twin.

    `missing` are the mandatory references whose original does not exist. `refusal` is why it can have no twin, "" if it can.
    `node_gone`: the node it sits on does not exist.
    """

    vpod: Json
    ppod: Json | None = None
    ours: bool = False
    running_daemonsets: bool = False
    copies: tuple[Json, ...] = ()
    missing: tuple[str, ...] = ()
    refusal: str = ""
    node_gone: bool = False


# --- the timeline ----------------------------------------------------------------------------------------------------
def build_timeline(story: PodStory) -> list[Step]:
    """Return what happened, in the order of time; what has no time stands behind what must have come before it."""
    steps = sorted(_steps(story), key=_when)
    timed: list[Step] = []
    last: datetime | None = None
    for step in steps:
        if step.at and last:
            step = Step(step.what, step.side, step.at, step.detail, (step.at - last).total_seconds())
        last = step.at or last
        timed.append(step)
    return _with_mapping(timed, story)


def _when(step: Step) -> tuple[datetime, int]:
    # Within one second the order of a Pod's life decides.
    assert step.at is not None
    return step.at, _ORDER.index(step.what) if step.what in _ORDER else len(_ORDER)


_CREATED, _SCHEDULED, _DEPENDENCY, _TWIN, _MAPPED = "created", "scheduled", "dependency ready", "twin created", "mapped"
_TWIN_SCHEDULED, _ACCEPTED, _STARTED, _READY = "twin scheduled", "accepted by the kubelet", "started", "ready"
_READY_ABOVE, _FINISHED, _ENDING = "ready in the virtual cluster", "finished", "deletion requested"
_ORDER = (
    _CREATED, _SCHEDULED, _DEPENDENCY, _TWIN, _TWIN_SCHEDULED, _ACCEPTED, _STARTED, _READY, _READY_ABOVE, _FINISHED, _ENDING,
)


def _steps(story: PodStory) -> Iterator[Step]:
    vpod, ppod = story.vpod, story.ppod
    yield Step(_CREATED, Side.VIRTUAL, _created(vpod))
    if at := _became_true(vpod, "PodScheduled"):
        yield Step(_SCHEDULED, Side.VIRTUAL, at, f"onto {vpod['spec'].get('nodeName')}")
    for copy in story.copies:
        yield _dependency(copy, vpod)
    if at := _became_true(vpod, "Ready"):
        yield Step(_READY_ABOVE, Side.VIRTUAL, at)
    if at := _asked_to_go(vpod):
        yield Step(_ENDING, Side.VIRTUAL, at, f"with {vpod['metadata'].get('deletionGracePeriodSeconds') or 0} s of grace")
    yield from _steps_below(ppod) if ppod else ()
    yield from _ends(ppod or vpod, Side.PHYSICAL if ppod else Side.VIRTUAL)


def _dependency(copy: Json, vpod: Json) -> Step:
    """Return when a copy was ready for the Pod: one that was there before it, for another Pod, as soon as it was needed."""
    made, what = _created(copy), f"{copy.get('kind', 'object')} {name_of(copy)}"
    if made < _created(vpod):
        needed = _became_true(vpod, "PodScheduled") or _created(vpod)
        return Step(_DEPENDENCY, Side.PHYSICAL, needed, f"{what}, there since {format_time(made)}")
    return Step(_DEPENDENCY, Side.PHYSICAL, made, what)


def _steps_below(ppod: Json) -> Iterator[Step]:
    yield Step(_TWIN, Side.PHYSICAL, _created(ppod), f"{namespace_of(ppod)}/{name_of(ppod)}")
    if at := _became_true(ppod, "PodScheduled"):
        yield Step(_TWIN_SCHEDULED, Side.PHYSICAL, at, f"onto {ppod['spec'].get('nodeName')}")
    if started := (ppod.get("status") or {}).get("startTime"):
        yield Step(_ACCEPTED, Side.PHYSICAL, parse_time(started))
    for status in _container_statuses(ppod):
        state = status.get("state") or {}
        begun = (state.get("running") or {}).get("startedAt") or (state.get("terminated") or {}).get("startedAt")
        if begun:
            again = f", restarted {count} times" if (count := status.get("restartCount") or 0) else ""
            yield Step(_STARTED, Side.PHYSICAL, parse_time(begun), f"container {status['name']}{again}")
    if at := _became_true(ppod, "Ready"):
        yield Step(_READY, Side.PHYSICAL, at)


def _ends(pod: Json, side: Side) -> Iterator[Step]:
    for status in _container_statuses(pod):
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


def _created(obj: Json) -> datetime:
    return parse_time(obj["metadata"]["creationTimestamp"])


def _asked_to_go(pod: Json) -> datetime | None:
    # deletionTimestamp is the moment the grace ends.
    text, grace = pod["metadata"].get("deletionTimestamp"), pod["metadata"].get("deletionGracePeriodSeconds") or 0
    return parse_time(text) - timedelta(seconds=grace) if text else None


def _conditions(pod: Json) -> dict[str, Json]:
    return {item["type"]: item for item in (pod.get("status") or {}).get("conditions") or ()}


def _became_true(pod: Json, kind: str) -> datetime | None:
    condition = _conditions(pod).get(kind) or {}
    moment = condition.get("lastTransitionTime")
    return parse_time(moment) if moment and condition.get("status") == "True" else None


def _container_statuses(pod: Json) -> Iterable[Json]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


# --- what it waits for -----------------------------------------------------------------------------------------------
def explain_waiting(story: PodStory) -> list[str]:
    """Return what a Pod waits for, the nearest cause first; [] when it runs and is ready, or is over."""
    vpod = story.vpod
    node = vpod["spec"].get("nodeName")
    if is_deleting(vpod) and (story.ours or not node):
        return _leaving(story)
    if (vpod.get("status") or {}).get("phase") in TERMINAL_PHASES and not is_deleting(vpod):
        return []
    if not node:
        return [f"the virtual scheduler: {_say(_conditions(vpod).get('PodScheduled')) or 'it has not looked at it yet'}"]
    if story.node_gone:
        return [f"node {node}, which does not exist: nobody runs the Pod until it is there again"]
    if not story.ours:
        return [f"node {node}, which is no virtual node of any binding: its kubelet has the word"]
    if refusal := check_eligible(vpod, running_daemonsets=story.running_daemonsets):
        return [f"nothing: it gets no twin ({refusal.reason}): {refusal.message}"]
    return _before_twin(story) if story.ppod is None else _with_twin(vpod, story.ppod)


def _before_twin(story: PodStory) -> list[str]:
    if recorded := recorded_twin(story.vpod):
        return [f"the syncer, to hear that its twin (uid {recorded}) is gone: it will be Failed/{names.PHYSICAL_POD_LOST}"]
    waits = [story.refusal] if story.refusal else []
    waits += [f"{each}, which does not exist: create it" for each in story.missing]
    said = _say(_conditions(story.vpod).get(names.PHYSICAL_POD_CREATED))
    if said and not any(said.endswith(each) for each in waits):
        waits.insert(0, said)
    return waits or ["the syncer, to create its twin: see that one runs for this binding"]


def _with_twin(vpod: Json, ppod: Json) -> list[str]:
    conditions = _conditions(ppod)
    if given_up(vpod) or is_deleting(ppod):
        return ["its twin is on its way out"]
    if not ppod["spec"].get("nodeName"):
        return [f"the physical scheduler: {_say(conditions.get('PodScheduled')) or 'it has not looked at the twin yet'}"]
    waits = [
        f"container {status['name']}: {waiting.get('reason')}{': ' + waiting['message'] if waiting.get('message') else ''}"
        for status in _container_statuses(ppod) if (waiting := (status.get("state") or {}).get("waiting"))
    ]
    if waits:
        return waits
    if (conditions.get("Ready") or {}).get("status") != "True":
        return [f"its twin to be ready: {_say(conditions.get('Ready')) or 'the kubelet has not spoken yet'}"]
    return [*_gates(vpod), *_not_mirrored(vpod)]


def _gates(vpod: Json) -> Iterator[str]:
    conditions = _conditions(vpod)
    for gate in vpod["spec"].get("readinessGates") or ():
        if (conditions.get(gate["conditionType"]) or {}).get("status") != "True":
            yield f"readiness gate {gate['conditionType']}: somebody has to set this condition on the virtual Pod"


def _not_mirrored(vpod: Json) -> Iterator[str]:
    if (vpod.get("status") or {}).get("phase") != "Running":
        yield "the syncer, to mirror the status of its twin"


def _leaving(story: PodStory) -> list[str]:
    if story.ppod is not None:
        return [f"its twin {namespace_of(story.ppod)}/{name_of(story.ppod)} to end, within the grace it has"]
    if held := finalizers_of(story.vpod):
        return [f"whoever holds it by finalizer {', '.join(held)}"]
    return ["the syncer, to release it: its twin is gone"] if story.ours else ["the API server, to remove it"]


def _say(condition: Json | None) -> str:
    if not condition or condition.get("status") == "True":
        return ""
    return ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))


# --- what it needs ---------------------------------------------------------------------------------------------------
def mandatory_references(vpod: Json) -> Sequence[tuple[str, ObjectKey, str]]:
    """Return kind, key and field path of what the Pod cannot start without, each object once."""
    found = {
        (each.kind, ObjectKey(namespace_of(vpod), each.name)): each.where for each in references_of(vpod) if not each.optional
    }
    return [(kind, key, where) for (kind, key), where in found.items()]

