"""What a Pod takes of its node, one resource at a time."""

from fractions import Fraction
from typing import Any

from tests.oracle.amounts import amount

Json = dict[str, Any]
NOTHING = Fraction(0)


def taken(pod: Json) -> dict[str, Fraction]:
    """Return what the scheduler counts for a Pod: nothing once it has ended, else its requests, and one of `pods`."""
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return {}
    return {resource: take(pod, resource) for resource in mentioned(pod)} | {"pods": Fraction(1)}


def mentioned(pod: Json) -> set[str]:
    spec, status = pod["spec"], pod.get("status") or {}
    holders = [*spec["containers"], *(spec.get("initContainers") or []), spec, status]
    holders += [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
    names = set(spec.get("overhead") or {})
    for holder in holders:
        names |= set((holder.get("resources") or {}).get("requests") or {})
        names |= set(holder.get("allocatedResources") or {})
    return names


def take(pod: Json, resource: str) -> Fraction:
    """Return max(what runs for good, the widest moment of the start) + overhead; Pod-level requests override the first."""
    spec, status = pod["spec"], pod.get("status") or {}
    inits = spec.get("initContainers") or []
    for_good = sum((claim(pod, each, resource) for each in spec["containers"]), NOTHING)
    for_good += sum((claim(pod, each, resource) for each in inits if is_sidecar(each)), NOTHING)
    widest = NOTHING
    for number, container in enumerate(inits):
        beside = sum((claim(pod, each, resource) for each in inits[:number] if is_sidecar(each)), NOTHING)
        widest = max(widest, beside + claim(pod, container, resource))
    total = max(for_good, widest)
    of_pod = (spec.get("resources") or {}).get("requests") or {}
    if resource in of_pod and (resource in ("cpu", "memory") or resource.startswith("hugepages-")):
        total = larger(pod, spec, status, resource)
    return total + amount((spec.get("overhead") or {}).get(resource, 0))


def is_sidecar(container: Json) -> bool:
    return container.get("restartPolicy") == "Always"


def claim(pod: Json, container: Json, resource: str) -> Fraction:
    """Return what one container counts for."""
    status = pod.get("status") or {}
    of_all = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
    of_it = [each for each in of_all if each["name"] == container["name"]]
    return larger(pod, container, of_it[0] if of_it else {}, resource)


def larger(pod: Json, asking: Json, status: Json, resource: str) -> Fraction:
    """Return the largest of what is asked, in effect and allocated; a resize that is infeasible is not asked for."""
    asked = amount(((asking.get("resources") or {}).get("requests") or {}).get(resource, 0))
    if not status.get("resources"):
        return asked
    in_effect = amount((status["resources"].get("requests") or {}).get(resource, 0))
    allocated = amount((status.get("allocatedResources") or {}).get(resource, 0))
    return max(in_effect, allocated) if is_infeasible(pod) else max(asked, in_effect, allocated)


def is_infeasible(pod: Json) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(each["type"] == "PodResizePending" and each.get("reason") == "Infeasible" for each in conditions)
