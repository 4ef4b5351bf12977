"""How far the taking back of a node has got.

When a window shuts, a virtual node takes nothing new at once. With `forceReclaim` its Pods must go when the grace
period is over. The grace has to *precede* the NoExecute taint (the taint manager evicts the moment it sees one), and
it must outlive this process: so the instant at which the window was seen to be shut is noted on the virtual node, and
read back from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from kubeocean.api.names import CLOSED_AT_ANNOTATION
from kubeocean.api.policy import ResourceLeasingPolicySpec
from kubeocean.kube.meta import Json, annotations_of, format_time, parse_time


@dataclass(frozen=True, slots=True)
class Closing:
    """`since`: shut since then, None = open. `force_now`: the grace is over. `revisit_at`: when it will be."""

    since: datetime | None
    force_now: bool = False
    revisit_at: datetime | None = None

    @property
    def text(self) -> str:
        """Return what the annotation `closed-at` says; "" (no annotation) while the window is open."""
        return format_time(self.since) if self.since else ""


def decide_closing(
    spec: ResourceLeasingPolicySpec, *, window_open: bool, recorded: datetime | None, now: datetime
) -> Closing:
    """Return since when the window is shut and whether its Pods must go by force now.

    `recorded` is what an earlier pass (perhaps of another process) noted, see `closed_at`.
    """
    if window_open:
        return Closing(None)
    since = min(recorded or now, now)  # never in the future, whatever clock wrote it
    if not spec.force_reclaim:
        return Closing(since)
    due = since + timedelta(seconds=spec.graceful_reclaim_period_seconds)
    return Closing(since, force_now=True) if now >= due else Closing(since, revisit_at=due)


def closed_at(vnode: Json | None) -> datetime | None:
    """Return when the window was seen to be shut, as noted on the virtual node; None: open, or illegible."""
    text = annotations_of(vnode).get(CLOSED_AT_ANNOTATION) if vnode else None
    try:
        moment = parse_time(text) if text else None
    except (ValueError, OverflowError):
        return None
    return moment
