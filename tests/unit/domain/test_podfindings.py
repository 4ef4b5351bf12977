"""What is wrong with a Pod and its twin: every invariant broken once, and a healthy pair at full size."""

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kubeocean.api import names
from kubeocean.api.binding import ClusterBindingSpec
from kubeocean.domain.findings import Finding, Kind, Mend, lasting
from kubeocean.domain.podfindings import Claims, PodScene, check_token_secret, check_twin, check_vpod
from kubeocean.domain.podmap import ForgedPod, build_physical_pod
from kubeocean.domain.podstatus import diff_pod_status
from kubeocean.domain.verification import Snapshot, claims_of, verify
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import NODES, PODS
from tests.forge import pairs

OWNER, NODE, VNODE = pairs.CONTEXT.owner, "node-7", "vnode-edge-node-7"
SCENE = PodScene(OWNER, "lent", {VNODE: NODE}.get)
RUNNING: Json = {
    "phase": "Running", "podIP": "10.1.1.1", "podIPs": [{"ip": "10.1.1.1"}], "startTime": "2026-01-01T12:00:00Z",
    "conditions": [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T12:00:00Z"},
        {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T12:00:02Z"},
    ],
}


def pair(name: str = "web-0", uid: str = "v-1") -> tuple[Json, Json]:
    """Return a virtual Pod and its twin, both Running and in agreement."""
    vpod = copy.deepcopy(pairs.MINIMAL)
    vpod["metadata"] |= {"name": name, "uid": uid}
    forged = build_physical_pod(vpod, replace(pairs.CONTEXT, direct_scheduling=True))
    assert isinstance(forged, ForgedPod)
    twin = copy.deepcopy(forged.pod)
    twin["metadata"]["uid"] = f"p-{uid}"
    vpod["metadata"]["annotations"] = {
        names.PHYSICAL_POD_NAMESPACE_ANNOTATION: "lent", names.PHYSICAL_POD_NAME_ANNOTATION: twin["metadata"]["name"],
        names.PHYSICAL_POD_UID_ANNOTATION: f"p-{uid}",
    }
    vpod["status"], twin["status"] = copy.deepcopy(RUNNING), copy.deepcopy(RUNNING)
    return vpod, twin


def test_a_pair_in_agreement_is_no_finding_from_either_side() -> None:
    vpod, twin = pair()
    assert check_vpod(vpod, twin, SCENE) is None
    assert check_twin(twin, vpod, claims_of([vpod]), SCENE) is None


Break = Callable[[Json, Json], Json | None]


def set_status(pod: Json, **fields: object) -> None:
    pod["status"] |= fields


def without_twin(vpod: Json, _: Json) -> None:
    return None


def never_had_one(vpod: Json, _: Json) -> None:
    vpod["metadata"]["annotations"] = {}
    set_status(vpod, phase="Pending")


def waits_and_says_why(vpod: Json, twin: Json) -> None:
    never_had_one(vpod, twin)
    vpod["status"]["conditions"].append({"type": names.PHYSICAL_POD_CREATED, "status": "False", "reason": "X"})


def has_finished(vpod: Json, _: Json) -> None:
    set_status(vpod, phase="Succeeded")


def is_leaving(vpod: Json, _: Json) -> None:
    vpod["metadata"] |= {"deletionTimestamp": "2026-01-01T12:00:00Z", "deletionGracePeriodSeconds": 30}


def twin_failed(vpod: Json, twin: Json) -> Json:
    set_status(twin, phase="Failed")
    return twin


def twin_moved(vpod: Json, twin: Json) -> Json:
    set_status(twin, podIP="10.2.2.2")
    return twin


def user_edited(vpod: Json, twin: Json) -> Json:
    vpod["metadata"]["labels"] = {"tier": "gold"}
    return twin


def lender_edited(vpod: Json, twin: Json) -> Json:
    vpod["metadata"]["labels"] = {"tier": "gold"}
    forged = build_physical_pod(vpod, pairs.CONTEXT)
    assert isinstance(forged, ForgedPod)
    twin["metadata"] |= {key: forged.pod["metadata"][key] for key in ("labels", "annotations")}
    twin["metadata"]["labels"] = {**twin["metadata"]["labels"], "tier": "lead"}
    return twin


def on_another_node(vpod: Json, twin: Json) -> Json:
    twin["spec"]["nodeName"] = "node-8"
    return twin


def a_strangers(vpod: Json, twin: Json) -> Json:
    twin["metadata"]["labels"] = {**twin["metadata"]["labels"], names.OWNER_LABEL: "0123456789abcdef"}
    twin["metadata"]["annotations"] = {}
    return twin


def made_by_the_go_project(vpod: Json, twin: Json) -> Json:
    """Return the twin as that project would have made it: it names no owner, and not what it was given."""
    for key in (names.OWNER_ANNOTATION, names.EXPECTED_METADATA_ANNOTATION, names.CONTENT_HASH_ANNOTATION):
        del twin["metadata"]["annotations"][key]
    del twin["metadata"]["labels"][names.OWNER_LABEL]
    return twin


ABOVE: dict[str, tuple[Break, Kind | None, str, Mend]] = {
    "its twin vanished": (without_twin, Kind.LOST_TWIN, "PhysicalPodLost", Mend.LOSE),
    "another's Pod has its twin's name": (a_strangers, Kind.LOST_TWIN, "PhysicalPodLost", Mend.LOSE),
    "its twin is to be adopted": (made_by_the_go_project, None, "", Mend.NOTHING),
    "nobody made a twin": (never_had_one, Kind.MISSING_TWIN, "NotCreated", Mend.NOTHING),
    "it waits and says why": (waits_and_says_why, None, "", Mend.NOTHING),
    "it is over": (has_finished, None, "", Mend.NOTHING),
    "it is on its way out": (is_leaving, None, "", Mend.NOTHING),
    "it is Running and its twin is not": (twin_failed, Kind.STATUS_BEHIND, "RunningWithoutTwin", Mend.MIRROR),
    "its twin says something else": (twin_moved, Kind.STATUS_BEHIND, "NotMirrored", Mend.MIRROR),
    "a change was not passed on": (user_edited, Kind.TWIN_DRIFT, "NotPushedDown", Mend.NOTHING),
    "somebody changed the twin": (lender_edited, Kind.TWIN_DRIFT, "ChangedBelow", Mend.NOTHING),
    "the twin runs elsewhere": (on_another_node, Kind.WRONG_NODE, "RunsElsewhere", Mend.NOTHING),
}


@pytest.mark.parametrize("case", ABOVE)
def test_from_the_virtual_side(case: str) -> None:
    spoil, kind, reason, mend = ABOVE[case]
    vpod, twin = pair()
    finding = check_vpod(vpod, spoil(vpod, twin), SCENE)
    assert (finding and finding.kind, finding.reason if finding else "", finding.mend if finding else Mend.NOTHING) == (
        kind, reason, mend,
    )


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)  # when both Pods of a pair were scheduled; the twin was ready two seconds later


