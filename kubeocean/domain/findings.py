"""What a comparison of both sides of a binding finds wrong, in words for people and in fields for whoever mends it.

A finding is about one object on one side. `cause` says what is wrong and how that comes about, `remedy` what to do. `mend` says
what may be done about it by itself, and with what proof; without one only people, or the binding's syncer, can help.

Two clusters are never read at one moment, and a syncer is at work meanwhile: much that differs is merely in flight. So
a comparison is made twice, a moment apart, and only what both times is the same finding (`identity`) is told: `lasting`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from kubeocean.domain.mirrors import Step
from kubeocean.kube.meta import Json, ObjectKey, key_of, uid_of
from kubeocean.kube.resources import Resource


class Side(StrEnum):
    """Where an object is."""

    VIRTUAL = "virtual"
    PHYSICAL = "physical"


class Kind(StrEnum):
    """What is wrong."""

    ORPHAN_TWIN = "OrphanTwin"
    SECOND_TWIN = "SecondTwin"
    LOST_TWIN = "LostTwin"
    MISSING_TWIN = "MissingTwin"
    STATUS_BEHIND = "StatusBehind"
    TWIN_DRIFT = "TwinDrift"
    WRONG_NODE = "WrongNode"
    STUCK_POD = "StuckPod"
    LEFTOVER_TOKEN = "LeftoverToken"
    MISSING_COPY = "MissingCopy"
    DRIFTED_COPY = "DriftedCopy"
    ORPHAN_COPY = "OrphanCopy"
    STALE_MARK = "StaleMark"
    MISSING_MARK = "MissingMark"
    ORPHAN_CLAIM = "OrphanClaim"
    ORPHAN_VOLUME = "OrphanVolume"
    LOST_CLAIM = "LostClaim"
    ORPHAN_MIRROR = "OrphanMirror"
    MISSING_MIRROR = "MissingMirror"
    DRIFTED_MIRROR = "DriftedMirror"
    ORPHAN_NODE = "OrphanNode"
    BEYOND_LEASE = "BeyondLease"
    HEARTBEAT = "NoHeartbeat"
    STALE_NODE_LABEL = "StaleNodeLabel"
    ORPHAN_CSINODE = "OrphanCSINode"
    ORPHAN_PLACEHOLDER = "OrphanPlaceholder"
    PLACEHOLDER_DRIFT = "PlaceholderDrift"
    NAMESPACE = "MountNamespace"
    PRIORITY_CLASS = "MissingPriorityClass"


class Mend(StrEnum):
    """What mends a finding safely."""

    NOTHING = ""
    DELETE = "delete"  # ours, and what it stands for is proved gone
    UNMARK = "take off our marks"  # of a virtual object that nothing of ours uses
    MARK = "put our marks back"
    COPY = "copy anew"  # a ConfigMap or Secret
    STEP = "make it what it should be"  # a mirrored object: what `Finding.step` says
    MIRROR = "write the twin's status"
    LOSE = "declare it lost"  # after proof that the twin is gone
    RELEASE = "release it"  # a Pod that is to go, after the same proof
    UNLABEL = "take our label off"  # of a physical node


class Ref(NamedTuple):
    """One object: where, of what kind, called what; `uid` "" when it does not matter."""

    side: Side
    resource: Resource
    key: ObjectKey
    uid: str = ""

    def __str__(self) -> str:
        return f"{self.resource.kind} {self.key}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `origin` is the object on the other side (or the same) that says whether it may stay.

    To mend by deletion `origin` is read live: it must be gone, or have another uid than `origin.uid`.
    """

    kind: Kind
    reason: str
    about: Ref
    cause: str
    remedy: str
    mend: Mend = Mend.NOTHING
    origin: Ref | None = None
    step: Step = None

    @property
    def repairable(self) -> bool:
        """Tell whether `--repair` may mend it."""
        return self.mend is not Mend.NOTHING

    @property
    def identity(self) -> tuple[str, str, str, str, ObjectKey, str]:
        """Return what makes two findings of two looks the same one."""
        about = self.about
        return self.kind, self.reason, about.side, about.resource.plural, about.key, about.uid


def ref_to(side: Side, resource: Resource, obj: Json) -> Ref:
    """Return the reference to an object as a server gave it."""
    return Ref(side, resource, key_of(obj), uid_of(obj))


def lasting(before: Iterable[Finding], after: Iterable[Finding]) -> list[Finding]:
    """Return the findings of the later look that the earlier one had as well, by kind and name."""
    known = {finding.identity for finding in before}
    order = list(Kind)
    found = [finding for finding in after if finding.identity in known]
    return sorted(found, key=lambda finding: (order.index(finding.kind), finding.about.side, finding.about.key))


SYNCER = "the syncer of the binding does it by itself: see that one runs, and what it says"
