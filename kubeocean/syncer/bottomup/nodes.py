"""One virtual node for every leased physical node: no more, no fewer, and each as the lease says.

Flow: a physical node, its foreign Pods, a policy, the binding, the virtual node itself or merely the time changes -> the
*physical node's name* is queued -> the pass reads all of them as they are -> `domain.leasing` says whether and how much is
leased, `domain.vnode` what the Node should then look like -> at most one patch of the Node and one of its status, or the
creation, or one step of the removal.

What becomes of the node's Pods when a window shuts or a limit shrinks is decided in `domain.takeback` and carried out by
`reclaim`; this pass writes what the node shows of it.

Removal: cordon and taint (nothing new comes), drain through the Eviction API (budgets are honoured until the policy's
timeout is over), then delete. A node that is leased again before the end simply loses taint and cordon. A virtual node that
somebody deletes behind our back is let go and made anew.

A physical node that is missing from the cache is asked for live before its virtual node is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

import structlog

from kubeocean.clusters.podsummary import PhysicalPod, VirtualPod
from kubeocean.domain.hostports import is_placeholder
from kubeocean.domain.leasing import Lease, LeaseFacts, assess
from kubeocean.domain.naming import vnode_name
from kubeocean.domain.reclaim import note_instant
from kubeocean.domain.requests import sum_requests
from kubeocean.domain.takeback import Situation
from kubeocean.domain.vnode import (
    VnodeFacts,
    build_vnode,
    is_vnode_of,
    physical_name_of,
    physical_uid_of,
)
from kubeocean.domain.vnode_diff import build_release_patch, diff_vnode, expected_is_corrupt
from kubeocean.kube.answers import proves_absence
from kubeocean.kube.client import PatchType
from kubeocean.kube.controller import Controller, Result
from kubeocean.kube.errors import NotFound
from kubeocean.kube.meta import Json, ObjectKey, is_deleting, name_of, uid_of
from kubeocean.kube.resources import NODES
from kubeocean.kube.store import Entry
from kubeocean.syncer.bottomup.draining import Drain, drained_since
from kubeocean.syncer.bottomup.leases import LeaseKeeper
from kubeocean.syncer.bottomup.marks import Marks
from kubeocean.syncer.bottomup.policywatch import PolicyWatch
from kubeocean.syncer.bottomup.reclaim import Reclaim
from kubeocean.syncer.pairing import Pairing

MARK_AGAIN = 5.0  # seconds until a mark that could not be written is tried again
DRAIN_POLL = 1.0  # seconds between looks at a node that is being drained
OVERHANG_POLL = 5.0  # seconds after which a Pod that came or went is held against what is leased

log = structlog.get_logger(__name__)


class NodeController:
    """Keeps the virtual nodes of one binding. Each `on_lease` is told what was decided, before and after it changed."""

    def __init__(self, pairing: Pairing, leases: LeaseKeeper, *on_lease: Callable[[Lease], None]) -> None:
        self.pairing = pairing
        self.controller: Controller[str] = Controller(f"nodes-{pairing.binding_name}", self.reconcile, workers=8)
        self._leases, self._on_lease = leases, on_lease
        self.reclaim = Reclaim(pairing)
        self._marks = Marks(pairing)
        self._drain = Drain(pairing, self.reclaim.pods, self.reclaim.evictor)

    # --- what wakes us ---------------------------------------------------------------------------------------------
    def attach(self) -> None:
        """Listen to the caches; what is in them already is queued as well."""
        self.pairing.undecided_nodes.update(entry.key.name for entry in self.pairing.physical.nodes.store.entries())
        self.pairing.listen(self.pairing.physical.nodes, self._physical_node_changed)
        self.pairing.listen(self.pairing.virtual.nodes, self._virtual_node_changed)
        self.pairing.listen(self.pairing.physical.pods, self._physical_pod_changed)
        self.pairing.listen_to_own_pods(self._virtual_pod_changed)
        self.pairing.heed_port_clashes(self._port_clashes)
        PolicyWatch(self.pairing, self.controller.enqueue).attach()

    def enqueue_all(self) -> None:
        """Look at every node again: the binding changed, or the cluster went out of or back into reach."""
        for entry in self.pairing.physical.nodes.store.entries():
            self.controller.enqueue(entry.key.name)
        for node in self.pairing.own_vnodes():
            self.controller.enqueue(physical_name_of(node))

    def _physical_node_changed(self, old: Entry[None] | None, new: Entry[None] | None) -> None:
        if entry := new or old:
            self.controller.enqueue(entry.key.name)

    def _virtual_node_changed(self, old: Entry[str] | None, new: Entry[str] | None) -> None:
        entry = new or old
        if entry and is_vnode_of(entry.object(), self.pairing.spec.cluster_id):
            self.controller.enqueue(physical_name_of(entry.object()))

    def _port_clashes(self, vnode: str) -> None:
        if node := self.pairing.physical_node_of(vnode):
            self.controller.enqueue(node)

    def _physical_pod_changed(self, old: Entry[PhysicalPod] | None, new: Entry[PhysicalPod] | None) -> None:
        before, after = _taken_by(old), _taken_by(new)
        if before != after:
            for node, _ in filter(None, (before, after)):
                self.controller.enqueue(node)

    def _virtual_pod_changed(self, old: Entry[VirtualPod] | None, new: Entry[VirtualPod] | None) -> None:
        entry = new or old
        node = self.pairing.physical_node_of(entry.summary.node) if entry else None
        if entry is None or node is None or is_placeholder(entry.key):
            return
        if self.reclaim.waits_for_pods(node):
            self.controller.enqueue(node)
        else:
            # The scheduler never overbooks a node; but it may have looked at one whose lease shrank at that moment.
            self.controller.queue.add_after(node, OVERHANG_POLL)
        # It has just got its node: before that we are told nothing of it. (At a start no situation is known yet.)
        if new and old is None:
            self.reclaim.welcome(node, new.summary.node, new.key)

    # --- one pass --------------------------------------------------------------------------------------------------
    async def reconcile(self, name: str) -> Result:
        """Make the virtual node of physical node `name` what it should be; returns when time alone may change that."""
        pairing = self.pairing
        pairing.undecided_nodes.discard(name)  # nothing is awaited from here to `_remember`
        physical = pairing.physical.nodes.store.object(ObjectKey("", name))
        existing = pairing.virtual.nodes.store.object(ObjectKey("", vnode_name(pairing.spec.cluster_id, name)))
        if existing and not is_vnode_of(existing, pairing.spec.cluster_id):
            self._complain_of_stranger(existing)
            return Result()
        if physical is None:
            self._remember(name, None)
            return await self._vanished(name, existing)
        self.pairing.gone_nodes.discard(name)
        lease = assess(self._lease_facts(name, physical, existing))
        another_machine = existing is not None and physical_uid_of(existing) not in ("", uid_of(physical))
        if pairing.unbinding or another_machine or not lease.decision.leasable:
            self._remember(name, None)
            unmarked = await self._marks.unmark(physical)
            if existing is None:
                return Result(None if unmarked else MARK_AGAIN)
            # What it stood for is gone when another machine has that name: there is nothing to build it from any more.
            return await self._remove(existing, None if another_machine else physical, lease)
        self._remember(name, lease)
        situation = self.reclaim.stand(name, existing, lease)
        marked = await self._keep(physical, existing, situation)
        next_look = _seconds_until((lease.revisit_at, situation.revisit_at), pairing.clock())
        return Result(next_look if marked else min(MARK_AGAIN, next_look or MARK_AGAIN))

    def _lease_facts(self, name: str, physical: Json, existing: Json | None) -> LeaseFacts:
        pairing = self.pairing
        foreign = (pod.requests for pod in pairing.foreign_pods_on(name))
        return LeaseFacts(
            physical=physical, existing=existing, binding_name=pairing.binding_name, binding=pairing.spec,
            policies=[entry.summary for entry in pairing.virtual.policies.store.entries()], foreign=sum_requests(foreign),
            now=pairing.clock(), time_zone=pairing.options.time_zone, lender=pairing.physical.lender.view,
            owner=pairing.owner.annotation,
        )

    def _remember(self, name: str, lease: Lease | None) -> None:
        """Keep what was decided for the policies' status, and tell those it changes."""
        before = self.pairing.leases.get(name)
        if before == lease:
            return
        if lease is None:
            self.pairing.leases.pop(name, None)
            self.reclaim.forget(name)
        else:
            self.pairing.leases[name] = lease
        for known in filter(None, (before, lease)):
            for tell in self._on_lease:
                tell(known)

    # --- for the patrol ----------------------------------------------------------------------------------------------
    def suspects(self) -> Iterator[tuple[str, str] | None]:
        """Yield the physical nodes whose virtual nodes are not what caches and time say they should be, and how they differ.

        Yields None for each that is in order: whoever asks may rest.
        """
        nodes = {entry.key.name for entry in self.pairing.physical.nodes.store.entries()}
        for name in sorted(nodes | {physical_name_of(vnode) for vnode in self.pairing.own_vnodes()}):
            differs = self._differs(name)
            yield (name, differs) if differs else None

    def _differs(self, name: str) -> str:
        pairing = self.pairing
        physical = pairing.physical.nodes.store.object(ObjectKey("", name))
        existing = pairing.virtual.nodes.store.object(ObjectKey("", vnode_name(pairing.spec.cluster_id, name)))
        if existing and (is_deleting(existing) or drained_since(existing)):
            return ""  # on its way out, which takes its time
        if existing and not is_vnode_of(existing, pairing.spec.cluster_id):
            return ""
        if physical is None:
            return "NoPhysicalNode" if existing else ""
        lease = assess(self._lease_facts(name, physical, existing))
        if not lease.decision.leasable:
            return "NotLeased" if existing else ""
        if existing is None:
            return "NotMade"
        desired = build_vnode(self._vnode_facts(physical, existing, lease, self.reclaim.stand(name, existing, lease)))
        return "Differs" if any(diff_vnode(existing, desired)) else ""

    # --- keeping ---------------------------------------------------------------------------------------------------
    async def _keep(self, physical: Json, existing: Json | None, situation: Situation) -> bool:
        """Make or update the virtual node; returns whether the mark on the physical one is as it should be."""
        pairing, name, lease = self.pairing, name_of(physical), situation.lease
        if existing is not None and is_deleting(existing):
            await self._release(existing, name)  # deleted behind our back: its going brings us back to make it anew
            return True
        desired = build_vnode(self._vnode_facts(physical, existing, lease, situation))
        if existing is None:
            written = await pairing.virtual.calls.create(NODES, desired)
            pairing.events.event(written, "Normal", "Leased", lease.decision.message)
            log.info("virtual node created", vnode=name_of(written), binding=pairing.binding_name)
            self.controller.freshness.expect(name, pairing.virtual.nodes, written)
        else:
            await self._write(existing, desired, name)
        self.reclaim.follow(name, existing, situation)
        if leased_under := lease.choice.winner or lease.lender.winner:
            return await self._marks.mark_leased(physical, leased_under.name)
        return True

    def _vnode_facts(
        self, physical: Json, existing: Json | None, lease: Lease, situation: Situation | None
    ) -> VnodeFacts:
        """Return what the virtual node is built from; without `situation` it is on its way out."""
        pairing, remembered, of_lender = self.pairing, lease.remembered, lease.lender_remembered
        vnode, address = vnode_name(pairing.spec.cluster_id, name_of(physical)), pairing.options.vnode_address
        # The drain has a clock of its own, noted on the node too, so that a change of leader does not start it anew.
        closing = situation.closing.text if situation else note_instant(drained_since(existing) or pairing.clock())
        return VnodeFacts(
            physical=physical, existing=existing, binding_name=pairing.binding_name, spec=pairing.spec,
            capacity=lease.capacity.resources, policy_name=lease.policies_applied, policy_details=lease.policy_details,
            window_open=lease.window.open, force_reclaim_now=situation is not None and situation.forced,
            unreachable=not pairing.physical.reachability.reachable, deleting=situation is None,
            ready_unknown_since=pairing.unknown_since(), proxier_address=address,
            port=pairing.virtual.kubelet_ports.choose(vnode, address, existing),
            last_valid_policy=remembered.text() if remembered else "", closed_at=closing,
            last_valid_lender_policy=of_lender.text() if of_lender else "",
            conditions=situation.conditions if situation else (),
        )

    async def _write(self, existing: Json, desired: Json, name: str) -> None:
        calls, vnode = self.pairing.virtual.calls, name_of(existing)
        if expected_is_corrupt(existing):
            message = "the record of what was wanted last cannot be read; it is replaced"
            self.pairing.events.event(existing, "Warning", "ExpectedMetadataCorrupt", message)
        node_patch, status_patch = diff_vnode(existing, desired)
        written = None
        if node_patch:
            written = await calls.patch(NODES, vnode, "", node_patch)
        if status_patch:
            written = await calls.patch(NODES, vnode, "", status_patch, kind=PatchType.STRATEGIC, subresource="status")
        if written:
            self.controller.freshness.expect(name, self.pairing.virtual.nodes, written)

    # --- removing --------------------------------------------------------------------------------------------------
    async def _vanished(self, name: str, existing: Json | None) -> Result:
        if existing is None:
            return Result()
        try:
            live = await self.pairing.physical.calls.get(NODES, name)
        except NotFound as answer:
            if not proves_absence(answer):
                raise
            await self.pairing.physical.identity.confirm()
            self.pairing.gone_nodes.add(name)
            return await self._remove(existing, None, None)
        self.controller.freshness.expect(name, self.pairing.physical.nodes, live)
        return Result(0.1)

    async def _remove(self, existing: Json, physical: Json | None, lease: Lease | None) -> Result:
        """Take one step towards the end of a virtual node."""
        name = physical_name_of(existing)
        if not is_deleting(existing):
            if physical is not None and lease is not None:
                await self._write(existing, build_vnode(self._vnode_facts(physical, existing, lease, None)), name)
            else:
                await self._drain.cordon(existing)
        if await self._drain.step(existing, lease):
            return Result(DRAIN_POLL)
        if not is_deleting(existing):
            try:
                written = await self.pairing.virtual.calls.delete(NODES, name_of(existing), uid=uid_of(existing))
            except NotFound:
                return Result()
            self.controller.freshness.expect(name, self.pairing.virtual.nodes, written)
            log.info("virtual node removed", vnode=name_of(existing), binding=self.pairing.binding_name)
            return Result(0.05)  # with its deletionTimestamp seen, the finalizer goes
        await self._leases.remove(existing)
        await self._release(existing, name)
        return Result()

    async def _release(self, existing: Json, name: str) -> None:
        if patch := build_release_patch(existing):
            try:
                written = await self.pairing.virtual.calls.patch(NODES, name_of(existing), "", patch)
            except NotFound:
                return
            self.controller.freshness.expect(name, self.pairing.virtual.nodes, written)

    def _complain_of_stranger(self, existing: Json) -> None:
        wants = f"ClusterBinding {self.pairing.binding_name} wants a virtual node of this name"
        self.pairing.events.event(existing, "Warning", "NameTaken", f"{wants}, but this Node is not its own; it is left alone")


def _taken_by(entry: Entry[PhysicalPod] | None) -> tuple[str, object] | None:
    if entry is None or entry.summary.ours or not entry.summary.node or not entry.summary.requests:
        return None
    return entry.summary.node, entry.summary.requests


def _seconds_until(moments: Iterable[datetime | None], now: datetime) -> float | None:
    """Return the seconds until the first of `moments`, None when there is none."""
    first = min((moment for moment in moments if moment), default=None)
    return None if first is None else max(0.0, (first - now).total_seconds())