def seen(vpod: Json, twin: Json | None, seconds: float) -> Finding | None:
    return check_vpod(vpod, twin, replace(SCENE, now=NOON + timedelta(seconds=seconds)))


@pytest.mark.parametrize(("seconds", "told"), [(-3600, True), (-5, False), (0, False), (29, False), (30, True)])
def test_a_twin_is_missing_half_a_minute_after_the_pod_was_scheduled_and_not_before(seconds: int, told: bool) -> None:
    vpod, twin = pair()
    never_had_one(vpod, twin)
    assert bool(seen(vpod, None, seconds)) is told, "a time far ahead is of a clock that differs"
    vpod["metadata"]["creationTimestamp"] = vpod["status"]["conditions"][0]["lastTransitionTime"]
    vpod["status"]["conditions"] = []
    assert bool(seen(vpod, None, seconds)) is told, "of a Pod that no scheduler saw its creation counts"


def test_no_twin_is_missing_while_a_predecessors_ends_under_its_name() -> None:
    vpod, twin = pair(uid="v-2")
    never_had_one(vpod, twin)
    _, predecessor = pair(uid="v-1")
    assert reason(seen(vpod, predecessor, 300)) == (Kind.MISSING_TWIN, "NotCreated", False)
    predecessor["metadata"] |= {"deletionTimestamp": "2026-01-01T12:10:00Z", "deletionGracePeriodSeconds": 600}
    assert seen(vpod, predecessor, 300) is None
    predecessor["metadata"]["labels"] = {**predecessor["metadata"]["labels"], names.OWNER_LABEL: "0123456789abcdef"}
    assert reason(seen(vpod, predecessor, 300)) == (Kind.MISSING_TWIN, "NotCreated", False), "a stranger's is no predecessor"


