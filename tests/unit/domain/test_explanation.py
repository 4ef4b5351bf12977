"""The life of a Pod, put together from what both clusters wrote, and what it waits for: the table is the specification."""

import copy
from typing import Any

import pytest

from kubeocean.api import names
from kubeocean.domain.explanation import PodStory, build_timeline, explain_waiting
from kubeocean.domain.findings import Side
from kubeocean.kube.meta import Json
from tests.unit.domain.test_podfindings import pair


def at(second: int) -> str:
    return f"2026-01-01T12:00:{second:02}Z"


def story(**fields: Any) -> PodStory:
    """Return a Pod that went its way: created at 0, scheduled at 1, its twin made at 3, started at 5, ready at 6."""
    vpod, twin = pair()
    vpod["metadata"]["creationTimestamp"], twin["metadata"]["creationTimestamp"] = at(0), at(3)
    vpod["status"]["conditions"] = [true("PodScheduled", 1), true("Ready", 7)]
    twin["spec"]["nodeName"] = "node-7"
    twin["status"] |= {
        "startTime": at(4), "conditions": [true("PodScheduled", 3), true("Ready", 6)],
        "containerStatuses": [{"name": "app", "restartCount": 2, "state": {"running": {"startedAt": at(5)}}}],
    }
    copied = {"kind": "ConfigMap", "metadata": {"name": "settings-x", "creationTimestamp": at(2)}}
    return PodStory(**{"vpod": vpod, "ppod": twin, "ours": True, "copies": (copied,), **fields})


def true(kind: str, second: int) -> Json:
    return {"type": kind, "status": "True", "lastTransitionTime": at(second)}


def test_both_clusters_make_one_timeline() -> None:
    steps = build_timeline(story())
    assert [(step.what, step.side, step.after) for step in steps] == [
        ("created", Side.VIRTUAL, None), ("scheduled", Side.VIRTUAL, 1.0), ("dependency ready", Side.PHYSICAL, 1.0),
        ("twin created", Side.PHYSICAL, 1.0), ("mapped", Side.VIRTUAL, None), ("twin scheduled", Side.PHYSICAL, 0.0),
        ("accepted by the kubelet", Side.PHYSICAL, 1.0), ("started", Side.PHYSICAL, 1.0), ("ready", Side.PHYSICAL, 1.0),
        ("ready in the virtual cluster", Side.VIRTUAL, 1.0),
    ]
    assert "restarted 2 times" in next(step.detail for step in steps if step.what == "started")


def test_what_was_there_before_the_pod_is_no_part_of_its_life_until_it_is_needed() -> None:
    shared = {"kind": "ConfigMap", "metadata": {"name": "settings-x", "creationTimestamp": "2026-01-01T11:00:00Z"}}
    created, scheduled, ready, twin, *_ = build_timeline(story(copies=(shared,)))
    assert [step.what for step in (created, scheduled, ready, twin)] == [
        "created", "scheduled", "dependency ready", "twin created",
    ]
    assert (created.after, scheduled.after, ready.after, twin.after) == (None, 1.0, 0.0, 2.0)
    assert ready.detail == "ConfigMap settings-x, there since 2026-01-01T11:00:00Z"


def test_an_end_is_told_and_so_is_a_request_to_go() -> None:
    told = story()
    told.vpod["metadata"] |= {"deletionTimestamp": at(40), "deletionGracePeriodSeconds": 30}
    assert told.ppod
    ended = {"startedAt": at(5), "finishedAt": at(9), "exitCode": 3, "reason": "Error"}
    told.ppod["status"]["containerStatuses"][0]["state"] = {"terminated": ended}
    steps = build_timeline(told)
    assert [(step.what, step.at and step.at.second) for step in steps[-2:]] == [("finished", 9), ("deletion requested", 10)]
    assert "Error, exit code 3" in steps[-2].detail


def false(kind: str, why: str, message: str) -> Json:
    return {"type": kind, "status": "False", "reason": why, "message": message}


def waiting(
    *, node: str | None = "vnode-edge-node-7", conditions: tuple[Json, ...] = (), annotations: dict[str, str] | None = None,
    **fields: Any,
) -> list[str]:
    told = story(**fields)
    vpod = copy.deepcopy(told.vpod)
    vpod["spec"]["nodeName"], vpod["metadata"]["annotations"] = node, annotations or {}
    vpod["status"] = {"phase": "Pending", "conditions": list(conditions)}
    return explain_waiting(PodStory(
        vpod, told.ppod, told.ours, told.running_daemonsets, told.copies, told.missing, told.refusal
    ))


def twin_with(**status: Any) -> Json:
    twin = story().ppod
    assert twin
    return {**twin, "status": {"phase": "Pending", **status}}


PULL = {"name": "app", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
NO_ROOM = false("PodScheduled", "Unschedulable", "no room")
TABLE: dict[str, tuple[dict[str, Any], str]] = {
    "a node": ({"node": None, "conditions": (NO_ROOM,)}, "the virtual scheduler: Unschedulable: no room"),
    "a kubelet of the virtual cluster": ({"ours": False}, "no virtual node of any binding"),
    "a ConfigMap": ({"ppod": None, "missing": ("ConfigMap shop/x",)}, "ConfigMap shop/x, which does not exist: create it"),
    "what it will never get": ({"ppod": None, "refusal": "FieldNotSupported: spec.x"}, "FieldNotSupported: spec.x"),
    "what the syncer says": (
        {"ppod": None, "conditions": (false(names.PHYSICAL_POD_CREATED, "NameTaken", "by him"),)}, "NameTaken: by him",
    ),
    "the syncer": ({"ppod": None}, "see that one runs for this binding"),
    "to be told that its twin is gone": (
        {"ppod": None, "annotations": {names.PHYSICAL_POD_UID_ANNOTATION: "p"}}, "Failed/PhysicalPodLost",
    ),
    "an image": ({"ppod": twin_with(containerStatuses=[PULL])}, "container app: ImagePullBackOff: no such image"),
    "readiness": ({"ppod": twin_with(conditions=[false("Ready", "ContainersNotReady", "app")])}, "ContainersNotReady: app"),
    "its status": ({}, "to mirror the status"),
}


@pytest.mark.parametrize("case", TABLE)
def test_a_pod_waits_for(case: str) -> None:
    given, said = TABLE[case]
    assert said in waiting(**given)[0]


def test_a_node_that_does_not_exist_is_told_as_such() -> None:
    assert "which does not exist" in explain_waiting(PodStory(story().vpod, node_gone=True))[0]


def test_a_pod_that_runs_waits_for_nothing_and_one_that_leaves_says_whom_it_waits_for() -> None:
    assert explain_waiting(story()) == []
    leaving = story()
    leaving.vpod["metadata"] |= {"deletionTimestamp": at(40), "finalizers": ["his/own"]}
    assert "its twin lent/" in explain_waiting(leaving)[0]
    assert explain_waiting(PodStory(leaving.vpod, ours=True)) == ["whoever holds it by finalizer his/own"]
    elsewhere = PodStory({**leaving.vpod, "metadata": {**leaving.vpod["metadata"], "finalizers": []}})
    assert "its kubelet has the word" in explain_waiting(elsewhere)[0], "no syncer of ours releases it"
    gated = story()
    gated.vpod["spec"]["readinessGates"] = [{"conditionType": "balanced"}]
    assert "readiness gate balanced" in explain_waiting(gated)[0]
