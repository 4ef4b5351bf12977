"""Who will have to leave a virtual node, and when, if nothing changes but the time.

The syncer's own decisions, asked at the instants at which it would ask them: `assess` for the lease, `stand` for the Pods.
A Pod that is asked to leave is taken to be gone at once. That is how it goes where no disruption budget objects; where one
does, `deadline` says from when on budgets count no more.

The forecast ends with the first closing: when nobody is left who has to go, or the window opens again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from kubeocean.domain.leasing import Lease, LeaseFacts, assess
from kubeocean.domain.reclaim import NO_EXECUTE, NodePod, Phase, next_to_ask, rank, read_node_pod
from kubeocean.domain.simulation import follow, settle
from kubeocean.domain.takeback import stand
from kubeocean.kube.meta import Json
from kubeocean.kube.selectors import tolerated_seconds

_LONGEST_TOLERATION = 10**9  # seconds; whatever is longer is as good as for ever


class Fate(StrEnum):
    """What happens to a Pod, in the words of the table."""

    EVICTED = "is evicted"
    DELETED = "is deleted by the NoExecute taint"
    OVERHANG = "is evicted, for more runs than is leased"
    UNLEASED = "is evicted, for its node is not leased any more"
    EXPIRES = "is deleted when its tolerationSeconds are over"
    LEAVING = "is leaving already"
    TOLERATES = "stays: it tolerates the taint"
    ALLOWED = "stays: without forceReclaim nobody has to go"
    SPARED = "stays: the window opens again before its turn"
    LATER = "has to go later than the time asked about"


@dataclass(frozen=True, slots=True)
class Departure:
    """A Pod and what happens to it; `when` that is, None for one that stays."""

    pod: NodePod
    fate: Fate
    when: datetime | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """The answer for one node. `closes_at`: since when it takes nothing new, None = it goes on in the time asked about.

    `departures` are in the order in which Pods leave; those who stay come last. `deadline` is when Pods that disruption
    budgets hold back have to go too; None = nobody is forced.
    """

    closes_at: datetime | None
    deadline: datetime | None
    departures: tuple[Departure, ...]


@dataclass(slots=True)
class _Course:
    """What has happened so far. `staying` and `asked` are by uid, `tolerates` how many seconds of NoExecute each Pod bears."""

    staying: dict[str, NodePod]
    tolerates: dict[str, float]
    asked: dict[str, datetime] = field(default_factory=dict)
    gone: list[Departure] = field(default_factory=list)
    closes_at: datetime | None = None
    deadline: datetime | None = None
    forces: bool = True
    forced_at: datetime | None = None
    reopened: bool = False

    def leave(self, pods: Iterable[NodePod], fate: Fate, now: datetime) -> None:
        """Take it that these Pods go now."""
        for pod in pods:
            self.gone.append(Departure(pod, fate, now))
            self.asked[pod.uid] = now
            del self.staying[pod.uid]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a look tells: is all over, when to look again, and which conditions the node shows until then."""

    over: bool
    revisit_at: datetime | None
    conditions: tuple[Json, ...] = ()


def forecast(facts: LeaseFacts, pods: Sequence[Json], begin: datetime, end: datetime) -> Forecast:
    """Return who of `pods`, which sit on the node from `begin` on, has to leave it at its first closing before `end`.

    `facts.now` is the instant at which `facts.existing` was as it is, as for `simulate`.
    """
    facts, course = settle(facts, begin), _start(pods)
    while facts.now < end:
        lease = assess(facts)
        look = _pass if lease.decision.leasable else _drain
        seen = look(course, facts, lease)
        if seen.over:
            break
        moments = [moment for moment in (lease.revisit_at, seen.revisit_at) if moment]
        facts = _noting(follow(facts, lease, min(moments, default=None), end), seen.conditions)
    stay = _those_left(course) if course.closes_at else ()
    return Forecast(course.closes_at, course.deadline, (*course.gone, *stay))


def _start(pods: Iterable[Json]) -> _Course:
    course = _Course({}, {})
    for pod in pods:
        read = read_node_pod(pod)
        read = replace(read, uid=read.uid or str(read.key))  # one out of a manifest has none
        if not read.finished:
            course.staying[read.uid] = read
            course.tolerates[read.uid] = tolerated_seconds(pod["spec"].get("tolerations") or (), NO_EXECUTE)
    return course


def _pass(course: _Course, facts: LeaseFacts, lease: Lease) -> _Seen:
    """Take one look at a leased node."""
    situation = stand(lease, facts.existing, tuple(course.staying.values()), facts.now, course.asked)
    reclaim, overhang = situation.reclaim, situation.overhang
    if reclaim.phase is Phase.OPEN:
        course.reopened = course.closes_at is not None
        course.leave((*overhang.evict, *overhang.delete), Fate.OVERHANG, facts.now)
        return _Seen(course.reopened, situation.revisit_at, situation.conditions)
    course.closes_at = course.closes_at or situation.closing.since
    course.deadline, course.forces = reclaim.deadline, reclaim.phase is not Phase.CLOSED
    course.leave(reclaim.evict, Fate.EVICTED, facts.now)
    course.leave(reclaim.overdue, Fate.DELETED, facts.now)
    if reclaim.phase is Phase.FORCED:
        course.forced_at = facts.now
    return _Seen(reclaim.phase in (Phase.CLOSED, Phase.FORCED), situation.revisit_at, situation.conditions)


def _drain(course: _Course, facts: LeaseFacts, lease: Lease) -> _Seen:
    """Take one look at a node that is not leased any more: everybody goes, whatever they tolerate."""
    course.closes_at = course.closes_at or facts.now
    staying = rank(pod for pod in course.staying.values() if not pod.leaving)
    batch, revisit_at = next_to_ask(staying, course.asked, facts.now)
    course.leave(batch, Fate.UNLEASED, facts.now)
    return _Seen(len(batch) == len(staying), revisit_at)


def _noting(facts: LeaseFacts, conditions: Sequence[Json]) -> LeaseFacts:
    """Return the facts with what the pass would write into the virtual node's conditions: since when it is overbooked."""
    if facts.existing is None:
        return facts
    status = facts.existing.get("status") or {}
    said = {condition["type"] for condition in conditions}
    kept = [condition for condition in status.get("conditions") or () if condition["type"] not in said]
    return replace(facts, existing={**facts.existing, "status": {**status, "conditions": [*kept, *conditions]}})


def _those_left(course: _Course) -> list[Departure]:
    """Return who was never asked to leave: first whose time is yet to come, then who stays."""
    left = [_left(course, pod) for pod in rank(course.staying.values())]
    return sorted(left, key=lambda each: (each.when is None, each.when.timestamp() if each.when else 0.0))


def _left(course: _Course, pod: NodePod) -> Departure:
    if pod.leaving:
        return Departure(pod, Fate.LEAVING)
    if not course.forces:
        return Departure(pod, Fate.ALLOWED)
    seconds = course.tolerates[pod.uid]
    if pod.tolerates and seconds > _LONGEST_TOLERATION:
        return Departure(pod, Fate.TOLERATES)
    if pod.tolerates and course.forced_at:
        return Departure(pod, Fate.EXPIRES, course.forced_at + timedelta(seconds=seconds))
    return Departure(pod, Fate.SPARED if course.reopened else Fate.LATER)
