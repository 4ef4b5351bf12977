"""What two sides agree to: never more than either of them allows, whoever is asked first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeocean.api.policy import ResourceLeasingPolicySpec
from kubeocean.domain.leasing import lease_capacity
from kubeocean.domain.terms import Terms, intersect, terms_of, window_of
from kubeocean.domain.windows import state
from kubeocean.kube.meta import Json
from kubeocean.kube.quantity import Quantity

MONDAY = datetime(2026, 1, 5, 12, tzinfo=UTC)


def spec(**fields: Any) -> ResourceLeasingPolicySpec:
    return ResourceLeasingPolicySpec.model_validate({"cluster": "b", **fields})


def terms(**fields: Any) -> Terms:
    return terms_of(spec(**fields), "UTC")


def at(hour: int, minute: int = 0, *, days: int = 0) -> datetime:
    return MONDAY.replace(hour=hour, minute=minute) + timedelta(days=days)


# --- how it is taken back --------------------------------------------------------------------------------------------
RECLAIM: dict[str, tuple[Json, Json, Json]] = {
    "either side may force": ({"forceReclaim": True}, {}, {"force_reclaim": True}),
    "nobody forces, nobody is forced": ({}, {}, {"force_reclaim": False, "graceful_reclaim_period_seconds": 0}),
    "the shorter grace counts": (
        {"forceReclaim": True, "gracefulReclaimPeriodSeconds": 600}, {"forceReclaim": True, "gracefulReclaimPeriodSeconds": 60},
        {"graceful_reclaim_period_seconds": 60}),
    "the grace of a side that forces nobody does not count": (
        {"forceReclaim": True, "gracefulReclaimPeriodSeconds": 600}, {"gracefulReclaimPeriodSeconds": 0},
        {"force_reclaim": True, "graceful_reclaim_period_seconds": 600}),
    "the shorter timeout counts": (
        {"reclaimTimeoutSeconds": 30}, {}, {"reclaim_timeout_seconds": 30}),
    "the longer notice counts": ({"noticeSeconds": 60}, {"noticeSeconds": 900}, {"notice_seconds": 900}),
    "a notice of one side is given": ({}, {"noticeSeconds": 0}, {"notice_seconds": 0}),
    "without any there is none": ({}, {}, {"notice_seconds": None}),
}


@pytest.mark.parametrize("case", RECLAIM)
def test_the_stricter_reclaim_counts(case: str) -> None:
    one, other, expected = RECLAIM[case]
    both = intersect(terms(**one), terms(**other))
    assert {name: getattr(both, name) for name in expected} == expected


def test_of_each_resource_the_smaller_quantity_and_the_smaller_percentage_count() -> None:
    half: Json = {"resource": "memory", "quantity": "16Gi", "percent": 50}
    quarter: Json = {"resource": "memory", "quantity": "20Gi", "percent": 25}
    one = terms(resourceLimits=[half, {"resource": "cpu", "quantity": 4}])
    other = terms(resourceLimits=[quarter, {"resource": "pods", "percent": 0}])
    found = [(limit.resource, limit.quantity, limit.percent) for limit in intersect(one, other).limits]
    assert found == [("cpu", "4", None), ("memory", "16Gi", 25), ("pods", None, 0)]


# --- when ------------------------------------------------------------------------------------------------------------
DAY = [{"start": "09:00", "end": "16:59"}]
NOON_TO_NIGHT = [{"start": "12:00", "end": "22:59"}]
NIGHT = [{"start": "20:00", "end": "05:59"}]
WEEKEND = [{"start": "00:00", "end": "23:59", "days": ["saturday", "sunday"]}]
WINDOWS: dict[str, tuple[Json, Json, datetime, bool, datetime | None]] = {
    "no windows on either side: always open": ({}, {}, at(12), True, None),
    "one side's windows alone": ({"timeWindows": DAY}, {}, at(12), True, at(17)),
    "both open: until the first closes": ({"timeWindows": DAY}, {"timeWindows": NOON_TO_NIGHT}, at(13), True, at(17)),
    "one shut: until it opens, if the other is open then": (
        {"timeWindows": DAY}, {"timeWindows": NOON_TO_NIGHT}, at(10), False, at(12)),
    "both shut: until the later one opens": (
        {"timeWindows": DAY}, {"timeWindows": NOON_TO_NIGHT}, at(23), False, at(12, days=1)),
    "an opening of the one meets a shut window of the other": (
        {"timeWindows": WEEKEND}, {"timeWindows": NIGHT}, at(12), False, at(0, days=5)),
    "windows that never meet never open": ({"timeWindows": DAY}, {"timeWindows": NIGHT}, at(12), False, None),
    "each side's own zone counts": (
        {"timeWindows": DAY, "timeZone": "Asia/Shanghai"}, {"timeWindows": DAY, "timeZone": "Asia/Kolkata"},
        at(2), False, at(3, 30)),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_the_lease_is_open_while_both_windows_are(case: str) -> None:
    one, other, now, is_open, change = WINDOWS[case]
    found = window_of(intersect(terms(**one), terms(**other)).schedules, now)
    assert (found.open, found.next_change) == (is_open, change)


def test_it_is_worth_a_visit_whenever_either_side_changes() -> None:
    both = intersect(terms(timeWindows=DAY), terms(timeWindows=NIGHT))
    assert window_of(both.schedules, at(12)).revisit_at == at(17)


# --- laws ------------------------------------------------------------------------------------------------------------
CLOCK = st.builds(lambda hour, minute: f"{hour:02}:{minute:02}", st.integers(0, 23), st.sampled_from([0, 30, 59]))
DAYS = st.lists(st.sampled_from(["Monday", "friday", "SUNDAY"]), max_size=2)
WINDOW = st.fixed_dictionaries({"start": CLOCK, "end": CLOCK, "days": DAYS})
QUANTITY = st.sampled_from(["0", "500m", "2", "2000m", "1Gi", "1073741824", "3e3", "7"]) | st.integers(0, 9)
LIMIT = st.fixed_dictionaries(
    {"resource": st.sampled_from(["cpu", "memory", "example.com/gpu"])},
    optional={"quantity": QUANTITY, "percent": st.integers(0, 100)},
)
SECONDS = st.integers(0, 900)
SPECS = st.fixed_dictionaries({}, optional={
    "timeWindows": st.lists(WINDOW, max_size=2), "timeZone": st.sampled_from(["UTC", "Asia/Shanghai", "America/New_York"]),
    "resourceLimits": st.lists(LIMIT, max_size=4), "forceReclaim": st.booleans(), "gracefulReclaimPeriodSeconds": SECONDS,
    "reclaimTimeoutSeconds": SECONDS, "noticeSeconds": SECONDS,
}).map(lambda fields: spec(**fields))
TERMS = SPECS.map(lambda each: terms_of(each, "UTC"))
NODE: Json = {"status": {"allocatable": {"cpu": "8", "memory": "3Gi", "example.com/gpu": "5", "pods": "110"}}}
FOREIGN = st.fixed_dictionaries({"cpu": st.integers(0, 9), "memory": st.integers(0, 2**32)}).map(
    lambda amounts: {name: Quantity.parse(amount) for name, amount in amounts.items()}
)


@given(TERMS, TERMS)
def test_it_does_not_matter_who_comes_first(one: Terms, other: Terms) -> None:
    assert intersect(one, other) == intersect(other, one)


@given(TERMS)
def test_two_equal_sides_change_nothing(one: Terms) -> None:
    assert intersect(one, one) == one


@given(st.lists(TERMS, min_size=3, max_size=3))
def test_it_does_not_matter_which_two_agree_first(three: list[Terms]) -> None:
    assert reduce(intersect, three) == reduce(intersect, reversed(three))


@given(TERMS, TERMS, FOREIGN)
def test_never_more_is_leased_than_either_side_allows(one: Terms, other: Terms, foreign: dict[str, Quantity]) -> None:
    def leased(each: Terms) -> dict[str, Quantity]:
        resources = lease_capacity(NODE, each.limits, foreign).resources
        return {name: Quantity.parse(text) for name, text in resources.items()}

    both, alone = leased(intersect(one, other)), (leased(one), leased(other))
    assert both == {name: min(side[name] for side in alone) for name in both}


@given(SPECS, FOREIGN)
def test_canonical_terms_lease_what_the_policy_says(one: ResourceLeasingPolicySpec, foreign: dict[str, Quantity]) -> None:
    as_written = lease_capacity(NODE, one.resource_limits, foreign).resources
    canonical = lease_capacity(NODE, terms_of(one, "UTC").limits, foreign).resources
    assert {name: Quantity.parse(text) for name, text in as_written.items()} == {
        name: Quantity.parse(text) for name, text in canonical.items()
    }


@settings(max_examples=30)
@given(SPECS, SPECS, st.integers(0, 20_000))
def test_it_is_open_exactly_while_both_sides_are(
    one: ResourceLeasingPolicySpec, other: ResourceLeasingPolicySpec, minutes: int
) -> None:
    now = MONDAY + timedelta(minutes=minutes)
    found = window_of(intersect(terms_of(one, "UTC"), terms_of(other, "UTC")).schedules, now)

    def both_open(moment: datetime) -> bool:
        return all(state(each.time_windows, each.time_zone or "UTC", moment).open for each in (one, other))

    assert found.open == both_open(now)
    if found.next_change:
        assert found.next_change > now
        assert both_open(found.next_change) != found.open
        assert both_open(found.next_change - timedelta(seconds=1)) == found.open


@given(TERMS, TERMS)
def test_the_reclaim_is_no_gentler_than_either_side_asks(one: Terms, other: Terms) -> None:
    both = intersect(one, other)
    for side in (one, other):
        assert both.reclaim_timeout_seconds <= side.reclaim_timeout_seconds
        assert (both.notice_seconds or 0) >= (side.notice_seconds or 0)
        if side.force_reclaim:
            assert both.force_reclaim
            assert both.graceful_reclaim_period_seconds <= side.graceful_reclaim_period_seconds
