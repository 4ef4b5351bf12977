"""Leaving without a trace: what happens between the deletion of a binding and the fall of the syncer's finalizer.

The controllers do the work they always do, told that nothing is leased any more: virtual nodes are tainted, drained and
removed, Pods go with their grace, twins and tokens with them. When the virtual nodes are gone, what could be left is asked
for live, on both sides, removed if it is ours, and only when nothing is left the claim on the mountNamespace, the
PriorityClass and the finalizer go. Every step may be repeated; a crash resumes at whatever is still there.

`let_go` is the other way out, for a cluster that is gone for good: only under `deletionPolicy: Force`, it cleans the virtual
side alone and says in an Event what may be left in the physical cluster.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol

import structlog

from kubeocean.api import names
from kubeocean.api.resources import CLUSTERBINDINGS, RESOURCELEASINGPOLICIES
from kubeocean.clusters.virtual import BY_CLUSTER, BY_NODE, VirtualCluster
from kubeocean.domain.lenderstatus import diff_withdrawal
from kubeocean.domain.naming import label_value
from kubeocean.domain.ownership import Owner
from kubeocean.domain.vnode import is_vnode_of
from kubeocean.kube.errors import ApiError, Conflict, Forbidden, NotFound
from kubeocean.kube.events import EventRecorder
from kubeocean.kube.meta import (
    Json,
    annotations_of,
    finalizers_of,
    name_of,
    resource_version_of,
)
from kubeocean.kube.resources import NODES, PODS, SECRETS, Resource
from kubeocean.syncer.bottomup.csinodes import remove_csinodes
from kubeocean.syncer.bottomup.marks import is_marked
from kubeocean.syncer.bottomup.placeholders import remove_placeholders
from kubeocean.syncer.mount import delete_ours, release_namespace, release_priority_class
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.topdown.dependencies import Dependencies
from kubeocean.syncer.topdown.marking import remove_marks

POLL = 0.5  # seconds between looks
WITHDRAWALS = 10  # looks at the lender's policies: something there may undo what we write

log = structlog.get_logger(__name__)


class Nodes(Protocol):
    """What is asked of the node controller: keep at it until the virtual nodes are gone."""

    def enqueue_all(self) -> None:
        """Look at every node again."""


def force_requested(binding: Json) -> bool:
    """Tell whether the binding may be released although its cluster cannot be cleaned."""
    asked = (binding.get("spec") or {}).get("deletionPolicy") or annotations_of(binding).get(names.DELETION_POLICY_ANNOTATION)
    return bool(asked == "Force" or annotations_of(binding).get(names.DELETION_POLICY_ANNOTATION) == "Force")


async def take_everything_back(pairing: Pairing, nodes: Nodes, dependencies: Dependencies) -> None:
    """Return when nothing of this binding is left on either side and its finalizer is gone."""
    while True:
        while pairing.own_vnodes():
            await asyncio.sleep(POLL)
        nodes.enqueue_all()  # labels on physical nodes without a virtual node go too
        while any(is_marked(entry.object(), pairing.owner.annotation) for entry in pairing.physical.nodes.store.entries()):
            await asyncio.sleep(POLL)
        if not await _nodes_are_left(pairing):
            break
        await asyncio.sleep(POLL)
    await _remove_beside_nodes(pairing.virtual, pairing.spec.cluster_id)
    await _remove_ours(pairing, PODS)
    await dependencies.take_back()
    await _remove_ours(pairing, SECRETS)
    await release_policies(pairing.virtual, pairing.binding_name)
    await _withdraw_statuses(pairing)
    await release_namespace(pairing.physical.calls, pairing.physical.mount_namespace, pairing.owner)
    await release_priority_class(pairing.physical.calls)
    await drop_finalizer(pairing.virtual, pairing.binding_name)
    log.info("unbound", binding=pairing.binding_name)


async def _remove_ours(pairing: Pairing, resource: Resource) -> None:
    """Return when nothing of ours of this kind is left in the mountNamespace."""
    while await delete_ours(pairing.physical.calls, resource, pairing.physical.mount_namespace, pairing.owner):
        await asyncio.sleep(POLL)


async def _nodes_are_left(pairing: Pairing) -> bool:
    """Ask both servers for nodes of ours: that a cache shows none proves nothing, it may lag."""
    cluster_id = pairing.spec.cluster_id
    selector = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY_VALUE},{names.PHYSICAL_CLUSTER_ID_LABEL}={label_value(cluster_id)}"
    if (await pairing.virtual.calls.list(NODES, label_selector=selector)).items:
        return True
    return any(is_marked(node, pairing.owner.annotation) for node in (await pairing.physical.calls.list(NODES)).items)


async def _remove_beside_nodes(virtual: VirtualCluster, cluster_id: str) -> None:
    """Delete what went with the virtual nodes, as far as it has not gone with them."""
    await remove_csinodes(virtual, cluster_id)
    await remove_placeholders(virtual, cluster_id)


async def release_policies(virtual: VirtualCluster, binding_name: str) -> None:
    """Take our finalizer off every policy of the binding: it must never outlive it."""
    for policy in (entry.object() for entry in virtual.policies.store.entries()):
        if (policy.get("spec") or {}).get("cluster") == binding_name:
            await drop_policy_finalizer(virtual, policy)


async def _withdraw_statuses(pairing: Pairing) -> None:
    """Take what this binding said out of the lender's policies, as far as he lets us; nobody waits for it for ever."""
    calls, borrower = pairing.physical.calls, pairing.as_borrower()
    try:
        for _ in range(WITHDRAWALS):
            said = [
                (name_of(policy), patch) for policy in (await calls.list(RESOURCELEASINGPOLICIES)).items
                if (patch := diff_withdrawal(policy, borrower))
            ]
            if not said:
                return
            for name, patch in said:
                with suppress(Conflict):  # another borrower was quicker; look again
                    await calls.patch(RESOURCELEASINGPOLICIES, name, "", patch, subresource="status")
            await asyncio.sleep(POLL)
        log.warning("lender's policies still speak of us", binding=pairing.binding_name, policies=[name for name, _ in said])
    except ApiError as error:
        say = log.debug if isinstance(error, NotFound | Forbidden) else log.warning
        say("lender's policies left as they are", binding=pairing.binding_name, error=str(error))


