"""What mapping a Pod must know beside the Pod itself: the binding, the node, and the virtual cluster's addresses."""

from __future__ import annotations

from dataclasses import dataclass, field

from kubeocean.domain.ownership import Owner
from kubeocean.kube.meta import Json


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the virtual cluster's own services are reached from inside a physical Pod; "" means unknown.

    `services` are the Services of the Pod's own virtual namespace, for its environment (with the addresses at which mirrored
    ones are reached); `host_aliases` are (IP, names) of mirrored ones, for its /etc/hosts. Frozen into a physical Pod when it
    is created: a later change of these touches no running Pod.
    """

    api_server_host: str = ""
    api_server_port: str = ""
    dns_server: str = ""
    services: tuple[Json, ...] = ()
    host_aliases: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class PodContext:
    """One virtual Pod's way into its physical cluster.

    `workload` is (type, name) as `workload.workload_of` tells it; `priority_class` is never empty.
    """

    owner: Owner
    cluster_id: str
    mount_namespace: str
    physical_node: str
    direct_scheduling: bool
    allow_privileged: bool
    priority_class: str
    workload: tuple[str, str]
    surroundings: Surroundings = field(default_factory=Surroundings)
