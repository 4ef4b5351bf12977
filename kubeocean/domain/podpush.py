"""What must be written to a twin so that a later change of its virtual Pod reaches it.

At most three requests, because Kubernetes takes such changes at three doors: ephemeral containers and in-place resize have
subresources of their own, the rest goes to the Pod itself. In this order, and the content hash travels with the last one:
after a crash in between the hash still differs, what is done shows no difference any more, and the rest is done.

A change that the physical server refuses is left out, and the others are made all the same; then the hash stays what it was
and the note of what was asked (`podchange`) keeps the old word for what was refused, so the difference stays to be seen.

What a change *is* comes from comparing with what was asked last, not with the twin: a lender may rewrite images, or resize
for reasons of his own, and an edited label is no reason to undo that. Only metadata that the user has set is also held
against the twin itself. Values are added and replaced, never removed, where Kubernetes allows no more than that
(pkg/apis/core/validation, ValidatePodUpdate, ValidatePodResize).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from enum import StrEnum

from kubeocean.api import names
from kubeocean.domain.podchange import (
    POD_LEVEL,
    Values,
    Wishes,
    asked_of,
    changeable_hash,
    copied_annotations,
    encode_wishes,
    is_pushed,
    wishes_of,
)
from kubeocean.domain.poddownward import format_map
from kubeocean.kube.meta import Json, annotations_of, is_deleting, labels_of, name_of, namespace_of, uid_of


class Part(StrEnum):
    """What the physical server takes or refuses as one."""

    EPHEMERAL = "ephemeralcontainers"
    RESIZE = "resize"
    SPEC = "spec"
    METADATA = "metadata"


NOTHING_REFUSED: frozenset[Part] = frozenset()
_NOTHING_ASKED = Wishes({}, {}, {}, {})


def may_push(vpod: Json, ppod: Json) -> bool:
    """Tell whether changes still matter: not to a Pod that is on its way out on either side."""
    return not (is_deleting(vpod) or is_deleting(ppod))


def missing_ephemeral(vpod: Json, ppod: Json) -> list[Json]:
    """Return the ephemeral containers of the virtual Pod that its twin has not."""
    there = {container["name"] for container in ppod["spec"].get("ephemeralContainers") or ()}
    return [each for each in vpod["spec"].get("ephemeralContainers") or () if each["name"] not in there]


def build_ephemeral_patch(mapped: Json) -> Json:
    """Return the strategic merge patch of `pods/ephemeralcontainers` that adds a container mapped for the twin."""
    return {"spec": {"ephemeralContainers": [mapped]}}


def build_resize_patch(vpod: Json, ppod: Json) -> Json | None:
    """Return the strategic merge patch of `pods/resize` that gives the twin what the user wants now; None if it has that."""
    wanted, asked = wishes_of(vpod).resources, (asked_of(ppod) or _NOTHING_ASKED).resources
    changed = {name: value for name, value in wanted.items() if value != asked.get(name)}
    spec: Json = {}
    if whole := _resized(changed.get(POD_LEVEL), ppod["spec"].get("resources")):
        spec["resources"] = whole
    for kind in ("containers", "initContainers"):
        sizes = [
            {"name": container["name"], "resources": size} for container in ppod["spec"].get(kind) or ()
            if (size := _resized(changed.get(container["name"]), container.get("resources")))
        ]
        if sizes:
            spec[kind] = sizes
    return {"spec": spec} if spec else None


def _resized(wanted: Json | None, live: Json | None) -> Json:
    """Return what of `wanted` resources `live` ones do not say."""
    size: Json = {}
    for kind in ("limits", "requests"):
        there = (live or {}).get(kind) or {}
        amounts = {name: amount for name, amount in ((wanted or {}).get(kind) or {}).items() if there.get(name) != amount}
        if amounts:
            size[kind] = amounts
    return size


def lacks_nothing(vpod: Json, ppod: Json) -> bool:
    """Tell whether `build_last_patch` would find nothing to write to a twin that everything has been pushed to; quickly."""
    live = annotations_of(ppod)
    wishes = wishes_of(vpod)
    if live.get(names.EXPECTED_METADATA_ANNOTATION) != encode_wishes(wishes) or _differing(_told(vpod, ppod), ppod):
        return False
    if _differing_labels(vpod, ppod):
        return False
    for wished, theirs in ((wishes.labels, labels_of(ppod)), (wishes.annotations, live)):
        for key, value in wished.items():
            if value is not None and theirs.get(key) != value:
                return False
    return True


def build_last_patch(vpod: Json, ppod: Json, refused: Collection[Part] = NOTHING_REFUSED) -> Json | None:
    """Return the strategic merge patch of the twin itself, made after the others; None when nothing is left to write.

    `refused` are the parts that the server would not take; SPEC among them leaves out what this patch would change of the
    spec.
    """
    patch: Json = {}
    pushed = is_pushed(vpod, ppod)
    if not pushed and Part.SPEC not in refused and (spec := _diff_spec(vpod, ppod)):
        patch["spec"] = spec
    if metadata := _diff_metadata(vpod, ppod, refused, pushed=pushed):
        patch["metadata"] = metadata
    return patch or None


def _diff_spec(vpod: Json, ppod: Json) -> Json:
    mine, theirs = vpod["spec"], ppod["spec"]
    spec: Json = {}
    deadline, live = mine.get("activeDeadlineSeconds"), theirs.get("activeDeadlineSeconds")
    if deadline is not None and (live is None or deadline < live):
        spec["activeDeadlineSeconds"] = deadline
    if mine.get("terminationGracePeriodSeconds") == 1 and (theirs.get("terminationGracePeriodSeconds") or 0) < 0:
        spec["terminationGracePeriodSeconds"] = 1  # the one change of it that Kubernetes allows
    tolerations = _tolerations(mine.get("tolerations") or (), theirs.get("tolerations") or ())
    if tolerations != (theirs.get("tolerations") or []):
        spec["tolerations"] = tolerations
    wanted, asked = wishes_of(vpod).images, (asked_of(ppod) or _NOTHING_ASKED).images
    changed = {name: image for name, image in wanted.items() if image != asked.get(name)}
    for kind in ("containers", "initContainers"):
        images = [
            {"name": container["name"], "image": image} for container in theirs.get(kind) or ()
            if (image := changed.get(container["name"])) and image != container.get("image")
        ]
        if images:
            spec[kind] = images
    return spec


def _tolerations(mine: Iterable[Json], theirs: Iterable[Json]) -> list[Json]:
    """Return the twin's tolerations with the user's among them; of one that is there only its time may change."""
    tolerations = list(theirs)
    missing = [toleration for toleration in mine if toleration not in tolerations]
    for toleration in missing:
        same = [_timeless(live) for live in tolerations]
        if _timeless(toleration) in same:
            tolerations[same.index(_timeless(toleration))] = toleration
        else:
            tolerations.append(toleration)
    return tolerations


def _timeless(toleration: Json) -> Json:
    return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}


def _diff_metadata(vpod: Json, ppod: Json, refused: Collection[Part], *, pushed: bool) -> Json:
    wishes, before = wishes_of(vpod), asked_of(ppod) or _NOTHING_ASKED
    labels = _diff_values(wishes.labels, before.labels, labels_of(vpod), labels_of(ppod)) | _differing_labels(vpod, ppod)
    annotations = _diff_values(wishes.annotations, before.annotations, annotations_of(vpod), annotations_of(ppod))
    noted = replace(
        wishes, images=before.images if Part.SPEC in refused else wishes.images,
        resources=before.resources if Part.RESIZE in refused else wishes.resources,
    )
    annotations |= _differing(_told(vpod, ppod) | {names.EXPECTED_METADATA_ANNOTATION: encode_wishes(noted)}, ppod)
    if not (pushed or refused):
        annotations[names.CONTENT_HASH_ANNOTATION] = changeable_hash(vpod)
    return {part: values for part, values in (("labels", labels), ("annotations", annotations)) if values}


def _diff_values(wished: Values, asked: Values, mine: Mapping[str, str], theirs: Mapping[str, str]) -> dict[str, str | None]:
    """Return what must change of the twin's labels (or annotations), by the notes that `podchange` explains."""
    changes: dict[str, str | None] = {}
    for key in {**wished, **asked}:
        if key in wished:
            wanted = wished[key]
            if wanted is None and key in asked and asked[key] is None:
                continue  # obeyed already; what is there now was put there again
        elif asked[key] is None:
            continue  # the lender's again
        else:
            wanted = mine.get(key)  # no wish any more: gone, or what had come up from the twin
        if theirs.get(key) != wanted:
            changes[key] = wanted
    return changes


