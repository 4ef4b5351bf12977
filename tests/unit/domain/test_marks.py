"""Marks come and go, and what was there before is there afterwards: several bindings at once, in any order."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.api import names
from kubeocean.domain.marks import (
    build_mark_patch,
    build_unmark_patch,
    finalizer_of,
    is_marked,
    is_marked_by_others,
    marked_selector,
    synced_by_label,
)
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, finalizers_of, labels_of
from kubeocean.kube.patch import apply_merge
from kubeocean.kube.selectors import compile_label_selector

PLACE = ObjectKey("mount", "app-1")
CLUSTER_IDS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,22}[a-z0-9])?", fullmatch=True)


def build(**metadata: Any) -> Json:
    return {"metadata": {"name": "app", "namespace": "team", "resourceVersion": "7", **metadata}}


def applied(obj: Json, patch: Json | None) -> Json:
    """Return `obj` as a server would keep it: maps and lists that are empty are left out."""
    merged = apply_merge(obj, patch or {})
    return {**merged, "metadata": {key: value for key, value in merged["metadata"].items() if value not in ({}, [])}}


def mark(obj: Json, cluster_id: str, place: ObjectKey = PLACE) -> Json:
    return applied(obj, build_mark_patch(obj, cluster_id, place))


def unmark(obj: Json, cluster_id: str) -> Json:
    return applied(obj, build_unmark_patch(obj, cluster_id))


def test_the_marks_of_one_binding() -> None:
    assert build_mark_patch(build(), "edge", PLACE) == {"metadata": {
        "resourceVersion": "7",
        "labels": {"kubeocean.io/managed-by": "kubeocean", "kubeocean.io/synced-by-edge": "true"},
        "annotations": {"kubeocean.io/physical-name": "app-1", "kubeocean.io/physical-namespace": "mount"},
        "finalizers": ["kubeocean.io/finalizer-edge"],
    }}
    marked = mark(build(), "edge")
    assert build_mark_patch(marked, "edge", PLACE) is None
    assert marked_selector("edge") == "kubeocean.io/synced-by-edge=true"
    assert build_unmark_patch(marked, "edge") == {"metadata": {
        "resourceVersion": "7",
        "labels": {"kubeocean.io/managed-by": None, "kubeocean.io/synced-by-edge": None},
        "annotations": {"kubeocean.io/physical-name": None, "kubeocean.io/physical-namespace": None},
        "finalizers": [],
    }}
    assert build_unmark_patch(build(), "edge") is None


def test_a_volume_has_no_namespace() -> None:
    marked = mark(build(), "edge", ObjectKey("", "pv-1"))
    assert annotations_of(marked) == {"kubeocean.io/physical-name": "pv-1"}
    assert build_mark_patch(marked, "edge", ObjectKey("", "pv-1")) is None


def test_a_place_that_moved_is_told_by_its_only_binding() -> None:
    patch = build_mark_patch(mark(build(), "edge"), "edge", ObjectKey("elsewhere", "app-1"))
    assert patch == {"metadata": {"resourceVersion": "7", "annotations": {"kubeocean.io/physical-namespace": "elsewhere"}}}


def test_two_bindings_do_not_write_in_turn() -> None:
    other = ObjectKey("other", "app-1")
    both = mark(mark(build(), "edge"), "core", other)
    assert annotations_of(both)["kubeocean.io/physical-namespace"] == "mount"
    assert build_mark_patch(both, "edge", PLACE) is None
    assert build_mark_patch(both, "core", other) is None
    left = unmark(both, "edge")
    assert not is_marked(left, "edge")
    assert finalizers_of(left) == ["kubeocean.io/finalizer-core"]
    assert labels_of(left) == {"kubeocean.io/managed-by": "kubeocean", "kubeocean.io/synced-by-core": "true"}
    assert annotations_of(mark(left, "core", other))["kubeocean.io/physical-namespace"] == "other"


def test_half_a_mark_is_completed_and_taken_off() -> None:
    for metadata in ({"finalizers": ["kubeocean.io/finalizer-edge"]}, {"labels": {"kubeocean.io/synced-by-edge": "true"}}):
        half = build(**metadata)
        assert is_marked(half, "edge")
        assert build_mark_patch(mark(half, "edge"), "edge", PLACE) is None
        assert unmark(half, "edge") == build()


def test_what_the_go_project_left_goes_too() -> None:
    left = build(annotations={"kubeocean.io/deleting-edge": "lender", "note": "x"})
    assert unmark(left, "edge") == build(annotations={"note": "x"})


def test_what_is_being_deleted_cannot_be_marked() -> None:
    with pytest.raises(ValueError, match="being deleted"):
        build_mark_patch(build(deletionTimestamp="2026-01-01T00:00:00Z"), "edge", PLACE)


@given(ids=st.lists(CLUSTER_IDS, min_size=1, max_size=4, unique=True), data=st.data())
def test_whoever_comes_and_goes_the_object_is_as_before(ids: list[str], data: st.DataObject) -> None:
    before = build(labels={"app": "shop"}, annotations={"note": "x"}, finalizers=["somebody/else"])
    obj = before
    for cluster_id in ids:
        obj = mark(obj, cluster_id)
        assert is_marked(obj, cluster_id)
    for cluster_id in data.draw(st.permutations(ids)):
        assert is_marked_by_others(obj, cluster_id) == (len([each for each in ids if is_marked(obj, each)]) > 1)
        obj = unmark(obj, cluster_id)
        assert not is_marked(obj, cluster_id)
    assert obj == before


@given(CLUSTER_IDS)
def test_label_and_finalizer_are_valid_for_every_cluster_id(cluster_id: str) -> None:
    compile_label_selector({"matchLabels": {synced_by_label(cluster_id): "true"}})  # raises when a key is invalid
    assert len(finalizer_of(cluster_id).removeprefix(names.PREFIX)) <= 63
