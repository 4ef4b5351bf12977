"""What will be leased of a node, and when, if nothing changes but the time.

    facts at an instant  ->  assess  ->  lease, and when to look again  ->  assess at that instant  ->  ...

The same question the syncer asks, asked at the same instants: `assess` says when time alone may change its answer, and
is asked again then. What a pass would leave on the virtual node (since when the window is shut, the policy to remember,
the figures) is carried from one question to the next on a shadow of that node, because the next answer depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from kubeocean.api.names import (
    CLOSED_AT_ANNOTATION,
    LAST_VALID_LENDER_POLICY_ANNOTATION,
    LAST_VALID_POLICY_ANNOTATION,
)
from kubeocean.domain.leasing import Lease, LeaseFacts, assess
from kubeocean.kube.meta import Json, annotations_of
from kubeocean.kube.quantity import Quantity

# Windows repeat weekly, so eight days earlier every window that is shut at the start has been seen to shut.
WARM_UP = timedelta(days=8)
_SHORTEST = timedelta(seconds=1)


class Stage(StrEnum):
    """How a node stands at an instant, in the words of the table and the legend."""

    NOT_LEASED = "not leased"
    OPEN = "open"
    GRACE = "grace"  # shut, and its Pods may stay a little longer
    SHUT = "closed"  # nothing new; Pods that run may stay (no forceReclaim)
    RECLAIMED = "reclaimed"  # shut, and Pods must go


@dataclass(frozen=True, slots=True)
class Segment:
    """A span of time, `end` not included, in which one lease holds."""

    begin: datetime
    end: datetime
    lease: Lease

    @property
    def stage(self) -> Stage:
        """Return how the node stands."""
        lease = self.lease
        if not lease.decision.leasable:
            return Stage.NOT_LEASED
        if lease.window.open:
            return Stage.OPEN
        if lease.closing.force_now:
            return Stage.RECLAIMED
        return Stage.GRACE if lease.closing.revisit_at else Stage.SHUT

    @property
    def leased(self) -> dict[str, Quantity]:
        """Return what new Pods may use, by resource name; nothing while the window is shut."""
        if self.stage is not Stage.OPEN:
            return {}
        return {name: Quantity.parse(text) for name, text in self.lease.capacity.resources.items()}


def simulate(facts: LeaseFacts, begin: datetime, end: datetime) -> tuple[Segment, ...]:
    """Return the segments that fill `begin` to `end` (aware) without a gap; none when `end` is not after `begin`.

    `facts.now` is the instant at which `facts.existing` was as it is, at `begin` at the latest: for a node without a
    virtual one take `begin - WARM_UP`, so that a window which is shut at `begin` is known to be shut since its edge.
    """
    return tuple(
        Segment(max(segment.begin, begin), min(segment.end, end), segment.lease)
        for segment in _walk(facts, end) if segment.end > begin
    )


def settle(facts: LeaseFacts, moment: datetime) -> LeaseFacts:
    """Return the facts as they will be at `moment`; unchanged when that has passed."""
    while facts.now < moment:
        lease = assess(facts)
        facts = follow(facts, lease, lease.revisit_at, moment)
    return facts


def follow(facts: LeaseFacts, lease: Lease, revisit_at: datetime | None, latest: datetime) -> LeaseFacts:
    """Return the facts for the pass after the one that found `lease`: at `revisit_at`, but at `latest` at the latest."""
    now = latest if revisit_at is None else min(latest, max(revisit_at, facts.now + _SHORTEST))
    return replace(facts, now=now, existing=_shadow(facts.existing, lease))


def _walk(facts: LeaseFacts, end: datetime) -> Iterator[Segment]:
    while facts.now < end:
        lease = assess(facts)
        begin, facts = facts.now, follow(facts, lease, lease.revisit_at, end)
        yield Segment(begin, facts.now, lease)


def _shadow(existing: Json | None, lease: Lease) -> Json | None:
    """Return the virtual node as a pass with this answer leaves it, as far as the next answer depends on it."""
    if not lease.decision.leasable:
        return existing  # going, or never made
    notes = {
        CLOSED_AT_ANNOTATION: lease.closing.text,
        LAST_VALID_POLICY_ANNOTATION: lease.remembered.text() if lease.remembered else "",
        LAST_VALID_LENDER_POLICY_ANNOTATION: lease.lender_remembered.text() if lease.lender_remembered else "",
    }
    existing = existing or {"metadata": {}}
    kept = {key: text for key, text in annotations_of(existing).items() if key not in notes}
    annotations = kept | {key: text for key, text in notes.items() if text}
    status = {**(existing.get("status") or {}), "allocatable": lease.capacity.resources}
    return {**existing, "metadata": {**existing["metadata"], "annotations": annotations}, "status": status}
