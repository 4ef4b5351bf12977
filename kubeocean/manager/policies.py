"""Speaks for policies that no syncer speaks for: those whose binding does not exist.

They are told so in their status, and our finalizer, left there by a binding that is gone, is taken off when they are
deleted: it must never keep anybody waiting for a program that does not run.
"""

from __future__ import annotations

from kubeocean.api import names
from kubeocean.api.resources import RESOURCELEASINGPOLICIES
from kubeocean.clusters.virtual import VirtualCluster
from kubeocean.domain.policies import Policy
from kubeocean.domain.policystatus import PolicyFacts, diff_policy_status
from kubeocean.domain.windows import state
from kubeocean.kube.clock import Clock, real_time
from kubeocean.kube.controller import Controller, Result
from kubeocean.kube.errors import NotFound
from kubeocean.kube.meta import Json, ObjectKey, finalizers_of, is_deleting, name_of, resource_version_of
from kubeocean.kube.store import Entry


class OrphanPolicyController:
    """Reconciles ResourceLeasingPolicies without a binding, by name."""

    def __init__(self, virtual: VirtualCluster, *, time_zone: str, clock: Clock = real_time) -> None:
        self._virtual, self._time_zone, self._clock = virtual, time_zone, clock
        self.controller: Controller[str] = Controller("resourceleasingpolicy", self.reconcile, workers=2)

    async def run(self) -> None:
        """Work until cancelled."""
        self._virtual.policies.add_handler(self._policy_changed)
        self._virtual.bindings.add_handler(self._binding_changed)
        try:
            await self.controller.run()
        finally:
            self._virtual.policies.remove_handler(self._policy_changed)
            self._virtual.bindings.remove_handler(self._binding_changed)

    def _policy_changed(self, _: Entry[Policy] | None, new: Entry[Policy] | None) -> None:
        if new:
            self.controller.enqueue(new.key.name)

    def _binding_changed(self, old: Entry[None] | None, new: Entry[None] | None) -> None:
        if old and new is None:
            for entry in self._virtual.policies.store.entries():
                if entry.summary.cluster == old.key.name:
                    self.controller.enqueue(entry.key.name)

    async def reconcile(self, name: str) -> Result:
        """Bring one policy up to date if it has no binding; otherwise it is its syncer's."""
        entry = self._virtual.policies.store.get(ObjectKey("", name))
        if entry is None or self._virtual.bindings.store.get(ObjectKey("", entry.summary.cluster)):
            return Result()
        obj = entry.object()
        if names.POLICY_FINALIZER in finalizers_of(obj):
            await self._patch(obj, {"metadata": {
                "resourceVersion": resource_version_of(obj),
                "finalizers": [item for item in finalizers_of(obj) if item != names.POLICY_FINALIZER],
            }})
            return Result()
        if not is_deleting(obj) and (patch := diff_policy_status(self._facts(entry.summary, obj))):
            await self._patch(obj, patch, subresource="status")
        return Result()

    def _facts(self, policy: Policy, obj: Json) -> PolicyFacts:
        zone = (policy.spec.time_zone if policy.spec else None) or self._time_zone
        return PolicyFacts(
            obj=obj, policy=policy, binding_exists=False, won=0, overshadowed_by=(), leased={}, now=self._clock(),
            window=state(policy.spec.time_windows, zone, self._clock()) if policy.spec else None,
        )

    async def _patch(self, obj: Json, patch: Json, *, subresource: str = "") -> None:
        try:
            written = await self._virtual.calls.patch(RESOURCELEASINGPOLICIES, name_of(obj), "", patch, subresource=subresource)
        except NotFound:
            return
        self.controller.freshness.expect(name_of(obj), self._virtual.policies, written)
