"""Host ports that are taken on a physical node, and the placeholder that lets the virtual scheduler know.

A Pod with a hostPort fits on a node only if nobody there has that port. Who has it on a physical node, the virtual scheduler
cannot see: foreign Pods do not exist in its cluster. So all their ports together become one *placeholder*, a Pod bound to
the virtual node that nobody ever runs. Ports of a Pod cannot be changed, so when they change another placeholder takes over:
the old one goes *before* the new one comes. The scheduler does not count who has a port (`HostPortInfo` is a set), so of two
that overlap the one that goes would take the other's ports along. In between, for the time of one call, ports look free; the
physical scheduler still knows better.

A placeholder stands for no user's Pod: it is known by namespace and name, which nobody can change, and it is left out
wherever Pods are mapped, drained, evicted or counted. Its priority keeps the scheduler from preempting it for a Pod that
wants one of its ports.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from kubeocean.api import names
from kubeocean.domain.hashing import content_hash
from kubeocean.domain.naming import label_value
from kubeocean.domain.requests import FINISHED
from kubeocean.kube.meta import Json, ObjectKey, is_deleting, labels_of, name_of

NAME_PREFIX: Final = "fake-pod-for-hostport-"
_ANY_ADDRESS: Final = "0.0.0.0"
# There is no such image to be had, and nobody to have it: no kubelet ever sees the Pod.
_CONTAINER: Final = {"name": "ports", "image": "placeholder"}


class HostPort(NamedTuple):
    """A port taken on a node; sorts as the contract has it."""

    ip: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done about the placeholder of a virtual node: first delete, then create."""

    delete: tuple[Json, ...] = ()
    create: Json | None = None


def host_ports(pod: Json) -> tuple[HostPort, ...]:
    """Return the ports that a Pod takes on its node, sorted; none once it is Succeeded or Failed.

    As kube-scheduler counts (`util.GetHostPorts`): those of app containers and sidecars, from the moment it is bound. With
    hostNetwork every containerPort is one; the API server says so itself since it defaults hostPort.
    """
    if (pod.get("status") or {}).get("phase") in FINISHED:
        return ()
    shared = bool(pod["spec"].get("hostNetwork"))
    found = set()
    for port in _container_ports(pod["spec"]):
        if number := port.get("hostPort") or (port.get("containerPort") if shared else 0):
            found.add(HostPort(port.get("hostIP") or _ANY_ADDRESS, port.get("protocol") or "TCP", number))
    return tuple(sorted(found))


def merge_ports(many: Iterable[Iterable[HostPort]]) -> tuple[HostPort, ...]:
    """Return the ports of several Pods, each once, sorted."""
    return tuple(sorted({port for ports in many for port in ports}))


def is_placeholder(key: ObjectKey) -> bool:
    """Tell whether the virtual Pod of this key is a placeholder."""
    return key.namespace == names.PLACEHOLDER_NAMESPACE and key.name.startswith(NAME_PREFIX)


def placeholder_labels(cluster_id: str) -> dict[str, str]:
    """Return the labels by which a binding finds its placeholders."""
    return {
        names.MANAGED_BY_LABEL: names.MANAGED_BY_VALUE, names.HOSTPORT_PLACEHOLDER_LABEL: "true",
        names.PHYSICAL_CLUSTER_ID_LABEL: label_value(cluster_id),
    }


def build_placeholder(vnode: str, ports: Sequence[HostPort], cluster_id: str) -> Json:
    """Return the Pod that takes `ports` on virtual node `vnode`; equal ports give an equal name."""
    taken = [
        {"name": f"port-{number}", "containerPort": port, "hostPort": port, "hostIP": ip, "protocol": protocol}
        for number, (ip, protocol, port) in enumerate(ports)
    ]
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": NAME_PREFIX + content_hash({"vnode": vnode, "ports": taken})[:16],
            "namespace": names.PLACEHOLDER_NAMESPACE, "labels": placeholder_labels(cluster_id),
        },
        "spec": {
            "nodeName": vnode, "containers": [{**_CONTAINER, "ports": taken}], "tolerations": [{"operator": "Exists"}],
            "priorityClassName": "system-node-critical", "automountServiceAccountToken": False, "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
        },
    }


def build_placeholder_namespace() -> Json:
    """Return the namespace of placeholders. Host ports are what the Pod Security baseline forbids, so it is exempt."""
    labels = {names.MANAGED_BY_LABEL: names.MANAGED_BY_VALUE, "pod-security.kubernetes.io/enforce": "privileged"}
    return {
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": names.PLACEHOLDER_NAMESPACE, "labels": labels, "annotations": {names.CREATED_BY_US_ANNOTATION: "true"},
        },
    }


def plan_placeholder(vnode: str, ports: Sequence[HostPort], existing: Sequence[Json], cluster_id: str) -> Plan:
    """Return what to do so that one placeholder takes `ports` on `vnode`, or none where there are none.

    `existing` are the placeholders bound to that node.
    """
    wanted = build_placeholder(vnode, ports, cluster_id) if ports else None
    kept = next((pod for pod in existing if wanted and _is_as_wanted(pod, wanted)), None)
    return Plan(tuple(pod for pod in existing if pod is not kept), None if kept else wanted)


def _is_as_wanted(pod: Json, wanted: Json) -> bool:
    if is_deleting(pod) or name_of(pod) != name_of(wanted):
        return False
    return labels_of(wanted).items() <= labels_of(pod).items()


def _container_ports(spec: Json) -> Iterator[Json]:
    for container in spec.get("containers") or ():
        yield from container.get("ports") or ()
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            yield from container.get("ports") or ()
