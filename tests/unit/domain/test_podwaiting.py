"""What a Pod waits for, told with its name and remedy: the tables are the specification."""

import copy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from kubeocean.api import names
from kubeocean.domain.podstory import NamedClaim, PodStory
from kubeocean.domain.podwaiting import explain_waiting
from kubeocean.domain.provisioning import SELECTED_NODE
from kubeocean.kube.meta import Json
from tests.unit.domain.test_explanation import at, story


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
    return explain_waiting(replace(told, vpod=vpod))


def twin_with(**status: Any) -> Json:
    twin = story().ppod
    assert twin
    return {**twin, "status": {"phase": "Pending", **status}}


PULL = {"name": "app", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
NO_ROOM = false("PodScheduled", "Unschedulable", "no room")
TABLE: dict[str, tuple[dict[str, Any], str]] = {
    "a scheduler of its own": ({"node": None}, "has not looked at it yet"),
    "a toleration": (
        {"node": None, "conditions": (false(
            "PodScheduled", "Unschedulable", "1 node(s) had untolerated taint(s) {kubeocean.io/vnode: }",
        ),)}, "only Pods that tolerate this taint run on virtual nodes",
    ),
    "the ClusterBinding of its virtual node": (
        {"ours": False, "unbound_cluster": "gone"}, "belongs to clusterID gone, of which there is no ClusterBinding",
    ),
    "its virtual node to be made again": (
        {"ours": False, "node_gone": True}, "by its name it is a virtual node of ClusterBinding lender, whose syncer makes it",
    ),
    "a virtual node that nobody makes any more": (
        {"ours": False, "node_gone": True, "binding": ""}, "by its name it was a virtual node, and no ClusterBinding has its",
    ),
    "a node": ({"node": None, "conditions": (NO_ROOM,)}, "the virtual scheduler: Unschedulable: no room"),
    "a kubelet of the virtual cluster": ({"ours": False}, "no virtual node of any ClusterBinding"),
    "a ConfigMap": ({"ppod": None, "missing": ("ConfigMap shop/x",)}, "ConfigMap shop/x, which does not exist: create it"),
    "what it will never get": (
        {"ppod": None, "refusal": "FieldNotSupported: spec.x"}, "nothing: it gets no twin as it is: FieldNotSupported: spec.x",
    ),
    "nothing that will come once its ClusterBinding is being deleted": (
        {"ppod": None, "unbinding": True}, "nothing: it gets no twin any more, for ClusterBinding lender is being deleted",
    ),
    "what the syncer says": (
        {"ppod": None, "conditions": (false(names.PHYSICAL_POD_CREATED, "NameTaken", "by him"),)},
        "the syncer of ClusterBinding lender, which says NameTaken: by him",
    ),
    "the syncer": ({"ppod": None}, "the syncer of ClusterBinding lender, to create its twin: see that one runs"),
    "to be told that its twin is gone": (
        {"ppod": None, "annotations": {names.PHYSICAL_POD_UID_ANNOTATION: "p"}}, "Failed/PhysicalPodLost",
    ),
    "an image": ({"ppod": twin_with(containerStatuses=[PULL])}, "container app: ImagePullBackOff: no such image"),
    "readiness": ({"ppod": twin_with(conditions=[false("Ready", "ContainersNotReady", "app")])}, "ContainersNotReady: app"),
    "its status": ({}, "the syncer of ClusterBinding lender, to mirror the status"),
    "the end of its twin to be mirrored": ({"ppod": twin_with(phase="Failed")}, "to mirror that its twin lent/"),
    "the kubelet": ({"ppod": twin_with()}, "the kubelet of physical node node-7, to accept its twin lent/"),
}


@pytest.mark.parametrize("case", TABLE)
def test_a_pod_waits_for(case: str) -> None:
    given, said = TABLE[case]
    assert said in waiting(**given)[0]


def test_a_node_that_does_not_exist_is_told_as_such() -> None:
    vpod = copy.deepcopy(story().vpod)
    vpod["spec"]["nodeName"] = "worker-3"
    assert explain_waiting(PodStory(vpod, node_gone=True)) == [
        "node worker-3, which does not exist: nobody runs the Pod, and unless it is there again soon the Pod garbage collector "
        "removes it",
    ]


def test_what_the_syncer_says_as_well_is_told_once() -> None:
    said = false(names.PHYSICAL_POD_CREATED, "MandatoryConfigMapNotFound", (
        "waits for ConfigMap shop/x (spec.y), which does not exist: create it and the Pod starts"
    ))
    told = waiting(ppod=None, missing=("ConfigMap shop/x (spec.y)",), conditions=(said,))
    assert told == ["ConfigMap shop/x (spec.y), which does not exist: create it"]
    refused = false(names.PHYSICAL_POD_CREATED, "FieldNotSupported", "spec.x")
    assert len(waiting(ppod=None, refusal="FieldNotSupported: spec.x", conditions=(refused,))) == 1


def test_where_the_syncer_is_waited_for_its_binding_may_complain() -> None:
    complaint = "Connected=False (Unreachable: no answer)"
    assert waiting(ppod=None, binding_says=complaint)[1:] == [f"ClusterBinding lender, which says {complaint}"]
    assert len(waiting(ppod=twin_with(containerStatuses=[PULL]), binding_says=complaint)) == 1, "the kubelet is, there"


def test_a_twin_without_a_node_says_how_long_it_may_wait() -> None:
    twin = twin_with(conditions=[NO_ROOM])
    (wait,) = waiting(ppod={**twin, "spec": {**twin["spec"], "nodeName": None}})
    assert wait == (
        "the physical scheduler of ClusterBinding lender: Unschedulable: no room; a twin without a node is given up 5 minutes "
        "after its creation, the Pod is then Failed/FailedSchedulingPod"
    )


def test_who_gated_a_pod_is_waited_for_and_no_scheduler() -> None:
    gated = story()
    gated.vpod["spec"] |= {"nodeName": None, "schedulingGates": [{"name": "quota.example/checked"}]}
    (wait,) = explain_waiting(gated)
    assert wait == "whoever takes scheduling gate quota.example/checked off it: no scheduler looks at it before"


# --- a predecessor, a stranger, a twin that was taken ------------------------------------------------------------------
def going(grace: int = 30) -> Json:
    """Return a Pod whose deletion was asked for at 10."""
    twin = twin_with(phase="Running")
    fields = {"deletionTimestamp": at(10 + grace), "deletionGracePeriodSeconds": grace}
    return {**twin, "metadata": {**twin["metadata"], **fields}}


def second(number: int) -> datetime:
    return datetime(2026, 1, 1, 12, 0, number, tzinfo=UTC)


NEVER_BELOW_ZERO = "deleted 0 s ago, grace 30 s"


def test_the_twin_of_an_earlier_pod_is_waited_for_with_the_time_it_has() -> None:
    (wait,) = waiting(ppod=None, predecessor=going(), now=second(17))
    assert wait.startswith("the twin of an earlier Pod of this name, lent/web-0-")
    assert wait.endswith("of ClusterBinding lender, to end (deleted 7 s ago, grace 30 s)")
    assert NEVER_BELOW_ZERO in waiting(ppod=None, predecessor=going(), now=second(3))[0], "clocks may differ"
    (wait,) = waiting(ppod=None, predecessor=twin_with(phase="Running"), now=second(17))
    assert "the syncer of ClusterBinding lender, to delete the twin of an earlier Pod" in wait


def test_a_strangers_pod_of_the_twins_name_is_the_lenders_to_remove() -> None:
    assert "the lender, to remove Pod lent/web-0-" in waiting(ppod=None, taken=twin_with())[0]


def test_a_twin_that_is_taken_away_below_says_by_whom() -> None:
    twin = going()
    evicted = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "evicting"}
    twin["status"] = {**twin["status"], "conditions": [evicted]}
    (wait,) = waiting(ppod=twin, now=second(20))
    assert "somebody in the physical cluster has asked for it (EvictionByEvictionAPI: evicting), deleted 10 s ago" in wait


