"""Is this binding in order, and if not, why?

The answer is a chain of questions, the first one with an objection decides; each sees only facts. What follows from the
answer (phase, conditions, whether a syncer may run) is derived here too, so that `kubectl get cb` and what we do agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from kubeocean.api import names
from kubeocean.domain.proxierstate import ProxierState
from kubeocean.kube.meta import Json, finalizers_of, format_time, is_deleting, name_of, resource_version_of

PENDING, READY, FAILED = "Pending", "Ready", "Failed"
INITIALIZING = "Initializing"
VALIDATION_FAILED = "ValidationFailed"
CONNECTIVITY_FAILED = "ConnectivityFailed"
PERMISSION_DENIED = "PermissionDenied"
IDENTITY_CHANGED = "ClusterIdentityChanged"
CLUSTER_UNREACHABLE = "ClusterUnreachable"
SYNCER_FAILED = "SyncerFailed"
UNBINDING = "Unbinding"
NOT_DEPLOYED = "NotDeployed"


@dataclass(frozen=True, slots=True)
class Connection:
    """What the last look at the physical cluster showed; `reason` is "" when all was well."""

    reason: str = ""
    message: str = ""
    version: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True)
class SyncerState:
    """How the binding's syncer is doing; `reason` names a trouble of its own, such as NamespaceClaimed."""

    ready: bool
    message: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BindingFacts:
    """All that is known about one binding.

    `connection` None: nobody has looked yet; `syncer` None: none runs; `proxier` None: it is others who start one.
    """

    binding: Json
    problems: Sequence[str] = ()
    duplicate_of: str = ""
    connection: Connection | None = None
    syncer: SyncerState | None = None
    proxier: ProxierState | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`launch` says whether a syncer should be started; a running one is never stopped for a passing trouble."""

    phase: str
    reason: str
    message: str
    launch: bool


def decide_binding(facts: BindingFacts) -> Verdict:
    """Return the state of a binding and why."""
    for question in _QUESTIONS:
        if verdict := question(facts):
            return verdict
    return Verdict(READY, READY, "the physical cluster is connected and synchronised", True)


def _unbinding(facts: BindingFacts) -> Verdict | None:
    if not is_deleting(facts.binding):
        return None
    syncer = facts.syncer
    if syncer and syncer.reason:
        message = f"unbinding waits: {syncer.message}. spec.deletionPolicy: Force lets go of what is left in that cluster"
        return Verdict(FAILED, syncer.reason, message, True)
    return Verdict(PENDING, UNBINDING, syncer.message if syncer else "unbinding", True)


def _invalid(facts: BindingFacts) -> Verdict | None:
    if facts.problems:
        # What has been served may be served on: see `api.binding.parse_served_binding`.
        return Verdict(FAILED, VALIDATION_FAILED, "; ".join(facts.problems), _is_held(facts))
    return None


def _duplicate(facts: BindingFacts) -> Verdict | None:
    if facts.duplicate_of:
        cluster_id = facts.binding["spec"].get("clusterID")
        return Verdict(
            FAILED, VALIDATION_FAILED,
            f"spec.clusterID {cluster_id!r} is already used by ClusterBinding {facts.duplicate_of!r}: "
            "delete this binding and create it again with a clusterID of its own", False,
        )
    return None


def _not_looked_yet(facts: BindingFacts) -> Verdict | None:
    if facts.connection is None:
        return Verdict(PENDING, INITIALIZING, "checking the connection to the physical cluster", False)
    return None


def _not_connected(facts: BindingFacts) -> Verdict | None:
    connection = facts.connection
    if connection and connection.reason:
        # What a syncer held before needs one now, if only to keep new Pods away: see `syncer.bottomup.cutoff`.
        return Verdict(FAILED, connection.reason, connection.message, _is_held(facts))
    return None


def _is_held(facts: BindingFacts) -> bool:
    return names.BINDING_SYNCER_FINALIZER in finalizers_of(facts.binding)


def _syncer_in_trouble(facts: BindingFacts) -> Verdict | None:
    if facts.syncer and not facts.syncer.ready and facts.syncer.reason:
        return Verdict(FAILED, facts.syncer.reason, facts.syncer.message, True)
    return None


def _syncer_starting(facts: BindingFacts) -> Verdict | None:
    if facts.syncer is None or not facts.syncer.ready:
        return Verdict(PENDING, INITIALIZING, facts.syncer.message if facts.syncer else "the syncer is starting", True)
    return None


_QUESTIONS: tuple[Callable[[BindingFacts], Verdict | None], ...] = (
    _unbinding, _invalid, _duplicate, _not_looked_yet, _not_connected, _syncer_in_trouble, _syncer_starting,
)


def build_conditions(facts: BindingFacts, verdict: Verdict) -> list[Json]:
    """Return our four conditions, without times (`diff_status` gives them theirs)."""
    connection, syncer = facts.connection, facts.syncer
    return [
        _condition("Ready", verdict.phase == READY, verdict.reason, verdict.message),
        _connected(connection, syncer, verdict),
        _condition(
            "SyncerReady", bool(syncer and syncer.ready),
            "SyncerRunning" if syncer and syncer.ready else (syncer.reason if syncer and syncer.reason else INITIALIZING),
            syncer.message if syncer else "no syncer runs for this binding",
        ),
        _proxier(facts),
    ]


def _proxier(facts: BindingFacts) -> Json:
    state = facts.proxier
    if state is None:
        name = name_of(facts.binding)
        return _condition(
            "ProxierReady", False, NOT_DEPLOYED, "this manager starts no proxier and cannot tell whether one serves: "
            f"kubectl logs, exec and port-forward need `kubeocean proxier --cluster-binding-name {name}`",
        ) | {"status": "Unknown"}
    before = next((
        each for each in (facts.binding.get("status") or {}).get("conditions") or () if each["type"] == "ProxierReady"
    ), None)
    if before and before["status"] == "True" and not (state.ready or state.reason):
        return dict(before)  # started anew with its manager: over in a moment, or it fails with a reason
    return _condition("ProxierReady", state.ready, state.reason or ("Serving" if state.ready else INITIALIZING), state.message)


def _connected(connection: Connection | None, syncer: SyncerState | None, verdict: Verdict) -> Json:
    if connection is None:
        unknown = _condition("Connected", False, verdict.reason, verdict.message)
        return unknown | {"status": "Unknown"}
    if connection.reason:
        return _condition("Connected", False, connection.reason, connection.message)
    if syncer and syncer.reason == CLUSTER_UNREACHABLE:
        return _condition("Connected", False, syncer.reason, syncer.message)  # it asks far more often than the manager
    return _condition("Connected", True, "Connected", f"Kubernetes {connection.version} answers")


def _condition(kind: str, status: bool, reason: str, message: str) -> Json:
    return {"type": kind, "status": str(status), "reason": reason, "message": message[:1024]}


def diff_status(facts: BindingFacts, verdict: Verdict, now: datetime) -> Json | None:
    """Return the merge patch that makes the binding's status true; None when it is.

    It carries the resourceVersion it was computed from: the list of conditions travels whole, and somebody else's
    condition must not be lost. `physicalClusterUID` is written once and never changed.
    """
    binding, old = facts.binding, facts.binding.get("status") or {}
    if _merely_starting_again(binding, verdict):
        return None
    wanted: Json = {
        "phase": verdict.phase, "observedGeneration": binding["metadata"].get("generation", 0),
        "conditions": merge_conditions(old.get("conditions") or [], build_conditions(facts, verdict), now),
        "lastError": "" if verdict.phase != FAILED else verdict.message,
    }
    if facts.connection and not facts.connection.reason:
        wanted["kubernetesVersion"] = facts.connection.version
        wanted["physicalClusterUID"] = old.get("physicalClusterUID") or facts.connection.uid
    changed = {key: value for key, value in wanted.items() if old.get(key, "" if key == "lastError" else None) != value}
    if not changed:
        return None
    if verdict.phase == READY and old.get("phase") != READY:
        changed["lastSyncTime"] = format_time(now)
    return {"metadata": {"name": name_of(binding), "resourceVersion": resource_version_of(binding)}, "status": changed}


def _merely_starting_again(binding: Json, verdict: Verdict) -> bool:
    """Tell whether a binding that is Ready has its syncer started anew: after a change of leader, or with new credentials.

    That is over in a moment or fails with a reason; telling it would write twice on every binding at every restart.
    """
    status = binding.get("status") or {}
    observed = status.get("observedGeneration") == binding["metadata"].get("generation", 0)
    return verdict.reason == INITIALIZING and status.get("phase") == READY and observed


def merge_conditions(old: Sequence[Json], wanted: Sequence[Json], now: datetime) -> list[Json]:
    """Merge conditions by type: others' are kept, lastTransitionTime moves only when a status does."""
    merged = {condition["type"]: condition for condition in old}
    for condition in wanted:
        before = merged.get(condition["type"])
        same_status = before is not None and before.get("status") == condition["status"]
        since = before.get("lastTransitionTime") if before and same_status else None
        merged[condition["type"]] = condition | {"lastTransitionTime": since or format_time(now)}
    return list(merged.values())


def find_duplicate(binding: Json, others: Sequence[Json]) -> str:
    """Return the name of the older binding with the same clusterID, "" when there is none: the first one is never harmed.

    Timestamps have whole seconds, so of two that are equally old the one that was connected already is the first.
    """
    def age(obj: Json) -> tuple[str, bool, str]:
        connected = bool((obj.get("status") or {}).get("physicalClusterUID"))
        return obj["metadata"].get("creationTimestamp", ""), not connected, obj["metadata"]["name"]

    cluster_id = (binding.get("spec") or {}).get("clusterID")
    for other in sorted(others, key=age):
        if other["metadata"]["name"] == binding["metadata"]["name"]:
            return ""
        if (other.get("spec") or {}).get("clusterID") == cluster_id:
            return name_of(other)
    return ""
