"""What goes up. The golden pairs in `podstatus/` hold both Pods; the output is the patch, or null for "no write"."""

import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.api import names
from kubeocean.domain.podchange import changeable_hash, expected_metadata
from kubeocean.domain.podstatus import build_lost_patch, build_refusal_patch, diff_pod_status, says_nothing_yet
from kubeocean.domain.refusal import Refusal
from kubeocean.kube.meta import Json

CASES = sorted(Path(__file__).parent.glob("podstatus/*.input.yaml"))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 1, 1, 13, tzinfo=UTC)

# Merge keys of v1.PodStatus (patchMergeKey in k8s.io/api/core/v1); every other list of it is atomic.
MERGE_KEYS: Final = {"conditions": "type", "podIPs": "ip", "hostIPs": "ip"}


def apply_strategic(target: Json, patch: Json) -> Json:
    """Apply a strategic merge patch to a Pod as the API server does."""
    merged = dict(target)
    for key, change in patch.items():
        if change is None:
            merged.pop(key, None)
        elif isinstance(change, dict):
            merged[key] = apply_strategic(merged.get(key) or {}, change)
        elif key in MERGE_KEYS:
            merged[key] = merge_list(merged.get(key) or [], change, MERGE_KEYS[key])
        else:
            merged[key] = change
    return merged


def merge_list(live: list[Json], change: list[Json], merge_key: str) -> list[Json]:
    if {"$patch": "replace"} in change:
        return [element for element in change if "$patch" not in element]
    merged = {element[merge_key]: element for element in live}
    for element in change:
        if element.get("$patch") == "delete":
            merged.pop(element[merge_key], None)
        else:
            merged[element[merge_key]] = apply_strategic(merged.get(element[merge_key], {}), element)
    return list(merged.values())


def test_whom_a_twin_was_noted_for_is_no_reason_to_write() -> None:
    mine, theirs = vpod(), ppod({"phase": "Running"})
    patch = diff_pod_status(mine, theirs)
    assert patch is not None
    assert patch["metadata"]["annotations"].pop(names.MAPPED_UID_ANNOTATION) == "v-1"
    mine["metadata"]["annotations"] = patch["metadata"]["annotations"]
    again = diff_pod_status(mine, theirs)
    assert again is None or "annotations" not in again["metadata"]


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name.split(".")[0])
def test_golden(case: Path) -> None:
    pods = yaml.safe_load(case.read_text())
    before = copy.deepcopy(pods)
    patch = diff_pod_status(pods["vpod"], pods["ppod"])
    assert patch == yaml.safe_load(case.with_name(case.name.replace("input", "output")).read_text())
    assert pods == before, "an argument was mutated"
    if patch:
        assert diff_pod_status(apply_strategic(pods["vpod"], patch), pods["ppod"]) is None


def vpod(*, status: Json | None = None, generation: int | None = None, deleting: bool = False, **spec: Any) -> Json:
    metadata: Json = {"name": "web-0", "namespace": "shop", "uid": "v-1"}
    if generation:
        metadata["generation"] = generation
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T12:00:30Z"
    return {"metadata": metadata, "spec": {"containers": [{"name": "app", "image": "nginx"}], **spec}, "status": status or {}}


def ppod(status: Json, *, generation: int = 1, content_hash: str = "", deleting: bool = False) -> Json:
    metadata: Json = {
        "name": "web-0-x", "namespace": "lent", "uid": "p-1", "generation": generation,
        "annotations": {names.CONTENT_HASH_ANNOTATION: content_hash},
    }
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T12:00:30Z"
    return {"metadata": metadata, "spec": {}, "status": status}