def test_a_change_that_did_not_reach_the_twin_is_told_beside_what_is_wrong_with_it() -> None:
    refused = false(names.PHYSICAL_POD_UPDATED, "BeyondLease", "cpu")
    told = waiting(ppod=twin_with(containerStatuses=[PULL]), conditions=(refused,))
    assert [each.split(":")[0] for each in told] == ["container app", "a change of it to reach its twin"]
    running = story()
    running.vpod["status"]["conditions"].append(refused)
    assert explain_waiting(running) == ["a change of it to reach its twin: BeyondLease: cpu"]


# --- containers --------------------------------------------------------------------------------------------------------
HIS_TURN: Json = {"waiting": {"reason": "PodInitializing"}}
RUNS: Json = {"running": {"startedAt": at(5)}}
DONE: Json = {"terminated": {"exitCode": 0, "reason": "Completed"}}
FAILED: Json = {"terminated": {"exitCode": 1, "reason": "Error"}}
CRASHES: Json = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}


def initializing(*init: Json, sidecars: tuple[str, ...] = ()) -> list[str]:
    """Return what a Pod waits for whose init containers stand like this; the one beside them is not yet at its turn."""
    statuses = [{"name": f"step-{number}", **status} for number, status in enumerate(init, 1)]
    twin = twin_with(
        initContainerStatuses=statuses, containerStatuses=[{"name": "app", "state": HIS_TURN}],
        conditions=[false("Ready", "ContainersNotReady", "app")],
    )
    specs = [
        {"name": each["name"], **({"restartPolicy": "Always"} if each["name"] in sidecars else {})} for each in statuses
    ]
    return waiting(ppod={**twin, "spec": {**twin["spec"], "initContainers": specs}})


