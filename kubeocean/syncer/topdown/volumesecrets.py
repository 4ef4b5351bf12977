"""The Secrets that drivers of physical volumes read: copied like those of Pods, and kept as long as a volume needs them.

The copies are the Secret source's (`objects`); here is only who needs them. A driver may still need its Secret to detach a
volume whose claim is gone, so the volume itself counts, until the server has let go of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from kubeocean.api import names
from kubeocean.clusters.storage import BY_SECRET, PhysicalStorage, PhysicalVolume
from kubeocean.domain.depmap import copy_key
from kubeocean.kube.errors import Forbidden
from kubeocean.kube.meta import ObjectKey
from kubeocean.kube.store import Entry
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.topdown.dependencies import Blocked
from kubeocean.syncer.topdown.objects import ObjectSource

_LOOK: Final = 0.1  # seconds between looks whether a cache is full, or will never be


class VolumeSecrets:
    """See `objectkeeper.Demand`; `enqueue` is called with every claim that waits for a Secret when there is news of it."""

    def __init__(
        self, pairing: Pairing, storage: PhysicalStorage, supply: ObjectSource, enqueue: Callable[[ObjectKey], None]
    ) -> None:
        self._pairing, self._storage, self._supply, self._enqueue = pairing, storage, supply, enqueue
        self._wanted: dict[ObjectKey, set[ObjectKey]] = {}  # Secret -> claims whose volume has to be made, or is there
        supply.serve(self)

    @property
    def labels(self) -> Mapping[str, str]:
        """See Demand."""
        return {names.USED_BY_PV_LABEL: "true"}

    async def settled(self) -> None:
        """See Demand. Where we may not see volumes, there are none of ours."""
        volumes = self._storage.volumes
        while not volumes.has_synced and not isinstance(volumes.last_error, Forbidden):
            await asyncio.sleep(_LOOK)

    def needs(self, key: ObjectKey) -> bool:
        """See Demand."""
        if key in self._wanted:
            return True
        place = copy_key(key, self._pairing.physical.mount_namespace)
        return bool(self._storage.volumes.store.by_index(BY_SECRET, str(place)))

    def wake(self, key: ObjectKey) -> None:
        """See Demand."""
        for claim in self._wanted.get(key, ()):
            self._enqueue(claim)

    def attach(self) -> None:
        """Listen to the physical volumes, whose caches are full by now."""
        self._storage.volumes.add_handler(self._volume_changed)

    def _volume_changed(self, old: Entry[PhysicalVolume] | None, new: Entry[PhysicalVolume] | None) -> None:
        if old and new is None:
            for place in old.summary.secrets:
                if copy := self._supply.keeper.copies.store.get(place):
                    self._supply.reconsider(copy.summary.origin)

    def want(self, claim: ObjectKey, secrets: Iterable[ObjectKey]) -> Blocked | None:
        """Have the Secrets of a claim's volume copied; returns what hinders, None when all of them are there."""
        blocked: list[Blocked] = []
        for secret in secrets:
            if secret not in self._wanted:
                self._wanted[secret] = set()
                self._supply.reconsider(secret)
            self._wanted[secret].add(claim)
            if answer := self._supply.demand(secret):
                blocked.append(answer)
        return next((answer for answer in blocked if answer.reason), blocked[0] if blocked else None)

    def release(self, claim: ObjectKey) -> None:
        """Take that a claim is over: from here on only volumes that still exist count."""
        for secret, claims in list(self._wanted.items()):
            claims.discard(claim)
            if not claims:
                del self._wanted[secret]
                self._supply.reconsider(secret)
