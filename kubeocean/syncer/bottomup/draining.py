"""Emptying a virtual node before it goes: asked politely first, through the Eviction API, so that disruption budgets count.

A budget may say no for a while. When the policy's `reclaimTimeoutSeconds` have passed since the node was closed for good (an
instant noted on the node, so it outlives this process), the lender's word counts last and the Pods are deleted, with an Event.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from kubeocean.api import names
from kubeocean.domain.leasing import Lease
from kubeocean.domain.reclaim import closed_at, next_to_ask, note_instant, rank
from kubeocean.kube.meta import Json, name_of, resource_version_of
from kubeocean.kube.resources import NODES
from kubeocean.syncer.bottomup.evictions import Evictor, NodePods
from kubeocean.syncer.pairing import Pairing

DEFAULT_TIMEOUT = 300  # seconds, as spec.reclaimTimeoutSeconds has it


class Drain:
    """Empties virtual nodes of one binding, a step at a time."""

    def __init__(self, pairing: Pairing, pods: NodePods, evictor: Evictor) -> None:
        self._pairing, self._pods, self._evictor = pairing, pods, evictor

    async def cordon(self, vnode: Json) -> None:
        """Close a virtual node whose physical one is gone: there is nothing left to build it from."""
        spec = vnode.get("spec") or {}
        taints = [taint for taint in spec.get("taints") or [] if taint["key"] != names.VNODE_DELETING_TAINT]
        if spec.get("unschedulable") and drained_since(vnode):
            return
        taints.append({"key": names.VNODE_DELETING_TAINT, "value": "true", "effect": "NoSchedule"})
        since = note_instant(drained_since(vnode) or self._pairing.clock())
        patch: Json = {
            "metadata": {
                "resourceVersion": resource_version_of(vnode), "annotations": {names.CLOSED_AT_ANNOTATION: since},
            },
            "spec": {"unschedulable": True, "taints": taints},
        }
        await self._pairing.virtual.calls.patch(NODES, name_of(vnode), "", patch)

    async def step(self, vnode: Json, lease: Lease | None) -> bool:
        """Ask some more of the node's Pods to leave; returns whether any is still there."""
        name, now = name_of(vnode), self._pairing.clock()
        # `kubectl drain` leaves Pods of DaemonSets alone for the same reason: evicted, they are back at once, for ever.
        pods = [pod for pod in self._pods.of(name) if not pod.comes_back]
        staying = rank(pod for pod in pods if not pod.leaving)
        batch, _ = next_to_ask(staying, self._evictor.asked(name), now)
        overdue = self._overdue(vnode, lease)
        for pod in batch:
            if overdue:
                why = "a disruption budget kept this Pod for too long; its node is taken back now"
                await self._evictor.delete(name, pod, why=why)
            else:
                await self._evictor.ask(name, pod, why="its virtual node is not leased any more")
        if not pods:
            self._evictor.forget(name)
        return bool(pods)

    def _overdue(self, vnode: Json, lease: Lease | None) -> bool:
        since = drained_since(vnode)
        timeout = lease.terms.reclaim_timeout_seconds if lease and lease.terms else DEFAULT_TIMEOUT
        return since is not None and self._pairing.clock() > since + timedelta(seconds=timeout)


def drained_since(vnode: Json | None) -> datetime | None:
    """Return since when a virtual node is closed for good, as noted on it; None: it is not, or not yet.

    `closed-at` alone does not say: a window may have been shut for days before the lease itself ended.
    """
    taints = ((vnode or {}).get("spec") or {}).get("taints") or ()
    return closed_at(vnode) if any(taint["key"] == names.VNODE_DELETING_TAINT for taint in taints) else None
