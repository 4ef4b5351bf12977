from datetime import UTC, datetime, timedelta

import pytest

from kubeocean.domain.bindingstatus import (
    BindingFacts,
    Connection,
    SyncerState,
    decide_binding,
    diff_status,
    find_duplicate,
)
from kubeocean.domain.proxierstate import ProxierState
from kubeocean.kube.meta import Json
from kubeocean.kube.patch import apply_merge

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WELL = Connection(version="v1.34.4", uid="physical-uid")
RUNNING = SyncerState(True, "synchronising")


def binding(
    name: str = "lender-a", *, cluster_id: str = "a", created: str = "2026-01-01T00:00:00Z", **metadata: object
) -> Json:
    return {
        "metadata": {"name": name, "creationTimestamp": created, "resourceVersion": "7", "generation": 3, **metadata},
        "spec": {"clusterID": cluster_id},
    }


DELETING = binding(deletionTimestamp="2026-01-01T11:00:00Z")
PROMISES = {
    "what is invalid is said before anything is tried": (
        BindingFacts(binding(), problems=("spec.mountNamespace: is required",)), ("Failed", "ValidationFailed", False)),
    "what has been served is served on": (
        BindingFacts(binding(finalizers=["kubeocean.io/clusterbinding-syncer"]), problems=("spec.timeZone: unknown",)),
        ("Failed", "ValidationFailed", True)),
    "a clusterID in use is refused": (
        BindingFacts(binding(), duplicate_of="lender-b"), ("Failed", "ValidationFailed", False)),
    "a binding nobody has looked at yet is pending": (BindingFacts(binding()), ("Pending", "Initializing", False)),
    "a failed connection starts no syncer": (
        BindingFacts(binding(), connection=Connection("ConnectivityFailed", "refused")),
        ("Failed", "ConnectivityFailed", False)),
    "unless there is something of ours to look after": (
        BindingFacts(
            binding(finalizers=["kubeocean.io/clusterbinding-syncer"]), connection=Connection("ConnectivityFailed", "refused"),
        ), ("Failed", "ConnectivityFailed", True)),
    "a good connection starts the syncer": (
        BindingFacts(binding(), connection=WELL), ("Pending", "Initializing", True)),
    "a syncer's own trouble is the binding's": (
        BindingFacts(binding(), connection=WELL, syncer=SyncerState(False, "claimed by b", "NamespaceClaimed")),
        ("Failed", "NamespaceClaimed", True)),
    "when all is well it is ready": (
        BindingFacts(binding(), connection=WELL, syncer=RUNNING), ("Ready", "Ready", True)),
    "one that is being deleted says so": (
        BindingFacts(DELETING, connection=WELL, syncer=SyncerState(True, "unbinding")), ("Pending", "Unbinding", True)),
    "and why it waits": (
        BindingFacts(DELETING, syncer=SyncerState(False, "no answer", "ClusterUnreachable")),
        ("Failed", "ClusterUnreachable", True)),
}


@pytest.mark.parametrize("promise", PROMISES)
def test_decide(promise: str) -> None:
    facts, expected = PROMISES[promise]
    verdict = decide_binding(facts)
    assert (verdict.phase, verdict.reason, verdict.launch) == expected


def test_a_waiting_deletion_names_the_way_out() -> None:
    facts = BindingFacts(DELETING, syncer=SyncerState(False, "no answer", "ClusterUnreachable"))
    assert "deletionPolicy: Force" in decide_binding(facts).message


def write(facts: BindingFacts, *, now: datetime = NOON) -> Json | None:
    return diff_status(facts, decide_binding(facts), now)


@pytest.mark.parametrize("promise", PROMISES)
def test_a_second_pass_writes_nothing(promise: str) -> None:
    facts, _ = PROMISES[promise]
    patch = write(facts)
    assert patch is not None
    after = apply_merge(facts.binding, {"status": patch["status"]})
    again = BindingFacts(after, facts.problems, facts.duplicate_of, facts.connection, facts.syncer)
    assert write(again, now=NOON + timedelta(hours=1)) is None


def test_a_write_carries_the_version_it_was_decided_on() -> None:
    patch = write(BindingFacts(binding()))
    assert patch is not None
    assert patch["metadata"] == {"name": "lender-a", "resourceVersion": "7"}


def test_the_clusters_uid_is_written_once_and_never_changed() -> None:
    known = binding() | {"status": {"physicalClusterUID": "first"}}
    patch = write(BindingFacts(known, connection=WELL, syncer=RUNNING))
    assert patch is not None
    assert "physicalClusterUID" not in patch["status"]


