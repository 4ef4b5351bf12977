"""Emptying a virtual node before it goes: asked politely first, through the Eviction API, so that disruption budgets count.

A budget may say no for a while. When the policy's `reclaimTimeoutSeconds` have passed since the node was closed (an instant
noted on the node, so it outlives this process), the lender's word counts last and the Pods are deleted, with an Event.
"""

from __future__ import annotations

from datetime import timedelta

from kubeocean.api import names
from kubeocean.clusters.podsummary import VirtualPod
from kubeocean.clusters.virtual import BY_NODE
from kubeocean.domain.leasing import Lease
from kubeocean.domain.reclaim import closed_at
from kubeocean.kube.answers import forbidden_by_terminating_namespace
from kubeocean.kube.errors import Forbidden, NotFound, TooManyRequests
from kubeocean.kube.meta import Json, format_time, name_of, resource_version_of
from kubeocean.kube.resources import NODES, PODS
from kubeocean.kube.store import Entry
from kubeocean.syncer.pairing import Pairing

DEFAULT_TIMEOUT = 300  # seconds, as spec.reclaimTimeoutSeconds has it
AT_ONCE = 10  # evictions per pass: paced, so that a large node does not flood the API server


class Drain:
    """Empties virtual nodes of one binding, a step at a time."""

    def __init__(self, pairing: Pairing) -> None:
        self._pairing = pairing

    async def cordon(self, vnode: Json) -> None:
        """Close a virtual node whose physical one is gone: there is nothing left to build it from."""
        spec = vnode.get("spec") or {}
        taints = [taint for taint in spec.get("taints") or [] if taint["key"] != names.VNODE_DELETING_TAINT]
        if spec.get("unschedulable") and len(taints) != len(spec.get("taints") or []) and closed_at(vnode):
            return
        taints.append({"key": names.VNODE_DELETING_TAINT, "value": "true", "effect": "NoSchedule"})
        since = format_time(closed_at(vnode) or self._pairing.clock())
        patch: Json = {
            "metadata": {
                "resourceVersion": resource_version_of(vnode), "annotations": {names.CLOSED_AT_ANNOTATION: since},
            },
            "spec": {"unschedulable": True, "taints": taints},
        }
        await self._pairing.virtual.calls.patch(NODES, name_of(vnode), "", patch)

    async def step(self, vnode: Json, lease: Lease | None) -> bool:
        """Ask some more of the node's Pods to leave; returns whether any is still there."""
        pods = self._pairing.virtual.pods.store.by_index(BY_NODE, name_of(vnode))
        staying = [pod for pod in pods if not pod.summary.deleting]
        overdue = self._overdue(vnode, lease)
        for pod in staying[:AT_ONCE]:
            try:
                await (self._delete(pod) if overdue else self._evict(pod))
            except NotFound:
                continue
            except TooManyRequests:
                continue  # its budget says not now; the next step asks again
            except Forbidden as error:
                if not forbidden_by_terminating_namespace(error):
                    raise
                continue  # an Eviction is a creation; the Pod goes with its namespace
        return bool(pods)

    def _overdue(self, vnode: Json, lease: Lease | None) -> bool:
        since = closed_at(vnode)
        remembered = lease.remembered if lease else None
        timeout = remembered.spec.reclaim_timeout_seconds if remembered else DEFAULT_TIMEOUT
        return since is not None and self._pairing.clock() > since + timedelta(seconds=timeout)

    async def _evict(self, pod: Entry[VirtualPod]) -> None:
        eviction: Json = {
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": pod.key.name, "namespace": pod.key.namespace},
            "deleteOptions": {"preconditions": {"uid": pod.uid}},
        }
        await self._pairing.virtual.calls.create(PODS, eviction, subresource="eviction", name=pod.key.name)

    async def _delete(self, pod: Entry[VirtualPod]) -> None:
        message = "a disruption budget kept this Pod for too long; its node is taken back now"
        self._pairing.events.event(pod.object(), "Warning", "ReclaimTimeout", message)
        await self._pairing.virtual.calls.delete(PODS, pod.key.name, pod.key.namespace, uid=pod.uid)