INIT: dict[str, tuple[tuple[Json, ...], tuple[str, ...], str]] = {
    "one that runs": (
        ({"state": DONE}, {"state": RUNS}, {"state": HIS_TURN}), (),
        "init container step-2 (2 of 3) to finish: it has run since 2026-01-01T12:00:05Z",
    ),
    "an image": (
        ({"image": "nobody/knows", "state": {"waiting": {"reason": "ErrImagePull"}}}, {"state": HIS_TURN}), (),
        "init container step-1 (1 of 2): ErrImagePull; image nobody/knows: nodes of the physical cluster pull it",
    ),
    "one that crashes": (
        ({"restartCount": 4, "state": CRASHES, "lastState": FAILED},), (),
        "init container step-1 (1 of 1): CrashLoopBackOff: back-off 40s; it last ended with Error, exit code 1, restarted "
        "4 times: `kubectl -n shop logs web-0 -c step-1 --previous`",
    ),
    "one that has failed": (
        ({"state": FAILED},), (), "init container step-1 (1 of 1) to run again: Error, exit code 1: `kubectl -n shop logs",
    ),
    "a sidecar that is not up": (
        ({"started": False, "state": RUNS}, {"state": HIS_TURN}), ("step-1",),
        "sidecar step-1 (1 of 2) to have started: its startup probe has not succeeded",
    ),
    "what comes after a sidecar": (
        ({"started": True, "state": RUNS}, {"state": RUNS}), ("step-1",), "init container step-2 (2 of 2) to finish",
    ),
    "a sidecar that ended": (({"state": DONE},), ("step-1",), "sidecar step-1 (1 of 1) to run again: Completed, exit code 0"),
}


@pytest.mark.parametrize("case", INIT)
def test_among_init_containers_it_waits_for(case: str) -> None:
    init, sidecars, said = INIT[case]
    (wait,) = initializing(*init, sidecars=sidecars)
    assert wait.startswith(said)


def test_a_container_that_runs_and_is_not_ready_names_the_probe() -> None:
    for started, probe in ((True, "readiness"), (False, "startup")):
        status = {"name": "app", "ready": False, "started": started, "state": RUNS}
        (wait,) = waiting(ppod=twin_with(phase="Running", containerStatuses=[status]))
        assert wait.endswith(f"its {probe} probe has not succeeded")


# --- claims ------------------------------------------------------------------------------------------------------------
def claim(phase: str = "Pending", **spec: Any) -> Json:
    return {"metadata": {"name": "data", "namespace": "shop"}, "spec": spec, "status": {"phase": phase}}


def of_class(mode: str) -> dict[str, Any]:
    return {"storage_class": {"provisioner": "his/own", "volumeBindingMode": mode}}


