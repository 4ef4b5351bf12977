"""What is wrong with one virtual Pod and its twin: the invariants of the federation, asked of two objects at a time.

- at most one twin for a virtual Pod, under the name that follows from its own;
- no twin without a virtual Pod of that uid;
- no virtual Pod Running whose twin is not;
- no virtual Pod that is to go and stays although its twin has gone;
- what the user wants now has been given to the twin.

`check_vpod` asks from the virtual side, `check_twin` from the physical one; together they see every Pod of either. A Pod that
waits and says why is in order, and so is one that is on its way out: its controller has the word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from kubeocean.api import names
from kubeocean.domain.eligibility import check_eligible
from kubeocean.domain.findings import SYNCER, Finding, Kind, Mend, Ref, Side, ref_to
from kubeocean.domain.hostports import is_placeholder
from kubeocean.domain.naming import physical_name
from kubeocean.domain.ownership import Owner, is_ours
from kubeocean.domain.podchange import is_pushed
from kubeocean.domain.podpair import is_or_becomes_twin_of, recorded_twin, virtual_key_of
from kubeocean.domain.podpush import lacks_nothing
from kubeocean.domain.podscheduling import given_up
from kubeocean.domain.podstatus import TERMINAL_PHASES, diff_pod_status, says_nothing_yet
from kubeocean.domain.podstory import became_true
from kubeocean.domain.statuslag import lagging_fields, last_change
from kubeocean.kube.meta import (
    Json,
    ObjectKey,
    annotations_of,
    finalizers_of,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    parse_time,
    uid_of,
)
from kubeocean.kube.resources import NODES, PODS, SECRETS

STUCK_AFTER: Final = timedelta(seconds=60)  # past the end of its grace
TOLD_AFTER: Final = timedelta(seconds=30)  # from when a Pod got its node: what it needs, and a token, come before its twin
SETTLES: Final = timedelta(seconds=5)  # from a change of a twin: until then its mirror is merely on the way
NO_VIRTUAL_NODE: Final = "NoVirtualNode"


@dataclass(frozen=True, slots=True)
class PodScene:
    """What surrounds the Pods of one binding. `physical_node_of` returns None for a Node that is no virtual one of ours.

    `now` None: no age is judged; what takes too long is not told, and nothing is too young to be.
    """

    owner: Owner
    mount_namespace: str
    physical_node_of: Callable[[str], str | None]
    running_daemonsets: bool = False
    now: datetime | None = None


@dataclass(frozen=True, slots=True)
class Claims:
    """Which virtual Pod is called so that its twin has this name, or has noted a twin of this uid."""

    by_twin_name: Mapping[str, ObjectKey] = field(default_factory=dict)
    by_twin_uid: Mapping[str, ObjectKey] = field(default_factory=dict)

    def of(self, ppod: Json) -> ObjectKey | None:
        """Return the virtual Pod that may claim `ppod`."""
        return self.by_twin_name.get(name_of(ppod)) or self.by_twin_uid.get(uid_of(ppod))


# --- from the virtual side -------------------------------------------------------------------------------------------
def check_vpod(vpod: Json, ppod: Json | None, scene: PodScene, *, told: bool = False) -> Finding | None:
    """Return what is wrong with a virtual Pod on a virtual node of ours; `ppod` is whatever has its twin's name.

    `told`: as much of the twin's status has come up as the virtual API server keeps, so what differs in it is no finding.
    """
    if is_placeholder(key_of(vpod)):
        return None
    if stuck := _stuck(vpod, ppod, scene):
        cause = f"{stuck}, its twin is gone, and nobody has released it"
        about = ref_to(Side.VIRTUAL, PODS, vpod)
        return Finding(Kind.STUCK_POD, "NotReleased", about, cause, SYNCER, Mend.RELEASE, _place_of_twin(vpod, scene))
    if check_eligible(vpod, running_daemonsets=scene.running_daemonsets):
        return None
    if ppod is None or not is_or_becomes_twin_of(ppod, vpod, scene.owner):
        return _without_twin(vpod, ppod, scene)
    if not is_ours(ppod, scene.owner):
        return None  # the Go project's, and runs; whatever differs is judged once it is adopted
    return _with_twin(vpod, ppod, scene, told=told or given_up(vpod))


def check_homeless(vpod: Json, ppod: Json | None, scene: PodScene) -> Finding | None:
    """Return what is wrong with a virtual Pod on a virtual node of ours that is not there: no kubelet and no syncer ends it."""
    about, node = ref_to(Side.VIRTUAL, PODS, vpod), vpod["spec"]["nodeName"]
    if is_placeholder(key_of(vpod)) or not (stuck := _stuck(vpod, ppod, scene)):
        return None
    cause = f"{stuck}, its twin is gone, and so is virtual node {node}: nobody is there to end it"
    remedy = "kubectl delete pod --grace-period=0 --force"
    return Finding(Kind.STUCK_POD, NO_VIRTUAL_NODE, about, cause, remedy, Mend.RELEASE, _place_of_twin(vpod, scene))


def _stuck(vpod: Json, ppod: Json | None, scene: PodScene) -> str:
    """Return since when a virtual Pod without a twin should be gone, in words; "" when it need not be yet.

    One that somebody's finalizer holds, and nothing else, is not ours to end.
    """
    if scene.now is None or not is_deleting(vpod) or (ppod is not None and is_or_becomes_twin_of(ppod, vpod, scene.owner)):
        return ""
    ends = vpod["metadata"]["deletionTimestamp"]
    held = finalizers_of(vpod) and vpod["metadata"].get("deletionGracePeriodSeconds") == 0
    return "" if held or scene.now - parse_time(ends) < STUCK_AFTER else f"the Pod should have been gone since {ends}"


def node_of(finding: Finding, vpod: Json) -> Ref | None:
    """Return the virtual Node that must be gone before the Pod of a finding is released; None: it does not matter."""
    node = vpod["spec"].get("nodeName") or ""
    return Ref(Side.VIRTUAL, NODES, ObjectKey("", node)) if finding.reason == NO_VIRTUAL_NODE else None


def _without_twin(vpod: Json, other: Json | None, scene: PodScene) -> Finding | None:
    status = vpod.get("status") or {}
    phase = status.get("phase") or "Pending"
    if phase in TERMINAL_PHASES or is_deleting(vpod):
        return None
    about, twin = ref_to(Side.VIRTUAL, PODS, vpod), _place_of_twin(vpod, scene)
    if recorded := recorded_twin(vpod):
        cause = (
            f"the Pod is {phase}, and its twin {twin.key} (uid {recorded}) is gone: somebody deleted it, or its node was, and "
            "no syncer has told the Pod"
        )
        remedy = "it is declared Failed/PhysicalPodLost, and whatever controls it makes another"
        return Finding(Kind.LOST_TWIN, names.PHYSICAL_POD_LOST, about, cause, remedy, Mend.LOSE, twin)
    if phase == "Running":
        cause = "the Pod is said to be Running, but has no twin and never had one: somebody else wrote its status"
        return Finding(Kind.LOST_TWIN, "NeverHadTwin", about, cause, "delete the Pod, whatever controls it makes another")
    if _says_why(status, names.PHYSICAL_POD_CREATED) or _is_young(_waits_since(vpod), TOLD_AFTER, scene):
        return None
    if other is not None and is_ours(other, scene.owner) and is_deleting(other):
        return None  # a predecessor's twin, which has its grace; should that not suffice, the Pod will say so
    cause = f"the Pod sits on virtual node {vpod['spec'].get('nodeName')}, has no twin, and says nowhere why"
    return Finding(Kind.MISSING_TWIN, "NotCreated", about, cause, f"`kubeocean explain pod {about.key}` may tell; {SYNCER}")


def _waits_since(vpod: Json) -> datetime | None:
    text = vpod["metadata"].get("creationTimestamp")
    return became_true(vpod, "PodScheduled") or (parse_time(text) if text else None)


def _is_young(at: datetime | None, within: timedelta, scene: PodScene) -> bool:
    """Tell whether something happened just now. A time that lies ahead by more is another clock's, and tells nothing."""
    return at is not None and scene.now is not None and abs(scene.now - at) < within