def test_other_programs_conditions_are_kept_and_times_move_only_with_the_status() -> None:
    theirs = {"type": "Backup", "status": "True"}
    ours = {"type": "Connected", "status": "True", "reason": "x", "message": "y", "lastTransitionTime": "2025-01-01T00:00:00Z"}
    old = binding() | {"status": {"conditions": [theirs, ours]}}
    patch = write(BindingFacts(old, connection=WELL, syncer=RUNNING))
    assert patch is not None
    conditions = {condition["type"]: condition for condition in patch["status"]["conditions"]}
    assert conditions["Backup"] == theirs
    assert conditions["Connected"]["lastTransitionTime"] == "2025-01-01T00:00:00Z"
    assert conditions["Ready"]["lastTransitionTime"] == "2026-01-01T12:00:00Z"


SERVED = {"type": "ProxierReady", "status": "True", "reason": "Serving", "message": "at 127.0.0.1"}
PROXIERS = {
    "where others start it nobody here knows": (None, None, ("Unknown", "NotDeployed")),
    "one that serves is ready": (ProxierState(True, "at 127.0.0.1"), None, ("True", "Serving")),
    "one that starts is not yet": (ProxierState(False, "reading"), None, ("False", "Initializing")),
    "one that fails says so": (ProxierState(False, "died", "ProxierFailed"), None, ("False", "ProxierFailed")),
    "one that served and fails, too": (ProxierState(False, "died", "ProxierFailed"), SERVED, ("False", "ProxierFailed")),
    "one that merely starts again with its manager is no news": (ProxierState(False, "reading"), SERVED, ("True", "Serving")),
    "what was served is not believed when the launcher is another": (None, SERVED, ("Unknown", "NotDeployed")),
}


@pytest.mark.parametrize("promise", PROXIERS)
def test_the_proxier_is_told_of_and_is_not_part_of_ready(promise: str) -> None:
    proxier, before, expected = PROXIERS[promise]
    old = binding() | {"status": {"conditions": [before] if before else []}}
    patch = write(BindingFacts(old, connection=WELL, syncer=RUNNING, proxier=proxier))
    assert patch is not None
    conditions = {condition["type"]: condition for condition in patch["status"]["conditions"]}
    assert conditions["Ready"]["status"] == "True"
    assert (conditions["ProxierReady"]["status"], conditions["ProxierReady"]["reason"]) == expected


def test_the_first_binding_with_a_cluster_id_is_never_harmed() -> None:
    first, second = binding("z", created="2026-01-01T00:00:00Z"), binding("a", created="2026-01-02T00:00:00Z")
    other = binding("m", cluster_id="other", created="2025-01-01T00:00:00Z")
    assert find_duplicate(first, [second, other, first]) == ""
    assert find_duplicate(second, [second, other, first]) == "z"


def test_a_ready_binding_whose_syncer_is_started_again_is_no_news() -> None:
    ready = BindingFacts(binding(), connection=WELL, syncer=RUNNING)
    patch = diff_status(ready, decide_binding(ready), NOON)
    assert patch is not None
    facts = BindingFacts(apply_merge(binding(), patch), connection=WELL, syncer=SyncerState(False, "the syncer is starting"))
    assert diff_status(facts, decide_binding(facts), NOON) is None
    edited = BindingFacts(facts.binding | {"metadata": facts.binding["metadata"] | {"generation": 4}}, connection=WELL)
    assert diff_status(edited, decide_binding(edited), NOON) is not None


def test_of_two_equally_old_the_connected_one_is_the_first() -> None:
    connected = binding("z-connected") | {"status": {"physicalClusterUID": "physical-uid"}}
    newcomer = binding("a-newcomer")
    assert find_duplicate(connected, [newcomer, connected]) == ""
    assert find_duplicate(newcomer, [newcomer, connected]) == "z-connected"


def test_a_syncer_that_gets_no_answer_is_believed_before_the_manager_has_looked_itself() -> None:
    away = SyncerState(False, "the physical cluster does not answer", "ClusterUnreachable")
    facts = BindingFacts(binding(), connection=WELL, syncer=away)
    patch = diff_status(facts, decide_binding(facts), NOON)
    assert patch is not None
    (connected,) = [each for each in patch["status"]["conditions"] if each["type"] == "Connected"]
    assert (connected["status"], connected["reason"]) == ("False", "ClusterUnreachable")
