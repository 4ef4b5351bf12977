"""Do both sides of a binding agree? The whole comparison: what two clusters hold goes in, what is wrong comes out.

A `Snapshot` is what each server listed, whole kinds at a time. A kind that could not be read is not in it, and what depends on
it is not judged: better to find too little than to call something an orphan that merely was not seen. Pods are judged one by
one (`podfindings`), so the syncer's patrol asks the same questions of its caches; all the rest is compared kind by kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kubeocean.api import names
from kubeocean.api.binding import ClusterBindingSpec
from kubeocean.api.resources import RESOURCELEASINGPOLICIES
from kubeocean.domain.abandoned import check_lent
from kubeocean.domain.adoption import may_adopt_pod
from kubeocean.domain.copyfindings import (
    MISLABELLED,
    CopyScene,
    StorageScene,
    check_copies,
    check_storage,
    in_namespace,
    is_token_secret,
)
from kubeocean.domain.depmap import origin_of
from kubeocean.domain.eligibility import check_eligible
from kubeocean.domain.findings import Finding, Kind
from kubeocean.domain.hostports import host_ports, is_placeholder, merge_ports
from kubeocean.domain.lender import LenderView
from kubeocean.domain.mirrorfindings import MirrorScene, check_policies, check_services
from kubeocean.domain.naming import physical_name, vnode_prefix
from kubeocean.domain.nodefindings import (
    NodeScene,
    check_csinodes,
    check_labels,
    check_mount,
    check_nodes,
    check_placeholders,
)
from kubeocean.domain.ownership import Owner, is_ours
from kubeocean.domain.podfindings import (
    Claims,
    PodScene,
    check_homeless,
    check_token_secret,
    check_twin,
    check_vpod,
)
from kubeocean.domain.podmap import check_pod
from kubeocean.domain.podpair import is_twin_of, recorded_twin, virtual_key_of
from kubeocean.domain.podrefs import references_of
from kubeocean.domain.podstatus import TERMINAL_PHASES
from kubeocean.domain.policies import read_lender_policy, read_policy
from kubeocean.domain.requests import pod_requests, sum_requests
from kubeocean.domain.vnode import is_vnode_of, physical_name_of
from kubeocean.domain.volumesources import secrets_of
from kubeocean.kube.meta import Json, ObjectKey, key_of, name_of
from kubeocean.kube.resources import (
    CONFIGMAPS,
    CSINODES,
    ENDPOINTSLICES,
    LEASES,
    NAMESPACES,
    NETWORKPOLICIES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    PRIORITYCLASSES,
    SECRETS,
    SERVICES,
    Resource,
)

Held = Mapping[Resource, Sequence[Json]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What two servers listed at about one moment, for one binding. `marked` are the virtual objects with our label, whole.

    Of virtual ConfigMaps and Secrets metadata is enough in `virtual`. `cluster_ids` are those of all bindings; empty: unknown.
    """

    binding: str
    spec: ClusterBindingSpec
    owner: Owner
    mount_namespace: str
    now: datetime
    virtual: Held
    physical: Held
    marked: Held = field(default_factory=dict)
    time_zone: str = "UTC"
    cluster_ids: frozenset[str] = frozenset()

    def ours(self, resource: Resource) -> list[Json]:
        """Return the physical objects of a kind that are ours; only these may ever be touched."""
        return [obj for obj in self.physical.get(resource, ()) if is_ours(obj, self.owner)]

    def own_vnodes(self) -> dict[str, Json]:
        """Return the virtual nodes of the binding, by name."""
        return {name_of(node): node for node in self.virtual.get(NODES, ()) if is_vnode_of(node, self.spec.cluster_id)}

    def names_own_vnode(self, node: str) -> bool:
        """Tell whether a Node of this name, which need not be there, would be a virtual node of this binding."""
        known = {*self.cluster_ids, self.spec.cluster_id}
        fitting = [cluster_id for cluster_id in known if node.startswith(vnode_prefix(cluster_id))]
        return max(fitting, key=len, default="") == self.spec.cluster_id

    def count_pods(self) -> int:
        """Return how many virtual Pods sit on the binding's virtual nodes, placeholders left out."""
        vnodes = self.own_vnodes()
        return sum(
            (pod["spec"].get("nodeName") or "") in vnodes and not is_placeholder(key_of(pod)) for pod in self.virtual[PODS]
        )

    def knows(self, *resources: Resource) -> bool:
        """Tell whether these kinds were read on both sides."""
        return all(resource in self.virtual and resource in self.physical for resource in resources)


def verify(snapshot: Snapshot) -> list[Finding]:
    """Return everything that is wrong, as of one look. Without Pods and Nodes of both sides nothing can be said: KeyError."""
    view = _View(snapshot)
    return [*_pods(view), *_tokens(view), *_copies(view), *_storage(view), *_mirrors(view), *_nodes(view)]