def _with_twin(vpod: Json, ppod: Json, scene: PodScene, *, told: bool) -> Finding | None:
    if is_deleting(vpod) or is_deleting(ppod):
        return None
    behind = None if told else _status_behind(vpod, ppod, scene)
    return _wrong_node(vpod, ppod, scene) or behind or _drifted(vpod, ppod)


def _wrong_node(vpod: Json, ppod: Json, scene: PodScene) -> Finding | None:
    wanted, found = scene.physical_node_of(vpod["spec"]["nodeName"]), ppod["spec"].get("nodeName")
    if not found or found == wanted:
        return None
    cause = f"its virtual Pod is on {vpod['spec']['nodeName']}, which stands for {wanted}, but the twin runs on {found}"
    remedy = "delete the virtual Pod: no Pod ever moves"
    return Finding(Kind.WRONG_NODE, "RunsElsewhere", ref_to(Side.PHYSICAL, PODS, ppod), cause, remedy, origin=_origin(vpod))


def _status_behind(vpod: Json, ppod: Json, scene: PodScene) -> Finding | None:
    mine, theirs = vpod.get("status") or {}, ppod.get("status") or {}
    patch = diff_pod_status(vpod, ppod)
    if patch is None or (says_nothing_yet(ppod) and "status" not in patch):
        return None
    fields = lagging_fields(vpod, ppod, patch)
    changed = last_change(ppod, of_status=not {"labels", "annotations"} & set(fields))
    if not fields or _is_young(changed, SETTLES, scene):
        return None
    about, twin = ref_to(Side.VIRTUAL, PODS, vpod), ref_to(Side.PHYSICAL, PODS, ppod)
    if mine.get("phase") == "Running" and theirs.get("phase") != "Running":
        reason, cause = "RunningWithoutTwin", f"the Pod is said to be Running, its twin {twin.key} is {theirs.get('phase')}"
    else:
        reason, cause = "NotMirrored", f"what twin {twin.key} says has not come up: {', '.join(fields)}"
    return Finding(Kind.STATUS_BEHIND, reason, about, cause, SYNCER, Mend.MIRROR, twin)


