"""When more runs than is leased: told always, and with forceReclaim just enough Pods go, the least important first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.api.policy import ResourceLeasingPolicySpec
from kubeocean.domain.overhang import Overhang, OverhangFacts, choose_victims, decide_overhang, find_excess, refuse_growth
from kubeocean.domain.reclaim import AT_ONCE, PACE, NodePod, rank
from kubeocean.domain.requests import sum_requests
from kubeocean.kube.meta import ObjectKey, format_time
from kubeocean.kube.quantity import ZERO, Quantity

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def amounts(texts: Mapping[str, str | int]) -> dict[str, Quantity]:
    return {name: Quantity.parse(text) for name, text in texts.items()}


def pod(name: str, priority: int = 0, age: int = 0, *, marks: str = "", **requests: str | int) -> NodePod:
    created = format_time(NOON - timedelta(seconds=age))
    return NodePod(
        ObjectKey("ns", name), f"uid-{name}", priority, created, tolerates="t" in marks, leaving="l" in marks,
        finished="f" in marks, requests=amounts({**requests, "pods": 1}),
    )


def names(pods: tuple[NodePod, ...]) -> list[str]:
    return [each.key.name for each in pods]


OLD, YOUNG, VITAL = pod("old", age=9, cpu=2), pod("young", age=1, cpu=2), pod("vital", 10, age=1, cpu=2)
VICTIMS: dict[str, tuple[list[NodePod], dict[str, str | int], list[str]]] = {
    "all fits": ([OLD, YOUNG], {"cpu": 4}, []),
    "of equals the youngest goes": ([OLD, YOUNG], {"cpu": 3}, ["young"]),
    "the lowest priority goes first, however old": ([VITAL, OLD], {"cpu": 2}, ["old"]),
    "as many as it takes": ([VITAL, OLD, YOUNG], {"cpu": 2}, ["young", "old"]),
    "nothing leased moves everybody who takes of it": ([VITAL, OLD, pod("free")], {"cpu": 0}, ["old", "vital"]),
    "who takes nothing of what is short may stay": (
        [pod("least", -9, memory="1Gi"), OLD, YOUNG], {"cpu": 2, "memory": "1Gi"}, ["young"]),
    "one large Pod instead of a small one and it": (
        [pod("small", age=1, cpu=1), pod("large", age=2, cpu=4)], {"cpu": 2}, ["large"]),
    "the count of Pods is a resource": ([OLD, YOUNG, VITAL], {"pods": 1}, ["young", "old"]),
    "who leaves already counts as gone": ([OLD, pod("leaving", cpu=2, marks="l")], {"cpu": 2}, []),
    "who has finished takes nothing": ([OLD, pod("done", cpu=2, marks="f")], {"cpu": 2}, []),
    "who tolerates it is never chosen": ([VITAL, pod("tolerant", -5, cpu=2, marks="t")], {"cpu": 2}, ["vital"]),
    "two resources, one victim": (
        [pod("both", age=1, cpu=1, gpu=1), pod("cpu", age=2, cpu=1), pod("gpu", age=3, gpu=1)],
        {"cpu": 1, "gpu": 1}, ["both"]),
}


@pytest.mark.parametrize("case", VICTIMS)
def test_choose_victims(case: str) -> None:
    pods, leased, expected = VICTIMS[case]
    assert names(choose_victims(pods, amounts(leased))) == expected


AMOUNTS = st.fixed_dictionaries({}, optional={"cpu": st.integers(0, 4), "memory": st.integers(0, 4)})
MARKS = st.sampled_from(["", "", "", "t", "l", "f"])
PODS = st.lists(st.tuples(st.integers(-1, 1), st.integers(0, 3), MARKS, AMOUNTS), max_size=10)
LEASED = st.fixed_dictionaries({}, optional={"cpu": st.integers(0, 8), "memory": st.integers(0, 8), "pods": st.integers(0, 8)})


def crowd(several: list[Any]) -> list[NodePod]:
    return [
        pod(f"p{number}", priority, age, marks=marks, **requests)
        for number, (priority, age, marks, requests) in enumerate(several)
    ]


def excess_without(pods: list[NodePod], gone: set[str], leased: Mapping[str, Quantity]) -> dict[str, Quantity]:
    """Return what is still requested beyond `leased` when `gone` (and whoever leaves anyhow) are away."""
    total = sum_requests(each.requests for each in pods if not (each.leaving or each.finished or each.uid in gone))
    return {name: total.get(name, ZERO) - amount for name, amount in leased.items() if total.get(name, ZERO) > amount}


@given(PODS, LEASED)
def test_just_enough_and_no_more(several: list[Any], texts: dict[str, int]) -> None:
    pods, leased = crowd(several), amounts(texts)
    victims = choose_victims(pods, leased)
    gone = {each.uid for each in victims}
    assert all(each.must_go for each in victims)
    # What still does not fit then is due to Pods that cannot be moved.
    movable = {each.uid for each in pods if each.must_go}
    assert excess_without(pods, gone, leased) == excess_without(pods, movable, leased)
    for each in victims:  # nobody could have been spared
        spared = excess_without(pods, gone - {each.uid}, leased)
        assert any(spared.get(name, ZERO) > ZERO for name in each.requests), f"{each.key.name} went for nothing"


@given(PODS, LEASED)
def test_nobody_goes_while_a_lesser_one_that_would_do_as_well_stays(several: list[Any], texts: dict[str, int]) -> None:
    pods, leased = crowd(several), amounts(texts)
    victims = choose_victims(pods, leased)
    gone, order = {each.uid for each in victims}, [each for each in rank(pods) if each.must_go]
    best = excess_without(pods, {each.uid for each in order}, leased)
    for victim in victims:
        # With him and everybody above him spared, those below are not enough.
        below = {each.uid for each in order[: order.index(victim)]}
        assert excess_without(pods, below, leased) != best
    assert list(victims) == [each for each in order if each.uid in gone]


@given(PODS, LEASED, st.randoms())
def test_the_order_of_arrival_does_not_matter(several: list[Any], texts: dict[str, int], random: Any) -> None:
    pods = crowd(several)
    shuffled = random.sample(pods, len(pods))
    assert choose_victims(pods, amounts(texts)) == choose_victims(shuffled, amounts(texts))


# --- when ------------------------------------------------------------------------------------------------------------
def spec(*, force: bool = True, grace: int = 0) -> ResourceLeasingPolicySpec:
    return ResourceLeasingPolicySpec(cluster="b", force_reclaim=force, graceful_reclaim_period_seconds=grace)


EXCESS = {"cpu": (Quantity.parse("4"), Quantity.parse("3"))}
REASONS = {"cpu": "quantity", "memory": "free"}
FACTS = OverhangFacts(spec(), True, {"cpu": "3", "memory": "1Gi"}, REASONS, (OLD, YOUNG), None, NOON)


def seconds(count: int) -> datetime:
    return NOON + timedelta(seconds=count)


MOMENTS: dict[str, tuple[OverhangFacts, Overhang]] = {
    "all fits": (replace(FACTS, leased={"cpu": "4"}), Overhang()),
    "what the node does not have at all is not held against it": (replace(FACTS, leased={"gpu": "0"}), Overhang()),
    "without force it is only told": (replace(FACTS, terms=spec(force=False)), Overhang(EXCESS, NOON)),
    "nothing valid in force only tells": (replace(FACTS, terms=None), Overhang(EXCESS, NOON)),
    "a shut window moves everybody anyway": (replace(FACTS, window_open=False), Overhang(EXCESS, NOON)),
    "grace 0 asks at once": (FACTS, Overhang(EXCESS, NOON, evict=(YOUNG,), revisit_at=NOON + PACE)),
    "during the grace nobody is asked": (
        replace(FACTS, terms=spec(grace=60), since=seconds(-20)), Overhang(EXCESS, seconds(-20), revisit_at=seconds(40))),
    "a note from the future is not waited for": (
        replace(FACTS, terms=spec(grace=60), since=seconds(20)), Overhang(EXCESS, NOON, revisit_at=seconds(60))),
    "after the grace they are asked": (
        replace(FACTS, terms=spec(grace=60), since=seconds(-60)),
        Overhang(EXCESS, seconds(-60), evict=(YOUNG,), revisit_at=NOON + PACE)),
    "when the time for asking is over they are deleted": (
        replace(FACTS, terms=spec(grace=60), since=seconds(-360)),
        Overhang(EXCESS, seconds(-360), delete=(YOUNG,), revisit_at=NOON + PACE)),
    "where no limit is at work nobody is moved": (replace(FACTS, reasons={"cpu": "free"}), Overhang(EXCESS, NOON)),
    "figures that were only kept move nobody": (replace(FACTS, reasons={"cpu": "kept"}), Overhang(EXCESS, NOON)),
    "who leaves is still told of": (
        replace(FACTS, pods=(OLD, replace(YOUNG, leaving=True))), Overhang(EXCESS, NOON)),
}


@pytest.mark.parametrize("case", MOMENTS)
def test_decide_overhang(case: str) -> None:
    facts, expected = MOMENTS[case]
    assert decide_overhang(facts) == expected


def test_many_are_asked_at_our_pace() -> None:
    many = tuple(pod(str(number), cpu=1) for number in range(50))
    assert len(decide_overhang(replace(FACTS, pods=many)).evict) == AT_ONCE


GROWTH = {
    "it fits": ({"cpu": 1}, {"cpu": 2}, {"cpu": "3"}, ""),
    "to the last bit": ({"cpu": 1}, {"cpu": 2}, {"cpu": "2"}, ""),
    "beyond": ({"cpu": 1}, {"cpu": 2}, {"cpu": "1"}, "cpu: 2 requested, 1 leased"),
    "less of what is too much": ({"cpu": 3}, {"cpu": 2}, {"cpu": "1"}, ""),
    "more of something else": ({"cpu": 2, "memory": 1}, {"cpu": 2, "memory": 2}, {"cpu": "1", "memory": "5"}, ""),
    "more of what it took none of": ({}, {"cpu": 2}, {"cpu": "1"}, "cpu: 2 requested, 1 leased"),
    "of something that is not leased": ({"cpu": 1}, {"cpu": 2}, {"memory": "1"}, "cpu: 2 requested, 0 leased"),
    "beyond the machine, whose kubelet says so": ({"cpu": 1}, {"cpu": 9}, {"cpu": "3"}, ""),
    "beside others": ({"memory": 1}, {"memory": 2}, {"memory": "4"}, "memory: 5 requested, 4 leased"),
}


@pytest.mark.parametrize("case", GROWTH)
def test_refuse_growth(case: str) -> None:
    before, wanted, leased, told = GROWTH[case]
    refusal = refuse_growth(amounts(before), amounts(wanted), amounts({"memory": 3}), leased, {"cpu": "8", "memory": "8"})
    assert (f"({told})" in refusal.message) if refusal else not told


def test_the_amounts_are_told() -> None:
    assert Overhang(EXCESS, NOON).text == "cpu: 4 requested, 3 leased"
    assert find_excess([OLD], amounts({"cpu": 2, "pods": 0})).keys() == {"pods"}
