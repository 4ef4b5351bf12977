"""How a claim grows: the user's wish goes down to the twin, what became of it comes up again.

Who really resizes is the storage of the physical cluster (its provisioner, its kubelet). A virtual cluster may have a resizer
of its own for the same driver, so sizes that somebody reached only ever grow here: whoever is ahead is followed, and nobody
undoes the other's work.
"""

from __future__ import annotations

from typing import Final

from kubeocean.kube.meta import Json, resource_version_of, uid_of
from kubeocean.kube.quantity import Quantity, parse

# Conditions of a claim that tell of resizing (core/v1 `PersistentVolumeClaimConditionType`).
_RESIZING: Final = ("Resizing", "FileSystemResizePending", "ControllerResizeError", "NodeResizeError")
_CONDITION_FIELDS: Final = ("type", "status", "reason", "message", "lastTransitionTime")


def requested(claim: Json) -> Quantity:
    """Return the size a claim asks for."""
    return parse(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage") or "0")


def reached(claim: Json) -> Quantity:
    """Return the size a claim has."""
    return parse(((claim.get("status") or {}).get("capacity") or {}).get("storage") or "0")


def capacity(volume: Json) -> Quantity:
    """Return the size of a volume."""
    return parse((volume["spec"].get("capacity") or {}).get("storage") or "0")


def build_first_request(claim: Json, volume: Json) -> Json:
    """Return the `resources` a twin claim is created with: no more than its volume has, or the two would never bind."""
    resources = claim["spec"].get("resources") or {}
    if requested(claim) <= capacity(volume):
        return dict(resources)
    return {**resources, "requests": {**resources["requests"], "storage": volume["spec"]["capacity"]["storage"]}}


def diff_request(claim: Json, twin: Json) -> Json | None:
    """Return the merge patch that passes on a wish for another size, None when there is none to pass on.

    Before a claim is bound its size is fixed (core validation `ValidatePersistentVolumeClaimUpdate`), and below what it has
    it never goes.
    """
    wish = requested(claim)
    bound = (twin.get("status") or {}).get("phase") == "Bound"
    if not bound or wish == requested(twin) or wish < reached(twin):
        return None
    return {
        "metadata": {"uid": uid_of(twin), "resourceVersion": resource_version_of(twin)},
        "spec": {"resources": {"requests": {"storage": claim["spec"]["resources"]["requests"]["storage"]}}},
    }


def build_growth(volume: Json, size: Quantity) -> Json | None:
    """Return the merge patch that makes a volume as large as `size`, None when it is already."""
    if size <= capacity(volume):
        return None
    return {
        "metadata": {"uid": uid_of(volume), "resourceVersion": resource_version_of(volume)},
        "spec": {"capacity": {"storage": str(size)}},
    }


def diff_claim_status(claim: Json, twin: Json) -> Json | None:
    """Return the strategic merge patch for /status of the virtual claim that tells how its twin grew; None for nothing new."""
    status: Json = {}
    if reached(twin) > reached(claim):
        status["capacity"] = {"storage": (twin["status"]["capacity"])["storage"]}
    if conditions := _diff_conditions(claim, twin):
        status["conditions"] = conditions
    if not status:
        return None
    return {"metadata": {"uid": uid_of(claim), "resourceVersion": resource_version_of(claim)}, "status": status}


def _diff_conditions(claim: Json, twin: Json) -> list[Json]:
    """Return what differs. A resizer of the virtual cluster may have conditions of its own: they go when all is done."""
    before, after = _resizing(claim), _resizing(twin)
    changes = [condition for kind, condition in after.items() if before.get(kind) != condition]
    if reached(twin) >= requested(claim):
        changes += [{"$patch": "delete", "type": kind} for kind in before if kind not in after]
    return changes


def _resizing(claim: Json) -> dict[str, Json]:
    conditions = (claim.get("status") or {}).get("conditions") or ()
    return {
        condition["type"]: {key: condition[key] for key in _CONDITION_FIELDS if key in condition}
        for condition in conditions if condition["type"] in _RESIZING
    }
