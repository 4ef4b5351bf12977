"""A claim of the virtual cluster and the volume it is bound to, as the physical pair that its Pods mount.

The pair is made for each other and for nobody else: the claim asks for the volume by name, the volume is reserved for the
claim by name and uid, so no claim of the lender's can take it. Both are of the volume's storage class, spelled out ("" too,
or the lender's default class would be put in), because a claim binds only to a volume of its own class. Reclaim policy is
Retain whatever the user's says: the data is not the lender's to delete, and not ours; the virtual side decides over it.

Not carried: dataSource, dataSourceRef, selector (they say how a volume comes about or is found; this one is found),
volumeAttributesClassName (a class of the virtual cluster), labels and annotations of the user except those below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kubeocean.api import names
from kubeocean.domain.claimsize import build_first_request, capacity
from kubeocean.domain.depmap import copy_key
from kubeocean.domain.hashing import content_hash
from kubeocean.domain.naming import persistent_volume_name
from kubeocean.domain.ownership import Owner
from kubeocean.domain.refusal import Refusal
from kubeocean.domain.volumeaffinity import NodeNames, NowhereToBeFound, map_affinity_down
from kubeocean.domain.volumesources import NOT_SUPPORTED, check_source, map_source, secrets_of
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, key_of, name_of, namespace_of, resource_version_of, uid_of

RETAIN: Final = "Retain"
# Read by the kubelet of whoever mounts the volume: a group for its Pods, and mount options as they once were written.
_KEPT_ANNOTATIONS: Final = ("pv.beta.kubernetes.io/gid", "volume.beta.kubernetes.io/mount-options")
_KEPT_OF_VOLUME: Final = ("capacity", "accessModes", "mountOptions", "volumeMode")
_KEPT_OF_CLAIM: Final = ("accessModes", "volumeMode")


@dataclass(frozen=True, slots=True)
class VolumeContext:
    """The way of a claim into its physical cluster."""

    owner: Owner
    mount_namespace: str
    nodes: NodeNames
    allow_privileged: bool = False


@dataclass(frozen=True, slots=True)
class ForgedVolume:
    """What the physical cluster is to hold: the pair, and by virtual key the Secrets that the volume's driver reads.

    The volume's claimRef has no uid yet: the claim gets one when it is created.
    """

    claim: Json
    volume: Json
    secrets: tuple[ObjectKey, ...]

    def for_twin(self, twin: Json | None) -> ForgedVolume:
        """Return the pair for a twin that is there: an adopted one keeps its volume under the Go project's name."""
        theirs = persistent_volume_name(annotations_of(self.volume)[names.VIRTUAL_NAME_ANNOTATION], "")
        if twin is None or twin["spec"].get("volumeName") != theirs:
            return self
        claim = {**self.claim, "spec": {**self.claim["spec"], "volumeName": theirs}}
        volume = {**self.volume, "metadata": {**self.volume["metadata"], "name": theirs}}
        return ForgedVolume(claim, volume, self.secrets)


def map_volume(claim: Json, volume: Json, context: VolumeContext) -> ForgedVolume | Refusal:
    """Return the physical pair for `claim`, bound to `volume`; or why there can be none."""
    spec = volume["spec"]
    if refusal := check_source(spec, allow_privileged=context.allow_privileged):
        return Refusal(refusal.reason, f"PersistentVolume {name_of(volume)}: {refusal.message}")
    try:
        affinity = map_affinity_down(spec.get("nodeAffinity"), context.nodes)
    except NowhereToBeFound as error:
        return Refusal(NOT_SUPPORTED, f"PersistentVolume {name_of(volume)}: cannot be carried to a physical cluster: {error}")
    source = map_source(spec, namespace_of(claim), lambda secret: copy_key(secret, context.mount_namespace))
    twin_claim = _build_claim(claim, volume, context)
    twin_spec = {key: spec[key] for key in _KEPT_OF_VOLUME if key in spec} | source | {
        "persistentVolumeReclaimPolicy": RETAIN, "storageClassName": spec.get("storageClassName") or "",
        "claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": namespace_of(twin_claim), "name": name_of(twin_claim),
        },
    }
    if affinity:
        twin_spec["nodeAffinity"] = affinity
    secrets = secrets_of(spec, namespace_of(claim))
    return ForgedVolume(twin_claim, _build_volume(claim, volume, twin_spec, context), secrets)


def _build_claim(claim: Json, volume: Json, context: VolumeContext) -> Json:
    spec = {key: claim["spec"][key] for key in _KEPT_OF_CLAIM if key in claim["spec"]} | {
        "resources": build_first_request(claim, volume),
        "storageClassName": volume["spec"].get("storageClassName") or "",
        "volumeName": persistent_volume_name(name_of(volume), context.owner.annotation),
    }
    return build_claim_object(claim, spec, context)


