"""What to do next about one claim: the virtual claim and its volume on one side, their twins on the other.

A physical claim lives exactly as long as its virtual claim. No count of Pods and no grace is involved: it is made when a Pod
first needs it (or when the scheduler asks for provisioning), and goes when the virtual claim goes. Until then our finalizer
holds the virtual claim, so that deleting it means to the user what it always means: when it is gone, it is gone everywhere.

Two kinds. A *carried* claim is bound to a volume of the virtual cluster; its twins are mere descriptions of the same storage
and can be made again at any time. A *provisioned* one has its data behind the physical claim; its twin is made once and never
again, for what would be made in its place is empty.

`decide_claim` is pure and looks at the world as it is; every step is repeatable and may fail half-way.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubeocean.api import names
from kubeocean.domain.claimorigin import is_proved, stands_for, tell_origin, volumes_behind
from kubeocean.domain.marks import is_marked
from kubeocean.domain.provisioning import (
    is_held_by,
    is_provisioned,
    is_provisioned_claim,
    origin_uid_of,
    selected_for,
    was_given_up,
)
from kubeocean.domain.volumemap import virtual_claim_uid_of
from kubeocean.kube.meta import Json, ObjectKey, is_deleting, name_of, namespace_of, uid_of

DELETE_POLICY = "Delete"


@dataclass(frozen=True, slots=True)
class ClaimFacts:
    """One claim as our caches show it.

    `volumes` are the virtual volumes that name the claim, bound to it or provisioned for it; `twin_volumes` the physical ones
    we brought for it. `needed`: an unfinished Pod on our nodes names it. `selected`: the physical node for which provisioning
    is asked, "" for none in particular, None when nobody asks us.
    """

    key: ObjectKey
    twin_key: ObjectKey
    cluster_id: str
    binding: str
    claim: Json | None
    volumes: tuple[Json, ...] = ()
    twin: Json | None = None
    twin_volumes: tuple[Json, ...] = ()
    needed: bool = False
    selected: str | None = None
    unbinding: bool = False

    @property
    def volume(self) -> Json | None:
        """The virtual volume that the claim names."""
        wanted = self.claim["spec"].get("volumeName") if self.claim else None
        return next((volume for volume in self.volumes if name_of(volume) == wanted), None)

    @property
    def provisioned(self) -> tuple[Json, ...]:
        """The virtual volumes whose data the twin (or a twin of that name) holds."""
        return tuple(each for each in self.volumes if is_held_by(each, self.twin_key, self.cluster_id))

    @property
    def behind(self) -> tuple[Json, ...]:
        """The virtual volumes whose data the twin that is there holds."""
        return volumes_behind(self.twin, self.provisioned) if self.twin else ()

    @property
    def proved(self) -> tuple[Json, ...]:
        """Those of them of which that is proved."""
        return tuple(each for each in self.behind if self.twin and is_proved(each, self.twin))


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to do; `reason` and `message` say what a Pod that needs the claim waits for, "" when nothing is wrong."""

    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Carry:
    """Keep the twins of `volume` and its claim what they should be."""

    volume: Json


@dataclass(frozen=True, slots=True)
class Serve:
    """The data is behind the twin: pass sizes on."""

    volume: Json
    twin: Json


@dataclass(frozen=True, slots=True)
class Provision:
    """Make the physical claim, for a node ("" = any)."""

    node: str


