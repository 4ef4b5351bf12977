"""One CSINode for every virtual node whose physical node has one.

Flow: a CSINode changes on either side, or a virtual node -> the *virtual node's name* is queued -> `domain.csinode` decides
on one write. CSINodes are nice to have: nobody waits for them at the start, and where they may not be read on one of the two
sides this controller never begins. The virtual node owns its CSINode, so the virtual cluster itself collects what we cannot.
"""

from __future__ import annotations

import asyncio
from typing import NoReturn

import structlog

from kubeocean.api import names
from kubeocean.clusters.virtual import VirtualCluster
from kubeocean.domain.csinode import Change, Create, Remove, decide_csinode
from kubeocean.domain.naming import label_value, vnode_name
from kubeocean.domain.vnode import is_vnode_of, physical_name_of
from kubeocean.kube.controller import Controller, Result
from kubeocean.kube.errors import AlreadyExists, Forbidden, NotFound
from kubeocean.kube.meta import ObjectKey, name_of, uid_of
from kubeocean.kube.resources import CSINODES
from kubeocean.kube.store import Entry
from kubeocean.syncer.pairing import Pairing

SEEN_SOON = 1.0  # seconds in which what was written to a node comes back to the cache

log = structlog.get_logger(__name__)


class CsiNodeController:
    """Keeps the CSINodes of one binding's virtual nodes. Keys are names of virtual nodes."""

    def __init__(self, pairing: Pairing) -> None:
        self.pairing = pairing
        self.controller: Controller[str] = Controller(f"csinodes-{pairing.binding_name}", self.reconcile, workers=2)

    def attach(self) -> None:
        """Listen to the caches; what is in them already is queued as well."""
        self.pairing.listen(self.pairing.physical.csi_nodes, self._physical_changed)
        self.pairing.listen(self.pairing.virtual.csi_nodes, lambda old, new: self._virtual_changed(new or old))
        self.pairing.listen(self.pairing.virtual.nodes, lambda old, new: self._virtual_changed(new or old))

    def _physical_changed(self, old: Entry[None] | None, new: Entry[None] | None) -> None:
        if entry := new or old:
            self.controller.enqueue(vnode_name(self.pairing.spec.cluster_id, entry.key.name))

    def _virtual_changed(self, entry: Entry[None] | Entry[str] | None) -> None:
        # A Node and the CSINode of the same name carry the same labels.
        if entry and is_vnode_of(entry.object(), self.pairing.spec.cluster_id):
            self.controller.enqueue(entry.key.name)

    async def run(self) -> NoReturn:
        """Work until cancelled, from the moment on when both sides' CSINodes are known in full."""
        await self.pairing.physical.csi_nodes.wait_synced()
        await self.pairing.virtual.csi_nodes.wait_synced()
        await self._let_nodes_go_first()
        await self.controller.run()

    async def _let_nodes_go_first(self) -> None:
        """Return when every virtual node is as it will be: a CSINode has its labels, and would be written once more."""
        while self.pairing.undecided_nodes:
            await asyncio.sleep(SEEN_SOON)
        await asyncio.sleep(SEEN_SOON)

    async def reconcile(self, vnode: str) -> Result:
        """Make the CSINode of virtual node `vnode` what it should be."""
        virtual, key, cluster_id = self.pairing.virtual, ObjectKey("", vnode), self.pairing.spec.cluster_id
        node = virtual.nodes.store.object(key)
        if node is not None and not is_vnode_of(node, cluster_id):
            node = None
        physical = self.pairing.physical.csi_nodes.store.object(ObjectKey("", physical_name_of(node))) if node else None
        match decide_csinode(node, physical, virtual.csi_nodes.store.object(key), cluster_id):
            case Create(obj):
                try:
                    written = await virtual.calls.create(CSINODES, obj)
                except AlreadyExists:
                    return Result()  # by whomever: its event brings us back
            case Change(patch):
                written = await virtual.calls.patch(CSINODES, vnode, "", patch)
            case Remove(uid):
                try:
                    written = await virtual.calls.delete(CSINODES, vnode, uid=uid)
                except NotFound:
                    return Result()
            case None:
                return Result()
        self.controller.freshness.expect(vnode, virtual.csi_nodes, written)
        return Result()


async def remove_csinodes(virtual: VirtualCluster, cluster_id: str) -> None:
    """Delete the CSINodes of a binding that is being unbound; returns when a live list shows none."""
    selector = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY_VALUE},{names.PHYSICAL_CLUSTER_ID_LABEL}={label_value(cluster_id)}"
    try:
        for csinode in (await virtual.calls.list(CSINODES, label_selector=selector)).items:
            try:
                await virtual.calls.delete(CSINODES, name_of(csinode), uid=uid_of(csinode))
            except NotFound:
                continue
    except Forbidden as error:
        log.warning("CSINodes left to their virtual nodes' garbage collection", error=str(error))
