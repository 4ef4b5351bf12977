"""The two clusters that one syncer joins, and what every controller of it needs to know about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from kubeocean.api import names
from kubeocean.api.binding import ClusterBindingSpec
from kubeocean.clusters.physical import BY_NODE as BY_PHYSICAL_NODE
from kubeocean.clusters.physical import PhysicalCluster
from kubeocean.clusters.podsummary import PhysicalPod, VirtualPod
from kubeocean.clusters.virtual import (
    BY_CLUSTER,
    BY_NAMESPACE,
    INTRANET_API_SERVICE,
    INTRANET_DNS_SERVICE,
    VirtualCluster,
)
from kubeocean.domain.adoption import may_adopt_pod
from kubeocean.domain.leasing import Lease
from kubeocean.domain.lenderstatus import Borrower
from kubeocean.domain.naming import label_value, physical_name
from kubeocean.domain.ownership import Owner
from kubeocean.domain.podcontext import Surroundings
from kubeocean.domain.servicemap import balancer_address, balancer_ip, build_host_aliases, with_physical_addresses
from kubeocean.domain.vnode import is_vnode_of, physical_name_of
from kubeocean.kube.clock import Clock, real_time
from kubeocean.kube.events import EventRecorder
from kubeocean.kube.informer import Handler, Informer
from kubeocean.kube.loopback import VNODE_LOOPBACK
from kubeocean.kube.meta import Json, ObjectKey, annotations_of
from kubeocean.kube.store import Entry

# Seconds of silence of a physical cluster after which its nodes are Unknown. The virtual node controller would take 50 from
# the last heartbeat on, and it leaves alone the Pods of a node that it has not seen die itself.
UNKNOWN_AFTER = 40.0

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class SyncerOptions:
    """What an operator may set for a syncer; addresses unknown to us are "" and leave the Pod's own ways alone."""

    vnode_address: str = VNODE_LOOPBACK  # InternalIP of virtual nodes: where their kubelet API is (to be) served
    api_server_host: str = ""  # of the virtual cluster, as reachable from physical Pods
    api_server_port: str = ""
    dns_server: str = ""
    time_zone: str = "UTC"  # of policies that name none
    clock: Clock = real_time  # by which leases are decided
    pod_workers: int = 32
    physical_qps: float = 0
    physical_burst: int = 0


