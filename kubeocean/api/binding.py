"""ClusterBinding: one physical cluster joined to the virtual one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from kubeocean.api.condition import Conditions
from kubeocean.api.model import (
    ATOMIC_LIST,
    ATOMIC_MAP,
    ApiModel,
    Count,
    Generation,
    InvalidObject,
    Rule,
    Time,
    matches,
    parse_spec,
)
from kubeocean.api.nodeselector import PlainNodeSelector
from kubeocean.api.zone import UNKNOWN_ZONE, TimeZone
from kubeocean.kube.meta import Json

_DNS_LABEL = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"

ClusterId = Annotated[
    str, Field(max_length=24),
    matches(_DNS_LABEL, "write 1 to 24 lowercase letters, digits and dashes, with a letter or digit at both ends"),
    Rule(
        "self == oldSelf",
        "clusterID is part of every virtual node's name and cannot change; make a new ClusterBinding instead",
    ),
]
NamespaceName = Annotated[
    str, Field(max_length=63),
    matches(
        _DNS_LABEL,
        "write a namespace name: 1 to 63 lowercase letters, digits and dashes, with a letter or digit at both ends",
    ),
]


class SecretReference(ApiModel):
    """A Secret of the virtual cluster."""

    model_config = ConfigDict(json_schema_extra=ATOMIC_MAP)

    name: Annotated[str, Field(min_length=1, max_length=253)]
    namespace: Annotated[str, Field(min_length=1, max_length=63)]


class ClusterBindingSpec(ApiModel):
    """Which cluster, which of its nodes, and how Pods are placed there."""

    cluster_id: ClusterId = Field(description="Part of every virtual node's name; unique among bindings, cannot change")
    secret_ref: SecretReference = Field(
        description="Secret whose key kubeconfig opens the physical cluster (inline credentials only)"
    )
    node_selector: PlainNodeSelector | None = Field(
        default=None, description="Physical nodes in scope; left out, or without terms: all of them"
    )
    mount_namespace: NamespaceName = Field(description="The physical namespace for everything Kubeocean creates")
    service_namespaces: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=63)]],
        Field(max_length=1000, json_schema_extra=ATOMIC_LIST),
    ] = Field(default_factory=list, description="Virtual namespaces whose Services are mirrored down")
    disable_node_default_taint: bool = Field(
        default=False, description="Leave the taint kubeocean.io/vnode:NoSchedule off the virtual nodes"
    )
    pod_priority_class_name: Annotated[str, Field(max_length=253)] | None = Field(
        default=None, description="PriorityClass of the physical Pods; left out: kubeocean-default"
    )
    running_daemonset_by_default: bool = Field(
        default=False, description='Run DaemonSet Pods without annotation kubeocean.io/running-daemonset'
    )
    direct_scheduling: bool = Field(
        default=False, description="Place physical Pods by spec.nodeName instead of a required node affinity"
    )
    deletion_policy: Literal["Wait", "Force"] = Field(
        default="Wait",
        description="Deleting the binding while its cluster is gone: wait for it, or let go of what is left there",
    )
    allow_privileged: bool = Field(
        default=False, description="Admit Pods that Pod Security's baseline profile forbids, such as with hostPath"
    )
    node_proxy: bool = Field(
        default=False, description="Read usage through the physical nodes/proxy, a right that also permits exec"
    )
    time_zone: TimeZone | None = Field(
        default=None, description="IANA zone of policies that name none; left out: the manager's own setting"
    )


class ClusterBindingStatus(ApiModel):
    """What the manager and the syncer last saw."""

    phase: Literal["Pending", "Ready", "Failed"] | None = None
    conditions: Conditions = Field(default_factory=list, description="Ready, Connected, SyncerReady, ProxierReady")
    last_sync_time: Time | None = Field(default=None, description="When the physical cluster was last seen in full")
    observed_generation: Generation | None = Field(
        default=None, description="The metadata.generation this status was decided on"
    )
    kubernetes_version: str | None = Field(default=None, description="Of the physical API server")
    nodes: Count | None = Field(default=None, description="Virtual nodes of this binding")
    pods: Count | None = Field(default=None, description="Physical Pods of this binding")
    last_error: str | None = Field(default=None, description="What failed last, until it works again")
    physical_cluster_uid: str | None = Field(
        default=None,
        description="uid of the physical kube-system, fixed at the first connect: no other cluster is ever written to",
    )


def parse_binding(obj: Json) -> ClusterBindingSpec:
    """Read a ClusterBinding's spec. Raises InvalidObject naming every bad field and its remedy."""
    return parse_spec(ClusterBindingSpec, obj)


def parse_served_binding(obj: Json) -> ClusterBindingSpec:
    """Read the spec of a binding that is being served, which an edit must not end because of a time zone.

    An unknown one, the one thing that the API server cannot refuse, is UNKNOWN_ZONE then: policies that rely on it take no new
    Pods and evict nobody (`domain.leasing`). Raises InvalidObject for whatever else is wrong.
    """
    try:
        return parse_binding(obj)
    except InvalidObject as error:
        if any(problem.field != "spec.timeZone" for problem in error.problems):
            raise
    rest = {name: value for name, value in obj["spec"].items() if name != "timeZone"}
    return parse_binding({**obj, "spec": rest}).model_copy(update={"time_zone": UNKNOWN_ZONE})
