"""Who speaks for a node, and what happens when he cannot be understood."""

from __future__ import annotations

from typing import Any

import pytest

from kubeocean.api.names import LAST_VALID_POLICY_ANNOTATION
from kubeocean.domain.policies import Choice, Remembered, choose_policy, read_policy, remembered_policy, validate_policy
from kubeocean.kube.meta import Json

NODE: Json = {"metadata": {"name": "node-1", "labels": {"zone": "a"}}}


def policy(name: str, *, created: str = "2026-01-01T00:00:00Z", deleting: bool = False, **spec: Any) -> Json:
    metadata = {"name": name, "uid": f"uid-{name}", "creationTimestamp": created}
    if deleting:
        metadata["deletionTimestamp"] = "2026-02-01T00:00:00Z"
    return {"metadata": metadata, "spec": {"cluster": "binding", **spec}}


def selecting(zone: str, operator: str = "In") -> Json:
    return {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": operator, "values": [zone]}]}]}


def choose(*policies: Json, remembered: Remembered | None = None) -> Choice:
    return choose_policy(NODE, [read_policy(item) for item in policies], "binding", remembered)


def remember(obj: Json) -> Remembered:
    spec = read_policy(obj).spec
    assert spec is not None
    return Remembered(obj["metadata"]["name"], spec)


CHOICES: dict[str, tuple[list[Json], str | None, list[str]]] = {
    "without a policy nobody wins": ([], None, []),
    "a policy of another binding is not asked": ([policy("a", cluster="other")], None, []),
    "a policy that selects other nodes is not asked": ([policy("a", nodeSelector=selecting("b"))], None, []),
    "a policy that is being deleted has no say": ([policy("a", deleting=True), policy("b")], "b", []),
    "without a selector every node is meant": ([policy("a")], "a", []),
    "the highest priority wins": ([policy("a"), policy("b", priority=5), policy("c", priority=-1)], "b", ["a", "c"]),
    "then the oldest": ([policy("a", created="2026-01-02T00:00:00Z"), policy("b")], "b", ["a"]),
    "then the first by name": ([policy("b"), policy("a")], "a", ["b"]),
    "priority counts before age": (
        [policy("old"), policy("new", created="2027-01-01T00:00:00Z", priority=1)], "new", ["old"]),
}


@pytest.mark.parametrize("case", CHOICES)
def test_choose_policy(case: str) -> None:
    policies, winner, losers = CHOICES[case]
    choice = choose(*policies)
    assert (choice.winner.name if choice.winner else None) == winner
    assert [loser.name for loser in choice.losers] == losers
    assert choice.reason == ("Winning" if winner else "NoPolicy")


NOWHERE = "Mars/Olympus"


def test_an_invalid_policy_wins_but_leases_nothing_new() -> None:
    choice = choose(policy("strict", priority=9, timeZone=NOWHERE), policy("generous"))
    assert choice.winner is not None
    assert (choice.winner.name, choice.spec, choice.reason) == ("strict", None, "PolicyInvalid")
    assert "spec.timeZone" in choice.message


def test_its_last_valid_version_stays_in_force() -> None:
    before = policy("night", timeWindows=[{"start": "22:00", "end": "06:00"}])
    choice = choose(policy("night", timeWindows=[{"start": "25:00", "end": "06:00"}]), remembered=remember(before))
    assert choice.reason == "LastValidPolicy"
    assert choice.spec == read_policy(before).spec


def test_its_last_valid_selector_and_priority_count_too() -> None:
    before = policy("a", priority=3, nodeSelector=selecting("a"))
    now = policy("a", priority=0, nodeSelector=selecting("a", operator="Near"))
    assert choose(now, policy("b", priority=2), remembered=remember(before)).spec == read_policy(before).spec


def test_a_memory_of_another_policy_is_of_no_use() -> None:
    assert choose(policy("a", timeZone=NOWHERE), remembered=remember(policy("b"))).spec is None


def test_a_valid_policy_needs_no_memory() -> None:
    choice = choose(policy("a", priority=1), remembered=remember(policy("a", priority=7)))
    assert choice.spec is not None
    assert choice.spec.priority == 1


def test_an_illegible_selector_without_memory_selects_nothing() -> None:
    assert choose(policy("a", nodeSelector=selecting("a", operator="Near"))).winner is None
    assert choose(policy("a", nodeSelector="zone=a")).winner is None


def test_the_memory_survives_the_annotation() -> None:
    memory = remember(policy("a", resourceLimits=[{"resource": "cpu", "quantity": 4, "percent": 0}], forceReclaim=True))
    vnode = {"metadata": {"name": "v", "annotations": {LAST_VALID_POLICY_ANNOTATION: memory.text()}}}
    assert remembered_policy(vnode) == memory


ILLEGIBLE = ["", "{", "[]", "7", "null", '{"name": "a"}', '{"name": "a", "spec": {"cluster": 7}}', '{"spec": {}}']


@pytest.mark.parametrize("text", ILLEGIBLE)
def test_an_illegible_memory_is_none(text: str) -> None:
    assert remembered_policy({"metadata": {"name": "v", "annotations": {LAST_VALID_POLICY_ANNOTATION: text}}}) is None
    assert remembered_policy(None) is None


PROBLEMS: dict[str, tuple[dict[str, Any], str]] = {
    "25 o'clock": ({"timeWindows": [{"start": "09:00", "end": "25:00"}]}, "spec.timeWindows[0].end"),
    "an unknown day": (
        {"timeWindows": [{"start": "09:00", "end": "17:00", "days": ["Caturday"]}]}, "spec.timeWindows[0].days[0]"),
    "an unknown zone": ({"timeZone": "Mars/Olympus"}, "spec.timeZone"),
    "150 percent": ({"resourceLimits": [{"resource": "cpu", "percent": 150}]}, "spec.resourceLimits[0].percent"),
    "less than nothing": (
        {"resourceLimits": [{"resource": "cpu", "quantity": "-1"}]}, "spec.resourceLimits[0].quantity"),
    "negative grace": ({"gracefulReclaimPeriodSeconds": -1}, "spec.gracefulReclaimPeriodSeconds"),
    "an unknown operator": ({"nodeSelector": selecting("a", operator="Near")}, "spec.nodeSelector"),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_a_problem_names_its_field(case: str) -> None:
    spec, field = PROBLEMS[case]
    (problem,) = validate_policy(policy("a", **spec))
    assert str(problem).startswith(field)
    assert read_policy(policy("a", **spec)).problems == (problem,)


def test_an_object_without_a_spec_is_invalid_and_harmless() -> None:
    bare: Json = {"metadata": {"name": "a"}}
    assert read_policy(bare).problems
    assert choose(bare).winner is None


def test_two_readings_are_equal_when_they_decide_the_same() -> None:
    one = policy("a", nodeSelector=selecting("a"))
    assert read_policy(one) == read_policy({**one, "status": {"phase": "Active"}})
    assert read_policy(one) != read_policy(policy("a", nodeSelector=selecting("b")))
    assert read_policy(one) != read_policy(policy("a", nodeSelector=selecting("a"), priority=1))
