"""Heartbeats: one Lease per virtual node, renewed every 10 s while we truly know how the node is.

They are the only writes of a system at rest, and the virtual cluster believes them: a lease that stops is a node that is
Unknown after 40 s. So a lease stops with our knowledge (cluster unreachable, leadership lost), never with the node's own
health, which travels in its mirrored conditions. Renewals are spread over the period instead of coming in one burst.
"""

from __future__ import annotations

import asyncio
from random import uniform
from time import monotonic

import structlog

from kubeocean.api import names
from kubeocean.domain.vnode_lease import node_lease, node_lease_renewal
from kubeocean.kube.errors import KubeError, NotFound, NotLeading
from kubeocean.kube.meta import Json, is_deleting, name_of, uid_of
from kubeocean.kube.resources import LEASES
from kubeocean.syncer.pairing import Pairing

RENEW_EVERY = 10.0  # seconds
TICK = 0.5

log = structlog.get_logger(__name__)


class LeaseKeeper:
    """Renews the Leases of this binding's virtual nodes."""

    def __init__(self, pairing: Pairing) -> None:
        self._pairing = pairing
        # By uid, so that a vnode made anew is due at once; monotonic time of the next renewal.
        self._due: dict[str, float] = {}
        self._lease_uids: dict[str, str] = {}

    async def run(self) -> None:
        """Renew until cancelled or no longer leading."""
        while True:
            if self._pairing.physical.reachability.reachable:
                await self._renew_due(monotonic())
            await asyncio.sleep(TICK)

    async def _renew_due(self, now: float) -> None:
        due = []
        nodes = {uid_of(node): node for node in self._pairing.own_vnodes() if not is_deleting(node)}
        for uid, node in nodes.items():
            if self._due.get(uid, 0.0) <= now:
                # The first time somewhere within the period: nodes made together need not beat together for ever.
                self._due[uid] = now + (RENEW_EVERY if uid in self._due else uniform(RENEW_EVERY / 2, RENEW_EVERY))
                due.append(node)
        self._due = {uid: when for uid, when in self._due.items() if uid in nodes}
        for start in range(0, len(due), 16):
            await asyncio.gather(*(self._renew(node) for node in due[start : start + 16]))

    async def _renew(self, node: Json) -> None:
        name = name_of(node)
        try:
            await self._renew_or_create(node)
        except NotLeading:
            raise
        except KubeError as error:
            self._due[uid_of(node)] = 0.0  # again at the next tick
            self._lease_uids.pop(name, None)  # whatever we believed about the Lease may be wrong
            log.warning("lease not renewed", vnode=name, error=str(error))

    async def _renew_or_create(self, node: Json) -> None:
        name, calls, now = name_of(node), self._pairing.virtual.calls, self._pairing.real_time()
        # Whoever made a Lease under the node's name, it is that node's heartbeat: one left by others is taken over.
        uid = self._lease_uids.get(name) or uid_of(await self._find(name) or {"metadata": {}})
        if uid:
            # The uid is the precondition: a Lease that was deleted and made anew by others is looked at again.
            patch = node_lease_renewal(node, now, name)
            patch["metadata"]["uid"] = uid
            await calls.patch(LEASES, name, names.NODE_LEASE_NAMESPACE, patch)
        else:
            uid = uid_of(await calls.create(LEASES, node_lease(node, now, name)))
        self._lease_uids[name] = uid

    async def _find(self, name: str) -> Json | None:
        try:
            return await self._pairing.virtual.calls.get(LEASES, name, names.NODE_LEASE_NAMESPACE)
        except NotFound:
            return None

    async def remove(self, vnode: Json) -> None:
        """Delete the Lease of a virtual node that goes, if it is that node's."""
        self._lease_uids.pop(name_of(vnode), None)
        lease = await self._find(name_of(vnode))
        owners = {owner.get("uid") for owner in (lease or {"metadata": {}})["metadata"].get("ownerReferences") or ()}
        if lease and uid_of(vnode) in owners:
            try:
                await self._pairing.virtual.calls.delete(
                    LEASES, name_of(vnode), names.NODE_LEASE_NAMESPACE, uid=uid_of(lease)
                )
            except NotFound:
                return
