"""Groups, days and totals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeocean.domain.simulation import simulate
from kubeocean.kube.meta import Json, name_of
from kubeocean.kube.quantity import Quantity
from kubeocean.simulate import amounts
from kubeocean.simulate.files import read_files
from kubeocean.simulate.given import Given, Side
from kubeocean.simulate.names import describe_names, natural, shorten, without_domain
from kubeocean.simulate.schedule import Schedule, Week, facts_of, plan
from kubeocean.simulate.world import build_world

BERLIN = ZoneInfo("Europe/Berlin")
DOCS = Path(__file__).parents[3] / "docs" / "simulate"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def week(begin: str, days: int = 7, zone: ZoneInfo = BERLIN) -> Week:
    start = datetime.fromisoformat(begin).replace(tzinfo=zone)
    return Week(start, start + timedelta(days=days), zone)


def documented(begin: str = "2026-03-23", days: int = 7) -> Schedule:
    return plan(build_world(read_files([DOCS], Side.EITHER)), week(begin, days), now=NOW)


LENGTHS: dict[str, tuple[Week, list[float]]] = {
    "a usual week": (week("2026-01-05", 3), [24, 24, 24]),
    "the clocks go forward": (week("2026-03-28", 3), [24, 23, 24]),
    "the clocks go back": (week("2026-10-24", 3), [24, 25, 24]),
    "from the middle of a day": (week("2026-01-05T18:00", 2), [6, 24, 18]),
    "half an hour on Lord Howe": (week("2026-10-04", 1, ZoneInfo("Australia/Lord_Howe")), [23.5]),
    "a midnight that no clock shows": (week("2026-09-06", 1, ZoneInfo("America/Santiago")), [23]),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_days_are_as_long_as_they_are(case: str) -> None:
    asked, hours = LENGTHS[case]
    days = list(asked.days())
    assert [(end - begin).total_seconds() / 3600 for begin, end in days] == hours
    assert (days[0][0], days[-1][1]) == (asked.begin, asked.end)
    assert all(one[1] == two[0] for one, two in pairwise(days))


def test_the_minute_at_which_clocks_change_is_found() -> None:
    assert list(week("2026-03-23").shifts()) == [datetime(2026, 3, 29, 1, tzinfo=UTC)]
    assert list(week("2026-10-19").shifts()) == [datetime(2026, 10, 25, 1, tzinfo=UTC)]
    assert list(week("2026-01-05").shifts()) == []


def test_nodes_with_one_schedule_are_one_group_and_those_never_leased_come_last() -> None:
    groups = documented().groups
    assert [describe_names(group.names) for group in groups] == ["lab-1…2", "office-1…6", "render-1…2", "database-1"]
    assert [group.is_leased for group in groups] == [True, True, True, False]


def test_amounts_are_sums_over_the_group() -> None:
    open_span = documented().groups[1].spans[0]
    assert {name: str(amount) for name, amount in open_span.leased.items()} == {"cpu": "48", "memory": "192Gi", "pods": "660"}


def test_totals_are_real_hours() -> None:
    schedule = documented()
    sunday = list(schedule.week.days())[-1]
    assert schedule.total(*sunday, "cpu") == 23 * (48 + 28)
    days = [schedule.total(begin, end, "memory") for begin, end in schedule.week.days()]
    assert sum(days) == pytest.approx(schedule.total(schedule.week.begin, schedule.week.end, "memory"))


def test_what_is_leased_at_an_instant_is_the_sum_of_the_policies() -> None:
    schedule = documented()
    for edge in schedule.edges():
        parts = [schedule.leased_at(edge, policy).get("cpu") for policy in schedule.policies]
        total = schedule.leased_at(edge)["cpu"]
        assert sum(part.nano for part in parts if part) == total.nano


HOURS = st.integers(0, 23).map(lambda hour: f"{hour:02}:00")
POOLS = st.lists(st.tuples(HOURS, HOURS, st.sampled_from((0, 50, 100)), st.booleans()), min_size=1, max_size=3)
NODES = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(("4", "8"))), min_size=1, max_size=8)


@settings(max_examples=15, deadline=None)
@given(POOLS, NODES)
def test_simulating_alike_nodes_once_changes_nothing(
    pools: list[tuple[str, str, int, bool]], nodes: list[tuple[int, str]]
) -> None:
    objects: list[Json] = [{
        "apiVersion": "cloud.tencent.com/v1beta1", "kind": "ResourceLeasingPolicy", "metadata": {"name": f"p{position}"},
        "spec": {
            "cluster": "b", "timeWindows": [{"start": start, "end": end}], "forceReclaim": force,
            "resourceLimits": [{"resource": "cpu", "percent": percent}], "nodeSelector": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "pool", "operator": "In", "values": [str(position)]}]}],
            },
        },
    } for position, (start, end, percent, force) in enumerate(pools)]
    objects += [{
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": f"n{position}", "labels": {"pool": str(pool)}},
        "status": {"allocatable": {"cpu": cpu}},
    } for position, (pool, cpu) in enumerate(nodes)]
    world = build_world([Given("f", Side.EITHER, obj) for obj in objects])
    asked = week("2026-03-28", 2)
    for lease in plan(world, asked, now=NOW).nodes:
        alone = simulate(facts_of(world, asked, lease.node, NOW), asked.begin, asked.end)
        assert [(each.begin, each.end, each.stage, each.leased) for each in lease.segments] == [
            (each.begin, each.end, each.stage, each.leased) for each in alone], name_of(lease.node)


NAMES: dict[str, tuple[list[str], str]] = {
    "one": (["a"], "a"),
    "a range": (["node-1", "node-3", "node-2"], "node-1…3"),
    "a range over ten": ([f"node-{number}" for number in range(8, 12)], "node-8…11"),
    "ranges and single ones": (["a-1", "a-2", "a-4", "b"], "a-1…2, a-4, b"),
    "more than there is room for": ([f"node-{number}-x" for number in range(5)], "node-0-x, node-1-x +3"),
    "one that is too long": (["a-very-long-name-of-a-node-that-does-not-fit"], "a-very-long-na…at-does-not-fit"),
}


@pytest.mark.parametrize("case", NAMES)
def test_many_names_take_little_room(case: str) -> None:
    names, expected = NAMES[case]
    assert describe_names(names) == expected


def test_a_domain_all_share_is_left_out() -> None:
    assert without_domain(["a.example", "b.example"]) == {"a.example": "a", "b.example": "b"}
    assert without_domain(["a.example", "b.test"]) == {"a.example": "a.example", "b.test": "b.test"}


@given(st.text(max_size=40), st.integers(2, 20))
def test_a_shortened_text_is_never_longer_than_asked(text: str, length: int) -> None:
    assert len(shorten(text, length)) <= max(length, 2)
    assert natural(text) == natural(text)


AMOUNTS = {
    ("cpu", "7500m"): "7.5 cores", ("cpu", "96"): "96 cores", ("cpu", "250m"): "0.25 cores", ("memory", "32Gi"): "32 GiB",
    ("memory", "1536Mi"): "1.5 GiB", ("nvidia.com/gpu", "3"): "3 nvidia.com/gpu", ("pods", "1100"): "1,100 pods",
    ("cpu", "0"): "0 cores", ("memory", "31234567Ki"): "29.8 GiB",
}


@pytest.mark.parametrize("case", AMOUNTS)
def test_amounts_are_said_as_people_say_them(case: tuple[str, str]) -> None:
    resource, text = case
    assert amounts.show(resource, Quantity.parse(text)) == AMOUNTS[case]