CHOSEN = claim(storageClassName="fast")
CHOSEN["metadata"]["annotations"] = {SELECTED_NODE: "vnode-edge-node-7"}
ASKED = claim(storageClassName="fast")
ASKED["metadata"]["annotations"] = {names.BINDING_OF_CLAIM_ANNOTATION: "lender"}
CLAIMS: dict[str, tuple[NamedClaim, str]] = {
    "is of a class that does not exist": (
        NamedClaim(claim(storageClassName="fast"), class_gone=True), "is Pending: there is no StorageClass fast: create it",
    ),
    "is of no class": (NamedClaim(claim()), "which is Pending: it names no StorageClass, so a PersistentVolume that fits"),
    "is of a class that waits": (
        NamedClaim(claim(storageClassName="fast"), **of_class("WaitForFirstConsumer")),
        "which is Pending: usual with StorageClass fast (WaitForFirstConsumer)",
    ),
    "is of a class that binds at once": (
        NamedClaim(claim(storageClassName="fast"), **of_class("Immediate")), "its provisioner his/own has made no volume",
    ),
    "gets its volume": (NamedClaim(CHOSEN, **of_class("WaitForFirstConsumer")), "is being made for node vnode-edge-node-7"),
    "names a binding": (NamedClaim(ASKED, **of_class("Immediate")), "ClusterBinding lender is to have its volume made"),
    "names a volume": (NamedClaim(claim(volumeName="pv-1")), "it names PersistentVolume pv-1, which is not bound to it"),
    "has lost its volume": (NamedClaim(claim("Lost", volumeName="pv-1")), "which is Lost: PersistentVolume pv-1 is gone"),
}


@pytest.mark.parametrize("case", CLAIMS)
def test_a_pod_without_a_node_names_its_claim_that(case: str) -> None:
    named, said = CLAIMS[case]
    _, wait = waiting(node=None, conditions=(NO_ROOM,), claims=(named,))
    assert wait.startswith("PersistentVolumeClaim shop/data, which is ")
    assert said in wait


def test_a_claim_that_no_scheduler_saw_is_no_usual_one() -> None:
    named = NamedClaim(claim(storageClassName="fast"), **of_class("WaitForFirstConsumer"))
    (wait,) = waiting(ppod=None, claims=(named,))
    assert "because spec.nodeName was given: name the node in a nodeSelector (kubernetes.io/hostname: vnode-edge-" in wait


def test_a_bound_claim_is_not_waited_for_and_one_of_the_physical_cluster_is_while_the_twin_is_not_ready() -> None:
    bound = NamedClaim(claim("Bound", volumeName="pv-1"))
    below = {"kind": "PersistentVolumeClaim", **claim()}
    twin = twin_with(conditions=[false("Ready", "ContainersNotReady", "app")])
    (wait,) = waiting(ppod=twin, claims=(bound,), copies=(below,))
    assert wait.startswith("PersistentVolumeClaim shop/data in the physical cluster of ClusterBinding lender, which is Pending")


def test_a_pod_that_runs_waits_for_nothing_and_one_that_leaves_says_whom_it_waits_for() -> None:
    assert explain_waiting(story()) == []
    leaving = story()
    leaving.vpod["metadata"] |= {"deletionTimestamp": at(40), "finalizers": ["his/own"]}
    assert "its twin lent/" in explain_waiting(leaving)[0]
    assert explain_waiting(PodStory(leaving.vpod, ours=True)) == ["whoever holds it by finalizer his/own"]
    elsewhere = PodStory({**leaving.vpod, "metadata": {**leaving.vpod["metadata"], "finalizers": []}})
    assert "its kubelet has the word" in explain_waiting(elsewhere)[0], "no syncer of ours releases it"
    assert explain_waiting(replace(story(), ours=False, ppod=None, binding="")) == [], "it runs, on an ordinary node"
    orphan = replace(elsewhere, node_gone=True, binding="")
    assert "`kubectl -n shop delete pod web-0 --grace-period=0 --force`" in explain_waiting(orphan)[0]
    gated = story()
    gated.vpod["spec"]["readinessGates"] = [{"conditionType": "balanced"}]
    assert "readiness gate balanced" in explain_waiting(gated)[0]
