"""What is in force on a node: the terms of one policy, or what is left of both sides' together.

    borrower's spec -> Terms ─┐
                              intersect -> Terms: never more, longer or gentler than either side allows
    lender's spec   -> Terms ─┘

`Terms` are kept in one canonical form (at most one limit per resource, schedules in order and each once), so that
`intersect` is what its name promises: it does not matter who comes first, and two equal sides change nothing.

Windows are the exception to "one policy that says the same": an AND of windows in two time zones is no list of windows.
So the terms keep every side's windows as a `Schedule` and ask all of them (`window_of`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from kubeocean.api.policy import ResourceLeasingPolicySpec, ResourceLimit, TimeWindow
from kubeocean.api.zone import UNKNOWN_ZONE
from kubeocean.domain.windows import WindowState, state
from kubeocean.kube.quantity import Quantity

_LOOKS_AHEAD = 16  # openings held against the other side's: a week of daily windows; a pass must not take milliseconds


@dataclass(frozen=True, slots=True)
class Schedule:
    """The time windows of one side, at least one, read in IANA zone `zone`."""

    windows: tuple[TimeWindow, ...]
    zone: str

    def order(self) -> tuple[object, ...]:
        """Return what schedules are sorted by."""
        return self.zone, [(window.start, window.end, window.days) for window in self.windows]


@dataclass(frozen=True, slots=True)
class Terms:
    """When (all `schedules` must be open; none: always), how much, and how it is taken back.

    The last four are called as in a policy's spec. The grace means something only with `force_reclaim`; a
    `notice_seconds` of None gives no notice.
    """

    schedules: tuple[Schedule, ...]
    limits: tuple[ResourceLimit, ...]
    force_reclaim: bool
    graceful_reclaim_period_seconds: int
    reclaim_timeout_seconds: int
    notice_seconds: int | None


class ReclaimTerms(Protocol):
    """How a node is taken back: what `Terms` and a single policy's spec have in common."""

    @property
    def force_reclaim(self) -> bool:
        """Tell whether Pods are evicted at all."""

    @property
    def graceful_reclaim_period_seconds(self) -> int:
        """Return how long they may stay before that."""

    @property
    def reclaim_timeout_seconds(self) -> int:
        """Return how long evictions that disruption budgets block are retried."""

    @property
    def notice_seconds(self) -> int | None:
        """Return how long before the window closes Pods are warned, None for no warning."""


def is_readable(spec: ResourceLeasingPolicySpec, zone: str) -> bool:
    """Tell whether it can be told when a policy's windows are open; `zone` is for a policy that names none."""
    return (spec.time_zone or zone) != UNKNOWN_ZONE or not spec.time_windows


def terms_of(spec: ResourceLeasingPolicySpec, zone: str) -> Terms:
    """Return the terms of one policy that is readable; `zone` is for a policy that names none."""
    windows = tuple(spec.time_windows)
    return Terms(
        (Schedule(windows, spec.time_zone or zone),) if windows else (), _tightest(spec.resource_limits), spec.force_reclaim,
        spec.graceful_reclaim_period_seconds if spec.force_reclaim else 0, spec.reclaim_timeout_seconds, spec.notice_seconds,
    )


def intersect(one: Terms, other: Terms) -> Terms:
    """Return what both sides agree to: window AND window, the smaller limit per resource, the stricter reclaim.

    Stricter: force if either side does, the shorter grace, the shorter reclaim timeout, and the longer notice (which is the
    stricter duty towards those who must leave). The grace of a side that forces nobody is no promise and does not count:
    its default of 0 would otherwise cancel what the side that does force grants.
    """
    graces = [terms.graceful_reclaim_period_seconds for terms in (one, other) if terms.force_reclaim]
    notices = [terms.notice_seconds for terms in (one, other) if terms.notice_seconds is not None]
    return Terms(
        _all_of(one.schedules + other.schedules), _tightest(one.limits + other.limits),
        one.force_reclaim or other.force_reclaim, min(graces, default=0),
        min(one.reclaim_timeout_seconds, other.reclaim_timeout_seconds), max(notices, default=None),
    )


def window_of(schedules: Iterable[Schedule], now: datetime) -> WindowState:
    """Return whether all `schedules` are open at `now` (aware), and when that changes.

    `active` is the window that closes first. A `next_change` of None while shut means that no opening was found in the
    openings looked at; `revisit_at` is exact whatever it says.
    """
    schedules = tuple(schedules)

    def look(moment: datetime) -> list[WindowState]:
        return [state(schedule.windows, schedule.zone, moment) for schedule in schedules]

    states = look(now)
    if len(states) == 1:
        return states[0]
    revisit_at = min((each.revisit_at for each in states if each.revisit_at), default=None)
    if not all(each.open for each in states):
        return WindowState(False, None, _opening(states, look), revisit_at)
    first = min(states, key=lambda each: each.next_change or _NEVER, default=WindowState(open=True))
    return WindowState(True, first.active, first.next_change, revisit_at)


_NEVER = datetime.max.replace(tzinfo=UTC)


def _opening(states: list[WindowState], look: Callable[[datetime], list[WindowState]]) -> datetime | None:
    """Return the first moment at which all are open, found by going from one opening to the next."""
    for _ in range(_LOOKS_AHEAD):
        openings = [each.next_change for each in states if not each.open]
        known = [moment for moment in openings if moment is not None]
        if len(known) < len(openings):
            return None  # one of them never opens
        moment = max(known)  # before that at least this one is shut
        states = look(moment)
        if all(each.open for each in states):
            return moment
    return None


def _all_of(schedules: tuple[Schedule, ...]) -> tuple[Schedule, ...]:
    once: list[Schedule] = []
    for schedule in sorted(schedules, key=Schedule.order):
        if schedule not in once:
            once.append(schedule)
    return tuple(once)


def _tightest(limits: Iterable[ResourceLimit]) -> tuple[ResourceLimit, ...]:
    """Return one limit per resource, in order of name: the smallest quantity and the smallest percentage said of it."""
    by_name: dict[str, list[ResourceLimit]] = {}
    for limit in limits:
        by_name.setdefault(limit.resource, []).append(limit)
    return tuple(_smallest(name, by_name[name]) for name in sorted(by_name))


def _smallest(name: str, limits: list[ResourceLimit]) -> ResourceLimit:
    amounts = (Quantity.parse(limit.quantity) for limit in limits if limit.quantity is not None)
    # Of equal amounts written in two forms always the same one, whoever comes first.
    quantity = min(amounts, key=lambda amount: (amount.nano, amount.form), default=None)
    percent = min((limit.percent for limit in limits if limit.percent is not None), default=None)
    # Not validated again: it was when it was read, and a canonical text may be longer than what a manifest may say.
    return ResourceLimit.model_construct(
        resource=name, quantity=None if quantity is None else str(quantity), percent=percent
    )
