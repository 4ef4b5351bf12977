"""Making Pods leave a virtual node: asked through the Eviction API, so that disruption budgets count, or deleted.

Both callers (a node that goes, a node that is taken back) go by the same pace, which stands in `domain.reclaim`; whom was
asked when is remembered here, in memory: a process that has forgotten asks again, and that harms nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from kubeocean.clusters.podsummary import VirtualPod
from kubeocean.clusters.virtual import BY_NODE
from kubeocean.domain.hostports import is_placeholder
from kubeocean.domain.reclaim import NodePod, read_node_pod
from kubeocean.kube.answers import blocked_by_disruption_budget, forbidden_by_terminating_namespace
from kubeocean.kube.errors import Conflict, Forbidden, NotFound, ServerError, TooManyRequests
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import PODS
from kubeocean.kube.store import Entry
from kubeocean.syncer.pairing import Pairing

REMEMBERED = timedelta(minutes=1)  # longer than a round through all Pods of a node takes

log = structlog.get_logger(__name__)


class NodePods:
    """The Pods of virtual nodes as `NodePod`s. What was read of a Pod is kept until it changes."""

    def __init__(self, pairing: Pairing) -> None:
        self._pairing = pairing
        self._read: dict[str, dict[str, tuple[Entry[VirtualPod], NodePod]]] = {}  # vnode -> uid

    def of(self, vnode: str) -> list[NodePod]:
        """Return the Pods that are bound to a virtual node, without the placeholder of its host ports: nobody moves that."""
        bound = self._pairing.virtual.pods.store.by_index(BY_NODE, vnode)
        entries = [entry for entry in bound if not is_placeholder(entry.key)]
        if not entries:
            self._read.pop(vnode, None)
            return []
        before = self._read.get(vnode, {})
        now = {}
        for entry in entries:
            known = before.get(entry.uid)
            now[entry.uid] = known if known and known[0] is entry else (entry, read_node_pod(entry.object()))
        self._read[vnode] = now
        return [pod for _, pod in now.values()]


class Evictor:
    """Asks Pods to leave, or deletes them."""

    def __init__(self, pairing: Pairing) -> None:
        self._pairing = pairing
        self._asked: dict[str, dict[str, datetime]] = {}  # vnode -> uid
        self._refusals: dict[str, dict[str, str]] = {}  # vnode -> uid -> what was answered last, so that it is told once

    def asked(self, vnode: str) -> Mapping[str, datetime]:
        """Return when Pods of the node, by uid, were asked last, as far as that still matters."""
        now, asked = self._pairing.clock(), self._asked.get(vnode)
        if not asked:
            return {}
        recent = {uid: moment for uid, moment in asked.items() if now - REMEMBERED < moment <= now}
        self._asked[vnode] = recent
        return recent

    def forget(self, vnode: str) -> None:
        """Take that nobody has to leave the node any more."""
        self._asked.pop(vnode, None)
        self._refusals.pop(vnode, None)

    async def ask(self, vnode: str, pod: NodePod, *, why: str) -> None:
        """Ask a Pod to leave; `why` is told to it when it does, and once what keeps it when it may not."""
        self._asked.setdefault(vnode, {})[pod.uid] = self._pairing.clock()
        eviction: Json = {
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": pod.key.name, "namespace": pod.key.namespace},
            "deleteOptions": {"preconditions": {"uid": pod.uid}},
        }
        try:
            await self._pairing.virtual.calls.create(PODS, eviction, subresource="eviction", name=pod.key.name)
        except (NotFound, Conflict):
            return  # gone, or another Pod by now
        except TooManyRequests as error:
            if blocked_by_disruption_budget(error):
                self._refused(vnode, pod, str(error))
        except ServerError as error:
            # Such as "more than one PodDisruptionBudget": no reason to stop for the others.
            self._refused(vnode, pod, str(error))
        except Forbidden as error:
            if not forbidden_by_terminating_namespace(error):
                raise  # an Eviction is a creation; in a namespace that ends, the Pod goes with it
        else:
            self._pairing.events.event(reference(pod), "Normal", "Evicted", why)
            log.info("evicted", pod=str(pod.key), vnode=vnode)

    def _refused(self, vnode: str, pod: NodePod, answer: str) -> None:
        told = self._refusals.setdefault(vnode, {})
        if told.get(pod.uid) != answer:
            told[pod.uid] = answer
            self._pairing.events.event(reference(pod), "Warning", "EvictionBlocked", answer)

    async def delete(self, vnode: str, pod: NodePod, *, why: str) -> None:
        """Delete a Pod that was asked for too long."""
        self._asked.setdefault(vnode, {})[pod.uid] = self._pairing.clock()
        self._pairing.events.event(reference(pod), "Warning", "ReclaimTimeout", why)
        try:
            await self._pairing.virtual.calls.delete(PODS, pod.key.name, pod.key.namespace, uid=pod.uid)
        except (NotFound, Conflict):
            return
        log.warning("deleted, for it could not be evicted in time", pod=str(pod.key), vnode=vnode)


def reference(pod: NodePod) -> Json:
    """Return what an Event needs to know of its Pod."""
    return {"apiVersion": "v1", "kind": "Pod", "namespace": pod.key.namespace, "name": pod.key.name, "uid": pod.uid}
