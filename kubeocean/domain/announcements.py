"""What is worth an Event when a node is taken back: only changes, read off the virtual node as it was before.

The node remembers what was told: its annotation `closed-at`, its taints and its conditions. So the same thing is announced
once, whichever process comes to it, and after a crash between the write and the Event at most never: Events are a courtesy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from kubeocean.domain.reclaim import NodePod, Phase, closed_at, grace_over, is_forced
from kubeocean.domain.takeback import Situation, announced_end, exceeded_since
from kubeocean.kube.meta import Json, format_time


@dataclass(frozen=True, slots=True)
class Announcement:
    """An Event on the virtual node and its policy, and on each of `pods`, for whom it is a warning."""

    kind: Literal["Normal", "Warning"]
    reason: str
    message: str
    pods: tuple[NodePod, ...] = ()
    to_pods: str = ""


def announce(before: Json, situation: Situation) -> tuple[Announcement, ...]:
    """Return what has changed on a virtual node, given as it was `before`."""
    return (*_window(before, situation), *_force(before, situation), *_notice(before, situation), *_overhang(before, situation))


def to_latecomer(situation: Situation, pod: NodePod) -> Announcement | None:
    """Return what a Pod that was placed on the node only now has to know; None when the others were not warned either."""
    if not situation.notice.ends_at or not _evicts(situation) or not pod.must_go:
        return None
    return _ending(situation, (pod,))


def _window(before: Json, situation: Situation) -> Iterator[Announcement]:
    was, since = closed_at(before), situation.closing.since
    if was is None and since is not None:
        affected = _affected(situation) if situation.reclaim.phase is Phase.GRACE else ()
        yield Announcement(
            "Normal", "WindowClosed", f"the time window is shut: no new Pods{_plan(situation, since)}", affected,
            f"the time window of its node is shut{_plan(situation, since)}",
        )
    if was is not None and since is None:
        yield Announcement("Normal", "WindowOpened", "the time window is open: the node takes Pods")


def _plan(situation: Situation, since: datetime) -> str:
    terms = situation.lease.terms
    if terms is None or not terms.force_reclaim:
        return "; those that run may stay"
    return f"; those that run are evicted from {format_time(grace_over(terms, since))} on"


def _force(before: Json, situation: Situation) -> Iterator[Announcement]:
    if not situation.forced or is_forced(before):
        return
    if overdue := situation.reclaim.overdue:
        yield Announcement(
            "Warning", "ReclaimTimeout",
            f"reclaimTimeoutSeconds are over: {len(overdue)} Pods that could not be evicted have to go now", overdue,
            "its node is taken back now: it could not be evicted within reclaimTimeoutSeconds",
        )
    else:
        yield Announcement("Normal", "Reclaimed", "the node is taken back: every Pod that has to go was asked to leave")


def _notice(before: Json, situation: Situation) -> Iterator[Announcement]:
    if situation.notice.ends_at and announced_end(before) != situation.notice.text:
        yield _ending(situation, _affected(situation) if _evicts(situation) else ())


def _ending(situation: Situation, pods: tuple[NodePod, ...]) -> Announcement:
    return Announcement("Normal", "LeaseEnding", situation.notice.text, pods, f"on its node {situation.notice.text}")


def _overhang(before: Json, situation: Situation) -> Iterator[Announcement]:
    was, text = exceeded_since(before), situation.overhang.text
    if text and was is None:
        yield Announcement("Warning", "LeaseExceeded", f"more runs on the node than is leased of it: {text}")
    if was is not None and not text:
        yield Announcement("Normal", "LeaseKept", "what runs on the node fits into what is leased of it")


def _affected(situation: Situation) -> tuple[NodePod, ...]:
    return tuple(pod for pod in situation.pods if pod.must_go)


def _evicts(situation: Situation) -> bool:
    terms = situation.lease.terms
    return terms is not None and terms.force_reclaim