class _View:
    """A snapshot with what many questions need worked out once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.vnodes = snapshot.own_vnodes()
        self._nodes = {name: physical_name_of(vnode) for name, vnode in self.vnodes.items()}
        self.scene = PodScene(
            snapshot.owner, snapshot.mount_namespace, self._nodes.get, snapshot.spec.running_daemonset_by_default, snapshot.now
        )
        self.vpods = {key_of(pod): pod for pod in snapshot.virtual[PODS]}
        self.bound = {key: pod for key, pod in self.vpods.items() if (pod["spec"].get("nodeName") or "") in self.vnodes}
        self.in_mount = in_namespace(snapshot.physical[PODS], snapshot.mount_namespace)
        self.in_need = {key: pod for key, pod in self.vpods.items() if self._may_run(key, pod)}
        self.used = _used(self.in_need)

    def twin_place(self, key: ObjectKey) -> ObjectKey:
        """Return where the twin of a virtual Pod is, if there is one."""
        return ObjectKey(self.scene.mount_namespace, physical_name(key.name, key.namespace))

    def _may_run(self, key: ObjectKey, vpod: Json) -> bool:
        """Tell whether a virtual Pod has or may get a twin that needs something: the syncer's question (`dependencies`)."""
        if (vpod.get("status") or {}).get("phase") in TERMINAL_PHASES or key.namespace in names.EXCLUDED_NAMESPACES:
            return False
        ppod, spec = self.in_mount.get(self.twin_place(key)), self.snapshot.spec
        if ppod is not None and is_twin_of(ppod, vpod, self.scene.owner):
            return True
        if key not in self.bound or check_eligible(vpod, running_daemonsets=spec.running_daemonset_by_default):
            return False
        return not check_pod(vpod, allow_privileged=spec.allow_privileged)

    def used_of(self, kind: str) -> frozenset[ObjectKey]:
        """Return the virtual objects of a kind that Pods name which run on our nodes, or may."""
        return frozenset(self.used.get(kind, ()))


def _used(pods: Mapping[ObjectKey, Json]) -> dict[str, set[ObjectKey]]:
    used: dict[str, set[ObjectKey]] = {}
    for key, pod in pods.items():
        for reference in references_of(pod):
            used.setdefault(reference.kind, set()).add(ObjectKey(key.namespace, reference.name))
    return used


def _pods(view: _View) -> Iterator[Finding]:
    nodes = {name_of(node) for node in view.snapshot.virtual[NODES]}
    for key, vpod in view.vpods.items():
        twin = view.in_mount.get(view.twin_place(key))
        node = vpod["spec"].get("nodeName") or ""
        if key in view.bound:
            finding = check_vpod(vpod, twin, view.scene)
        elif node not in nodes and view.snapshot.names_own_vnode(node):
            finding = check_homeless(vpod, twin, view.scene)
        else:
            continue
        if finding:
            yield finding
    claims = claims_of(view.vpods.values())
    for ppod in view.snapshot.ours(PODS):
        if finding := check_twin(ppod, view.vpods.get(virtual_key_of(ppod)), claims, view.scene):
            yield finding


def claims_of(vpods: Iterable[Json]) -> Claims:
    """Return which virtual Pod may claim a twin, by the twin's name and by its uid."""
    by_name, by_uid = {}, {}
    for vpod in vpods:
        key = key_of(vpod)
        by_name[physical_name(key.name, key.namespace)] = key
        if recorded := recorded_twin(vpod):
            by_uid[recorded] = key
    return Claims(by_name, by_uid)


def _tokens(view: _View) -> Iterator[Finding]:
    for secret in view.snapshot.ours(SECRETS):
        if is_token_secret(secret) and (finding := check_token_secret(secret, view.vpods.get(virtual_key_of(secret)))):
            yield finding


def _copies(view: _View) -> Iterator[Finding]:
    snapshot = view.snapshot
    for resource in (CONFIGMAPS, SECRETS):
        if not snapshot.knows(resource) or resource not in snapshot.marked:
            continue
        copies = [obj for obj in snapshot.ours(resource) if not is_token_secret(obj)]
        drivers = _read_by_drivers(snapshot) if resource == SECRETS else frozenset()
        originals = {key_of(obj): obj for obj in snapshot.virtual[resource]}
        # A copy that a driver reads outlives its original.
        known = {*originals, *(origin for copy in copies if (origin := origin_of(copy)).namespace)}
        for_volumes = frozenset(key for key in known if physical_name(key.name, key.namespace) in drivers)
        marked = {key_of(obj): obj for obj in snapshot.marked[resource]}
        unread = resource == SECRETS and PERSISTENTVOLUMES not in snapshot.physical
        for finding in check_copies(CopyScene(
            resource, snapshot.owner, snapshot.spec.cluster_id, snapshot.mount_namespace, originals, marked,
            in_namespace(copies, snapshot.mount_namespace), view.used_of(resource.kind) | for_volumes, for_volumes,
        )):
            if not (unread and _depends_on_drivers(finding)):
                yield finding


def _depends_on_drivers(finding: Finding) -> bool:
    """Tell whether a driver that reads a Secret for a volume would make it none."""
    return finding.kind in (Kind.ORPHAN_COPY, Kind.STALE_MARK) or finding.reason == MISLABELLED