SILENCE: dict[str, tuple[Json, bool]] = {
    "a twin without any status is silent": ({}, True),
    "a twin the server has just made Pending is silent": ({"phase": "Pending", "qosClass": "BestEffort"}, True),
    "a twin that waits for a scheduler is silent": (
        {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False"}]}, True,
    ),
    "a twin with an address speaks": ({"phase": "Pending", "hostIP": "10.0.0.1"}, False),
    "a twin with containers speaks": ({"phase": "Pending", "containerStatuses": [{"name": "app"}]}, False),
    "a twin that is Initialized speaks": (
        {"phase": "Pending", "conditions": [{"type": "Initialized", "status": "True"}]}, False,
    ),
    "a running twin speaks": ({"phase": "Running"}, False),
    "a twin that failed at once speaks": ({"phase": "Failed"}, False),
}


@pytest.mark.parametrize("case", SILENCE)
def test_says_nothing_yet(case: str) -> None:
    status, silent = SILENCE[case]
    assert says_nothing_yet(ppod(status)) == silent


def test_every_patch_refuses_a_pod_of_another_uid() -> None:
    patch = diff_pod_status(vpod(), ppod({"phase": "Running"}))
    assert patch
    assert patch["metadata"]["uid"] == "v-1"
    assert build_lost_patch(vpod(), NOON)["metadata"]["uid"] == "v-1"
    refusal = build_refusal_patch(vpod(), Refusal("NameTaken", "m"), NOON)
    assert refusal
    assert refusal["metadata"]["uid"] == "v-1"


GENERATIONS: dict[str, tuple[Json, Json, int | None]] = {
    "a kubelet that has seen the newest twin has seen the Pod": (
        vpod(generation=1), ppod({"phase": "Running", "observedGeneration": 3}, generation=3), 1,
    ),
    "a kubelet that lags claims nothing": (
        vpod(generation=1), ppod({"phase": "Running", "observedGeneration": 2}, generation=3), None,
    ),
    "an edit that was pushed down counts": (
        vpod(generation=3),
        ppod({"phase": "Running", "observedGeneration": 2}, generation=2, content_hash=changeable_hash(vpod())), 3,
    ),
    "an edit that was not pushed down does not": (
        vpod(generation=3), ppod({"phase": "Running", "observedGeneration": 2}, generation=2, content_hash="old"), None,
    ),
    "a deletion the twin does not know yet does not": (
        vpod(generation=2, deleting=True), ppod({"phase": "Running", "observedGeneration": 1}), None,
    ),
    "a deletion both know counts": (
        vpod(generation=2, deleting=True),
        ppod({"phase": "Running", "observedGeneration": 2}, generation=2, deleting=True), 2,
    ),
    "a server that counts no generations gets none": (
        vpod(), ppod({"phase": "Running", "observedGeneration": 1}), None,
    ),
}


@pytest.mark.parametrize("case", GENERATIONS)
def test_observed_generation(case: str) -> None:
    virtual, physical, expected = GENERATIONS[case]
    patch = diff_pod_status(virtual, physical)
    assert patch
    assert patch["status"].get("observedGeneration") == expected


# --- lost and refused ------------------------------------------------------------------------------------------------

RUNNING: Final = {
    "phase": "Running", "podIP": "10.4.0.9",
    "conditions": [
        {"type": "Initialized", "status": "True"},
        {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T11:00:00Z"},
        {"type": "PodScheduled", "status": "True"},
    ],
    "initContainerStatuses": [{"name": "init", "state": {"terminated": {"exitCode": 0}}}],
    "containerStatuses": [
        {
            "name": "app", "ready": True, "started": True, "containerID": "containerd://1",
            "state": {"running": {"startedAt": "2026-01-01T11:00:00Z"}},
        },
        {"name": "done", "ready": False, "state": {"terminated": {"exitCode": 3}}},
    ],
}


def test_a_lost_pod_fails_and_says_why() -> None:
    status = apply_strategic(vpod(status=RUNNING), build_lost_patch(vpod(status=RUNNING), NOON))["status"]
    assert (status["phase"], status["reason"], status["podIP"]) == ("Failed", "PhysicalPodLost", "10.4.0.9")
    conditions = {condition["type"]: condition for condition in status["conditions"]}
    assert conditions["Ready"]["status"] == conditions["ContainersReady"]["status"] == "False"
    assert conditions["Ready"]["lastTransitionTime"] == "2026-01-01T12:00:00Z"
    assert conditions["PodScheduled"]["status"] == "True"


def test_a_pod_whose_twin_was_evicted_is_not_called_lost() -> None:
    evicted = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "more urgent Pod"}
    status = {**RUNNING, "conditions": [*RUNNING["conditions"], evicted]}
    patch = build_lost_patch(vpod(status=status), NOON)["status"]
    assert (patch["phase"], patch["reason"]) == ("Failed", "Evicted")
    assert patch["message"].endswith("PreemptionByScheduler: more urgent Pod")


def test_what_others_put_on_the_twin_comes_up_with_the_status_and_the_version_it_was_decided_from() -> None:
    mine, theirs = vpod(), ppod({"phase": "Running"})
    mine["metadata"]["resourceVersion"] = "7"
    theirs["metadata"] |= {"labels": {"team": "lender"}, "annotations": {
        names.EXPECTED_METADATA_ANNOTATION: expected_metadata(vpod()), "cni/address": "10.1.2.3",
    }}
    patch = diff_pod_status(mine, theirs)
    assert patch is not None
    metadata = patch["metadata"]
    assert (metadata["uid"], metadata["resourceVersion"], metadata["labels"]) == ("v-1", "7", {"team": "lender"})
    assert metadata["annotations"]["cni/address"] == "10.1.2.3"
    assert metadata["annotations"][names.PHYSICAL_POD_UID_ANNOTATION] == "p-1"
    assert patch["status"] == {"phase": "Running"}


@pytest.mark.parametrize("pushed", [True, False])
def test_the_word_of_a_refused_change_goes_when_it_was_pushed_down(pushed: bool) -> None:
    told = {"type": names.PHYSICAL_POD_UPDATED, "status": "False", "reason": "PhysicalPodUpdateRefused", "message": "m"}
    mine = vpod(status={"phase": "Running", "conditions": [told]})
    patch = diff_pod_status(mine, ppod({"phase": "Running"}, content_hash=changeable_hash(mine) if pushed else "old"))
    assert patch is not None
    assert patch.get("status") == (
        {"conditions": [{"$patch": "delete", "type": names.PHYSICAL_POD_UPDATED}]} if pushed else None
    )


def test_what_ran_in_a_lost_pod_is_terminated_and_what_had_ended_keeps_its_end() -> None:
    status = build_lost_patch(vpod(status=RUNNING), NOON)["status"]
    app, done = status["containerStatuses"]
    assert app == {
        "name": "app", "ready": False, "started": False, "containerID": "containerd://1",
        "state": {"terminated": {
            "exitCode": 137, "reason": "ContainerStatusUnknown",
            "message": "The container could not be located when the pod was terminated",
            "startedAt": "2026-01-01T11:00:00Z", "finishedAt": "2026-01-01T12:00:00Z", "containerID": "containerd://1",
        }},
    }
    assert done == RUNNING["containerStatuses"][1]
    assert status["initContainerStatuses"] == RUNNING["initContainerStatuses"]


def test_containers_whose_turn_never_came_keep_waiting_in_a_lost_pod() -> None:
    waiting = {"phase": "Pending", "containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "PodInitializing"}}}]}
    assert build_lost_patch(vpod(status=waiting), NOON)["status"]["containerStatuses"] == waiting["containerStatuses"]


def test_a_lost_pod_without_any_status_fails_too() -> None:
    assert build_lost_patch(vpod(), NOON)["status"]["phase"] == "Failed"


def test_a_twin_of_a_lost_pod_is_not_believed_any_more() -> None:
    lost = apply_strategic(vpod(status=RUNNING), build_lost_patch(vpod(status=RUNNING), NOON))
    assert diff_pod_status(lost, ppod({"phase": "Running"})) is None


def test_a_refusal_is_said_once_and_keeps_the_time_it_began() -> None:
    pod = vpod(status={"conditions": [{"type": "PodScheduled", "status": "True"}]})
    first = build_refusal_patch(pod, Refusal("NameTaken", "one"), NOON)
    assert first
    pod = apply_strategic(pod, first)
    assert build_refusal_patch(pod, Refusal("NameTaken", "one"), LATER) is None
    second = build_refusal_patch(pod, Refusal("NameTaken", "two"), LATER)
    assert second
    [condition] = second["status"]["conditions"]
    assert (condition["message"], condition["lastTransitionTime"]) == ("two", "2026-01-01T12:00:00Z")


def test_a_refusal_goes_away_with_the_twins_first_word() -> None:
    refusal = build_refusal_patch(vpod(), Refusal("NameTaken", "one"), NOON)
    assert refusal
    refused = apply_strategic(vpod(), refusal)
    patch = diff_pod_status(refused, ppod({"phase": "Pending"}))
    assert patch
    assert apply_strategic(refused, patch)["status"]["conditions"] == []


def test_another_condition_of_ours_can_be_refused_with() -> None:
    patch = build_refusal_patch(vpod(), Refusal("Unschedulable", "m"), NOON, condition=names.PHYSICAL_POD_SCHEDULED)
    assert patch
    assert patch["status"]["conditions"][0]["type"] == names.PHYSICAL_POD_SCHEDULED


# --- properties ------------------------------------------------------------------------------------------------------

TIMES = st.sampled_from(["2026-01-01T11:00:00Z", "2026-01-01T12:00:00Z", "2026-01-01T13:00:00Z"])
KINDS = ["PodScheduled", "Ready", "ContainersReady", "Initialized", "DisruptionTarget", "PodResizePending", "example.com/lb",
         names.PHYSICAL_POD_CREATED, names.PHYSICAL_POD_SCHEDULED]
CONDITION = st.fixed_dictionaries(
    {"status": st.sampled_from(["True", "False"]), "lastProbeTime": st.none()},
    optional={"reason": st.sampled_from("ab"), "message": st.sampled_from("cd"), "lastTransitionTime": TIMES,
              "observedGeneration": st.integers(1, 3)},
)
CONDITIONS = st.dictionaries(st.sampled_from(KINDS), CONDITION).map(
    lambda conditions: [{"type": kind, **condition} for kind, condition in conditions.items()]
)
IPS = st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"]), unique=True, max_size=2).map(
    lambda ips: [{"ip": ip} for ip in ips]
)
STATUS = st.fixed_dictionaries(
    {"phase": st.sampled_from(["Pending", "Running", "Succeeded", "Failed"])},
    optional={
        "reason": st.sampled_from("ab"), "message": st.sampled_from("cd"), "hostIP": st.just("192.168.0.7"),
        "podIP": st.just("10.0.0.1"), "podIPs": IPS, "hostIPs": IPS, "startTime": TIMES, "conditions": CONDITIONS,
        "containerStatuses": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from("xy"), "ready": st.booleans()}), max_size=2
        ),
        "observedGeneration": st.integers(1, 3),
    },
)
GATES = st.sampled_from([[], [{"conditionType": "example.com/lb"}], [{"conditionType": "example.com/other"}]])


@given(STATUS, STATUS, GATES, st.integers(0, 3), st.integers(1, 3))
def test_a_second_pass_writes_nothing(mine: Json, theirs: Json, gates: list[Json], generation: int, newest: int) -> None:
    virtual = vpod(status=mine, generation=generation, readinessGates=gates)
    physical = ppod(theirs, generation=newest)
    if patch := diff_pod_status(virtual, physical):
        assert diff_pod_status(apply_strategic(virtual, patch), physical) is None


@given(STATUS, STATUS, GATES)
def test_what_belongs_to_others_survives_every_patch(mine: Json, theirs: Json, gates: list[Json]) -> None:
    virtual = vpod(status=mine, readinessGates=gates)
    patch = diff_pod_status(virtual, ppod(theirs))
    after = apply_strategic(virtual, patch or {})["status"]
    kept = {"PodScheduled", *(gate["conditionType"] for gate in gates)}

    def of_others(status: Json) -> list[Json]:
        return [condition for condition in status.get("conditions", []) if condition["type"] in kept]

    assert of_others(after) == of_others(mine)
    if mine["phase"] in ("Succeeded", "Failed"):
        assert after["phase"] == mine["phase"]