@dataclass(frozen=True, slots=True)
class Publish:
    """The physical claim is bound: give the virtual one its volume."""

    twin: Json


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The physical provisioner wants another node: let the scheduler choose again."""

    message: str


@dataclass(frozen=True, slots=True)
class Remove:
    """After proof that it is over, delete the twins."""

    why: str


@dataclass(frozen=True, slots=True)
class Unmark:
    """After proof that no twin is left, take our marks off these."""

    claim: Json | None
    volumes: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class DropVolume:
    """Delete a virtual volume that we made and whose data is gone."""

    volume: Json


@dataclass(frozen=True, slots=True)
class NoteOrigin:
    """Somebody took off the twin for which claim it was made, or changed it: note it again, and whether it holds data."""

    twin: Json
    uid: str
    provisioned: bool = False


Step = Idle | Carry | Serve | Provision | Publish | GiveUp | Remove | Unmark | DropVolume | NoteOrigin


def is_bound(claim: Json) -> bool:
    """Tell whether a claim has its volume, as the volume controller says."""
    return bool((claim.get("status") or {}).get("phase") == "Bound" and claim["spec"].get("volumeName"))


def is_usable(facts: ClaimFacts) -> bool:
    """Tell whether a twin Pod may mount the twin claim now: bound, of this very claim, and to no volume but the right one."""
    claim, twin, volume = facts.claim, facts.twin, facts.volume
    if claim is None or twin is None or volume is None or not is_bound(claim) or not is_bound(twin) or is_deleting(twin):
        return False
    if virtual_claim_uid_of(twin) != uid_of(claim):
        return False
    if is_provisioned(volume):
        return volume in facts.provisioned and is_provisioned_claim(twin)
    return any(
        name_of(each) == twin["spec"]["volumeName"] and (each["spec"].get("claimRef") or {}).get("uid") == uid_of(twin)
        for each in facts.twin_volumes
    )


def decide_claim(facts: ClaimFacts) -> Step:
    """Return the next step. Those that take something away still have to prove their premise live."""
    if facts.twin is not None and (note := _lost_note(facts, facts.twin)):
        return note
    if doomed := next((each for each in facts.provisioned if _is_over(each, facts)), None):
        return DropVolume(doomed)
    if why := why_over(facts):
        return _end(facts, why)
    claim = facts.claim
    if claim is None or facts.unbinding:
        return Idle()
    return _decide_bound(facts, claim) if claim["spec"].get("volumeName") else _decide_unbound(facts, claim)


def why_over(facts: ClaimFacts) -> str:
    """Return why the twins have outlived their claim, "" when they have not."""
    claim = facts.claim
    if claim is None:
        return "the claim is gone"
    if facts.unbinding and not facts.needed and not _holds_data(facts, claim):
        return "the binding is being removed"
    recorded = {virtual_claim_uid_of(each) for each in (facts.twin, *facts.twin_volumes) if each}
    if recorded - {"", uid_of(claim)}:  # "" says that somebody took our note off, not that another claim is meant
        return "another claim has taken its name"
    return "the claim is being deleted" if is_deleting(claim) and not facts.needed else ""


def _lost_note(facts: ClaimFacts, twin: Json) -> NoteOrigin | None:
    """Return what is to be noted on a twin that does not say (rightly) for which claim it was made, and that it holds data.

    The volume that stands for its data knows; without one, the name of a twin that says nothing leads to the claim.
    """
    if is_deleting(twin) or _goes_anyway(facts):
        return None
    noted, claim_uid = virtual_claim_uid_of(twin), uid_of(facts.claim) if facts.claim else ""
    if not facts.behind:
        return NoteOrigin(twin, claim_uid) if claim_uid and not noted else None
    origin = tell_origin(twin, facts.behind, claim_uid)
    proved = bool(facts.proved)
    if origin and (origin != noted or (proved and not is_provisioned_claim(twin))):
        return NoteOrigin(twin, origin, proved)
    return None


def _goes_anyway(facts: ClaimFacts) -> bool:
    """Tell whether the twin is to go by what its volume proves, whatever it says: to mend that first could take for ever."""
    claim = facts.claim
    over = claim is None or (is_deleting(claim) and not facts.needed)
    return over and keeper(facts) is None and bool(facts.proved)


def _holds_data(facts: ClaimFacts, claim: Json) -> bool:
    """Tell whether a claim's data is behind its twin: that of a claim never bound is nobody's yet."""
    own = facts.twin is not None and is_provisioned_claim(facts.twin)
    return bool(facts.provisioned or (own and claim["spec"].get("volumeName")))


def is_doomed(volume: Json, origin: str) -> bool:
    """Tell whether a virtual volume goes with the claim of uid `origin`, for which it was provisioned.

    As in any cluster, reclaim policy Delete means one that is released: not one that was made free for another claim, nor one
    that is bound to another claim by now.
    """
    released = (volume.get("status") or {}).get("phase") in ("Released", "Failed")
    still_its_own = (volume["spec"].get("claimRef") or {}).get("uid") == origin
    deletes = volume["spec"].get("persistentVolumeReclaimPolicy") == DELETE_POLICY
    return is_deleting(volume) or (deletes and (released or still_its_own))


def keeper(facts: ClaimFacts) -> Json | None:
    """Return the virtual volume for which the twin is kept although its claim is over: it is retained, or another claim's."""
    return next((each for each in facts.behind if not is_doomed(each, origin_uid_of(each))), None)


