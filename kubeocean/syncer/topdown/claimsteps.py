"""The calls behind each step of a claim (`domain.claimpair`), in an order that a crash cannot turn into loss.

Marks come before the first thing that is made in the physical cluster and go after the last one is proved gone; the physical
claim comes before its volume, which is reserved for the claim's uid. Every write carries the uid or resourceVersion it was
decided on; a claim that may hold data is deleted only after live reads of everything that could still want it.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import structlog

from kubeocean.clusters.storage import PhysicalStorage
from kubeocean.domain.claimpair import (
    DELETE_POLICY,
    Carry,
    ClaimFacts,
    DropVolume,
    GiveUp,
    Idle,
    NoteOrigin,
    Provision,
    Publish,
    Remove,
    Serve,
    Step,
    Unmark,
    why_over,
)
from kubeocean.domain.claimsize import build_growth, capacity, diff_claim_status, diff_request, reached
from kubeocean.domain.marks import is_marked
from kubeocean.domain.ownership import is_ours
from kubeocean.domain.provisioning import (
    PROVISIONING_FAILED,
    SELECTED_NODE,
    build_provisioned_claim,
    build_reset_patch,
    build_virtual_volume,
    check_claim,
    check_class,
    class_of,
    is_provisioned,
)
from kubeocean.domain.refusal import Refusal
from kubeocean.domain.volumeaffinity import read_node_names
from kubeocean.domain.volumemap import ForgedVolume, VolumeContext, build_origin_note, build_reminder, diff_volume, map_volume
from kubeocean.kube.client import PatchType
from kubeocean.kube.errors import AlreadyExists, BadRequest, Forbidden, Invalid, KubeError, NotFound
from kubeocean.kube.freshness import Freshness, Watermark
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, is_deleting, key_of, name_of, namespace_of, uid_of
from kubeocean.kube.quantity import Quantity
from kubeocean.kube.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES, Resource
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.topdown.claimadoption import ClaimAdoption
from kubeocean.syncer.topdown.claimproofs import ClaimProofs
from kubeocean.syncer.topdown.damping import Damper, log_fight
from kubeocean.syncer.topdown.dependencies import Blocked
from kubeocean.syncer.topdown.marking import mark, unmark
from kubeocean.syncer.topdown.volumesecrets import VolumeSecrets

RESET_EVERY = 10.0  # seconds between hints to the scheduler about one claim: it may choose the same node again

log = structlog.get_logger(__name__)


class NameTaken(KubeError):
    """Somebody else's object has the name of a twin; `reason` is the Event's."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Outcome(NamedTuple):
    """What a step led to: what a Pod is told that needs the claim, and in how many seconds to look again by ourselves."""

    blocked: Blocked | None = None
    again: float | None = None


