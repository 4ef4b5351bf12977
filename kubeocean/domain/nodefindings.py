"""What is wrong with virtual nodes and with what stands beside them: Leases, CSINodes, placeholders, labels, the namespace.

None of a virtual node's own faults is mended here: taking one away means draining it, and what is leased is decided by the
syncer, with its clock. What merely was left behind by one that is gone may be taken away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kubeocean.api import names
from kubeocean.api.binding import ClusterBindingSpec
from kubeocean.domain.findings import SYNCER, Finding, Kind, Mend, Ref, Side, ref_to
from kubeocean.domain.hostports import HostPort, placeholder_labels, plan_placeholder
from kubeocean.domain.leasing import LeaseFacts, assess
from kubeocean.domain.lender import LenderView
from kubeocean.domain.ownership import ClaimAction, Owner, decide_claim
from kubeocean.domain.policies import Policy
from kubeocean.domain.vnode import is_vnode_of, physical_name_of, physical_uid_of
from kubeocean.domain.vnode_lease import LEASE_SECONDS
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, is_deleting, labels_of, name_of, parse_time, uid_of
from kubeocean.kube.quantity import ZERO, Quantity
from kubeocean.kube.resources import CSINODES, NAMESPACES, NODES, PODS, PRIORITYCLASSES

_NO_SYNCER = "no syncer renews it: see that one runs for this binding, and that it reaches both clusters"


@dataclass(frozen=True, slots=True)
class NodeScene:
    """Nodes of both sides, and what decides about their leases.

    `foreign` are the requests of others' Pods by physical node, `ports` the host ports they hold there.
    """

    owner: Owner
    binding_name: str
    spec: ClusterBindingSpec
    now: datetime
    vnodes: Mapping[str, Json]
    physical: Mapping[str, Json]
    policies: tuple[Policy, ...] = ()
    lender: LenderView = field(default_factory=LenderView)
    foreign: Mapping[str, Mapping[str, Quantity]] = field(default_factory=dict)
    ports: Mapping[str, tuple[HostPort, ...]] = field(default_factory=dict)
    time_zone: str = "UTC"


def check_nodes(scene: NodeScene, leases: Mapping[str, Json] | None) -> Iterator[Finding]:
    """Yield what is wrong with the virtual nodes. `leases` are those of kube-node-lease, by name; None: not read."""
    for vnode in scene.vnodes.values():
        if is_deleting(vnode):
            continue
        if finding := _orphan(vnode, scene):
            yield finding
            continue
        if finding := _beyond_lease(vnode, scene):
            yield finding
        if leases is not None and (finding := _heartbeat(vnode, leases.get(name_of(vnode)), scene.now)):
            yield finding


def _orphan(vnode: Json, scene: NodeScene) -> Finding | None:
    physical = scene.physical.get(physical_name_of(vnode))
    if physical is not None and physical_uid_of(vnode) in ("", uid_of(physical)):
        return None
    name = physical_name_of(vnode)
    cause = f"physical node {name} is gone" if physical is None else f"another machine is called {name} now"
    about = ref_to(Side.VIRTUAL, NODES, vnode)
    return Finding(Kind.ORPHAN_NODE, "NoPhysicalNode", about, cause, f"it is drained, then removed: {SYNCER}")


def _beyond_lease(vnode: Json, scene: NodeScene) -> Finding | None:
    node = physical_name_of(vnode)
    lease = assess(LeaseFacts(
        physical=scene.physical[node], existing=vnode, binding_name=scene.binding_name, binding=scene.spec,
        policies=scene.policies, foreign=scene.foreign.get(node, {}), now=scene.now, time_zone=scene.time_zone,
        lender=scene.lender, owner=scene.owner.annotation,
    ))
    about = ref_to(Side.VIRTUAL, NODES, vnode)
    if not lease.decision.leasable:
        if any(taint["key"] == names.VNODE_DELETING_TAINT for taint in vnode["spec"].get("taints") or ()):
            return None
        return Finding(Kind.BEYOND_LEASE, "NotLeased", about, f"the node is not leased: {lease.decision.message}", SYNCER)
    told, leased = (vnode.get("status") or {}).get("allocatable") or {}, lease.capacity.resources
    more = {name: text for name, text in told.items() if Quantity.parse(text) > Quantity.parse(leased.get(name) or "0")}
    more = {name: text for name, text in more.items() if Quantity.parse(text) > ZERO}
    if not more:
        return None
    told_as = ", ".join(f"{name} {text}, {leased.get(name) or 0} leased" for name, text in sorted(more.items()))
    return Finding(Kind.BEYOND_LEASE, "TellsMore", about, f"it offers more than is leased: {told_as}", SYNCER)


def _heartbeat(vnode: Json, lease: Json | None, now: datetime) -> Finding | None:
    about = ref_to(Side.VIRTUAL, NODES, vnode)
    if lease is None:
        cause = f"Lease {names.NODE_LEASE_NAMESPACE}/{name_of(vnode)} is missing"
        return Finding(Kind.HEARTBEAT, "NoLease", about, cause, _NO_SYNCER)
    renewed = (lease.get("spec") or {}).get("renewTime")
    if renewed and now - parse_time(renewed) <= timedelta(seconds=LEASE_SECONDS):
        return None
    return Finding(Kind.HEARTBEAT, "LeaseExpired", about, f"its Lease was last renewed {renewed or 'never'}", _NO_SYNCER)


# --- beside them -----------------------------------------------------------------------------------------------------
def check_labels(scene: NodeScene) -> Iterator[Finding]:
    """Yield the physical nodes that carry our `policy-applied` label without being leased by us."""
    leased = {physical_name_of(vnode) for vnode in scene.vnodes.values()}
    for node in scene.physical.values():
        by = annotations_of(node).get(names.POLICY_APPLIED_BY_ANNOTATION)
        if by == scene.owner.annotation and name_of(node) not in leased:
            cause = f"label {names.POLICY_APPLIED_LABEL} says that this binding leases it, and no virtual node stands for it"
            yield Finding(
                Kind.STALE_NODE_LABEL, "NotLeased", ref_to(Side.PHYSICAL, NODES, node), cause, SYNCER, Mend.UNLABEL,
            )


def check_csinodes(csinodes: Iterable[Json], scene: NodeScene) -> Iterator[Finding]:
    """Yield the CSINodes of ours whose virtual node is gone."""
    for csinode in csinodes:
        name = name_of(csinode)
        if is_vnode_of(csinode, scene.spec.cluster_id) and name not in scene.vnodes and not is_deleting(csinode):
            cause, source = "its virtual node is gone", Ref(Side.VIRTUAL, NODES, ObjectKey("", name))
            about = ref_to(Side.VIRTUAL, CSINODES, csinode)
            yield Finding(Kind.ORPHAN_CSINODE, "NoVirtualNode", about, cause, SYNCER, Mend.DELETE, source)


def check_placeholders(placeholders: Iterable[Json], scene: NodeScene) -> Iterator[Finding]:
    """Yield what is wrong with the placeholders of host ports; `placeholders` are all Pods of their namespace."""
    ours = placeholder_labels(scene.spec.cluster_id).items()
    by_node: dict[str, list[Json]] = {}
    for pod in placeholders:
        if ours <= labels_of(pod).items() and not is_deleting(pod):
            by_node.setdefault(pod["spec"].get("nodeName") or "", []).append(pod)
    for node in by_node.keys() - scene.vnodes.keys():
        for pod in by_node[node]:
            source = Ref(Side.VIRTUAL, NODES, ObjectKey("", node)) if node else None
            cause = f"its virtual node {node or '(none)'} is gone"
            yield Finding(
                Kind.ORPHAN_PLACEHOLDER, "NoVirtualNode", ref_to(Side.VIRTUAL, PODS, pod), cause, SYNCER, Mend.DELETE, source,
            )
    for name, vnode in scene.vnodes.items():
        ports = scene.ports.get(physical_name_of(vnode), ())
        plan = plan_placeholder(name, ports, by_node.get(name, ()), scene.spec.cluster_id)
        if (plan.delete or plan.create) and not is_deleting(vnode):
            cause = f"the host ports that others hold on its physical node ({_told(ports)}) are not those its placeholder takes"
            yield Finding(Kind.PLACEHOLDER_DRIFT, "OtherPorts", ref_to(Side.VIRTUAL, NODES, vnode), cause, SYNCER)


def _told(ports: Iterable[HostPort]) -> str:
    return ", ".join(f"{port.port}/{port.protocol}" for port in ports) or "none"


def check_mount(
    namespace: Json | None, priority_class: Json | None, mount_namespace: str, scene: NodeScene
) -> Iterator[Finding]:
    """Yield what is wrong with the place where twins live; None: it is not there."""
    claim = decide_claim(mount_namespace, namespace, scene.owner)
    if claim.action is not ClaimAction.OURS:
        about = Ref(Side.PHYSICAL, NAMESPACES, ObjectKey("", mount_namespace))
        remedy = "a syncer claims it when its session begins, or at the next twin it makes there"
        yield Finding(Kind.NAMESPACE, claim.reason, about, claim.message, remedy)
    wanted = scene.spec.pod_priority_class_name or names.DEFAULT_PRIORITY_CLASS
    if priority_class is None:
        about = Ref(Side.PHYSICAL, PRIORITYCLASSES, ObjectKey("", wanted))
        ours = wanted == names.DEFAULT_PRIORITY_CLASS
        remedy = "the syncer makes it again at the next twin" if ours else "the lender has to create it"
        yield Finding(Kind.PRIORITY_CLASS, "NotFound", about, "new twins are refused without it", remedy)
