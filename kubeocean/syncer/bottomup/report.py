"""Tells on the binding how much runs through it: `nodes` and `pods`, for `kubectl get cb`.

Counts change with every Pod, the binding should not: they are compared every few seconds and written when they differ.
"""

from __future__ import annotations

import asyncio

import structlog

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.kube.errors import KubeError, NotLeading
from kubeocean.kube.meta import Json, ObjectKey, format_time, is_deleting
from kubeocean.syncer import gauges
from kubeocean.syncer.pairing import Pairing

REPORT_EVERY = 3.0  # seconds

log = structlog.get_logger(__name__)


class BindingReporter:
    """Writes the counts of one binding."""

    def __init__(self, pairing: Pairing) -> None:
        self._pairing = pairing

    async def run(self) -> None:
        """Report until cancelled or no longer leading."""
        with gauges.shown(self._pairing):
            while True:
                await asyncio.sleep(REPORT_EVERY)
                try:
                    await self._report()
                except NotLeading:
                    raise
                except KubeError as error:
                    log.warning("binding not reported", binding=self._pairing.binding_name, error=str(error))

    async def _report(self) -> None:
        binding = self._pairing.virtual.bindings.store.object(ObjectKey("", self._pairing.binding_name))
        if binding is None or is_deleting(binding):
            return
        counts = self._counts()
        status = binding.get("status") or {}
        if any(status.get(key) != value for key, value in counts.items()):
            # Only scalar fields of ours: they need no precondition beyond this being the same binding.
            patch = {
                "metadata": {"uid": self._pairing.binding_uid},
                "status": counts | {"lastSyncTime": format_time(self._pairing.real_time())},
            }
            await self._pairing.virtual.calls.patch(
                CLUSTERBINDINGS, self._pairing.binding_name, "", patch, subresource="status"
            )

    def _counts(self) -> Json:
        twins = sum(entry.summary.ours for entry in self._pairing.physical.pods.store.entries())
        return {"nodes": len(self._pairing.own_vnodes()), "pods": twins}
