"""What is written when something changed, and that nothing is when nothing did.

A golden case tells a story: the node was built from `before`, others wrote `theirs` to it, and now the facts are `now`.
"""

from __future__ import annotations

import base64
import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeocean.api import names
from kubeocean.api.binding import ClusterBindingSpec
from kubeocean.domain.vnode import VnodeFacts, build_vnode
from kubeocean.domain.vnode_diff import build_release_patch, diff_vnode, expected_is_corrupt, read_expected
from kubeocean.kube.meta import Json
from kubeocean.kube.patch import apply_merge

GOLDEN = sorted(Path(__file__).with_name("vnode_diff").glob("*.input.yaml"))


def facts(**fields: Any) -> VnodeFacts:
    wire: Json = {"clusterID": "edge", "secretRef": {"name": "s", "namespace": "n"}, "mountNamespace": "m"}
    defaults: Json = {
        "physical": {}, "existing": None, "binding_name": "edge-binding", "capacity": {"cpu": "4"}, "policy_name": "rlp",
        "policy_details": "rlp()", "window_open": True, "force_reclaim_now": False, "unreachable": False, "deleting": False,
        "proxier_address": "10.0.0.9", "port": 20001, "spec": ClusterBindingSpec.model_validate(wire),
    }
    physical = {"metadata": {"name": "node-1", "uid": "u1", **(fields.pop("metadata", {}))}}
    for part in ("spec", "status"):
        if part in fields:
            physical[part] = fields.pop(part)
    return VnodeFacts(**{**defaults, **fields, "physical": physical})


def stored(node: Json, theirs: Json | None = None) -> Json:
    """Return a node as the API server gives it back, after others changed it."""
    server = apply_merge(copy.deepcopy(node), {"metadata": {"uid": "uid-v", "resourceVersion": "7"}})
    return apply_merge(server, theirs or {})


def applied(existing: Json, node_patch: Json | None, status_patch: Json | None) -> Json:
    """Return `existing` after both patches, as the API server would have it."""
    result = apply_merge(existing, node_patch or {})
    if status_patch:
        assert status_patch["metadata"] == {"uid": existing["metadata"]["uid"]}
        change = dict(status_patch["status"])
        conditions = {item["type"]: item for item in (result["status"].get("conditions") or [])}
        for item in change.pop("conditions", []):
            if item.get("$patch") == "delete":
                del conditions[item["type"]]
            else:
                conditions[item["type"]] = {**conditions.get(item["type"], {}), **item}
        if "addresses" in change:
            directive, *addresses = change.pop("addresses")
            assert directive == {"$patch": "replace"}
            result = apply_merge(result, {"status": {"addresses": addresses}})
        result = apply_merge(result, {"status": {**change, "conditions": list(conditions.values())}})
    return result


def settled(node: Json, now: Json) -> Json:
    """Return `node` after the pass that sees that a mirrored condition is gone, and takes it off the record."""
    node_patch, status_patch = diff_vnode(node, build_vnode(facts(**copy.deepcopy(now), existing=node)))
    if node_patch:
        record = {names.MIRRORED_CONDITIONS_ANNOTATION, names.EXPECTED_METADATA_ANNOTATION}
        assert node_patch["metadata"]["annotations"].keys() == record
    assert status_patch is None
    return applied(node, node_patch, None)


def outcome(story: Json) -> Json:
    """Return both patches of a story; the record of wishes is shown only as having been written."""
    existing = stored(build_vnode(facts(**story.get("before", {}))), story.get("theirs"))
    now = {**story.get("before", {}), **story.get("now", {})}
    untouched = copy.deepcopy(existing)
    node_patch, status_patch = diff_vnode(existing, build_vnode(facts(**now, existing=existing)))
    assert existing == untouched
    after = settled(applied(existing, node_patch, status_patch), now)
    assert diff_vnode(after, build_vnode(facts(**now, existing=after))) == (None, None)
    if node_patch:
        annotations = node_patch["metadata"].get("annotations", {})
        if names.EXPECTED_METADATA_ANNOTATION in annotations:
            annotations[names.EXPECTED_METADATA_ANNOTATION] = "(written anew)"
    return {"node": node_patch, "status": status_patch}


@pytest.mark.parametrize("case", GOLDEN, ids=lambda path: path.name.split(".")[0])
def test_diff_vnode(case: Path) -> None:
    expected = yaml.safe_load(case.with_name(case.name.replace("input", "output")).read_text())
    assert outcome(yaml.safe_load(case.read_text())) == expected


CORRUPT = ["", "%%%", "bm90IGpzb24=", *(base64.b64encode(text.encode()).decode() for text in (
    "7", "[]", '{"labels": [1]}', '{"labels": {"a": 1}}', '{"taints": {"key": "a"}}', '{"taints": [{"effect": "NoSchedule"}]}',
))]