def test_a_change_of_the_twin_has_some_seconds_to_come_up() -> None:
    vpod, twin = pair()
    twin_moved(vpod, twin)
    assert seen(vpod, twin, 4) is None, "it became ready at 2"
    assert reason(seen(vpod, twin, 7)) == (Kind.STATUS_BEHIND, "NotMirrored", True)
    assert reason(seen(vpod, twin, -3600)) == (Kind.STATUS_BEHIND, "NotMirrored", True), "the clock of the twin differs"
    written: Json = {"manager": "kubelet", "time": "2026-01-01T12:01:00Z", "subresource": "status"}
    twin["metadata"]["managedFields"] = [written]
    assert seen(vpod, twin, 63) is None
    del written["subresource"]
    assert reason(seen(vpod, twin, 63)) == (Kind.STATUS_BEHIND, "NotMirrored", True), "what was written was not its status"


OLDER: dict[str, Json] = {
    "addresses of the host": {"hostIPs": [{"ip": "10.0.0.7"}]},
    "a generation": {"observedGeneration": 1},
    "a field of containers": {
        "containerStatuses": [{"name": "app", "ready": True, "volumeMounts": [{"name": "x"}], "resources": {}}],
    },
    "a generation in a condition": {"conditions": [
        RUNNING["conditions"][0], {**RUNNING["conditions"][1], "observedGeneration": 1},
    ]},
}


@pytest.mark.parametrize("case", OLDER)
def test_what_an_older_virtual_api_server_drops_is_not_behind(case: str) -> None:
    vpod, twin = pair()
    vpod["metadata"]["generation"] = twin["metadata"]["generation"] = 1
    set_status(twin, **OLDER[case])
    if "containerStatuses" in twin["status"]:
        set_status(vpod, containerStatuses=[{"name": "app", "ready": True}])
    assert diff_pod_status(vpod, twin), "it is written, in vain"
    assert seen(vpod, twin, 60) is None
    set_status(twin, podIP="10.2.2.2")
    finding = seen(vpod, twin, 60)
    assert finding
    assert finding.cause.endswith("has not come up: podIP")


def test_a_container_that_says_something_else_is_behind_though_fields_were_dropped() -> None:
    vpod, twin = pair()
    set_status(vpod, containerStatuses=[{"name": "app", "ready": True}])
    set_status(twin, containerStatuses=[{"name": "app", "ready": False, "resources": {}}])
    assert reason(seen(vpod, twin, 60)) == (Kind.STATUS_BEHIND, "NotMirrored", True)


def test_a_pod_whose_twin_was_given_up_is_not_behind_it() -> None:
    vpod, twin = pair()
    set_status(vpod, phase="Failed", reason="FailedSchedulingPod")
    set_status(twin, phase="Failed", reason="NodeAffinity")
    assert seen(vpod, twin, 60) is None


def test_a_running_pod_that_never_had_a_twin_is_found_and_left_to_people() -> None:
    vpod, _ = pair()
    vpod["metadata"]["annotations"] = {}
    finding = check_vpod(vpod, None, SCENE)
    assert finding is not None
    assert (finding.reason, finding.repairable) == ("NeverHadTwin", False)


def below(*, vpod: Json | None, claims: Claims | None = None, **metadata: object) -> Finding | None:
    _, twin = pair()
    twin["metadata"] |= metadata
    return check_twin(twin, vpod, claims or Claims(), SCENE)


def reason(finding: Finding | None) -> tuple[Kind | None, str, bool]:
    return (finding.kind, finding.reason, finding.repairable) if finding else (None, "", False)