@dataclass(slots=True)
class Pairing:
    """One virtual and one physical cluster, joined by one binding. `spec` follows the binding as it is edited."""

    binding_name: str
    binding_uid: str
    spec: ClusterBindingSpec
    owner: Owner
    virtual: VirtualCluster
    physical: PhysicalCluster
    events: EventRecorder
    options: SyncerOptions
    unbinding: bool = False
    obstacle: str = ""  # what unbinding waits for, in words; "" when it goes on by itself
    leases: dict[str, Lease] = field(default_factory=dict)  # by physical node: what was decided for it last
    undecided_nodes: set[str] = field(default_factory=set)  # physical nodes that wait for the first decision since the start
    clock: Clock = real_time  # by which leases are decided; not always the real time, see `kube.clock`
    real_time: Clock = real_time  # for whatever meets a time that an API server wrote
    mirrored_services: dict[ObjectKey, tuple[str, ...]] = field(default_factory=dict)  # physical cluster IPs, by virtual key
    gone_nodes: set[str] = field(default_factory=set)  # physical nodes of which a live read said 404
    _nodes_read: dict[str, tuple[Entry[str], str | None]] = field(default_factory=dict)
    _listening: list[Callable[[], None]] = field(default_factory=list)

    def unknown_since(self) -> datetime | None:
        """Return since when nobody knows how the physical nodes fare; None while we do, or have not given up hope yet."""
        over = self.physical.reachability.silent_for - UNKNOWN_AFTER
        return self.real_time() - timedelta(seconds=over) if over >= 0 else None

    def physical_node_of(self, vnode_name: str) -> str | None:
        """Return the physical node behind a virtual node of this binding; None for anybody else's node."""
        entry = self.virtual.nodes.store.get(ObjectKey("", vnode_name))
        if entry is None:
            self._nodes_read.pop(vnode_name, None)
            return None
        # Asked for every event of every Pod: what was read of a node holds until the node changes.
        known = self._nodes_read.get(vnode_name)
        if known is None or known[0] is not entry:
            known = self._nodes_read[vnode_name] = (entry, self.physical_node_behind(entry.object()))
        return known[1]

    def physical_node_behind(self, node: Json) -> str | None:
        """Return which physical node `node`, of the virtual cluster, stands for; None when it is not ours."""
        return physical_name_of(node) if is_vnode_of(node, self.spec.cluster_id) else None

    def twin_key(self, key: ObjectKey) -> ObjectKey:
        """Return where the twin of a virtual Pod is, if there is one."""
        return ObjectKey(self.physical.mount_namespace, physical_name(key.name, key.namespace))

    def twin_of(self, key: ObjectKey) -> Entry[PhysicalPod] | None:
        """Return what the cache has under the name of a virtual Pod's twin, ours or not."""
        return self.physical.pods.store.get(self.twin_key(key))

    def foreign_pods_on(self, node: str) -> Iterator[PhysicalPod]:
        """Yield the Pods on a physical node which are not ours, nor are about to be: those shrink what is leased of it."""
        for entry in self.physical.pods.store.by_index(BY_PHYSICAL_NODE, node):
            if not entry.summary.ours and not self._is_to_be_adopted(entry):
                yield entry.summary

    def _is_to_be_adopted(self, entry: Entry[PhysicalPod]) -> bool:
        """Tell whether a Pod that is nobody's yet is the twin of one of ours (see `domain.adoption`)."""
        claimant = entry.summary.unowned_of
        if claimant is None or entry.key != self.twin_key(claimant):
            return False
        vpod = self.virtual.pods.store.get(claimant)
        if vpod is None or self.physical_node_of(vpod.summary.node) != entry.summary.node:
            return False
        return may_adopt_pod(entry.object(), vpod.object())

    def listen(self, informer: Informer[S], handler: Handler[S], topic: str = "") -> None:
        """Call `handler` for every change until `stop_listening`; the virtual informers outlive this pairing."""
        informer.add_handler(handler, topic)
        self._listening.append(lambda: informer.remove_handler(handler))

    def listen_to_own_pods(self, handler: Handler[VirtualPod]) -> None:
        """Call `handler` as `listen` would for virtual Pods, but not for those on another binding's virtual nodes.

        What happens to a Pod while somebody has labelled its node as another binding's is seen by the patrol only.
        """
        self.listen(self.virtual.pods, handler, label_value(self.spec.cluster_id))

    def heed_port_clashes(self, handler: Callable[[str], None]) -> None:
        """Call `handler` with every virtual node that shares its kubelet port with another, until `stop_listening`."""
        self.virtual.kubelet_ports.subscribe(handler)
        self._listening.append(lambda: self.virtual.kubelet_ports.unsubscribe(handler))

    def stop_listening(self) -> None:
        """Take every handler off again."""
        while self._listening:
            self._listening.pop()()

    def own_vnodes(self) -> list[Json]:
        """Return the virtual nodes of this binding."""
        nodes = (entry.object() for entry in self.virtual.nodes.store.by_index(BY_CLUSTER, label_value(self.spec.cluster_id)))
        return [node for node in nodes if is_vnode_of(node, self.spec.cluster_id)]

    def remembers_lender(self) -> bool:
        """Tell whether a virtual node of this binding was leased under a policy of the lender."""
        return any(names.LAST_VALID_LENDER_POLICY_ANNOTATION in annotations_of(node) for node in self.own_vnodes())

    def as_borrower(self) -> Borrower:
        """Return as whom this binding speaks to the lender."""
        specs = (entry.object().get("spec") or {} for entry in self.virtual.bindings.store.entries())
        siblings = frozenset(str(spec.get("clusterID")) for spec in specs) - {self.spec.cluster_id}
        return Borrower(self.virtual.uid, self.spec.cluster_id, siblings)

    def surroundings(self, namespace: str) -> Surroundings:
        """Return what a Pod of virtual `namespace` finds around it, as known now.

        Where the virtual API server and DNS answer physical Pods say the intranet Services, else the settings. Services are
        told with the addresses at which the Pod reaches them.
        """
        services = self.virtual.services.store
        api = services.object(INTRANET_API_SERVICE)
        dns = services.object(INTRANET_DNS_SERVICE)
        host, port = balancer_address(api) if api else ("", "")
        own = (entry.object() for entry in services.by_index(BY_NAMESPACE, namespace))
        return Surroundings(
            api_server_host=host or self.options.api_server_host, api_server_port=port or self.options.api_server_port,
            dns_server=(balancer_ip(dns) if dns else "") or self.options.dns_server,
            services=with_physical_addresses(own, self.mirrored_services),
            host_aliases=build_host_aliases(self.mirrored_services, namespace),
        )
