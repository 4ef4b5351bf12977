"""Objects that the Go project of the same name left in a physical cluster, and when they become ours.

It marked them `managed-by` and named the virtual object in annotations, but no owner: several of its borrowers cannot be told
apart by what the object says. So it is never taken by its looks. It is adopted only for a virtual object of this cluster
that claims it from its side: a Pod by the uid written on the twin (and by the twin's uid, where the Pod has noted one), a
ConfigMap or Secret by name, in a mountNamespace that is ours, a claim so too, and if it is bound to a volume that describes the
same storage as the one of its virtual claim. Whatever nobody claims stays as it is, and is foreign.

To adopt is to write who owns it. A Pod is taken as it runs: that it was given all its user wants is noted along with that,
so nothing is pushed down at once and no container restarts. A volume keeps the name it has (see `naming`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kubeocean.api import names
from kubeocean.domain.naming import persistent_volume_name
from kubeocean.domain.ownership import Owner, is_managed, is_ours
from kubeocean.domain.podchange import changeable_hash, expected_metadata
from kubeocean.domain.volumesources import storage_of
from kubeocean.kube.meta import Json, annotations_of, is_deleting, labels_of, name_of, namespace_of, resource_version_of, uid_of

# What must be kept of a Pod that may turn out to be adopted, of all that is dropped of foreign ones.
CLAIM_ANNOTATIONS: Final = (
    names.VIRTUAL_POD_NAMESPACE_ANNOTATION, names.VIRTUAL_POD_NAME_ANNOTATION, names.VIRTUAL_POD_UID_ANNOTATION,
)


def is_unowned(obj: Json) -> bool:
    """Tell whether some Kubeocean made the object that did not say for whom."""
    return is_managed(obj) and names.OWNER_LABEL not in labels_of(obj) and names.OWNER_ANNOTATION not in annotations_of(obj)


def may_adopt_pod(ppod: Json, vpod: Json) -> bool:
    """Tell whether a physical Pod under the name of the virtual Pod's twin is that twin, and nobody's yet."""
    if not is_unowned(ppod):
        return False
    told = tuple(annotations_of(ppod).get(key, "") for key in CLAIM_ANNOTATIONS)
    noted = annotations_of(vpod).get(names.PHYSICAL_POD_UID_ANNOTATION, "")
    return told == (namespace_of(vpod), name_of(vpod), uid_of(vpod)) and noted in ("", uid_of(ppod))


def may_adopt_copy(copy: Json, desired: Json) -> bool:
    """Tell whether an unowned ConfigMap, Secret or claim is the copy that `desired` describes."""
    mine, theirs = annotations_of(desired), annotations_of(copy)
    keys = (names.VIRTUAL_NAMESPACE_ANNOTATION, names.VIRTUAL_NAME_ANNOTATION)
    return is_unowned(copy) and not is_deleting(copy) and all(mine.get(key) == theirs.get(key) for key in keys)


def may_adopt_volume(volume: Json, claim: Json, desired: Json, owner: Owner) -> bool:
    """Tell whether a physical volume is the one that `desired` describes, for the physical `claim` that is bound to it.

    It is nobody's, or ours since an adoption that was cut short.
    """
    virtual, told = (annotations_of(each).get(names.VIRTUAL_NAME_ANNOTATION, "") for each in (desired, volume))
    reference = volume["spec"].get("claimRef") or {}
    bound = (claim.get("status") or {}).get("phase") == "Bound" and claim["spec"].get("volumeName") == name_of(volume)
    return (
        (is_unowned(volume) or is_ours(volume, owner)) and not is_deleting(volume)
        and name_of(volume) == persistent_volume_name(virtual, "") and told in ("", virtual)
        and bound and reference.get("uid") == uid_of(claim) and storage_of(volume["spec"]) == storage_of(desired["spec"])
    )


def build_adoption(live: Json, desired: Json) -> Json:
    """Return the merge patch (with uid and resourceVersion) that puts on `live` whose it is, and what for, as on `desired`."""
    return _build_patch(live, labels_of(desired), annotations_of(desired))


def _build_patch(live: Json, labels: Mapping[str, str], annotations: Mapping[str, str]) -> Json:
    return {"metadata": {
        "uid": uid_of(live), "resourceVersion": resource_version_of(live), "labels": labels, "annotations": annotations,
    }}


def build_pod_adoption(vpod: Json, ppod: Json, owner: Owner) -> Json:
    """Return the merge patch (with uid and resourceVersion) by which a twin becomes `owner`'s.

    It is labelled with its virtual namespace, too: by that label mirrored NetworkPolicies select it.
    """
    return _build_patch(ppod, owner.labels() | {names.VIRTUAL_NAMESPACE_LABEL: namespace_of(vpod)}, {
        **owner.annotations(), names.EXPECTED_METADATA_ANNOTATION: expected_metadata(vpod),
        names.CONTENT_HASH_ANNOTATION: changeable_hash(vpod),
    })
