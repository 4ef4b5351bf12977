"""Grace comes before eviction and eviction before force, and all of it outlives the process that began it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.api.names import CLOSED_AT_ANNOTATION, EXPECTED_METADATA_ANNOTATION
from kubeocean.api.policy import ResourceLeasingPolicySpec
from kubeocean.domain.reclaim import (
    ASK_AGAIN,
    AT_ONCE,
    NO_EXECUTE,
    PACE,
    Closing,
    NodePod,
    Phase,
    Reclaim,
    ReclaimFacts,
    closed_at,
    decide_closing,
    decide_reclaim,
    is_forced,
    next_to_ask,
    rank,
    read_node_pod,
)
from kubeocean.domain.vnode_diff import Expected
from kubeocean.kube.meta import Json, ObjectKey, format_time

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def minutes(count: int) -> datetime:
    return NOON + timedelta(minutes=count)


def spec(*, force: bool = True, grace: int = 0, timeout: int = 5) -> ResourceLeasingPolicySpec:
    return ResourceLeasingPolicySpec(
        cluster="b", force_reclaim=force, graceful_reclaim_period_seconds=grace * 60, reclaim_timeout_seconds=timeout * 60
    )


CLOSINGS: dict[str, tuple[ResourceLeasingPolicySpec, bool, datetime | None, Closing]] = {
    "an open window forgets when it was shut": (spec(), True, minutes(-5), Closing(None)),
    "without forceReclaim nobody is ever forced": (spec(force=False), False, minutes(-999), Closing(minutes(-999))),
    "grace 0 forces at once": (spec(), False, None, Closing(NOON, force_now=True)),
    "grace starts when the window is seen to be shut": (
        spec(grace=10), False, None, Closing(NOON, revisit_at=minutes(10))),
    "grace goes on where an earlier process noted it": (
        spec(grace=10), False, minutes(-4), Closing(minutes(-4), revisit_at=minutes(6))),
    "grace ends to the minute": (spec(grace=10), False, minutes(-10), Closing(minutes(-10), force_now=True)),
    "a note from the future is not waited for": (
        spec(grace=10), False, minutes(60), Closing(NOON, revisit_at=minutes(10))),
}


@pytest.mark.parametrize("case", CLOSINGS)
def test_decide_closing(case: str) -> None:
    policy, is_open, recorded, expected = CLOSINGS[case]
    assert decide_closing(policy, window_open=is_open, recorded=recorded, now=NOON) == expected


def pod(name: str, priority: int = 0, age: int = 0, **state: bool) -> NodePod:
    created = format_time(NOON - timedelta(seconds=age))
    tolerates, leaving, finished = (state.get(each, False) for each in ("tolerates", "leaving", "finished"))
    return NodePod(ObjectKey("ns", name), f"uid-{name}", priority, created, tolerates, leaving, finished)


A, B = pod("a", age=2), pod("b", age=1)
TOLERANT = pod("tolerant", tolerates=True)
LEAVING, FINISHED = pod("leaving", leaving=True), pod("finished", finished=True)


def reclaimed(
    *pods: NodePod, terms: ResourceLeasingPolicySpec | None = None, shut_for: int = 0, is_open: bool = False, **facts: Any
) -> Reclaim:
    """Return what is decided for a window that is shut for `shut_for` minutes."""
    terms = terms or spec(grace=10)
    recorded = minutes(-shut_for) if shut_for else None
    closing = decide_closing(terms, window_open=is_open, recorded=recorded, now=NOON)
    return decide_reclaim(ReclaimFacts(terms, is_open, closing, pods, NOON, **facts))


OTHERS = (TOLERANT, LEAVING, FINISHED)
RECLAIMS: dict[str, tuple[Reclaim, Reclaim]] = {
    "an open window takes nothing back": (reclaimed(A, is_open=True), Reclaim(Phase.OPEN)),
    "a window that opens in the middle undoes everything": (
        reclaimed(A, is_open=True, shut_for=12, forced_before=True), Reclaim(Phase.OPEN)),
    "without forceReclaim what runs may stay": (
        reclaimed(A, terms=spec(force=False), shut_for=9999), Reclaim(Phase.CLOSED)),
    "during the grace nobody is asked": (
        reclaimed(A, B, shut_for=4), Reclaim(Phase.GRACE, staying=2, deadline=minutes(11), revisit_at=minutes(6))),
    "after the grace Pods are asked, the youngest first": (
        reclaimed(A, B, *OTHERS, shut_for=10), Reclaim(Phase.EVICTING, (B, A), 2, minutes(5), revisit_at=NOON + PACE)),
    "grace 0 asks at once": (
        reclaimed(A, terms=spec()), Reclaim(Phase.EVICTING, (A,), 1, minutes(5), revisit_at=NOON + PACE)),
    "with nobody left it is forced": (reclaimed(shut_for=10), Reclaim(Phase.FORCED, deadline=minutes(5))),
    "who tolerates it, leaves or has finished keeps nobody waiting": (
        reclaimed(*OTHERS, shut_for=10), Reclaim(Phase.FORCED, deadline=minutes(5))),
    "when the time for asking is over the lender's word counts": (
        reclaimed(A, TOLERANT, shut_for=15), Reclaim(Phase.FORCED, staying=1, deadline=NOON, overdue=(A,))),
    "a timeout of 0 asks nobody": (
        reclaimed(A, terms=spec(timeout=0)), Reclaim(Phase.FORCED, staying=1, deadline=NOON, overdue=(A,))),
    "who comes too late does not take the force back": (
        reclaimed(A, shut_for=10, forced_before=True), Reclaim(Phase.FORCED, staying=1, deadline=minutes(5))),
    "a grace that was prolonged counts, whatever was forced before": (
        reclaimed(A, terms=spec(grace=20), shut_for=12, forced_before=True),
        Reclaim(Phase.GRACE, staying=1, deadline=minutes(13), revisit_at=minutes(8))),
    "who was asked a moment ago is not asked again": (
        reclaimed(A, B, shut_for=10, asked={B.uid: NOON}),
        Reclaim(Phase.EVICTING, (A,), 2, minutes(5), revisit_at=NOON + PACE)),
    "who alone is left is asked again after a while": (
        reclaimed(A, shut_for=10, asked={A.uid: NOON - SECOND}),
        Reclaim(Phase.EVICTING, (), 1, minutes(5), revisit_at=NOON - SECOND + ASK_AGAIN)),
    "the deadline is not slept through": (
        reclaimed(A, terms=spec(timeout=5), shut_for=5, asked={A.uid: NOON}),
        Reclaim(Phase.FORCED, staying=1, deadline=NOON, overdue=(A,))),
}


@pytest.mark.parametrize("case", RECLAIMS)
def test_decide_reclaim(case: str) -> None:
    found, expected = RECLAIMS[case]
    assert found == expected


def test_nothing_valid_in_force_evicts_nobody() -> None:
    shut = ReclaimFacts(None, False, Closing(minutes(-60), force_now=True), (A,), NOON)
    assert decide_reclaim(shut) == Reclaim(Phase.CLOSED)


def test_the_longest_periods_that_may_be_written_are_no_error() -> None:
    longest = ResourceLeasingPolicySpec(
        cluster="b", force_reclaim=True, graceful_reclaim_period_seconds=2**31 - 1, reclaim_timeout_seconds=2**31 - 1
    )
    late = datetime(9990, 1, 1, tzinfo=UTC)
    closing = decide_closing(longest, window_open=False, recorded=None, now=late)
    assert decide_reclaim(ReclaimFacts(longest, False, closing, (A,), late)).phase is Phase.GRACE


def test_the_order_is_priority_then_youth() -> None:
    pods = [pod("old", age=9), pod("vital", 100), pod("young", age=1), pod("least", -5, age=99)]
    assert [each.key.name for each in rank(pods)] == ["least", "young", "old", "vital"]


def test_a_crowd_is_asked_at_our_pace_and_each_one_once() -> None:
    crowd, now = [pod(f"{number:02}") for number in range(25)], NOON
    asked: dict[str, datetime] = {}
    asked_in_all: list[NodePod] = []
    for expected in (AT_ONCE, AT_ONCE, AT_ONCE):  # the last round begins anew with those that were asked first
        batch, revisit_at = next_to_ask(crowd, asked, now)
        assert len(batch) == expected
        assert revisit_at == now + PACE
        asked_in_all += batch
        asked |= {each.uid: now for each in batch}
        assert len(next_to_ask(crowd, asked, now + PACE / 2)[0]) == 0  # whatever wakes us in between
        now += PACE
    assert asked_in_all[:25] == crowd
    assert asked_in_all[25:] == crowd[:5]


STATES = st.fixed_dictionaries({"tolerates": st.booleans(), "leaving": st.booleans(), "finished": st.booleans()})
CROWD = st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 3), STATES), max_size=30).map(
    lambda several: [pod(f"p{number}", priority, age, **state) for number, (priority, age, state) in enumerate(several)]
)


@given(CROWD, st.integers(0, 40), st.integers(0, 20), st.integers(0, 20), st.booleans())
def test_nobody_is_asked_who_need_not_go_or_before_the_grace_is_over(
    pods: list[NodePod], shut_for: int, grace: int, timeout: int, forced_before: bool
) -> None:
    found = reclaimed(*pods, terms=spec(grace=grace, timeout=timeout), shut_for=shut_for, forced_before=forced_before)
    assert all(each.must_go for each in (*found.evict, *found.overdue))
    assert not found.evict or found.phase is Phase.EVICTING
    if shut_for < grace:
        assert found.phase is Phase.GRACE
    elif shut_for >= grace + timeout or not any(each.must_go for each in pods):
        assert found.phase is Phase.FORCED
    if found.phase in (Phase.GRACE, Phase.EVICTING):
        assert found.revisit_at is not None
        assert found.revisit_at > NOON


# --- what is read from the server ------------------------------------------------------------------------------------
TOLERATIONS: dict[str, tuple[list[Json], bool]] = {
    "none": ([], False),
    "the key, every effect": ([{"key": "kubeocean.io/out-of-time-windows", "operator": "Exists"}], True),
    "everything": ([{"operator": "Exists"}], True),
    "NoExecute": ([{"key": "kubeocean.io/out-of-time-windows", "operator": "Exists", "effect": "NoExecute"}], True),
    "NoSchedule only": ([{"key": "kubeocean.io/out-of-time-windows", "operator": "Exists", "effect": "NoSchedule"}], False),
    "the value": ([{"key": "kubeocean.io/out-of-time-windows", "value": "true"}], True),
    "another value": ([{"key": "kubeocean.io/out-of-time-windows", "value": "false"}], False),
    "for a while": ([{"operator": "Exists", "tolerationSeconds": 30}], True),
    "for no time at all": ([{"operator": "Exists", "tolerationSeconds": 0}], False),
}


@pytest.mark.parametrize("case", TOLERATIONS)
def test_to_tolerate_is_to_tolerate_no_execute(case: str) -> None:
    tolerations, expected = TOLERATIONS[case]
    read = read_node_pod({"metadata": {"name": "p", "namespace": "n"}, "spec": {"tolerations": tolerations, "containers": []}})
    assert read.tolerates is expected


def test_a_pod_is_read() -> None:
    read = read_node_pod({
        "metadata": {
            "name": "p", "namespace": "n", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z",
            "deletionTimestamp": "2026-01-01T00:01:00Z",
        },
        "spec": {"priority": 7, "containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]},
        "status": {"phase": "Running"},
    })
    assert (read.key, read.uid, read.priority, read.created) == (ObjectKey("n", "p"), "u", 7, "2026-01-01T00:00:00Z")
    assert (read.leaving, read.finished) == (True, False)
    assert {name: str(quantity) for name, quantity in read.requests.items()} == {"cpu": "2", "pods": "1"}


def test_the_note_is_read_back_to_the_microsecond() -> None:
    moment = NOON + timedelta(microseconds=7)
    assert closed_at({"metadata": {"annotations": {CLOSED_AT_ANNOTATION: Closing(moment).text}}}) == moment
    assert closed_at({"metadata": {"annotations": {CLOSED_AT_ANNOTATION: "2026-01-01T12:00:00Z"}}}) == NOON
    assert Closing(None).text == ""


@pytest.mark.parametrize("text", ["", "yesterday", "0001-01-01T00:00:00+23:00"])
def test_an_illegible_note_is_none(text: str) -> None:
    assert closed_at({"metadata": {"annotations": {CLOSED_AT_ANNOTATION: text}}}) is None
    assert closed_at(None) is None


def test_only_our_own_record_says_that_it_was_forced() -> None:
    def vnode(*taints: Json) -> Json:
        record = Expected({}, {}, list(taints)).encode()
        return {"metadata": {"annotations": {EXPECTED_METADATA_ANNOTATION: record}}, "spec": {"taints": [NO_EXECUTE]}}

    assert is_forced(vnode(NO_EXECUTE))
    assert not is_forced(vnode({**NO_EXECUTE, "effect": "NoSchedule"}))
    assert not is_forced(None)
