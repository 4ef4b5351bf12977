"""What may still change in a Pod after its creation, as it is pushed down to its twin.

Kubernetes lets few fields of a running Pod change: metadata, the deadline, images, added tolerations, in-place resize.
Only these are in the content hash on a twin. The rest cannot differ later; and what came from the surroundings (DNS,
addresses) is frozen at creation and must not look like a change when the surroundings move.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Final

import orjson

from kubeocean.api import names
from kubeocean.domain.hashing import content_hash
from kubeocean.kube.meta import Json, annotations_of, labels_of

# kubectl's memory of the *virtual* object; on the twin it would be a lie, and up to 256 KiB of it.
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_NOT_COPIED: Final = frozenset({
    _LAST_APPLIED,
    names.PHYSICAL_POD_NAMESPACE_ANNOTATION, names.PHYSICAL_POD_NAME_ANNOTATION, names.PHYSICAL_POD_UID_ANNOTATION,
})


def copied_annotations(vpod: Json) -> dict[str, str]:
    """Return the annotations of a virtual Pod that its twin gets too: all but our own notes on it, and kubectl's."""
    return {key: value for key, value in annotations_of(vpod).items() if key not in _NOT_COPIED}


def changeable_hash(vpod: Json) -> str:
    """Return the content hash of a virtual Pod: the same as its twin's annotation when nothing needs pushing down."""
    spec = vpod["spec"]
    return content_hash({
        "labels": labels_of(vpod), "annotations": copied_annotations(vpod),
        "activeDeadlineSeconds": spec.get("activeDeadlineSeconds"), "tolerations": spec.get("tolerations"),
        "resources": spec.get("resources"),
        "containers": [_of_container(container) for container in spec["containers"]],
        "initContainers": [_of_container(container) for container in spec.get("initContainers") or ()],
    })


def _of_container(container: Json) -> list[object]:
    return [container["name"], container.get("image"), container.get("resources")]


def expected_metadata(vpod: Json) -> str:
    """Return annotation `expected-metadata`: base64 JSON {labels, annotations} as the user wants them now."""
    wanted = {"labels": labels_of(vpod), "annotations": copied_annotations(vpod)}
    return b64encode(orjson.dumps(wanted, option=orjson.OPT_SORT_KEYS)).decode()
