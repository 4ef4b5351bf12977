"""How much of a node is leased, and whether it is at all."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.api.binding import ClusterBindingSpec, SecretReference
from kubeocean.api.policy import ResourceLimit
from kubeocean.api.zone import UNKNOWN_ZONE
from kubeocean.domain.leasing import Lease, LeaseFacts, assess, kept_capacity, lease_capacity, policy_details
from kubeocean.domain.policies import read_policy
from kubeocean.domain.reclaim import Closing
from kubeocean.kube.meta import Json
from kubeocean.kube.quantity import Quantity

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ALLOCATABLE = {"cpu": "8", "memory": "32Gi", "pods": "110", "nvidia.com/gpu": "3", "hugepages-2Mi": "20Mi"}
EVERYDAY = {"zone": "a"}


def node(allocatable: Mapping[str, str] = ALLOCATABLE, labels: Mapping[str, str] = EVERYDAY) -> Json:
    return {"metadata": {"name": "node-1", "labels": dict(labels)}, "status": {"allocatable": dict(allocatable)}}


def limit(resource: str, quantity: str | int | None = None, percent: int | None = None) -> ResourceLimit:
    return ResourceLimit(resource=resource, quantity=quantity, percent=percent)


def amounts(**texts: str) -> dict[str, Quantity]:
    return {name: Quantity.parse(text) for name, text in texts.items()}


TWO_GPUS = {"nvidia.com/gpu": Quantity.parse("2")}
CAPACITIES: dict[str, tuple[list[ResourceLimit], Mapping[str, Quantity], dict[str, str]]] = {
    "nothing limits an idle node": ([], {}, ALLOCATABLE),
    "foreign Pods come first": (
        [], amounts(cpu="2500m", memory="2Gi", pods="10"), {"cpu": "5500m", "memory": "30Gi", "pods": "100"}),
    "a node that foreign Pods overfill leases nothing": ([], amounts(cpu="9"), {"cpu": "0"}),
    "a quantity limits": ([limit("cpu", "4")], {}, {"cpu": "4", "memory": "32Gi"}),
    "a quantity may be a bare number": ([limit("cpu", 4)], {}, {"cpu": "4"}),
    "what is free limits more": ([limit("cpu", "4")], amounts(cpu="6"), {"cpu": "2"}),
    "percent is of what is free, not of the node": ([limit("cpu", percent=50)], amounts(cpu="4"), {"cpu": "2"}),
    "the smaller of quantity and percent counts": ([limit("cpu", "96", 50)], {}, {"cpu": "4"}),
    "the smaller of percent and quantity counts": ([limit("cpu", "1", 50)], {}, {"cpu": "1"}),
    "quantity 0 means nothing": ([limit("cpu", "0")], {}, {"cpu": "0"}),
    "quantity 0 as a number means nothing": ([limit("cpu", 0)], {}, {"cpu": "0"}),
    "percent 0 means nothing": ([limit("memory", percent=0)], {}, {"memory": "0"}),
    "percent 100 is all of it": ([limit("memory", percent=100)], {}, {"memory": "32Gi"}),
    "a percent of a GPU is rounded down": ([limit("nvidia.com/gpu", percent=90)], {}, {"nvidia.com/gpu": "2"}),
    "a percent of the last GPU is none": (
        [limit("nvidia.com/gpu", percent=90)], TWO_GPUS, {"nvidia.com/gpu": "0"}),
    "a quantity of half a GPU is none": ([limit("nvidia.com/gpu", "500m")], {}, {"nvidia.com/gpu": "0"}),
    "Pods are whole": ([limit("pods", percent=33)], {}, {"pods": "36"}),
    "CPU is rounded down to a thousandth": ([limit("cpu", percent=33)], amounts(cpu="7999m"), {"cpu": "0"}),
    "memory is rounded down to a byte": ([limit("memory", percent=95)], {}, {"memory": "32641751449"}),
    "huge pages come in whole pages": ([limit("hugepages-2Mi", percent=33)], {}, {"hugepages-2Mi": "6Mi"}),
    "two limits on one resource both count": ([limit("cpu", "6"), limit("cpu", percent=25)], {}, {"cpu": "2"}),
    "a limit on what the node does not have leases nothing": ([limit("example.com/fpga", "4")], {}, ALLOCATABLE),
}


@pytest.mark.parametrize("case", CAPACITIES)
def test_lease_capacity(case: str) -> None:
    limits, foreign, expected = CAPACITIES[case]
    found = lease_capacity(node(), limits, foreign)
    assert found.resources == {**ALLOCATABLE, **expected}
    assert found.reasons.keys() == ALLOCATABLE.keys()


def test_it_says_what_limits_each_resource() -> None:
    limits = [limit("cpu", "4"), limit("memory", percent=10), limit("pods", "900")]
    reasons = lease_capacity(node(), limits, {}).reasons
    assert (reasons["cpu"], reasons["memory"], reasons["pods"]) == ("quantity", "percent", "free")


def test_a_node_without_allocatable_leases_of_its_capacity() -> None:
    machine = {"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "8"}}}
    assert lease_capacity(machine, [limit("cpu", percent=50)], amounts(cpu="2")).resources == {"cpu": "3"}


def test_a_node_that_tells_nothing_leases_nothing() -> None:
    assert lease_capacity({"metadata": {"name": "n"}}, [], {}).resources == {}


def test_policy_details_read_as_the_go_project_writes_them() -> None:
    assert policy_details("rlp", [limit("cpu", "96", 90), limit("memory", percent=95)]) == "rlp(cpu=96/90%,memory=/95%)"
    assert policy_details("rlp", [limit("cpu", 0), limit("pods", percent=0)]) == "rlp(cpu=0/,pods=/0%)"
    assert policy_details("rlp", []) == "rlp()"


NANO = st.integers(0, 10**15).map(lambda nano: str(Quantity(nano)))
BYTES = st.integers(0, 2**45).map(lambda count: str(Quantity.parse(f"{count}Ki")))
WHOLE = st.integers(0, 500).map(str)
BY_KIND = {"cpu": NANO, "memory": BYTES, "example.com/gpu": WHOLE, "pods": WHOLE}
AMOUNTS = st.fixed_dictionaries(BY_KIND)
PERCENT = st.none() | st.integers(0, 100)
LIMITS = st.lists(st.builds(limit, st.sampled_from(sorted(BY_KIND)), st.none() | NANO | BYTES, PERCENT), max_size=6)


def parsed(texts: Mapping[str, str]) -> dict[str, Quantity]:
    return {name: Quantity.parse(text) for name, text in texts.items()}


@given(AMOUNTS, AMOUNTS, LIMITS)
def test_never_negative_never_above_allocatable_nor_any_limit(
    allocatable: dict[str, str], foreign: dict[str, str], limits: list[ResourceLimit]
) -> None:
    leased, zero = parsed(lease_capacity(node(allocatable), limits, parsed(foreign)).resources), Quantity(0)
    for name, amount in leased.items():
        free = max(zero, Quantity.parse(allocatable[name]) - Quantity.parse(foreign[name]))
        assert zero <= amount <= free
        assert amount == amount.floor() or name == "cpu"
        for each in limits:
            if each.resource == name:
                assert each.quantity is None or amount <= Quantity.parse(each.quantity)
                assert each.percent is None or amount <= free.percent(each.percent)


@given(AMOUNTS, AMOUNTS, LIMITS, LIMITS)
def test_more_limits_never_lease_more(
    allocatable: dict[str, str], foreign: dict[str, str], some: list[ResourceLimit], more: list[ResourceLimit]
) -> None:
    before = parsed(lease_capacity(node(allocatable), some, parsed(foreign)).resources)
    after = parsed(lease_capacity(node(allocatable), some + more, parsed(foreign)).resources)
    assert all(after[name] <= before[name] for name in before)


# --- the whole answer for one node -----------------------------------------------------------------------------------
def binding(**spec: Any) -> ClusterBindingSpec:
    reference = SecretReference(name="s", namespace="n")
    return ClusterBindingSpec(cluster_id="edge", secret_ref=reference, mount_namespace="mount", **spec)


def policy(**spec: Any) -> Json:
    metadata = {"name": "rlp", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": metadata, "spec": {"cluster": "binding", **spec}}


VNODE: Json = {"metadata": {"name": "v"}, "status": {"allocatable": {"cpu": "7"}}}
INVALID = policy(timeZone="Mars/Olympus")
ZONE_B: Json = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}]}
UNREADABLE: Json = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "Near", "values": ["b"]}]}]}


def assessed(
    physical: Json | None = None, *policies: Json, existing: Json | None = None, spec: ClusterBindingSpec | None = None
) -> Lease:
    read = [read_policy(item) for item in policies]
    return assess(LeaseFacts(physical or node(), existing, "binding", spec or binding(), read, {}, NOON))


DECISIONS: dict[str, tuple[Lease, bool, str]] = {
    "a node with a policy is leased": (assessed(node(), policy()), True, "Leased"),
    "a node without a policy is not": (assessed(node()), False, "NoPolicy"),
    "a node outside the binding's selector is not": (
        assessed(node(), policy(), spec=binding(node_selector=ZONE_B)), False, "NotSelected"),
    "a node that is being deleted is not": (
        assessed({"metadata": {"name": "n", "deletionTimestamp": "2026-01-01T00:00:00Z"}}, policy()), False, "NodeDeleting"),
    "an external node is not": (
        assessed(node(labels={"node.kubernetes.io/instance-type": "external"}), policy()), False, "UnsupportedInstanceType"),
    "a super node is not": (
        assessed(node(labels={"beta.kubernetes.io/instance-type": "eklet"}), policy()), False, "UnsupportedInstanceType"),
    "somebody's virtual node is not": (
        assessed(node(labels={"node.kubernetes.io/instance-type": "vnode"}), policy()), False, "UnsupportedInstanceType"),
    "a virtual kubelet is not": (assessed(node(labels={"type": "virtual-kubelet"}), policy()), False, "VirtualNode"),
    "an invalid policy leases nothing new": (assessed(node(), INVALID), False, "PolicyInvalid"),
    "an invalid policy takes nothing away": (assessed(node(), INVALID, existing=VNODE), True, "PolicyInvalid"),
}


@pytest.mark.parametrize("case", DECISIONS)
def test_a_decision_has_a_reason(case: str) -> None:
    lease, leasable, reason = DECISIONS[case]
    assert (lease.decision.leasable, lease.decision.reason) == (leasable, reason)
    assert lease.decision.message


def test_an_unreadable_binding_selector_changes_nothing() -> None:
    unreadable = ClusterBindingSpec.model_construct(**{**binding().model_dump(), "node_selector": UNREADABLE})
    assert assessed(node(), policy(), spec=unreadable).decision.leasable is False
    assert assessed(node(), policy(), spec=unreadable, existing=VNODE).decision.leasable is True


def test_under_an_invalid_policy_a_virtual_node_keeps_its_figures_but_is_shut() -> None:
    lease = assessed(node(), INVALID, existing=VNODE)
    assert lease.capacity == kept_capacity(VNODE)
    assert (lease.window.open, lease.closing, lease.remembered) == (False, Closing(None), None)


NIGHT = [{"start": "22:00", "end": "05:59"}]


def test_outside_the_window_the_figures_stay() -> None:
    lease = assessed(node(), policy(timeWindows=NIGHT, resourceLimits=[{"resource": "cpu", "quantity": 2}]))
    assert (lease.window.open, lease.capacity.resources["cpu"]) == (False, "2")
    assert lease.revisit_at == NOON + timedelta(hours=10)


def test_the_end_of_grace_is_worth_a_visit() -> None:
    lease = assessed(node(), policy(timeWindows=NIGHT, forceReclaim=True, gracefulReclaimPeriodSeconds=90))
    assert lease.closing == Closing(NOON, revisit_at=NOON + timedelta(seconds=90))
    assert lease.revisit_at == NOON + timedelta(seconds=90)


def test_the_zone_is_the_policys_then_the_bindings_then_the_settings() -> None:
    shanghai_evening = [{"start": "19:00", "end": "21:00"}]  # 12:00 UTC is 20:00 there
    assert assessed(node(), policy(timeWindows=shanghai_evening, timeZone="Asia/Shanghai")).window.open
    assert assessed(node(), policy(timeWindows=shanghai_evening), spec=binding(time_zone="Asia/Shanghai")).window.open
    assert not assessed(node(), policy(timeWindows=shanghai_evening)).window.open


def test_in_a_zone_that_nobody_knows_windows_take_nothing_new_and_evict_nobody() -> None:
    unknown = binding().model_copy(update={"time_zone": UNKNOWN_ZONE})
    relying = policy(timeWindows=NIGHT, forceReclaim=True)
    lease = assessed(node(), relying, spec=unknown, existing=VNODE)
    assert (lease.decision.leasable, lease.decision.reason) == (True, "TimeZoneUnknown")
    assert (lease.capacity, lease.window.open, lease.closing) == (kept_capacity(VNODE), False, Closing(None))
    assert not assessed(node(), relying, spec=unknown).decision.leasable
    assert assessed(node(), policy(), spec=unknown).window.open, "without windows no zone is needed"
    zone_of_its_own = policy(timeWindows=NIGHT, timeZone="Asia/Tokyo")
    assert assessed(node(), zone_of_its_own, spec=unknown).window == assessed(node(), zone_of_its_own).window


def test_a_lease_remembers_the_valid_policy_it_stands_on() -> None:
    remembered = assessed(node(), policy(priority=3)).remembered
    assert remembered is not None
    assert (remembered.name, remembered.spec.priority) == ("rlp", 3)
