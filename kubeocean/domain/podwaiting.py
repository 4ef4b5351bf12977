"""What a Pod waits for: a chain of questions; the first that has an answer tells.

Every answer names the object and, where somebody has to do something, what. The order is that of a Pod's life: it is going, or
over; it has no node; its node is none of ours; it gets no twin; it has none yet; its twin is not where it should be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

from kubeocean.api import names
from kubeocean.domain.claimwaiting import unbound_claims, unbound_copies
from kubeocean.domain.containerwaiting import waiting_containers
from kubeocean.domain.eligibility import check_eligible
from kubeocean.domain.podpair import recorded_twin
from kubeocean.domain.podscheduling import GIVE_UP_AFTER, GIVEN_UP
from kubeocean.domain.podstatus import TERMINAL_PHASES
from kubeocean.domain.podstory import (
    PodStory,
    asked_to_go_at,
    conditions_of,
    grace_of,
    is_true,
    phase_of,
    reason_and_message,
)
from kubeocean.kube.meta import Json, finalizers_of, is_deleting, key_of, name_of, namespace_of

# What the scheduler's words about taints of ours mean to who has not met them yet.
_HINTS: Final = {
    names.VNODE_TAINT: "only Pods that tolerate this taint run on virtual nodes",
    names.OUT_OF_WINDOW_TAINT: "the lease of such nodes is closed now: `kubectl get resourceleasingpolicies` shows the windows",
    names.CLUSTER_UNREACHABLE_TAINT: "their physical cluster does not answer: `kubectl get clusterbindings`",
    names.VNODE_DELETING_TAINT: "such nodes are no longer leased",
}


def explain_waiting(story: PodStory) -> list[str]:
    """Return what a Pod waits for, the nearest cause first; [] when it runs and is ready, or is over."""
    for question in _QUESTIONS:
        answer = question(story)
        if answer is not None:
            return [*answer, *_of_the_binding(answer, story)]
    return []


def _of_the_binding(waits: list[str], story: PodStory) -> Iterator[str]:
    """Yield what the ClusterBinding complains of, where its syncer is to do something."""
    if story.binding_says and any(each.startswith("the syncer") for each in waits):
        yield f"{_binding(story)}, which says {story.binding_says}"


# --- it is going, or over ----------------------------------------------------------------------------------------------
def _is_going(story: PodStory) -> list[str] | None:
    vpod, twin = story.vpod, story.ppod
    if not is_deleting(vpod):
        return [] if phase_of(vpod) in TERMINAL_PHASES else None
    if story.node and not story.ours:
        return None
    if twin is not None and is_deleting(twin):
        return [f"{_twin(story, twin)} to end, {_asked_to_go(twin, story.now)}{_held(twin)}"]
    if twin is not None:
        return [f"{_syncer(story)}, to delete {_twin(story, twin)}"]
    if held := finalizers_of(vpod):
        return [f"whoever holds it by finalizer {', '.join(held)}"]
    return [f"{_syncer(story)}, to release it: its twin is gone"] if story.ours else ["the API server, to remove it"]


def _held(pod: Json) -> str:
    held = finalizers_of(pod)
    return f"; held by finalizer {', '.join(held)}" if held else ""


# --- it has no node, or none of ours -----------------------------------------------------------------------------------
def _has_no_node(story: PodStory) -> list[str] | None:
    if story.node:
        return None
    spec = story.vpod["spec"]
    if gates := spec.get("schedulingGates"):
        held = ", ".join(gate["name"] for gate in gates)
        return [f"whoever takes scheduling gate {held} off it: no scheduler looks at it before"]
    name = spec.get("schedulerName") or "default-scheduler"
    scheduler = "the virtual scheduler" if name == "default-scheduler" else f"scheduler {name} of the virtual cluster"
    said = _say(conditions_of(story.vpod).get("PodScheduled"))
    hints = [f"{taint}: {hint}" for taint, hint in _HINTS.items() if f"{{{taint}" in said]
    waits = ["; ".join([f"{scheduler}: {said or 'it has not looked at it yet; see that it runs'}", *hints])]
    return [*waits, *_nonexistent(story), *unbound_claims(story)]


def _is_on_no_node_of_ours(story: PodStory) -> list[str] | None:
    if story.unbound_cluster:
        return [(
            f"node {story.node}, which belongs to clusterID {story.unbound_cluster}, of which there is no ClusterBinding: no "
            f"syncer runs the Pod, or ends it. Create the ClusterBinding again, or {_force(story)}; what may still run of it "
            "there is left behind"
        )]
    if story.node_gone:
        return [_node_gone(story)]
    if not story.ours:
        if is_true(story.vpod, "Ready") and not is_deleting(story.vpod):
            return []
        kubelet = f"node {story.node}, which is no virtual node of any ClusterBinding: its kubelet has the word"
        return [kubelet, *unbound_claims(story)]
    return None


def _node_gone(story: PodStory) -> str:
    gone = f"node {story.node}, which does not exist"
    if is_deleting(story.vpod):
        return f"the Pod garbage collector of the virtual cluster, to remove it: its {gone}; to wait no longer, {_force(story)}"
    if story.binding:
        runs = f"; {_twin(story, story.ppod)} is there meanwhile" if story.ppod else ""
        return (
            f"{gone}: by its name it is a virtual node of ClusterBinding {story.binding}, whose syncer makes it again while "
            f"the physical node is leased (`kubectl get clusterbinding {story.binding}`){runs}"
        )
    if story.node.startswith("vnode-"):
        return (
            f"{gone}: by its name it was a virtual node, and no ClusterBinding has its clusterID. Create that ClusterBinding "
            f"again, or {_force(story)}"
        )
    return f"{gone}: nobody runs the Pod, and unless it is there again soon the Pod garbage collector removes it"


def _force(story: PodStory) -> str:
    key = key_of(story.vpod)
    return f"`kubectl -n {key.namespace} delete pod {key.name} --grace-period=0 --force`"


# --- it has no twin ----------------------------------------------------------------------------------------------------
def _gets_no_twin(story: PodStory) -> list[str] | None:
    refusal = check_eligible(story.vpod, running_daemonsets=story.running_daemonsets)
    return [f"nothing: it gets no twin ({refusal.reason}): {refusal.message}"] if refusal else None


def _has_no_twin(story: PodStory) -> list[str] | None:
    if story.ppod is not None:
        return None
    if recorded := recorded_twin(story.vpod):
        gone = f"to hear that its twin (uid {recorded}) is gone: it will be Failed/{names.PHYSICAL_POD_LOST}"
        return [f"{_syncer(story)}, {gone}"]
    if story.unbinding:
        leaving = f"{_binding(story)} is being deleted; delete the Pod, to run it elsewhere"
        return [f"nothing: it gets no twin any more, for {leaving}"]
    refused = [f"nothing: it gets no twin as it is: {story.refusal}"] if story.refusal else []
    waits = [*refused, *_name_in_use(story), *_nonexistent(story), *unbound_claims(story)]
    said = _say(conditions_of(story.vpod).get(names.PHYSICAL_POD_CREATED))
    if said and not story.predecessor and not any(said in each or each in said for each in waits):
        waits.insert(0, f"{_syncer(story)}, which says {said}")
    return waits or [f"{_syncer(story)}, to create its twin: see that one runs for {_binding(story)}, and what it logs"]


def _nonexistent(story: PodStory) -> list[str]:
    return [f"{each}, which does not exist: create it" for each in story.missing]


def _name_in_use(story: PodStory) -> Iterator[str]:
    if (earlier := story.predecessor) is not None:
        place = f"{namespace_of(earlier)}/{name_of(earlier)} of {_binding(story)}"
        if is_deleting(earlier):
            asked = _asked_to_go(earlier, story.now)
            yield f"the twin of an earlier Pod of this name, {place}, to end ({asked}{_held(earlier)})"
        else:
            yield f"{_syncer(story)}, to delete the twin of an earlier Pod of this name, {place}"
    if story.taken is not None:
        place = f"{namespace_of(story.taken)}/{name_of(story.taken)} in the physical cluster of {_binding(story)}"
        yield f"the lender, to remove Pod {place}: it has the name of the twin, and is not ours"


def _asked_to_go(pod: Json, now: datetime | None) -> str:
    """Return since when a Pod is to go, in words; clocks that differ make no time negative."""
    at = asked_to_go_at(pod)
    ago = f"deleted {max(0, int((now - at).total_seconds()))} s ago" if now and at else "deleted"
    return f"{ago}, grace {grace_of(pod)} s"


# --- it has one --------------------------------------------------------------------------------------------------------
def _twin_waits(story: PodStory) -> list[str] | None:
    vpod, twin = story.vpod, story.ppod
    assert twin is not None, "the question before answers for a missing one"
    if is_deleting(twin):
        return [_taken_away(story, twin)]
    if phase_of(twin) in TERMINAL_PHASES:
        return [f"{_syncer(story)}, to mirror that {_twin(story, twin)} is {phase_of(twin)}"]
    if not twin["spec"].get("nodeName"):
        said = _say(conditions_of(twin).get("PodScheduled")) or "it has not looked at the twin yet"
        end = f"given up {GIVE_UP_AFTER.total_seconds() / 60:g} minutes after its creation, the Pod is then Failed/{GIVEN_UP}"
        return [f"the physical scheduler of {_binding(story)}: {said}; a twin without a node is {end}", *_claims(story)]
    if not is_true(twin, "Ready"):
        waits = waiting_containers(twin, key_of(vpod)) + _claims(story) or [_not_ready(story, twin)]
    else:
        waits = list(_gates(vpod)) or list(_not_mirrored(story))
    return [*waits, *_not_passed_on(vpod)]


def _taken_away(story: PodStory, twin: Json) -> str:
    why = conditions_of(twin).get("DisruptionTarget") or {}
    said = f" ({reason_and_message(why)})" if why.get("status") == "True" else ""
    return (
        f"{_twin(story, twin)} to end: somebody in the physical cluster has asked for it{said}, "
        f"{_asked_to_go(twin, story.now)}{_held(twin)}. This Pod is then Failed, and whatever controls it makes another"
    )


def _claims(story: PodStory) -> list[str]:
    return [*unbound_claims(story), *unbound_copies(story.copies, story.binding)]


def _not_ready(story: PodStory, twin: Json) -> str:
    said = _say(conditions_of(twin).get("Ready"))
    if not (twin.get("status") or {}).get("startTime") and not said:
        return f"the kubelet of physical node {twin['spec']['nodeName']}, to accept {_twin(story, twin)}: it has not spoken yet"
    return f"{_twin(story, twin)} to be ready: {said or 'the kubelet does not say what is missing'}"


def _gates(vpod: Json) -> Iterator[str]:
    for gate in vpod["spec"].get("readinessGates") or ():
        if not is_true(vpod, gate["conditionType"]):
            yield f"readiness gate {gate['conditionType']}: somebody has to set this condition on the virtual Pod"


def _not_passed_on(vpod: Json) -> Iterator[str]:
    if said := _say(conditions_of(vpod).get(names.PHYSICAL_POD_UPDATED)):
        yield f"a change of it to reach its twin: {said}"


def _not_mirrored(story: PodStory) -> Iterator[str]:
    if phase_of(story.vpod) == "Running" and is_true(story.vpod, "Ready"):
        return
    said = _say(conditions_of(story.vpod).get("Ready"))
    yield f"{_syncer(story)}, to mirror the status of its twin, which is ready" + (f"; the Pod says {said}" if said else "")


# --- words -------------------------------------------------------------------------------------------------------------
def _binding(story: PodStory) -> str:
    return f"ClusterBinding {story.binding}" if story.binding else "this ClusterBinding"


def _syncer(story: PodStory) -> str:
    return f"the syncer of {_binding(story)}"


def _twin(story: PodStory, twin: Json) -> str:
    return f"its twin {namespace_of(twin)}/{name_of(twin)} in the physical cluster of {_binding(story)}"


def _say(condition: Json | None) -> str:
    if not condition or condition.get("status") == "True":
        return ""
    return reason_and_message(condition)


_QUESTIONS: Final[tuple[Callable[[PodStory], list[str] | None], ...]] = (
    _is_going, _has_no_node, _is_on_no_node_of_ours, _gets_no_twin, _has_no_twin, _twin_waits,
)
