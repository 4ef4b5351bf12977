"""What a virtual node offers: the policy's share of what the lender's own Pods leave free, recomputed at once."""

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from kubeocean.api.resources import RESOURCELEASINGPOLICIES
from kubeocean.kube.meta import Json, annotations_of, finalizers_of, labels_of, name_of, uid_of
from kubeocean.kube.resources import NODES, PODS
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.federation import (
    Federation,
    Lender,
    build_pod,
    condition,
    discard,
    eventually,
    find,
    for_a_module,
)
from tests.integration.programs import Program

LIMITS: list[Json] = [
    {"resource": "cpu", "percent": 50},
    {"resource": "memory", "quantity": "4Gi"},
    {"resource": "example.com/gpu", "percent": 50},
    {"resource": "ephemeral-storage", "quantity": 0},
]
WHOLE = {"cpu": "8", "memory": "32Gi", "ephemeral-storage": "100Gi", "pods": "110", "example.com/gpu": "5"}
LEASED = {"cpu": "4", "memory": "4Gi", "ephemeral-storage": "0", "pods": "110", "example.com/gpu": "2"}


async def lend(federation: Federation) -> Lender:
    pool = await federation.pool(extended={"example.com/gpu": "5"})
    lender = await federation.bind(pool)
    await federation.policy(lender, name=f"limits-{pool.name}", resourceLimits=LIMITS)
    await federation.vnodes(lender)
    return lender


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    with for_a_module(sandbox, lend) as lender:
        yield lender


@pytest.fixture
async def foreign_pod(federation: Federation, lender: Lender) -> AsyncIterator[Json]:
    """A Pod of the lender's own on the leased node; it asks for 2 CPU and a GPU."""
    client, name = federation.physical[0], f"foreign-{uuid.uuid4().hex[:6]}"
    requests = {"cpu": "2", "memory": "1Gi", "example.com/gpu": "1"}
    resources = {"requests": requests, "limits": {"example.com/gpu": "1"}}
    yield await client.create(PODS, {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": lender.pool.nodes[0], "containers": [{"name": "main", "image": "busybox", "resources": resources}],
        },
    })
    await discard(client, PODS, name, "default", grace_seconds=0)


async def offers(federation: Federation, lender: Lender, expected: dict[str, str], what: str) -> None:
    """Wait until the virtual node offers exactly this."""
    async def offered() -> bool:
        status = (await federation.virtual.get(NODES, lender.vnode()))["status"]
        assert status["allocatable"] == expected, f"allocatable is {status['allocatable']}"
        assert status["capacity"] == expected, f"capacity is {status['capacity']}"
        return True

    await eventually(offered, what=what)


async def test_percent_quantity_and_zero_limit_and_the_unlisted_is_leased_whole(
    federation: Federation, lender: Lender
) -> None:
    await offers(federation, lender, LEASED, "limits of the policy")
    vnode = await federation.virtual.get(NODES, lender.vnode())
    name = f"limits-{lender.pool.name}"
    details = f"{name}(cpu=/50%,memory=4Gi/,example.com/gpu=/50%,ephemeral-storage=0/)"
    assert annotations_of(vnode)["kubeocean.io/policy-details"] == details
    assert annotations_of(vnode)["kubeocean.io/policies-applied"] == name


async def test_a_foreign_pod_takes_its_share_until_it_is_deleted(
    federation: Federation, lender: Lender, foreign_pod: Json
) -> None:
    taken = LEASED | {"cpu": "3", "pods": "109"}  # half of 6; half of 4 GPUs is still 2
    await offers(federation, lender, taken, "less while a foreign Pod runs")
    await discard(federation.physical[0], PODS, name_of(foreign_pod), "default")
    await offers(federation, lender, LEASED, "all again when it is gone")


async def test_a_foreign_pod_gives_its_share_back_as_soon_as_it_has_finished(
    federation: Federation, lender: Lender, foreign_pod: Json
) -> None:
    await offers(federation, lender, LEASED | {"cpu": "3", "pods": "109"}, "less while a foreign Pod runs")
    await federation.physical[0].patch(
        PODS, name_of(foreign_pod), "default", {"status": {"phase": "Succeeded"}}, subresource="status"
    )
    await offers(federation, lender, LEASED, "all again when it has finished")