def _read_by_drivers(snapshot: Snapshot) -> frozenset[str]:
    """Return the names of the copies that drivers of our physical volumes read."""
    return frozenset(
        secret.name for volume in snapshot.ours(PERSISTENTVOLUMES)
        for secret in secrets_of(volume["spec"], (volume["spec"].get("claimRef") or {}).get("namespace") or "")
    )


def _storage(view: _View) -> Iterator[Finding]:
    snapshot = view.snapshot
    if snapshot.knows(PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES):
        yield from check_storage(StorageScene(
            snapshot.owner, snapshot.spec.cluster_id, snapshot.mount_namespace,
            {key_of(claim): claim for claim in snapshot.virtual[PERSISTENTVOLUMECLAIMS]},
            snapshot.virtual[PERSISTENTVOLUMES],
            in_namespace(snapshot.ours(PERSISTENTVOLUMECLAIMS), snapshot.mount_namespace),
            {name_of(volume): volume for volume in snapshot.ours(PERSISTENTVOLUMES)},
            view.used_of(PERSISTENTVOLUMECLAIMS.kind),
        ))


def _mirrors(view: _View) -> Iterator[Finding]:
    snapshot = view.snapshot
    scene = MirrorScene(
        snapshot.owner, snapshot.mount_namespace, frozenset(snapshot.spec.service_namespaces),
        frozenset(key.namespace for key in view.in_need),
        view.scene.physical_node_of,
    )
    if snapshot.knows(SERVICES, ENDPOINTSLICES):
        yield from check_services(
            snapshot.virtual[SERVICES], snapshot.virtual[ENDPOINTSLICES], snapshot.ours(SERVICES),
            snapshot.ours(ENDPOINTSLICES), scene,
        )
    if snapshot.knows(NETWORKPOLICIES) and NAMESPACES in snapshot.virtual:
        yield from check_policies(
            snapshot.virtual[NETWORKPOLICIES], snapshot.virtual[NAMESPACES], snapshot.ours(NETWORKPOLICIES), scene
        )


def _nodes(view: _View) -> Iterator[Finding]:
    snapshot = view.snapshot
    foreign: dict[str, list[Json]] = {}
    for pod in snapshot.physical[PODS]:
        if not is_ours(pod, snapshot.owner) and not _is_to_be_adopted(pod, view):
            foreign.setdefault(pod["spec"].get("nodeName") or "", []).append(pod)
    scene = NodeScene(
        owner=snapshot.owner, binding_name=snapshot.binding, spec=snapshot.spec, now=snapshot.now, vnodes=view.vnodes,
        physical={name_of(node): node for node in snapshot.physical[NODES]},
        policies=tuple(read_policy(policy) for policy in snapshot.virtual.get(RESOURCELEASINGPOLICIES, ())),
        lender=_lender_view(snapshot.physical.get(RESOURCELEASINGPOLICIES)),
        foreign={node: sum_requests(pod_requests(pod) for pod in pods) for node, pods in foreign.items()},
        ports={node: merge_ports(host_ports(pod) for pod in pods) for node, pods in foreign.items()},
        time_zone=snapshot.time_zone,
    )
    leases = snapshot.virtual.get(LEASES)
    yield from check_nodes(scene, {name_of(lease): lease for lease in leases} if leases is not None else None)
    yield from check_labels(scene)
    yield from check_csinodes(snapshot.virtual.get(CSINODES, ()), scene)
    yield from check_placeholders(
        [pod for key, pod in view.vpods.items() if key.namespace == names.PLACEHOLDER_NAMESPACE], scene
    )
    if snapshot.cluster_ids:
        uid = snapshot.owner.virtual_cluster_uid
        yield from check_lent(snapshot.physical[NODES], snapshot.physical.get(NAMESPACES, ()), uid, snapshot.cluster_ids)
    if NAMESPACES in snapshot.physical and PRIORITYCLASSES in snapshot.physical:
        yield from check_mount(
            _named(snapshot.physical[NAMESPACES], snapshot.mount_namespace),
            _named(snapshot.physical[PRIORITYCLASSES], snapshot.spec.pod_priority_class_name or names.DEFAULT_PRIORITY_CLASS),
            snapshot.mount_namespace, scene,
        )


def _is_to_be_adopted(ppod: Json, view: _View) -> bool:
    """Tell whether a Pod that is nobody's yet is the twin of one of ours: to the syncer it is not foreign (`pairing`)."""
    virtual = virtual_key_of(ppod)
    vpod = view.bound.get(virtual)
    if vpod is None or key_of(ppod) != view.twin_place(virtual):
        return False
    node = ppod["spec"].get("nodeName") or ""
    return view.scene.physical_node_of(vpod["spec"]["nodeName"]) == node and may_adopt_pod(ppod, vpod)


def _lender_view(policies: Sequence[Json] | None) -> LenderView:
    """Return the lender's policies; not read, they are as each virtual node remembers its own."""
    if policies is None:
        return LenderView(None, "the lender's policies were not read")
    return LenderView(tuple(read_lender_policy(policy) for policy in policies))


def _named(objects: Iterable[Json], name: str) -> Json | None:
    return next((obj for obj in objects if name_of(obj) == name), None)

