"""The one write that a CSINode of a virtual node needs."""

import copy

import pytest

from kubeocean.api import names
from kubeocean.domain.csinode import Change, Create, Remove, build_csinode, decide_csinode
from kubeocean.domain.vnode_diff import Expected
from kubeocean.kube.meta import Json, annotations_of, labels_of
from kubeocean.kube.patch import apply_merge

LABELS = {"kubeocean.io/managed-by": "kubeocean", "kubeocean.io/physical-cluster-id": "edge", "rack": "7"}
ANNOTATIONS = {"note": "1", "kubeocean.io/physical-node-name": "node-1", names.CLOSED_AT_ANNOTATION: "2026-01-01T00:00:00Z"}
DRIVER: Json = {"name": "csi.example.com", "nodeID": "n-1", "topologyKeys": ["zone"], "allocatable": {"count": 8}}


def vnode(labels: dict[str, str] = LABELS, **metadata: str) -> Json:
    record = Expected(labels, ANNOTATIONS, []).encode()
    return {"metadata": {
        "name": "vnode-edge-node-1", "uid": "v", "labels": {**labels, "users": "own"},
        "annotations": {**ANNOTATIONS, names.EXPECTED_METADATA_ANNOTATION: record}, **metadata,
    }}


def physical(*drivers: Json) -> Json:
    return {"metadata": {"name": "node-1"}, "spec": {"drivers": list(drivers)}}


def stored(*drivers: Json, labels: dict[str, str] = LABELS) -> Json:
    return apply_merge(build_csinode(vnode(labels), physical(*drivers)), {"metadata": {"uid": "c", "resourceVersion": "7"}})


def test_it_has_the_drivers_of_the_machine_and_the_metadata_we_gave_the_virtual_node() -> None:
    built = build_csinode(vnode(), physical({**DRIVER, "unknownToUs": 1}))
    assert built["spec"] == {"drivers": [DRIVER]}
    assert labels_of(built) == LABELS
    assert annotations_of(built).keys() == {"note", "kubeocean.io/physical-node-name", names.EXPECTED_METADATA_ANNOTATION}
    assert built["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": "vnode-edge-node-1", "uid": "v"}
    ]


GONE = vnode(deletionTimestamp="2026-01-01T00:00:00Z")
MINE: Json = {"metadata": {"name": "vnode-edge-node-1", "uid": "m"}, "spec": {"drivers": []}}
CHANGED = {**DRIVER, "nodeID": "n-2"}
TABLE = {
    "one is made where the machine has one": (vnode(), physical(DRIVER), None, Create),
    "none where it has none": (vnode(), None, None, None),
    "one that is right stays": (vnode(), physical(DRIVER), stored(DRIVER), None),
    "a new driver is added": (vnode(), physical(DRIVER, CHANGED | {"name": "b"}), stored(DRIVER), Change),
    "a driver that goes is dropped": (vnode(), physical(), stored(DRIVER), Change),
    "a driver that changed means a new one": (vnode(), physical(CHANGED), stored(DRIVER), Remove),
    "labels follow": (vnode({**LABELS, "rack": "8"}), physical(DRIVER), stored(DRIVER), Change),
    "without its virtual node it goes": (None, physical(DRIVER), stored(DRIVER), Remove),
    "with its virtual node it goes": (GONE, physical(DRIVER), stored(DRIVER), Remove),
    "without the machine's it goes": (vnode(), None, stored(DRIVER), Remove),
    "somebody else's is left alone": (vnode(), physical(DRIVER), MINE, None),
    "even when its node goes": (None, None, MINE, None),
}


@pytest.mark.parametrize("sentence", TABLE)
def test_decide(sentence: str) -> None:
    node, machine, existing, expected = TABLE[sentence]
    before = copy.deepcopy((node, machine, existing))
    step = decide_csinode(node, machine, existing, "edge")
    assert type(step) is (expected or type(None))
    assert (node, machine, existing) == before


def test_a_change_keeps_what_others_put_there_and_drops_what_was_ours() -> None:
    theirs = apply_merge(stored(DRIVER, labels={**LABELS, "old": "1"}), {"metadata": {"labels": {"users": "own"}}})
    step = decide_csinode(vnode(), physical(DRIVER), theirs, "edge")
    assert isinstance(step, Change)
    assert step.patch["metadata"]["resourceVersion"] == "7"
    after = apply_merge(theirs, step.patch)
    assert labels_of(after) == {**LABELS, "users": "own"}
    assert decide_csinode(vnode(), physical(DRIVER), after, "edge") is None