def build_claim_object(claim: Json, spec: Json, context: VolumeContext) -> Json:
    """Return the twin of `claim` with this spec; who reads it in the physical cluster sees whose it is."""
    key = copy_key(key_of(claim), context.mount_namespace)
    annotations = {
        **context.owner.annotations(), names.VIRTUAL_NAMESPACE_ANNOTATION: namespace_of(claim),
        names.VIRTUAL_NAME_ANNOTATION: name_of(claim), names.VIRTUAL_UID_ANNOTATION: uid_of(claim),
        names.CONTENT_HASH_ANNOTATION: content_hash(spec),
    }
    return {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": key.name, "namespace": key.namespace, "labels": context.owner.labels(), "annotations": annotations,
        },
        "spec": spec,
    }


def _build_volume(claim: Json, volume: Json, spec: Json, context: VolumeContext) -> Json:
    annotations = {
        **{key: annotations_of(volume)[key] for key in _KEPT_ANNOTATIONS if key in annotations_of(volume)},
        **context.owner.annotations(), names.VIRTUAL_NAME_ANNOTATION: name_of(volume),
        names.VIRTUAL_CLAIM_NAMESPACE_ANNOTATION: namespace_of(claim), names.VIRTUAL_CLAIM_NAME_ANNOTATION: name_of(claim),
        names.VIRTUAL_CLAIM_UID_ANNOTATION: uid_of(claim), names.CONTENT_HASH_ANNOTATION: content_hash(spec),
    }
    return {
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {
            "name": persistent_volume_name(name_of(volume), context.owner.annotation), "labels": context.owner.labels(),
            "annotations": annotations,
        },
        "spec": spec,
    }


def diff_volume(live: Json, forged: Json, twin: Json) -> Json | None:
    """Return the merge patch that makes a physical volume what it should be, as far as it can be changed; None when it is.

    `twin` is the claim it is for. One that was made anew (a lender deleted it) has another uid; its size only grows.
    """
    before, after = live["spec"], forged["spec"]
    changeable = ("persistentVolumeReclaimPolicy", "mountOptions")
    spec: Json = {key: after.get(key) for key in changeable if before.get(key) != after.get(key)}
    reference = before.get("claimRef") or {}
    if reference.get("uid") != uid_of(twin):
        spec["claimRef"] = {**after["claimRef"], "uid": uid_of(twin), "resourceVersion": None}
    if capacity(forged) > capacity(live):
        spec["capacity"] = {"storage": after["capacity"]["storage"]}
    if not spec:
        return None
    return {"metadata": {"uid": uid_of(live), "resourceVersion": resource_version_of(live)}, "spec": spec}


def build_reminder(twin: Json, volume: Json) -> Json | None:
    """Return the merge patch that has the volume controller look at a physical claim again; None when it has no need.

    A claim that names its volume before there is one is looked at again only by the controller's resync, every 15 s
    (pv_controller.go, syncUnboundClaim and syncVolume). Any change of the claim is looked at at once; so once it knows the
    volume, which the phase shows, the claim is told whose it is. Told once for each volume.
    """
    known = bool((volume.get("status") or {}).get("phase"))
    told = annotations_of(twin).get(names.BOUND_BY_ANNOTATION) == uid_of(volume)
    if not known or told or (twin.get("status") or {}).get("phase") == "Bound":
        return None
    return _build_note(twin, {names.BOUND_BY_ANNOTATION: uid_of(volume)})


def build_origin_note(twin: Json, uid: str, *, provisioned: bool) -> Json:
    """Return the merge patch that notes on a physical claim for which virtual one it was made, and that it holds data."""
    patch = _build_note(twin, {names.VIRTUAL_UID_ANNOTATION: uid})
    if provisioned:
        patch["metadata"]["labels"] = {names.PROVISIONED_LABEL: "true"}
    return patch


def _build_note(twin: Json, note: Mapping[str, str]) -> Json:
    return {"metadata": {"uid": uid_of(twin), "resourceVersion": resource_version_of(twin), "annotations": note}}


def virtual_claim_of(obj: Json) -> ObjectKey:
    """Return which virtual claim a physical claim or volume of ours stands for; its parts are "" when nobody knows."""
    where = (names.VIRTUAL_NAMESPACE_ANNOTATION, names.VIRTUAL_NAME_ANNOTATION)
    if obj.get("kind") == "PersistentVolume":
        where = (names.VIRTUAL_CLAIM_NAMESPACE_ANNOTATION, names.VIRTUAL_CLAIM_NAME_ANNOTATION)
    namespace, name = (annotations_of(obj).get(key, "") for key in where)
    return ObjectKey(namespace, name)


def virtual_claim_uid_of(obj: Json) -> str:
    """Return the uid of that virtual claim, "" when nobody knows."""
    key = names.VIRTUAL_CLAIM_UID_ANNOTATION if obj.get("kind") == "PersistentVolume" else names.VIRTUAL_UID_ANNOTATION
    return annotations_of(obj).get(key, "")
