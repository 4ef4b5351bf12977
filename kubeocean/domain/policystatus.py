"""What a policy's status says: is it valid, is its window open, and does it have any effect.

One syncer writes the status of a borrower's policy: that of the binding the policy names. (A lender's policy has one such
status per borrower: `lenderstatus`.) It says the same thing in the
same words as long as nothing changes, and times (`lastTransitionTime`, `lastAppliedTime`) are never compared, so a pass
over an unchanged policy writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from kubeocean.domain.policies import Policy, describe
from kubeocean.domain.requests import sum_requests
from kubeocean.domain.windows import WindowState
from kubeocean.kube.meta import Json, format_time, resource_version_of
from kubeocean.kube.patch import diff_merge
from kubeocean.kube.quantity import Quantity


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """Everything the status of one policy depends on.

    `obj` is the object, `policy` the same as read; `window` is None when it is not valid. `won` counts the nodes it is
    effective on, `overshadowed_by` names the policies that won the others it selects, `leased` sums up its nodes, `beside`
    names those of the other side that are in force on them as well. `binding_name` is whose nodes are meant when
    `spec.cluster` may say something else. `zone_known`: it is known in which time zone its windows are to be read.
    """

    obj: Json
    policy: Policy
    binding_exists: bool
    window: WindowState | None
    won: int
    overshadowed_by: tuple[str, ...]
    leased: Mapping[str, str]
    now: datetime
    binding_name: str = ""
    beside: tuple[str, ...] = ()
    zone_known: bool = True


@dataclass(frozen=True, slots=True)
class _Verdict:
    holds: bool
    reason: str
    message: str


def diff_policy_status(facts: PolicyFacts) -> Json | None:
    """Return the merge patch of the policy's /status, with its resourceVersion; None when it says all that already."""
    old = facts.obj.get("status") or {}
    new = {**old, **build_policy_state(facts, old.get("conditions") or [])}
    patch = diff_merge(old, new)
    if patch is None:
        return None
    # Stamped only together with a change, or every pass would find one.
    status = {**patch, "lastAppliedTime": format_time(facts.now)}
    version = resource_version_of(facts.obj)
    return {"metadata": {"resourceVersion": version}, "status": status} if version else {"status": status}


def build_policy_state(facts: PolicyFacts, old: list[Json]) -> Json:
    """Return how the policy fares, all but `lastAppliedTime`; None stands for absent. `old` are the conditions so far."""
    return {**_state(facts), "conditions": _conditions(facts, old)}


def phase(facts: PolicyFacts) -> str:
    """Return Failed (not valid), Pending (no binding of that name), Active (window open) or Inactive."""
    if facts.policy.problems or facts.window is None:
        return "Failed"
    if not facts.binding_exists:
        return "Pending"
    return "Active" if facts.window.open else "Inactive"


def sum_leased(nodes: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the sum of what several nodes lease, by resource."""
    parsed = ({name: Quantity.parse(text) for name, text in node.items()} for node in nodes)
    return {name: str(quantity) for name, quantity in sorted(sum_requests(parsed).items())}


def _state(facts: PolicyFacts) -> Json:
    window = facts.window
    change = window.next_change if window else None
    return {
        "phase": phase(facts), "activeTimeWindow": bool(window and window.open),
        "nextChangeTime": format_time(change) if change else None,
        "nodes": facts.won, "leased": dict(facts.leased),
    }


def _conditions(facts: PolicyFacts, old: list[Json]) -> list[Json]:
    verdicts = {"Valid": _valid(facts), "Active": _active(facts), "Effective": _effective(facts)}
    known = {condition["type"]: condition for condition in old}
    theirs = [condition for condition in old if condition["type"] not in verdicts]
    return theirs + [_condition(facts, kind, verdict, known.get(kind) or {}) for kind, verdict in verdicts.items()]


def _condition(facts: PolicyFacts, kind: str, verdict: _Verdict, old: Json) -> Json:
    status = "True" if verdict.holds else "False"
    since = old.get("lastTransitionTime") if old.get("status") == status else None
    condition = {
        "type": kind, "status": status, "reason": verdict.reason, "message": verdict.message,
        "lastTransitionTime": since or format_time(facts.now),
    }
    generation = facts.obj["metadata"].get("generation")
    return {**condition, "observedGeneration": generation} if generation else condition


def _valid(facts: PolicyFacts) -> _Verdict:
    if facts.policy.problems:
        return _Verdict(False, "ValidationError", describe(facts.policy.problems))
    return _Verdict(True, "ValidationPassed", "the policy is valid")


def _active(facts: PolicyFacts) -> _Verdict:
    if facts.window is None:
        return _Verdict(False, "ValidationError", "the policy is not valid; what was leased under it stays as it was")
    if not facts.zone_known:
        return _Verdict(False, "TimeZoneUnknown", (
            f"its windows are in the timeZone of ClusterBinding {facts.policy.cluster}, which is no known time zone: nodes "
            "take nothing new, and nobody is evicted"
        ))
    window = facts.window.active
    if window is not None:
        return _Verdict(True, "ActiveTimeWindow", f"within the time window {window.start}-{window.end}")
    if facts.window.open:
        return _Verdict(True, "ActiveTimeWindow", "the policy has no time windows: always open")
    return _Verdict(False, "InactiveTimeWindow", "outside of all time windows")


def _effective(facts: PolicyFacts) -> _Verdict:
    cluster, winners = facts.binding_name or facts.policy.cluster, ", ".join(sorted(set(facts.overshadowed_by)))
    if facts.won:
        elsewhere = f"; other nodes it selects follow {winners}" if winners else ""
        others = ", ".join(sorted(set(facts.beside)))
        together = f", together with the other side's {others}" if others else ""
        return _Verdict(True, "Winning", f"the policy is in force on its nodes{together}{elsewhere}")
    if winners:
        return _Verdict(False, "Overshadowed", f"overshadowed by {winners}: raise spec.priority to win")
    if not facts.binding_exists:
        return _Verdict(False, "NoNodes", f"there is no ClusterBinding {cluster!r}: create it, or correct spec.cluster")
    return _Verdict(False, "NoNodes", f"selects no node of binding {cluster}: look at both nodeSelectors")