def test_from_the_physical_side() -> None:
    vpod, twin = pair()
    successor, _ = pair(uid="v-2")
    elsewhere = {**vpod, "spec": {**vpod["spec"], "nodeName": "real-node"}}
    bare = {**twin["metadata"]["annotations"]}
    for key in (names.VIRTUAL_POD_NAME_ANNOTATION, names.VIRTUAL_POD_UID_ANNOTATION):
        del bare[key]
    deleting = "2026-01-01T12:00:00Z"
    assert reason(below(vpod=None)) == (Kind.ORPHAN_TWIN, "NoVirtualPod", True)
    assert reason(below(vpod=None, deletionTimestamp=deleting)) == (None, "", False)
    assert reason(below(vpod=successor)) == (Kind.ORPHAN_TWIN, "Predecessor", True)
    assert reason(below(vpod=elsewhere)) == (Kind.ORPHAN_TWIN, "NodeMissing", False)
    assert reason(below(vpod=vpod, name="copied")) == (Kind.SECOND_TWIN, "NotItsName", True)
    assert reason(below(vpod=None, name="copied")) == (Kind.ORPHAN_TWIN, "Stray", True)
    assert reason(below(vpod=vpod, namespace="elsewhere")) == (Kind.ORPHAN_TWIN, "OutOfPlace", False)
    assert reason(below(vpod=None, annotations=bare)) == (Kind.ORPHAN_TWIN, "Stray", True)
    assert reason(below(vpod=None, annotations=bare, claims=claims_of([vpod]))) == (Kind.TWIN_DRIFT, "AnnotationsLost", False)
    assert reason(below(vpod=None, annotations=bare, name="x", claims=claims_of([vpod]))) == (
        Kind.TWIN_DRIFT, "AnnotationsLost", False,
    ), "known by the uid that the virtual Pod noted"


def test_a_token_secret_is_left_over_once_its_pod_is_gone_or_replaced_not_when_it_has_finished() -> None:
    vpod, twin = pair()
    secret = {"metadata": {"name": "token", "namespace": "lent", "uid": "s", "annotations": twin["metadata"]["annotations"]}}
    finished = {**vpod, "status": {"phase": "Failed"}}
    assert check_token_secret(secret, vpod) is None
    assert check_token_secret(secret, finished) is None, "the syncer keeps it as long as there is the Pod"
    for over in (None, pair(uid="v-2")[0]):
        assert reason(check_token_secret(secret, over)) == (Kind.LEFTOVER_TOKEN, "PodIsOver", True)


def test_what_only_one_of_two_looks_shows_is_in_flight() -> None:
    here, _ = pair()
    other, _ = pair("other", "v-3")
    lost, gone = check_vpod(here, None, SCENE), check_vpod(other, None, SCENE)
    assert lost
    assert gone
    assert lasting([lost], [gone, lost]) == [lost]
    assert lasting([gone], [lost]) == []


def test_the_wrong_ones_are_found_among_ten_thousand_pods() -> None:
    made = [pair(f"web-{number}", f"v-{number}") for number in range(10_000)]
    vnode = {
        "metadata": {"name": VNODE, "uid": "n", "annotations": {names.PHYSICAL_NODE_NAME_ANNOTATION: NODE}, "labels": {
            names.MANAGED_BY_LABEL: "kubeocean", names.PHYSICAL_CLUSTER_ID_LABEL: "edge",
        }}, "spec": {}, "status": {},
    }
    node: Json = {"metadata": {"name": NODE, "uid": "m"}, "spec": {}, "status": {}}
    spec = ClusterBindingSpec.model_validate({
        "clusterID": "edge", "secretRef": {"name": "s", "namespace": "s"}, "mountNamespace": "lent",
    })
    vpods, twins = [vpod for vpod, _ in made], [twin for _, twin in made]
    set_status(vpods[17], podIP="10.9.9.9")
    twins[42]["metadata"]["annotations"][names.VIRTUAL_POD_UID_ANNOTATION] = "somebody else's"
    del vpods[4711]
    snapshot = Snapshot("b", spec, OWNER, "lent", datetime(2026, 1, 1, tzinfo=UTC), {PODS: vpods, NODES: [vnode]}, {
        PODS: twins, NODES: [node],
    })
    found = [finding for finding in verify(snapshot) if finding.about.resource == PODS]
    assert {(finding.kind, finding.about.key.name.split("-")[1]) for finding in found} == {
        (Kind.STATUS_BEHIND, "17"), (Kind.LOST_TWIN, "42"), (Kind.ORPHAN_TWIN, "42"), (Kind.ORPHAN_TWIN, "4711"),
    }
