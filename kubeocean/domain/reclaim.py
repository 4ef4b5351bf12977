"""Taking a node back when its window is shut: how far that has got, and who is to be asked to leave now.

    Open ──window shuts──► Closed                                                        (no forceReclaim: that is all)
                        └► Grace ──gracefulReclaimPeriod──► Evicting ──nobody left, or reclaimTimeout──► Forced
      ▲                                                                                                   │
      └───────────────────────────── the window opens again, at any point ────────────────────────────────┘

Closed and everything after it take nothing new (NoSchedule). Grace has to *precede* NoExecute, because the taint manager
evicts the moment it sees that taint; and it does so with plain deletions, so as long as disruption budgets count the Pods
are asked through the Eviction API instead, some at a time. Forced is NoExecute: either nobody is left whom it could hurt,
or the budgets have had their time and the lender's word counts last.

A Pod that tolerates NoExecute of our taint is left alone. If it does so for `tolerationSeconds`, they run from NoExecute
on and the taint manager counts them, as for any other taint.

Every duration is counted from `closed-at`, an instant noted on the virtual node: a new leader restarts nothing. That
NoExecute was reached is read back from the node as well, so a Pod that comes too late does not take it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from kubeocean.api.names import CLOSED_AT_ANNOTATION, OUT_OF_WINDOW_TAINT, PHYSICAL_POD_UPDATED, VNODE_DELETING_TAINT
from kubeocean.domain.refusal import BEYOND_LEASE
from kubeocean.domain.requests import FINISHED, Requests, pod_requests
from kubeocean.domain.terms import ReclaimTerms
from kubeocean.domain.vnode_diff import read_expected
from kubeocean.kube.meta import (
    Json,
    ObjectKey,
    annotations_of,
    controller_of,
    format_micro_time,
    is_deleting,
    key_of,
    parse_time,
    uid_of,
)
from kubeocean.kube.selectors import tolerated_seconds, tolerates

# The pace at which Pods of one node are asked to leave, so that a large node does not flood the API server.
AT_ONCE = 10
PACE = timedelta(seconds=1)
# A Pod that was asked and is still there is asked again after this: a disruption budget said no, or nobody answered.
ASK_AGAIN = timedelta(seconds=2)

NO_EXECUTE: Json = {"key": OUT_OF_WINDOW_TAINT, "value": "true", "effect": "NoExecute"}
DELETING: Json = {"key": VNODE_DELETING_TAINT, "value": "true", "effect": "NoSchedule"}


class Phase(StrEnum):
    """How far a node has been taken back."""

    OPEN = "Open"
    CLOSED = "Closed"  # nothing new; what runs may stay
    GRACE = "Grace"  # nothing new; what runs may stay a little longer
    EVICTING = "Evicting"  # what runs is asked to leave, disruption budgets permitting
    FORCED = "Forced"  # what runs is made to leave


@dataclass(frozen=True, slots=True)
class Closing:
    """`since`: shut since then, None = open. `force_now`: Pods must go, their grace is over. `revisit_at`: when it will be."""

    since: datetime | None
    force_now: bool = False
    revisit_at: datetime | None = None

    @property
    def text(self) -> str:
        """Return what the annotation `closed-at` says; "" (no annotation) while the window is open."""
        return note_instant(self.since) if self.since else ""


@dataclass(frozen=True, slots=True)
class NodePod:
    """A Pod bound to a virtual node, as far as taking the node back is concerned.

    `created` is RFC 3339 as the server writes it, so that text order is time order. `tolerates`: our NoExecute, for a while
    at least. `leaving`: its deletion was asked for, by whomever. `comes_back`: a DaemonSet would make it anew on the spot,
    as long as the Node exists, whatever we taint it with.
    """

    key: ObjectKey
    uid: str
    priority: int
    created: str
    tolerates: bool
    leaving: bool
    finished: bool
    requests: Requests = field(default_factory=dict, hash=False)
    comes_back: bool = False

    @property
    def must_go(self) -> bool:
        """Tell whether it runs, and nothing but us makes it leave."""
        return not (self.tolerates or self.leaving or self.finished)


@dataclass(frozen=True, slots=True)
class ReclaimFacts:
    """What decides how far a node is taken back. `terms` None: nothing valid is in force, and nobody is evicted for that.

    `forced_before`: NoExecute is on the node already (`is_forced`). `asked`: by uid, when Pods were last asked to leave.
    """

    terms: ReclaimTerms | None
    window_open: bool
    closing: Closing
    pods: Sequence[NodePod]
    now: datetime
    forced_before: bool = False
    asked: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reclaim:
    """The answer. `evict` are to be asked now, `staying` is how many must go and have not been moved to, yet.

    `deadline` is when Evicting becomes Forced in any case, `overdue` whom that hit. `revisit_at`: when time alone may
    change the answer, None = never.
    """

    phase: Phase
    evict: tuple[NodePod, ...] = ()
    staying: int = 0
    deadline: datetime | None = None
    overdue: tuple[NodePod, ...] = ()
    revisit_at: datetime | None = None


def decide_closing(
    terms: ReclaimTerms, *, window_open: bool, recorded: datetime | None, now: datetime
) -> Closing:
    """Return since when the window is shut and whether its Pods must go by now.

    `recorded` is what an earlier pass (perhaps of another process) noted, see `closed_at`.
    """
    if window_open:
        return Closing(None)
    since = not_after(recorded, now)
    if not terms.force_reclaim:
        return Closing(since)
    due = grace_over(terms, since)
    return Closing(since, force_now=True) if now >= due else Closing(since, revisit_at=due)


def decide_reclaim(facts: ReclaimFacts) -> Reclaim:
    """Return how far the node is taken back, and which Pods are to be asked to leave now."""
    terms, since = facts.terms, facts.closing.since
    if facts.window_open:
        return Reclaim(Phase.OPEN)
    if terms is None or not terms.force_reclaim or since is None:
        return Reclaim(Phase.CLOSED)
    staying = rank(pod for pod in facts.pods if pod.must_go)
    deadline = give_up_asking(terms, since)
    if not facts.closing.force_now:
        return Reclaim(Phase.GRACE, staying=len(staying), deadline=deadline, revisit_at=facts.closing.revisit_at)
    if facts.now >= deadline:
        return Reclaim(Phase.FORCED, staying=len(staying), deadline=deadline, overdue=tuple(staying))
    if not staying or facts.forced_before:
        return Reclaim(Phase.FORCED, staying=len(staying), deadline=deadline)
    evict, revisit_at = next_to_ask(staying, facts.asked, facts.now)
    return Reclaim(Phase.EVICTING, evict, len(staying), deadline, revisit_at=min(revisit_at, deadline))


def next_to_ask(
    staying: Sequence[NodePod], asked: Mapping[str, datetime], now: datetime
) -> tuple[tuple[NodePod, ...], datetime]:
    """Return which of `staying` to ask now, in their order and at our pace, and when to look again.

    Whoever was asked before waits until all others were, so Pods that their budgets hold back hold nobody else up.
    """
    at_pace = AT_ONCE - sum(_within(PACE, moment, now) for moment in asked.values())
    due = [pod for pod in staying if pod.uid not in asked or not _within(ASK_AGAIN, asked[pod.uid], now)]
    if due:
        due.sort(key=lambda pod: (pod.uid in asked, asked.get(pod.uid, now)))
        return tuple(due[: max(0, at_pace)]), now + PACE
    return (), min((asked[pod.uid] + ASK_AGAIN for pod in staying), default=now + ASK_AGAIN)


def rank(pods: Iterable[NodePod]) -> list[NodePod]:
    """Return `pods` in the order in which they have to go: lowest priority first, of equals the youngest first."""
    youngest_first = sorted(pods, key=lambda pod: (pod.created, pod.key), reverse=True)
    return sorted(youngest_first, key=lambda pod: pod.priority)


def read_node_pod(pod: Json) -> NodePod:
    """Return what matters of a virtual Pod."""
    spec = pod["spec"]
    return NodePod(
        key_of(pod), uid_of(pod), spec.get("priority") or 0, pod["metadata"].get("creationTimestamp") or "",
        tolerates=tolerated_seconds(spec.get("tolerations") or (), NO_EXECUTE) > 0, leaving=is_deleting(pod),
        finished=(pod.get("status") or {}).get("phase") in FINISHED, requests=pod_requests(pod, held_back=_is_held_back(pod)),
        comes_back=(controller_of(pod) or {}).get("kind") == "DaemonSet" and tolerates(spec.get("tolerations") or (), DELETING),
    )


def _is_held_back(pod: Json) -> bool:
    """Tell whether a resize waits for room in the lease: nobody has to leave for what does not run."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == PHYSICAL_POD_UPDATED and each.get("reason") == BEYOND_LEASE for each in conditions)