class ClaimSteps:
    """Takes the steps of one binding."""

    def __init__(
        self, pairing: Pairing, storage: PhysicalStorage, secrets: VolumeSecrets, freshness: Freshness[ObjectKey]
    ) -> None:
        self._pairing, self._storage, self._secrets, self._freshness = pairing, storage, secrets, freshness
        self._virtual, self._physical = pairing.virtual.storage, pairing.physical
        self._proofs = ClaimProofs(pairing, freshness)
        self._adoption = ClaimAdoption(pairing, storage, freshness)
        self._notes: Damper[ObjectKey] = Damper()  # by claim: somebody may keep changing what its twin says of itself
        self._reset_at: dict[ObjectKey, float] = {}  # loop time

    async def take(self, facts: ClaimFacts, step: Step) -> Outcome:
        """Take one step. Raises NameTaken, and what the servers refuse."""
        match step, facts.claim:
            case Idle(reason, message), _:
                if facts.twin is None and not facts.twin_volumes and why_over(facts):
                    self._secrets.release(facts.key)  # its marks may have gone by another hand than ours
                return Outcome(Blocked(reason, message) if reason and (facts.needed or facts.selected is not None) else None)
            case Carry(volume), dict() as claim:
                return await self._carry(facts, claim, volume)
            case Serve(volume, twin), dict() as claim:
                return await self._serve(facts, claim, volume, twin)
            case Provision(node), dict() as claim:
                return await self._provision(facts, claim, node)
            case Publish(twin), dict() as claim:
                return await self._publish(facts, claim, twin)
            case GiveUp(message), dict() as claim:
                return await self._reset(facts, claim, Blocked(PROVISIONING_FAILED, message))
            case NoteOrigin(twin, uid, provisioned), _:
                return await self._note(facts, twin, uid, provisioned=provisioned)
            case _:
                await self._end(facts, step)
        return Outcome()

    def _context(self) -> VolumeContext:
        pairing = self._pairing
        nodes = (entry.object() for entry in pairing.physical.nodes.store.entries())
        names = read_node_names(nodes, pairing.spec.cluster_id, pairing.binding_name)
        return VolumeContext(pairing.owner, pairing.physical.mount_namespace, names, pairing.spec.allow_privileged)

    # --- a claim whose volume is of the virtual cluster ----------------------------------------------------------------
    async def _carry(self, facts: ClaimFacts, claim: Json, volume: Json) -> Outcome:
        forged = map_volume(claim, volume, self._context())
        if isinstance(forged, Refusal):
            return Outcome(Blocked(forged.reason, forged.message))
        if is_deleting(volume) and not is_marked(volume, facts.cluster_id):
            return Outcome(Blocked("PersistentVolumeTerminating", f"PersistentVolume {name_of(volume)} is being deleted"))
        if facts.twin is None and is_marked(claim, facts.cluster_id) and await self._take_up(facts, forged):
            return Outcome()
        forged = forged.for_twin(facts.twin)
        await self._mark(facts, claim, facts.twin_key)
        await self._mark(facts, volume, ObjectKey("", name_of(forged.volume)))
        if blocked := self._secrets.want(facts.key, forged.secrets):
            return Outcome(blocked)
        twin = facts.twin
        if twin is None:
            await self._create(facts, PERSISTENTVOLUMECLAIMS, forged.claim, "PhysicalClaimTaken")
            return Outcome()
        if is_deleting(twin):
            return Outcome(_terminating(facts))
        if (twin_volume := await self._keep_volume(facts, forged, twin)) is not None:
            if patch := build_reminder(twin, twin_volume):
                await self._patch_twin(facts, patch)
                return Outcome()
            await self._grow(facts, volume, max(capacity(twin_volume), reached(twin)))
        await self._pass_sizes(facts, claim, twin)
        return Outcome()

    async def _take_up(self, facts: ClaimFacts, forged: ForgedVolume) -> bool:
        """Tell whether a claim that is marked has its twin although no cache of ours shows it. Raises NameTaken.

        A process before us may have died, or have been the Go project's: its claim is adopted.
        """
        live = await self._adoption.find(facts)
        if live is None:
            return False
        if is_ours(live, self._pairing.owner):
            self._freshness.expect(facts.key, self._storage.claims, live)
        elif not await self._adoption.take(facts, forged, live):
            raise _taken(facts, PERSISTENTVOLUMECLAIMS, live, "PhysicalClaimTaken")
        return True

    async def _keep_volume(self, facts: ClaimFacts, forged: ForgedVolume, twin: Json) -> Json | None:
        """Make the physical volume what it should be; return it when it was already."""
        wanted = forged.volume
        live = next((each for each in facts.twin_volumes if name_of(each) == name_of(wanted)), None)
        if live is None:
            wanted["spec"]["claimRef"]["uid"] = uid_of(twin)
            await self._create(facts, PERSISTENTVOLUMES, wanted, "PhysicalVolumeTaken")
        elif not is_deleting(live) and (patch := diff_volume(live, wanted, twin)):
            written = await self._physical.calls.patch(PERSISTENTVOLUMES, name_of(live), "", patch)
            self._freshness.expect(facts.key, self._storage.volumes, written)
        else:
            return live
        return None

    async def _mark(self, facts: ClaimFacts, obj: Json, place: ObjectKey) -> None:
        if is_deleting(obj):
            return  # marked already, or `decide_claim` had not brought us here
        resource, informer = self._kind_of(obj)
        written = await mark(self._pairing.virtual, resource, obj, facts.cluster_id, place)
        self._freshness.expect(facts.key, informer, written)

    def _kind_of(self, obj: Json) -> tuple[Resource, Watermark]:
        if obj["kind"] == PERSISTENTVOLUMES.kind:
            return PERSISTENTVOLUMES, self._virtual.volumes
        return PERSISTENTVOLUMECLAIMS, self._virtual.claims

    async def _create(self, facts: ClaimFacts, resource: Resource, obj: Json, taken: str) -> None:
        calls = self._physical.calls
        informer = self._storage.volumes if resource == PERSISTENTVOLUMES else self._storage.claims
        try:
            stored = await calls.create(resource, obj)
        except AlreadyExists:
            stored = await calls.get(resource, name_of(obj), namespace_of(obj))
            if not is_ours(stored, self._pairing.owner):
                raise _taken(facts, resource, stored, taken) from None
        self._freshness.expect(facts.key, informer, stored)

    # --- a claim whose data is behind a physical claim -----------------------------------------------------------------
    async def _serve(self, facts: ClaimFacts, claim: Json, volume: Json, twin: Json) -> Outcome:
        await self._mark(facts, claim, facts.twin_key)
        place = ObjectKey("", twin["spec"].get("volumeName") or "")
        await self._mark(facts, volume, place)
        if is_deleting(twin):
            return Outcome(_terminating(facts))
        await self._grow(facts, volume, reached(twin))
        await self._pass_sizes(facts, claim, twin)
        return Outcome()

    async def _provision(self, facts: ClaimFacts, claim: Json, node: str) -> Outcome:
        if refusal := check_claim(claim) or await self._check_class(facts, claim, node):
            return await self._reset(facts, claim, Blocked(refusal.reason, refusal.message))
        if not is_deleting(claim):
            await self._mark(facts, claim, facts.twin_key)
            twin = build_provisioned_claim(claim, node, self._context())
            try:
                await self._create(facts, PERSISTENTVOLUMECLAIMS, twin, "PhysicalClaimTaken")
            except (Forbidden, Invalid, BadRequest) as error:
                # No right, no quota, no such wish: another binding may do better.
                return await self._reset(facts, claim, Blocked(PROVISIONING_FAILED, str(error)))
        return Outcome()

    async def _check_class(self, facts: ClaimFacts, claim: Json, node: str) -> Refusal | None:
        name = class_of(claim)
        try:
            storage_class: Json | None = await self._physical.calls.get(STORAGECLASSES, name)
        except NotFound:
            storage_class = None
        except Forbidden:
            return None  # then the claim itself will tell
        return check_class(name, storage_class, node=node, binding=facts.binding)

    async def _reset(self, facts: ClaimFacts, claim: Json, blocked: Blocked) -> Outcome:
        """Have the scheduler choose again, not more often than it is worth; without a choice of its own there is no use."""
        now = asyncio.get_running_loop().time()
        if SELECTED_NODE not in annotations_of(claim):
            return Outcome(blocked, RESET_EVERY)
        if (wait := self._reset_at.get(facts.key, 0.0) - now) > 0:
            return Outcome(blocked, wait)
        self._reset_at = {key: at for key, at in self._reset_at.items() if at > now} | {facts.key: now + RESET_EVERY}
        patch = build_reset_patch(claim)
        written = await self._pairing.virtual.calls.patch(PERSISTENTVOLUMECLAIMS, facts.key.name, facts.key.namespace, patch)
        self._freshness.expect(facts.key, self._virtual.claims, written)
        return Outcome(blocked)

    async def _publish(self, facts: ClaimFacts, claim: Json, twin: Json) -> Outcome:
        physical = await self._physical.calls.get(PERSISTENTVOLUMES, twin["spec"]["volumeName"])
        storage_class = self._virtual.classes.store.object(ObjectKey("", class_of(claim))) or {}
        policy = storage_class.get("reclaimPolicy") or DELETE_POLICY
        volume = build_virtual_volume(claim, twin, physical, policy, self._context())
        calls = self._pairing.virtual.calls
        try:
            stored = await calls.create(PERSISTENTVOLUMES, volume)
            log.info("volume provisioned", claim=str(facts.key), volume=name_of(volume), physical=str(facts.twin_key))
        except AlreadyExists:
            stored = await calls.get(PERSISTENTVOLUMES, name_of(volume))
            if not is_provisioned(stored):
                raise NameTaken("VolumeNameTaken", (
                    f"PersistentVolume {name_of(volume)} exists and is not ours: remove it, and the claim is bound to its own"
                )) from None
        self._freshness.expect(facts.key, self._virtual.volumes, stored)
        return Outcome()

    # --- sizes ---------------------------------------------------------------------------------------------------------
    async def _grow(self, facts: ClaimFacts, volume: Json, size: Quantity) -> None:
        if patch := build_growth(volume, size):
            written = await self._pairing.virtual.calls.patch(PERSISTENTVOLUMES, name_of(volume), "", patch)
            self._freshness.expect(facts.key, self._virtual.volumes, written)

    async def _pass_sizes(self, facts: ClaimFacts, claim: Json, twin: Json) -> None:
        if patch := diff_claim_status(claim, twin):
            written = await self._pairing.virtual.calls.patch(
                PERSISTENTVOLUMECLAIMS, facts.key.name, facts.key.namespace, patch, kind=PatchType.STRATEGIC,
                subresource="status",
            )
            self._freshness.expect(facts.key, self._virtual.claims, written)
        if patch := diff_request(claim, twin):
            await self._patch_twin(facts, patch)

    async def _note(self, facts: ClaimFacts, twin: Json, uid: str, *, provisioned: bool) -> Outcome:
        if pause := self._notes.pause(facts.key, uid):
            return Outcome(Blocked("PhysicalClaimContested", (
                f"somebody in the physical cluster of binding {facts.binding} keeps changing the labels or annotations of "
                f"claim {facts.twin_key}, which is ours; they are put back, after pauses that grow to 5 minutes. The lender "
                "has to stop who does that"
            )), pause)
        await self._patch_twin(facts, build_origin_note(twin, uid, provisioned=provisioned))
        log_fight(PERSISTENTVOLUMECLAIMS.kind, facts.twin_key, self._notes.mended(facts.key, uid))
        return Outcome()

    async def _patch_twin(self, facts: ClaimFacts, patch: Json) -> None:
        place = facts.twin_key
        written = await self._physical.calls.patch(PERSISTENTVOLUMECLAIMS, place.name, place.namespace, patch)
        self._freshness.expect(facts.key, self._storage.claims, written)

    # --- the end -------------------------------------------------------------------------------------------------------
    async def _end(self, facts: ClaimFacts, step: Step) -> None:
        match step:
            case Remove(why):
                await self._remove(facts, why)
            case Unmark(claim, volumes):
                await self._unmark(facts, claim, volumes)
            case DropVolume(volume):
                await self._drop_volume(facts, volume)

    async def _remove(self, facts: ClaimFacts, why: str) -> None:
        if not await self._proofs.may_remove(facts):
            return
        if facts.twin is not None:
            await self._delete(facts, PERSISTENTVOLUMECLAIMS, facts.twin, why)
            return  # its volumes go when it is gone
        for volume in facts.twin_volumes:
            await self._delete(facts, PERSISTENTVOLUMES, volume, why)

    async def _delete(self, facts: ClaimFacts, resource: Resource, obj: Json, why: str) -> None:
        if is_deleting(obj):
            return  # on its way; its end brings us back
        informer = self._storage.volumes if resource == PERSISTENTVOLUMES else self._storage.claims
        try:
            answer = await self._physical.calls.delete(resource, name_of(obj), namespace_of(obj), uid=uid_of(obj))
        except NotFound:
            return
        log.info("physical storage object removed", kind=resource.kind, object=str(key_of(obj)), claim=str(facts.key), why=why)
        self._freshness.expect(facts.key, informer, answer)

    async def _unmark(self, facts: ClaimFacts, claim: Json | None, volumes: tuple[Json, ...]) -> None:
        if not await self._proofs.nothing_left(facts):
            return
        self._secrets.release(facts.key)
        for obj in (*volumes, *([claim] if claim else [])):
            resource, informer = self._kind_of(obj)
            if written := await unmark(self._pairing.virtual, resource, obj, facts.cluster_id):
                self._freshness.expect(facts.key, informer, written)

    async def _drop_volume(self, facts: ClaimFacts, volume: Json) -> None:
        if not await self._proofs.data_is_gone(facts, volume):
            return
        calls = self._pairing.virtual.calls
        if not is_deleting(volume):
            try:
                volume = await calls.delete(PERSISTENTVOLUMES, name_of(volume), uid=uid_of(volume))
            except NotFound:
                return
            self._freshness.expect(facts.key, self._virtual.volumes, volume)
            if volume.get("kind") != PERSISTENTVOLUMES.kind:
                return  # nobody held it, it is gone
        if written := await unmark(self._pairing.virtual, PERSISTENTVOLUMES, volume, facts.cluster_id):
            self._freshness.expect(facts.key, self._virtual.volumes, written)


def _taken(facts: ClaimFacts, resource: Resource, live: Json, reason: str) -> NameTaken:
    return NameTaken(reason, (
        f"{resource.kind} {key_of(live)} exists in the physical cluster of binding {facts.binding} and is not ours; the lender "
        "has to remove it"
    ))


def _terminating(facts: ClaimFacts) -> Blocked:
    return Blocked("PhysicalClaimTerminating", f"claim {facts.twin_key} is being deleted in the physical cluster")
