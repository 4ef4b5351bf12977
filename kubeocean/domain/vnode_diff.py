"""From the Node as it is to the Node we want: at most one patch of the Node and one of its status.

Users and other controllers write to virtual nodes too, so metadata and taints are merged three ways. What we wanted
last time is kept on the Node itself, in the annotation `expected-metadata`: an entry that was ours and is no longer
wanted goes, an entry that was never ours stays.

That note and what it speaks of must change together: were the process to die between two writes, our own old taint
would look like a user's for ever. So labels, annotations, finalizer, taints and unschedulable are *one* patch, which
carries the resourceVersion it was decided on. The status patch needs none: the server merges conditions by type, and
the rest of the status is ours alone.

No time stands in any comparison; a Node whose heartbeat alone moved on costs no write.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubeocean.api.names import EXPECTED_METADATA_ANNOTATION, MIRRORED_CONDITIONS_ANNOTATION, VNODE_FINALIZER
from kubeocean.kube.meta import Json, annotations_of, finalizers_of, is_deleting, labels_of, resource_version_of, uid_of
from kubeocean.kube.patch import diff_merge, diff_strategic, three_way_map, three_way_taints
from kubeocean.kube.quantity import InvalidQuantity, Quantity


@dataclass(frozen=True, slots=True)
class Expected:
    """What we wanted of a Node's metadata and spec at one time. `cordoned`: unschedulable, and it was our doing."""

    labels: dict[str, str]
    annotations: dict[str, str]
    taints: list[Json]
    cordoned: bool = False

    def encode(self) -> str:
        """Return the text of the annotation: base64 of JSON; the same wishes give the same text."""
        record: Json = {"labels": self.labels, "annotations": self.annotations, "taints": self.taints}
        if self.cordoned:
            record["unschedulable"] = True
        return base64.b64encode(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()).decode()


NOTHING_EXPECTED = Expected({}, {}, [])


def read_expected(vnode: Json) -> Expected | None:
    """Return what we wanted of `vnode` last time; None when nothing (legible) is recorded."""
    text = annotations_of(vnode).get(EXPECTED_METADATA_ANNOTATION)
    try:
        record = json.loads(base64.b64decode(text, validate=True)) if text else None
    except (ValueError, RecursionError):
        return None
    return _checked(record)


def expected_is_corrupt(vnode: Json) -> bool:
    """Tell whether there is a record that cannot be read: it is replaced, and worth an Event."""
    return EXPECTED_METADATA_ANNOTATION in annotations_of(vnode) and read_expected(vnode) is None


def cordoned_by_us(vnode: Json) -> bool:
    """Tell whether it was us who made `vnode` unschedulable."""
    expected = read_expected(vnode)
    return expected is not None and expected.cordoned


def shown_mirrored(vnode: Json) -> set[str]:
    """Return the types of the conditions on `vnode` that are there because we mirrored them, as far as we noted it."""
    noted = annotations_of(vnode).get(MIRRORED_CONDITIONS_ANNOTATION, "").split(",")
    return {condition["type"] for condition in (vnode.get("status") or {}).get("conditions") or ()}.intersection(noted)


def diff_vnode(existing: Json, desired: Json) -> tuple[Json | None, Json | None]:
    """Return (merge patch of the Node, *strategic* merge patch of its /status); None where nothing needs to be written.

    `desired` is what `build_vnode` returned. The first carries the resourceVersion of `existing`, the second its uid: a
    Conflict means that somebody was faster, and the next pass decides anew.
    """
    return _diff_node(existing, desired), _diff_status(existing, desired)


def build_release_patch(vnode: Json) -> Json | None:
    """Return the merge patch that takes our finalizer off, so that a deleted Node goes; None when it is not there."""
    finalizers = finalizers_of(vnode)
    if VNODE_FINALIZER not in finalizers:
        return None
    kept = [name for name in finalizers if name != VNODE_FINALIZER]
    return {"metadata": {"resourceVersion": resource_version_of(vnode), "finalizers": kept}}


