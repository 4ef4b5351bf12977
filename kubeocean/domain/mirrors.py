"""Copies in the mountNamespace that follow an original of the virtual cluster: what they carry, and the one write each needs.

A copy says whose it is (labels), of what it is a copy and of which uid (annotations), and a hash of what we meant. What it
*should* be is always built anew; compared with what is there are only the fields that are ours to say, so that a field which
the server defaults differs from nothing, while one that somebody else set where we meant none is taken off again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from kubeocean.api import names
from kubeocean.domain.hashing import content_hash
from kubeocean.domain.naming import physical_name
from kubeocean.domain.ownership import Owner
from kubeocean.kube.meta import (
    Json,
    ObjectKey,
    annotations_of,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    resource_version_of,
    uid_of,
)
from kubeocean.kube.patch import diff_merge
from kubeocean.kube.resources import Resource

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Create:
    """There is none: POST `obj`."""

    obj: Json


@dataclass(frozen=True, slots=True)
class Change:
    """Apply merge patch `patch`, which carries the resourceVersion it was decided on, to the one called `name`.

    `wanted` is the copy as it is meant to be.
    """

    name: str
    patch: Json
    wanted: Json


@dataclass(frozen=True, slots=True)
class Remove:
    """DELETE the one called `name` with `uid`: it is not wanted, or cannot become what is, `wanted`."""

    name: str
    uid: str
    wanted: Json | None = None


Step = Create | Change | Remove | None


def meaning_of(step: Create | Change | Remove) -> str:
    """Return a hash of what a step brings about: however different the ways to it, it is the same for the same copy."""
    return content_hash((step.obj if isinstance(step, Create) else step.wanted) or {})


def build_copy(
    resource: Resource, origin: Json, content: Json, owner: Owner, mount_namespace: str, *,
    labels: Mapping[str, str] = _NONE, annotations: Mapping[str, str] = _NONE,
) -> Json:
    """Return the copy of `origin` to create: `content` (spec, or whatever the kind has) under metadata of ours."""
    metadata = {
        "name": physical_name(name_of(origin), namespace_of(origin)), "namespace": mount_namespace,
        "labels": {**labels, **owner.labels()},
        "annotations": {
            **annotations, **owner.annotations(),
            names.VIRTUAL_NAMESPACE_ANNOTATION: namespace_of(origin),
            names.VIRTUAL_NAME_ANNOTATION: name_of(origin),
            names.VIRTUAL_UID_ANNOTATION: uid_of(origin),
            names.CONTENT_HASH_ANNOTATION: content_hash(content),
        },
    }
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **content}


def origin_of(copy: Json) -> ObjectKey | None:
    """Return of what an object is a copy; None when its annotations do not tell, or tell what does not fit its name."""
    annotations = annotations_of(copy)
    key = ObjectKey(
        annotations.get(names.VIRTUAL_NAMESPACE_ANNOTATION) or "", annotations.get(names.VIRTUAL_NAME_ANNOTATION) or ""
    )
    return key if all(key) and physical_name(key.name, key.namespace) == name_of(copy) else None


def origin_uid_of(copy: Json) -> str:
    """Return the uid of what an object is a copy of, "" when it does not tell."""
    return annotations_of(copy).get(names.VIRTUAL_UID_ANNOTATION) or ""


def decide_copy(
    wanted: Json | None, existing: Json | None, content: Callable[[Json], Json], *,
    replaces: Callable[[Json, Json], bool] = lambda existing, wanted: False,
) -> Step:
    """Return the step that makes `existing` (ours, None = there is none) what is `wanted`; None when it is.

    `content` returns the fields of an object of this kind that are ours to say. `replaces(existing, wanted)` tells whether
    they differ in what the API server lets nobody change, so that the copy has to be made anew.
    """
    if existing is None:
        return Create(wanted) if wanted else None
    if is_deleting(existing):
        return None  # its going brings us back
    if wanted is None or replaces(existing, wanted):
        return Remove(name_of(existing), uid_of(existing), wanted)
    patch = diff_merge(_compared(existing, wanted, content), _compared(wanted, wanted, content))
    if patch is None:
        return None
    patch.setdefault("metadata", {})["resourceVersion"] = resource_version_of(existing)
    return Change(name_of(existing), patch, wanted)


def _compared(obj: Json, wanted: Json, content: Callable[[Json], Json]) -> Json:
    # Labels and annotations that a lender adds are his; only ours are compared.
    labels = {key: text for key, text in labels_of(obj).items() if key in labels_of(wanted)}
    annotations = {key: text for key, text in annotations_of(obj).items() if key in annotations_of(wanted)}
    return {"metadata": {"labels": labels, "annotations": annotations}, **content(obj)}
