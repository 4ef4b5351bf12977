"""The timelines of all nodes, put together for a reader: groups with one schedule, edges, totals.

Nodes whose lease opens, shuts and is governed alike make one group, however much each of them gives; amounts are sums
over a group. A row of the picture, and a name in the table, is a group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from kubeocean.domain.leasing import Lease, LeaseFacts, assess
from kubeocean.domain.requests import sum_requests
from kubeocean.domain.simulation import WARM_UP, Segment, Stage, simulate
from kubeocean.kube.meta import Json, name_of
from kubeocean.kube.quantity import ZERO, Quantity
from kubeocean.simulate.names import natural, without_domain
from kubeocean.simulate.world import World

Amounts = Mapping[str, Quantity]


@dataclass(frozen=True, slots=True)
class Week:
    """What is asked: from when (aware) to when, shown in which zone; `default_zone` is for policies that name none."""

    begin: datetime
    end: datetime
    zone: ZoneInfo
    default_zone: str = "UTC"

    def __post_init__(self) -> None:
        """Keep instants in UTC: Python subtracts two times of one zone by the wall clock."""
        object.__setattr__(self, "begin", self.begin.astimezone(UTC))
        object.__setattr__(self, "end", self.end.astimezone(UTC))

    def local(self, moment: datetime) -> datetime:
        """Return the moment as the clock in the chosen zone shows it."""
        return moment.astimezone(self.zone)

    def days(self) -> Iterator[tuple[datetime, datetime]]:
        """Yield begin and end of each local day, in UTC, cut to what is asked: 23 or 25 hours where clocks change."""
        day = self.local(self.begin).date()
        while (start := _midnight(day, self.zone)) < self.end:
            day += timedelta(days=1)
            yield max(start, self.begin), min(_midnight(day, self.zone), self.end)

    def shifts(self) -> Iterator[datetime]:
        """Yield the minutes at which the clocks of the zone are changed."""
        for begin, end in self.days():
            moment = begin
            while self.local(moment).utcoffset() != self.local(end).utcoffset():
                moment += timedelta(minutes=1)
            if moment > begin:
                yield moment


@dataclass(frozen=True, slots=True)
class NodeLease:
    """One physical node and its lease from the beginning to the end."""

    node: Json
    segments: tuple[Segment, ...]

    @property
    def allocatable(self) -> Amounts:
        """Return what the node has, leased or not."""
        return {name: Quantity.parse(text) for name, text in self.node["status"]["allocatable"].items()}


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a group's row. `policy` is whoever speaks for the nodes, `leased` the sum while it is open."""

    begin: datetime
    end: datetime
    stage: Stage
    policy: str
    message: str
    leased: Amounts


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes with one schedule, in natural order of their names. `names` are those, without the domain all have in common."""

    nodes: tuple[NodeLease, ...]
    names: tuple[str, ...]
    spans: tuple[Span, ...]

    @property
    def is_leased(self) -> bool:
        """Tell whether anything is ever leased of these nodes."""
        return any(span.stage is not Stage.NOT_LEASED for span in self.spans)

    @property
    def policies(self) -> tuple[str, ...]:
        """Return the policies that speak for these nodes."""
        return tuple(dict.fromkeys(span.policy for span in self.spans if span.policy))


@dataclass(frozen=True, slots=True)
class Schedule:
    """The answer: who is leased when. `groups` in order of their first node's name, those that are not leased last."""

    week: Week
    world: World
    groups: tuple[Group, ...]

    @property
    def nodes(self) -> tuple[NodeLease, ...]:
        """Return every node's lease."""
        return tuple(lease for group in self.groups for lease in group.nodes)

    @property
    def policies(self) -> tuple[str, ...]:
        """Return the policies that lease anything, sorted: the order of colours and of the stack."""
        leasing = {span.policy for group in self.groups for span in group.spans if span.stage is not Stage.NOT_LEASED}
        return tuple(sorted(leasing, key=natural))

    def leased_at(self, moment: datetime, policy: str = "") -> Amounts:
        """Return what is leased at a moment, by all policies or by one."""
        spans = (span for group in self.groups for span in group.spans if span.begin <= moment < span.end)
        return sum_requests(span.leased for span in spans if not policy or span.policy == policy)

    def edges(self) -> list[datetime]:
        """Return the instants at which anything changes, the beginning included."""
        return sorted({span.begin for group in self.groups for span in group.spans})

    def total(self, begin: datetime, end: datetime, resource: str) -> float:
        """Return what is leased of a resource between two instants, in units times hours."""
        return sum(
            span.leased.get(resource, ZERO).nano / 1e9 * _hours(max(begin, span.begin), min(end, span.end))
            for group in self.groups for span in group.spans
        )

    def owned(self, resource: str) -> Quantity:
        """Return how much all nodes together have, leased or not."""
        return sum_requests(lease.allocatable for lease in self.nodes).get(resource, ZERO)


