"""One virtual Pod and its twin, seen together, and the one step that comes next.

The pair is looked at as it is now, never as an event told it. The questions are asked in this order, and the first that
has an opinion decides:

1. *No virtual Pod, or not one of ours to run*: a twin of ours under its name is an orphan, perhaps. Caches lag, so the
   caller proves it by a live GET before the twin goes.
2. *A twin that the Go project made for this very Pod*: it is adopted (see `adoption`), then it is like any other.
   *A predecessor's twin under the name*: an orphan in the same sense; it goes first.
3. *Deletion was asked for*: the twin is deleted with the grace that is left, once, and again only if somebody
   shortened the grace meanwhile; until it is gone its status is mirrored. A twin that is not to be seen must be proved
   gone, then the virtual Pod is released. A release that was cut short is asked for again.
4. *A twin is there*: mirror it, and push down what has changed since.
5. *A finished Pod* needs no twin, and stays what it is when its twin is collected.
6. *A twin was there once* (its uid is recorded) *and is not to be seen*: proved gone, the Pod is lost. Never is a
   second twin created. The recorded uid is evidence in this one direction; it selects no target, for users can write
   it.
7. *No twin yet*: may there be one, and is its name free? An object that is not ours stays. Then create it.

Every step is safe to repeat: writes carry uids, and after a crash anywhere the same facts give the same answer.
*Proof* of absence is the caller's (a DELETED event of that uid, or a live 404 from the verified cluster):
`ConfirmGone` carries what to do once it is had. Times are compared within one cluster only; clocks of two clusters
never meet here except in the remaining grace, which is held within what was granted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final

from kubeocean.api import names
from kubeocean.domain.adoption import may_adopt_pod
from kubeocean.domain.eligibility import check_eligible
from kubeocean.domain.hostports import is_placeholder
from kubeocean.domain.ownership import Owner, is_ours
from kubeocean.domain.podstatus import TERMINAL_PHASES
from kubeocean.kube.meta import (
    Json,
    ObjectKey,
    annotations_of,
    finalizers_of,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    parse_time,
    uid_of,
)


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What is known of one pair.

    `ppod` is whatever has the twin's name in the mountNamespace, ours or not. `bound` tells whether the virtual Pod
    sits on a virtual node of this binding, `node_gone` whether the twin's physical Node no longer exists, so that no
    kubelet will ever confirm its end.
    """

    vpod: Json | None
    ppod: Json | None
    owner: Owner
    now: datetime
    bound: bool = True
    running_daemonsets: bool = False
    node_gone: bool = False


@dataclass(frozen=True, slots=True)
class Nothing:
    """All is as it should be, or somebody else's turn."""


@dataclass(frozen=True, slots=True)
class CreateTwin:
    """Forge and create the twin (forging may still refuse)."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """Make the physical Pod under the twin's name ours: it was made for this Pod by somebody who named no owner."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """Write what the twin says to the virtual Pod; once it says the same, what that wants to the twin (`podpush`)."""


@dataclass(frozen=True, slots=True)
class DeleteTwin:
    """DELETE the twin with this uid and grace in seconds."""

    uid: str
    grace_seconds: int
    why: str


@dataclass(frozen=True, slots=True)
class ConfirmOrphan:
    """A twin of ours that no virtual Pod in the cache claims.

    The caller reads the virtual Pod live. Only if it is not there, or has another uid than `virtual_uid`, or is bound
    to no virtual node of this binding, the twin with `uid` is deleted. `grace_seconds` None = the twin's own.
    """

    uid: str
    virtual_uid: str
    grace_seconds: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Release:
    """DELETE the virtual Pod with this uid and grace 0: nothing of it runs any more.

    `again`: it was deleted with grace 0 before, and is there still. The caller reads it live first: mostly it is the cache
    that is late.
    """

    uid: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class MarkLost:
    """Declare the virtual Pod with this uid Failed / PhysicalPodLost."""

    uid: str


@dataclass(frozen=True, slots=True)
class ConfirmGone:
    """The twin is not in the cache. Once its absence is proved, do `then`.

    `recorded_uid` is the twin's as noted on the virtual Pod, "" if none was. A Pod that the live read finds under the
    name counts as absence when `is_or_becomes_twin_of` says that it is not this Pod's.
    """

    recorded_uid: str
    then: Release | MarkLost