async def test_our_own_pods_are_left_to_the_virtual_scheduler(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    resources = {"requests": {"cpu": "3"}}
    pods = [
        build_pod(name, namespace, lender, containers=[{"name": "main", "image": "busybox", "resources": resources}])
        for name in ("first", "second")
    ]
    await federation.virtual.create(PODS, pods[0])
    await federation.running(namespace, "first")
    await offers(federation, lender, LEASED, "a twin is not subtracted")
    await federation.virtual.create(PODS, pods[1])

    async def unschedulable() -> bool:
        pod = await federation.virtual.get(PODS, "second", namespace)
        return "Insufficient cpu" in condition(pod, "PodScheduled").get("message", "")

    await eventually(unschedulable, what="6 CPU do not fit into 4")


async def test_the_lender_sees_which_of_his_nodes_are_lent(federation: Federation, lender: Lender) -> None:
    async def labelled() -> bool:
        node = await federation.physical[0].get(NODES, lender.pool.nodes[0])
        return labels_of(node).get("kubeocean.io/policy-applied") == f"limits-{lender.pool.name}"

    await eventually(labelled, what="label policy-applied")


async def test_a_policy_tells_what_it_leases(federation: Federation, lender: Lender) -> None:
    async def told() -> bool:
        policy = await federation.virtual.get(RESOURCELEASINGPOLICIES, f"limits-{lender.pool.name}")
        status = policy.get("status") or {}
        reasons = {each["type"]: (each["status"], each["reason"]) for each in status.get("conditions") or ()}
        assert reasons == {
            "Valid": ("True", "ValidationPassed"), "Active": ("True", "ActiveTimeWindow"), "Effective": ("True", "Winning"),
        }, reasons
        assert (status["phase"], status["nodes"]) == ("Active", 1), status
        assert status["leased"] == LEASED, status["leased"]
        assert finalizers_of(policy) == ["policy.kubeocean.io/finalizer"]
        return True

    await eventually(told, what="status of the policy")


async def test_an_edited_policy_counts_at_once(federation: Federation, lender: Lender) -> None:
    name = f"limits-{lender.pool.name}"
    await federation.virtual.patch(RESOURCELEASINGPOLICIES, name, "", {"spec": {"resourceLimits": [
        {"resource": "cpu", "quantity": 6, "percent": 25}, {"resource": "pods", "percent": 1},
    ]}})
    await offers(federation, lender, WHOLE | {"cpu": "2", "pods": "1"}, "limits of the edited policy")
    await federation.virtual.patch(RESOURCELEASINGPOLICIES, name, "", {"spec": {"resourceLimits": LIMITS}})
    await offers(federation, lender, LEASED, "the first limits again")


async def test_of_two_policies_the_one_with_priority_counts_and_the_other_says_so(
    federation: Federation, lender: Lender
) -> None:
    first = f"limits-{lender.pool.name}"
    stronger = await federation.policy(lender, priority=5, resourceLimits=[{"resource": "cpu", "quantity": "1"}])
    await offers(federation, lender, WHOLE | {"cpu": "1"}, "limits of the stronger policy")

    async def overshadowed() -> bool:
        policy = await federation.virtual.get(RESOURCELEASINGPOLICIES, first)
        effective = condition(policy, "Effective")
        assert effective.get("status") == "False", effective
        return stronger in effective["reason"] + effective["message"]

    await eventually(overshadowed, what="the weaker policy names the stronger")
    await discard(federation.virtual, RESOURCELEASINGPOLICIES, stronger)
    await offers(federation, lender, LEASED, "the weaker policy counts again")


async def test_without_a_policy_nothing_is_leased_and_no_mark_stays(federation: Federation, lender: Lender) -> None:
    name = f"limits-{lender.pool.name}"
    before = await federation.virtual.get(NODES, lender.vnode())
    await discard(federation.virtual, RESOURCELEASINGPOLICIES, name)

    async def gone() -> bool:
        assert await find(federation.virtual, NODES, lender.vnode()) is None, "virtual node"
        assert await find(federation.virtual, RESOURCELEASINGPOLICIES, name) is None, "policy"
        node = await federation.physical[0].get(NODES, lender.pool.nodes[0])
        marks = [key for key in (*labels_of(node), *annotations_of(node)) if "kubeocean" in key]
        assert not marks, f"the physical node still has {marks}"
        return True

    await eventually(gone, within=15, what="the lease ends")
    await federation.policy(lender, name=name, resourceLimits=LIMITS)
    (after,) = await federation.vnodes(lender)
    assert uid_of(after) != uid_of(before)
