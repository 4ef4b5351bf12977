"""What is done next about a claim, case by case; and what its sizes and its provisioning make of it."""

from dataclasses import replace
from typing import Any

import pytest

from kubeocean.domain.claimpair import (
    Carry,
    ClaimFacts,
    DropVolume,
    GiveUp,
    Idle,
    NoteOrigin,
    Provision,
    Publish,
    Remove,
    Serve,
    Step,
    Unmark,
    decide_claim,
    is_usable,
)
from kubeocean.domain.claimsize import build_first_request, build_growth, diff_claim_status, diff_request
from kubeocean.domain.copyfindings import StorageScene, check_storage
from kubeocean.domain.findings import Kind, Mend
from kubeocean.domain.ownership import Owner
from kubeocean.domain.provisioning import check_claim, check_class, handle_of
from kubeocean.domain.volumemap import build_origin_note
from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.kube.patch import apply_merge
from kubeocean.kube.quantity import parse

KEY, TWIN_KEY = ObjectKey("ns", "data"), ObjectKey("mount", "data-1")
MARKS = {"labels": {"kubeocean.io/synced-by-edge": "true"}, "finalizers": ["kubeocean.io/finalizer-edge"]}
DELETING = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
MARKED = {"metadata": MARKS}


def claim(*changes: Json, volume: str = "vol", bound: bool = True) -> Json:
    obj: Json = {
        "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "ns", "uid": "u1"},
        "spec": {"resources": {"requests": {"storage": "1Gi"}}, **({"volumeName": volume} if volume else {})},
        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}} if bound else {"phase": "Pending"},
    }
    return changed(obj, *changes)


def carried(*changes: Json) -> Json:
    """Return a volume of the virtual cluster."""
    obj: Json = {
        "kind": "PersistentVolume", "metadata": {"name": "vol"},
        "spec": {"nfs": {}, "capacity": {"storage": "1Gi"}}, "status": {"phase": "Bound"},
    }
    return changed(obj, *changes)


def ours(*changes: Json, policy: str = "Delete", uid: str = "u1", phase: str = "Bound") -> Json:
    """Return a virtual volume whose data the twin holds."""
    csi = {
        "driver": "claims.kubeocean.io", "volumeHandle": handle_of(TWIN_KEY, "edge"),
        "volumeAttributes": {"virtualNamespace": "ns", "virtualName": "data", "virtualUID": uid},
    }
    obj: Json = {
        "kind": "PersistentVolume", "metadata": {"name": f"edge-{uid}", **MARKS},
        "spec": {"csi": csi, "persistentVolumeReclaimPolicy": policy, "claimRef": {"uid": uid}}, "status": {"phase": phase},
    }
    return changed(obj, *changes)


def twin(*changes: Json, uid: str = "u1", provisioned: bool = False, bound: bool = True, node: str = "") -> Json:
    annotations = {"kubeocean.io/virtual-uid": uid}
    if node:
        annotations |= {"kubeocean.io/selected-node": node, "volume.kubernetes.io/selected-node": node}
    obj: Json = {
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "data-1", "namespace": "mount", "uid": "t1", "annotations": annotations,
            "labels": {"kubeocean.io/provisioned": "true"} if provisioned else {},
        },
        "spec": {"resources": {"requests": {"storage": "1Gi"}}, **({"volumeName": "pv"} if bound or not provisioned else {})},
        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}} if bound else {"phase": "Pending"},
    }
    return changed(obj, *changes)


def twin_volume(*, uid: str = "u1", claim_uid: str = "t1") -> Json:
    return {
        "kind": "PersistentVolume", "metadata": {"name": "pv", "annotations": {"kubeocean.io/virtual-claim-uid": uid}},
        "spec": {"claimRef": {"uid": claim_uid}},
    }


def changed(obj: Json, *changes: Json) -> Json:
    for change in changes:
        obj = apply_merge(obj, change)
    return obj


