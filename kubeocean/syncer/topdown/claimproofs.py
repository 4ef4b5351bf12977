"""What must be shown live before a claim's twins, our marks, or a volume of ours may go.

A cache that lacks something proves nothing, and here a mistake costs data. Each of these reads the servers themselves; where
they contradict the cache, the key waits until the cache has caught up, and is decided anew.
"""

from __future__ import annotations

from kubeocean.domain.claimorigin import is_mere_description, is_proved, may_stand_for, stands_for, tell_origin
from kubeocean.domain.claimpair import ClaimFacts, is_doomed, keeper
from kubeocean.domain.marks import marked_selector
from kubeocean.domain.naming import provisioned_volume_name, volume_twin_names
from kubeocean.domain.ownership import is_ours
from kubeocean.domain.provisioning import is_held_by
from kubeocean.domain.volumemap import virtual_claim_uid_of
from kubeocean.kube.freshness import Freshness
from kubeocean.kube.meta import Json, ObjectKey, is_deleting, name_of, resource_version_of, uid_of
from kubeocean.kube.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.proofs import read_physical, read_virtual


class ClaimProofs:
    """Asks the servers on behalf of one binding."""

    def __init__(self, pairing: Pairing, freshness: Freshness[ObjectKey]) -> None:
        self._pairing, self._freshness = pairing, freshness

    async def may_remove(self, facts: ClaimFacts) -> bool:
        """Prove that nobody wants the twins any more: neither their claim nor a volume that keeps its data."""
        live = await read_virtual(self._pairing, PERSISTENTVOLUMECLAIMS, facts.key)
        cached = facts.claim
        if live is not None and (cached is None or resource_version_of(live) != resource_version_of(cached)):
            self._freshness.expect(facts.key, self._pairing.virtual.storage.claims, live)
            return False
        if live is None and cached is not None:
            return False  # its end will bring us back
        twin = facts.twin
        if twin is None or is_mere_description(twin, map(name_of, facts.twin_volumes)):
            return True
        return await self._is_nobodys_data(facts, twin)

    async def _is_nobodys_data(self, facts: ClaimFacts, twin: Json) -> bool:
        """Prove that no virtual volume stands for what is behind a physical claim, or that the one that does may go with it."""
        origin = tell_origin(twin, facts.proved, uid_of(facts.claim) if facts.claim else "") or virtual_claim_uid_of(twin)
        if not origin:
            return False  # somebody took our note off: nothing shows whose it is
        name = provisioned_volume_name(facts.cluster_id, origin)
        volume = await read_virtual(self._pairing, PERSISTENTVOLUMES, ObjectKey("", name))
        if volume is None:
            return await self._stands_for_nothing(facts, twin)
        known = next((each for each in facts.volumes if name_of(each) == name), None)
        if known is None or resource_version_of(known) != resource_version_of(volume):
            self._freshness.expect(facts.key, self._pairing.virtual.storage.volumes, volume)
            return False
        over = facts.claim is None or uid_of(facts.claim) != origin or is_deleting(facts.claim)
        elsewhere = facts.claim is not None and facts.claim["spec"].get("volumeName") not in (None, "", name)
        doomed = is_doomed(volume, origin) and (over or elsewhere)
        # What the claim says of itself may have been changed: only what its volume confirms goes without another look.
        return doomed and (is_proved(volume, twin) or await self._stands_for_nothing(facts, twin, besides=name))

    async def _stands_for_nothing(self, facts: ClaimFacts, twin: Json, *, besides: str = "") -> bool:
        """Prove that no virtual volume of ours stands for what is behind a physical claim, whatever that says of itself."""
        pairing = self._pairing
        await pairing.virtual.identity.confirm()
        live = (await pairing.virtual.calls.list(PERSISTENTVOLUMES, label_selector=marked_selector(facts.cluster_id))).items
        named = [*facts.provisioned, *(each for each in live if is_held_by(each, facts.twin_key, facts.cluster_id))]
        return not any(name_of(each) != besides and may_stand_for(each, twin) for each in named)

    async def nothing_left(self, facts: ClaimFacts) -> bool:
        """Prove that no twin of a claim is left; one that is kept for its volume's sake does not count."""
        if keeper(facts) is None and await self._physical(facts, facts.twin_key) is not None:
            return False
        owner = self._pairing.owner.annotation
        for name in (name for volume in facts.volumes for name in volume_twin_names(name_of(volume), owner)):
            if await self._physical(facts, ObjectKey("", name)) is not None:
                return False
        return True

    async def data_is_gone(self, facts: ClaimFacts, volume: Json) -> bool:
        """Prove that the physical claim with the data of a virtual volume is gone."""
        twin = await self._physical(facts, facts.twin_key)
        return twin is None or not stands_for(volume, twin)

    async def _physical(self, facts: ClaimFacts, key: ObjectKey) -> Json | None:
        """Return what is ours under a name, None when nothing is."""
        resource = PERSISTENTVOLUMECLAIMS if key.namespace else PERSISTENTVOLUMES
        live = await read_physical(self._pairing, resource, key)
        return live if live is not None and is_ours(live, self._pairing.owner) else None
