"""What `kubectl get rlp` tells, and that it is written only when it changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubeocean.api.policy import ResourceLeasingPolicyStatus, TimeWindow
from kubeocean.domain.policies import read_policy
from kubeocean.domain.policystatus import PolicyFacts, diff_policy_status, phase, sum_leased
from kubeocean.domain.windows import WindowState
from kubeocean.kube.meta import Json
from kubeocean.kube.patch import apply_merge

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
DAY = WindowState(True, TimeWindow(start="09:00", end="17:00"), NOON + timedelta(hours=5), None)
NIGHT = WindowState(False, None, NOON + timedelta(hours=10), None)


def policy(status: Json | None = None, **spec: Any) -> Json:
    metadata = {"name": "rlp", "uid": "u", "generation": 2, "resourceVersion": "7"}
    return {"metadata": metadata, "spec": {"cluster": "binding", **spec}, "status": status or {}}


def facts(obj: Json | None = None, **fields: Any) -> PolicyFacts:
    obj = obj or policy()
    defaults: Json = {
        "binding_exists": True, "window": DAY, "won": 2, "overshadowed_by": (), "leased": {"cpu": "8"}, "now": NOON,
    }
    return PolicyFacts(obj=obj, policy=read_policy(obj), **{**defaults, **fields})


def invalid() -> Json:
    return policy(timeZone="Mars/Olympus")


# status and reason of Valid, Active and Effective, in that order
STORIES: dict[str, tuple[PolicyFacts, str, list[tuple[str, str]]]] = {
    "a policy in its window is active": (
        facts(), "Active", [("True", "ValidationPassed"), ("True", "ActiveTimeWindow"), ("True", "Winning")]),
    "a policy without windows is active": (
        facts(window=WindowState(True)), "Active",
        [("True", "ValidationPassed"), ("True", "ActiveTimeWindow"), ("True", "Winning")]),
    "a policy outside of its windows is inactive": (
        facts(window=NIGHT), "Inactive",
        [("True", "ValidationPassed"), ("False", "InactiveTimeWindow"), ("True", "Winning")]),
    "a policy in a zone that nobody knows does not say that its window is over": (
        facts(window=WindowState(False), zone_known=False), "Inactive",
        [("True", "ValidationPassed"), ("False", "TimeZoneUnknown"), ("True", "Winning")]),
    "a policy without its binding waits": (
        facts(binding_exists=False, won=0), "Pending",
        [("True", "ValidationPassed"), ("True", "ActiveTimeWindow"), ("False", "NoNodes")]),
    "a policy that selects nothing says so": (
        facts(won=0), "Active", [("True", "ValidationPassed"), ("True", "ActiveTimeWindow"), ("False", "NoNodes")]),
    "a policy that lost everywhere names the winner": (
        facts(won=0, overshadowed_by=("strict",)), "Active",
        [("True", "ValidationPassed"), ("True", "ActiveTimeWindow"), ("False", "Overshadowed")]),
    "a policy that lost somewhere is effective": (
        facts(overshadowed_by=("strict",)), "Active",
        [("True", "ValidationPassed"), ("True", "ActiveTimeWindow"), ("True", "Winning")]),
    "an invalid policy has failed": (
        facts(invalid(), window=None), "Failed",
        [("False", "ValidationError"), ("False", "ValidationError"), ("True", "Winning")]),
}


def written(story: PolicyFacts) -> Json:
    patch = diff_policy_status(story)
    assert patch is not None
    status: Json = patch["status"]
    return status


@pytest.mark.parametrize("story", STORIES)
def test_the_status_tells_the_story(story: str) -> None:
    given, expected_phase, expected = STORIES[story]
    status = written(given)
    assert phase(given) == status["phase"] == expected_phase
    assert [item["type"] for item in status["conditions"]] == ["Valid", "Active", "Effective"]
    assert [(item["status"], item["reason"]) for item in status["conditions"]] == expected
    ResourceLeasingPolicyStatus.model_validate(status)


@pytest.mark.parametrize("story", STORIES)
def test_a_second_pass_writes_nothing_whatever_the_time(story: str) -> None:
    given, _, _ = STORIES[story]
    patch = diff_policy_status(given)
    assert patch is not None
    after = apply_merge(given.obj, patch)
    again = replace(given, obj=after, now=LATER)
    assert diff_policy_status(again) is None


def test_figures_and_the_next_change_are_told() -> None:
    status = written(facts())
    assert (status["activeTimeWindow"], status["nextChangeTime"]) == (True, "2026-01-01T17:00:00Z")
    assert (status["nodes"], status["leased"], status["lastAppliedTime"]) == (2, {"cpu": "8"}, "2026-01-01T12:00:00Z")


def test_a_write_carries_the_version_it_was_decided_on() -> None:
    patch = diff_policy_status(facts())
    assert patch is not None
    assert patch["metadata"] == {"resourceVersion": "7"}


def test_messages_name_the_remedy() -> None:
    def message(story: PolicyFacts, kind: str) -> str:
        return next(str(item["message"]) for item in written(story)["conditions"] if item["type"] == kind)

    assert "spec.timeZone" in message(facts(invalid(), window=None), "Valid")
    assert "raise spec.priority" in message(facts(won=0, overshadowed_by=("a", "a")), "Effective")
    assert "create it" in message(facts(won=0, binding_exists=False), "Effective")
    assert "strict" in message(facts(overshadowed_by=("strict",)), "Effective")


def test_since_when_is_kept_while_the_answer_is_the_same() -> None:
    before = policy(written(facts()))
    later = written(facts(before, window=NIGHT, now=LATER))
    since = {item["type"]: item["lastTransitionTime"] for item in later["conditions"]}
    assert since == {
        "Valid": "2026-01-01T12:00:00Z", "Active": "2026-01-01T13:00:00Z", "Effective": "2026-01-01T12:00:00Z",
    }


def test_what_others_wrote_stays() -> None:
    theirs = {"type": "Audited", "status": "True"}
    before = policy({"conditions": [theirs], "borrowers": [{"virtualClusterUID": "x"}], "leased": {"pods": "1"}})
    status = written(facts(before))
    assert theirs in status["conditions"]
    assert "borrowers" not in status
    assert status["leased"] == {"cpu": "8", "pods": None}


def test_leases_add_up() -> None:
    assert sum_leased([{"cpu": "1500m", "memory": "1Gi"}, {"cpu": "500m"}, {}]) == {"cpu": "2", "memory": "1Gi"}
    assert sum_leased([]) == {}
