"""The status of a virtual node: what is leased, how the machine fares, and where its kubelet API is served."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from kubeocean.kube.meta import Json, format_time

# By name, because a field that only one of the two servers knows would differ for ever.
_NODE_INFO = (
    "machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion",
    "kubeProxyVersion", "operatingSystem", "architecture",
)
# What every kubelet (or the network, for the last) says of its node, always.
_STANDARD_CONDITIONS = frozenset({"Ready", "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"})
_CONDITION = ("type", "status", "reason", "message", "lastTransitionTime", "lastHeartbeatTime")


def build_vnode_status(
    physical: Json, *, name: str, capacity: dict[str, str], proxier_address: str, port: int,
    ready_unknown_since: datetime | None, own_conditions: Iterable[Json] = (),
) -> Json:
    """Return the status we want. With `ready_unknown_since` Ready is Unknown since then, whatever was last heard.

    `own_conditions` come beside the mirrored ones; what of them is not mentioned stays as it is.
    """
    status = physical.get("status") or {}
    conditions = [
        {key: condition[key] for key in _CONDITION if condition.get(key)}
        for condition in status.get("conditions") or ()
    ]
    if ready_unknown_since is not None:
        conditions = [condition for condition in conditions if condition["type"] != "Ready"]
        conditions.append(_unknown(ready_unknown_since))
    wanted: Json = {
        "capacity": dict(capacity), "allocatable": dict(capacity), "conditions": [*conditions, *own_conditions],
        "nodeInfo": {key: (status.get("nodeInfo") or {}).get(key) or "" for key in _NODE_INFO},
        "addresses": _addresses(name, proxier_address),
    }
    if port:
        wanted["daemonEndpoints"] = {"kubeletEndpoint": {"Port": port}}
    return wanted


def extra_conditions(physical: Json) -> set[str]:
    """Return the types of conditions that somebody besides the kubelet reports of a node, such as node-problem-detector."""
    return {condition["type"] for condition in (physical.get("status") or {}).get("conditions") or ()} - _STANDARD_CONDITIONS


def internal_ip(node: Json) -> str:
    """Return a Node's first InternalIP, "" when it has none."""
    for address in (node.get("status") or {}).get("addresses") or ():
        if address["type"] == "InternalIP":
            return str(address["address"])
    return ""


def _addresses(name: str, proxier_address: str) -> list[Json]:
    # The physical node's own addresses are not told: the virtual API server would talk to the lender's kubelet.
    served_at = [{"type": "InternalIP", "address": proxier_address}] if proxier_address else []
    return [*served_at, {"type": "Hostname", "address": name}]


def _unknown(since: datetime) -> Json:
    return {
        "type": "Ready", "status": "Unknown", "reason": "ClusterUnreachable",
        "message": "the physical cluster does not answer, so nobody knows how this node fares",
        "lastTransitionTime": format_time(since),
    }
