"""PersistentVolumeClaims: the claims that Pods on virtual nodes mount, and the volumes behind them.

    a Pod asks (`check`), or the scheduler selects a node of ours ──► the claim's key is queued
    one pass: caches ──► `domain.claimpair.decide_claim` ──► one step (`claimsteps`) ──► its write comes back through a watch
    the pass's answer ──► kept for `check`; when it changes, the Pods that wait are queued and the claim gets an Event

The key is the virtual claim's, for both sides and both kinds: a claim bound to a volume of the virtual cluster, which we carry
to the physical one, and a claim that a physical claim provides for. Nothing is counted and nothing expires: what the virtual
cluster shows decides (design: a physical claim lives exactly as long as its virtual claim). Deleting one needs a live proof.

A lender may grant no rights on claims and volumes; then the caches never fill, Pods that need a claim are told so, and
everything else goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from kubeocean.clusters.podsummary import VirtualPod
from kubeocean.clusters.storage import BY_CLAIM, PhysicalStorage, PhysicalVolume, VirtualClaim, VirtualVolume
from kubeocean.domain.claimpair import ClaimFacts, decide_claim, describe, is_usable, keeper
from kubeocean.domain.depmap import copy_key
from kubeocean.domain.marks import finalizer_of
from kubeocean.domain.podrefs import Reference
from kubeocean.domain.provisioning import WAITS_FOR_CONSUMER, class_of
from kubeocean.domain.volumemap import virtual_claim_of, virtual_claim_uid_of
from kubeocean.kube.controller import Controller, Result
from kubeocean.kube.errors import Forbidden, NotFound
from kubeocean.kube.informer import Informer
from kubeocean.kube.meta import Json, ObjectKey, key_of, namespace_of, uid_of
from kubeocean.kube.store import Entry
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.topdown.claimadvice import Advice
from kubeocean.syncer.topdown.claimsleaving import ClaimsLeaving
from kubeocean.syncer.topdown.claimsteps import ClaimSteps, NameTaken, Outcome
from kubeocean.syncer.topdown.dependencies import Blocked, pods_in_need, waiting_pods
from kubeocean.syncer.topdown.objects import ObjectSource
from kubeocean.syncer.topdown.refusals import REFUSED, Refusals, may_pass
from kubeocean.syncer.topdown.volumesecrets import VolumeSecrets

KIND = "PersistentVolumeClaim"
TAKEN_AGAIN = 10.0  # seconds between looks at a name that a stranger holds: we watch nothing that is not ours
LOOK_FOR_RIGHTS = 2.0  # seconds between looks whether we may read at all


class ClaimSource:
    """The claims of one binding; `secrets` copies what drivers need."""

    def __init__(self, pairing: Pairing, wake: Callable[[ObjectKey], None], secrets: ObjectSource) -> None:
        self.pairing, self._wake = pairing, wake
        binding, physical = pairing.binding_name, pairing.physical
        self.name = f"claims of {binding}"
        self.kinds = frozenset({KIND})
        self.storage = PhysicalStorage(
            physical.watches, pairing.owner, physical.mount_namespace, binding, physical.mount_is_gone
        )
        self.controller: Controller[ObjectKey] = Controller(f"claims-{binding}", self.reconcile)
        self._secrets = VolumeSecrets(pairing, self.storage, secrets, self.controller.enqueue)
        self._steps = ClaimSteps(pairing, self.storage, self._secrets, self.controller.freshness)
        self._leaving = ClaimsLeaving(pairing, self.storage, self.controller.enqueue, self._secrets.release)
        self._advice = Advice(pairing)
        self._open = False
        self._early: set[ObjectKey] = set()  # Pods that asked before the caches were full
        self._answers: dict[ObjectKey, Blocked | None] = {}
        self._refusals = Refusals()

    # --- the gate ----------------------------------------------------------------------------------------------------
    def check(self, reference: Reference, vpod: Json) -> Blocked | None:
        """See DependencySource."""
        key = ObjectKey(namespace_of(vpod), reference.name)
        if not self._open:
            self._early.add(key_of(vpod))
            return self._why_not_open() or Blocked()
        facts = self.facts(key)
        if facts.claim is None:
            return Blocked("MandatoryPersistentVolumeClaimNotFound", (
                f"waits for {KIND} {key} ({reference.where}), which does not exist: create it and the Pod starts"
            ))
        if reference.where.endswith(".ephemeral") and not _is_owned_by(facts.claim, vpod):
            return Blocked("ClaimNotOwned", (
                f"{describe(facts.claim)} ({reference.where}) was not made for this Pod: delete it, or rename the volume"
            ))
        if is_usable(facts):
            return None
        self.controller.enqueue(key)
        return self._answers.get(key) or Blocked()

    def _why_not_open(self) -> Blocked | None:
        for informer in self.storage.informers:
            if not informer.has_synced and isinstance(informer.last_error, Forbidden):
                return Blocked("StorageNotGranted", (
                    f"the lender of binding {self.pairing.binding_name} does not let us keep claims and volumes: "
                    f"{informer.last_error}. `kubeocean rbac` prints what he would have to grant"
                ))
        return None

    def facts(self, key: ObjectKey) -> ClaimFacts:
        """Return what the caches show of one virtual claim."""
        pairing, virtual = self.pairing, self.pairing.virtual.storage
        entry, twin_key = virtual.claims.store.get(key), copy_key(key, pairing.physical.mount_namespace)
        claim = entry.object() if entry else None
        return ClaimFacts(
            key=key, twin_key=twin_key, cluster_id=pairing.spec.cluster_id, binding=pairing.binding_name, claim=claim,
            volumes=tuple(each.object() for each in virtual.volumes.store.by_index(BY_CLAIM, str(key))),
            twin=self.storage.claims.store.object(twin_key),
            twin_volumes=tuple(each.object() for each in self.storage.volumes.store.by_index(BY_CLAIM, str(key))),
            needed=next(pods_in_need(pairing, KIND, key), None) is not None, unbinding=pairing.unbinding,
            selected=self._selected(claim, entry.summary) if entry and claim else None,
        )

    def _selected(self, claim: Json, head: VirtualClaim) -> str | None:
        """Return the physical node for which we are asked to provision, "" for any, None when we are not asked."""
        if head.volume or not class_of(claim):
            return None
        if head.selected_node:
            return self.pairing.physical_node_of(head.selected_node)
        if head.binding != self.pairing.binding_name:
            return None
        storage_class = self.pairing.virtual.storage.classes.store.object(ObjectKey("", class_of(claim)))
        waits = storage_class is None or storage_class.get("volumeBindingMode") == WAITS_FOR_CONSUMER
        return None if waits else ""

    def suspects(self) -> Iterator[ObjectKey | None]:
        """See DependencySource: twins whose claim is gone, or is another one by now."""
        claims = self.pairing.virtual.storage.claims.store
        if not self._open:
            return
        twins: list[Entry[Any]] = [*self.storage.claims.store.entries(), *self.storage.volumes.store.entries()]
        for entry in twins:
            twin = entry.object()
            claim = claims.get(key := virtual_claim_of(twin))
            outlived = key.name and (claim is None or claim.uid != virtual_claim_uid_of(twin))
            yield key if outlived and keeper(self.facts(key)) is None else None

    def reconsider(self, key: ObjectKey) -> None:
        """See DependencySource."""
        self.controller.enqueue(key)

    # --- what wakes a key --------------------------------------------------------------------------------------------
    async def run(self) -> NoReturn:
        """See DependencySource."""
        async with asyncio.TaskGroup() as tasks:
            for informer in self.storage.informers:
                tasks.create_task(informer.run(), name=f"informer {informer.name}")
            for informer in (*self.pairing.virtual.storage.informers, *self.storage.informers):
                await self._wait_for(informer)
            self._begin()
            await self.controller.run()
        raise AssertionError("controllers never return")

    async def _wait_for(self, informer: Informer[Any]) -> None:
        """Return once a cache is full; meanwhile the Pods that asked are told when it is rights that we lack."""
        while not informer.has_synced:
            try:
                async with asyncio.timeout(LOOK_FOR_RIGHTS):
                    await informer.wait_synced()
            except TimeoutError:
                if self._why_not_open():
                    self._wake_early()

    def _wake_early(self) -> None:
        early, self._early = self._early, set()
        for pod in early:
            self._wake(pod)

    def _begin(self) -> None:
        virtual, listen = self.pairing.virtual, self.pairing.listen
        self._open = True
        self.storage.claims.add_handler(self._twin_changed)
        self.storage.volumes.add_handler(self._twin_volume_changed)
        self._secrets.attach()
        listen(virtual.storage.claims, self._claim_changed)
        listen(virtual.storage.volumes, self._volume_changed)
        self.pairing.listen_to_own_pods(self._pod_changed)
        self._wake_early()

    def _claim_changed(self, old: Entry[VirtualClaim] | None, new: Entry[VirtualClaim] | None) -> None:
        waits = new is not None and not new.summary.volume  # may need advice
        for entry in filter(None, (old, new)):
            if waits or self._concerns_us(entry):
                self.controller.enqueue(entry.key)
                return

    def _concerns_us(self, claim: Entry[VirtualClaim]) -> bool:
        pairing, head = self.pairing, claim.summary
        return (
            finalizer_of(pairing.spec.cluster_id) in head.finalizers or head.binding == pairing.binding_name
            or bool(head.selected_node and pairing.physical_node_of(head.selected_node)) or self._has_twin(claim.key)
            or next(pods_in_need(pairing, KIND, claim.key), None) is not None
        )

    def _has_twin(self, key: ObjectKey) -> bool:
        twin = self.storage.claims.store.get(copy_key(key, self.pairing.physical.mount_namespace))
        return twin is not None or bool(self.storage.volumes.store.by_index(BY_CLAIM, str(key)))

    def _volume_changed(self, old: Entry[VirtualVolume] | None, new: Entry[VirtualVolume] | None) -> None:
        for text in {claim for entry in (old, new) if entry for claim in entry.summary.claims}:
            key = ObjectKey(*text.split("/", 1))
            claim, volume = self.pairing.virtual.storage.claims.store.get(key), new or old
            marked = volume is not None and finalizer_of(self.pairing.spec.cluster_id) in (
                volume.object()["metadata"].get("finalizers") or ()
            )
            if marked or self._has_twin(key) or (claim and self._concerns_us(claim)):
                self.controller.enqueue(key)

    def _twin_changed(self, old: Entry[ObjectKey] | None, new: Entry[ObjectKey] | None) -> None:
        for entry in filter(None, (old, new)):
            if entry.summary.name:
                self.controller.enqueue(entry.summary)

    def _twin_volume_changed(self, old: Entry[PhysicalVolume] | None, new: Entry[PhysicalVolume] | None) -> None:
        for entry in filter(None, (old, new)):
            if entry.summary.virtual.name:
                self.controller.enqueue(entry.summary.virtual)

    def _pod_changed(self, old: Entry[VirtualPod] | None, new: Entry[VirtualPod] | None) -> None:
        # A claim that is being deleted is held as long as Pods use it: the end of one may be what it waits for.
        if old is None or (new and not new.summary.finished):
            return
        for text in old.summary.references:
            kind, namespace, name = text.split("/", 2)
            claim = self.pairing.virtual.storage.claims.store.get(key := ObjectKey(namespace, name)) if kind == KIND else None
            if claim and claim.summary.deleting and self._concerns_us(claim):
                self.controller.enqueue(key)

    # --- one pass ----------------------------------------------------------------------------------------------------
    async def reconcile(self, key: ObjectKey) -> Result:
        """Bring one virtual claim and its twins one step closer to what they should be."""
        facts = self.facts(key)
        try:
            outcome = await self._steps.take(facts, decide_claim(facts))
        except NameTaken as taken:
            outcome = Outcome(Blocked(taken.reason, str(taken)), TAKEN_AGAIN)
        except (*REFUSED, NotFound) as error:
            again = self._refusals.add(key)
            if not may_pass(error, self._refusals.times(key)):
                self._tell(facts, Blocked("PhysicalClaimRefused", f"{KIND} {key}: {error}"))
            return Result(again)
        self._refusals.forget(key)
        self._tell(facts, None if is_usable(facts) and not outcome.blocked else outcome.blocked or Blocked())
        return Result(outcome.again if outcome.again is not None else self._advice.give(facts))

    def _tell(self, facts: ClaimFacts, answer: Blocked | None) -> None:
        """Keep the answer for `check`; when it is news, tell it on the claim and wake the Pods that wait."""
        key = facts.key
        news = key not in self._answers or self._answers[key] != answer
        if facts.claim is None or not (facts.needed or facts.selected is not None):
            self._answers.pop(key, None)
        else:
            self._answers[key] = answer
            if news and answer and answer.reason:
                self.pairing.events.event(facts.claim, "Warning", *answer)
        if news:
            for pod in waiting_pods(self.pairing, KIND, key):
                self._wake(pod)

    # --- taking back -------------------------------------------------------------------------------------------------
    async def take_back(self) -> None:
        """See DependencySource. Waits as long as physical claims hold data, unless the binding says Force."""
        await self._leaving.finish()


def _is_owned_by(claim: Json, vpod: Json) -> bool:
    """Tell whether the claim of a generic ephemeral volume is this Pod's own (core `ephemeral.VolumeIsForPod`)."""
    owners = claim["metadata"].get("ownerReferences") or ()
    return any(owner.get("controller") and owner.get("uid") == uid_of(vpod) for owner in owners)
