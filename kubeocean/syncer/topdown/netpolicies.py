"""NetworkPolicies that hold for Pods of ours, carried to where these Pods run.

Flow: a virtual policy, its copy, a Pod of its namespace or (where a selector asks for them) a Namespace changes -> the *virtual
policy's key* is queued -> the pass brings the copy to what `domain.netpolicymap` says. Only policies of namespaces that have
Pods on this binding's nodes are copied; when the last of these has ended the copies stay for KEPT seconds, for the next Pod of
a Job.

The gate: a promise of security that is silently broken is worse than a Pod that does not run. So a twin is not created before
every policy that selects its Pod is in force in the physical cluster, and not at all where the lender does not let us write
policies, or keeps an object under the name of one: the Pod says which policy, why, and what would help. For Pods that run
already when such a policy appears, an Event on the policy says that it is not enforced. Whether a lender's network enforces
policies at all, nobody can ask an API server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from math import inf

import structlog

from kubeocean.clusters.podsummary import VirtualPod
from kubeocean.clusters.virtual import BY_NAMESPACE, BY_NODE
from kubeocean.domain.mirrors import decide_copy, origin_uid_of
from kubeocean.domain.naming import physical_name
from kubeocean.domain.netpolicymap import Labels, map_policy, needs_namespaces, policy_content, selects
from kubeocean.kube.controller import Controller, Result
from kubeocean.kube.errors import Forbidden, KubeError
from kubeocean.kube.meta import Json, ObjectKey, is_deleting, key_of, labels_of, name_of, namespace_of
from kubeocean.kube.resources import NETWORKPOLICIES
from kubeocean.kube.store import Entry
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.proofs import read_virtual
from kubeocean.syncer.topdown.copies import NOT_READ_YET, POLL, REFUSED_RETRY, Copies, NameTaken, remove_all
from kubeocean.syncer.topdown.dependencies import Blocked, may_run
from kubeocean.syncer.topdown.refusals import REFUSED, may_pass

NOT_ENFORCED = "NetworkPolicyNotEnforced"
KEPT = 60.0  # seconds that copies outlast the last Pod of their namespace
GUARDS_STILL = 10.0  # seconds between looks at twins that a copy nobody else needs still guards

log = structlog.get_logger(__name__)

class NetworkPolicyMirror:
    """Mirrors network policies of one binding; `wake` is called with every virtual Pod whose policies changed their state."""

    def __init__(self, pairing: Pairing, wake: Callable[[ObjectKey], None]) -> None:
        self.pairing, self.name = pairing, f"network policies of {pairing.binding_name}"
        self.controller: Controller[ObjectKey] = Controller(
            f"networkpolicies-{pairing.binding_name}", self.reconcile, workers=2
        )
        self.copies = Copies(pairing, NETWORKPOLICIES)
        self._wake = wake
        self._pods: dict[str, set[ObjectKey]] = {}  # ours that have not ended, by namespace
        self._emptied: dict[str, float] = {}  # loop time at which a namespace lost the last of them
        self._in_force: dict[ObjectKey, int] = {}  # policy -> the revision of it that its copy says
        self._refused: dict[ObjectKey, str] = {}
        self._waiting: dict[ObjectKey, set[ObjectKey]] = {}  # policy -> Pods
        self._ending = False

    # --- the gate ------------------------------------------------------------------------------------------------------
    def check(self, vpod: Json) -> Blocked | None:
        """See dependencies.Gate."""
        policies = self.pairing.virtual.network_policies.store.by_index(BY_NAMESPACE, namespace_of(vpod))
        lacking = [entry for entry in policies if self._in_force.get(entry.key) != entry.revision]
        missing = [entry.key for entry in lacking if selects(entry.object(), vpod)]
        for policy in missing:
            self._waiting.setdefault(policy, set()).add(key_of(vpod))
            self._add_pod(key_of(vpod))
            self.controller.enqueue(policy)
        refused = next((policy for policy in missing if policy in self._refused), None)
        if refused:
            why = f"NetworkPolicy {refused.name} selects this Pod, and cannot be enforced: {self._refused[refused]}"
            return Blocked(NOT_ENFORCED, why)
        return Blocked() if missing else None

    def _changed_state(self, key: ObjectKey) -> None:
        for pod in self._waiting.pop(key, ()):
            self._wake(pod)

    # --- listening -----------------------------------------------------------------------------------------------------
    def attach(self) -> None:
        """See dependencies.Gate."""
        virtual = self.pairing.virtual
        self.pairing.listen(virtual.nodes, self._node_changed)
        self.pairing.listen_to_own_pods(self._pod_changed)
        self.pairing.listen(virtual.network_policies, self._policy_changed)
        self.pairing.listen(virtual.namespaces.informer, self._namespace_changed)
        self.copies.informer.add_handler(self._copy_changed)

    def _policy_changed(self, old: Entry[str] | None, new: Entry[str] | None) -> None:
        if entry := new or old:
            if new is None:
                self._changed_state(entry.key)
            self.controller.enqueue(entry.key)

    def _copy_changed(self, old: Entry[ObjectKey | None] | None, new: Entry[ObjectKey | None] | None) -> None:
        for entry in filter(None, (old, new)):
            if entry.summary:
                self._in_force.pop(entry.summary, None)  # until the pass has seen what became of it
                self.controller.enqueue(entry.summary)
            else:  # somebody took off what it is a copy of: its original knows it by its name
                self._enqueue_all()

    def _namespace_changed(self, old: Entry[None] | None, new: Entry[None] | None) -> None:
        if not self.pairing.virtual.namespaces.informer.has_synced:
            return  # whoever needs them looks again until they are read
        if not (old and new) or labels_of(old.object()) != labels_of(new.object()):
            for entry in self.pairing.virtual.network_policies.store.entries():
                if needs_namespaces(entry.object()):
                    self.controller.enqueue(entry.key)

    def _pod_changed(self, old: Entry[VirtualPod] | None, new: Entry[VirtualPod] | None) -> None:
        if old and new and (old.summary.node, old.summary.finished) == (new.summary.node, new.summary.finished):
            return
        if new and may_run(self.pairing, new):
            self._add_pod(new.key)
        elif entry := new or old:
            self._drop_pod(entry.key)

    def _node_changed(self, old: Entry[str] | None, new: Entry[str] | None) -> None:
        # Pods may have been seen before the node they are bound to.
        if new and old is None and self.pairing.physical_node_behind(new.object()):
            for entry in self.pairing.virtual.pods.store.by_index(BY_NODE, new.key.name):
                self._pod_changed(None, entry)

    def _add_pod(self, key: ObjectKey) -> None:
        pods = self._pods.get(key.namespace)
        if pods is None:
            pods = self._pods[key.namespace] = set()
            self._emptied.pop(key.namespace, None)
            self._enqueue_namespace(key.namespace)
        pods.add(key)

    def _drop_pod(self, key: ObjectKey) -> None:
        pods = self._pods.get(key.namespace)
        if pods is None or key not in pods:
            return
        pods.discard(key)
        if not pods:
            del self._pods[key.namespace]
            self._emptied[key.namespace] = asyncio.get_running_loop().time()
            self._enqueue_namespace(key.namespace)

    def _enqueue_namespace(self, namespace: str) -> None:
        for entry in self.pairing.virtual.network_policies.store.by_index(BY_NAMESPACE, namespace):
            self.controller.enqueue(entry.key)

    def _enqueue_all(self) -> None:
        for entry in self.pairing.virtual.network_policies.store.entries():
            self.controller.enqueue(entry.key)

    def spec_changed(self) -> None:
        """See dependencies.Gate. No field of the spec says anything about policies."""

    # --- running -------------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """See dependencies.Gate."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.copies.informer.run(), name=f"informer {self.copies.informer.name}")
            tasks.create_task(self.controller.run(), name=self.controller.name)

    async def reconcile(self, key: ObjectKey) -> Result:
        """Bring the copy of one virtual policy to what it should be."""
        entry = self.pairing.virtual.network_policies.store.get(key)
        used_for = self._used_for(key.namespace) if entry else 0.0
        policy = entry.object() if entry and used_for > 0 else None
        try:
            if not self.copies.check_readable():
                return Result(NOT_READ_YET)
            if policy is None:
                return await self._take_away(key, gone=entry is None)
            return await self._carry(key, policy, used_for)
        except (NameTaken, *REFUSED) as refused:
            if may_pass(refused, self.controller.queue.failures(key) + 1):
                raise
            if policy:
                self._refuse(key, policy, refused)
            return Result(REFUSED_RETRY)

    def _used_for(self, namespace: str) -> float:
        """Return for how many seconds copies of a namespace's policies are wanted: inf while it has Pods, 0 for none."""
        if self._ending:
            return 0.0
        if namespace in self._pods:
            return inf
        left = self._emptied.get(namespace, -inf) + KEPT - asyncio.get_running_loop().time()
        return max(0.0, left)

    async def _carry(self, key: ObjectKey, policy: Json, used_for: float) -> Result:
        pairing, namespaces = self.pairing, self._namespaces(policy)
        if namespaces is None:
            return Result(NOT_READ_YET)
        wanted = map_policy(policy, pairing.owner, pairing.physical.mount_namespace, namespaces)
        existing = self.copies.get(physical_name(key.name, key.namespace))
        step = decide_copy(wanted, existing, policy_content)
        if pause := await self.copies.apply(step, self.controller, key):
            self._refuse(key, policy, self.copies.fight_over(name_of(wanted)))
            return Result(pause)
        if step is None and existing and not is_deleting(existing):
            self._enforced(key)
        return Result(used_for if used_for < inf else None)

    async def _take_away(self, key: ObjectKey, *, gone: bool) -> Result:
        existing = self.copies.get(physical_name(key.name, key.namespace))
        if existing and not self._ending:
            if not gone and self._guards_twins(key.namespace):
                return Result(GUARDS_STILL)
            if gone and not await self._is_gone(key, existing):
                return Result(NOT_READ_YET)
        self._forget(key)
        await self.copies.apply(decide_copy(None, existing, policy_content), self.controller, key)
        return Result()

    def _namespaces(self, policy: Json) -> Mapping[str, Labels] | None:
        """Return the labels of all virtual namespaces, as far as the policy asks for them; None until they are read."""
        if not needs_namespaces(policy):
            return {}
        informer = self.pairing.virtual.namespaces.demand()
        if not informer.has_synced:
            return None
        return {entry.key.name: labels_of(entry.object()) for entry in informer.store.entries()}

    def _guards_twins(self, namespace: str) -> bool:
        """Tell whether twins of a virtual namespace are left: one may live on when our cache has lost its Pod or node."""
        twins = (entry.summary.virtual for entry in self.pairing.physical.pods.store.entries())
        return any(virtual is not None and virtual.namespace == namespace for virtual in twins)

    async def _is_gone(self, key: ObjectKey, copy: Json) -> bool:
        """Prove that the original is gone; False while the cache has to catch up."""
        policies = self.pairing.virtual.network_policies
        if policies.was_deleted(origin_uid_of(copy)):
            return True
        live = await read_virtual(self.pairing, NETWORKPOLICIES, key)
        if live:
            self.controller.freshness.expect(key, policies, live)
        return live is None

    def _enforced(self, key: ObjectKey) -> None:
        entry = self.pairing.virtual.network_policies.store.get(key)
        self._refused.pop(key, None)
        if entry and self._in_force.get(key) != entry.revision:
            self._in_force[key] = entry.revision
            self._changed_state(key)

    def _refuse(self, key: ObjectKey, policy: Json, refused: KubeError) -> None:
        remedy = "; the lender can grant it with `kubeocean rbac`" if isinstance(refused, Forbidden) else ""
        why = f"ClusterBinding {self.pairing.binding_name}: {refused}{remedy}"
        if self._refused.get(key) != why:
            self._refused[key] = why
            self._in_force.pop(key, None)
            message = f"not enforced on the physical cluster, and Pods it selects are not started there: {why}"
            log.warning("network policy not enforced", policy=str(key), why=why)
            self.pairing.events.event(policy, "Warning", NOT_ENFORCED, message)
            self._changed_state(key)

    def _forget(self, key: ObjectKey) -> None:
        self._in_force.pop(key, None)
        self._refused.pop(key, None)
        self._changed_state(key)

    def suspects(self) -> Iterator[ObjectKey]:
        """See dependencies.Gate. What is refused is known, and looked at again anyhow."""
        if not self.copies.informer.has_synced:
            return
        for entry in self.pairing.virtual.network_policies.store.entries():
            if entry.key.namespace in self._pods and entry.key not in self._refused and self._differs(entry.object()):
                yield entry.key
        for copy in self.copies.informer.store.entries():
            origin = copy.summary
            if origin and self.pairing.virtual.network_policies.store.get(origin) is None and not is_deleting(copy.object()):
                yield origin

    def _differs(self, policy: Json) -> bool:
        namespaces = self._namespaces(policy)
        if namespaces is None:
            return False
        wanted = map_policy(policy, self.pairing.owner, self.pairing.physical.mount_namespace, namespaces)
        return decide_copy(wanted, self.copies.get(name_of(wanted)), policy_content) is not None

    def reconsider(self, key: ObjectKey) -> None:
        """See dependencies.Gate."""
        self.controller.enqueue(key)

    # --- the end -------------------------------------------------------------------------------------------------------
    async def take_back(self) -> None:
        """See dependencies.Gate."""
        self._ending = True
        while await remove_all(self.pairing, NETWORKPOLICIES):
            await asyncio.sleep(POLL)
