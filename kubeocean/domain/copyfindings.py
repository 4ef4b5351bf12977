"""What is wrong with what Pods need: copies of ConfigMaps and Secrets, claims and volumes, and the marks on their originals.

Whether an object is in use say the virtual Pods on our nodes, and the physical volumes whose drivers read a Secret. An object
that is marked, copied, and used by nobody is in order: that is the grace after its last Pod. One of the two without the other,
and nobody who needs it, is left over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from kubeocean.api import names
from kubeocean.domain.claimorigin import is_mere_description, volumes_behind
from kubeocean.domain.claimpair import is_doomed
from kubeocean.domain.depmap import copy_key, copy_labels, digest_of, meant_hash, origin_of, says_right, trim
from kubeocean.domain.findings import SYNCER, Finding, Kind, Mend, Ref, Side, ref_to
from kubeocean.domain.marks import build_mark_patch, is_marked
from kubeocean.domain.naming import volume_twin_names
from kubeocean.domain.ownership import Owner
from kubeocean.domain.provisioning import is_held_by, is_provisioned, origin_uid_of
from kubeocean.domain.volumemap import virtual_claim_of, virtual_claim_uid_of
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, is_deleting, key_of, labels_of, name_of, namespace_of, uid_of
from kubeocean.kube.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, Resource

MISLABELLED = "Mislabelled"


@dataclass(frozen=True, slots=True)
class CopyScene:
    """One kind, ConfigMap or Secret. `originals` are all virtual objects (metadata is enough), `marked` those with our label.

    The marked ones come with their data, and so do `copies`: ours in the mountNamespace, token Secrets left out. `used` are the
    virtual objects that somebody needs, `for_volumes` those among them that a driver reads.
    """

    resource: Resource
    owner: Owner
    cluster_id: str
    mount_namespace: str
    originals: Mapping[ObjectKey, Json]
    marked: Mapping[ObjectKey, Json]
    copies: Mapping[ObjectKey, Json]
    used: frozenset[ObjectKey]
    for_volumes: frozenset[ObjectKey] = frozenset()

    def place_of(self, key: ObjectKey) -> ObjectKey:
        """Return where the copy of a virtual object is."""
        return copy_key(key, self.mount_namespace)

    def labels(self, key: ObjectKey) -> dict[str, str]:
        """Return what a copy is labelled with for those who need it beside Pods."""
        return {names.USED_BY_PV_LABEL: "true"} if key in self.for_volumes else {}


def check_copies(scene: CopyScene) -> Iterator[Finding]:
    """Yield what is wrong with one kind."""
    places = {scene.place_of(key) for key in scene.used}
    for copy in scene.copies.values():
        if not is_deleting(copy) and (finding := _check_copy(copy, scene, places)):
            yield finding
    for key, original in scene.originals.items():
        if not is_deleting(original) and (finding := _check_original(key, original, scene)):
            yield finding


def _check_copy(copy: Json, scene: CopyScene, places: set[ObjectKey]) -> Finding | None:
    origin, about = origin_of(copy), ref_to(Side.PHYSICAL, scene.resource, copy)
    if not origin.namespace:
        if key_of(copy) in places:
            return Finding(Kind.DRIFTED_COPY, "AnnotationsLost", about, "somebody took off what it is a copy of", SYNCER)
        cause = "it carries our labels and does not say of what it is a copy; nothing that is in use has a copy of this name"
        return Finding(Kind.ORPHAN_COPY, "Stray", about, cause, SYNCER, Mend.DELETE)
    marked, source = scene.marked.get(origin), Ref(Side.VIRTUAL, scene.resource, origin)
    if origin not in scene.used:
        if marked is not None:
            return None  # the grace after its last Pod
        gone = "is gone" if origin not in scene.originals else "is not marked as in use"
        cause = f"{scene.resource.kind} {origin}, of which it is a copy, {gone}, and no Pod on our nodes names it"
        return Finding(Kind.ORPHAN_COPY, "NotInUse", about, cause, SYNCER, Mend.DELETE, source)
    return _compare(copy, marked, about, scene) if marked is not None else None


def _compare(copy: Json, original: Json, about: Ref, scene: CopyScene) -> Finding | None:
    key = key_of(original)
    if is_deleting(original):
        return None
    source = ref_to(Side.VIRTUAL, scene.resource, original)
    if digest_of(copy) != digest_of(original):
        labels = copy_labels(original, scene.owner, scene.labels(key))
        meant = annotations_of(copy).get(names.CONTENT_HASH_ANNOTATION) == meant_hash(digest_of(original), labels)
        below = "somebody changed the copy, or an admission webhook of the lender rewrites it"
        cause = below if meant else f"{scene.resource.kind} {key} was changed, and its copy was not"
        return Finding(
            Kind.DRIFTED_COPY, "ChangedBelow" if meant else "NotCopied", about, f"the content differs: {cause}", SYNCER,
            Mend.COPY, source,
        )
    if not says_right(trim(copy), trim(original), scene.owner, scene.labels(key)):
        cause = f"labels or annotations are not what those of a copy of {key} should be"
        return Finding(Kind.DRIFTED_COPY, MISLABELLED, about, cause, SYNCER, Mend.COPY, source)
    return None


def _check_original(key: ObjectKey, original: Json, scene: CopyScene) -> Finding | None:
    place, about = scene.place_of(key), ref_to(Side.VIRTUAL, scene.resource, original)
    has_copy = place in scene.copies
    if key in scene.used:
        return _check_used(original, place, about, scene, has_copy=has_copy)
    if has_copy or not is_marked(original, scene.cluster_id):
        return None
    cause = "it carries our marks, nothing on our nodes uses it, and there is no copy; its finalizer would hold up its deletion"
    return Finding(Kind.STALE_MARK, "NotInUse", about, cause, SYNCER, Mend.UNMARK)


def _check_used(original: Json, place: ObjectKey, about: Ref, scene: CopyScene, *, has_copy: bool) -> Finding | None:
    twin = Ref(Side.PHYSICAL, scene.resource, place)
    if not has_copy:
        if not is_marked(original, scene.cluster_id):
            return None  # its Pods wait, and say for what
        cause = f"{about} is in use, and its copy is gone: Pods that start, or read it again, do not find it"
        return Finding(Kind.MISSING_COPY, "CopyIsGone", twin, cause, SYNCER, Mend.COPY, about)
    if build_mark_patch(original, scene.cluster_id, place):
        cause = "it is in use and copied, and lacks a mark of ours, by which changes are seen and deletion is held up"
        return Finding(Kind.MISSING_MARK, "Incomplete", about, cause, SYNCER, Mend.MARK, twin)
    return None


# --- claims and volumes ----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class StorageScene:
    """Claims and volumes of both sides; the physical ones are ours. `used` are the virtual claims that Pods of ours name."""

    owner: Owner
    cluster_id: str
    mount_namespace: str
    claims: Mapping[ObjectKey, Json]
    volumes: Iterable[Json]
    twin_claims: Mapping[ObjectKey, Json]
    twin_volumes: Mapping[str, Json]
    used: frozenset[ObjectKey]


def check_storage(scene: StorageScene) -> Iterator[Finding]:
    """Yield what is wrong with claims and volumes. What may hold data is never mended here."""
    kept = {
        origin_uid_of(volume) for volume in scene.volumes
        if is_provisioned(volume) and not is_doomed(volume, origin_uid_of(volume))
    }
    for twin in (*scene.twin_claims.values(), *scene.twin_volumes.values()):
        if not is_deleting(twin) and (finding := _check_storage_twin(twin, scene, kept)):
            yield finding
    for claim in scene.claims.values():
        if not is_deleting(claim) and (finding := _check_claim(claim, scene)):
            yield finding
    for volume in scene.volumes:
        if not is_deleting(volume) and (finding := _check_volume(volume, scene)):
            yield finding


def _check_storage_twin(twin: Json, scene: StorageScene, kept: set[str]) -> Finding | None:
    key, noted = virtual_claim_of(twin), virtual_claim_uid_of(twin)
    claim = scene.claims.get(key)
    if (claim is not None and uid_of(claim) == noted) or noted in kept:
        return None
    volume = twin["kind"] == "PersistentVolume"
    if not volume and _stands_for_data(twin, scene):
        return None  # the syncer mends what it says of itself, or gives it up with its volume
    resource = PERSISTENTVOLUMES if volume else PERSISTENTVOLUMECLAIMS
    about, source = ref_to(Side.PHYSICAL, resource, twin), Ref(Side.VIRTUAL, PERSISTENTVOLUMECLAIMS, key, noted)
    kind = Kind.ORPHAN_VOLUME if volume else Kind.ORPHAN_CLAIM
    cause = f"claim {key} (uid {noted or 'unknown'}), for which it was made, is gone"
    if not (all(key) and noted):
        cause = "it carries our labels and does not say for which virtual claim it was made"
        return Finding(kind, "Stray", about, cause, "look into it, then delete it")
    if not volume and not is_mere_description(twin, scene.twin_volumes):
        remedy = f"it may hold data: {SYNCER}; or look into it, then delete it"
        return Finding(kind, "ClaimIsGone", about, cause, remedy, origin=source)
    return Finding(kind, "ClaimIsGone", about, cause, SYNCER, Mend.DELETE, source)


def _stands_for_data(twin: Json, scene: StorageScene) -> bool:
    """Tell whether a virtual volume that stays names a claim as the place of its data, whatever the claim says."""
    named = [each for each in scene.volumes if is_held_by(each, key_of(twin), scene.cluster_id)]
    return any(not is_doomed(each, origin_uid_of(each)) for each in volumes_behind(twin, named))


def _check_claim(claim: Json, scene: StorageScene) -> Finding | None:
    key = key_of(claim)
    if key in scene.used or not is_marked(claim, scene.cluster_id) or copy_key(key, scene.mount_namespace) in scene.twin_claims:
        return None
    cause = "it carries our marks, no Pod on our nodes uses it, and there is no physical claim; its finalizer would hold it up"
    about = ref_to(Side.VIRTUAL, PERSISTENTVOLUMECLAIMS, claim)
    return Finding(Kind.STALE_MARK, "NotInUse", about, cause, SYNCER, Mend.UNMARK)


def _check_volume(volume: Json, scene: StorageScene) -> Finding | None:
    about = ref_to(Side.VIRTUAL, PERSISTENTVOLUMES, volume)
    reference = volume["spec"].get("claimRef") or {}
    claimed = ObjectKey(reference.get("namespace") or "", reference.get("name") or "")
    if is_provisioned(volume):
        twin = copy_key(claimed, scene.mount_namespace)
        if not is_held_by(volume, twin, scene.cluster_id) or twin in scene.twin_claims:
            return None
        cause = f"its data was behind claim {twin} of the physical cluster, which is gone"
        remedy = "the data is lost: delete the claim, and make it again to start empty"
        return Finding(Kind.LOST_CLAIM, "PhysicalClaimLost", about, cause, remedy)
    if not is_marked(volume, scene.cluster_id) or claimed in scene.used:
        return None
    if any(name in scene.twin_volumes for name in volume_twin_names(name_of(volume), scene.owner.annotation)):
        return None
    cause = "it carries our marks, no Pod on our nodes uses its claim, and there is no physical volume for it"
    return Finding(Kind.STALE_MARK, "NotInUse", about, cause, SYNCER, Mend.UNMARK)


def is_token_secret(secret: Json) -> bool:
    """Tell whether a physical Secret of ours holds tokens of a Pod: it is no copy."""
    return names.SERVICE_ACCOUNT_TOKEN_LABEL in labels_of(secret)


def in_namespace(objects: Iterable[Json], namespace: str) -> dict[ObjectKey, Json]:
    """Return by key the objects of one namespace."""
    return {key_of(obj): obj for obj in objects if namespace_of(obj) == namespace}