def _drifted(vpod: Json, ppod: Json) -> Finding | None:
    about = ref_to(Side.PHYSICAL, PODS, ppod)
    if not is_pushed(vpod, ppod):
        if _says_why(vpod.get("status") or {}, names.PHYSICAL_POD_UPDATED):
            return None
        reason, cause = "NotPushedDown", "the virtual Pod was changed, and its twin has not been given the change"
    elif not lacks_nothing(vpod, ppod):
        reason, cause = "ChangedBelow", "somebody changed labels or annotations of the twin that the virtual Pod's user has set"
    else:
        return None
    return Finding(Kind.TWIN_DRIFT, reason, about, cause, SYNCER, origin=_origin(vpod))


# --- from the physical side ------------------------------------------------------------------------------------------
def check_twin(ppod: Json, vpod: Json | None, claims: Claims, scene: PodScene) -> Finding | None:
    """Return what is wrong with a physical Pod of ours; `vpod` is the virtual Pod that its annotations name."""
    about = ref_to(Side.PHYSICAL, PODS, ppod)
    if is_deleting(ppod):
        return None
    if namespace_of(ppod) != scene.mount_namespace:
        cause = f"it carries our labels, and is not in the mountNamespace {scene.mount_namespace}: a copied manifest perhaps"
        return Finding(Kind.ORPHAN_TWIN, "OutOfPlace", about, cause, "delete it if nobody needs it; the syncer never will")
    virtual = virtual_key_of(ppod)
    if not all(virtual) or physical_name(virtual.name, virtual.namespace) != name_of(ppod):
        return _stray(ppod, vpod, about, claims)
    noted = annotations_of(ppod).get(names.VIRTUAL_POD_UID_ANNOTATION, "")
    origin = Ref(Side.VIRTUAL, PODS, virtual, noted)
    if vpod is None:
        cause = f"virtual Pod {virtual} is gone, by force perhaps, and its twin was not taken away"
        return Finding(Kind.ORPHAN_TWIN, "NoVirtualPod", about, cause, SYNCER, Mend.DELETE, origin)
    if uid_of(vpod) != noted and not (not noted and recorded_twin(vpod) == uid_of(ppod)):
        cause = f"it is the twin of a predecessor of virtual Pod {virtual} (uid {noted or 'unknown'}), and in its way"
        return Finding(Kind.ORPHAN_TWIN, "Predecessor", about, cause, SYNCER, Mend.DELETE if noted else Mend.NOTHING, origin)
    if not scene.physical_node_of(vpod["spec"].get("nodeName") or ""):
        cause = f"virtual Pod {virtual} lives, but its node {vpod['spec'].get('nodeName')} is no virtual node of this binding"
        remedy = "the syncer makes the virtual node again while it is leased"
        return Finding(Kind.ORPHAN_TWIN, "NodeMissing", about, cause, remedy)
    return None


