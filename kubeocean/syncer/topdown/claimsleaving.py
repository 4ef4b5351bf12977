"""Unbinding, as far as claims go: the passes take everything back that may go, here the servers are asked what is left.

A physical claim that holds data waits for its user: he deletes his claim (or moves the data), or the binding says Force. Then
the data stays where it is, the virtual side is let go of, and an Event on the binding says what was left and where.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from kubeocean.api import names
from kubeocean.clusters.mountuse import list_ours
from kubeocean.clusters.storage import PhysicalStorage
from kubeocean.domain.claimorigin import is_proved
from kubeocean.domain.marks import marked_selector
from kubeocean.domain.provisioning import holder_of, is_provisioned, is_provisioned_claim, origin_of
from kubeocean.domain.volumemap import virtual_claim_of
from kubeocean.kube.errors import Conflict, Forbidden
from kubeocean.kube.meta import Json, ObjectKey, key_of
from kubeocean.kube.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.surrender import SILENCE_TO_LET_GO
from kubeocean.syncer.topdown.marking import unmark
from kubeocean.syncer.unbinding import force_requested

POLL: Final = 0.5  # seconds between looks
DATA_LEFT: Final = "ProvisionedClaimsLeft"
NAMED: Final = 10  # claims that a message names

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Left:
    """What the servers show: keys of virtual claims to be looked at, physical claims with data, marked virtual objects."""

    keys: set[ObjectKey] = field(default_factory=set)
    data: dict[ObjectKey, ObjectKey] = field(default_factory=dict)  # physical claim -> virtual claim
    carried: int = 0  # twins that hold no data
    marked: list[Json] = field(default_factory=list)
    lost: set[ObjectKey] = field(default_factory=set)  # virtual claims whose data is gone with its physical claim
    refused: str = ""  # why the lender does not let us look, "" when he does

    def __bool__(self) -> bool:
        return bool(self.data or self.carried or self.marked)


class ClaimsLeaving:
    """Waits until nothing is left; `enqueue` is called with the claims that need a pass."""

    def __init__(
        self, pairing: Pairing, storage: PhysicalStorage, enqueue: Callable[[ObjectKey], None],
        release: Callable[[ObjectKey], None],
    ) -> None:
        self._pairing, self._storage, self._enqueue, self._release = pairing, storage, enqueue, release
        self._said = ""
        self._stuck_since: float | None = None  # loop time

    async def finish(self) -> None:
        """Return when no claim, volume or mark of ours is left on either side, or only what Force allows to leave."""
        while left := await self._look():
            if self._may_leave(left):
                if left.data:
                    self._record(left)
                await self._let_go(left)
                break
            for key in left.keys:
                self._enqueue(key)
            self._say(left)
            await asyncio.sleep(POLL)
        self._pairing.obstacle = ""

    def _may_leave(self, left: Left) -> bool:
        """Tell whether what is left may stay: data only by Force, the rest when it is refused to us for good.

        One refusal proves nothing: a server that starts again, or whose rules are being applied anew, refuses for a moment.
        """
        now = asyncio.get_running_loop().time()
        if not (left.refused or left.lost):
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = now
        lasts = self._stuck_since is not None and now - self._stuck_since >= SILENCE_TO_LET_GO
        if left.refused:
            return lasts and (not left.data or self._forced())
        return (bool(left.data) or lasts) and not left.carried and self._forced()

    async def _look(self) -> Left:
        left = Left()
        virtual, selector = self._pairing.virtual.calls, marked_selector(self._pairing.spec.cluster_id)
        for resource in (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES):
            left.marked += (await virtual.list(resource, label_selector=selector)).items
        provisioned = [volume for volume in left.marked if is_provisioned(volume)]
        for obj in await self._twins(left):
            virtual_key = virtual_claim_of(obj)
            left.keys.add(virtual_key)
            if is_provisioned_claim(obj) or any(is_proved(each, obj) for each in provisioned if holder_of(each) == key_of(obj)):
                left.data[key_of(obj)] = virtual_key
            else:
                left.carried += 1
        for obj in left.marked:
            left.keys.add(_claim_of(obj))
            if is_provisioned(obj) and holder_of(obj) not in left.data:
                if left.refused:
                    left.data[holder_of(obj)] = origin_of(obj)
                else:
                    left.lost.add(origin_of(obj))
        return left

    async def _twins(self, left: Left) -> list[Json]:
        """Return what is ours in the physical cluster, as far as we may look; note it where we may not."""
        physical, owner = self._pairing.physical, self._pairing.owner
        selector = f"{names.OWNER_LABEL}={owner.label}"
        found: list[Json] = []
        for resource, namespace in ((PERSISTENTVOLUMECLAIMS, physical.mount_namespace), (PERSISTENTVOLUMES, "")):
            try:
                found += await list_ours(physical.calls, resource, namespace, owner, selector)
            except Forbidden as error:
                left.refused = str(error)
                log.warning("storage is not looked at", binding=self._pairing.binding_name, error=str(error))
        return found

    def _forced(self) -> bool:
        binding = self._pairing.virtual.bindings.store.object(ObjectKey("", self._pairing.binding_name))
        return binding is not None and force_requested(binding)

    def _say(self, left: Left) -> None:
        """Tell on the binding what its unbinding waits for: in its condition while it lasts, in an Event when it changes."""
        if not left.data:
            self._pairing.obstacle = f"waits for a look at the claims, {left.refused}" if left.refused else ""
            if left.lost:
                self._pairing.obstacle = (
                    f"waits for {_list(left.lost)}: the physical claims that held their data are gone. Delete these "
                    "PersistentVolumeClaims (and the volumes that outlive them), or set spec.deletionPolicy: Force"
                )
            return
        message = (
            f"waits for {_list(left.data.values())}: physical claims hold their data. Delete these PersistentVolumeClaims (and "
            "the volumes that outlive them), or set spec.deletionPolicy: Force to leave the data in the physical cluster"
        )
        if left.refused:
            message += f". They cannot be looked at ({left.refused}): the lender can grant it again with `kubeocean rbac`"
        self._pairing.obstacle = message
        if message != self._said:
            self._said = message
            self._tell(message)

    def _tell(self, message: str) -> None:
        if binding := self._pairing.virtual.bindings.store.object(ObjectKey("", self._pairing.binding_name)):
            self._pairing.events.event(binding, "Warning", DATA_LEFT, message)

    def _record(self, left: Left) -> None:
        physical = ", ".join(str(key) for key in sorted(left.data)[:NAMED])
        message = (
            f"released by force: the data of {_list(left.data.values())} stays in the physical cluster, in {len(left.data)} "
            f"claims with label {names.OWNER_LABEL}={self._pairing.owner.label}: {physical}"
        )
        self._tell(message)
        log.warning("data left behind", binding=self._pairing.binding_name, claims=[str(key) for key in left.data])

    async def _let_go(self, left: Left) -> None:
        """Take our marks off; the virtual volumes stay and name where the data is."""
        while left.marked:
            for obj in left.marked:
                resource = PERSISTENTVOLUMES if obj["kind"] == PERSISTENTVOLUMES.kind else PERSISTENTVOLUMECLAIMS
                with suppress(Conflict):  # the next look sees it as it is then
                    await unmark(self._pairing.virtual, resource, obj, self._pairing.spec.cluster_id)
                self._release(_claim_of(obj))  # else its Secrets would be needed for ever
            left = await self._look()


def _claim_of(obj: Json) -> ObjectKey:
    if obj["kind"] == PERSISTENTVOLUMECLAIMS.kind:
        return key_of(obj)
    if is_provisioned(obj):
        return origin_of(obj)
    reference = obj["spec"].get("claimRef") or {}
    return ObjectKey(reference.get("namespace") or "", reference.get("name") or "")


def _list(keys: Iterable[ObjectKey]) -> str:
    claims = sorted(set(keys))
    more = f" and {len(claims) - NAMED} more" if len(claims) > NAMED else ""
    return ", ".join(map(str, claims[:NAMED])) + more
