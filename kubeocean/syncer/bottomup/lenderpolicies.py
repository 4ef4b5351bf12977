"""Tells each of the lender's policies what it does to this binding, and tells the borrower how he stands with the lender.

Flow as for the borrower's policies (`policies`): a policy or a decision about its nodes changes -> its name is queued -> what
was decided is summed up -> one status patch in the physical cluster, if it says anything new. `domain.lenderstatus` says which
part of that status is ours.

A lender's policy gets no finalizer from us: what the lender deletes is gone, and the nodes follow. One that the Go project left
there would keep it for ever, so that is taken off a deleted policy as soon as no node follows it.

The lender need not let us write. Then his policies count all the same, and an Event on the binding says what he does not see.
"""

from __future__ import annotations

from kubeocean.api import names
from kubeocean.api.resources import RESOURCELEASINGPOLICIES
from kubeocean.domain.leasing import Lease
from kubeocean.domain.lender import Standing
from kubeocean.domain.lenderstatus import diff_lender_status, diff_withdrawal
from kubeocean.domain.policies import Policy
from kubeocean.kube.controller import Controller, Result
from kubeocean.kube.errors import Forbidden, NotFound
from kubeocean.kube.events import Kind
from kubeocean.kube.meta import Json, ObjectKey, finalizers_of, is_deleting, name_of, resource_version_of
from kubeocean.kube.store import Entry
from kubeocean.syncer.bottomup.policies import GATHER, gather_facts, seconds_until_change
from kubeocean.syncer.bottomup.policywatch import is_for
from kubeocean.syncer.pairing import Pairing

ASK_AGAIN = 60.0  # seconds between attempts at a write that the lender has not granted


class LenderPolicyController:
    """Keeps our part of the status of the physical cluster's policies."""

    def __init__(self, pairing: Pairing) -> None:
        self._pairing, self._lender = pairing, pairing.physical.lender
        self._stood = Standing.UNREAD  # what was said of last
        self.controller: Controller[str] = Controller(f"lender-policies-{pairing.binding_name}", self.reconcile, workers=2)

    def attach(self) -> None:
        """Listen to the policies, and to how we stand with the lender."""
        self._lender.add_handler(self._policy_changed)
        self._lender.subscribe(self._say_standing)

    def lease_changed(self, lease: Lease) -> None:
        """Look soon at the policies that this was decided by: it is news, or no longer true."""
        for policy in lease.lender.heard:
            self.controller.queue.add_after(policy.name, GATHER)

    def _policy_changed(self, _: Entry[Policy] | None, new: Entry[Policy] | None) -> None:
        if new:
            self.controller.enqueue(new.key.name)

    async def reconcile(self, name: str) -> Result:
        """Bring our part of one policy's status up to date."""
        entry = self._lender.get(name)
        if entry is None:
            return Result()
        obj = entry.object()
        try:
            if self._pairing.unbinding or not is_for(entry.summary, self._pairing):
                await self._patch(obj, diff_withdrawal(obj, self._pairing.as_borrower()), "status")
                return Result()
            if self._pairing.undecided_nodes:
                return Result(GATHER)  # what half of the nodes say would be written, and then written again
            if is_deleting(obj):
                return await self._end(obj)
            return await self._tell(entry.summary, obj)
        except Forbidden as error:
            self._say("LenderPermissionMissing", f"{error}; his policies are honoured, but he does not see what they do")
            return Result(ASK_AGAIN)

    async def _tell(self, policy: Policy, obj: Json) -> Result:
        borrower = self._pairing.as_borrower()
        facts = gather_facts(self._pairing, policy, obj, own=lambda lease: lease.lender, other=lambda lease: lease.choice)
        patch = diff_lender_status(facts, borrower, await self._lender.status_fields())
        await self._patch(obj, patch, "status")
        return Result(seconds_until_change(facts))

    async def _end(self, obj: Json) -> Result:
        if names.POLICY_FINALIZER not in finalizers_of(obj):
            return Result()
        leases = self._pairing.leases.values()
        if any(lease.lender.winner and lease.lender.winner.name == name_of(obj) for lease in leases):
            return Result(GATHER)  # its deletion has queued these nodes; they decide anew any moment
        kept = [finalizer for finalizer in finalizers_of(obj) if finalizer != names.POLICY_FINALIZER]
        await self._patch(obj, {"metadata": {"resourceVersion": resource_version_of(obj), "finalizers": kept}})
        return Result()

    async def _patch(self, obj: Json, patch: Json | None, subresource: str = "") -> None:
        if patch is None:
            return
        name = name_of(obj)
        try:
            written = await self._pairing.physical.calls.patch(
                RESOURCELEASINGPOLICIES, name, "", patch, subresource=subresource
            )
        except NotFound:
            return
        self.controller.freshness.expect(name, self._lender.informer, written)

    # --- telling the borrower ----------------------------------------------------------------------------------------
    def _say_standing(self, standing: Standing, why: str) -> None:
        before, self._stood = self._stood, standing
        if standing is Standing.NOT_GRANTED:
            remedy = "what policies the lender has are not honoured; he can grant it with `kubeocean rbac`"
            self._say("LenderPoliciesNotGranted", f"{why}; {remedy}")
        elif standing is Standing.UNKNOWN:
            so = "the lender's last known policies stay in force, and nothing new is leased"
            self._say("LenderPoliciesUnknown", f"{why}; {so}")
        elif standing in (Standing.READ, Standing.ABSENT) and before is Standing.UNKNOWN:
            self._say("LenderPoliciesKnown", "the lender's policies are known again", kind="Normal")

    def _say(self, reason: str, message: str, *, kind: Kind = "Warning") -> None:
        binding = self._pairing.virtual.bindings.store.object(ObjectKey("", self._pairing.binding_name))
        if binding is not None:
            self._pairing.events.event(binding, kind, reason, message)

