"""The next step for a virtual Pod and its twin: the table is the specification."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.api import names
from kubeocean.domain.ownership import Owner
from kubeocean.domain.podpair import (
    Adopt,
    ConfirmGone,
    ConfirmOrphan,
    CreateTwin,
    Decision,
    DeleteTwin,
    Later,
    MarkLost,
    Mirror,
    Nothing,
    PodFacts,
    Refuse,
    Release,
    decide_pod,
    is_twin_of,
)
from kubeocean.kube.meta import Json, format_time

OWNER = Owner("virtual-uid", "edge")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DELETED = "its virtual Pod is being deleted"


def vpod(
    *, phase: str = "Running", recorded: str = "", deleting: int | None = None, left: int | None = None,
    owners: Sequence[Json] = (), finalizers: Sequence[str] = (),
) -> Json:
    """Return a virtual Pod; `deleting` is the grace granted, `left` the seconds of it that remain."""
    annotations = {names.PHYSICAL_POD_UID_ANNOTATION: recorded} if recorded else {}
    pod: Json = {
        "metadata": {
            "name": "web-0", "namespace": "shop", "uid": "v-1", "annotations": annotations, "ownerReferences": owners,
            "finalizers": list(finalizers),
        },
        "spec": {}, "status": {"phase": phase},
    }
    return with_deletion(pod, deleting, left)


def twin(
    *, uid: str = "p-1", of: str | None = "v-1", ours: bool = True, deleting: int | None = None, left: int | None = None
) -> Json:
    annotations = {} if of is None else {names.VIRTUAL_POD_UID_ANNOTATION: of}
    labels = OWNER.labels() if ours else {"app": "theirs"}
    metadata = {"name": "web-0-x", "namespace": "lent", "uid": uid, "labels": labels, "annotations": annotations}
    return with_deletion({"metadata": metadata, "spec": {}, "status": {"phase": "Running"}}, deleting, left)


def unowned(of: str = "v-1") -> Json:
    """Return a twin as the Go project made it."""
    pod = twin(of=of)
    pod["metadata"]["labels"] = {names.MANAGED_BY_LABEL: names.MANAGED_BY_VALUE}
    pod["metadata"]["annotations"] |= {
        names.VIRTUAL_POD_NAMESPACE_ANNOTATION: "shop", names.VIRTUAL_POD_NAME_ANNOTATION: "web-0",
    }
    return pod


def with_deletion(pod: Json, granted: int | None, left: int | None) -> Json:
    if granted is not None:
        ends = NOON + timedelta(seconds=granted if left is None else left)
        pod["metadata"] |= {"deletionTimestamp": format_time(ends), "deletionGracePeriodSeconds": granted}
    return pod


def facts(virtual: Json | None, physical: Json | None = None, **known: Any) -> PodFacts:
    return PodFacts(virtual, physical, OWNER, NOON, **known)


def orphan(why: str, grace: int | None = 1, virtual_uid: str = "v-1") -> ConfirmOrphan:
    return ConfirmOrphan("p-1", virtual_uid, grace, why)


GONE = "its virtual Pod is gone"
UNBOUND = "its virtual Pod is bound to no virtual node of this binding"
PREDECESSOR = "it belongs to a predecessor of the virtual Pod of that name"
DAEMON = [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "d", "controller": True}]

TABLE: dict[str, tuple[PodFacts, Decision]] = {
    "neither is there": (facts(None), Nothing()),
    "a stranger without a virtual Pod is left alone": (facts(None, twin(ours=False)), Nothing()),
    "a twin without a virtual Pod is perhaps an orphan": (facts(None, twin()), orphan(GONE)),
    "so is one that lost its annotations": (facts(None, twin(of=None)), orphan(GONE, virtual_uid="")),
    "an orphan that is being deleted fast is left to its end": (facts(None, twin(deleting=1)), Nothing()),
    "an orphan that dies slowly is forced, as its Pod was": (facts(None, twin(deleting=30)), orphan(GONE)),
    "a Pod of somebody else's node is none of ours": (facts(vpod(), bound=False), Nothing()),
    "even when a stranger has its twin's name": (facts(vpod(), twin(ours=False), bound=False), Nothing()),
    "a twin of a Pod that is not bound here is perhaps an orphan": (
        facts(vpod(), twin(), bound=False), orphan(UNBOUND, None),
    ),
    "unless it is being deleted already": (facts(vpod(), twin(deleting=30), bound=False), Nothing()),
    "a predecessor's twin goes first": (facts(vpod(), twin(of="v-0")), orphan(PREDECESSOR, virtual_uid="v-0")),
    "also when the Pod itself is being deleted": (
        facts(vpod(deleting=30), twin(of="v-0")), orphan(PREDECESSOR, virtual_uid="v-0"),
    ),
    "and is waited for while it goes": (facts(vpod(), twin(of="v-0", deleting=1)), Later(6)),
    "which is told when it does not go": (
        facts(vpod(), twin(of="v-0", deleting=1, left=-5)),
        Refuse("PredecessorTerminating", (
            "physical Pod lent/web-0-x, of an earlier Pod of this name, has not ended on no node; "
            "this Pod starts once it is gone"
        )),
    ),
    "a Pod that is deleted meanwhile does not wait for it": (
        facts(vpod(deleting=30), twin(of="v-0", deleting=1)), ConfirmGone("", Release("v-1")),
    ),
    "a twin without annotations is claimed by nobody": (
        facts(vpod(), twin(of=None)), orphan(PREDECESSOR, virtual_uid=""),
    ),
    "unless the Pod remembers it": (facts(vpod(recorded="p-1"), twin(of=None)), Mirror()),
    "a twin that names no owner is adopted": (facts(vpod(), unowned()), Adopt()),
    "also when its Pod is being deleted": (facts(vpod(deleting=30, recorded="p-1"), unowned()), Adopt()),
    "also when its Pod has finished": (facts(vpod(phase="Succeeded"), unowned()), Adopt()),
    "not for a Pod that is bound elsewhere": (facts(vpod(), unowned(), bound=False), Nothing()),
    "nor when no Pod claims it": (facts(None, unowned()), Nothing()),
    "nor for a Pod of another uid": (
        facts(vpod(phase="Pending"), unowned(of="v-0")),
        Refuse("NameTaken", "physical Pod lent/web-0-x exists and is not ours; this Pod runs once the lender has removed it"),
    ),
    "a bound Pod without a twin gets one": (facts(vpod(phase="Pending")), CreateTwin()),
    "a Pod with its twin is mirrored": (facts(vpod(), twin()), Mirror()),
    "also when somebody deletes the twin by hand": (facts(vpod(), twin(deleting=30)), Mirror()),
    "a finished Pod with its twin is mirrored": (facts(vpod(phase="Succeeded"), twin()), Mirror()),
    "a Succeeded Pod stays so when its twin is collected": (
        facts(vpod(phase="Succeeded", recorded="p-1")), Nothing(),
    ),
    "a Failed Pod gets no second twin": (facts(vpod(phase="Failed")), Nothing()),
    "a Pod whose twin has vanished is lost, once that is proved": (
        facts(vpod(recorded="p-1")), ConfirmGone("p-1", MarkLost("v-1")),
    ),
    "also when a stranger took the name": (
        facts(vpod(recorded="p-1"), twin(ours=False)), ConfirmGone("p-1", MarkLost("v-1")),
    ),
    "a taken name is told": (
        facts(vpod(phase="Pending"), twin(ours=False)),
        Refuse("NameTaken", "physical Pod lent/web-0-x exists and is not ours; this Pod runs once the lender has removed it"),
    ),
    "a deleted Pod's twin is deleted with the whole grace": (
        facts(vpod(deleting=30), twin()), DeleteTwin("p-1", 30, DELETED),
    ),
    "or with what may be left of it": (facts(vpod(deleting=30, left=12), twin()), DeleteTwin("p-1", 13, DELETED)),
    "but with one second at least": (facts(vpod(deleting=30, left=-100), twin()), DeleteTwin("p-1", 1, DELETED)),
    "and never with more than was granted": (
        facts(vpod(deleting=30, left=500), twin()), DeleteTwin("p-1", 30, DELETED),
    ),
    "grace 0 with a finalizer gives the twin one second": (
        facts(vpod(deleting=0), twin()), DeleteTwin("p-1", 1, DELETED),
    ),
    "while the twin ends it is mirrored": (facts(vpod(deleting=30, left=20), twin(deleting=28)), Mirror()),
    "time that passes is no new deletion": (facts(vpod(deleting=30, left=2), twin(deleting=28)), Mirror()),
    "a shortened grace is passed on": (
        facts(vpod(deleting=5), twin(deleting=28)), DeleteTwin("p-1", 5, "the grace of its virtual Pod was shortened"),
    ),
    "only once": (facts(vpod(deleting=5, left=3), twin(deleting=5)), Mirror()),
    "a grace forced to 0 is passed on as one second": (
        facts(vpod(deleting=0), twin(deleting=28)), DeleteTwin("p-1", 1, "the grace of its virtual Pod was shortened"),
    ),
    "also only once": (facts(vpod(deleting=0), twin(deleting=1)), Mirror()),
    "a twin whose Node is gone needs no grace": (
        facts(vpod(deleting=30), twin(), node_gone=True), DeleteTwin("p-1", 0, DELETED),
    ),
    "nor one that waits in vain for its kubelet": (
        facts(vpod(deleting=30), twin(deleting=30), node_gone=True),
        DeleteTwin("p-1", 0, "its physical Node is gone, no kubelet will end it"),
    ),
    "which is said once": (facts(vpod(deleting=30), twin(deleting=0), node_gone=True), Mirror()),
    "nor does an orphan whose Node is gone": (facts(None, twin(), node_gone=True), orphan(GONE, 0)),
    "even if it was told to go with grace": (facts(None, twin(deleting=1), node_gone=True), orphan(GONE, 0)),
    "nor a predecessor's": (facts(vpod(), twin(of="v-0"), node_gone=True), orphan(PREDECESSOR, 0, virtual_uid="v-0")),
    "nor one whose Pod is not bound here": (facts(vpod(), twin(deleting=30), bound=False, node_gone=True), orphan(UNBOUND, 0)),
    "which is said once, too": (facts(None, twin(deleting=0), node_gone=True), Nothing()),
    "a deleted Pod whose twin is gone is released, once that is proved": (
        facts(vpod(deleting=30, recorded="p-1")), ConfirmGone("p-1", Release("v-1")),
    ),
    "also when nobody noted whether it had one": (facts(vpod(deleting=30)), ConfirmGone("", Release("v-1"))),
    "a finished one likewise": (
        facts(vpod(deleting=30, phase="Succeeded", recorded="p-1")), ConfirmGone("p-1", Release("v-1")),
    ),
    "a released Pod that a finalizer keeps is left alone": (
        facts(vpod(deleting=0, recorded="p-1", phase="Failed", finalizers=["batch.kubernetes.io/job-tracking"])), Nothing(),
    ),
    "but not before it says how it ended: somebody waits for that": (
        facts(vpod(deleting=0, recorded="p-1", finalizers=["batch.kubernetes.io/job-tracking"])),
        ConfirmGone("p-1", Release("v-1")),
    ),
    "one that nothing keeps was released by half, and is once more": (
        facts(vpod(deleting=0, recorded="p-1")), ConfirmGone("p-1", Release("v-1", again=True)),
    ),
    "also when it was refused": (
        facts(vpod(phase="Pending", deleting=0, owners=DAEMON)), Release("v-1", again=True),
    ),
    "a DaemonSet's Pod is refused": (
        facts(vpod(phase="Pending", owners=DAEMON)),
        Refuse(
            "DaemonSetNotAllowed",
            'Pods of DaemonSets run on virtual nodes only with annotation kubeocean.io/running-daemonset: "true" in the Pod '
            "template, or with spec.runningDaemonsetByDefault of the ClusterBinding",
        ),
    ),
    "unless the binding allows it": (facts(vpod(phase="Pending", owners=DAEMON), running_daemonsets=True), CreateTwin()),
    "a refused Pod is released at once": (facts(vpod(phase="Pending", deleting=30, owners=DAEMON)), Release("v-1")),
    "unless it had a twin before it was refused": (
        facts(vpod(deleting=30, recorded="p-1", owners=DAEMON)), ConfirmGone("p-1", Release("v-1")),
    ),
    "a refused Pod that runs goes on running": (facts(vpod(owners=DAEMON), twin()), Mirror()),
}


@pytest.mark.parametrize("case", TABLE)
def test_decide_pod(case: str) -> None:
    given_facts, expected = TABLE[case]
    before = copy.deepcopy((given_facts.vpod, given_facts.ppod))
    assert decide_pod(given_facts) == expected
    assert (given_facts.vpod, given_facts.ppod) == before


VPODS = st.one_of(st.none(), st.builds(
    vpod, phase=st.sampled_from(["Pending", "Running", "Succeeded"]), recorded=st.sampled_from(["", "p-1"]),
    deleting=st.sampled_from([None, 0, 1, 30]), left=st.sampled_from([None, -5, 7]),
))
PPODS = st.one_of(st.none(), st.builds(
    twin, of=st.sampled_from([None, "v-0", "v-1"]), ours=st.booleans(), deleting=st.sampled_from([None, 0, 1, 30]),
))


def test_the_note_of_a_twin_counts_only_for_the_pod_it_was_made_for() -> None:
    exported = vpod(recorded="p-1")
    exported["metadata"]["annotations"][names.MAPPED_UID_ANNOTATION] = "v-1"
    assert decide_pod(facts(exported, None)) == ConfirmGone("p-1", MarkLost("v-1"))
    again = copy.deepcopy(exported)
    again["metadata"]["uid"] = "v-2"
    assert decide_pod(facts(again, None)) == CreateTwin()


@given(st.timedeltas(timedelta(0), timedelta(seconds=1)), st.integers(1, 600), st.timedeltas(timedelta(0), timedelta(hours=1)))
def test_no_grace_is_cut_short_and_none_made_longer_than_granted(asked: timedelta, granted: int, later: timedelta) -> None:
    """The API writes times in whole seconds: of a deletion asked for at :00.9 it says that its grace ends at :30, not :30.9."""
    deleted = vpod(deleting=granted)
    decision = decide_pod(replace(facts(deleted, twin()), now=NOON + asked + later))
    assert isinstance(decision, DeleteTwin)
    remains = timedelta(seconds=granted) - later
    assert remains <= timedelta(seconds=decision.grace_seconds) <= timedelta(seconds=granted)
    assert decision.grace_seconds <= max(1, remains.total_seconds() + 2)


@given(VPODS, PPODS, st.booleans(), st.booleans())
def test_what_is_not_ours_is_never_deleted(virtual: Json | None, physical: Json | None, bound: bool, node_gone: bool) -> None:
    decision = decide_pod(facts(virtual, physical, bound=bound, node_gone=node_gone))
    if physical is None or physical["metadata"]["labels"] != OWNER.labels():
        assert not isinstance(decision, DeleteTwin | ConfirmOrphan)
    if isinstance(decision, DeleteTwin):
        assert virtual
        assert physical
        assert is_twin_of(physical, virtual, OWNER)


@given(VPODS, PPODS, st.booleans())
def test_a_twin_is_created_only_where_none_was_and_none_is(virtual: Json | None, physical: Json | None, bound: bool) -> None:
    if isinstance(decide_pod(facts(virtual, physical, bound=bound)), CreateTwin):
        assert physical is None
        assert virtual
        assert names.PHYSICAL_POD_UID_ANNOTATION not in virtual["metadata"]["annotations"]


@given(VPODS, PPODS, st.booleans())
def test_a_deletion_that_was_sent_is_not_sent_again(virtual: Json | None, physical: Json | None, node_gone: bool) -> None:
    before = facts(virtual, physical, node_gone=node_gone)
    decision = decide_pod(before)
    if isinstance(decision, DeleteTwin) and physical:
        after = with_deletion(copy.deepcopy(physical), decision.grace_seconds, None)
        assert decide_pod(replace(before, ppod=after)) == Mirror()
