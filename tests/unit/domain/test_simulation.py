"""The schedule must be what the syncer would do: asked at any instant, `assess` says the same as the segment there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeocean.api.binding import ClusterBindingSpec, SecretReference
from kubeocean.api.names import CLOSED_AT_ANNOTATION
from kubeocean.domain.leasing import LeaseFacts, assess
from kubeocean.domain.lender import LenderView
from kubeocean.domain.policies import read_lender_policy, read_policy
from kubeocean.domain.simulation import WARM_UP, Segment, Stage, settle, simulate
from kubeocean.kube.meta import Json
from kubeocean.kube.quantity import Quantity

BERLIN = "Europe/Berlin"
BINDING = ClusterBindingSpec(
    cluster_id="c", secret_ref=SecretReference(name="s", namespace="n"), mount_namespace="m", time_zone=BERLIN,
)
NODE: Json = {"metadata": {"name": "node-1"}, "status": {"allocatable": {"cpu": "8", "memory": "32Gi"}}}
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# Berlin's clocks go forward on Sunday 2026-03-29 at 02:00, and back on Sunday 2026-10-25 at 03:00.
SPRING, AUTUMN = "2026-03-23", "2026-10-19"


def policy(*windows: str, **spec: Any) -> Json:
    parsed = []
    for window in windows:
        span, _, days = window.partition(" ")
        start, end = span.split("-")
        parsed.append({"start": start, "end": end, "days": days.split()})
    return {"metadata": {"name": "p"}, "spec": {"cluster": "b", "timeWindows": parsed, **spec}}


def facts(policies: Sequence[Json], begin: datetime, lender: Sequence[Json] = (), existing: Json | None = None) -> LeaseFacts:
    return LeaseFacts(
        physical=NODE, existing=existing, binding_name="b", binding=BINDING, policies=[read_policy(each) for each in policies],
        foreign={"cpu": Quantity.parse("2")}, now=begin if existing else begin - WARM_UP,
        lender=LenderView([read_lender_policy(each) for each in lender]),
    )


def at(text: str, zone: str = BERLIN) -> datetime:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)


def told(segments: Sequence[Segment], zone: str = BERLIN) -> list[str]:
    """Return the segments as a person in Berlin would tell them, neighbours alike as one."""
    lines: list[str] = []
    for segment in segments:
        line = f"{segment.begin.astimezone(ZoneInfo(zone)):%a %H:%M} {segment.stage}"
        if not lines or not lines[-1].endswith(f" {segment.stage}"):
            lines.append(line)
    return lines


WEEKS: dict[str, tuple[Json, str, int, list[str]]] = {
    "without windows it is always open": (policy(), SPRING, 7, ["Mon 00:00 open"]),
    "a window of office hours": (
        policy("09:00-16:59"), SPRING, 1, ["Mon 00:00 closed", "Mon 09:00 open", "Mon 17:00 closed"]),
    "a night belongs to the day it starts on: Monday's early hours are Sunday's": (
        policy("22:00-05:59 Sunday"), SPRING, 7, ["Mon 00:00 open", "Mon 06:00 closed", "Sun 22:00 open"]),
    "a night that starts on Friday ends on Saturday": (
        policy("22:00-05:59 Friday"), SPRING, 7, ["Mon 00:00 closed", "Fri 22:00 open", "Sat 06:00 closed"]),
    "a window that touches the next one is one stretch": (
        policy("08:00-11:59", "12:00-15:59"), SPRING, 1, ["Mon 00:00 closed", "Mon 08:00 open", "Mon 16:00 closed"]),
    "with forceReclaim Pods must go at once": (
        policy("09:00-16:59 Monday", forceReclaim=True), SPRING, 1,
        ["Mon 00:00 reclaimed", "Mon 09:00 open", "Mon 17:00 reclaimed"]),
    "with a grace they may stay a little": (
        policy("09:00-16:59", forceReclaim=True, gracefulReclaimPeriodSeconds=5400), SPRING, 1,
        ["Mon 00:00 reclaimed", "Mon 09:00 open", "Mon 17:00 grace", "Mon 18:30 reclaimed"]),
    "a grace that began before the beginning still runs": (
        policy("00:00-23:59 Sunday", forceReclaim=True, gracefulReclaimPeriodSeconds=7200), SPRING, 1,
        ["Mon 00:00 grace", "Mon 02:00 reclaimed"]),
    "a grace longer than the night is never over": (
        policy("06:00-21:59", forceReclaim=True, gracefulReclaimPeriodSeconds=36000), SPRING, 2,
        ["Mon 00:00 grace", "Mon 06:00 open", "Mon 22:00 grace", "Tue 06:00 open", "Tue 22:00 grace"]),
    "when the clocks go forward a window inside the gap stays shut": (
        policy("02:15-02:45"), "2026-03-28", 2, ["Sat 00:00 closed", "Sat 02:15 open", "Sat 02:46 closed"]),
    "when they go forward a window that starts in the gap opens after it": (
        policy("02:30-04:29"), "2026-03-29", 1, ["Sun 00:00 closed", "Sun 03:00 open", "Sun 04:30 closed"]),
    "when they go back an hour that is shown twice is open twice": (
        policy("02:00-02:29"), "2026-10-25", 1,
        ["Sun 00:00 closed", "Sun 02:00 open", "Sun 02:30 closed", "Sun 02:00 open", "Sun 02:30 closed"]),
    "a node no policy selects is not leased": (
        policy(cluster="another"), SPRING, 7, ["Mon 00:00 not leased"]),
}


@pytest.mark.parametrize("promise", WEEKS)
def test_a_week(promise: str) -> None:
    given_policy, begin, days, expected = WEEKS[promise]
    end = (at(begin).astimezone(ZoneInfo(BERLIN)) + timedelta(days=days)).astimezone(UTC)
    assert told(simulate(facts([given_policy], at(begin)), at(begin), end)) == expected


def test_both_sides_must_be_open() -> None:
    lender = policy("12:00-23:59", cluster="*", timeZone="Asia/Shanghai")  # 05:00 to 16:59 in Berlin's winter
    segments = simulate(facts([policy("09:00-20:59")], at(SPRING), [lender]), at(SPRING), at("2026-03-24"))
    assert told(segments) == ["Mon 00:00 closed", "Mon 09:00 open", "Mon 17:00 closed"]


def test_what_is_leased_is_what_assess_says_and_nothing_while_it_is_shut() -> None:
    limited = policy("09:00-16:59", resourceLimits=[{"resource": "cpu", "percent": 50}])
    segments = simulate(facts([limited], at(SPRING)), at(SPRING), at("2026-03-24"))
    assert [{name: str(amount) for name, amount in segment.leased.items()} for segment in segments] == [
        {}, {"cpu": "3", "memory": "32Gi"}, {}]


def test_a_virtual_node_that_was_closed_late_keeps_its_own_grace() -> None:
    forced = policy("09:00-16:59", forceReclaim=True, gracefulReclaimPeriodSeconds=3600)
    vnode: Json = {"metadata": {"name": "v", "annotations": {CLOSED_AT_ANNOTATION: "2026-03-23T17:00:00Z"}}}
    begin = at("2026-03-23T18:10")  # 17:10 UTC: the syncer has seen the edge an hour late
    segments = simulate(facts([forced], begin, existing=vnode), begin, at("2026-03-23T20:00"))
    assert told(segments) == ["Mon 18:10 grace", "Mon 19:00 reclaimed"]


def test_an_empty_time_has_no_segments() -> None:
    assert simulate(facts([policy()], at(SPRING)), at(SPRING), at(SPRING)) == ()


def test_nothing_that_is_given_is_changed() -> None:
    vnode: Json = {"metadata": {"name": "v", "annotations": {"kept": "yes"}}, "status": {"allocatable": {}}}
    simulate(facts([policy("09:00-16:59")], at(SPRING), existing=vnode), at(SPRING), at("2026-03-25"))
    assert vnode == {"metadata": {"name": "v", "annotations": {"kept": "yes"}}, "status": {"allocatable": {}}}


MINUTES = st.integers(0, 24 * 60 - 1).map(lambda minute: f"{minute // 60:02}:{minute % 60:02}")
WINDOWS = st.lists(
    st.builds(
        lambda start, end, days: {"start": start, "end": end, "days": days},
        MINUTES, MINUTES, st.lists(st.sampled_from(DAYS), max_size=3, unique=True),
    ),
    max_size=3,
)
ZONES = st.sampled_from((BERLIN, "UTC", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"))
SPECS = st.builds(
    lambda windows, zone, force, grace: {
        "metadata": {"name": "p"},
        "spec": {
            "cluster": "b", "timeWindows": windows, "timeZone": zone, "forceReclaim": force,
            "gracefulReclaimPeriodSeconds": grace,
        },
    },
    WINDOWS, ZONES, st.booleans(), st.sampled_from((0, 600, 7200, 10**6)),
)
MOMENTS = st.lists(st.integers(0, 7 * 86400 - 1), min_size=1, max_size=6)  # seconds of the week


@settings(max_examples=25, deadline=None)
@given(st.lists(SPECS, min_size=1, max_size=2), st.lists(SPECS, max_size=1), st.sampled_from((SPRING, AUTUMN)), MOMENTS)
def test_at_any_instant_the_schedule_says_what_assess_says(
    policies: list[Json], lender: list[Json], start: str, moments: list[int]
) -> None:
    begin, known = at(start), facts(policies, at(start), lender)
    end = begin + timedelta(days=7)
    segments = simulate(known, begin, end)
    assert (segments[0].begin, segments[-1].end) == (begin, end)
    assert all(one.end == two.begin for one, two in pairwise(segments))
    for second in moments:
        moment = begin + timedelta(seconds=second)
        segment = next(each for each in segments if each.begin <= moment < each.end)
        lease = assess(replace(known, now=moment))
        assert (segment.stage is Stage.OPEN) == lease.window.open
        assert (segment.lease.decision, segment.lease.capacity) == (lease.decision, lease.capacity)
        assert segment.lease.window.active == lease.window.active


@settings(max_examples=20, deadline=None)
@given(SPECS, st.sampled_from((SPRING, AUTUMN)), MOMENTS)
def test_pods_must_go_exactly_when_the_grace_since_the_last_closing_is_over(
    spec: Json, start: str, moments: list[int]
) -> None:
    begin, known = at(start), facts([spec], at(start))
    end = begin + timedelta(days=7)
    segments = simulate(known, begin - timedelta(days=7), end)
    grace = timedelta(seconds=spec["spec"]["gracefulReclaimPeriodSeconds"])
    for second in moments:
        moment = begin + timedelta(seconds=second)
        before = [each for each in segments if each.begin <= moment]
        if before[-1].stage is Stage.OPEN:
            continue
        opened = [each.end for each in before if each.stage is Stage.OPEN]
        shut_since = max(opened, default=None)
        if shut_since is None:  # never open in a week: not in two either
            continue
        must_go = spec["spec"]["forceReclaim"] and moment >= shut_since + grace
        assert (before[-1].stage is Stage.RECLAIMED) == must_go


def test_settling_at_an_instant_is_walking_there() -> None:
    forced = policy("09:00-16:59", forceReclaim=True, gracefulReclaimPeriodSeconds=3600)
    settled = settle(facts([forced], at(SPRING)), at("2026-03-23T17:30"))
    assert settled.now == at("2026-03-23T17:30")
    assert settled.existing is not None
    closed = datetime.fromisoformat(settled.existing["metadata"]["annotations"][CLOSED_AT_ANNOTATION])
    assert closed == at("2026-03-23T17:00")
