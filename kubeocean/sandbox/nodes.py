"""The nodes KWOK plays: what they are made of, and when one is ready. Pure."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field

from kubeocean.kube.meta import Json
from kubeocean.sandbox.versions import KUBERNETES, KWOK

KWOK_ANNOTATION = "kwok.x-k8s.io/node"  # value "fake": KWOK looks after this node; real ones are left to their kubelets
_NOT_READY = "node.kubernetes.io/not-ready"
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # uname's word → Kubernetes' word


class InvalidNode(ValueError):
    """A node cannot be made like this; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class NodeTemplate:
    """What each of the `count` nodes of a physical cluster is like; `extended` are resources such as nvidia.com/gpu."""

    count: int = 3
    cpu: str = "8"
    memory: str = "32Gi"
    pods: int = 110
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Json, ...] = ()
    extended: Mapping[str, str] = field(default_factory=dict)


def node_names(count: int) -> list[str]:
    """Return the names, the same in every physical cluster: real clusters' names collide too."""
    return [f"node-{number}" for number in range(1, count + 1)]


def build_node(name: str, template: NodeTemplate, *, address: str, port: int) -> Json:
    """Return the Node `name`, whose kubelet (KWOK's) answers at `address` and `port`."""
    architecture = ARCHITECTURES.get(platform.machine(), platform.machine())
    size = {
        "cpu": template.cpu, "memory": template.memory, "ephemeral-storage": "100Gi", "pods": str(template.pods),
        **template.extended,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {KWOK_ANNOTATION: "fake"},
            "labels": {
                "kubernetes.io/hostname": name, "kubernetes.io/arch": architecture, "kubernetes.io/os": "linux",
                **template.labels,
            },
        },
        "spec": {"taints": list(template.taints)} if template.taints else {},
        "status": {
            "capacity": size,
            "allocatable": size,
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "nodeInfo": {
                "architecture": architecture, "operatingSystem": "linux", "osImage": "KWOK", "kernelVersion": "6.1.0",
                "containerRuntimeVersion": f"kwok://{KWOK}", "kubeletVersion": KUBERNETES, "kubeProxyVersion": "",
                "bootID": "", "machineID": "", "systemUUID": "",
            },
        },
    }


def is_ready(node: Json) -> bool:
    """Tell whether it takes Pods: KWOK says Ready, and kube-controller-manager has taken its taint off."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    taints = node["spec"].get("taints") or ()
    return (
        any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
        and not any(taint["key"] == _NOT_READY for taint in taints)
    )


def parse_taint(text: str) -> Json:
    """Read a taint as kubectl writes it.

    >>> parse_taint("dedicated=gpu:NoSchedule")
    {'key': 'dedicated', 'value': 'gpu', 'effect': 'NoSchedule'}
    """
    pair, _, effect = text.rpartition(":")
    key, _, value = pair.partition("=")
    if not key or effect not in _EFFECTS:
        effects = ", ".join(_EFFECTS)
        raise InvalidNode(f"taint {text!r} cannot be read; write KEY=VALUE:EFFECT with an effect of {effects}")
    return {"key": key, **({"value": value} if value else {}), "effect": effect}


def parse_pair(text: str) -> tuple[str, str]:
    """Read KEY=VALUE.

    >>> parse_pair("nvidia.com/gpu=4")
    ('nvidia.com/gpu', '4')
    """
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise InvalidNode(f"{text!r} cannot be read; write KEY=VALUE")
    return key, value
