"""What is known of the lender's own policies, and what may be leased on the strength of it.

The lender's side is read over somebody else's API server, where the kind may be missing, forbidden or out of order:

    Read        they are as they stand in the cache
    Absent      the lender has no such kind (discovery says so, whatever the watch was answered): he has no policies
    NotGranted  the lender does not let us read them, and never did: none are honoured, and that is said
    Unknown     anything else: what was known last stays in force, and nothing new is leased

A right that is withdrawn is not one that was never granted. Whoever has read policies, or leases nodes under one, goes on
under what he knew: else a slip in the lender's RBAC would lift his own limits.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from kubeocean.domain.policies import Choice, Policy, Remembered, choose_policy, lender_aliases, recall_policy
from kubeocean.kube.errors import Forbidden
from kubeocean.kube.meta import Json

# A watch that is cut once and resumes has missed nothing; it is out of date when it cannot resume either.
_FAILURES_TO_DOUBT = 2


class Standing(StrEnum):
    """How we stand with the lender's policies."""

    UNREAD = "Unread"  # asked for, no answer yet
    READ = "Read"
    ABSENT = "Absent"
    NOT_GRANTED = "NotGranted"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class LenderView:
    """The lender's policies as far as they are known. None: they have never been read, only virtual nodes remember.

    `trouble` says why they may be out of date, "" when they are not; meanwhile nothing new is leased.
    """

    policies: Collection[Policy] | None = ()
    trouble: str = ""


def judge_standing(
    error: Exception | None, *, failures: int, synced: bool, absent: bool, read_before: bool
) -> Standing:
    """Return how we stand, from how the watch fares: its last `error`, and how many `failures` there were in a row.

    `synced`: the cache was complete once; `absent`: discovery does not know the kind; `read_before`: the lender's policies
    were read once, by this process or by whom it succeeds.
    """
    if absent:
        return Standing.ABSENT
    if isinstance(error, Forbidden):
        return Standing.UNKNOWN if read_before else Standing.NOT_GRANTED
    if error is not None and (not synced or failures >= _FAILURES_TO_DOUBT):
        return Standing.UNKNOWN
    return Standing.READ if synced else Standing.UNREAD


def build_view(standing: Standing, known: Collection[Policy] | None, why: str) -> LenderView:
    """Return what passes go by. `known` is what the cache holds, None before it was complete; `why` explains trouble."""
    if standing in (Standing.ABSENT, Standing.NOT_GRANTED):
        return LenderView()
    if standing is Standing.READ and known is not None:
        return LenderView(known)
    return LenderView(known, f"the lender's policies cannot be read: {why or 'no answer yet'}")


def choose_lender_policy(
    node: Json, view: LenderView, binding_name: str, cluster_id: str, remembered: Remembered | None
) -> Choice:
    """Return which of the lender's policies is effective on physical `node` for the binding of these names."""
    policies = view.policies
    if policies is None:
        policies = (recall_policy(remembered),) if remembered else ()
    return choose_policy(node, policies, binding_name, remembered, aliases=lender_aliases(cluster_id))


def serves_kind(groups: Json, group: str, version: str) -> bool:
    """Tell whether an APIGroupList (`GET /apis`) names this version of the group."""
    versions = (
        item.get("version") for each in groups.get("groups") or () if each.get("name") == group
        for item in each.get("versions") or ()
    )
    return version in versions