@dataclass(frozen=True, slots=True)
class Refuse:
    """There is no twin and there will be none as things are; say so on the virtual Pod."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Later:
    """Nothing yet: look again in `seconds`."""

    seconds: float


Decision = Nothing | Later | CreateTwin | Adopt | Mirror | DeleteTwin | ConfirmOrphan | Release | ConfirmGone | Refuse

PATIENCE: Final = timedelta(seconds=5)  # after the end of a predecessor's grace, before its successor says that it waits
_FRACTION: Final = timedelta(seconds=1)  # what a time may have lost in the API, which counts in whole seconds
FORCED_GRACE: Final = 1  # seconds; 0 would remove the twin from the API while its containers still run


def decide_pod(facts: PodFacts) -> Decision:
    """Return the next step for one pair."""
    for question in _QUESTIONS:
        decision = question(facts)
        if decision is not None:
            return decision
    return CreateTwin()


def is_twin_of(ppod: Json, vpod: Json, owner: Owner) -> bool:
    """Tell whether a physical Pod (found under the twin's name) is ours and made for this very virtual Pod."""
    if not is_ours(ppod, owner):
        return False
    uid = annotations_of(ppod).get(names.VIRTUAL_POD_UID_ANNOTATION)
    # Somebody has stripped its annotations, but the virtual Pod knows it: still its twin, not an orphan.
    return uid == uid_of(vpod) or (not uid and recorded_twin(vpod) == uid_of(ppod))


def is_or_becomes_twin_of(ppod: Json, vpod: Json, owner: Owner) -> bool:
    """Tell the same, or that it is nobody's yet and about to be adopted: either way the virtual Pod has one."""
    return is_twin_of(ppod, vpod, owner) or may_adopt_pod(ppod, vpod)


def virtual_key_of(obj: Json) -> ObjectKey:
    """Return which virtual Pod a twin, or a token Secret, says it stands for; parts are "" when it does not say."""
    annotations = annotations_of(obj)
    return ObjectKey(
        annotations.get(names.VIRTUAL_POD_NAMESPACE_ANNOTATION, ""), annotations.get(names.VIRTUAL_POD_NAME_ANNOTATION, "")
    )


def recorded_twin(vpod: Json) -> str:
    """Return the uid of the twin this virtual Pod has or had, "" if none was ever noted, or for another Pod than this."""
    annotations = annotations_of(vpod)
    noted_for = annotations.get(names.MAPPED_UID_ANNOTATION)  # older notes do not tell
    return annotations.get(names.PHYSICAL_POD_UID_ANNOTATION, "") if noted_for in (None, uid_of(vpod)) else ""


# --- the questions ---------------------------------------------------------------------------------------------------


def _nobodys(facts: PodFacts) -> Decision | None:
    vpod, ppod = facts.vpod, facts.ppod
    if vpod is not None and facts.bound:
        return None
    if ppod is None or not is_ours(ppod, facts.owner):
        return Nothing()
    if vpod is None:
        # A virtual Pod leaves only when we release it (its twin is gone then) or by force: so this is force.
        return _orphan(facts, ppod, FORCED_GRACE, "its virtual Pod is gone")
    return _orphan(facts, ppod, None, "its virtual Pod is bound to no virtual node of this binding")


def _unowned(facts: PodFacts) -> Decision | None:
    vpod, _ = _pair(facts)
    return Adopt() if facts.ppod is not None and may_adopt_pod(facts.ppod, vpod) else None


def _predecessor(facts: PodFacts) -> Decision | None:
    vpod, _ = _pair(facts)
    if facts.ppod is None or not is_ours(facts.ppod, facts.owner) or is_twin_of(facts.ppod, vpod, facts.owner):
        return None
    orphan = _orphan(facts, facts.ppod, FORCED_GRACE, "it belongs to a predecessor of the virtual Pod of that name")
    if not isinstance(orphan, Nothing):
        return orphan
    return None if is_deleting(vpod) else _wait_for(facts.ppod, facts.now)


def _wait_for(predecessor: Json, now: datetime) -> Decision:
    # A node that is cut off ends nothing; whoever waits for the name is told, but not of the moment that is usual.
    overdue = now - parse_time(predecessor["metadata"]["deletionTimestamp"])
    if overdue < PATIENCE:
        return Later((PATIENCE - overdue).total_seconds())
    node = predecessor["spec"].get("nodeName") or "no node"
    return Refuse("PredecessorTerminating", (
        f"physical Pod {namespace_of(predecessor)}/{name_of(predecessor)}, of an earlier Pod of this name, has not ended on "
        f"{node}; this Pod starts once it is gone"
    ))


def _orphan(facts: PodFacts, ppod: Json, grace: int | None, why: str) -> Decision:
    if facts.node_gone:
        grace = 0  # no kubelet will end it
    if is_deleting(ppod) and (grace is None or _granted(ppod) <= grace):
        return Nothing()
    virtual_uid = annotations_of(ppod).get(names.VIRTUAL_POD_UID_ANNOTATION, "")
    return ConfirmOrphan(uid_of(ppod), virtual_uid, grace, why)


def _deletion(facts: PodFacts) -> Decision | None:
    vpod, twin = _pair(facts)
    if not is_deleting(vpod):
        return None
    if twin is not None:
        return _end_twin(facts, vpod, twin)
    if _granted(vpod) == 0 and finalizers_of(vpod) and _has_ended(vpod):
        return Nothing()  # released already, and kept by somebody; he who takes the last finalizer off removes it
    release = Release(uid_of(vpod), again=was_cut_short(vpod))
    if not recorded_twin(vpod) and check_eligible(vpod, running_daemonsets=facts.running_daemonsets):
        return release  # it never had a twin
    return ConfirmGone(recorded_twin(vpod), release)


def _end_twin(facts: PodFacts, vpod: Json, twin: Json) -> Decision:
    grace = 0 if facts.node_gone else _remaining_grace(vpod, facts.now)
    if not is_deleting(twin):
        return DeleteTwin(uid_of(twin), grace, "its virtual Pod is being deleted")
    if facts.node_gone and _granted(twin) > 0:
        return DeleteTwin(uid_of(twin), 0, "its physical Node is gone, no kubelet will end it")
    # What remains shrinks by itself; only what was *granted* tells that somebody wants it faster.
    if max(_granted(vpod), FORCED_GRACE) < _granted(twin):
        return DeleteTwin(uid_of(twin), grace, "the grace of its virtual Pod was shortened")
    return Mirror()


def _twin_is_there(facts: PodFacts) -> Decision | None:
    _, twin = _pair(facts)
    return Mirror() if twin is not None else None


def _finished(facts: PodFacts) -> Decision | None:
    vpod, _ = _pair(facts)
    return Nothing() if _has_ended(vpod) else None


def _lost(facts: PodFacts) -> Decision | None:
    vpod, _ = _pair(facts)
    recorded = recorded_twin(vpod)
    return ConfirmGone(recorded, MarkLost(uid_of(vpod))) if recorded else None


def _ineligible(facts: PodFacts) -> Decision | None:
    vpod, _ = _pair(facts)
    if is_placeholder(key_of(vpod)):
        return Nothing()  # our own; nobody asks why it does not run
    refusal = check_eligible(vpod, running_daemonsets=facts.running_daemonsets)
    return Refuse(refusal.reason, refusal.message) if refusal else None


def _name_taken(facts: PodFacts) -> Decision | None:
    if facts.ppod is None:
        return None
    taken = f"physical Pod {namespace_of(facts.ppod)}/{name_of(facts.ppod)} exists and is not ours"
    return Refuse("NameTaken", f"{taken}; this Pod runs once the lender has removed it")


_QUESTIONS: Final[tuple[Callable[[PodFacts], Decision | None], ...]] = (
    _nobodys, _unowned, _predecessor, _deletion, _twin_is_there, _finished, _lost, _ineligible, _name_taken,
)


def _pair(facts: PodFacts) -> tuple[Json, Json | None]:
    """Return the virtual Pod and its twin, if what has the twin's name is that."""
    vpod, ppod = facts.vpod, facts.ppod
    assert vpod is not None, "the first question answers for a missing virtual Pod"
    return vpod, ppod if ppod is not None and is_twin_of(ppod, vpod, facts.owner) else None


def _has_ended(vpod: Json) -> bool:
    return (vpod.get("status") or {}).get("phase") in TERMINAL_PHASES


def was_cut_short(pod: Json) -> bool:
    """Tell whether a Pod was deleted with grace 0, is held by nobody's finalizer and is there all the same.

    For an API server such a DELETE is two writes: grace 0 on the Pod, then the Pod. When its client dies between them, or
    it does itself, the Pod stays for ever, unless it is asked once more; then it goes at once. (On the physical side the
    kubelet asks, and for a Pod without one the Pod garbage collector.)
    """
    return is_deleting(pod) and _granted(pod) == 0 and not finalizers_of(pod)


def _granted(pod: Json) -> int:
    """Return the grace in seconds that the latest deletion request was given."""
    return pod["metadata"].get("deletionGracePeriodSeconds") or 0


def _remaining_grace(vpod: Json, now: datetime) -> int:
    """Return whole seconds, at least one and never more than was granted (our clock may be behind the server's)."""
    # deletionTimestamp is the moment the grace ends, not when deletion was asked for, and has lost its fraction of a second:
    # without that a Pod deleted late in a second would be killed a second before its time.
    left = ceil((parse_time(vpod["metadata"]["deletionTimestamp"]) - now + _FRACTION).total_seconds())
    return max(FORCED_GRACE, min(left, _granted(vpod)))