def _diff_node(existing: Json, desired: Json) -> Json | None:
    last = read_expected(existing)
    wanted, spec = read_expected(desired), existing.get("spec") or {}
    if wanted is None:
        raise ValueError("desired is not what build_vnode returned: it has no expected-metadata")
    ours = last or NOTHING_EXPECTED
    labels = three_way_map(ours.labels, wanted.labels, labels_of(existing))
    annotations = three_way_map(ours.annotations, wanted.annotations, annotations_of(existing))
    if last != wanted:
        annotations[EXPECTED_METADATA_ANNOTATION] = wanted.encode()
    taints = three_way_taints(ours.taints, wanted.taints, spec.get("taints") or [])
    unschedulable = wanted.cordoned or (spec.get("unschedulable") and not ours.cordoned)
    patch = diff_merge(
        {
            "metadata": {
                "labels": labels_of(existing), "annotations": annotations_of(existing),
                "finalizers": finalizers_of(existing),
            },
            "spec": {"taints": spec.get("taints") or [], "unschedulable": bool(spec.get("unschedulable"))},
        },
        {
            "metadata": {"labels": labels, "annotations": annotations, "finalizers": _finalizers(existing)},
            "spec": {"taints": taints, "unschedulable": bool(unschedulable)},
        },
    )
    if patch is not None and (version := resource_version_of(existing)):
        patch.setdefault("metadata", {})["resourceVersion"] = version
    return patch


def _finalizers(existing: Json) -> list[str]:
    finalizers = finalizers_of(existing)
    # The API server refuses new finalizers on an object that is being deleted.
    return finalizers if VNODE_FINALIZER in finalizers or is_deleting(existing) else [*finalizers, VNODE_FINALIZER]


def _diff_status(existing: Json, desired: Json) -> Json | None:
    old, new = existing.get("status") or {}, desired["status"]
    shown = {
        "capacity": _respelt(old.get("capacity") or {}, new["capacity"]),
        "allocatable": _respelt(old.get("allocatable") or {}, new["allocatable"]),
        "nodeInfo": {key: (old.get("nodeInfo") or {}).get(key) or "" for key in new["nodeInfo"]},
        "addresses": old.get("addresses") or [],
        "daemonEndpoints": old.get("daemonEndpoints") or {},
    }
    wanted = {key: new[key] for key in shown if key in new}
    # Not served (yet) is no reason to forget where it was served.
    wanted.setdefault("daemonEndpoints", shown["daemonEndpoints"])
    patch = diff_strategic(shown, wanted, owned=("addresses",)) or {}
    conditions = _changed_conditions(old.get("conditions") or [], new["conditions"])
    if conditions := conditions + _dropped_conditions(existing, new["conditions"]):
        patch["conditions"] = conditions
    if not patch:
        return None
    uid = uid_of(existing)
    return {"metadata": {"uid": uid}, "status": patch} if uid else {"status": patch}


def _respelt(shown: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Return `shown` with our own spelling where the amount is the same: a server may keep another one."""
    return {key: wanted[key] if key in wanted and _same(text, wanted[key]) else text for key, text in shown.items()}


def _same(one: str, other: str) -> bool:
    try:
        return one == other or Quantity.parse(one) == Quantity.parse(other)
    except InvalidQuantity:
        return False


def _changed_conditions(shown: list[Json], wanted: list[Json]) -> list[Json]:
    """Return the conditions to send, whole; the server merges them by type, so those of others stay."""
    known = {condition["type"]: _said(condition) for condition in shown}
    # Spelt out even when empty: a reason that is merely left out would stay.
    return [
        {"reason": "", "message": "", **condition}
        for condition in wanted if known.get(condition["type"]) != _said(condition)
    ]


def _dropped_conditions(existing: Json, wanted: list[Json]) -> list[Json]:
    """Return the patch elements that remove what we mirrored and the physical node no longer says."""
    gone = shown_mirrored(existing) - {condition["type"] for condition in wanted}
    return [{"$patch": "delete", "type": kind} for kind in sorted(gone)]


def _said(condition: Json) -> tuple[str, str, str]:
    return condition.get("status") or "", condition.get("reason") or "", condition.get("message") or ""


def _checked(record: Any) -> Expected | None:
    """Return the record if it has the right shape: anybody who may edit Nodes can have written it."""
    if not isinstance(record, dict):
        return None
    labels, annotations = record.get("labels") or {}, record.get("annotations") or {}
    taints = record.get("taints") or []
    if not (_is_text_map(labels) and _is_text_map(annotations) and _is_taint_list(taints)):
        return None
    return Expected(labels, annotations, taints, cordoned=record.get("unschedulable") is True)


def _is_text_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _is_taint_list(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(taint, dict) and isinstance(taint.get("key"), str) and isinstance(taint.get("effect") or "", str)
        for taint in value
    )