def _told(vpod: Json, ppod: Json) -> dict[str, str]:
    """Return what a twin's annotations tell about its virtual Pod: the way back, and what its downward API reads there."""
    told = {
        names.VIRTUAL_POD_NAMESPACE_ANNOTATION: namespace_of(vpod), names.VIRTUAL_POD_NAME_ANNOTATION: name_of(vpod),
        names.VIRTUAL_POD_UID_ANNOTATION: uid_of(vpod),
    }
    live = annotations_of(ppod)
    if names.VIRTUAL_LABELS_ANNOTATION in live:
        told[names.VIRTUAL_LABELS_ANNOTATION] = format_map(labels_of(vpod))
    if names.VIRTUAL_ANNOTATIONS_ANNOTATION in live:
        told[names.VIRTUAL_ANNOTATIONS_ANNOTATION] = format_map(copied_annotations(vpod))
    return told


def _differing_labels(vpod: Json, ppod: Json) -> dict[str, str | None]:
    """Return what a twin lacks of the label by which mirrored NetworkPolicies select it: without it none would hold."""
    namespace = namespace_of(vpod)
    there = labels_of(ppod).get(names.VIRTUAL_NAMESPACE_LABEL) == namespace
    return {} if there else {names.VIRTUAL_NAMESPACE_LABEL: namespace}


def _differing(wanted: Mapping[str, str], ppod: Json) -> dict[str, str | None]:
    live = annotations_of(ppod)
    return {key: value for key, value in wanted.items() if live.get(key) != value}
