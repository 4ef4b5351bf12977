"""The downward API, made to tell the virtual truth.

A container that asks for its own name, namespace or node must hear what it has in the virtual cluster; its kubelet
knows only the twin's. Those values stand in annotations of the twin, so a `fieldRef` to `metadata.name` becomes one
to `metadata.annotations['kubeocean.io/virtual-pod-name']`. What the twin has unchanged (status, most labels, most
annotations) is read from the twin as before. Annotations that are needed by such a reference only are collected on the
way.

The whole of the labels or annotations (only files can ask for that) is written into one annotation, as a kubelet would
write the file: the twin's own are the virtual ones and ours. A later change of the virtual ones reaches the file when it
is pushed down (`podpush`). What is not copied to a twin (kubectl's last-applied configuration, our notes on the
virtual Pod) is not in them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from kubeocean.api import names
from kubeocean.domain.podchange import copied_annotations
from kubeocean.kube.meta import Json, labels_of

_LABEL: Final = "metadata.labels['"
_ANNOTATION: Final = "metadata.annotations['"
# Always on a twin: the mapping annotations.
_MAPPED: Final = {
    "metadata.name": names.VIRTUAL_POD_NAME_ANNOTATION,
    "metadata.namespace": names.VIRTUAL_POD_NAMESPACE_ANNOTATION,
    "metadata.uid": names.VIRTUAL_POD_UID_ANNOTATION,
    "spec.nodeName": names.VIRTUAL_NODE_NAME_ANNOTATION,
    "spec.host": names.VIRTUAL_NODE_NAME_ANNOTATION,  # its name in the first clients, which the server still accepts
}
# On a twin for our own use; a virtual Pod has them not, or with another value.
_HIDDEN_ANNOTATIONS: Final = frozenset({
    *_MAPPED.values(), names.OWNER_ANNOTATION, names.EXPECTED_METADATA_ANNOTATION, names.CONTENT_HASH_ANNOTATION,
    names.VIRTUAL_SERVICE_ACCOUNT_ANNOTATION, names.VIRTUAL_LABELS_ANNOTATION, names.VIRTUAL_ANNOTATIONS_ANNOTATION,
})
_SHORT_ESCAPES: Final = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", '"': '\\"', "\\": "\\\\",
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
        """Return the `fieldRef` for the twin."""
        path = reference.get("fieldPath", "")
        annotation = _MAPPED.get(path) or self._collect(path)
        version = {"apiVersion": reference["apiVersion"]} if "apiVersion" in reference else {}
        return {**version, "fieldPath": annotation_path(annotation) if annotation else path}

    def _collect(self, path: str) -> str | None:
        """Return the annotation that holds the virtual value of a field; None where the twin's own value is it."""
        vpod = self._vpod
        if path == "spec.serviceAccountName":
            return self._need(names.VIRTUAL_SERVICE_ACCOUNT_ANNOTATION, vpod["spec"].get("serviceAccountName") or "default")
        if path == "metadata.labels":
            return self._need(names.VIRTUAL_LABELS_ANNOTATION, format_map(labels_of(vpod)))
        if path == "metadata.annotations":
            return self._need(names.VIRTUAL_ANNOTATIONS_ANNOTATION, format_map(copied_annotations(vpod)))
        if path.startswith(_LABEL) and (label := path[len(_LABEL):-2]) in self._hidden:
            return self._need(names.VIRTUAL_LABEL_ANNOTATION_PREFIX + _name_in(label), labels_of(vpod).get(label, ""))
        if path.startswith(_ANNOTATION) and (key := path[len(_ANNOTATION):-2]) in _HIDDEN_ANNOTATIONS:
            return self._need(names.VIRTUAL_ANNOTATION_PREFIX + _name_in(key), copied_annotations(vpod).get(key, ""))
        return None

    def _need(self, annotation: str, value: str) -> str:
        self.annotations[annotation] = value
        return annotation


def annotation_path(annotation: str) -> str:
    """Return the field path that reads one annotation."""
    return f"{_ANNOTATION}{annotation}']"


def format_map(values: Mapping[str, str]) -> str:
    """Return labels or annotations as a kubelet writes them into a downward API file: sorted, one `key="value"` a line.

    Source: pkg/fieldpath FormatMap.
    """
    return "\n".join(f"{key}={_quoted(values[key])}" for key in sorted(values))


def _quoted(text: str) -> str:
    """Return `text` as Go's strconv.Quote writes it."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if short := _SHORT_ESCAPES.get(char):
        return short
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _name_in(key: str) -> str:
    return key.rpartition("/")[2]