def facts(virtual: Json | None, *volumes: Json, **more: Any) -> ClaimFacts:
    return replace(ClaimFacts(KEY, TWIN_KEY, "edge", "lender", virtual, tuple(volumes)), **more)


NEEDED: Any = {"needed": True}
SERVED: Any = {"twin": twin(provisioned=True)}
WAITS = claim(volume="", bound=False)
NAMELESS = twin(uid="", provisioned=True)
MADE = twin(provisioned=True, bound=False, node="node-1")
GIVEN_UP = changed(MADE, {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": None}}})
KEPT = ours(policy="Retain", phase="Released")
KEPT_NO_MORE = changed(KEPT, DELETING)
AT_PV, AT_OLD = ({"metadata": {"annotations": {"kubeocean.io/physical-name": name}}} for name in ("pv", "old"))
MISNOTED = twin(uid="u9", provisioned=True)
STALE = ours(AT_OLD, uid="u0", policy="Retain", phase="Released")
LEAVING = claim(MARKED, DELETING, volume="", bound=False)
HEIRS, NOBODYS = {"spec": {"claimRef": {"uid": "u9"}}}, {"spec": {"claimRef": None}}
CASES: list[tuple[str, ClaimFacts, type[Step], str]] = [
    ("nobody needs a bound claim", facts(claim(), carried()), Idle, ""),
    ("a Pod needs a bound claim", facts(claim(), carried(), **NEEDED), Carry, ""),
    ("its volume is missing", facts(claim(), **NEEDED), Idle, "PersistentVolumeNotFound"),
    ("it is about to be bound", facts(claim(bound=False), carried(), **NEEDED), Idle, "ClaimNotBound"),
    ("a claim in use stays carried without Pods", facts(claim(MARKED), carried(), twin=twin()), Carry, ""),
    ("it is deleted while a Pod needs it", facts(claim(MARKED, DELETING), carried(), twin=twin(), **NEEDED), Carry, ""),
    ("it is deleted before it was ever ours", facts(claim(DELETING), carried(), **NEEDED), Idle, "ClaimTerminating"),
    ("it is deleted and nobody needs it", facts(claim(MARKED, DELETING), carried(MARKED), twin=twin()), Remove, ""),
    ("then the volume goes", facts(claim(MARKED, DELETING), carried(MARKED), twin_volumes=(twin_volume(),)), Remove, ""),
    ("then the marks go", facts(claim(MARKED, DELETING), carried(MARKED)), Unmark, ""),
    ("its finalizer was taken off by force", facts(None, carried(MARKED), twin=twin()), Remove, ""),
    ("then the mark of the volume goes", facts(None, carried(MARKED)), Unmark, ""),
    ("nothing is left", facts(None, carried()), Idle, ""),
    ("another claim has the name", facts(claim(), carried(), twin=twin(uid="u0"), **NEEDED), Remove, ""),
    ("the twin says no more whose it is", facts(claim(MARKED), carried(), twin=twin(uid="")), NoteOrigin, ""),
    ("nor does its volume", facts(claim(MARKED), carried(), twin=twin(), twin_volumes=(twin_volume(uid=""),)), Carry, ""),
    ("another claim, and the old volume", facts(claim(), carried(), twin_volumes=(twin_volume(uid="u0"),)), Remove, ""),

    ("nobody asks for provisioning", facts(WAITS), Idle, "ClaimNotBound"),
    ("the scheduler asks", facts(WAITS, selected="node-1"), Provision, ""),
    ("the physical provisioner works", facts(WAITS, twin=MADE, selected="node-1"), Idle, ""),
    ("it gives up", facts(WAITS, twin=GIVEN_UP, selected="node-1"), GiveUp, ""),
    ("the scheduler chose another node of ours", facts(WAITS, twin=MADE, selected="node-2"), Remove, ""),
    ("the scheduler went elsewhere", facts(WAITS, twin=MADE), Remove, ""),
    ("and nothing of ours is left there", facts(changed(WAITS, MARKED)), Unmark, ""),
    ("another binding was quicker", facts(claim(MARKED, volume="other"), ours(
        {"metadata": {"name": "other"}, "spec": {"csi": {"volumeHandle": "other/mount/x"}}}
    )), Unmark, ""),
    (
        "the physical claim is bound",
        facts(WAITS, twin=twin(provisioned=True, node="node-1"), selected="node-1"), Publish, "",
    ),
    ("data is served", facts(claim(MARKED, volume="edge-u1"), ours(), **SERVED), Serve, ""),
    ("data says no more whose it is", facts(claim(MARKED, volume="edge-u1"), ours(), twin=NAMELESS), NoteOrigin, ""),
    ("nor is there a claim", facts(None, ours(phase="Released"), twin=NAMELESS), NoteOrigin, ""),
    ("data says that it is none", facts(claim(MARKED, volume="edge-u1"), ours(AT_PV), twin=twin()), NoteOrigin, ""),
    ("and its claim is gone", facts(None, ours(AT_PV, policy="Retain", phase="Released"), twin=twin()), NoteOrigin, ""),
    ("data says that it is another's", facts(claim(MARKED, volume="edge-u1"), ours(), twin=MISNOTED), NoteOrigin, ""),
    ("and is kept for its volume", facts(None, ours(policy="Retain", phase="Released"), twin=MISNOTED), NoteOrigin, ""),
    ("it is deleted while its marks are changed", facts(
        claim(MARKED, DELETING, volume="edge-u1"), ours(AT_PV), twin=twin(uid="u9")
    ), Remove, ""),
    ("and is gone", facts(None, ours(AT_PV, phase="Released"), twin=twin(uid="u9")), Remove, ""),
    ("but a Pod needs it", facts(
        claim(MARKED, DELETING, volume="edge-u1"), ours(AT_PV), twin=twin(uid="u9"), **NEEDED
    ), NoteOrigin, ""),
    ("a claim never bound, beside an earlier one's volume", facts(LEAVING, STALE, twin=MADE), Remove, ""),
    ("such a volume keeps no twin", facts(claim(MARKED, DELETING), carried(), STALE, twin=twin()), Remove, ""),
    ("data was lost", facts(claim(MARKED, volume="edge-u1"), ours()), Idle, "PhysicalClaimLost"),
    (
        "data is elsewhere",
        facts(claim(volume="edge-u1"), ours({"spec": {"csi": {"volumeHandle": "other/mount/x"}}}), **NEEDED), Idle,
        "VolumeElsewhere",
    ),
    ("a provisioned claim is deleted", facts(claim(MARKED, DELETING, volume="edge-u1"), ours(), **SERVED), Remove, ""),
    ("then it is let go", facts(claim(MARKED, DELETING, volume="edge-u1"), ours()), Unmark, ""),
    ("its volume has not been released yet", facts(None, ours()), Idle, ""),
    ("then its volume goes", facts(None, ours(phase="Released")), DropVolume, ""),
    (
        "Retain: the claim goes, the data stays",
        facts(claim(MARKED, DELETING, volume="edge-u1"), ours(policy="Retain"), **SERVED), Unmark, "",
    ),
    ("Retain: and stays", facts(None, KEPT, **SERVED), Idle, ""),
    ("Retain: until its volume is deleted", facts(None, KEPT_NO_MORE, **SERVED), Remove, ""),
    ("Retain: then the volume goes", facts(None, KEPT_NO_MORE), DropVolume, ""),
    (
        "Retain: the name is taken", facts(
            claim(changed_uid := {"metadata": {"uid": "u2"}}, volume="", bound=False), ours(policy="Retain", phase="Released"),
            selected="node-1", **SERVED,
        ), Idle, "ClaimNameTaken",
    ),
    ("another claim was given its volume", facts(None, ours(HEIRS), **SERVED), Idle, ""),
    (
        "another claim of the same name was given it",
        facts(claim({"metadata": {"uid": "u9"}}, volume="edge-u1"), ours(HEIRS), **SERVED), Idle, "VolumeOfAnotherClaim",
    ),
    ("it was made free for another claim", facts(None, ours(NOBODYS, phase="Available"), **SERVED), Idle, ""),
    ("it goes with the claim that it was given to", facts(None, ours(HEIRS, phase="Released"), **SERVED), Remove, ""),
    (
        "a successor waits for the end of what was before", facts(
            claim(changed_uid, volume="", bound=False), ours(phase="Released"), selected="node-1", **SERVED,
        ), Remove, "",
    ),
    ("somebody else bound it first", facts(claim(MARKED), carried(), ours(phase="Available"), **SERVED), Remove, ""),
    ("and our volume goes", facts(claim(MARKED), carried(), ours(phase="Released")), DropVolume, ""),

    ("unbinding takes back what is carried", facts(claim(MARKED), carried(MARKED), twin=twin(), unbinding=True), Remove, ""),
    ("and unmarks it", facts(claim(MARKED), carried(MARKED), unbinding=True), Unmark, ""),
    ("but not under a Pod", facts(claim(MARKED), carried(MARKED), twin=twin(), unbinding=True, **NEEDED), Idle, ""),
    ("unbinding leaves data", facts(claim(MARKED, volume="edge-u1"), ours(), unbinding=True, **SERVED), Idle, ""),
    ("even when its volume was removed", facts(claim(MARKED, volume="edge-u1"), unbinding=True, **SERVED), Idle, ""),
    (
        "unbinding drops what was never used",
        facts(claim(MARKED, volume="", bound=False), unbinding=True, selected="n", twin=twin(provisioned=True)), Remove, "",
    ),
    ("unbinding starts nothing", facts(claim(), carried(), unbinding=True), Idle, ""),
]


@pytest.mark.parametrize(("known", "step", "reason"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_next_step(known: ClaimFacts, step: type[Step], reason: str) -> None:
    decided = decide_claim(known)
    assert isinstance(decided, step), decided
    assert (decided.reason if isinstance(decided, Idle) else "") == reason


OLD = ours(AT_OLD, DELETING, uid="u0", phase="Released")
SERVES = claim(MARKED, volume="edge-u1")


@pytest.mark.parametrize(("known", "uid", "holds_data"), [
    (facts(SERVES, ours(AT_PV), twin=twin()), "u1", True),
    (facts(SERVES, ours(AT_PV), twin=MISNOTED), "u1", True),
    (facts(SERVES, ours(), twin=MISNOTED), "u1", False),
    (facts(SERVES, OLD, ours(AT_PV), twin=twin(uid="u0", provisioned=True)), "u1", True),
    (facts(SERVES, changed(OLD, AT_PV), ours(AT_PV), twin=twin(uid="u0", provisioned=True)), "u1", True),
    (facts(claim(MARKED), carried(), STALE, twin=twin(uid="")), "u1", False),
    (facts(claim(MARKED), carried(), changed(STALE, {"metadata": {"annotations": None}}), twin=twin(uid="")), "u1", False),
], ids=[
    "its label", "its note", "its note, and its volume does not say where it is", "a note that names one on its way out",
    "both notes of both", "carried", "carried, beside a volume that says nothing",
])
def test_the_note_that_comes_back_is_that_of_whose_data_it_is(known: ClaimFacts, uid: str, holds_data: bool) -> None:
    step = decide_claim(known)
    assert isinstance(step, NoteOrigin), step
    assert (step.uid, step.provisioned) == (uid, holds_data)
    noted = changed(step.twin, build_origin_note(step.twin, step.uid, provisioned=step.provisioned))
    assert not isinstance(decide_claim(replace(known, twin=noted)), NoteOrigin)


@pytest.mark.parametrize("known", [
    facts(SERVES, ours(AT_PV), twin=twin(DELETING, uid="u9", provisioned=True)),
    facts(None, ours(AT_PV, uid="u2"), ours(AT_PV, uid="u3"), twin=MISNOTED),
], ids=["it goes anyway", "two volumes contradict each other"])
def test_what_nobody_can_tell_is_not_noted(known: ClaimFacts) -> None:
    assert not isinstance(decide_claim(known), NoteOrigin)


GOOD = facts(claim(), carried(), twin=twin(), twin_volumes=(twin_volume(),))


@pytest.mark.parametrize(("known", "usable"), [
    (GOOD, True),
    (replace(GOOD, twin=None), False),
    (replace(GOOD, twin=twin(DELETING)), False),
    (replace(GOOD, twin=twin(bound=False)), False),
    (replace(GOOD, twin=twin(uid="u0")), False),
    (replace(GOOD, twin_volumes=()), False),
    (replace(GOOD, twin_volumes=(twin_volume(claim_uid="somebody"),)), False),
    (replace(GOOD, claim=claim(bound=False)), False),
    (replace(GOOD, volumes=()), False),
    (facts(claim(volume="edge-u1"), ours(), **SERVED), True),
    (facts(claim(volume="edge-u1"), ours(), twin=twin()), False),
    (facts(claim(volume="edge-u1"), ours({"spec": {"csi": {"volumeHandle": "other/m/x"}}}), **SERVED), False),
])
def test_a_twin_pod_may_start_on_this_claim(known: ClaimFacts, usable: bool) -> None:
    assert is_usable(known) is usable


def sized(obj: Json, wish: str, has: str) -> Json:
    return changed(obj, {"spec": {"resources": {"requests": {"storage": wish}}}, "status": {"capacity": {"storage": has}}})


@pytest.mark.parametrize(("virtual", "physical", "passed_on"), [
    (sized(claim(), "1Gi", "1Gi"), sized(twin(), "1Gi", "1Gi"), None),
    (sized(claim(), "2Gi", "1Gi"), sized(twin(), "1Gi", "1Gi"), "2Gi"),
    (sized(claim(), "2Gi", "1Gi"), sized(twin(), "2048Mi", "1Gi"), None),
    (sized(claim(), "2Gi", "1Gi"), sized(twin(bound=False), "1Gi", "0"), None),
    (sized(claim(), "2Gi", "1Gi"), sized(twin(), "5Gi", "1Gi"), "2Gi"),
    (sized(claim(), "1Gi", "1Gi"), sized(twin(), "5Gi", "5Gi"), None),
])
def test_a_wish_for_another_size_goes_down(virtual: Json, physical: Json, passed_on: str | None) -> None:
    patch = diff_request(virtual, physical)
    assert (patch["spec"]["resources"]["requests"]["storage"] if patch else None) == passed_on


def resizing(kind: str, message: str = "") -> Json:
    return {"status": {"conditions": [{"type": kind, "status": "True", **({"message": message} if message else {})}]}}


@pytest.mark.parametrize(("virtual", "physical", "status"), [
    (claim(), twin(), None),
    (sized(claim(), "2Gi", "1Gi"), sized(twin(), "2Gi", "2Gi"), {"capacity": {"storage": "2Gi"}}),
    (sized(claim(), "2Gi", "2Gi"), sized(twin(), "2Gi", "1Gi"), None),
    (
        sized(claim(), "2Gi", "1Gi"), changed(sized(twin(), "2Gi", "1Gi"), resizing("Resizing")),
        {"conditions": [{"type": "Resizing", "status": "True"}]},
    ),
    (changed(claim(), resizing("Resizing")), changed(twin(), resizing("Resizing")), None),
    (
        changed(claim(), resizing("FileSystemResizePending")), twin(),
        {"conditions": [{"$patch": "delete", "type": "FileSystemResizePending"}]},
    ),
    (changed(sized(claim(), "2Gi", "1Gi"), resizing("Resizing")), sized(twin(), "2Gi", "1Gi"), None),
    (claim(), changed(twin(), resizing("ModifyingVolume")), None),
])
def test_what_became_of_it_comes_up(virtual: Json, physical: Json, status: Json | None) -> None:
    assert (diff_claim_status(virtual, physical) or {}).get("status") == status


def test_a_volume_only_grows() -> None:
    patch = build_growth(carried(), parse("2Gi"))
    assert patch
    assert patch["spec"] == {"capacity": {"storage": "2Gi"}}
    assert build_growth(carried(), parse("1Gi")) is None
    assert build_growth(carried(), parse("1Mi")) is None


def test_a_twin_claim_asks_for_no_more_than_its_volume_has() -> None:
    wish = changed(claim(), {"spec": {"resources": {"requests": {"storage": "3Gi"}, "limits": {"storage": "9Gi"}}}})
    assert build_first_request(wish, carried()) == {"requests": {"storage": "1Gi"}, "limits": {"storage": "9Gi"}}
    assert build_first_request(claim(), carried()) == {"requests": {"storage": "1Gi"}}


@pytest.mark.parametrize(("storage_class", "node", "words"), [
    (None, "node-1", "has no StorageClass fast"),
    ({"provisioner": "p", "volumeBindingMode": "WaitForFirstConsumer"}, "node-1", ""),
    ({"provisioner": "p", "volumeBindingMode": "Immediate"}, "node-1", ""),
    ({"provisioner": "p", "volumeBindingMode": "Immediate"}, "", ""),
    ({"provisioner": "p", "volumeBindingMode": "WaitForFirstConsumer"}, "", "waits for a consumer"),
    ({"provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "Immediate"}, "node-1", ""),
    ({"provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"}, "node-1", "no provisioner"),
])
def test_the_class_of_the_lender_has_to_do(storage_class: Json | None, node: str, words: str) -> None:
    refusal = check_class("fast", storage_class, node=node, binding="lender")
    assert (words in refusal.message) if refusal else not words


@pytest.mark.parametrize("field", ["dataSource", "dataSourceRef", "selector"])
def test_what_means_objects_of_the_virtual_cluster_cannot_be_provisioned(field: str) -> None:
    refusal = check_claim(claim({"spec": {field: {"name": "x"}}}))
    assert refusal
    assert f"spec.{field}" in refusal.message
    assert check_claim(claim()) is None


@pytest.mark.parametrize(("volume", "orphan"), [
    (KEPT, False), (ours(HEIRS), False), (ours(NOBODYS, phase="Available"), False), (ours(HEIRS, phase="Released"), True),
    (KEPT_NO_MORE, True),
])
def test_verify_calls_an_orphan_what_the_syncer_would_remove_and_nothing_else(volume: Json, orphan: bool) -> None:
    known = facts(None, volume, **SERVED)
    assert isinstance(decide_claim(known), Remove) is orphan
    scene = StorageScene(
        Owner("virtual", "edge"), "edge", "mount", {}, [volume], {TWIN_KEY: twin(provisioned=True)}, {}, frozenset()
    )
    assert (Kind.ORPHAN_CLAIM in {finding.kind for finding in check_storage(scene)}) is orphan


def storage(*volumes: Json, below: Json) -> StorageScene:
    return StorageScene(Owner("virtual", "edge"), "edge", "mount", {}, list(volumes), {TWIN_KEY: below}, {}, frozenset())


def test_verify_takes_no_lenders_word_for_whose_data_it_is() -> None:
    retained, where = ours(AT_PV, policy="Retain", phase="Released"), {"metadata": {"annotations": {
        "kubeocean.io/virtual-namespace": "ns", "kubeocean.io/virtual-name": "data",
    }}}
    for below in (twin(where, uid="u9"), twin(where, uid="u9", provisioned=True)):
        assert list(check_storage(storage(retained, below=below))) == [], "a volume stands for it"
        [orphan] = check_storage(storage(below=below))
        assert (orphan.kind, orphan.mend) == (Kind.ORPHAN_CLAIM, Mend.NOTHING), "nobody's, and yet it may hold data"
