"""The judges themselves; needs no node."""

import pytest

from kubeocean.kube.meta import Json
from tests.e2e.comparison import differences, missing, sort_out
from tests.e2e.judgement import shortfalls
from tests.e2e.sight import canonical_names, has_reached, normaliser, read_log, status_of
from tests.e2e.workload import Expectation, load_all


def test_what_is_expected_and_seen_is_no_shortfall() -> None:
    seen = {"env": {"A": "1", "B": "2"}, "groups": [1, 2], "name": "web-7", "ready": True}
    assert not list(missing({"env": {"A": "1", "C": None}, "groups": [1, 2], "name": "~web-.", "ready": True}, seen))


@pytest.mark.parametrize(("expected", "sentence"), [
    ({"env": {"A": "2"}}, "env > A: expected '2', saw '1'"),
    ({"env": {"B": "2"}}, "env > B: expected '2', saw nothing"),
    ({"env": {"A": None}}, "env > A: expected nothing, saw '1'"),
    ({"env": {"A": {"x": 1}}}, "env > A: expected a map, saw '1'"),
    ({"groups": [1]}, "groups: expected [1], saw [1, 2]"),
    ({"groups": [1, 3]}, "groups > 1: expected 3, saw 2"),
    ({"name": "~web"}, "name: expected '~web', saw 'web-7'"),
    ({"ready": 1}, "ready: expected 1, saw True"),
])
def test_what_is_missing_is_told_with_its_place(expected: Json, sentence: str) -> None:
    seen = {"env": {"A": "1"}, "groups": [1, 2], "name": "web-7", "ready": True}
    assert list(missing(expected, seen)) == [sentence]


def test_differences_are_found_at_any_depth_and_sorted_out_by_pattern() -> None:
    direct = {"pods": {"a": {"env": {"HOST": "x", "SAME": "1", "GONE": "1"}}}}
    virtual = {"pods": {"a": {"env": {"HOST": "y", "SAME": "1", "NEW": "1"}}}}
    unknown, used = sort_out(differences(direct, virtual), {"pods > * > env > HOST": "because", "pods > b > *": "never"})
    assert [(each.where, each.direct, each.virtual) for each in unknown] == [
        ("pods > a > env > GONE", "1", "(nothing)"), ("pods > a > env > NEW", "(nothing)", "1"),
    ]
    assert used == {"pods > * > env > HOST"}


def test_reports_are_told_from_other_lines_of_a_log() -> None:
    log = (
        'first\n{"label": "", "hostname": "a", "hosts": ["# x", "1.2.3.4\\ta"]}\n{"not": "a report"}\n'
        '{"label": "x", "hostname": "b", "resolv": ["options b a"]}\n{broken\n'
    )
    assert read_log(log) == {
        "reports": {
            "": {"hostname": "a", "hosts": ["1.2.3.4\ta"], "resolv": []},
            "x": {"hostname": "b", "hosts": [], "resolv": ["options a b"]},
        },
        "prints": ["first", '{"not": "a report"}', "{broken"],
    }


@pytest.mark.parametrize(("text", "normalised"), [
    ("tcp://10.96.0.7:80", "tcp://<ip>:80"),
    ("127.0.0.1:8080 answers", "127.0.0.1:8080 answers"),
    ("/motd/..2026_11_22_10_00_01.123456789/text", "/motd/..<time>/text"),
    ("since 2026-11-22T10:00:01Z", "since <time>"),
    ("runs on vnode-c1-real-1, not on real-1", "runs on <node>, not on <node>"),
    ("eyJhbGciOi.eyJpc3Mi.c2ln-_x", "<token>"),
    ("6f1e7a52-0d3c-4b4e-9f05-6c7f7f9f0d11", "<uid>"),
    ("web-5d4f-x2x1 waits", "web[0] waits"),
])
def test_what_differs_between_any_two_runs_is_replaced_by_what_it_is(text: str, normalised: str) -> None:
    normalise = normaliser({"real-1": "<node>", "vnode-c1-real-1": "<node>", "web-5d4f-x2x1": "web[0]"})
    assert normalise({text: [text]}) == {normalised: [normalised]}