def plan(world: World, week: Week, *, now: datetime) -> Schedule:
    """Return who is leased when. `now` is the instant at which the world was seen as it is (aware)."""
    by_schedule: dict[tuple[object, ...], list[NodeLease]] = {}
    for lease in sorted(_leases(world, week, now), key=lambda lease: natural(name_of(lease.node))):
        by_schedule.setdefault(tuple(_visible(segment) for segment in lease.segments), []).append(lease)
    short = without_domain([name_of(node) for node in world.nodes])
    found = (_group(tuple(members), short) for members in by_schedule.values())
    groups = sorted(found, key=lambda group: not group.is_leased)
    return Schedule(week, world, tuple(groups))


def facts_of(world: World, week: Week, node: Json, now: datetime) -> LeaseFacts:
    """Return what decides about one node, at the instant from which its future can be told."""
    name = name_of(node)
    existing = world.vnodes.get(name)
    known_at = min(now, week.begin) if existing else week.begin - WARM_UP
    return LeaseFacts(
        physical=node, existing=existing, binding_name=world.binding_name, binding=world.binding, policies=world.policies,
        foreign=world.foreign.get(name, {}), now=known_at, time_zone=week.default_zone, lender=world.lender,
    )


def policy_name(lease: Lease) -> str:
    """Return who speaks for a node, both sides' policies where both do, "" when nobody does."""
    if lease.policies_applied:
        return lease.policies_applied.replace(",", " + ")
    return next((choice.winner.name for choice in (lease.choice, lease.lender) if choice.winner), "")


def _leases(world: World, week: Week, now: datetime) -> Iterator[NodeLease]:
    """Yield every node's lease; a thousand machines of one kind are simulated once.

    Of all that decides, time alone changes here, and a lease holds whatever time acts upon: two nodes with the same one at
    the same instant have the same future.
    """
    futures: dict[tuple[datetime, str], tuple[Segment, ...]] = {}
    for node in world.nodes:
        facts = facts_of(world, week, node, now)
        present = facts.now, repr(assess(facts))
        if present not in futures:
            futures[present] = simulate(facts, week.begin, week.end)
        yield NodeLease(node, futures[present])


def _visible(segment: Segment) -> tuple[object, ...]:
    """Return what of a segment a reader sees, its amounts apart."""
    message = segment.lease.decision.message if segment.stage is Stage.NOT_LEASED else ""
    return segment.begin, segment.end, segment.stage, policy_name(segment.lease), message


def _group(members: tuple[NodeLease, ...], short: Mapping[str, str]) -> Group:
    spans: list[Span] = []
    for together in zip(*(lease.segments for lease in members), strict=True):
        begin, end, stage, policy, message = together[0].begin, together[0].end, *_looks(together[0])
        span = Span(begin, end, stage, policy, message, sum_requests(segment.leased for segment in together))
        if spans and replace(spans[-1], begin=begin, end=end) == span:  # another window, the same lease
            spans[-1] = replace(spans[-1], end=end)
        else:
            spans.append(span)
    return Group(members, tuple(short[name_of(lease.node)] for lease in members), tuple(spans))


def _looks(segment: Segment) -> tuple[Stage, str, str]:
    message = segment.lease.decision.message if segment.stage is Stage.NOT_LEASED else ""
    return segment.stage, policy_name(segment.lease), message


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, datetime.min.time(), zone).astimezone(UTC)


def _hours(begin: datetime, end: datetime) -> float:
    return max(0.0, (end - begin).total_seconds() / 3600)
