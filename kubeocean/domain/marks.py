"""The marks on a virtual object that Pods of ours use: who uses it, and where its copy is.

A ConfigMap, Secret, claim or volume of a user is his; we only put marks on it while some binding uses it, and leave no trace
afterwards. Several bindings may use one object at once, so two kinds of mark:

- *a binding's own*, with its clusterID in the key: label `synced-by-ID` (by which it is watched from then on) and finalizer
  `finalizer-ID`. Each binding puts on and takes off its own only;
- *shared*: label `managed-by`, which goes with the last binding, and the annotations `physical-{name,namespace}`. These have
  room for one place only. The first binding writes its own, and nobody overwrites another's, or two would write in turn for
  ever; whoever leaves takes them along, and one that stays finds them missing and puts its own there.

Patches carry the resourceVersion, because a merge patch replaces the list of finalizers whole.
"""

from __future__ import annotations

from kubeocean.api import names
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, finalizers_of, is_deleting, labels_of, resource_version_of


def synced_by_label(cluster_id: str) -> str:
    """Return the key of the label that a binding puts on what it uses; a clusterID (24 characters) leaves it valid."""
    return names.SYNCED_BY_LABEL_PREFIX + cluster_id


def finalizer_of(cluster_id: str) -> str:
    """Return the finalizer that a binding puts on what it uses."""
    return names.DEPENDENCY_FINALIZER_PREFIX + cluster_id


def marked_selector(cluster_id: str) -> str:
    """Return the label selector of everything a binding uses."""
    return f"{synced_by_label(cluster_id)}=true"


def is_marked(obj: Json, cluster_id: str) -> bool:
    """Tell whether any mark of that binding's own is on `obj`."""
    return synced_by_label(cluster_id) in labels_of(obj) or finalizer_of(cluster_id) in finalizers_of(obj)


def is_marked_by_others(obj: Json, cluster_id: str) -> bool:
    """Tell whether a mark of another binding is on `obj`."""
    foreign_labels = (key for key in labels_of(obj) if key.startswith(names.SYNCED_BY_LABEL_PREFIX))
    foreign_finalizers = (item for item in finalizers_of(obj) if item.startswith(names.DEPENDENCY_FINALIZER_PREFIX))
    return any(key != synced_by_label(cluster_id) for key in foreign_labels) or any(
        item != finalizer_of(cluster_id) for item in foreign_finalizers
    )


def build_mark_patch(obj: Json, cluster_id: str, physical: ObjectKey) -> Json | None:
    """Return the merge patch that puts all marks of a binding on `obj`, whose copy is `physical`; None when they are on it.

    A physical volume has no namespace ("" in `physical`), so its annotation is left out. To an object that is being deleted
    the API server lets nobody add a finalizer: that one must be refused before, ValueError here.
    """
    if is_deleting(obj):
        raise ValueError("an object that is being deleted cannot be marked")
    metadata: Json = {}
    wanted = {names.MANAGED_BY_LABEL: names.MANAGED_BY_VALUE, synced_by_label(cluster_id): "true"}
    if labels := {key: value for key, value in wanted.items() if labels_of(obj).get(key) != value}:
        metadata["labels"] = labels
    if annotations := _missing_places(obj, cluster_id, physical):
        metadata["annotations"] = annotations
    if finalizer_of(cluster_id) not in finalizers_of(obj):
        metadata["finalizers"] = [*finalizers_of(obj), finalizer_of(cluster_id)]
    return _patch(obj, metadata)


def _missing_places(obj: Json, cluster_id: str, physical: ObjectKey) -> dict[str, str]:
    places = {names.PHYSICAL_NAME_ANNOTATION: physical.name, names.PHYSICAL_NAMESPACE_ANNOTATION: physical.namespace}
    present, shared = annotations_of(obj), is_marked_by_others(obj, cluster_id)
    return {
        key: value for key, value in places.items()
        if value and present.get(key) != value and not (shared and present.get(key))
    }


def build_unmark_patch(obj: Json, cluster_id: str) -> Json | None:
    """Return the merge patch that takes the marks of a binding off `obj`; None when there are none.

    With the last binding the shared ones go too, and what the Go project may have left beside them.
    """
    if not is_marked(obj, cluster_id) and names.DELETING_ANNOTATION_PREFIX + cluster_id not in annotations_of(obj):
        return None
    doomed_labels = {synced_by_label(cluster_id)}
    if not is_marked_by_others(obj, cluster_id):
        doomed_labels.add(names.MANAGED_BY_LABEL)
    doomed_annotations = (
        names.PHYSICAL_NAME_ANNOTATION, names.PHYSICAL_NAMESPACE_ANNOTATION, names.DELETING_ANNOTATION_PREFIX + cluster_id,
    )
    metadata: Json = {}
    if labels := {key: None for key in sorted(doomed_labels) if key in labels_of(obj)}:
        metadata["labels"] = labels
    if annotations := {key: None for key in doomed_annotations if key in annotations_of(obj)}:
        metadata["annotations"] = annotations
    if finalizer_of(cluster_id) in finalizers_of(obj):
        metadata["finalizers"] = [item for item in finalizers_of(obj) if item != finalizer_of(cluster_id)]
    return _patch(obj, metadata)


def _patch(obj: Json, metadata: Json) -> Json | None:
    return {"metadata": {"resourceVersion": resource_version_of(obj), **metadata}} if metadata else None