def _stray(ppod: Json, vpod: Json | None, about: Ref, claims: Claims) -> Finding:
    virtual = virtual_key_of(ppod)
    if claimant := claims.of(ppod):
        cause = f"somebody took the annotations off that say it is the twin of {claimant}"
        return Finding(Kind.TWIN_DRIFT, "AnnotationsLost", about, cause, SYNCER)
    if vpod is not None and annotations_of(ppod).get(names.VIRTUAL_POD_UID_ANNOTATION) == uid_of(vpod):
        own = physical_name(virtual.name, virtual.namespace)
        cause = f"it says to be the twin of {virtual}, whose twin is {own}: a copied manifest"
        return Finding(Kind.SECOND_TWIN, "NotItsName", about, cause, SYNCER, Mend.DELETE)
    cause = "it carries our labels, and no virtual Pod claims it by name or uid: a copied manifest, or annotations taken off"
    return Finding(Kind.ORPHAN_TWIN, "Stray", about, cause, SYNCER, Mend.DELETE)


def check_token_secret(secret: Json, vpod: Json | None) -> Finding | None:
    """Return what is wrong with a token Secret of ours; `vpod` is the virtual Pod it names (one that has finished keeps it)."""
    noted = annotations_of(secret).get(names.VIRTUAL_POD_UID_ANNOTATION, "")
    if is_deleting(secret):
        return None
    if vpod is not None and uid_of(vpod) == noted:
        return None
    virtual = virtual_key_of(secret)
    cause = f"it holds tokens of virtual Pod {virtual} (uid {noted or 'unknown'}), which is gone"
    return Finding(
        Kind.LEFTOVER_TOKEN, "PodIsOver", ref_to(Side.PHYSICAL, SECRETS, secret), cause, SYNCER,
        Mend.DELETE if all(virtual) and noted else Mend.NOTHING, Ref(Side.VIRTUAL, PODS, virtual, noted),
    )


def _says_why(status: Json, condition: str) -> bool:
    return any(item["type"] == condition and item["status"] == "False" for item in status.get("conditions") or ())


def _place_of_twin(vpod: Json, scene: PodScene) -> Ref:
    name = physical_name(name_of(vpod), namespace_of(vpod))
    return Ref(Side.PHYSICAL, PODS, ObjectKey(scene.mount_namespace, name), recorded_twin(vpod))


def _origin(vpod: Json) -> Ref:
    return ref_to(Side.VIRTUAL, PODS, vpod)
