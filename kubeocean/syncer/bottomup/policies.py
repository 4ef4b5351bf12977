"""Tells each policy of the binding what it does: is it valid, is its window open, which nodes follow it, how much is lent.

Flow: a policy changes, or the node controller decided differently about a node it selects -> the policy's name is queued ->
the pass sums up what was decided (`Pairing.leases`) -> one status patch, if it says anything new. Amounts change with every
foreign Pod, so changes are gathered for a second first.

A policy carries our finalizer while its binding lives: when it is deleted, its nodes are looked at again before it goes.
"""

from __future__ import annotations

from kubeocean.api import names
from kubeocean.api.resources import RESOURCELEASINGPOLICIES
from kubeocean.domain.policies import Policy
from kubeocean.domain.policystatus import PolicyFacts, diff_policy_status, sum_leased
from kubeocean.domain.windows import state
from kubeocean.kube.controller import Controller, Result
from kubeocean.kube.errors import NotFound
from kubeocean.kube.meta import Json, ObjectKey, finalizers_of, is_deleting, name_of, resource_version_of
from kubeocean.kube.store import Entry
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.unbinding import drop_policy_finalizer

GATHER = 1.0  # seconds


class PolicyController:
    """Keeps finalizer and status of the virtual cluster's policies that name this binding."""

    def __init__(self, pairing: Pairing) -> None:
        self._pairing = pairing
        self.controller: Controller[str] = Controller(f"policies-{pairing.binding_name}", self.reconcile, workers=2)

    def attach(self) -> None:
        """Listen to the policies; those known already are queued as well."""
        self._pairing.listen(self._pairing.virtual.policies, self._policy_changed)

    def enqueue(self, policy: str) -> None:
        """Look at `policy` soon: what was decided about one of its nodes has changed."""
        self.controller.queue.add_after(policy, GATHER)

    def _policy_changed(self, _: Entry[Policy] | None, new: Entry[Policy] | None) -> None:
        if new and new.summary.cluster == self._pairing.binding_name:
            self.controller.enqueue(new.key.name)

    async def reconcile(self, name: str) -> Result:
        """Bring one policy's finalizer and status up to date."""
        entry = self._pairing.virtual.policies.store.get(ObjectKey("", name))
        if entry is None or entry.summary.cluster != self._pairing.binding_name or self._pairing.unbinding:
            return Result()
        policy, obj = entry.summary, entry.object()
        if is_deleting(obj):
            return await self._end(obj)
        if names.POLICY_FINALIZER not in finalizers_of(obj):
            await self._hold(obj)
            return Result()
        facts = self._facts(policy, obj)
        if patch := diff_policy_status(facts):
            written = await self._pairing.virtual.calls.patch(RESOURCELEASINGPOLICIES, name, "", patch, subresource="status")
            self.controller.freshness.expect(name, self._pairing.virtual.policies, written)
        change = facts.window.revisit_at if facts.window else None
        return Result(max(0.0, (change - self._pairing.clock()).total_seconds()) if change else None)

    def _facts(self, policy: Policy, obj: Json) -> PolicyFacts:
        pairing = self._pairing
        leases = pairing.leases.values()
        won = [lease for lease in leases if lease.choice.winner and lease.choice.winner.name == policy.name]
        overshadowed_by = tuple(
            lease.choice.winner.name for lease in leases
            if lease.choice.winner and any(loser.name == policy.name for loser in lease.choice.losers)
        )
        zone = (policy.spec.time_zone if policy.spec else None) or pairing.spec.time_zone or pairing.options.time_zone
        return PolicyFacts(
            obj=obj, policy=policy, binding_exists=True,
            window=state(policy.spec.time_windows, zone, pairing.clock()) if policy.spec else None,
            won=len(won), overshadowed_by=overshadowed_by, leased=sum_leased(lease.capacity.resources for lease in won),
            now=pairing.clock(),
        )

    async def _hold(self, obj: Json) -> None:
        patch = {"metadata": {
            "resourceVersion": resource_version_of(obj), "finalizers": [*finalizers_of(obj), names.POLICY_FINALIZER],
        }}
        await self._patch(obj, patch)

    async def _end(self, obj: Json) -> Result:
        """Let a deleted policy go once no node follows it any more."""
        if any(lease.choice.winner and lease.choice.winner.name == name_of(obj) for lease in self._pairing.leases.values()):
            return Result(GATHER)  # its deletion has queued these nodes; they decide anew any moment
        await drop_policy_finalizer(self._pairing.virtual, obj)
        return Result()

    async def _patch(self, obj: Json, patch: Json) -> None:
        try:
            written = await self._pairing.virtual.calls.patch(RESOURCELEASINGPOLICIES, name_of(obj), "", patch)
        except NotFound:
            return
        self.controller.freshness.expect(name_of(obj), self._pairing.virtual.policies, written)