def test_generated_names_are_counted_by_their_workload() -> None:
    def pod(name: str, owner: Json | None, created: str, labels: dict[str, str] | None = None) -> Json:
        owners = [{"controller": True, "uid": "u", **owner}] if owner else []
        return {"metadata": {"name": name, "creationTimestamp": created, "labels": labels or {}, "ownerReferences": owners}}

    hashed = {"pod-template-hash": "5d4f"}
    index = "batch.kubernetes.io/job-completion-index"
    assert canonical_names([
        pod("web-5d4f-b", {"kind": "ReplicaSet", "name": "web-5d4f"}, "2026-01-01T00:00:02Z", hashed),
        pod("web-5d4f-a", {"kind": "ReplicaSet", "name": "web-5d4f"}, "2026-01-01T00:00:01Z", hashed),
        pod("store-0", {"kind": "StatefulSet", "name": "store"}, "2026-01-01T00:00:01Z"),
        pod("single", None, "2026-01-01T00:00:01Z"),
        pod("job-1-x", {"kind": "Job", "name": "job"}, "2026-01-01T00:00:01Z", {index: "1"}),
        pod("job-0-y", {"kind": "Job", "name": "job"}, "2026-01-01T00:00:02Z", {index: "0"}),
    ]) == {
        "web-5d4f-a": "web[0]", "web-5d4f-b": "web[1]", "store-0": "store-0", "single": "single",
        "job-0-y": "job[0]", "job-1-x": "job[1]",
    }


def build_status(**container: object) -> Json:
    status: Json = {"name": "main", "ready": False, "restartCount": 0, "image": "toolbox:1", "state": {}, **container}
    return {"status": {"phase": "Running", "containerStatuses": [status], "conditions": [{"type": "Ready", "status": "False"}]}}


def test_a_status_is_kept_without_times_and_counts() -> None:
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "startedAt": "2026-01-01T00:00:01Z", "containerID": "x"}}
    assert status_of(build_status(restartCount=3, state=ended)) == {
        "phase": "Running", "conditions": {"Ready": {"status": "False"}},
        "containers": {"main": {
            "kind": "container", "ready": False, "restarted": True, "image": "toolbox:1",
            "state": {"is": "terminated", "exitCode": 137, "reason": "OOMKilled"},
        }},
    }


@pytest.mark.parametrize(("ends", "container", "reached"), [
    ("Running", {}, True),
    ("Ready", {}, False),
    ("Restarted", {"restartCount": 1, "state": {"running": {}}}, True),
    ("Restarted", {"restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}, False),
    ("Waiting CrashLoopBackOff", {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}, True),
    ("Waiting ErrImagePull", {"state": {"waiting": {"reason": "ImagePullBackOff"}}}, False),
])
def test_where_a_pod_has_come_to(ends: str, container: Json, reached: bool) -> None:
    assert has_reached(build_status(**container), ends) is reached


@pytest.mark.parametrize(("state", "over"), [({"running": {}}, False), ({"terminated": {"exitCode": 137}}, True)])
def test_a_pod_has_failed_when_its_containers_have_ended_too(state: Json, over: bool) -> None:
    pod = build_status(state=state)
    pod["status"]["phase"] = "Failed"
    assert has_reached(pod, "Failed") is over


def test_expectations_are_looked_for_in_the_right_container() -> None:
    main = {"reports": {"": {"env": {"A": "1"}}, "after": {"env": {"A": "2"}}}, "prints": ["hello"]}
    seen = {"pods": {"web": {"phase": "Failed", "containers": {"main": main}}}}
    good = Expectation(
        sees={"main": {"env": {"A": "1"}}, "web/main#after": {"env": {"A": "2"}}}, prints={"main": ["~hel+o"]},
        status={"phase": "Failed"},
    )
    assert not list(shortfalls(good, seen))
    bad = Expectation(sees={"other": {}, "main#never": {}}, prints={"main": []}, status={"phase": "Running"})
    assert list(shortfalls(bad, seen)) == [
        "other: there is no such container",
        "main#never: it reported nothing; it printed ['hello']",
        "main prints: expected [], saw ['hello']",
        "status of web > phase: expected 'Running', saw 'Failed'",
    ]


def test_every_workload_can_be_read_and_has_a_play_where_it_needs_one() -> None:
    from tests.e2e.plays import PLAYS

    workloads = {workload.name: workload for workload in load_all()}
    assert len(workloads) >= 30
    assert {name for name, workload in workloads.items() if workload.expect.ends == "Play"} <= set(PLAYS)
    assert set(PLAYS) <= set(workloads)
    for workload in workloads.values():
        assert workload.objects({"HOST_PORT": "1"}), workload.name
        assert bool(workload.expect.only) == bool(workload.expect.because), workload.name