async def drop_policy_finalizer(virtual: VirtualCluster, policy: Json) -> None:
    """Remove our finalizer from a policy, if it is there."""
    if names.POLICY_FINALIZER in finalizers_of(policy):
        await _without_finalizer(virtual, RESOURCELEASINGPOLICIES, policy, names.POLICY_FINALIZER)


async def drop_finalizer(virtual: VirtualCluster, binding_name: str) -> None:
    """Remove the syncer's finalizer from the binding, if both are there."""
    try:
        binding = await virtual.calls.get(CLUSTERBINDINGS, binding_name)
    except NotFound:
        return
    if names.BINDING_SYNCER_FINALIZER in finalizers_of(binding):
        await _without_finalizer(virtual, CLUSTERBINDINGS, binding, names.BINDING_SYNCER_FINALIZER)


async def _without_finalizer(virtual: VirtualCluster, resource: Resource, obj: Json, finalizer: str) -> None:
    left = [item for item in finalizers_of(obj) if item != finalizer]
    patch = {"metadata": {"resourceVersion": resource_version_of(obj), "finalizers": left}}
    try:
        await virtual.calls.patch(resource, name_of(obj), "", patch)
    except NotFound:
        return


async def let_go(virtual: VirtualCluster, binding: Json, events: EventRecorder, *, why: str) -> None:
    """Clean the virtual side of a binding whose cluster cannot be reached, as `deletionPolicy: Force` allows."""
    name = name_of(binding)
    spec = binding.get("spec") or {}
    events.event(
        binding, "Warning", "LeftBehind",
        f"released by force: {why}. What may be left in the physical cluster: objects labelled "
        f"{names.OWNER_LABEL}={Owner(virtual.uid, str(spec.get('clusterID'))).label} in namespace {spec.get('mountNamespace')}",
    )
    for entry in virtual.nodes.store.by_index(BY_CLUSTER, label_value(str(spec.get("clusterID")))):
        vnode = entry.object()
        if not is_vnode_of(vnode, str(spec.get("clusterID"))):
            continue  # somebody else's node with a label like ours
        for pod in virtual.pods.store.by_index(BY_NODE, entry.key.name):
            await _ignore_gone(virtual, PODS, pod.key.name, pod.key.namespace, pod.uid, grace=0)
        await _ignore_gone(virtual, NODES, entry.key.name, "", entry.uid, grace=None)
        if names.VNODE_FINALIZER in finalizers_of(vnode):
            await _without_vnode_finalizer(virtual, entry.key.name)
    await _remove_beside_nodes(virtual, str(spec.get("clusterID")))
    await remove_marks(virtual, str(spec.get("clusterID")))
    await release_policies(virtual, name)
    await drop_finalizer(virtual, name)
    log.warning("binding released by force", binding=name, why=why)


async def _without_vnode_finalizer(virtual: VirtualCluster, name: str) -> None:
    try:
        live = await virtual.calls.get(NODES, name)
    except NotFound:
        return
    await _without_finalizer(virtual, NODES, live, names.VNODE_FINALIZER)


async def _ignore_gone(
    virtual: VirtualCluster, resource: Resource, name: str, namespace: str, uid: str, *, grace: int | None
) -> None:
    try:
        await virtual.calls.delete(resource, name, namespace, uid=uid, grace_seconds=grace)
    except NotFound:
        return


