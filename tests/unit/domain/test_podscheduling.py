from datetime import UTC, datetime, timedelta

import pytest

from kubeocean.domain.podscheduling import build_given_up_patch, check_waiting, given_up
from kubeocean.kube.meta import Json, format_time

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def twin(*, waited: float, node: str = "", deleting: bool = False, message: str = "0/3 nodes are available") -> Json:
    metadata: Json = {"name": "web", "uid": "p", "creationTimestamp": format_time(NOON - timedelta(seconds=waited))}
    if deleting:
        metadata["deletionTimestamp"] = format_time(NOON)
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {
        "metadata": metadata, "spec": {"nodeName": node} if node else {},
        "status": {"conditions": [condition] if message else []},
    }


PROMISES = {
    "for five seconds it is nobody's business": (twin(waited=4), (False, False, 1.0)),
    "after five seconds the virtual Pod says so": (twin(waited=5), (True, False, 295.0)),
    "just before five minutes it still waits": (twin(waited=299), (True, False, 1.0)),
    "after five minutes it is given up": (twin(waited=300), (True, True, 0.0)),
}


@pytest.mark.parametrize("promise", PROMISES)
def test_a_twin_without_a_node(promise: str) -> None:
    ppod, (told, give_up, revisit_in) = PROMISES[promise]
    waiting = check_waiting(ppod, NOON, "lender")
    assert waiting is not None
    assert (waiting.refusal is not None, waiting.give_up, waiting.revisit_in) == (told, give_up, revisit_in)


def test_the_physical_schedulers_own_words_are_told() -> None:
    waiting = check_waiting(twin(waited=10), NOON, "lender")
    assert waiting is not None
    assert waiting.refusal is not None
    assert waiting.refusal.reason == "Unschedulable"
    assert "0/3 nodes are available" in waiting.refusal.message


def test_a_cluster_without_a_scheduler_is_told_too() -> None:
    waiting = check_waiting(twin(waited=10, message=""), NOON, "lender")
    assert waiting is not None
    assert waiting.refusal is not None
    assert "no scheduler" in waiting.refusal.message


@pytest.mark.parametrize("ppod", [twin(waited=900, node="node-1"), twin(waited=900, deleting=True)])
def test_a_twin_that_has_a_node_or_is_going_waits_for_nothing(ppod: Json) -> None:
    assert check_waiting(ppod, NOON, "lender") is None


def test_giving_up_is_recognised_by_the_next_pass() -> None:
    vpod: Json = {"metadata": {"name": "web", "uid": "v"}, "status": {"phase": "Pending"}}
    waiting = check_waiting(twin(waited=301), NOON, "lender")
    assert waiting is not None
    assert waiting.refusal is not None
    patch = build_given_up_patch(vpod, waiting.refusal, NOON)
    assert patch["metadata"]["uid"] == "v"
    assert not given_up(vpod)
    assert given_up({**vpod, "status": patch["status"]})
