"""Reading the metadata every Kubernetes object has.

Objects are plain dicts everywhere (`Json`); these are the few accessors that keep `obj["metadata"].get(...) or {}` from
being written a thousand times. All of them accept objects with fields left out, as the API server leaves them out; none
changes the object, and what they return must not be changed either.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

Json = dict[str, Any]  # one decoded Kubernetes object; the only place where Any is let in


class ObjectKey(NamedTuple):
    """Names one object of a known resource; `namespace` is "" for cluster-scoped ones."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def key_of(obj: Json) -> ObjectKey:
    """Return the key under which stores and queues know `obj`."""
    metadata = obj["metadata"]
    return ObjectKey(metadata.get("namespace") or "", metadata["name"])


def name_of(obj: Json) -> str:
    """Return metadata.name."""
    return str(obj["metadata"]["name"])


def namespace_of(obj: Json) -> str:
    """Return metadata.namespace, "" for a cluster-scoped object."""
    return obj["metadata"].get("namespace") or ""


def uid_of(obj: Json) -> str:
    """Return metadata.uid, "" for an object that no API server has seen."""
    return obj["metadata"].get("uid") or ""


def resource_version_of(obj: Json) -> str:
    """Return metadata.resourceVersion, "" when there is none."""
    return obj["metadata"].get("resourceVersion") or ""


def labels_of(obj: Json) -> dict[str, str]:
    """Return metadata.labels, empty when there are none."""
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Json) -> dict[str, str]:
    """Return metadata.annotations, empty when there are none."""
    return obj["metadata"].get("annotations") or {}


def finalizers_of(obj: Json) -> list[str]:
    """Return metadata.finalizers, empty when there are none."""
    return obj["metadata"].get("finalizers") or []


def is_deleting(obj: Json) -> bool:
    """Tell whether deletion was asked for (the object may live on until its finalizers and grace are done)."""
    return "deletionTimestamp" in obj["metadata"]


def controller_of(obj: Json) -> Json | None:
    """Return the owner reference with controller=true, None when nobody controls the object."""
    for owner in obj["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return dict(owner)
    return None


def revision(resource_version: str) -> int:
    """Return a resourceVersion as a number that can be compared; 0 when it is empty.

    Comparing is allowed by Kubernetes since KEP-5504 (1.35) and true of every etcd-backed server before.
    """
    return int(resource_version) if resource_version.isdigit() else 0


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 time as the API server writes it (`metav1.Time` or `MicroTime`), in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def format_time(moment: datetime) -> str:
    """Write `metav1.Time`: whole seconds, Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(moment: datetime) -> str:
    """Write `metav1.MicroTime`: microseconds, Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
