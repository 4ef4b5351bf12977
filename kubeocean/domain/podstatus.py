"""What the twin says, written to the virtual Pod: one strategic merge patch of `pods/status`, or none.

The patch carries status *and* metadata, because one PATCH of the status subresource may (design.md [D5]): the mapping
annotations, and what others have put on the twin (`podlift`). It is a difference: what the virtual Pod says already is
left out, and when nothing is left nothing is sent. Kubernetes' own merge rules shape it (field-notes §4): conditions merge
by type, so those that others keep on the virtual Pod are never touched; podIPs and hostIPs would merge by ip, so they are
led by `$patch: replace`; container statuses are atomic; a key that is gone must be nulled.

Whose truth counts where:

- phase, addresses, container statuses and nearly all conditions: the twin's;
- PodScheduled: the virtual scheduler's, never touched. Readiness gates: their owners'. A DisruptionTarget that the
  virtual cluster has set stays. `Ready` is the twin's word AND the gates;
- a terminal phase is final: a twin that disagrees is not believed any more;
- qosClass is immutable and resourceClaimStatuses mean nothing here: neither is in the allow-list.

`metadata.uid` makes the server refuse a patch meant for a predecessor of the same name. No resourceVersion, except with
labels and annotations that a user may be writing, too: the rest is our part only, so a concurrent write of somebody else is
no conflict.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from kubeocean.api import names
from kubeocean.domain.podconditions import Generations, diff_conditions
from kubeocean.domain.podlift import diff_lifted
from kubeocean.domain.podstory import reason_and_message
from kubeocean.domain.refusal import Refusal
from kubeocean.kube.meta import Json, annotations_of, finalizers_of, format_time, name_of, namespace_of, uid_of

TERMINAL_PHASES: Final = frozenset({"Succeeded", "Failed"})
EVICTED: Final = "Evicted"  # as kubelets say it
_PLAIN_FIELDS: Final = (  # scalars, and lists that the server replaces whole
    "phase", "reason", "message", "hostIP", "podIP", "startTime",
    "containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses",
)
_IP_LISTS: Final = ("podIPs", "hostIPs")
_SAYING_SOMETHING: Final = (*_PLAIN_FIELDS[1:], *_IP_LISTS)
# What a kubelet writes of a container it can no longer ask (pkg/kubelet/status/status_manager.go, TerminatePod).
_UNKNOWN_END: Final = {
    "exitCode": 137, "reason": "ContainerStatusUnknown",
    "message": "The container could not be located when the pod was terminated",
}


def says_nothing_yet(ppod: Json) -> bool:
    """Tell whether a twin has no status worth mirroring: created, perhaps scheduled, but no kubelet has spoken."""
    status = ppod.get("status") or {}
    if (status.get("phase") or "Pending") != "Pending" or any(status.get(field) for field in _SAYING_SOMETHING):
        return False
    return all(condition["type"] == "PodScheduled" for condition in status.get("conditions") or ())


def diff_pod_status(vpod: Json, ppod: Json) -> Json | None:
    """Return the strategic merge patch that makes the virtual Pod's status that of its twin; None when it is."""
    mine, theirs = vpod.get("status") or {}, ppod.get("status") or {}
    if mine.get("phase") in TERMINAL_PHASES and theirs.get("phase") != mine["phase"]:
        return None
    status = {} if says_nothing_yet(ppod) else _diff_fields(mine, theirs)
    observed = Generations(vpod, ppod)
    if conditions := list(diff_conditions(vpod, theirs, observed)):
        status["conditions"] = conditions
    generation = observed.translate(theirs.get("observedGeneration"), mine.get("observedGeneration"))
    if generation != mine.get("observedGeneration"):
        status["observedGeneration"] = generation
    metadata = diff_lifted(vpod, ppod)
    if mapping := _diff_mapping(vpod, ppod):
        metadata["annotations"] = metadata.get("annotations", {}) | mapping
    if not (status or metadata):
        return None
    patch: Json = {"metadata": {"uid": uid_of(vpod), **metadata}}
    if status:
        patch["status"] = status
    return patch


def _diff_mapping(vpod: Json, ppod: Json) -> dict[str, str]:
    live = annotations_of(vpod)
    mapping = {
        names.PHYSICAL_POD_NAMESPACE_ANNOTATION: namespace_of(ppod),
        names.PHYSICAL_POD_NAME_ANNOTATION: name_of(ppod),
        names.PHYSICAL_POD_UID_ANNOTATION: uid_of(ppod),
    }
    if live.get(names.PHYSICAL_POD_UID_ANNOTATION) != uid_of(ppod):
        # A Pod made from another's YAML brings its notes along. Not added by itself: what is mapped needs no second write.
        mapping[names.MAPPED_UID_ANNOTATION] = uid_of(vpod)
    return {key: value for key, value in mapping.items() if live.get(key) != value}


def _diff_fields(mine: Json, theirs: Json) -> Json:
    patch: Json = {}
    for field in _PLAIN_FIELDS:
        value = theirs.get(field) or None
        if value != (mine.get(field) or None):
            patch[field] = value
    for field in _IP_LISTS:
        value = theirs.get(field) or None
        if value != (mine.get(field) or None):
            patch[field] = value and [{"$patch": "replace"}, *value]
    return patch


