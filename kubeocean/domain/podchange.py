"""What the user of a virtual Pod wants of its twin after creation, and what was asked of the twin last.

Kubernetes lets few fields of a running Pod change: metadata, the deadline, images, added tolerations, ephemeral
containers, in-place resize. Only these are in the content hash on a twin. The rest cannot differ later; and what came
from the surroundings (DNS, addresses) is frozen at creation and must not look like a change when they move.

Labels and annotations are written on both sides: by users of the virtual Pod, and on the twin by the lender's tools. Two
notes tell the hands apart, each of them on the side where it is written in one request with what it is about:

- *asked* (annotation `expected-metadata` of the twin): the wishes that were pushed down last. What differs from it on the
  twin was put there by others; what differs from it on the virtual Pod is a wish not pushed yet.
- *lifted* (annotation of the virtual Pod): a mark of every value that came up from the twin. A key that still has this
  value is the lender's, and no wish. One that is gone was removed by the user: a wish too, told as null (here and there).

Labels and annotations of our own (prefix `kubeocean.io/`) take no part in this, nor does kubectl's memory of an object.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from kubeocean.api import names
from kubeocean.domain.hashing import content_hash
from kubeocean.kube.meta import Json, annotations_of, labels_of

# kubectl's memory of the *virtual* object; on the twin it would be a lie, and up to 256 KiB of it.
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_NOT_COPIED: Final = frozenset({
    _LAST_APPLIED, names.LIFTED_METADATA_ANNOTATION,
    names.PHYSICAL_POD_NAMESPACE_ANNOTATION, names.PHYSICAL_POD_NAME_ANNOTATION, names.PHYSICAL_POD_UID_ANNOTATION,
    names.MAPPED_UID_ANNOTATION,
})
POD_LEVEL: Final = ""  # stands for the Pod itself among the names of its containers

Values = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What may differ from what was asked before; null among labels and annotations: it shall not be there.

    `images` and `resources` are by container name (init containers included), resources also of the Pod as a whole.
    """

    labels: Values
    annotations: Values
    images: Mapping[str, str]
    resources: Mapping[str, Json]


def is_shared(key: str) -> bool:
    """Tell whether a label or annotation of this key is everybody's to write, on both sides."""
    return key != _LAST_APPLIED and not key.startswith(names.PREFIX)


def copied_annotations(vpod: Json) -> dict[str, str]:
    """Return the annotations of a virtual Pod that its twin gets too: all but our own notes on it, and kubectl's."""
    return {key: value for key, value in annotations_of(vpod).items() if key not in _NOT_COPIED}


def wishes_of(vpod: Json) -> Wishes:
    """Return what the user wants of the twin now."""
    labels, annotations = lifted_marks(vpod)
    spec = vpod["spec"]
    containers = [*spec["containers"], *(spec.get("initContainers") or ())]
    resources = {container["name"]: found for container in containers if (found := container.get("resources"))}
    if whole := spec.get("resources"):
        resources[POD_LEVEL] = whole
    return Wishes(
        _wished(labels_of(vpod), labels), _wished(annotations_of(vpod), annotations),
        {container["name"]: container["image"] for container in containers if container.get("image")}, resources,
    )


def _wished(live: Mapping[str, str], marks: Values) -> Values:
    shared = {key: value for key, value in live.items() if is_shared(key)}
    if not marks:
        return shared
    wished: dict[str, str | None] = {key: value for key, value in shared.items() if marks.get(key) != mark_of(value)}
    return wished | {key: None for key in marks if key not in live}


def changeable_hash(vpod: Json) -> str:
    """Return the content hash of a virtual Pod: the same as its twin's annotation when nothing needs pushing down."""
    spec = vpod["spec"]
    return content_hash({
        **_plain(wishes_of(vpod)),
        "activeDeadlineSeconds": spec.get("activeDeadlineSeconds"), "tolerations": spec.get("tolerations"),
        "grace": spec.get("terminationGracePeriodSeconds"),
        "ephemeralContainers": [container["name"] for container in spec.get("ephemeralContainers") or ()],
    })


def is_pushed(vpod: Json, ppod: Json) -> bool:
    """Tell whether the twin has been given everything that the virtual Pod says now."""
    return annotations_of(ppod).get(names.CONTENT_HASH_ANNOTATION) == changeable_hash(vpod)


def expected_metadata(vpod: Json) -> str:
    """Return annotation `expected-metadata` for a twin that is given everything its user wants now."""
    return encode_wishes(wishes_of(vpod))


def encode_wishes(wishes: Wishes) -> str:
    """Return wishes as annotation `expected-metadata` has them: base64 JSON {labels, annotations, images, resources}."""
    return b64encode(orjson.dumps(_plain(wishes), option=orjson.OPT_SORT_KEYS)).decode()


def asked_of(ppod: Json) -> Wishes | None:
    """Return what was asked of a twin last; None when that note is missing or corrupt: then nobody's hand can be told."""
    try:
        note = orjson.loads(b64decode(annotations_of(ppod).get(names.EXPECTED_METADATA_ANNOTATION) or "", validate=True))
    except ValueError:
        return None
    if not isinstance(note, dict):
        return None
    labels, annotations, images, resources = (note.get(part) or {} for part in ("labels", "annotations", "images", "resources"))
    if not all(isinstance(part, dict) for part in (labels, annotations, images, resources)):
        return None
    return Wishes(_shared(labels), _shared(annotations), images, resources)


def _shared(values: dict[str, str | None]) -> Values:
    return {key: value for key, value in values.items() if is_shared(key)}


def _plain(wishes: Wishes) -> Json:
    return {
        "labels": wishes.labels, "annotations": wishes.annotations, "images": wishes.images, "resources": wishes.resources,
    }


def mark_of(value: str) -> str:
    """Return a short mark that tells whether a value is still the same."""
    return hashlib.sha256(value.encode()).hexdigest()[:12]


def lifted_marks(vpod: Json) -> tuple[Values, Values]:
    """Return the marks of the labels and of the annotations that came up from the twin, null for those that the user removed.

    A corrupt note says nothing.
    """
    text = annotations_of(vpod).get(names.LIFTED_METADATA_ANNOTATION)
    if not text:
        return {}, {}
    try:
        note = orjson.loads(text)
    except ValueError:
        return {}, {}
    labels, annotations = (note.get(part) if isinstance(note, dict) else None for part in ("labels", "annotations"))
    return _marks(labels), _marks(annotations)


def _marks(part: object) -> Values:
    return {key: mark for key, mark in part.items() if is_shared(key)} if isinstance(part, dict) else {}
