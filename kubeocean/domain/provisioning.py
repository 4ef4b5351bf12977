"""Volumes for claims that have none yet: the virtual cluster asks, the physical one provisions, we stand in between.

A scheduler that waits for a claim before it binds a Pod writes on the claim which node it would take; an external provisioner
acts on that. For virtual nodes we are this provisioner: a claim of the same class is made in the physical cluster, whose own
provisioner does the work, and when that claim is bound its virtual counterpart gets a volume to be bound to. That volume's
source names a driver that exists nowhere (`claims.kubeocean.io`): no controller of the virtual cluster attaches, resizes or
deletes it, and a reader sees where the data is. Where it can be reached from follows from the physical volume.

The virtual volume lives by the reclaim policy of the user's class. Delete: when his claim goes, the physical claim goes, and
then the volume. Retain: both stay until somebody deletes the volume. What becomes of the bytes after that is up to the reclaim
policy in the physical cluster.

Kubernetes sources: scheduler `volumebinding` (selected-node, and that its removal makes the scheduler try again), volume
controller `provisionClaimOperationExternal` and `findDeletablePlugin` (provisioned-by), sig-storage-lib-external-provisioner.
"""

from __future__ import annotations

from typing import Final

from kubeocean.api import names
from kubeocean.domain.marks import finalizer_of, synced_by_label
from kubeocean.domain.naming import provisioned_volume_name
from kubeocean.domain.refusal import Refusal
from kubeocean.domain.volumeaffinity import map_affinity_up
from kubeocean.domain.volumemap import VolumeContext, build_claim_object
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, labels_of, name_of, namespace_of, resource_version_of, uid_of

SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
PROVISIONED_BY: Final = "pv.kubernetes.io/provisioned-by"
NO_PROVISIONER: Final = "kubernetes.io/no-provisioner"
WAITS_FOR_CONSUMER: Final = "WaitForFirstConsumer"
PROVISIONING_FAILED: Final = "ProvisioningFailed"
_CLASS_BETA: Final = "volume.beta.kubernetes.io/storage-class"


def class_of(claim: Json) -> str:
    """Return the storage class of a claim, "" for none (the old annotation counts first, as in Kubernetes)."""
    return str(annotations_of(claim).get(_CLASS_BETA) or claim["spec"].get("storageClassName") or "")


def is_provisioned(volume: Json) -> bool:
    """Tell whether the data of a virtual volume is held by a physical claim of some binding."""
    return bool(((volume.get("spec") or {}).get("csi") or {}).get("driver") == names.VOLUME_DRIVER)


def handle_of(twin: ObjectKey, cluster_id: str) -> str:
    """Return by which handle a virtual volume names the physical claim that holds its data."""
    return f"{cluster_id}/{twin.namespace}/{twin.name}"


def is_held_by(volume: Json, twin: ObjectKey, cluster_id: str) -> bool:
    """Tell whether a virtual volume names this physical claim as the place of its data."""
    return is_provisioned(volume) and volume["spec"]["csi"]["volumeHandle"] == handle_of(twin, cluster_id)


def holder_of(volume: Json) -> ObjectKey:
    """Return which physical claim holds the data of a virtual volume of ours: the reverse of `handle_of`."""
    namespace, _, name = str(volume["spec"]["csi"]["volumeHandle"]).partition("/")[2].partition("/")
    return ObjectKey(namespace, name)


def origin_of(volume: Json) -> ObjectKey:
    """Return the virtual claim a volume of ours was provisioned for; it outlives a change of claimRef."""
    attributes = volume["spec"]["csi"].get("volumeAttributes") or {}
    return ObjectKey(attributes.get("virtualNamespace", ""), attributes.get("virtualName", ""))


def origin_uid_of(volume: Json) -> str:
    """Return that claim's uid."""
    return str((volume["spec"]["csi"].get("volumeAttributes") or {}).get("virtualUID", ""))


def is_provisioned_claim(twin: Json) -> bool:
    """Tell whether a physical claim of ours holds data of its own, in contrast to one bound to a volume we brought."""
    return labels_of(twin).get(names.PROVISIONED_LABEL) == "true"


def check_claim(claim: Json) -> Refusal | None:
    """Return why a claim cannot be provisioned in a physical cluster; None when it can."""
    for field in ("dataSource", "dataSourceRef", "selector"):
        if claim["spec"].get(field):
            return Refusal(PROVISIONING_FAILED, (
                f"spec.{field} means objects of this cluster and cannot be carried to a physical one: leave it out, or bind "
                "the claim to a PersistentVolume of this cluster"
            ))
    return None


