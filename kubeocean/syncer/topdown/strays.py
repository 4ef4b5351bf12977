"""Physical Pods that carry our labels and cannot be anybody's twin: their annotations are missing, or name another Pod.

They come from a lender's hands (a copied manifest, annotations taken off). A true twin has the name that follows from its
virtual Pod's, so a stray is found by comparing the two. One that some virtual Pod may still claim, by that name or by the
uid it recorded, is that Pod's affair and goes to the Pod controller. The others are removed, after a live and complete list
of virtual Pods has proved that nobody claims them, and a live read that they are still ours; one list serves all strays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from kubeocean.clusters.podsummary import PhysicalPod
from kubeocean.domain.naming import physical_name
from kubeocean.domain.ownership import is_ours
from kubeocean.domain.podpair import recorded_twin
from kubeocean.kube.controller import Controller, Result
from kubeocean.kube.errors import NotFound
from kubeocean.kube.meta import Json, ObjectKey, is_deleting, key_of, uid_of
from kubeocean.kube.resources import PODS
from kubeocean.kube.store import Entry
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.proofs import read_physical_pod

_ALL = "all"  # one key: strays are looked at together
GATHER = 2.0  # seconds: each look lists every virtual Pod, so a whole crowd of strays shares one

log = structlog.get_logger(__name__)


class StrayController:
    """Removes the strays of one binding; `enqueue` is told the virtual Pods that claim one."""

    def __init__(self, pairing: Pairing, enqueue: Callable[[ObjectKey], None]) -> None:
        self._pairing, self._enqueue = pairing, enqueue
        self.controller: Controller[str] = Controller(f"strays-{pairing.binding_name}", self.reconcile, workers=1)

    def attach(self) -> None:
        """Listen to the physical Pods; those known already are looked at as well."""
        self._pairing.listen(self._pairing.physical.pods, self._changed)

    def _changed(self, _: Entry[PhysicalPod] | None, new: Entry[PhysicalPod] | None) -> None:
        if new and self._is_stray(new):
            self.controller.queue.add_after(_ALL, GATHER)

    def look_again(self) -> None:
        """Look for strays, although none has come up since the last look."""
        self.controller.queue.add_after(_ALL, GATHER)

    def _is_stray(self, entry: Entry[PhysicalPod]) -> bool:
        virtual = entry.summary.virtual
        if virtual is None or entry.key.namespace != self._pairing.physical.mount_namespace:
            return False
        return not (virtual.name and virtual.namespace) or physical_name(virtual.name, virtual.namespace) != entry.key.name

    async def reconcile(self, _: str) -> Result:
        """Hand over the strays that somebody claims, and remove the others."""
        strays = [
            entry for entry in self._pairing.physical.pods.store.entries()
            if self._is_stray(entry) and not is_deleting(entry.object())
        ]
        if not strays:
            return Result()
        claims = _claims((await self._pairing.virtual.calls.list(PODS)).items)
        await self._pairing.virtual.identity.confirm()
        for stray in strays:
            claimant = claims.get(stray.key.name) or claims.get(stray.uid)
            if claimant:
                self._enqueue(claimant)
            else:
                await self._remove(stray)
        return Result()

    async def _remove(self, stray: Entry[PhysicalPod]) -> None:
        live = await read_physical_pod(self._pairing, stray.key)
        if live is None or uid_of(live) != stray.uid:
            return  # its end is an event of its own
        if not is_ours(live, self._pairing.owner):
            self.controller.freshness.expect(_ALL, self._pairing.physical.pods, live)
            return
        try:
            answer = await self._pairing.physical.calls.delete(PODS, stray.key.name, stray.key.namespace, uid=stray.uid)
        except NotFound:
            return
        self.controller.freshness.expect(_ALL, self._pairing.physical.pods, answer)
        log.info("stray removed", pod=str(stray.key), why="it carries our labels, and no virtual Pod claims it")


def _claims(vpods: Iterable[Json]) -> dict[str, ObjectKey]:
    """Return which virtual Pod claims the twin of which name, and of which uid."""
    claims = {}
    for vpod in vpods:
        key = key_of(vpod)
        claims[physical_name(key.name, key.namespace)] = key
        if recorded := recorded_twin(vpod):
            claims[recorded] = key
    return claims