@pytest.mark.parametrize("text", CORRUPT)
def test_a_corrupt_record_counts_as_none_and_nothing_of_anybodys_is_lost(text: str) -> None:
    theirs = {"metadata": {
        "labels": {"team": "a"}, "annotations": {names.EXPECTED_METADATA_ANNOTATION: text},
    }}
    existing = stored(build_vnode(facts()), theirs)
    assert expected_is_corrupt(existing)
    node_patch, status_patch = diff_vnode(existing, build_vnode(facts(existing=existing)))
    assert node_patch is not None
    assert node_patch["metadata"].keys() == {"annotations", "resourceVersion"}
    assert status_patch is None
    assert not expected_is_corrupt(applied(existing, node_patch, None))


def test_a_node_without_a_record_is_not_corrupt() -> None:
    assert not expected_is_corrupt({"metadata": {"name": "n"}})
    assert read_expected({"metadata": {"name": "n"}}) is None


def test_only_what_build_vnode_returned_can_be_wanted() -> None:
    with pytest.raises(ValueError, match="expected-metadata"):
        diff_vnode(stored(build_vnode(facts())), {"metadata": {"name": "n"}, "status": {}})


def test_a_deleted_node_gets_no_new_finalizer_and_can_be_released() -> None:
    deleting = stored(build_vnode(facts()), {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"]}})
    assert diff_vnode(deleting, build_vnode(facts(existing=deleting))) == (None, None)
    assert build_release_patch(deleting) is None


def test_a_release_takes_only_our_finalizer() -> None:
    node = stored(build_vnode(facts()), {"metadata": {"finalizers": ["x/y", names.VNODE_FINALIZER]}})
    assert build_release_patch(node) == {"metadata": {"resourceVersion": "7", "finalizers": ["x/y"]}}


WORDS = st.sampled_from(["a", "b", "c", "example.com/d"])
MAPS = st.dictionaries(WORDS, st.sampled_from(["1", "2"]), max_size=3)
TAINTS = st.lists(
    st.builds(lambda key, value, effect: {"key": key, "value": value, "effect": effect},
              WORDS, st.sampled_from(["x", "y"]), st.sampled_from(["NoSchedule", "NoExecute"])),
    max_size=3, unique_by=lambda taint: (taint["key"], taint["effect"]),
)
CONDITIONS = st.lists(
    st.builds(lambda kind, status: {"type": kind, "status": status, "lastHeartbeatTime": "t"},
              st.sampled_from(["Ready", "DiskPressure", "Custom"]), st.sampled_from(["True", "False"])),
    max_size=3, unique_by=lambda condition: condition["type"],
)
FACTS = st.fixed_dictionaries({
    "metadata": st.fixed_dictionaries({"labels": MAPS, "annotations": MAPS}),
    "spec": st.fixed_dictionaries({"taints": TAINTS, "unschedulable": st.booleans()}),
    "status": st.fixed_dictionaries({"conditions": CONDITIONS}),
    "capacity": st.dictionaries(st.sampled_from(["cpu", "memory", "pods"]), st.sampled_from(["0", "1", "1500m", "1Gi"])),
    "window_open": st.booleans(), "force_reclaim_now": st.booleans(), "unreachable": st.booleans(), "deleting": st.booleans(),
    "port": st.sampled_from([0, 20001, 20002]), "proxier_address": st.sampled_from(["", "10.0.0.9"]),
})
MINE: Json = {"key": "mine", "value": "1", "effect": "NoSchedule"}


def by_key(taints: list[Json]) -> dict[tuple[str, str], Json]:
    return {(taint["key"], taint["effect"]): taint for taint in taints}


@settings(max_examples=150, deadline=None)
@given(FACTS, FACTS, st.booleans())
def test_one_write_settles_everything_and_a_users_marks_survive(before: Json, now: Json, cordoned: bool) -> None:
    existing = stored(build_vnode(facts(**copy.deepcopy(before))))
    taints = [*existing["spec"]["taints"], MINE]
    existing = apply_merge(existing, {
        "metadata": {"labels": {"mine": "1"}, "annotations": {"mine": "1"}}, "spec": {"taints": taints},
    })
    if cordoned and not before["deleting"]:
        existing = apply_merge(existing, {"spec": {"unschedulable": True}})
    desired = build_vnode(facts(**copy.deepcopy(now), existing=existing))
    after = settled(applied(existing, *diff_vnode(existing, desired)), now)
    desired = build_vnode(facts(**copy.deepcopy(now), existing=after))
    assert diff_vnode(after, desired) == (None, None)
    labels, annotations, taints = after["metadata"]["labels"], after["metadata"]["annotations"], after["spec"]["taints"]
    assert labels == {**desired["metadata"]["labels"], "mine": "1"}
    assert annotations == {**desired["metadata"]["annotations"], "mine": "1"}
    assert by_key(taints) == by_key([*desired["spec"]["taints"], MINE])
    assert after["status"]["capacity"] == after["status"]["allocatable"] == now["capacity"]
    if cordoned or now["deleting"]:
        assert after["spec"].get("unschedulable") or (before["deleting"] and not now["deleting"])
