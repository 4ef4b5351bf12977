"""What a lender's policy says about its borrowers: to each of them it may mean something else.

    status.borrowers      one entry per borrower (virtual cluster), where the lender's CRD has the field
    phase, conditions...  the fields `kubectl get rlp` shows: one borrower's, the first that came, if nobody else writes them

Several borrowers, and perhaps the lender's own programs, write to one object. Every write carries the resourceVersion it was
decided on and touches only what is the writer's own: the entry with its uid, and the scalar fields if they were empty when it
came. Whose they are is said among the conditions (type `Borrower`), so it survives the writer and needs no guessing.

Two bindings of one virtual cluster may lead into the same physical cluster. They are one borrower and have one entry; the
binding that is named there speaks, until it is gone, or until another one has nodes under the policy and it has none.

A field that the served CRD lacks is never written: the API server would drop it, and every pass would write it again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from kubeocean.domain.policystatus import PolicyFacts, build_policy_state
from kubeocean.kube.meta import Json, format_time, resource_version_of
from kubeocean.kube.patch import diff_merge

BORROWERS: Final = "borrowers"
SPEAKS_FOR: Final = "Borrower"  # type of the condition that says whose the scalar fields are, as UID/CLUSTERID
_OUR_CONDITIONS: Final = frozenset({"Valid", "Active", "Effective", SPEAKS_FOR})
_SCALARS: Final = ("phase", "activeTimeWindow", "nextChangeTime", "nodes", "leased", "lastAppliedTime")
# What every CRD of this kind has had, the Go project's included: taken for granted while the schema cannot be read.
OLDEST_FIELDS: Final = frozenset({"phase", "activeTimeWindow", "lastAppliedTime", "conditions"})
ALL_FIELDS: Final = frozenset({*_SCALARS, "conditions", BORROWERS})


@dataclass(frozen=True, slots=True)
class Borrower:
    """Who speaks: a virtual cluster, through one binding. `siblings` are the clusterIDs of its other living bindings."""

    uid: str
    cluster_id: str
    siblings: Collection[str] = field(default=())

    @property
    def text(self) -> str:
        """Return how the scalar fields are claimed."""
        return f"{self.uid}/{self.cluster_id}"


def diff_lender_status(facts: PolicyFacts, borrower: Borrower, served: Collection[str]) -> Json | None:
    """Return the merge patch of the policy's /status, with its resourceVersion; None when it says all that already.

    `served` are the fields of status that the lender's CRD has, see `served_status_fields`.
    """
    old = facts.obj.get("status") or {}
    if not _may_speak(old, borrower, won=facts.won):
        return None
    status = _diff_entry(facts, old, borrower) if BORROWERS in served else {}
    return _with_version(facts.obj, status | _diff_scalars(facts, old, borrower, served))


def diff_withdrawal(obj: Json, borrower: Borrower) -> Json | None:
    """Return the merge patch of /status that takes back what this binding said there; None when there is nothing."""
    old = obj.get("status") or {}
    status: Json = {}
    entries = old.get(BORROWERS) or []
    left = [entry for entry in entries if not (_is_of(entry, borrower) and entry.get("clusterID") == borrower.cluster_id)]
    if len(left) != len(entries):
        status[BORROWERS] = left or None
    if _claim(old) == borrower.text:
        conditions = [item for item in old.get("conditions") or () if item.get("type") not in _OUR_CONDITIONS]
        status |= {name: None for name in _SCALARS if name in old} | {"conditions": conditions or None}
    return _with_version(obj, status)


def served_status_fields(openapi: Json, group: str, version: str, kind: str) -> frozenset[str]:
    """Return which fields of status the server knows, from the OpenAPI v3 document of the group's version.

    A kind that is not in there is taken for the oldest, one whose status takes whatever it is given for our own.
    """
    wanted = {"group": group, "version": version, "kind": kind}
    for schema in ((openapi.get("components") or {}).get("schemas") or {}).values():
        if wanted in (schema.get("x-kubernetes-group-version-kind") or ()):
            status = (schema.get("properties") or {}).get("status") or {}
            open_ended = status.get("x-kubernetes-preserve-unknown-fields")
            return ALL_FIELDS if open_ended else frozenset(status.get("properties") or ())
    return OLDEST_FIELDS


# --- whose turn is it? -----------------------------------------------------------------------------------------------
def _may_speak(old: Json, borrower: Borrower, *, won: int) -> bool:
    entry = _entry_of(old, borrower)
    uid, _, speaker = _claim(old).partition("/")
    conditions = entry.get("conditions") if entry else old.get("conditions")
    speaker = entry.get("clusterID") or "" if entry else (speaker if uid == borrower.uid else "")
    if speaker in ("", borrower.cluster_id) or speaker not in borrower.siblings:
        return True
    return won > 0 and not _is_effective(conditions or ())


def _scalars_are_free(old: Json, borrower: Borrower) -> bool:
    if claim := _claim(old):
        return claim.partition("/")[0] == borrower.uid
    return not any(name in old for name in _SCALARS) and not old.get("conditions")


def _claim(old: Json) -> str:
    said = (item.get("message") for item in old.get("conditions") or () if item.get("type") == SPEAKS_FOR)
    return next(said, None) or ""


def _is_effective(conditions: Iterable[Json]) -> bool:
    return any(item.get("type") == "Effective" and item.get("status") == "True" for item in conditions)


def _is_of(entry: Json, borrower: Borrower) -> bool:
    return bool(entry.get("virtualClusterUID") == borrower.uid)


def _entry_of(old: Json, borrower: Borrower) -> Json:
    return next((entry for entry in old.get(BORROWERS) or () if _is_of(entry, borrower)), {})


# --- what is to be written? ------------------------------------------------------------------------------------------
def _diff_entry(facts: PolicyFacts, old: Json, borrower: Borrower) -> Json:
    before = _entry_of(old, borrower)
    state = build_policy_state(facts, before.get("conditions") or [])
    # A list goes over the wire whole, and a null in it would stay one: what is absent must be left out.
    state = {key: value for key, value in state.items() if value is not None}
    entry = {"virtualClusterUID": borrower.uid, "clusterID": borrower.cluster_id, **state}
    if entry == {key: value for key, value in before.items() if key != "lastAppliedTime"}:
        return {}
    entry["lastAppliedTime"] = format_time(facts.now)
    entries = old.get(BORROWERS) or []
    return {BORROWERS: [entry if _is_of(each, borrower) else each for each in entries] if before else [*entries, entry]}


def _diff_scalars(facts: PolicyFacts, old: Json, borrower: Borrower, served: Collection[str]) -> Json:
    if not _scalars_are_free(old, borrower):
        return {}
    conditions = old.get("conditions") or []
    state = build_policy_state(facts, [item for item in conditions if item.get("type") != SPEAKS_FOR])
    state["conditions"].append(_claim_condition(facts, borrower, conditions))
    state = {key: value for key, value in state.items() if key in served}
    patch = diff_merge({key: old.get(key) for key in state}, state)
    return {**patch, "lastAppliedTime": format_time(facts.now)} if patch else {}


def _claim_condition(facts: PolicyFacts, borrower: Borrower, old: Iterable[Json]) -> Json:
    said = next((item for item in old if item.get("type") == SPEAKS_FOR and item.get("message") == borrower.text), None)
    return said or {
        "type": SPEAKS_FOR, "status": "True", "reason": "FirstToLease", "message": borrower.text,
        "lastTransitionTime": format_time(facts.now),
    }


def _with_version(obj: Json, status: Json) -> Json | None:
    if not status:
        return None
    version = resource_version_of(obj)
    return {"metadata": {"resourceVersion": version}, "status": status} if version else {"status": status}
