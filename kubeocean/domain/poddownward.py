"""The downward API, made to tell the virtual truth.

A container that asks for its own name, namespace or node must hear what it has in the virtual cluster; its kubelet
knows only the twin's. Those values stand in annotations of the twin, so a `fieldRef` to `metadata.name` becomes one
to `metadata.annotations['kubeocean.io/virtual-pod-name']`. What the twin has unchanged (annotations, status, most
labels) is read from the twin as before. Annotations that are needed by such a reference only are collected on the
way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final

from kubeocean.api import names
from kubeocean.kube.meta import Json, labels_of

_LABEL: Final = "metadata.labels['"
# Always on a twin: the mapping annotations.
_MAPPED: Final = {
    "metadata.name": names.VIRTUAL_POD_NAME_ANNOTATION,
    "metadata.namespace": names.VIRTUAL_POD_NAMESPACE_ANNOTATION,
    "metadata.uid": names.VIRTUAL_POD_UID_ANNOTATION,
    "spec.nodeName": names.VIRTUAL_NODE_NAME_ANNOTATION,
}


class Downward:
    """Rewrites the references of one virtual Pod; `annotations` are those the twin needs for what was rewritten so far.

    `hidden_labels` are the labels that we put on the twin: there its own value is not the virtual one.
    """

    __slots__ = ("_hidden", "_vpod", "annotations")

    def __init__(self, vpod: Json, hidden_labels: Collection[str]) -> None:
        self.annotations: dict[str, str] = {}
        self._vpod = vpod
        self._hidden = hidden_labels

    def rewrite(self, reference: Json) -> Json:
        """Return the `fieldRef` for the twin; the same object when it reads the truth there anyway."""
        path = reference.get("fieldPath", "")
        annotation = _MAPPED.get(path) or self._collect(path)
        return {**reference, "fieldPath": f"metadata.annotations['{annotation}']"} if annotation else reference

    def rewrite_items(self, items: Iterable[Json]) -> list[Json]:
        """Return the items of a downwardAPI volume (or projection) for the twin."""
        return [
            {**item, "fieldRef": self.rewrite(item["fieldRef"])} if item.get("fieldRef") else item for item in items
        ]

    def _collect(self, path: str) -> str | None:
        if path == "spec.serviceAccountName":
            name = self._vpod["spec"].get("serviceAccountName") or "default"
            return self._need(names.VIRTUAL_SERVICE_ACCOUNT_ANNOTATION, name)
        if path == "metadata.labels":
            return self._need(names.VIRTUAL_LABELS_ANNOTATION, format_labels(labels_of(self._vpod)))
        if path.startswith(_LABEL) and (label := path[len(_LABEL):-2]) in self._hidden:
            annotation = names.VIRTUAL_LABEL_ANNOTATION_PREFIX + label.rpartition("/")[2]
            return self._need(annotation, labels_of(self._vpod).get(label, ""))
        return None

    def _need(self, annotation: str, value: str) -> str:
        self.annotations[annotation] = value
        return annotation


def format_labels(labels: dict[str, str]) -> str:
    """Return labels as a kubelet writes them into a downward API file: sorted, one `key="value"` a line."""
    return "\n".join(f'{key}="{labels[key]}"' for key in sorted(labels))


def map_env_source(source: Json, rewrite: Callable[[Json], Json]) -> Json:
    """Return the `valueFrom` of a variable for the twin."""
    return {**source, "fieldRef": rewrite(source["fieldRef"])} if source.get("fieldRef") else source
