"""A ConfigMap or Secret of the virtual cluster, and its copy for the Pods that run elsewhere.

The copy holds what a kubelet mounts: data and type, the user's labels, nothing of his annotations (`kubectl apply` keeps the
whole Secret in one of them). It says whose it is and what it is a copy of, and carries the hash of what we meant.

Neither side's data stays in our memory. A `digest` stands for the content, the same for a virtual object and a faithful copy,
so "is the copy what it should be?" is answered from two small heads; only what must be written is read live.

What cannot be changed in place is replaced: the data of an immutable object, immutability itself, a Secret's type
(core validation `ValidateConfigMapUpdate`, `ValidateSecretUpdate`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from kubeocean.api import names
from kubeocean.domain.adoption import may_adopt_copy
from kubeocean.domain.hashing import content_hash
from kubeocean.domain.naming import physical_name
from kubeocean.domain.ownership import Owner, is_ours
from kubeocean.kube.meta import (
    Json,
    ObjectKey,
    annotations_of,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    resource_version_of,
    uid_of,
)
from kubeocean.kube.patch import diff_merge

OPAQUE: Final = "Opaque"
# Types by which a controller of the physical cluster would take the copy for its own: the token controller deletes a
# service-account-token whose ServiceAccount it does not know, the bootstrap signer lets the bearer of a bootstrap token in.
_TYPES_THAT_ACT: Final = frozenset({"kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"})
_CONTENT: Final = ("data", "binaryData", "immutable", "type")
_SUBDOMAIN: Final = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")


class Step(StrEnum):
    """What makes a copy what it should be."""

    NOTHING = "Nothing"
    CREATE = "Create"
    PATCH = "Patch"
    REPLACE = "Replace"  # delete it, then create it anew
    CONFLICT = "Conflict"  # an object of that name is not ours: it stays
    WAIT = "Wait"  # it is on its way out; its name is free when it is gone


@dataclass(frozen=True, slots=True)
class CopyHead:
    """What is remembered of a physical copy: of what (see `origin_of`), and the digest of what is really in it."""

    origin: ObjectKey
    digest: str


def can_exist(name: str) -> bool:
    """Tell whether an object may have this name; a Pod may mention any (core validation `NameIsDNSSubdomain`)."""
    return bool(_SUBDOMAIN.fullmatch(name))


def digest_of(obj: Json) -> str:
    """Return the hash of what a copy of `obj` holds, or of what `obj`, a copy, does hold."""
    return content_hash(_content(obj))


def user_labels(obj: Json) -> dict[str, str]:
    """Return the labels that go along to the copy: all but Kubeocean's own."""
    return {key: value for key, value in labels_of(obj).items() if not key.startswith(names.PREFIX)}


