"""What we remember of a Pod without decoding it: the head that stores, indexes and event handlers read.

A process sees every bound Pod of the virtual cluster and every Pod of its physical clusters; most of them concern it only by
the node they sit on and the room they take. So an informer keeps raw bytes, and this small frozen summary beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubeocean.api import names
from kubeocean.domain.adoption import CLAIM_ANNOTATIONS, is_unowned
from kubeocean.domain.hostports import HostPort, host_ports
from kubeocean.domain.ownership import Owner, is_ours
from kubeocean.domain.podpair import virtual_key_of
from kubeocean.domain.podrefs import references_of
from kubeocean.domain.requests import pod_requests
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, is_deleting, labels_of, namespace_of
from kubeocean.kube.quantity import Quantity

FINISHED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class VirtualPod:
    """A Pod of the virtual cluster."""

    node: str
    phase: str
    deleting: bool
    references: tuple[str, ...] = ()  # "Kind/namespace/name" of what it names, as index BY_REFERENCE has them

    @property
    def finished(self) -> bool:
        """Tell whether its containers will never run again."""
        return self.phase in FINISHED


@dataclass(frozen=True, slots=True)
class PhysicalPod:
    """A Pod of a physical cluster. Of ours, `virtual` names whose twin it is; others take `requests` and `host_ports`.

    Of one that is nobody's yet, `unowned_of` names the Pod that it was made for, here or in another virtual cluster.
    """

    node: str
    phase: str
    virtual: ObjectKey | None
    virtual_uid: str
    requests: Mapping[str, Quantity]
    host_ports: tuple[HostPort, ...] = ()
    unowned_of: ObjectKey | None = None

    @property
    def ours(self) -> bool:
        """Tell whether it is a twin that this binding made."""
        return self.virtual is not None

    @property
    def finished(self) -> bool:
        """Tell whether its containers will never run again."""
        return self.phase in FINISHED


def summarise_virtual_pod(pod: Json) -> VirtualPod:
    """Return the head of a virtual Pod."""
    namespace = namespace_of(pod)
    references = tuple({f"{reference.kind}/{namespace}/{reference.name}" for reference in references_of(pod)})
    return VirtualPod(
        pod["spec"].get("nodeName") or "", (pod.get("status") or {}).get("phase") or "", is_deleting(pod), references
    )


def summarise_physical_pod(pod: Json, owner: Owner) -> PhysicalPod:
    """Return the head of a physical Pod, seen from the binding that `owner` stands for."""
    node, phase = pod["spec"].get("nodeName") or "", (pod.get("status") or {}).get("phase") or ""
    if is_ours(pod, owner):
        return PhysicalPod(node, phase, virtual_key_of(pod), annotations_of(pod).get(names.VIRTUAL_POD_UID_ANNOTATION, ""), {})
    unowned_of = virtual_key_of(pod) if is_unowned(pod) else None
    return PhysicalPod(node, phase, None, "", pod_requests(pod), host_ports(pod), unowned_of)


_CONTAINER_FIELDS = ("name", "resources", "restartPolicy")
_PORT_FIELDS = ("containerPort", "hostPort", "hostIP", "protocol")
_STATUS_FIELDS = ("phase", "resize", "conditions", "resources", "allocatedResources")
_CONTAINER_STATUS_FIELDS = ("name", "resources", "allocatedResources", "state")


def trim_foreign_pod(pod: Json, owner: Owner) -> Json:
    """Return a twin of ours whole, and of anybody else's Pod only what is read: node, phase, requests and host ports."""
    if is_ours(pod, owner):
        return pod
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    trimmed_status: Json = {key: status[key] for key in _STATUS_FIELDS if key in status}
    for key in ("containerStatuses", "initContainerStatuses"):
        if statuses := status.get(key):
            trimmed_status[key] = [_pick(item, _CONTAINER_STATUS_FIELDS) for item in statuses]
    trimmed_spec: Json = _pick(spec, ("nodeName", "overhead", "resources", "hostNetwork"))
    trimmed_spec |= {
        key: [_trim_container(container, host_network=bool(spec.get("hostNetwork"))) for container in spec[key]]
        for key in ("containers", "initContainers") if spec.get(key)
    }
    kept = ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp")
    marks = {key: value for key, value in labels_of(pod).items() if key in (names.MANAGED_BY_LABEL, names.OWNER_LABEL)}
    trimmed_metadata = _pick(metadata, kept) | {"labels": marks}
    # Whether an unowned one is somebody's twin after all is for that virtual Pod to say; an owner that is named decides.
    annotations = _pick(annotations_of(pod), CLAIM_ANNOTATIONS if is_unowned(pod) else (names.OWNER_ANNOTATION,))
    if annotations:
        trimmed_metadata["annotations"] = annotations
    return {"metadata": trimmed_metadata, "spec": trimmed_spec, "status": trimmed_status}


def _trim_container(container: Json, *, host_network: bool) -> Json:
    trimmed = _pick(container, _CONTAINER_FIELDS)
    ports = [port for port in container.get("ports") or () if host_network or port.get("hostPort")]
    if ports:
        trimmed["ports"] = [_pick(port, _PORT_FIELDS) for port in ports]
    return trimmed


def _pick(source: Mapping[str, Any], keys: tuple[str, ...]) -> Json:
    return {key: source[key] for key in keys if key in source}
