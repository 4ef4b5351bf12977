"""Warning before a window shuts: from `noticeSeconds` before the edge on, the lease is *ending*.

What was said is remembered on the virtual node, in the message of its condition `LeaseEnding`, which names the instant:
the same edge is announced once, by whichever process, and one that moved is announced again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from kubeocean.domain.reclaim import grace_over
from kubeocean.domain.terms import ReclaimTerms
from kubeocean.domain.windows import WindowState
from kubeocean.kube.meta import format_time

_LONGEST = timedelta(days=15).total_seconds()  # as far as `windows` looks ahead


@dataclass(frozen=True, slots=True)
class Notice:
    """`ends_at`: the lease is ending, at this instant; None = not soon. `revisit_at`: when it will be ending."""

    ends_at: datetime | None = None
    revisit_at: datetime | None = None
    text: str = ""


def decide_notice(terms: ReclaimTerms | None, window: WindowState, now: datetime) -> Notice:
    """Return whether the window shuts within the policy's notice."""
    edge = window.next_change
    if terms is None or not terms.notice_seconds or not window.open or edge is None:
        return Notice()
    begin = edge - timedelta(seconds=min(terms.notice_seconds, _LONGEST))
    if now < begin:
        return Notice(revisit_at=begin)
    return Notice(edge, text=f"the time window ends at {format_time(edge)}; {_what_then(terms, edge)}")


def _what_then(terms: ReclaimTerms, edge: datetime) -> str:
    if not terms.force_reclaim:
        return "no new Pods are placed then, those that run may stay"
    if not terms.graceful_reclaim_period_seconds:
        return "Pods are evicted then"
    return f"Pods are evicted from {format_time(grace_over(terms, edge))} on"
