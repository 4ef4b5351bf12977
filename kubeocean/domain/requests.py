"""What a Pod takes of its node, by the scheduler's own rule.

Source of the rule: `k8s.io/component-helpers/resource.PodRequests` as kube-scheduler calls it (UseStatusResources on).
A lease is what foreign Pods leave over, so being wrong here either starves users or promises room that is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubeocean.kube.meta import Json
from kubeocean.kube.quantity import Quantity

Requests = dict[str, Quantity]

_ONE = Quantity.parse("1")
FINISHED = ("Succeeded", "Failed")
_POD_LEVEL = ("cpu", "memory")  # and hugepages-*: KEP-2837


def pod_requests(pod: Json, *, held_back: bool = False) -> Requests:
    """Return what `pod` takes per resource name, `pods: 1` included; nothing once it is Succeeded or Failed.

    max(app containers + sidecars, running maximum of init containers with the sidecars before them), overridden by
    Pod-level requests, plus overhead. Where an in-place resize is on its way, the larger of what is asked, allocated
    and in effect counts; one that the kubelet called Infeasible, or that is held back before it, counts by what is in effect.
    """
    spec, status = pod["spec"], pod.get("status") or {}
    if status.get("phase") in FINISHED:
        return {}
    infeasible = held_back or _resize_is_infeasible(status)
    reported = _reported(status)
    total = _containers(spec, reported, infeasible=infeasible)
    pod_level = _effective(spec, status, infeasible=infeasible)
    total.update({name: quantity for name, quantity in pod_level.items() if _is_pod_level(name)})
    _add(total, _parse(spec.get("overhead")))
    total["pods"] = _ONE
    return total


def sum_requests(many: Iterable[Mapping[str, Quantity]]) -> Requests:
    """Return the sum of several Pods' requests."""
    total: Requests = {}
    for requests in many:
        _add(total, requests)
    return total


def _containers(spec: Json, reported: Mapping[str, Json], *, infeasible: bool) -> Requests:
    total: Requests = {}
    for container in spec.get("containers") or ():
        _add(total, _effective(container, reported.get(container["name"]), infeasible=infeasible))
    sidecars: Requests = {}
    peak: Requests = {}
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            wanted = _effective(container, reported.get(container["name"]), infeasible=infeasible)
            _add(total, wanted)
            _add(sidecars, wanted)
            _raise_to(peak, sidecars)
        else:
            _raise_to(peak, sum_requests((_parse(_asked(container)), sidecars)))
    _raise_to(total, peak)
    return total


def _effective(asked_by: Json, status: Json | None, *, infeasible: bool) -> Requests:
    """Return the requests of a container (or of the Pod as a whole) with its status taken into account."""
    asked = _parse(_asked(asked_by))
    if not status or not status.get("resources"):
        return asked  # not started yet, or a node too old to tell: what is asked counts
    effective: Requests = {} if infeasible else asked
    _raise_to(effective, _parse(_asked(status)))
    _raise_to(effective, _parse(status.get("allocatedResources")))
    return effective


def _asked(holder: Json) -> Json | None:
    requests: Json | None = (holder.get("resources") or {}).get("requests")
    return requests


def _reported(status: Json) -> dict[str, Json]:
    return {
        container["name"]: container
        for kind in ("containerStatuses", "initContainerStatuses")
        for container in status.get(kind) or ()
    }


def _resize_is_infeasible(status: Json) -> bool:
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodResizePending":
            return bool(condition.get("reason") == "Infeasible")
    return bool(status.get("resize") == "Infeasible")  # servers before 1.33 had a field instead


def _is_pod_level(name: str) -> bool:
    return name in _POD_LEVEL or name.startswith("hugepages-")


def _parse(quantities: Json | None) -> Requests:
    return {name: Quantity.parse(text) for name, text in quantities.items()} if quantities else {}


def _add(total: Requests, more: Mapping[str, Quantity]) -> None:
    for name, quantity in more.items():
        have = total.get(name)
        total[name] = quantity if have is None else have + quantity


def _raise_to(total: Requests, floor: Mapping[str, Quantity]) -> None:
    for name, quantity in floor.items():
        have = total.get(name)
        if have is None or have < quantity:
            total[name] = quantity