def note_instant(moment: datetime) -> str:
    """Return how an instant is noted in `closed-at`: to the microsecond, or a grace would end up to a second early."""
    return format_micro_time(moment)


def closed_at(vnode: Json | None) -> datetime | None:
    """Return when the window was seen to be shut, as noted on the virtual node; None: open, or illegible."""
    text = annotations_of(vnode).get(CLOSED_AT_ANNOTATION) if vnode else None
    try:
        moment = parse_time(text) if text else None
    except (ValueError, OverflowError):
        return None
    return moment


def is_forced(vnode: Json | None) -> bool:
    """Tell whether we have put NoExecute on the virtual node: read from our own record, not from what others may add."""
    expected = read_expected(vnode) if vnode else None
    return expected is not None and NO_EXECUTE in expected.taints


def not_after(recorded: datetime | None, now: datetime) -> datetime:
    """Return an instant that was noted, or now: never one in the future, whatever clock wrote it."""
    return min(recorded or now, now)


def grace_over(terms: ReclaimTerms, since: datetime) -> datetime:
    """Return when Pods that may not stay since `since` are asked to leave."""
    return _later(since, terms.graceful_reclaim_period_seconds)


def give_up_asking(terms: ReclaimTerms, since: datetime) -> datetime:
    """Return when Pods that may not stay since `since` leave whatever their disruption budgets say."""
    return _later(since, terms.graceful_reclaim_period_seconds + terms.reclaim_timeout_seconds)


def _later(moment: datetime, seconds: int) -> datetime:
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=moment.tzinfo)


def _within(span: timedelta, moment: datetime, now: datetime) -> bool:
    """Tell whether `moment` lies in the last `span`; one in the future (the clock was set back) does not."""
    return now - span < moment <= now
