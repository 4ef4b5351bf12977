"""The pair of claim and volume that the Go project made for a claim, taken over as it is: both stay, and so do their Pods.

The volume comes first, with reclaim policy Retain: from the moment the claim is ours it may be deleted with its virtual claim,
and no data may go with it. A crash between the two leaves a volume of ours whose claim is still nobody's; the next pass adopts
that.
"""

from __future__ import annotations

import structlog

from kubeocean.clusters.storage import PhysicalStorage
from kubeocean.domain.adoption import build_adoption, is_unowned, may_adopt_copy, may_adopt_volume
from kubeocean.domain.claimpair import ClaimFacts
from kubeocean.domain.volumemap import RETAIN, ForgedVolume
from kubeocean.kube.errors import NotFound
from kubeocean.kube.freshness import Freshness
from kubeocean.kube.meta import Json, ObjectKey, name_of, namespace_of
from kubeocean.kube.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, Resource
from kubeocean.syncer.pairing import Pairing

log = structlog.get_logger(__name__)


class ClaimAdoption:
    """Adopts for one binding; what is written is expected of `storage` before a claim's next pass."""

    def __init__(self, pairing: Pairing, storage: PhysicalStorage, freshness: Freshness[ObjectKey]) -> None:
        self._pairing, self._storage, self._freshness = pairing, storage, freshness

    async def find(self, facts: ClaimFacts) -> Json | None:
        """Return whatever has the name of the claim's twin, live."""
        return await self._read(PERSISTENTVOLUMECLAIMS, facts.twin_key)

    async def take(self, facts: ClaimFacts, forged: ForgedVolume, claim: Json) -> bool:
        """Make `claim` and its volume ours if they are what `forged` describes, and nobody's; tell whether they are now."""
        owner = self._pairing.owner
        if not may_adopt_copy(claim, forged.claim):
            return False
        volume = await self._read(PERSISTENTVOLUMES, ObjectKey("", claim["spec"].get("volumeName") or ""))
        if volume is None or not may_adopt_volume(volume, claim, forged.volume, owner):
            return False
        if is_unowned(volume):
            patch = build_adoption(volume, forged.volume) | {"spec": {"persistentVolumeReclaimPolicy": RETAIN}}
            await self._write(facts, PERSISTENTVOLUMES, volume, patch)
        await self._write(facts, PERSISTENTVOLUMECLAIMS, claim, build_adoption(claim, forged.claim))
        log.info("claim adopted", claim=str(facts.key), physical=str(facts.twin_key), volume=name_of(volume))
        return True

    async def _read(self, resource: Resource, key: ObjectKey) -> Json | None:
        try:
            return await self._pairing.physical.calls.get(resource, key.name, key.namespace) if key.name else None
        except NotFound:
            return None

    async def _write(self, facts: ClaimFacts, resource: Resource, obj: Json, patch: Json) -> None:
        written = await self._pairing.physical.calls.patch(resource, name_of(obj), namespace_of(obj), patch)
        informer = self._storage.volumes if resource == PERSISTENTVOLUMES else self._storage.claims
        self._freshness.expect(facts.key, informer, written)
