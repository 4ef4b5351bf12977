"""The life of a Pod, put together from what both clusters wrote, whatever their clocks say."""

from datetime import timedelta
from typing import Any

import pytest

from kubeocean.api import names
from kubeocean.domain.clocklag import clock_lag, tell_lag
from kubeocean.domain.explanation import build_timeline
from kubeocean.domain.findings import Side
from kubeocean.domain.podstory import PodStory
from kubeocean.kube.meta import Json, format_time, parse_time
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
    return PodStory(**{"vpod": vpod, "ppod": twin, "ours": True, "copies": (copied,), "binding": "lender", **fields})


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


def shifted(pod: Json, seconds: int) -> None:
    """Have a Pod's cluster, nodes included, be so far ahead with its clocks."""
    def moved(text: str) -> str:
        return format_time(parse_time(text) + timedelta(seconds=seconds))

    pod["metadata"]["creationTimestamp"] = moved(pod["metadata"]["creationTimestamp"])
    pod["status"]["startTime"] = moved(pod["status"]["startTime"])
    for condition in pod["status"]["conditions"]:
        condition["lastTransitionTime"] = moved(condition["lastTransitionTime"])
    for status in pod["status"]["containerStatuses"]:
        status["state"]["running"]["startedAt"] = moved(status["state"]["running"]["startedAt"])


def skewed(seconds: int) -> PodStory:
    """Return the same life with the physical clock so far ahead; its status was written to the virtual Pod at 8."""
    told = story(copies=())
    assert told.ppod
    shifted(told.ppod, seconds)
    ready = next(item for item in told.ppod["status"]["conditions"] if item["type"] == "Ready")
    told.vpod["status"] |= {
        "conditions": [true("PodScheduled", 1), ready], "startTime": told.ppod["status"]["startTime"],
        "containerStatuses": told.ppod["status"]["containerStatuses"],
    }
    told.vpod["metadata"]["managedFields"] = [{"manager": "kubeocean", "subresource": "status", "time": at(8)}]
    return told


IN_ORDER = [
    "created", "scheduled", "twin created", "mapped", "twin scheduled", "accepted by the kubelet", "started", "ready",
    "ready in the virtual cluster",
]


@pytest.mark.parametrize("ahead", [-3600, -40, -3, -1, 0, 1, 3, 40, 3600])
def test_however_the_clocks_differ_the_order_is_that_of_a_pods_life_and_nothing_took_less_than_nothing(ahead: int) -> None:
    steps = build_timeline(skewed(ahead))
    assert [step.what for step in steps] == IN_ORDER
    assert all(step.after >= 0 for step in steps if step.after is not None)


LAGS: dict[str, tuple[int, str]] = {
    "nothing is told of clocks that agree": (0, ""),
    "nor of what a Pod's way may hide": (2, ""),
    "a physical clock ahead": (40, "differ by at least 37 s: the physical one's is ahead of"),
    "one behind": (-40, "differ by at least 37 s: the physical one's is behind"),
    "a second is a fraction that the API has lost": (-3, ""),
}


@pytest.mark.parametrize("case", LAGS)
def test_clocks_that_contradict_each_other_are_told(case: str) -> None:
    ahead, said = LAGS[case]
    told = skewed(ahead)
    line = tell_lag(clock_lag(told.vpod, told.ppod))
    assert (said in line) if said else line == ""


def test_a_token_made_for_the_pod_shows_a_clock_that_is_behind_better_than_the_twin() -> None:
    told = skewed(0)
    token: Json = {"metadata": {"creationTimestamp": "2026-01-01T11:59:50Z", "annotations": {
        names.VIRTUAL_POD_UID_ANNOTATION: told.vpod["metadata"]["uid"],
    }}}
    assert clock_lag(told.vpod, told.ppod, [token]) == timedelta(seconds=-11)
    token["metadata"]["annotations"] = {}
    assert clock_lag(told.vpod, told.ppod, [token]) == timedelta(0), "a copy that others use may well be older"


def test_a_node_whose_clock_is_behind_its_own_api_server_starts_nothing_before_the_twin_is_there() -> None:
    told = story(copies=())
    assert told.ppod
    told.ppod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = "2026-01-01T11:59:25Z"
    steps = build_timeline(told)
    order = [step.what for step in steps]
    assert order.index("twin created") < order.index("started")
    assert all(step.after >= 0 for step in steps if step.after is not None)


def test_that_somebody_asked_for_the_twin_to_go_is_told() -> None:
    told = story()
    assert told.ppod
    told.ppod["metadata"] |= {"deletionTimestamp": at(50), "deletionGracePeriodSeconds": 30}
    assert [(step.what, step.detail) for step in build_timeline(told)][-1] == (
        "deletion of the twin requested", "with 30 s of grace",
    )
