"""Taking virtual nodes back: whoever has to leave is asked to, and everybody concerned is told.

Flow: the pass over a node decides how it stands (`domain.takeback`), writes what the node shows (taints, conditions) and
queues the node here when Pods have to leave -> this pass decides anew before each Pod it asks, so that a window that opens
in the middle stops it at once -> the Pod's deletion comes back through the watch and wakes the pass over the node, which
finds that nobody is left, or that time is up, and adds NoExecute.

Evictions have a queue of their own because they are slow and paced: at an edge that closes many nodes, none of them may wait
for its taint until another one is empty. No Pod is asked before the virtual node itself shows why: else the scheduler
would put its successor right back, and a new leader would not know since when.
"""

from __future__ import annotations

from kubeocean.api.resources import RESOURCELEASINGPOLICIES
from kubeocean.domain.announcements import Announcement, announce, to_latecomer
from kubeocean.domain.leasing import Lease
from kubeocean.domain.naming import vnode_name
from kubeocean.domain.policies import Choice
from kubeocean.domain.reclaim import AT_ONCE, NodePod, closed_at
from kubeocean.domain.takeback import Situation, exceeded_since, stand
from kubeocean.kube.controller import Controller, Result
from kubeocean.kube.meta import Json, ObjectKey, is_deleting, name_of
from kubeocean.syncer.bottomup.evictions import Evictor, NodePods, reference
from kubeocean.syncer.pairing import Pairing


class Reclaim:
    """Evicts from the virtual nodes of one binding what may not stay. Keys are names of physical nodes."""

    def __init__(self, pairing: Pairing) -> None:
        self._pairing = pairing
        self.pods, self.evictor = NodePods(pairing), Evictor(pairing)
        self.controller: Controller[str] = Controller(f"reclaim-{pairing.binding_name}", self.reconcile, workers=4)
        self._situations: dict[str, Situation] = {}  # by physical node, as its last pass found it

    # --- for the pass over a node ------------------------------------------------------------------------------------
    def stand(self, node: str, existing: Json | None, lease: Lease) -> Situation:
        """Return how physical node `node` stands now, whether its virtual node is there already (or, deleted, not) or not."""
        name = vnode_name(self._pairing.spec.cluster_id, node)
        return stand(lease, existing, self.pods.of(name), self._pairing.clock(), self.evictor.asked(name))

    def follow(self, node: str, existing: Json | None, situation: Situation) -> None:
        """Take that physical node `node` now shows how it stands: announce what changed, and evict who may not stay."""
        self._situations[node] = situation
        if existing is None:
            return
        for announcement in announce(existing, situation):
            self._tell(existing, situation.lease, announcement)
        if situation.evicts:
            self.controller.enqueue(node)
        elif not situation.waits_for_pods:
            self.evictor.forget(name_of(existing))

    def forget(self, node: str) -> None:
        """Take that a physical node is not leased any more."""
        self._situations.pop(node, None)

    def waits_for_pods(self, node: str) -> bool:
        """Tell whether what happens to Pods of this physical node may change at once how it stands."""
        situation = self._situations.get(node)
        return situation is not None and situation.waits_for_pods

    def welcome(self, node: str, vnode: str, pod_key: ObjectKey) -> None:
        """Warn a Pod that was placed just now on a node whose lease is about to end; the others were warned before."""
        situation = self._situations.get(node)
        if situation is None or situation.notice.ends_at is None:
            return
        for pod in self.pods.of(vnode):
            if pod.key == pod_key and (announcement := to_latecomer(situation, pod)):
                self._tell_pods(announcement)

    # --- one pass ----------------------------------------------------------------------------------------------------
    async def reconcile(self, node: str) -> Result:
        """Ask some more of a node's Pods to leave, if they have to."""
        for _ in range(AT_ONCE):
            if (found := self._next(node)) is None:
                break
            existing, situation, pod = found
            if pod in situation.overhang.delete:
                why = "more runs on its node than is leased of it, and a disruption budget kept this Pod for too long"
                await self.evictor.delete(name_of(existing), pod, why=why)
            else:
                await self.evictor.ask(name_of(existing), pod, why=_why(situation))
        return Result()  # the pass over the node knows when to look again, and queues it here then

    def _next(self, node: str) -> tuple[Json, Situation, NodePod] | None:
        """Return who has to leave next, as of now; None when nobody has to at this moment."""
        lease = self._pairing.leases.get(node)  # as of the last pass over the node, which every change brings about
        key = ObjectKey("", vnode_name(self._pairing.spec.cluster_id, node))
        existing = self._pairing.virtual.nodes.store.object(key)
        if lease is None or existing is None or is_deleting(existing):
            return None
        situation = self.stand(node, existing, lease)
        leaving: tuple[NodePod, ...] = ()
        if closed_at(existing):
            leaving = situation.reclaim.evict
        if exceeded_since(existing):
            leaving += situation.overhang.evict + situation.overhang.delete
        return (existing, situation, leaving[0]) if leaving else None

    # --- telling -----------------------------------------------------------------------------------------------------
    def _tell(self, vnode: Json, lease: Lease, announcement: Announcement) -> None:
        events = self._pairing.events
        events.event(vnode, announcement.kind, announcement.reason, announcement.message)
        if policy := self._policy(lease.choice):
            events.event(policy, announcement.kind, announcement.reason, announcement.message)
        self._tell_pods(announcement)

    def _tell_pods(self, announcement: Announcement) -> None:
        for pod in announcement.pods:
            self._pairing.events.event(reference(pod), "Warning", announcement.reason, announcement.to_pods)

    def _policy(self, choice: Choice) -> Json | None:
        """Return a reference to the borrower's policy; the lender's is an object of another cluster, with its own Events."""
        if choice.winner is None:
            return None
        return {
            "apiVersion": RESOURCELEASINGPOLICIES.api_version, "kind": RESOURCELEASINGPOLICIES.kind,
            "name": choice.winner.name, "uid": choice.winner.uid,
        }


def _why(situation: Situation) -> str:
    if situation.reclaim.evict:
        return "the time window of its virtual node is shut, and the node is taken back"
    return f"more runs on its virtual node than is leased of it: {situation.overhang.text}"
