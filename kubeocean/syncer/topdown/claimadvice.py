"""Tells who owns a claim that waits for ever what would end the waiting.

A claim whose class binds at once is provisioned by somebody in the virtual cluster, or by us when it names a binding; which of
the two was meant, nobody can know. So an Event says it, a minute after the claim was made, or at once when its class
names us as the provisioner.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from kubeocean.api import names
from kubeocean.clusters.storage import VirtualClaim
from kubeocean.domain.claimpair import ClaimFacts
from kubeocean.domain.provisioning import WAITS_FOR_CONSUMER, class_of
from kubeocean.kube.meta import ObjectKey, is_deleting, parse_time, uid_of
from kubeocean.kube.store import Entry
from kubeocean.syncer.pairing import Pairing

ADVISE_AFTER: Final = timedelta(seconds=60)  # of a claim's age
BINDING_NOT_NAMED: Final = "ClusterBindingNotNamed"


class Advice:
    """Says on claims what they lack, once each."""

    def __init__(self, pairing: Pairing) -> None:
        self._pairing = pairing
        self._given: set[str] = set()  # uids
        self._listens = False

    def give(self, facts: ClaimFacts) -> float | None:
        """Tell a claim that waits for a provisioner who may never come; return in how many seconds to look again, if at all."""
        claim = facts.claim
        if claim is None or claim["spec"].get("volumeName"):
            return None
        storage_class = self._pairing.virtual.storage.classes.store.object(ObjectKey("", class_of(claim)))
        waits = storage_class is None or storage_class.get("volumeBindingMode") == WAITS_FOR_CONSUMER
        if storage_class is None or waits or is_deleting(claim) or facts.selected is not None or uid_of(claim) in self._given:
            return None
        provisioner = storage_class.get("provisioner") or ""
        age = self._pairing.real_time() - parse_time(claim["metadata"]["creationTimestamp"])
        if provisioner != names.VOLUME_DRIVER and age < ADVISE_AFTER:
            return (ADVISE_AFTER - age).total_seconds()
        self._note(uid_of(claim))
        self._pairing.events.event(claim, "Normal", BINDING_NOT_NAMED, (
            f"StorageClass {class_of(claim)} binds at once, so its provisioner {provisioner} has to make the volume. If it is "
            f"to be made in a physical cluster, annotate the claim with {names.BINDING_OF_CLAIM_ANNOTATION}: "
            f"NAME-OF-CLUSTERBINDING, or use a class with volumeBindingMode: {WAITS_FOR_CONSUMER}"
        ))
        return None

    def _note(self, uid: str) -> None:
        self._given.add(uid)
        if not self._listens:  # nobody need tell us anything before
            self._listens = True
            self._pairing.listen(self._pairing.virtual.storage.claims, self._claim_changed)

    def _claim_changed(self, old: Entry[VirtualClaim] | None, new: Entry[VirtualClaim] | None) -> None:
        # The end of a claim that never concerned us leads to no pass.
        if old and (new is None or new.uid != old.uid or new.summary.volume):
            self._given.discard(old.uid)
