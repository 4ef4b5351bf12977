"""A policy that cannot be meant: refused by the API server where its schema can tell, else Failed, and nobody is evicted."""

import asyncio
import subprocess
import uuid
from collections.abc import Iterator

import pytest
import yaml

from kubeocean.api.resources import RESOURCELEASINGPOLICIES
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import NODES, PODS
from kubeocean.sandbox.assets import Assets
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
    steadily,
)
from tests.integration.kubectl import Kubectl
from tests.integration.programs import Program

NOWHERE = "Mars/Phobos"


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    async def lend(federation: Federation) -> Lender:
        return await federation.lend(policy={"resourceLimits": [{"resource": "cpu", "percent": 50}]})

    with for_a_module(sandbox, lend) as lender:
        yield lender


REFUSED: dict[str, tuple[Json, str, str]] = {
    "percent 150": ({"resourceLimits": [{"resource": "cpu", "percent": 150}]}, "spec.resourceLimits[0].percent", "100"),
    "a window at 25:00": (
        {"timeWindows": [{"start": "25:00", "end": "06:00"}]}, "spec.timeWindows[0].start", "HH:MM",
    ),
    "an unknown day": (
        {"timeWindows": [{"start": "22:00", "end": "06:00", "days": ["Mon"]}]}, "spec.timeWindows[0].days", "monday",
    ),
    "a negative quantity": ({"resourceLimits": [{"resource": "cpu", "quantity": "-1"}]}, "spec.resourceLimits[0].quantity", ""),
    "a negative grace": ({"gracefulReclaimPeriodSeconds": -1}, "spec.gracefulReclaimPeriodSeconds", "0"),
    "no cluster": ({"cluster": None}, "spec.cluster", "Required"),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_kubectl_apply_answers_with_the_field_and_what_to_write(
    sandbox: Sandbox, assets: Assets, manager: Program, sentence: str
) -> None:
    fields, field, remedy = REFUSED[sentence]
    policy = build_policy(**{"cluster": "lender", **fields})
    applied = subprocess.run(
        [assets.kubectl, f"--kubeconfig={sandbox.virtual.kubeconfig}", "apply", "-f", "-"], input=yaml.safe_dump(policy),
        capture_output=True, text=True, check=False,
    )
    assert applied.returncode != 0
    assert field in applied.stderr
    assert remedy in applied.stderr


def test_kubectl_apply_of_a_binding_without_a_mount_namespace_names_it(
    sandbox: Sandbox, assets: Assets, manager: Program
) -> None:
    binding = {
        "apiVersion": "cloud.tencent.com/v1beta1", "kind": "ClusterBinding", "metadata": {"name": "incomplete"},
        "spec": {"clusterID": "c1", "secretRef": {"name": "a", "namespace": "default"}},
    }
    applied = subprocess.run(
        [assets.kubectl, f"--kubeconfig={sandbox.virtual.kubeconfig}", "apply", "-f", "-"], input=yaml.safe_dump(binding),
        capture_output=True, text=True, check=False,
    )
    assert applied.returncode != 0
    assert "spec.mountNamespace: Required value" in applied.stderr


def build_policy(**spec: object) -> Json:
    fields = {key: value for key, value in spec.items() if value is not None}
    return {
        "apiVersion": RESOURCELEASINGPOLICIES.api_version, "kind": "ResourceLeasingPolicy",
        "metadata": {"name": f"policy-{uuid.uuid4().hex[:6]}"}, "spec": fields,
    }


async def is_phase(federation: Federation, name: str, phase: str) -> Json:
    policy = await federation.virtual.get(RESOURCELEASINGPOLICIES, name)
    found = (policy.get("status") or {}).get("phase")
    assert found == phase, f"status is {policy.get('status')}"
    return policy


async def test_an_unknown_zone_fails_with_field_and_remedy_and_leases_nothing(
    federation: Federation, sandbox: Sandbox, assets: Assets
) -> None:
    lender = await federation.bind(await federation.pool())
    name = await federation.policy(lender, timeZone=NOWHERE, timeWindows=[{"start": "00:00", "end": "23:59"}])
    policy = await eventually(lambda: is_phase(federation, name, "Failed"), what="the unknown zone is told")
    valid = condition(policy, "Valid")
    assert (valid["status"], valid["reason"]) == ("False", "ValidationError")
    assert "spec.timeZone" in valid["message"]
    assert NOWHERE in valid["message"]
    assert "IANA" in valid["message"]
    assert condition(policy, "Active")["reason"] == "ValidationError"
    shown = await Kubectl(assets, sandbox.virtual)("get", "rlp", name)
    assert shown.splitlines()[1].split()[:3] == [name, lender.binding, "Failed"]

    async def no_vnode() -> bool:
        return await vnode(federation, lender) is None

    await steadily(no_vnode, during=1.0, what="nothing is leased under a policy nobody understands")

    await federation.virtual.patch(RESOURCELEASINGPOLICIES, name, "", {"spec": {"timeZone": "Asia/Shanghai"}})
    await federation.vnodes(lender)
    await eventually(lambda: is_phase(federation, name, "Active"), what="Active once the zone is right")


async def vnode(federation: Federation, lender: Lender) -> Json | None:
    return await find(federation.virtual, NODES, lender.vnode())


async def test_a_policy_that_becomes_invalid_evicts_nobody_and_its_node_keeps_the_last_valid_spec(
    federation: Federation, namespace: str
) -> None:
    lender = await federation.bind(await federation.pool())
    name = await federation.policy(lender, resourceLimits=[{"resource": "cpu", "quantity": "3"}], forceReclaim=True)
    (before,) = await federation.vnodes(lender)
    assert before["status"]["allocatable"]["cpu"] == "3"
    await federation.virtual.create(PODS, build_pod("web", namespace, lender))
    await federation.running(namespace, "web")
    spoilt = {
        "timeZone": NOWHERE, "timeWindows": [{"start": "00:00", "end": "00:00", "days": ["monday"]}],
        "resourceLimits": [{"resource": "cpu", "quantity": "1"}],
    }
    await federation.virtual.patch(RESOURCELEASINGPOLICIES, name, "", {"spec": spoilt})
    await eventually(lambda: is_phase(federation, name, "Failed"), what="the unknown zone is told")

    async def unharmed() -> bool:
        node = await vnode(federation, lender)
        (pod,) = await federation.running(namespace, "web")
        assert node
        return bool(
            node["status"]["allocatable"] == before["status"]["allocatable"]
            and node["spec"].get("taints") == before["spec"].get("taints") and "deletionTimestamp" not in pod["metadata"]
        )

    await steadily(unharmed, during=1.5, what="node and Pod are as before")
    await federation.virtual.patch(RESOURCELEASINGPOLICIES, name, "", {"spec": {"timeZone": "UTC", "timeWindows": None}})

    async def follows_the_new_one() -> bool:
        node = await vnode(federation, lender)
        assert node
        return bool(node["status"]["allocatable"]["cpu"] == "1")

    await eventually(follows_the_new_one, what="the mended policy is in force")


async def test_a_policy_without_a_binding_waits_and_says_for_what(federation: Federation) -> None:
    missing = f"lender-{uuid.uuid4().hex[:6]}"
    policy = await federation.create(RESOURCELEASINGPOLICIES, build_policy(cluster=missing))
    name = policy["metadata"]["name"]
    waiting = await eventually(lambda: is_phase(federation, name, "Pending"), what="Pending")
    effective = condition(waiting, "Effective")
    assert (effective["status"], effective["reason"]) == ("False", "NoNodes")
    assert f"there is no ClusterBinding '{missing}': create it, or correct spec.cluster" in effective["message"]
    assert not waiting["metadata"].get("finalizers")
    await discard(federation.virtual, RESOURCELEASINGPOLICIES, name)
    assert await find(federation.virtual, RESOURCELEASINGPOLICIES, name) is None


async def test_no_finalizer_is_left_behind_when_the_binding_goes_first(federation: Federation) -> None:
    lender = await federation.bind(await federation.pool())
    name = await federation.policy(lender)
    await federation.vnodes(lender)
    held = await federation.virtual.get(RESOURCELEASINGPOLICIES, name)
    assert held["metadata"]["finalizers"] == ["policy.kubeocean.io/finalizer"]
    await federation.unbind(lender)
    left = await eventually(lambda: is_phase(federation, name, "Pending"), what="the policy has lost its binding")
    assert not left["metadata"].get("finalizers")


async def test_policy_and_binding_deleted_together_leave_nothing(federation: Federation) -> None:
    lender = await federation.bind(await federation.pool())
    name = await federation.policy(lender)
    await federation.vnodes(lender)
    await asyncio.gather(discard(federation.virtual, RESOURCELEASINGPOLICIES, name), federation.unbind(lender))

    async def gone() -> bool:
        left = await find(federation.virtual, RESOURCELEASINGPOLICIES, name)
        assert left is None, f"finalizers {left['metadata'].get('finalizers')}"
        return True

    await eventually(gone, what="the policy is gone")


async def test_of_two_policies_the_higher_priority_is_in_force_and_the_other_is_told(
    federation: Federation, lender: Lender
) -> None:
    high = await federation.policy(lender, priority=10, resourceLimits=[{"resource": "cpu", "quantity": "2"}])

    async def wins() -> Json:
        policy = await federation.virtual.get(RESOURCELEASINGPOLICIES, high)
        assert condition(policy, "Effective").get("reason") == "Winning", f"status is {policy.get('status')}"
        return policy

    won = await eventually(wins, what="the higher priority wins")
    assert won["status"]["nodes"] == 1
    assert won["status"]["leased"]["cpu"] == "2"
    (node,) = await federation.vnodes(lender)
    assert node["status"]["allocatable"]["cpu"] == "2"
    others = (await federation.virtual.list(RESOURCELEASINGPOLICIES)).items
    (low,) = [each["metadata"]["name"] for each in others if each["spec"]["cluster"] == lender.binding and each != won]

    async def lost() -> bool:
        effective = condition(await federation.virtual.get(RESOURCELEASINGPOLICIES, low), "Effective")
        assert (effective["status"], effective["reason"]) == ("False", "Overshadowed"), f"it says {effective}"
        assert effective["message"] == f"overshadowed by {high}: raise spec.priority to win"
        return True

    await eventually(lost, what="the loser is told")

    await discard(federation.virtual, RESOURCELEASINGPOLICIES, high)

    async def back() -> bool:
        (node,) = await federation.vnodes(lender)
        effective = condition(await federation.virtual.get(RESOURCELEASINGPOLICIES, low), "Effective")
        assert node["status"]["allocatable"]["cpu"] == "4"
        assert effective["reason"] == "Winning"
        return True

    await eventually(back, what="the other is in force again")
    assert await find(federation.virtual, RESOURCELEASINGPOLICIES, high) is None
