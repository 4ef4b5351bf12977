"""Placeholders of host ports: at most one Pod on a virtual node, which takes what foreign Pods take on the physical one.

Flow: the host ports of a foreign Pod, a placeholder or a virtual node change -> the *virtual node's name* is queued ->
`domain.hostports` plans -> the old placeholder is deleted, then the new one created. The namespace they live in is shared by
all bindings of the virtual cluster: made by whoever needs it first, removed by whoever is unbound and leaves it empty.
"""

from __future__ import annotations

from contextlib import suppress

import structlog

from kubeocean.api import names
from kubeocean.clusters.podsummary import PhysicalPod, VirtualPod
from kubeocean.clusters.virtual import BY_NODE, VirtualCluster
from kubeocean.domain.hostports import (
    HostPort,
    build_placeholder_namespace,
    is_placeholder,
    merge_ports,
    placeholder_labels,
    plan_placeholder,
)
from kubeocean.domain.naming import vnode_name
from kubeocean.domain.vnode import is_vnode_of
from kubeocean.kube.answers import forbidden_by_terminating_namespace
from kubeocean.kube.controller import Controller, Result
from kubeocean.kube.errors import AlreadyExists, Conflict, Forbidden, NotFound
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, is_deleting, labels_of, name_of, uid_of
from kubeocean.kube.resources import NAMESPACES, PODS
from kubeocean.kube.store import Entry
from kubeocean.syncer.pairing import Pairing

SETTLES = 1.0  # seconds until a namespace takes Pods (its ServiceAccount is there), or a name is free again

log = structlog.get_logger(__name__)


class PlaceholderController:
    """Keeps the placeholders of one binding's virtual nodes. Keys are names of virtual nodes."""

    def __init__(self, pairing: Pairing) -> None:
        self.pairing = pairing
        self.controller: Controller[str] = Controller(f"placeholders-{pairing.binding_name}", self.reconcile, workers=2)

    def attach(self) -> None:
        """Listen to the caches; what is in them already is queued as well."""
        self.pairing.listen(self.pairing.physical.pods, self._physical_pod_changed)
        self.pairing.listen_to_own_pods(self._virtual_pod_changed)
        self.pairing.listen(self.pairing.virtual.nodes, self._virtual_node_changed)

    def _physical_pod_changed(self, old: Entry[PhysicalPod] | None, new: Entry[PhysicalPod] | None) -> None:
        before, after = _taken_by(old), _taken_by(new)
        if before != after:
            for node, _ in filter(None, (before, after)):
                self.controller.enqueue(vnode_name(self.pairing.spec.cluster_id, node))

    def _virtual_pod_changed(self, old: Entry[VirtualPod] | None, new: Entry[VirtualPod] | None) -> None:
        if (entry := new or old) and is_placeholder(entry.key):
            self.controller.enqueue(entry.summary.node)

    def _virtual_node_changed(self, old: Entry[str] | None, new: Entry[str] | None) -> None:
        if (entry := new or old) and is_vnode_of(entry.object(), self.pairing.spec.cluster_id):
            self.controller.enqueue(entry.key.name)

    async def reconcile(self, vnode: str) -> Result:
        """Make one placeholder take the ports that are taken on the node behind `vnode`; none without such a node."""
        pairing = self.pairing
        node = pairing.virtual.nodes.store.object(ObjectKey("", vnode))
        physical_node = pairing.physical_node_behind(node) if node else None
        if node is not None and physical_node is None:
            return Result()  # another binding's
        ports: tuple[HostPort, ...] = ()
        if node and physical_node and not is_deleting(node):
            ports = merge_ports(pod.host_ports for pod in pairing.foreign_pods_on(physical_node))
        plan = plan_placeholder(vnode, ports, self._placeholders_on(vnode, orphaned=node is None), pairing.spec.cluster_id)
        for pod in plan.delete:
            await self._delete(vnode, pod)
        if plan.create and not await self._create(vnode, plan.create):
            return Result(SETTLES)
        return Result()

    def _placeholders_on(self, vnode: str, *, orphaned: bool) -> list[Json]:
        """Return the placeholders bound to a virtual node; of one that is gone only those that say they are ours."""
        bound = self.pairing.virtual.pods.store.by_index(BY_NODE, vnode)
        pods = [entry.object() for entry in bound if is_placeholder(entry.key)]
        ours = placeholder_labels(self.pairing.spec.cluster_id).items()
        return [pod for pod in pods if not orphaned or ours <= labels_of(pod).items()]

    async def _create(self, vnode: str, placeholder: Json) -> bool:
        """Create a placeholder; returns whether that was possible already."""
        calls = self.pairing.virtual.calls
        try:
            written = await calls.create(PODS, placeholder)
        except NotFound:
            with suppress(AlreadyExists):
                await calls.create(NAMESPACES, build_placeholder_namespace())
            return False
        except AlreadyExists:
            return False  # the old one is held by somebody's finalizer
        except Forbidden as error:
            if not forbidden_by_terminating_namespace(error):
                raise
            return False
        log.info("host ports taken", vnode=vnode, ports=len(placeholder["spec"]["containers"][0]["ports"]))
        self.controller.freshness.expect(vnode, self.pairing.virtual.pods, written)
        return True

    async def _delete(self, vnode: str, pod: Json) -> None:
        with suppress(NotFound, Conflict):  # gone, or another one by now
            answer = await self.pairing.virtual.calls.delete(
                PODS, name_of(pod), names.PLACEHOLDER_NAMESPACE, uid=uid_of(pod), grace_seconds=0
            )
            self.controller.freshness.expect(vnode, self.pairing.virtual.pods, answer)


async def remove_placeholders(virtual: VirtualCluster, cluster_id: str) -> None:
    """Delete the placeholders of a binding that is being unbound, and their namespace if we made it and nobody needs it."""
    calls, namespace = virtual.calls, names.PLACEHOLDER_NAMESPACE
    selector = ",".join(f"{key}={value}" for key, value in placeholder_labels(cluster_id).items())
    for pod in (await calls.list(PODS, namespace, label_selector=selector)).items:
        with suppress(NotFound, Conflict):
            await calls.delete(PODS, name_of(pod), namespace, uid=uid_of(pod), grace_seconds=0)
    try:
        found = await calls.get(NAMESPACES, namespace)
        made_by_us = names.CREATED_BY_US_ANNOTATION in annotations_of(found) and not is_deleting(found)
        if made_by_us and not (await calls.list(PODS, namespace)).items:
            await calls.delete(NAMESPACES, namespace, uid=uid_of(found))
    except NotFound:
        return
    except Forbidden as error:
        log.warning("namespace of placeholders is left", namespace=namespace, error=str(error))


def _taken_by(entry: Entry[PhysicalPod] | None) -> tuple[str, tuple[HostPort, ...]] | None:
    if entry is None or not entry.summary.node or not entry.summary.host_ports:
        return None
    return entry.summary.node, entry.summary.host_ports
