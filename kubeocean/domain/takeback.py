"""How one leased node stands with its Pods: window, notice and overhang in one answer, and what of it the node shows.

    Lease, virtual node, its Pods, the time  ->  stand  ->  Situation  ->  taints, conditions, evictions, the next look

Two writers use it: the pass over a node writes what the node shows, the pass that evicts acts on it. Both decide from the
same facts, so neither has to tell the other anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kubeocean.api.names import LEASE_ENDING, LEASE_EXCEEDED
from kubeocean.domain.leasing import Lease
from kubeocean.domain.notice import Notice, decide_notice
from kubeocean.domain.overhang import Overhang, OverhangFacts, decide_overhang
from kubeocean.domain.reclaim import (
    Closing,
    NodePod,
    Phase,
    Reclaim,
    ReclaimFacts,
    closed_at,
    decide_closing,
    decide_reclaim,
    is_forced,
)
from kubeocean.kube.meta import Json, format_time, parse_time


@dataclass(frozen=True, slots=True)
class Situation:
    """How a node stands now. `conditions` is what it should show of that, beside the mirrored ones."""

    lease: Lease
    closing: Closing
    reclaim: Reclaim
    overhang: Overhang
    notice: Notice
    pods: Sequence[NodePod]
    conditions: tuple[Json, ...]

    @property
    def forced(self) -> bool:
        """Tell whether the node shall carry NoExecute."""
        return self.reclaim.phase is Phase.FORCED

    @property
    def evicts(self) -> bool:
        """Tell whether Pods have to be moved now."""
        return bool(self.reclaim.evict or self.overhang.evict or self.overhang.delete)

    @property
    def waits_for_pods(self) -> bool:
        """Tell whether what Pods do may change the answer at any moment."""
        return self.reclaim.phase is Phase.EVICTING or bool(self.overhang.excess)

    @property
    def revisit_at(self) -> datetime | None:
        """Return when time alone may change the answer, None = never."""
        parts = (self.closing, self.reclaim, self.overhang, self.notice)
        return min((part.revisit_at for part in parts if part.revisit_at), default=None)


def stand(
    lease: Lease, existing: Json | None, pods: Sequence[NodePod], now: datetime, asked: Mapping[str, datetime] | None = None
) -> Situation:
    """Return how the node stands. `existing` is its virtual node, `asked` says when Pods (by uid) were asked to leave."""
    terms, window, asked = lease.terms, lease.window, asked or {}
    closing = lease.closing
    if terms is not None:
        closing = decide_closing(terms, window_open=window.open, recorded=closed_at(existing), now=now)
    reclaim = decide_reclaim(ReclaimFacts(
        terms, window.open, closing, pods, now, forced_before=is_forced(existing), asked=asked,
    ))
    overhang = decide_overhang(OverhangFacts(
        terms, window.open, lease.capacity.resources, lease.capacity.reasons, pods, exceeded_since(existing), now, asked=asked,
    ))
    notice = decide_notice(terms, window, now)
    return Situation(lease, closing, reclaim, overhang, notice, pods, _conditions(existing, window.open, notice, overhang, now))


def exceeded_since(vnode: Json | None) -> datetime | None:
    """Return since when more runs on the virtual node than is leased of it, as it shows; None: it shows no such thing."""
    condition = shown(vnode, LEASE_EXCEEDED)
    try:
        return parse_time(condition["lastTransitionTime"]) if condition.get("status") == "True" else None
    except (KeyError, ValueError, OverflowError):
        return None


def announced_end(vnode: Json | None) -> str:
    """Return which end of the lease the virtual node announces, in the words of `Notice.text`; "" = none."""
    condition = shown(vnode, LEASE_ENDING)
    return str(condition.get("message") or "") if condition.get("status") == "True" else ""


def shown(vnode: Json | None, kind: str) -> Json:
    """Return the condition of type `kind` of a virtual node, {} when it has none."""
    for condition in ((vnode or {}).get("status") or {}).get("conditions") or ():
        if condition["type"] == kind:
            return dict(condition)
    return {}


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a condition shall say: `over` are reason and message once it holds no more."""

    kind: str
    holds: bool
    reason: str
    message: str
    over: tuple[str, str]
    since: datetime | None = None


def _conditions(
    existing: Json | None, window_open: bool, notice: Notice, overhang: Overhang, now: datetime
) -> tuple[Json, ...]:
    ended = ("WindowOpen", "the lease goes on") if window_open else ("WindowClosed", "the lease has ended")
    claims = (
        _Claim(LEASE_ENDING, notice.ends_at is not None, "WindowEnds", notice.text, over=ended),
        _Claim(
            LEASE_EXCEEDED, bool(overhang.excess), "LimitExceeded", overhang.text,
            over=("WithinLimits", "what runs fits into what is leased"), since=overhang.since,
        ),
    )
    return tuple(condition for claim in claims if (condition := _condition(existing, claim, now)))


def _condition(existing: Json | None, claim: _Claim, now: datetime) -> Json | None:
    """Return a condition; None when there is nothing to say: it never held, or that it holds no more was said before."""
    before = shown(existing, claim.kind)
    status = "True" if claim.holds else "False"
    if not claim.holds and before.get("status") in (None, "False"):
        return None
    reason, message = (claim.reason, claim.message) if claim.holds else claim.over
    since = before.get("lastTransitionTime") if before.get("status") == status else None
    return {
        "type": claim.kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": since or format_time(_next_second(claim.since or now)),
    }


def _next_second(moment: datetime) -> datetime:
    """Return `moment`, or the next whole second: what is counted from it must not come too early."""
    whole = moment.replace(microsecond=0)
    return moment if whole == moment else whole + timedelta(seconds=1)
