"""What a lender reads in his policies about his borrowers, several of whom write to one object."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubeocean.api.crd import crds
from kubeocean.api.policy import ResourceLeasingPolicyStatus
from kubeocean.domain.lenderstatus import (
    ALL_FIELDS,
    OLDEST_FIELDS,
    Borrower,
    diff_lender_status,
    diff_withdrawal,
    served_status_fields,
)
from kubeocean.domain.policies import read_lender_policy
from kubeocean.domain.policystatus import PolicyFacts
from kubeocean.domain.windows import WindowState
from kubeocean.kube.meta import Json
from kubeocean.kube.patch import apply_merge

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HERE, THERE = Borrower("uid-here", "edge"), Borrower("uid-there", "edge")


def policy(status: Json | None = None, **spec: Any) -> Json:
    metadata = {"name": "rlp", "uid": "u", "generation": 2, "resourceVersion": "7"}
    return {"metadata": metadata, "spec": {"cluster": "*", **spec}, "status": status or {}}


def facts(obj: Json, *, won: int = 2, now: datetime = NOON, **fields: Any) -> PolicyFacts:
    told: Json = {"window": WindowState(True), "leased": {"cpu": str(won)} if won else {}, **fields}
    return PolicyFacts(
        obj, read_lender_policy(obj), binding_exists=True, won=won, overshadowed_by=(), now=now, binding_name="lender", **told
    )


def told(
    obj: Json, borrower: Borrower, *, served: frozenset[str] = ALL_FIELDS, won: int = 2, now: datetime = NOON, **fields: Any
) -> Json:
    """Return the policy after `borrower` has told how it fares, as the API server would keep it."""
    patch = diff_lender_status(facts(obj, won=won, now=now, **fields), borrower, served)
    return apply_merge(obj, patch) if patch else obj


def entries(obj: Json) -> dict[str, int]:
    return {entry["virtualClusterUID"]: entry["nodes"] for entry in obj["status"].get("borrowers", ())}


def claim(obj: Json) -> list[str]:
    return [item["message"] for item in obj["status"].get("conditions", ()) if item["type"] == "Borrower"]


def test_the_first_borrower_fills_its_entry_and_what_kubectl_shows() -> None:
    status = told(policy(), HERE)["status"]
    (entry,) = status["borrowers"]
    assert (entry["virtualClusterUID"], entry["clusterID"], entry["nodes"]) == ("uid-here", "edge", 2)
    assert (status["phase"], status["nodes"], status["leased"]) == ("Active", 2, {"cpu": "2"})
    assert [item["type"] for item in entry["conditions"]] == ["Valid", "Active", "Effective"]
    assert [item["type"] for item in status["conditions"]] == ["Valid", "Active", "Effective", "Borrower"]
    ResourceLeasingPolicyStatus.model_validate(status)


def test_the_second_borrower_fills_its_entry_only() -> None:
    both = told(told(policy(), HERE), THERE, won=5)
    assert entries(both) == {"uid-here": 2, "uid-there": 5}
    assert (both["status"]["nodes"], claim(both)) == (2, ["uid-here/edge"])


def test_each_goes_on_with_what_is_its_own() -> None:
    both = told(told(policy(), HERE), THERE, won=5)
    both = told(told(both, THERE, won=6), HERE, won=3)
    assert entries(both) == {"uid-here": 3, "uid-there": 6}
    assert both["status"]["nodes"] == 3


STORIES: dict[str, Json] = {
    "alone": told(policy(), HERE),
    "beside another borrower": told(told(policy(), THERE), HERE),
    "on a policy that selects nothing": told(policy(), HERE, won=0),
    "on an invalid policy": told(policy(timeZone="Mars/Olympus"), HERE, won=0, window=None),
}


@pytest.mark.parametrize("story", STORIES)
def test_a_second_pass_writes_nothing_whatever_the_time(story: str) -> None:
    obj = STORIES[story]
    won, window = (2, WindowState(True)) if story in ("alone", "beside another borrower") else (0, WindowState(True))
    fields: Json = {"window": None if "invalid" in story else window}
    assert diff_lender_status(facts(obj, won=won, now=NOON + timedelta(hours=1), **fields), HERE, ALL_FIELDS) is None


def test_no_null_gets_into_the_list() -> None:
    soon = WindowState(True, None, NOON + timedelta(hours=1), None)
    before = told(policy(), HERE, window=soon)
    assert before["status"]["borrowers"][0]["nextChangeTime"] == "2026-01-01T13:00:00Z"
    (entry,) = told(before, HERE)["status"]["borrowers"]
    assert "nextChangeTime" not in entry
    assert None not in entry.values()


def test_fields_that_somebody_else_wrote_are_left_alone() -> None:
    theirs: Json = {"phase": "Active", "conditions": [{"type": "Ready", "status": "True"}]}
    after = told(policy(theirs), HERE)
    assert {key: after["status"][key] for key in theirs} == theirs
    assert entries(after) == {"uid-here": 2}
    assert "nodes" not in after["status"]


def test_the_go_projects_crd_gets_only_what_it_has() -> None:
    status = told(policy(), HERE, served=OLDEST_FIELDS)["status"]
    assert set(status) == {"phase", "activeTimeWindow", "lastAppliedTime", "conditions"}
    again = policy(status)
    assert diff_lender_status(facts(again), HERE, OLDEST_FIELDS) is None
    assert diff_lender_status(facts(again), THERE, OLDEST_FIELDS) is None, "they are another borrower's"


def test_a_write_carries_the_version_it_was_decided_on() -> None:
    patch = diff_lender_status(facts(policy()), HERE, ALL_FIELDS)
    assert patch is not None
    assert patch["metadata"] == {"resourceVersion": "7"}


# --- two bindings of one virtual cluster -----------------------------------------------------------------------------
SIBLING = Borrower("uid-here", "core", siblings={"edge"})


def test_of_two_bindings_the_one_that_speaks_goes_on() -> None:
    before = told(policy(), HERE)
    assert told(before, SIBLING, won=9) == before


def test_one_with_nodes_takes_over_from_one_without() -> None:
    after = told(told(policy(), HERE, won=0), SIBLING, won=9)
    assert [(entry["clusterID"], entry["nodes"]) for entry in after["status"]["borrowers"]] == [("core", 9)]
    assert claim(after) == ["uid-here/core"]
    assert told(after, Borrower("uid-here", "edge", siblings={"core"}), won=0) == after


def test_one_without_nodes_takes_over_from_one_that_is_gone() -> None:
    after = told(told(policy(), HERE), Borrower("uid-here", "core"), won=0)
    assert [entry["clusterID"] for entry in after["status"]["borrowers"]] == ["core"]


def test_they_take_turns_on_the_go_projects_crd_too() -> None:
    before = told(policy(), HERE, served=OLDEST_FIELDS)
    assert told(before, SIBLING, served=OLDEST_FIELDS) == before
    assert claim(told(before, Borrower("uid-here", "core"), served=OLDEST_FIELDS)) == ["uid-here/core"]


# --- leaving ---------------------------------------------------------------------------------------------------------
def withdrawn(obj: Json, borrower: Borrower) -> Json:
    patch = diff_withdrawal(obj, borrower)
    return apply_merge(obj, patch) if patch else obj


def test_nothing_stays_of_the_only_borrower() -> None:
    assert withdrawn(told(policy(), HERE), HERE)["status"] == {}


def test_what_the_lender_and_others_said_stays() -> None:
    audited = {"type": "Audited", "status": "True"}
    both = told(told(policy(), HERE), THERE, won=5)
    both = {**both, "status": {**both["status"], "conditions": [*both["status"]["conditions"], audited]}}
    left = withdrawn(both, HERE)
    assert entries(left) == {"uid-there": 5}
    assert left["status"]["conditions"] == [audited]
    assert withdrawn(both, THERE)["status"] == {**both["status"], "borrowers": both["status"]["borrowers"][:1]}


def test_the_next_borrower_takes_the_freed_fields() -> None:
    left = withdrawn(told(told(policy(), HERE), THERE, won=5), HERE)
    after = told(left, THERE, won=5)
    assert (after["status"]["nodes"], claim(after)) == (5, ["uid-there/edge"])


def test_a_binding_withdraws_only_what_it_said_itself() -> None:
    obj = told(policy(), HERE)
    assert diff_withdrawal(obj, SIBLING) is None
    assert diff_withdrawal(obj, THERE) is None
    assert diff_withdrawal(policy(), HERE) is None


# --- what the lender's CRD has ---------------------------------------------------------------------------------------
KIND = ("cloud.tencent.com", "v1beta1", "ResourceLeasingPolicy")


def document(status: Json) -> Json:
    group, version, kind = KIND
    known = {"group": group, "version": version, "kind": kind}
    return {"components": {"schemas": {
        "other": {"properties": {"status": {"properties": {"x": {}}}}},
        "ours": {"x-kubernetes-group-version-kind": [known], "properties": {"status": status}},
    }}}


def test_the_schema_says_which_fields_are_served() -> None:
    (ours,) = (crd for crd in crds() if crd["spec"]["names"]["kind"] == KIND[2])
    status = ours["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    assert served_status_fields(document(status), *KIND) == ALL_FIELDS
    assert served_status_fields(document({"properties": {"phase": {}}}), *KIND) == {"phase"}
    assert served_status_fields(document({"x-kubernetes-preserve-unknown-fields": True}), *KIND) == ALL_FIELDS
    assert served_status_fields(document({}), *KIND) == frozenset()
    assert served_status_fields({}, *KIND) == OLDEST_FIELDS
