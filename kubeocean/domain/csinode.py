"""The CSINode of a virtual node: how many volumes of which driver its machine takes, for the virtual scheduler to count.

It is a copy of the physical node's, under the virtual node's name, with the labels and annotations we gave that; it belongs
to the virtual node and goes with it. Metadata is merged three ways, as on the virtual node and with the same kind of record.
A CSINode of that name which is not ours is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kubeocean.api import names
from kubeocean.domain.vnode import is_vnode_of
from kubeocean.domain.vnode_diff import NOTHING_EXPECTED, Expected, read_expected
from kubeocean.kube.meta import Json, annotations_of, is_deleting, labels_of, name_of, resource_version_of, uid_of
from kubeocean.kube.patch import diff_merge, three_way_map
from kubeocean.kube.resources import CSINODES

# By name, because a field that only one of the two servers knows would differ for ever.
_DRIVER: Final = ("name", "nodeID", "topologyKeys", "allocatable")
# What passes note on the virtual node for later ones says nothing about volumes, and changes with every window.
_NOTES: Final = frozenset({
    names.CLOSED_AT_ANNOTATION, names.LAST_VALID_POLICY_ANNOTATION, names.LAST_VALID_LENDER_POLICY_ANNOTATION,
    names.MIRRORED_CONDITIONS_ANNOTATION,
})


@dataclass(frozen=True, slots=True)
class Create:
    """There is none yet: POST `obj`."""

    obj: Json


@dataclass(frozen=True, slots=True)
class Change:
    """Apply merge patch `patch`, which carries the resourceVersion it was decided on."""

    patch: Json


@dataclass(frozen=True, slots=True)
class Remove:
    """DELETE the one with `uid`: nothing stands behind it, or it has to be made anew."""

    uid: str


def decide_csinode(
    vnode: Json | None, physical: Json | None, existing: Json | None, cluster_id: str
) -> Create | Change | Remove | None:
    """Return the step that makes the CSINode of a virtual node what it should be; None when it is.

    `physical` is the CSINode of the physical node, None when it has none.
    """
    if existing is not None and not is_vnode_of(existing, cluster_id):
        return None
    if vnode is None or physical is None or is_deleting(vnode):
        return Remove(uid_of(existing)) if existing and not is_deleting(existing) else None
    wanted = build_csinode(vnode, physical)
    if existing is None:
        return Create(wanted)
    if is_deleting(existing):
        return None  # its going brings us back
    if _has_changed_driver(existing, wanted):
        return Remove(uid_of(existing))  # the API server lets drivers come and go, but not change (ValidateCSINodeUpdate)
    patch = diff_merge(_compared(existing), _merged(existing, wanted))
    if patch is None:
        return None
    patch.setdefault("metadata", {})["resourceVersion"] = resource_version_of(existing)
    return Change(patch)


def build_csinode(vnode: Json, physical: Json) -> Json:
    """Return the CSINode that goes with `vnode` (as the API server returned it), with the drivers of `physical`."""
    given = read_expected(vnode) or Expected(labels_of(vnode), {}, [])
    annotations = {key: text for key, text in given.annotations.items() if key not in _NOTES}
    record = Expected(given.labels, annotations, [])
    return {
        "apiVersion": CSINODES.api_version, "kind": CSINODES.kind,
        "metadata": {
            "name": name_of(vnode), "labels": given.labels,
            "annotations": {**annotations, names.EXPECTED_METADATA_ANNOTATION: record.encode()},
            # As a kubelet does it: whatever becomes of us, nothing is left when the Node is gone.
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name_of(vnode), "uid": uid_of(vnode)}],
        },
        "spec": {"drivers": _drivers(physical)},
    }


def _drivers(csinode: Json) -> list[Json]:
    drivers = (csinode.get("spec") or {}).get("drivers") or ()
    return [{key: driver[key] for key in _DRIVER if driver.get(key)} for driver in drivers]


def _has_changed_driver(existing: Json, wanted: Json) -> bool:
    before = {driver["name"]: driver for driver in _drivers(existing)}
    return any(before.get(driver["name"], driver) != driver for driver in _drivers(wanted))


def _compared(csinode: Json) -> Json:
    return {
        "metadata": {
            "labels": labels_of(csinode), "annotations": annotations_of(csinode),
            "ownerReferences": csinode["metadata"].get("ownerReferences") or [],
        },
        "spec": {"drivers": _drivers(csinode)},
    }


def _merged(existing: Json, wanted: Json) -> Json:
    """Return `wanted`, with what others put on the existing one."""
    last = read_expected(existing) or NOTHING_EXPECTED
    merged = _compared(wanted)
    merged["metadata"]["labels"] = three_way_map(last.labels, labels_of(wanted), labels_of(existing))
    merged["metadata"]["annotations"] = three_way_map(last.annotations, annotations_of(wanted), annotations_of(existing))
    return merged
