"""Labels and annotations that others put on a twin, carried up to its virtual Pod.

The lender's tools write on twins (the address a network plug-in chose, what an injector did), and whoever reads the virtual
Pod shall see it. But the virtual Pod is the user's: what he has set is never changed from below, and what he has just
removed does not come back by a twin that has not heard of it. So one key at a time, by the notes that `podchange` explains:

| on the virtual Pod | comes up |
|---|---|
| set by the user (no mark, or another value than the mark's) | nothing |
| nothing there, and nothing of the kind asked of the twin | what the twin has |
| came from the twin | what the twin has now, or its absence |
| came from the twin, removed by the user | nothing, until he was obeyed; what is put there again after that |

A key that came up and that the user has since changed or removed is his from then on. That is noted here first and pushed
down afterwards: else, should he later choose the very value that once came up, his choice would look like the lender's.

All this travels in the one patch of the status. That patch carries the resourceVersion then, because it was decided from
what a cache says of the user's keys, and a cache may be late.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import orjson

from kubeocean.api import names
from kubeocean.domain.podchange import Values, asked_of, is_shared, lifted_marks, mark_of
from kubeocean.kube.meta import Json, annotations_of, labels_of, resource_version_of

_LARGEST: Final = 256 * 1024  # bytes of all annotations of an object (apimachinery, TotalAnnotationSizeLimitB)


def diff_lifted(vpod: Json, ppod: Json) -> Json:
    """Return the `metadata` of a merge patch that carries up what others put on the twin; {} when there is nothing."""
    if names.LIFTED_METADATA_ANNOTATION not in annotations_of(vpod) and _all_known(vpod, ppod):
        return {}  # as for nearly every Pod in every pass
    asked = asked_of(ppod)
    label_marks, annotation_marks = lifted_marks(vpod)
    labels, annotations = {}, {}
    if asked is not None:
        labels = dict(_lifted(labels_of(vpod), labels_of(ppod), asked.labels, label_marks))
        annotations = dict(_lifted(annotations_of(vpod), annotations_of(ppod), asked.annotations, annotation_marks))
    if annotations and _size(annotations_of(vpod)) + _size(annotations) > _LARGEST:
        annotations = {}  # the server would refuse them, and the status with them
    note = {
        "labels": _marked(labels_of(vpod), labels, label_marks),
        "annotations": _marked(annotations_of(vpod), annotations, annotation_marks),
    }
    if not (labels or annotations) and note == {"labels": label_marks, "annotations": annotation_marks}:
        return {}
    written = orjson.dumps(note, option=orjson.OPT_SORT_KEYS).decode() if any(note.values()) else None
    metadata: Json = {"resourceVersion": resource_version_of(vpod)}
    if labels:
        metadata["labels"] = labels
    return metadata | {"annotations": {**annotations, names.LIFTED_METADATA_ANNOTATION: written}}


def _all_known(vpod: Json, ppod: Json) -> bool:
    """Tell whether the twin has no label or annotation, that is not our own, beyond what its virtual Pod has."""
    for mine, theirs in ((labels_of(vpod), labels_of(ppod)), (annotations_of(vpod), annotations_of(ppod))):
        for key, value in theirs.items():
            if mine.get(key) != value and is_shared(key):
                return False
    return True


def _lifted(
    mine: Mapping[str, str], theirs: Mapping[str, str], asked: Values, marks: Values
) -> Iterator[tuple[str, str | None]]:
    for key in {**theirs, **marks}:  # no set: a patch is the same text in every process
        live, value = mine.get(key), theirs.get(key)
        if live == value or asked.get(key) is not None or not is_shared(key):
            continue
        if live is None:
            obeyed = key in asked  # as null: he removed it, and so did we
            if key not in marks or obeyed:
                yield key, value
        elif marks.get(key) == mark_of(live):
            yield key, value


def _marked(mine: Mapping[str, str], lifted: Mapping[str, str | None], marks: Values) -> dict[str, str | None]:
    """Return the marks to note: null for what the user has removed, none for what he has made his own."""
    kept: dict[str, str | None] = {}
    for key, mark in marks.items():
        if key not in mine:
            kept[key] = None
        elif mark == mark_of(mine[key]):
            kept[key] = mark
    for key, value in lifted.items():
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = mark_of(value)
    return kept


def _size(annotations: Mapping[str, str | None]) -> int:
    return sum(len(key.encode()) + len((value or "").encode()) for key, value in annotations.items())