def check_class(name: str, storage_class: Json | None, *, node: str, binding: str) -> Refusal | None:
    """Return why the class of that name in the physical cluster (None: it has none) will not do; None when it will.

    `node` is the physical node selected, "" when none is.
    """
    where = f"the physical cluster of binding {binding}"
    if storage_class is None:
        return Refusal(PROVISIONING_FAILED, (
            f"{where} has no StorageClass {name}: use a class that exists there under the same name, or have the lender make "
            "one"
        ))
    waits = storage_class.get("volumeBindingMode") == WAITS_FOR_CONSUMER
    if waits and storage_class.get("provisioner") == NO_PROVISIONER:
        return Refusal(PROVISIONING_FAILED, (
            f"StorageClass {name} of {where} has no provisioner, and its volumes are bound only when a Pod is placed there: "
            "the lender can set volumeBindingMode: Immediate, or bring the volume as a PersistentVolume of this cluster"
        ))
    if waits and not node:
        return Refusal(PROVISIONING_FAILED, (
            f"StorageClass {name} of {where} waits for a consumer, the class in this cluster does not: make it "
            f"volumeBindingMode: {WAITS_FOR_CONSUMER} here too"
        ))
    return None


def build_provisioned_claim(claim: Json, node: str, context: VolumeContext) -> Json:
    """Return the physical claim that gets a volume for `claim`, near physical node `node` ("" = anywhere)."""
    spec = {key: claim["spec"][key] for key in ("accessModes", "resources", "volumeMode") if key in claim["spec"]}
    twin = build_claim_object(claim, spec | {"storageClassName": class_of(claim)}, context)
    twin["metadata"]["labels"][names.PROVISIONED_LABEL] = "true"
    if node:
        twin["metadata"]["annotations"] |= {SELECTED_NODE: node, names.SELECTED_NODE_ANNOTATION: node}
    return twin


def selected_for(twin: Json) -> str:
    """Return the physical node a provisioned claim was made for, "" for none."""
    return annotations_of(twin).get(names.SELECTED_NODE_ANNOTATION, "")


def was_given_up(twin: Json) -> bool:
    """Tell whether the physical provisioner wants another node: it takes the selected node off the claim."""
    return bool(selected_for(twin)) and SELECTED_NODE not in annotations_of(twin)


def build_virtual_volume(claim: Json, twin: Json, physical: Json, reclaim_policy: str, context: VolumeContext) -> Json:
    """Return the volume for `claim`, whose data the bound physical claim `twin` holds on its volume `physical`."""
    cluster_id = context.nodes.cluster_id
    status, twin_key = twin["status"], ObjectKey(namespace_of(twin), name_of(twin))
    spec: Json = {
        "capacity": {"storage": status["capacity"]["storage"]}, "accessModes": claim["spec"]["accessModes"],
        "volumeMode": claim["spec"].get("volumeMode") or "Filesystem", "storageClassName": class_of(claim),
        "persistentVolumeReclaimPolicy": reclaim_policy,
        "claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace_of(claim), "name": name_of(claim),
            "uid": uid_of(claim),
        },
        "nodeAffinity": map_affinity_up(physical["spec"].get("nodeAffinity"), context.nodes),
        "csi": {
            "driver": names.VOLUME_DRIVER, "volumeHandle": handle_of(twin_key, cluster_id),
            "volumeAttributes": {
                "virtualNamespace": namespace_of(claim), "virtualName": name_of(claim), "virtualUID": uid_of(claim),
            },
        },
    }
    return {
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {
            "name": provisioned_volume_name(cluster_id, uid_of(claim)), "finalizers": [finalizer_of(cluster_id)],
            "labels": {names.MANAGED_BY_LABEL: names.MANAGED_BY_VALUE, synced_by_label(cluster_id): "true"},
            "annotations": {PROVISIONED_BY: names.VOLUME_DRIVER, names.PHYSICAL_NAME_ANNOTATION: name_of(physical)},
        },
        "spec": spec,
    }


def build_reset_patch(claim: Json) -> Json:
    """Return the merge patch by which a provisioner tells the scheduler to try another node."""
    return {"metadata": {
        "uid": uid_of(claim), "resourceVersion": resource_version_of(claim), "annotations": {SELECTED_NODE: None},
    }}
