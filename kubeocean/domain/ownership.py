"""Whose an object in a physical cluster is, and whose a mountNamespace.

Several borrowers share a lender's cluster, and several bindings a borrower's. Everything we create in a physical
cluster says whose it is: label `managed-by` (some Kubeocean's) and label `owner` (this virtual cluster's, through this
binding). *Ours* means both match; everything else is foreign, other bindings' objects included, and is never changed or
collected. The label is a hash, because a label has no room for the truth; the annotation beside it holds the whole, and
is checked when it is there.

A mountNamespace has one owner, which claims it by annotation. Two borrowers may want the same one at the same moment,
so a claim is always a write that fails if the namespace changed under it: a POST, or a PATCH with its resourceVersion.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

from kubeocean.api.names import (
    CLAIMED_BY_ANNOTATION,
    CREATED_BY_US_ANNOTATION,
    MANAGED_BY_LABEL,
    MANAGED_BY_VALUE,
    OWNER_ANNOTATION,
    OWNER_LABEL,
)
from kubeocean.kube.meta import Json, annotations_of, is_deleting, labels_of, name_of, resource_version_of


@dataclass(frozen=True, slots=True)
class Owner:
    """One binding of one virtual cluster, as physical clusters know it.

    `virtual_cluster_uid` is the uid of the virtual kube-system namespace. `annotation` is the identity in full, `label`
    the first 16 hex digits of its sha256.
    """

    virtual_cluster_uid: str
    cluster_id: str
    annotation: str = field(init=False, compare=False)
    label: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        text = f"{self.virtual_cluster_uid}/{self.cluster_id}"
        object.__setattr__(self, "annotation", text)
        object.__setattr__(self, "label", hashlib.sha256(text.encode()).hexdigest()[:16])

    def labels(self) -> dict[str, str]:
        """Return the labels that mark an object as ours."""
        return {MANAGED_BY_LABEL: MANAGED_BY_VALUE, OWNER_LABEL: self.label}

    def annotations(self) -> dict[str, str]:
        """Return the annotation that goes with the labels."""
        return {OWNER_ANNOTATION: self.annotation}


def is_managed(obj: Json) -> bool:
    """Tell whether some Kubeocean, ours or another's, made the object."""
    return labels_of(obj).get(MANAGED_BY_LABEL) == MANAGED_BY_VALUE


def is_ours(obj: Json, owner: Owner) -> bool:
    """Tell whether the object is `owner`'s: only then may it be changed or deleted."""
    labels = labels_of(obj)
    if labels.get(OWNER_LABEL) != owner.label or labels.get(MANAGED_BY_LABEL) != MANAGED_BY_VALUE:
        return False
    return annotations_of(obj).get(OWNER_ANNOTATION, owner.annotation) == owner.annotation


class ClaimAction(StrEnum):
    """What is to be done about a mountNamespace."""

    CREATE = "Create"  # it is not there: POST build_namespace()
    CLAIM = "Claim"  # there, and nobody's: PATCH build_claim_patch()
    OURS = "Ours"  # nothing to do
    TAKEN = "Taken"  # another owner's: the binding fails
    TERMINATING = "Terminating"  # wait until it is gone, then create it


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to "may we use this mountNamespace?"; reason and message go into the binding's condition."""

    action: ClaimAction
    reason: str
    message: str


def decide_claim(name: str, namespace: Json | None, owner: Owner) -> Claim:
    """Return what to do about mountNamespace `name`; `namespace` is None when a live read of it answered 404."""
    if namespace is None:
        return Claim(ClaimAction.CREATE, "NamespaceMissing", f"namespace {name} does not exist; it is being created")
    claimant = annotations_of(namespace).get(CLAIMED_BY_ANNOTATION) or ""
    if claimant not in ("", owner.annotation):
        return Claim(
            ClaimAction.TAKEN, "NamespaceClaimed",
            f"namespace {name} is claimed by {claimant}; choose another spec.mountNamespace, or have the lender remove "
            f"its annotation {CLAIMED_BY_ANNOTATION} once nothing of that owner is left in it",
        )
    if is_deleting(namespace):
        message = f"namespace {name} is being deleted; it is created again when it is gone"
        return Claim(ClaimAction.TERMINATING, "NamespaceTerminating", message)
    if not claimant:
        return Claim(ClaimAction.CLAIM, "NamespaceUnclaimed", f"namespace {name} is nobody's; it is being claimed")
    return Claim(ClaimAction.OURS, "NamespaceReady", f"namespace {name} is ours")


def created_by_us(namespace: Json, owner: Owner) -> bool:
    """Tell whether we made this mountNamespace, so that it may be removed at unbinding (if it is empty)."""
    annotations = annotations_of(namespace)
    whose = {annotations.get(CLAIMED_BY_ANNOTATION), annotations.get(OWNER_ANNOTATION)}
    return CREATED_BY_US_ANNOTATION in annotations and whose == {owner.annotation}


def build_namespace(name: str, owner: Owner) -> Json:
    """Return the mountNamespace to create: claimed from its first moment, and marked as made by us."""
    annotations = {**owner.annotations(), CLAIMED_BY_ANNOTATION: owner.annotation, CREATED_BY_US_ANNOTATION: "true"}
    return {
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": owner.labels(), "annotations": annotations},
    }


def build_claim_patch(namespace: Json, owner: Owner) -> Json:
    """Return the merge patch that claims a namespace of the lender; no label: it is not ours to collect.

    What an earlier owner, who left by force, noted about himself goes: he made it, not we.
    """
    patch = _annotation_patch(namespace, owner.annotation)
    if annotations_of(namespace).get(OWNER_ANNOTATION) != owner.annotation:
        _forget_maker(namespace, patch)
    return patch


def build_release_patch(namespace: Json) -> Json:
    """Return the merge patch that gives a claimed namespace back to the lender, without a trace.

    One that we made is his from now on: were the mark left on it, whoever claims it next would think that it may be removed.
    """
    patch = _annotation_patch(namespace, None)
    _forget_maker(namespace, patch)
    return patch


def _forget_maker(namespace: Json, patch: Json) -> None:
    if CREATED_BY_US_ANNOTATION in annotations_of(namespace):
        patch["metadata"]["annotations"] |= {CREATED_BY_US_ANNOTATION: None, OWNER_ANNOTATION: None}
        patch["metadata"]["labels"] = {MANAGED_BY_LABEL: None, OWNER_LABEL: None}


def _annotation_patch(namespace: Json, claimant: str | None) -> Json:
    # The resourceVersion makes it a compare-and-swap: of two borrowers who claim at once, one gets a Conflict.
    return {
        "metadata": {
            "name": name_of(namespace), "resourceVersion": resource_version_of(namespace),
            "annotations": {CLAIMED_BY_ANNOTATION: claimant},
        }
    }
