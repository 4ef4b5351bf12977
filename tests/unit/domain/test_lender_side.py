"""The lender has a say of his own: what it does to a node, and what is done while it cannot be heard."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import pytest

from kubeocean.api.binding import ClusterBindingSpec, SecretReference
from kubeocean.api.names import LAST_VALID_LENDER_POLICY_ANNOTATION, LAST_VALID_POLICY_ANNOTATION
from kubeocean.domain.leasing import Lease, LeaseFacts, assess
from kubeocean.domain.lender import LenderView, Standing, build_view, judge_standing, serves_kind
from kubeocean.domain.policies import Policy, Remembered, read_lender_policy, read_policy
from kubeocean.kube.errors import ApiError, Forbidden, NotFound, ServerError, Unreachable
from kubeocean.kube.meta import Json

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NODE: Json = {
    "metadata": {"name": "node-1", "labels": {"zone": "a"}}, "status": {"allocatable": {"cpu": "8", "memory": "32Gi"}},
}
BINDING = ClusterBindingSpec(
    cluster_id="edge", secret_ref=SecretReference(name="s", namespace="n"), mount_namespace="mount"
)
NIGHT = [{"start": "22:00", "end": "05:59"}]
NOWHERE = "Mars/Olympus"


def policy(name: str, *, cluster: str = "binding", deleting: bool = False, **spec: Any) -> Json:
    metadata: Json = {"name": name, "uid": f"uid-{name}", "creationTimestamp": "2026-01-01T00:00:00Z"}
    if deleting:
        metadata["deletionTimestamp"] = "2026-02-01T00:00:00Z"
    return {"metadata": metadata, "spec": {"cluster": cluster, **spec}}


def cpu(quantity: int) -> list[Json]:
    return [{"resource": "cpu", "quantity": quantity}]


def lenders(*policies: Json) -> list[Policy]:
    return [read_lender_policy(item) for item in policies]


def vnode(*, borrowers: Json | None = None, lenders: Json | None = None) -> Json:
    """Return a virtual node as the lease under these policies left it."""
    notes = ((LAST_VALID_POLICY_ANNOTATION, borrowers), (LAST_VALID_LENDER_POLICY_ANNOTATION, lenders))
    annotations = {key: remember(obj).text() for key, obj in notes if obj}
    return {"metadata": {"name": "v", "annotations": annotations}, "status": {"allocatable": {"cpu": "7"}}}


def remember(obj: Json) -> Remembered:
    spec = read_lender_policy(obj).spec
    assert spec is not None
    return Remembered(obj["metadata"]["name"], spec)


def assessed(
    borrowers: Collection[Json] = (), lender: LenderView | Collection[Json] = (), existing: Json | None = None
) -> Lease:
    view = lender if isinstance(lender, LenderView) else LenderView(lenders(*lender))
    read = [read_policy(item) for item in borrowers]
    return assess(LeaseFacts(NODE, existing, "binding", BINDING, read, {}, NOON, lender=view))


TROUBLE = "the lender's policies cannot be read: 500"
# the lease, whether it is one and why (not), CPUs, who is in force
LEASES: dict[str, tuple[Lease, tuple[bool, str], str | None, str]] = {
    "nobody has a policy": (assessed(), (False, "NoPolicy"), None, ""),
    "only the borrower has one": (
        assessed([policy("b", resourceLimits=cpu(4))]), (True, "Leased"), "4", "b"),
    "only the lender has one": (
        assessed([], [policy("l", resourceLimits=cpu(2))]), (True, "Leased"), "2", "lender:l"),
    "both have one: the smaller limit counts": (
        assessed([policy("b", resourceLimits=cpu(4))], [policy("l", resourceLimits=cpu(2))]),
        (True, "Leased"), "2", "b,lender:l"),
    "the lender's may be the looser one": (
        assessed([policy("b", resourceLimits=cpu(1))], [policy("l", resourceLimits=cpu(2))]),
        (True, "Leased"), "1", "b,lender:l"),
    "the lender may call the binding by its clusterID": (
        assessed([policy("b")], [policy("l", cluster="edge", resourceLimits=cpu(2))]), (True, "Leased"), "2", "b,lender:l"),
    "the lender may mean every borrower": (
        assessed([policy("b")], [policy("l", cluster="*", resourceLimits=cpu(2))]), (True, "Leased"), "2", "b,lender:l"),
    "a lender's policy that names nobody is for everybody": (
        assessed([policy("b")], [policy("l", cluster="", resourceLimits=cpu(2))]), (True, "Leased"), "2", "b,lender:l"),
    "a policy for another borrower is not ours": (
        assessed([policy("b")], [policy("l", cluster="other", resourceLimits=cpu(2))]), (True, "Leased"), "8", "b"),
    "the borrower cannot call his binding otherwise": (
        assessed([policy("b", cluster="edge"), policy("c", cluster="*")]), (False, "NoPolicy"), None, ""),
    "of the lender's policies the one with priority counts": (
        assessed([], [policy("l", resourceLimits=cpu(1)), policy("m", priority=3, resourceLimits=cpu(3))]),
        (True, "Leased"), "3", "lender:m"),
    "one that the lender deletes has no say": (
        assessed([policy("b")], [policy("l", deleting=True, resourceLimits=cpu(2))]), (True, "Leased"), "8", "b"),
    "an invalid policy of the lender leases nothing new": (
        assessed([policy("b")], [policy("l", timeZone=NOWHERE)]), (False, "PolicyInvalid"), None, ""),
    "its last valid version stays in force": (
        assessed(
            [policy("b")], [policy("l", timeZone=NOWHERE)], vnode(lenders=policy("l", resourceLimits=cpu(3)))),
        (True, "Leased"), "3", "b,lender:l"),
    "without one the virtual node keeps its figures": (
        assessed([policy("b")], [policy("l", timeZone=NOWHERE)], vnode()), (True, "PolicyInvalid"), "7", "b"),
    "each side remembers for itself": (
        assessed(
            [policy("p", timeZone=NOWHERE)], [policy("p", timeZone=NOWHERE)],
            vnode(borrowers=policy("p", resourceLimits=cpu(5)), lenders=policy("p", resourceLimits=cpu(6)))),
        (True, "Leased"), "5", "p,lender:p"),
    "while the lender cannot be heard nothing new is leased": (
        assessed([policy("b")], LenderView(lenders(policy("l")), TROUBLE)), (False, "LenderPoliciesUnknown"), None, ""),
    "not even where he was never known to have a policy": (
        assessed([policy("b")], LenderView(None, TROUBLE)), (False, "LenderPoliciesUnknown"), None, ""),
    "his last known limits stay in force": (
        assessed(
            [policy("b")], LenderView(lenders(policy("l", resourceLimits=cpu(2))), TROUBLE),
            vnode(lenders=policy("l", resourceLimits=cpu(3)))),
        (True, "Leased"), "2", "b,lender:l"),
    "after a restart those that the virtual node remembers": (
        assessed([policy("b")], LenderView(None, TROUBLE), vnode(lenders=policy("l", cluster="*", resourceLimits=cpu(3)))),
        (True, "Leased"), "3", "b,lender:l"),
    "even where only the lender had a policy": (
        assessed([], LenderView(None, TROUBLE), vnode(lenders=policy("l", resourceLimits=cpu(3)))),
        (True, "Leased"), "3", "lender:l"),
    "a borrower who takes his policy away is heard meanwhile": (
        assessed([], LenderView(None, TROUBLE), vnode(borrowers=policy("b"))), (False, "NoPolicy"), None, ""),
}


@pytest.mark.parametrize("case", LEASES)
def test_both_sides_have_a_say(case: str) -> None:
    lease, decision, amount, in_force = LEASES[case]
    assert (lease.decision.leasable, lease.decision.reason) == decision
    assert lease.decision.message
    if amount is not None:
        assert (lease.capacity.resources["cpu"], lease.policies_applied) == (amount, in_force)


def test_the_details_name_both() -> None:
    limits = [{"resource": "memory", "percent": 50}]
    lease = assessed([policy("rlp", resourceLimits=cpu(4))], [policy("rlp2", resourceLimits=limits)])
    assert lease.policy_details == "rlp(cpu=4/),lender:rlp2(memory=/50%)"
    assert lease.decision.message == "policy rlp is in force; the lender's policy rlp2 is in force"


def test_the_lease_is_shut_when_either_window_is_and_taken_back_the_stricter_way() -> None:
    lease = assessed([policy("b")], [policy("l", timeWindows=NIGHT, forceReclaim=True)])
    assert not lease.window.open
    assert lease.closing.force_now
    assert lease.terms is not None
    assert lease.terms.force_reclaim


def test_what_is_remembered_of_the_lender_survives_while_he_cannot_be_heard() -> None:
    before = policy("l", cluster="*", resourceLimits=cpu(3))
    lease = assessed([policy("b")], LenderView(None, TROUBLE), vnode(lenders=before))
    assert lease.lender_remembered == remember(before)


def test_an_invalid_newcomer_makes_nobody_forget_what_was_in_force_before() -> None:
    before, newcomer = policy("b", resourceLimits=cpu(3)), policy("n", priority=1, timeZone=NOWHERE)
    lease = assessed([before, newcomer], [], vnode(borrowers=before))
    assert (lease.decision.reason, lease.policies_applied, lease.capacity.resources) == ("PolicyInvalid", "", {"cpu": "7"})
    assert lease.remembered == remember(before)
    spoilt = policy("b", timeZone=NOWHERE)
    assert assessed([spoilt], [], vnode(borrowers=before)).capacity.resources["cpu"] == "3"


def test_what_a_lender_deletes_is_not_remembered() -> None:
    assert assessed([policy("b")], [], vnode(lenders=policy("l"))).lender_remembered is None


# --- how we stand ----------------------------------------------------------------------------------------------------
def error(kind: type[ApiError], status: int) -> ApiError:
    return kind("no", status=status)


REFUSED, MISSING, BROKEN = error(Forbidden, 403), error(NotFound, 404), error(ServerError, 500)
CUT = Unreachable("cut")
STANDINGS: dict[str, tuple[Json, Standing]] = {
    "before any answer nothing is known": ({}, Standing.UNREAD),
    "a complete list is known": ({"synced": True}, Standing.READ),
    "a watch that was cut once is not out of date": ({"synced": True, "error": CUT, "failures": 1}, Standing.READ),
    "one that cannot resume is": ({"synced": True, "error": CUT, "failures": 2}, Standing.UNKNOWN),
    "a first list that fails tells nothing": ({"error": BROKEN, "failures": 1}, Standing.UNKNOWN),
    "a 404 alone proves nothing": ({"error": MISSING, "failures": 1}, Standing.UNKNOWN),
    "a 404 that discovery confirms does": ({"error": MISSING, "failures": 1, "absent": True}, Standing.ABSENT),
    "a kind that was removed is absent": ({"synced": True, "error": MISSING, "failures": 1, "absent": True}, Standing.ABSENT),
    "what was never granted is not read": ({"error": REFUSED, "failures": 1}, Standing.NOT_GRANTED),
    "a right that is withdrawn is trouble": ({"error": REFUSED, "failures": 1, "read_before": True}, Standing.UNKNOWN),
}


@pytest.mark.parametrize("case", STANDINGS)
def test_judge_standing(case: str) -> None:
    given, expected = STANDINGS[case]
    facts = {"error": None, "failures": 0, "synced": False, "absent": False, "read_before": False, **given}
    assert judge_standing(facts.pop("error"), **facts) is expected


def test_what_passes_go_by() -> None:
    known = lenders(policy("l"))
    assert build_view(Standing.READ, known, "") == LenderView(known)
    assert build_view(Standing.ABSENT, known, "404") == build_view(Standing.NOT_GRANTED, None, "403") == LenderView(())
    doubt = build_view(Standing.UNKNOWN, known, "500")
    assert (doubt.policies, "500" in doubt.trouble) == (known, True)
    assert build_view(Standing.UNREAD, None, "").trouble


def test_discovery_knows_the_kind_by_group_and_version() -> None:
    groups: Json = {"groups": [
        {"name": "apps", "versions": [{"version": "v1beta1"}]},
        {"name": "cloud.tencent.com", "versions": [{"version": "v1"}, {"version": "v1beta1"}]},
    ]}
    assert serves_kind(groups, "cloud.tencent.com", "v1beta1")
    assert not serves_kind(groups, "cloud.tencent.com", "v2")
    assert not serves_kind({"groups": None}, "cloud.tencent.com", "v1beta1")