def copy_labels(obj: Json, owner: Owner, more: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of the copy; `more` are marks of whoever uses it beside Pods."""
    return {**user_labels(obj), **more, **owner.labels()}


def meant_hash(digest: str, labels: Mapping[str, str]) -> str:
    """Return the hash that a copy with this content and these labels carries as annotation."""
    return content_hash({"content": digest, "labels": dict(labels)})


def meaning_of(obj: Json, digest: str, owner: Owner, more: Mapping[str, str]) -> str:
    """Return the hash that the copy of `obj` should carry; `obj` may be trimmed, `digest` is of its content."""
    return meant_hash(digest, copy_labels(obj, owner, more))


def copy_key(key: ObjectKey, mount_namespace: str) -> ObjectKey:
    """Return where the copy of virtual object `key` is."""
    return ObjectKey(mount_namespace, physical_name(key.name, key.namespace))


def build_copy(obj: Json, owner: Owner, mount_namespace: str, more: Mapping[str, str] | None = None) -> Json:
    """Return the object for the physical cluster that stands for `obj`, a ConfigMap or Secret with its data."""
    labels = copy_labels(obj, owner, more or {})
    annotations = {
        **owner.annotations(),
        names.VIRTUAL_NAMESPACE_ANNOTATION: namespace_of(obj), names.VIRTUAL_NAME_ANNOTATION: name_of(obj),
        names.CONTENT_HASH_ANNOTATION: meant_hash(digest_of(obj), labels),
    }
    namespace, name = copy_key(key_of(obj), mount_namespace)
    metadata = {"name": name, "namespace": namespace, "labels": labels, "annotations": annotations}
    return {"apiVersion": "v1", "kind": obj["kind"], "metadata": metadata, **_content(obj)}


def decide_copy(live: Json | None, desired: Json, owner: Owner) -> Step:
    """Return what must be done so that `live`, whatever has the copy's name (None: nothing), becomes `desired`."""
    if live is None:
        return Step.CREATE
    if not is_ours(live, owner) and not may_adopt_copy(live, desired):
        return Step.CONFLICT
    if is_deleting(live):
        return Step.WAIT
    was, should_be = _content(live), _content(desired)
    if was != should_be and (was.get("immutable") or was.get("type") != should_be.get("type")):
        return Step.REPLACE
    return Step.PATCH if build_copy_patch(live, desired) else Step.NOTHING


def build_copy_patch(live: Json, desired: Json) -> Json | None:
    """Return the merge patch (with uid and resourceVersion) that makes a copy what it should be; None if it is.

    Data and labels become exactly the desired ones; annotations and finalizers of others stay.
    """
    before = {key: live.get(key) for key in ("data", "binaryData", "immutable")}
    after = {key: desired.get(key) for key in ("data", "binaryData", "immutable")}
    patch = diff_merge(_present(before), _present(after)) or {}
    metadata: Json = {}
    if labels := diff_merge(labels_of(live), labels_of(desired)):
        metadata["labels"] = labels
    wrong = {key: value for key, value in annotations_of(desired).items() if annotations_of(live).get(key) != value}
    if wrong:
        metadata["annotations"] = wrong
    if not patch and not metadata:
        return None
    return {**patch, "metadata": {"uid": uid_of(live), "resourceVersion": resource_version_of(live), **metadata}}


def trim(obj: Json) -> Json:
    """Return what is remembered of an object on either side: labels and marks, and the digest in place of the data."""
    annotations = {key: value for key, value in annotations_of(obj).items() if key.startswith(names.PREFIX)}
    return {"kind": obj["kind"], "metadata": {**obj["metadata"], "annotations": annotations}, "digest": digest_of(obj)}


def digest_in(trimmed: Json) -> str:
    """Return the digest that `trim` left in place of the data."""
    return str(trimmed["digest"])


def origin_of(copy: Json) -> ObjectKey:
    """Return the key of the virtual object that `copy` is a copy of.

    A stray, whose annotations do not lead to its name because somebody took them off, has its own name for a key, and "" for
    a namespace.
    """
    annotations, key = annotations_of(copy), key_of(copy)
    virtual = ObjectKey(
        annotations.get(names.VIRTUAL_NAMESPACE_ANNOTATION, ""), annotations.get(names.VIRTUAL_NAME_ANNOTATION, "")
    )
    return virtual if all(virtual) and copy_key(virtual, key.namespace) == key else ObjectKey("", key.name)


def summarise_copy(trimmed: Json) -> CopyHead:
    """Return the head of a copy."""
    return CopyHead(origin_of(trimmed), digest_in(trimmed))


def says_right(copy: Json, virtual: Json, owner: Owner, more: Mapping[str, str]) -> bool:
    """Tell whether the metadata of `copy` is as it should be; both may be trimmed. What is in it is compared by digest."""
    labels, annotations = copy_labels(virtual, owner, more), annotations_of(copy)
    return (
        is_ours(copy, owner) and not is_deleting(copy) and labels.items() <= labels_of(copy).items()
        and annotations.get(names.CONTENT_HASH_ANNOTATION) == meant_hash(digest_in(virtual), labels)
        and annotations.get(names.VIRTUAL_NAMESPACE_ANNOTATION) == namespace_of(virtual)
        and annotations.get(names.VIRTUAL_NAME_ANNOTATION) == name_of(virtual)
    )


def _content(obj: Json) -> Json:
    """Return what counts of an object, in one form for all ways of writing it (the server leaves empty maps out)."""
    content = _present({key: obj.get(key) for key in _CONTENT})
    if obj["kind"] == "Secret":
        kind = content.get("type") or OPAQUE
        content["type"] = OPAQUE if kind in _TYPES_THAT_ACT else kind
    return content


def _present(fields: Json) -> Json:
    return {key: value for key, value in fields.items() if value}