def build_ended_patch(vpod: Json) -> Json | None:
    """Return the strategic merge patch that ends a Pod which is being deleted, before it is released; None when not needed.

    Only a Pod that somebody's finalizer will keep afterwards needs it: Jobs with a podFailurePolicy wait for a terminal
    phase (KEP-3939), which a Pod whose twin never ran would not reach by itself.
    """
    if not finalizers_of(vpod) or (vpod.get("status") or {}).get("phase") in TERMINAL_PHASES:
        return None
    message = "the Pod was deleted, and nothing of it runs any more"
    return {"metadata": {"uid": uid_of(vpod)}, "status": {"phase": "Failed", "reason": "Terminated", "message": message}}


def build_lost_patch(vpod: Json, now: datetime) -> Json:
    """Return the strategic merge patch that ends a virtual Pod whose twin has vanished: Failed / PhysicalPodLost.

    A twin that had said why it goes (DisruptionTarget) was not lost but evicted. What ran is terminated as a kubelet does it
    for containers it has lost; what had ended keeps its true end.
    """
    status = vpod.get("status") or {}
    reason, message = _why_gone(status)
    patch: Json = {
        "phase": "Failed", "reason": reason, "message": message, "conditions": _not_ready(status, reason, format_time(now)),
    }
    conditions = status.get("conditions") or ()
    initialized = any(item["type"] == "Initialized" and item["status"] == "True" for item in conditions)
    for field in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        if statuses := status.get(field):
            # Containers whose turn had not come yet never ran: they keep waiting, as with a kubelet.
            all_of_them = initialized and field == "containerStatuses"
            patch[field] = [_ended(item, now) if all_of_them or _runs(item) else item for item in statuses]
    return {"metadata": {"uid": uid_of(vpod)}, "status": patch}


def _why_gone(status: Json) -> tuple[str, str]:
    disruption: Json = next((item for item in status.get("conditions") or () if item["type"] == "DisruptionTarget"), {})
    if disruption.get("status") == "True":
        why = reason_and_message(disruption)
        return EVICTED, f"the physical Pod behind this Pod was taken away by its cluster: {why}"
    return (
        names.PHYSICAL_POD_LOST,
        "the physical Pod behind this Pod is gone without having finished: it was deleted, or its node was",
    )


def _not_ready(status: Json, reason: str, at: str) -> list[Json]:
    live = {condition["type"]: condition for condition in status.get("conditions") or ()}
    message = "the physical Pod is gone"
    return [
        {**dict.fromkeys(live.get(kind) or ()), **_condition(live.get(kind), kind, reason, message, at)}
        for kind in ("Ready", "ContainersReady")
    ]


def build_unknown_patch(vpod: Json, since: datetime) -> Json | None:
    """Return the strategic merge patch that takes a Pod out of service whose node is Unknown; None when it is not Ready anyhow.

    What the virtual node controller does for nodes that it sees die itself (reason as in `NodeUnreachablePodReason`). Nothing
    else is claimed: the containers may well run. `diff_pod_status` undoes it as soon as the twin is heard of again.
    """
    conditions = (vpod.get("status") or {}).get("conditions") or ()
    live = next((item for item in conditions if item["type"] == "Ready"), None)
    if live is None or live.get("status") != "True":
        return None
    message = f"node {vpod['spec'].get('nodeName')} cannot be asked: its physical cluster does not answer"
    condition = _condition(live, "Ready", "NodeLost", message, format_time(since))
    return {"metadata": {"uid": uid_of(vpod)}, "status": {"conditions": [{**dict.fromkeys(live), **condition}]}}


def _runs(status: Json) -> bool:
    return bool((status.get("state") or {}).get("running"))


def _ended(status: Json, now: datetime) -> Json:
    state = status.get("state") or {}
    if state.get("terminated"):
        return status
    end: Json = {**_UNKNOWN_END, "finishedAt": format_time(now)}
    if started := (state.get("running") or {}).get("startedAt"):
        end["startedAt"] = started
    if container := status.get("containerID"):
        end["containerID"] = container
    return {**status, "ready": False, "started": False, "state": {"terminated": end}}


def build_refusal_patch(
    vpod: Json, refusal: Refusal, now: datetime, *, condition: str = names.PHYSICAL_POD_CREATED
) -> Json | None:
    """Return the strategic merge patch that says on the virtual Pod why it has no twin; None when it says so already.

    `condition` may name another one of ours (PhysicalPodScheduled). It goes away by itself: `diff_pod_status` removes
    it once a twin proves it wrong.
    """
    conditions = (vpod.get("status") or {}).get("conditions") or ()
    live = next((item for item in conditions if item["type"] == condition), None)
    wanted = _condition(live, condition, refusal.reason, refusal.message, format_time(now))
    if live and all(live.get(key) == value for key, value in wanted.items()):
        return None
    return {"metadata": {"uid": uid_of(vpod)}, "status": {"conditions": [wanted]}}


def _condition(live: Json | None, kind: str, reason: str, message: str, at: str) -> Json:
    """Return a False condition; its transition time moves only when the status does."""
    since = live.get("lastTransitionTime") if live and live.get("status") == "False" else None
    return {"type": kind, "status": "False", "reason": reason, "message": message, "lastTransitionTime": since or at}
