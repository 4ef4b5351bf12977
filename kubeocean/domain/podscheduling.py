"""How long may a twin wait for the physical scheduler?

The virtual scheduler chose the node; the physical one must agree (unless the binding schedules directly), and it may not:
the lender's own Pods were quicker, a taint is new. For 5 s that is nobody's business. Then the virtual Pod says so, with
the physical scheduler's own words. After 5 minutes the twin is given up, so that the Pod's controller may try elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from kubeocean.api import names
from kubeocean.domain.refusal import Refusal
from kubeocean.kube.meta import Json, format_time, is_deleting, parse_time, uid_of

TELL_AFTER = timedelta(seconds=5)
GIVE_UP_AFTER = timedelta(minutes=5)
GIVEN_UP = "FailedSchedulingPod"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A twin that has no node yet. `refusal` None: too early to tell. `revisit_in`: seconds until the answer changes."""

    refusal: Refusal | None
    give_up: bool
    revisit_in: float


def check_waiting(ppod: Json, now: datetime, cluster: str) -> Waiting | None:
    """Return how a twin without a node is to be treated; None when it has one, or is going. `cluster` is told."""
    if ppod["spec"].get("nodeName") or is_deleting(ppod):
        return None
    condition = next(
        (item for item in (ppod.get("status") or {}).get("conditions") or () if item["type"] == "PodScheduled"), None
    )
    since = parse_time(ppod["metadata"]["creationTimestamp"])
    waited = now - since
    if waited < TELL_AFTER:
        return Waiting(None, False, (TELL_AFTER - waited).total_seconds())
    said = (condition or {}).get("message") or "no scheduler of the physical cluster has looked at it"
    reason = (condition or {}).get("reason") or "Unscheduled"
    refusal = Refusal(reason, f"{cluster} cannot place this Pod: {said}")
    left = max(0.0, (GIVE_UP_AFTER - waited).total_seconds())
    return Waiting(refusal, waited >= GIVE_UP_AFTER, left)


def given_up(vpod: Json) -> bool:
    """Tell whether this virtual Pod was failed because its twin found no node: the twin, if still there, goes too."""
    status = vpod.get("status") or {}
    return status.get("phase") == "Failed" and status.get("reason") == GIVEN_UP


def build_given_up_patch(vpod: Json, refusal: Refusal, now: datetime) -> Json:
    """Return the strategic merge patch that fails a virtual Pod whose twin found no node."""
    condition = {
        "type": names.PHYSICAL_POD_SCHEDULED, "status": "False", "reason": refusal.reason, "message": refusal.message,
        "lastTransitionTime": format_time(now),
    }
    return {
        "metadata": {"uid": uid_of(vpod)},
        "status": {"phase": "Failed", "reason": GIVEN_UP, "message": refusal.message, "conditions": [condition]},
    }
