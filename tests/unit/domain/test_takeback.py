"""How a node stands, what it shows of that, and what is announced: each thing once, whoever comes to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubeocean.api.binding import ClusterBindingSpec, SecretReference
from kubeocean.api.names import CLOSED_AT_ANNOTATION, EXPECTED_METADATA_ANNOTATION
from kubeocean.domain.announcements import announce, to_latecomer
from kubeocean.domain.leasing import LeaseFacts, assess
from kubeocean.domain.notice import Notice, decide_notice
from kubeocean.domain.policies import read_policy
from kubeocean.domain.reclaim import NO_EXECUTE, NodePod, Phase, note_instant
from kubeocean.domain.takeback import Situation, announced_end, exceeded_since, stand
from kubeocean.domain.vnode_diff import Expected
from kubeocean.domain.windows import WindowState
from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.kube.quantity import Quantity

NOON = datetime(2026, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)  # a Thursday, and no whole second
CLOSES = NOON.replace(minute=31, microsecond=0)
BINDING = ClusterBindingSpec(
    cluster_id="edge", secret_ref=SecretReference(name="s", namespace="n"), mount_namespace="mount"
)
PHYSICAL: Json = {"metadata": {"name": "node-1"}, "status": {"allocatable": {"cpu": "8"}}}
FORENOON: list[Json] = [{"start": "09:00", "end": "12:30"}]
NIGHT: list[Json] = [{"start": "22:00", "end": "05:59"}]


def pod(name: str, *, cpu: str = "1", tolerates: bool = False) -> NodePod:
    requests = {"cpu": Quantity.parse(cpu)}
    return NodePod(ObjectKey("ns", name), f"uid-{name}", 0, "2026-01-01T00:00:00Z", tolerates, False, False, requests)


A, B, TOLERANT = pod("a"), pod("b"), pod("tolerant", tolerates=True)


def situation(
    existing: Json | None = None, *pods: NodePod, now: datetime = NOON, asked: dict[str, datetime] | None = None, **spec: Any
) -> Situation:
    obj: Json = {"metadata": {"name": "rlp", "uid": "u"}, "spec": {"cluster": "binding", **spec}}
    lease = assess(LeaseFacts(PHYSICAL, existing, "binding", BINDING, [read_policy(obj)], {}, now))
    return stand(lease, existing, pods, now, asked)


def vnode(
    *conditions: Json, closed: datetime | None = None, forced: bool = False
) -> Json:
    annotations = {EXPECTED_METADATA_ANNOTATION: Expected({}, {}, [NO_EXECUTE] if forced else []).encode()}
    if closed:
        annotations[CLOSED_AT_ANNOTATION] = note_instant(closed)
    return {"metadata": {"name": "v", "annotations": annotations}, "status": {"conditions": list(conditions)}}


def as_written(found: Situation, **state: Any) -> Json:
    """Return the virtual node as it is after the pass that found this."""
    return vnode(*found.conditions, closed=found.closing.since, forced=found.forced, **state)


# --- notice ----------------------------------------------------------------------------------------------------------
def test_the_notice_begins_as_long_before_the_edge_as_the_policy_says() -> None:
    early = situation(vnode(), timeWindows=FORENOON, noticeSeconds=600)
    assert early.notice == Notice(revisit_at=CLOSES - timedelta(seconds=600))
    assert (early.revisit_at, early.conditions) == (CLOSES - timedelta(seconds=600), ())
    ending = situation(vnode(), timeWindows=FORENOON, noticeSeconds=600, now=CLOSES - timedelta(seconds=600))
    assert ending.notice.ends_at == CLOSES
    assert [(each["type"], each["status"], each["reason"]) for each in ending.conditions] == [
        ("LeaseEnding", "True", "WindowEnds")]


@pytest.mark.parametrize("spec", [
    {"timeWindows": FORENOON}, {"timeWindows": FORENOON, "noticeSeconds": 0}, {"noticeSeconds": 600},
    {"timeWindows": NIGHT, "noticeSeconds": 80_000},
], ids=["no notice", "a notice of 0", "no windows", "shut already"])
def test_without_an_edge_or_a_notice_nothing_is_ending(spec: Json) -> None:
    assert situation(vnode(), **spec).notice == Notice()


def test_the_longest_notice_is_no_error() -> None:
    policy = situation(vnode(), timeWindows=FORENOON, noticeSeconds=2**31 - 1)
    assert policy.notice.ends_at == CLOSES
    early = datetime(1, 1, 3, tzinfo=UTC)
    assert policy.lease.terms is not None
    assert decide_notice(policy.lease.terms, WindowState(True, None, early + timedelta(days=20)), early).revisit_at


@pytest.mark.parametrize(("spec", "then"), [
    ({}, "no new Pods are placed then, those that run may stay"),
    ({"forceReclaim": True}, "Pods are evicted then"),
    ({"forceReclaim": True, "gracefulReclaimPeriodSeconds": 90}, "Pods are evicted from 2026-01-01T12:32:30Z on"),
])
def test_the_notice_says_when_and_what_then(spec: Json, then: str) -> None:
    found = situation(vnode(), timeWindows=FORENOON, noticeSeconds=3600, **spec)
    assert found.notice.text == f"the time window ends at 2026-01-01T12:31:00Z; {then}"


# --- conditions ------------------------------------------------------------------------------------------------------
ENDING: Json = {"timeWindows": FORENOON, "noticeSeconds": 3600, "forceReclaim": True}
EXCEEDED: Json = {"resourceLimits": [{"resource": "cpu", "quantity": 1}]}


@pytest.mark.parametrize("spec", [ENDING, EXCEEDED], ids=["ending", "exceeded"])
def test_what_is_shown_stays_as_it_is(spec: Json) -> None:
    first = situation(vnode(), A, B, **spec)
    later = situation(as_written(first), A, B, now=NOON + timedelta(seconds=40), **spec)
    assert first.conditions
    assert later.conditions == first.conditions


def test_conditions_that_never_held_are_not_mentioned() -> None:
    assert situation(None).conditions == situation(vnode(), A).conditions == ()


def test_what_was_ending_is_over_once_and_said_once() -> None:
    shown = as_written(situation(vnode(), A, **ENDING))
    reopened = situation(shown, A, timeWindows=[{"start": "00:00", "end": "23:00"}], noticeSeconds=60)
    shut = situation(shown, A, now=CLOSES, **ENDING)
    for found, reason in ((reopened, "WindowOpen"), (shut, "WindowClosed")):
        assert [(each["type"], each["status"], each["reason"]) for each in found.conditions] == [
            ("LeaseEnding", "False", reason)]
    assert announced_end(as_written(shut)) == ""
    assert situation(as_written(shut), A, now=CLOSES + timedelta(hours=1), **ENDING).conditions == ()


def test_overhang_is_shown_with_its_amounts_and_since_when() -> None:
    (condition,) = situation(vnode(), A, B, **EXCEEDED).conditions
    assert condition == {
        "type": "LeaseExceeded", "status": "True", "reason": "LimitExceeded", "message": "cpu: 2 requested, 1 leased",
        "lastTransitionTime": "2026-01-01T12:00:01Z",  # the next whole second: a grace never ends early
    }
    shown = vnode(condition)
    assert exceeded_since(shown) == NOON.replace(second=1, microsecond=0)
    (over,) = situation(shown, A, **EXCEEDED).conditions
    assert (over["status"], over["reason"]) == ("False", "WithinLimits")
    assert exceeded_since(vnode(over)) is None


@pytest.mark.parametrize("time", [None, "yesterday", ""])
def test_an_illegible_time_of_overhang_is_none(time: str | None) -> None:
    assert exceeded_since(vnode({"type": "LeaseExceeded", "status": "True", "lastTransitionTime": time or "x"})) is None


def test_the_grace_of_overhang_is_counted_from_what_the_node_shows() -> None:
    terms: Json = {**EXCEEDED, "forceReclaim": True, "gracefulReclaimPeriodSeconds": 60}
    shown = as_written(situation(vnode(), A, B, **terms))
    due = NOON.replace(second=1, microsecond=0) + timedelta(seconds=60)
    waiting = situation(shown, A, B, now=due - timedelta(seconds=1), **terms)
    assert (waiting.overhang.evict, waiting.overhang.revisit_at, waiting.evicts) == ((), due, False)
    assert situation(shown, A, B, now=due, **terms).evicts


def test_without_anything_valid_in_force_nobody_is_moved() -> None:
    found = situation(vnode(closed=NOON - timedelta(days=1), forced=True), A, timeZone="Mars/Olympus")
    assert (found.reclaim.phase, found.evicts, found.forced) == (Phase.CLOSED, False, False)


# --- announcements ---------------------------------------------------------------------------------------------------
def told(before: Json, found: Situation) -> dict[str, list[str]]:
    """Return the reasons announced, each with the Pods that are told."""
    return {each.reason: [affected.key.name for affected in each.pods] for each in announce(before, found)}


SHUT: Json = {"timeWindows": NIGHT}
FORCE: Json = {**SHUT, "forceReclaim": True}
GRACE: Json = {**FORCE, "gracefulReclaimPeriodSeconds": 60}
LONG_AGO = NOON - timedelta(hours=5)
CHANGES: dict[str, tuple[Json, Situation, dict[str, list[str]]]] = {
    "nothing": (vnode(), situation(vnode(), A), {}),
    "a window shuts": (vnode(), situation(vnode(), A, **SHUT), {"WindowClosed": []}),
    "a window shuts with a grace": (vnode(), situation(vnode(), A, B, TOLERANT, **GRACE), {"WindowClosed": ["a", "b"]}),
    "a window shuts without a grace": (vnode(), situation(vnode(), A, **FORCE), {"WindowClosed": []}),
    "a window shuts over an empty node": (vnode(), situation(vnode(), **FORCE), {"WindowClosed": [], "Reclaimed": []}),
    "a window stays shut": (
        vnode(closed=NOON), situation(vnode(closed=NOON), A, **GRACE), {}),
    "a window opens": (vnode(closed=NOON), situation(vnode(closed=NOON), A), {"WindowOpened": []}),
    "nobody is left": (vnode(closed=NOON), situation(vnode(closed=NOON), **FORCE), {"Reclaimed": []}),
    "the time for asking is over": (
        vnode(closed=LONG_AGO), situation(vnode(closed=LONG_AGO), A, TOLERANT, **FORCE), {"ReclaimTimeout": ["a"]}),
    "it was forced before": (
        vnode(closed=LONG_AGO, forced=True), situation(vnode(closed=LONG_AGO, forced=True), A, **FORCE), {}),
    "the end comes near": (vnode(), situation(vnode(), A, TOLERANT, **ENDING), {"LeaseEnding": ["a"]}),
    "the end comes near, and nobody has to go": (
        vnode(), situation(vnode(), A, **{**ENDING, "forceReclaim": False}), {"LeaseEnding": []}),
    "the end was announced": (
        as_written(situation(vnode(), A, **ENDING)), situation(as_written(situation(vnode(), A, **ENDING)), A, **ENDING), {}),
    "another end was announced": (
        as_written(situation(vnode(), A, **ENDING)),
        situation(vnode(), A, **{**ENDING, "timeWindows": [{"start": "09:00", "end": "12:20"}]}), {"LeaseEnding": ["a"]}),
    "a limit shrinks": (vnode(), situation(vnode(), A, B, **EXCEEDED), {"LeaseExceeded": []}),
    "what runs fits again": (
        as_written(situation(vnode(), A, B, **EXCEEDED)),
        situation(as_written(situation(vnode(), A, B, **EXCEEDED)), A, **EXCEEDED), {"LeaseKept": []}),
}


@pytest.mark.parametrize("case", CHANGES)
def test_announce(case: str) -> None:
    before, found, expected = CHANGES[case]
    assert told(before, found) == expected


def test_announcements_say_when() -> None:
    (closed,) = announce(vnode(), situation(vnode(), A, **GRACE))
    assert closed.message == "the time window is shut: no new Pods; those that run are evicted from 2026-01-01T12:01:00Z on"
    (kept,) = announce(vnode(), situation(vnode(), A, **SHUT))
    assert kept.message == "the time window is shut: no new Pods; those that run may stay"


def test_who_comes_late_is_warned_like_the_others() -> None:
    found = situation(vnode(), A, **ENDING)
    late = to_latecomer(found, B)
    assert late is not None
    assert (late.reason, late.pods) == ("LeaseEnding", (B,))
    assert to_latecomer(found, TOLERANT) is None
    assert to_latecomer(situation(vnode(), A, **{**ENDING, "forceReclaim": False}), B) is None
    assert to_latecomer(situation(vnode(), A), B) is None
