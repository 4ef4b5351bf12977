"""Tells each policy of the binding what it does: is it valid, is its window open, which nodes follow it, how much is lent.

Flow: a policy changes, or the node controller decided differently about a node it selects -> the policy's name is queued ->
the pass sums up what was decided (`Pairing.leases`) -> one status patch, if it says anything new. Amounts change with every
foreign Pod, so changes are gathered for a second first. After a start nothing is said, and no policy let go, before every
node has been decided about: a sum over half of them would be written, and then written again.

A policy carries our finalizer while its binding lives: when it is deleted, its nodes are looked at again before it goes.

The lender's policies have their own controller (`lenderpolicies`); how a policy fares is gathered here for both.
"""

from __future__ import annotations

from collections.abc import Callable

from kubeocean.api import names
from kubeocean.api.resources import RESOURCELEASINGPOLICIES
from kubeocean.domain.leasing import Lease
from kubeocean.domain.policies import Choice, Policy
from kubeocean.domain.policystatus import PolicyFacts, diff_policy_status, sum_leased
from kubeocean.domain.terms import is_readable
from kubeocean.domain.windows import WindowState, state
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

    def lease_changed(self, lease: Lease) -> None:
        """Look soon at the policies that this was decided by: it is news, or no longer true."""
        for policy in lease.choice.heard:
            self.controller.queue.add_after(policy.name, GATHER)

    def _policy_changed(self, _: Entry[Policy] | None, new: Entry[Policy] | None) -> None:
        if new and new.summary.cluster == self._pairing.binding_name:
            self.controller.enqueue(new.key.name)

    async def reconcile(self, name: str) -> Result:
        """Bring one policy's finalizer and status up to date."""
        entry = self._pairing.virtual.policies.store.get(ObjectKey("", name))
        if entry is None or entry.summary.cluster != self._pairing.binding_name or self._pairing.unbinding:
            return Result()
        policy, obj = entry.summary, entry.object()
        if not is_deleting(obj) and names.POLICY_FINALIZER not in finalizers_of(obj):
            await self._hold(obj)
            return Result()
        if self._pairing.undecided_nodes:
            return Result(GATHER)
        if is_deleting(obj):
            return await self._end(obj)
        facts = gather_facts(self._pairing, policy, obj, own=lambda lease: lease.choice, other=lambda lease: lease.lender)
        if patch := diff_policy_status(facts):
            written = await self._pairing.virtual.calls.patch(RESOURCELEASINGPOLICIES, name, "", patch, subresource="status")
            self.controller.freshness.expect(name, self._pairing.virtual.policies, written)
        return Result(seconds_until_change(facts))

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


def gather_facts(
    pairing: Pairing, policy: Policy, obj: Json, *, own: Callable[[Lease], Choice], other: Callable[[Lease], Choice]
) -> PolicyFacts:
    """Return how a policy fares with this binding; `own` and `other` pick its side's choice out of a lease, and not its."""
    won, overshadowed_by, beside = [], [], []
    for lease in pairing.leases.values():
        winner = own(lease).winner
        if winner and winner.name == policy.name:
            won.append(lease)
            beside += [together.name for together in (other(lease).winner,) if together]
        elif winner and any(loser.name == policy.name for loser in own(lease).losers):
            overshadowed_by.append(winner.name)
    zone = (policy.spec.time_zone if policy.spec else None) or pairing.spec.time_zone or pairing.options.time_zone
    window, known = None, policy.spec is None or is_readable(policy.spec, zone)
    if policy.spec:
        window = state(policy.spec.time_windows, zone, pairing.clock()) if known else WindowState(open=False)
    return PolicyFacts(
        obj=obj, policy=policy, binding_exists=True, zone_known=known, window=window, won=len(won),
        overshadowed_by=tuple(overshadowed_by), leased=sum_leased(lease.capacity.resources for lease in won),
        now=pairing.clock(), binding_name=pairing.binding_name, beside=tuple(beside),
    )


def seconds_until_change(facts: PolicyFacts) -> float | None:
    """Return in how many seconds time alone changes what the status says, None for never."""
    change = facts.window.revisit_at if facts.window else None
    return max(0.0, (change - facts.now).total_seconds()) if change else None