def _is_over(volume: Json, facts: ClaimFacts) -> bool:
    """Tell whether a virtual volume of ours has neither data nor claim any more."""
    claim, twin = facts.claim, facts.twin
    if twin is not None and stands_for(volume, twin):
        return False
    living = claim is not None and uid_of(claim) == origin_uid_of(volume)
    if living and claim and claim["spec"].get("volumeName") in (None, "", name_of(volume)):
        return False
    if (volume.get("status") or {}).get("phase") == "Bound":
        return False  # the volume controller has not yet seen its claim go
    return is_deleting(volume) or volume["spec"].get("persistentVolumeReclaimPolicy") == DELETE_POLICY


def _end(facts: ClaimFacts, why: str) -> Step:
    claim = facts.claim
    kept = keeper(facts)
    if kept is None and (facts.twin or facts.twin_volumes):
        return Remove(why)
    marked = tuple(each for each in facts.volumes if not is_provisioned(each) and is_marked(each, facts.cluster_id))
    leaving = claim is None or is_deleting(claim) or (facts.unbinding and kept is None)
    if leaving and (marked or (claim is not None and is_marked(claim, facts.cluster_id))):
        return Unmark(claim, marked)
    if kept is not None and claim is not None and claim["spec"].get("volumeName") == name_of(kept):
        return Idle("VolumeOfAnotherClaim", (
            f"the data of PersistentVolume {name_of(kept)} can be used only under the claim it was made for, which is gone"
        ))
    if kept is not None and claim is not None:
        return Idle("ClaimNameTaken", (
            f"PersistentVolume {name_of(kept)} keeps the data of an earlier claim of this name: delete that volume, or give "
            "the claim another name"
        ))
    return Idle()


def _decide_bound(facts: ClaimFacts, claim: Json) -> Step:
    volume, twin = facts.volume, facts.twin
    if volume is None:
        return Idle("PersistentVolumeNotFound", f"PersistentVolume {claim['spec']['volumeName']} of the claim does not exist")
    if is_provisioned(volume):
        return _decide_provisioned(facts, claim, volume)
    if twin is not None and is_provisioned_claim(twin):
        return Remove("the claim was bound to another volume before ours was ready")
    if not facts.needed and not is_marked(claim, facts.cluster_id):
        return Idle()
    if is_deleting(claim) and not is_marked(claim, facts.cluster_id):
        return Idle("ClaimTerminating", "the claim is being deleted")
    if not is_bound(claim):
        return Idle("ClaimNotBound", f"the claim is not bound yet to PersistentVolume {name_of(volume)}")
    return Carry(volume)


def _decide_provisioned(facts: ClaimFacts, claim: Json, volume: Json) -> Step:
    if volume not in facts.provisioned:
        if facts.twin is None and is_marked(claim, facts.cluster_id):
            return Unmark(claim)  # another binding was quicker
        return Idle("VolumeElsewhere", (
            f"the data of PersistentVolume {name_of(volume)} is behind claim {volume['spec']['csi']['volumeHandle']} "
            "(clusterID/namespace/name): Pods that use it must run there, and under the claim it was made for"
        ))
    if facts.twin is None:
        return Idle("PhysicalClaimLost", (
            f"claim {facts.twin_key} is gone from the physical cluster of binding {facts.binding}, and the data with it; "
            "delete this claim and make it again to start empty"
        ))
    return Serve(volume, facts.twin)


def _decide_unbound(facts: ClaimFacts, claim: Json) -> Step:
    twin = facts.twin
    if facts.selected is None:
        if twin is not None:
            return Remove("its volume is wanted elsewhere, or no more")
        if is_marked(claim, facts.cluster_id):
            return Unmark(claim)
        return Idle("ClaimNotBound", "the claim is not bound to a PersistentVolume yet")
    if twin is None:
        return Provision(facts.selected)
    if is_deleting(twin):
        return Idle("", "")
    if is_bound(twin):
        return Publish(twin)
    if selected_for(twin) != facts.selected:
        return Remove("its volume is wanted on another node")
    if was_given_up(twin):
        return GiveUp(f"the provisioner of the physical cluster found no room on node {facts.selected}")
    return Idle("", "")


def describe(claim: Json) -> str:
    """Return what messages call a claim."""
    return f"PersistentVolumeClaim {namespace_of(claim)}/{name_of(claim)}"


def is_asked_of(claim: Json, binding: str) -> bool:
    """Tell whether the user names this binding as the one to provision his claim."""
    return (claim["metadata"].get("annotations") or {}).get(names.BINDING_OF_CLAIM_ANNOTATION) == binding
