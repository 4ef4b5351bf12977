"""The lender's own policies: read in his cluster, honoured together with the borrower's, answered in their status.

The kind is installed in the second physical cluster by this module; the first one never has it.
"""

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from kubeocean.api.resources import RESOURCELEASINGPOLICIES
from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json, annotations_of, finalizers_of, labels_of, resource_version_of, uid_of
from kubeocean.kube.resources import CUSTOMRESOURCEDEFINITIONS, NAMESPACES, NODES
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.credentials import event_about, hand_in, issue_kubeconfig
from tests.integration.federation import (
    Federation,
    Lender,
    condition,
    discard,
    eventually,
    find,
    for_a_module,
    kinds_installed,
    steadily,
)
from tests.integration.lending import grant
from tests.integration.programs import Program

WITH_KIND, WITHOUT = 1, 0
GO_FINALIZER = "policy.kubeocean.io/finalizer"
CPU_6: list[Json] = [{"resource": "cpu", "quantity": 6}]
CRD = "resourceleasingpolicies.cloud.tencent.com"


@pytest.fixture(scope="module")
def installed(sandbox: Sandbox) -> Iterator[None]:
    """The kind in the lender's cluster, for as long as this module runs."""
    with kinds_installed(sandbox.physical[WITH_KIND]):
        yield


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program, installed: None) -> Iterator[Lender]:
    with for_a_module(sandbox, lambda federation: federation.lend(
        nodes=2, cluster=WITH_KIND, policy={"resourceLimits": CPU_6}
    )) as lender:
        yield lender


@pytest.fixture
async def client(physical_clients: list[Client]) -> Client:
    return physical_clients[WITH_KIND]


class Lenders:
    """Writes policies as the lender does, for the nodes of one pool."""

    def __init__(self, client: Client, lender: Lender) -> None:
        self._client, self._lender = client, lender
        self.made: list[str] = []

    async def write(self, *, node: int | None = None, finalizers: tuple[str, ...] = (), **spec: Any) -> str:
        name = f"lenders-{uuid.uuid4().hex[:6]}"
        selector = self._lender.pool.selector
        if node is not None:
            by_name = {"key": "metadata.name", "operator": "In", "values": [self._lender.pool.nodes[node]]}
            selector = {"nodeSelectorTerms": [{"matchFields": [by_name]}]}
        self.made.append(name)
        await self._client.create(RESOURCELEASINGPOLICIES, {
            "apiVersion": RESOURCELEASINGPOLICIES.api_version, "kind": "ResourceLeasingPolicy",
            "metadata": {"name": name, "finalizers": list(finalizers)},
            "spec": {"cluster": self._lender.cluster_id, "nodeSelector": selector, **spec},
        })
        return name

    async def edit(self, name: str, **spec: Any) -> None:
        await self._client.patch(RESOURCELEASINGPOLICIES, name, "", {"spec": spec})

    async def read(self, name: str) -> Json:
        return await self._client.get(RESOURCELEASINGPOLICIES, name)


@pytest.fixture
async def lenders(federation: Federation, client: Client, lender: Lender) -> AsyncIterator[Lenders]:
    """The lender; what he writes is gone after the test, and the nodes are leased as before."""
    lenders = Lenders(client, lender)
    yield lenders
    for name in lenders.made:
        await discard(client, RESOURCELEASINGPOLICIES, name)
    for number in range(len(lender.pool.nodes)):
        await offers(federation, lender, number, "6", "as before")


async def offers(federation: Federation, lender: Lender, number: int, cpu: str, what: str) -> Json:
    async def offered() -> Json:
        vnode = await find(federation.virtual, NODES, lender.vnode(number))
        assert vnode, "there is no virtual node"
        assert vnode["status"]["allocatable"]["cpu"] == cpu, vnode["status"]["allocatable"]
        return vnode

    vnode: Json = await eventually(offered, what=what)
    return vnode


def limit(cpu: int) -> list[Json]:
    return [{"resource": "cpu", "quantity": cpu}]


async def test_both_sides_limits_count_and_both_are_named(federation: Federation, lender: Lender, lenders: Lenders) -> None:
    name = await lenders.write(resourceLimits=[*limit(4), {"resource": "memory", "percent": 50}])
    vnode = await offers(federation, lender, 0, "4", "the smaller of 6 and 4 CPU")
    borrowers = annotations_of(vnode)["kubeocean.io/policies-applied"].split(",")[0]
    assert vnode["status"]["allocatable"]["memory"] == "16Gi"
    assert annotations_of(vnode)["kubeocean.io/policies-applied"] == f"{borrowers},lender:{name}"
    details = annotations_of(vnode)["kubeocean.io/policy-details"]
    assert details == f"{borrowers}(cpu=6/),lender:{name}(cpu=4/,memory=/50%)"
    await lenders.edit(name, resourceLimits=limit(7))
    await offers(federation, lender, 1, "6", "the smaller of 6 and 7 CPU")


async def test_the_lender_reads_in_his_policy_what_it_does(
    federation: Federation, lender: Lender, lenders: Lenders
) -> None:
    name = await lenders.write(cluster=lender.binding, resourceLimits=limit(3))
    virtual = uid_of(await federation.virtual.get(NAMESPACES, "kube-system"))

    async def told() -> bool:
        policy = await lenders.read(name)
        status = policy.get("status") or {}
        mine = [each for each in status.get("borrowers") or () if each["virtualClusterUID"] == virtual]
        assert mine, f"status is {status}"
        assert (mine[0]["clusterID"], mine[0]["nodes"], mine[0]["leased"]["cpu"]) == (lender.cluster_id, 2, "6"), mine
        reasons = {each["type"]: (each["status"], each["reason"]) for each in mine[0]["conditions"]}
        assert reasons["Effective"] == ("True", "Winning"), reasons
        assert (status["phase"], status["nodes"]) == ("Active", 2), "nobody else writes them"
        assert finalizers_of(policy) == [], "no finalizer on a lender's policy"
        return True

    await eventually(told, what="status of the lender's policy")
    version = resource_version_of(await lenders.read(name))

    async def at_rest() -> bool:
        return resource_version_of(await lenders.read(name)) == version

    await steadily(at_rest, during=3, what="nothing more is written")


async def test_only_the_nodes_concerned_are_touched(federation: Federation, lender: Lender, lenders: Lenders) -> None:
    other = await offers(federation, lender, 1, "6", "as before")
    name = await lenders.write(node=0, resourceLimits=limit(2))
    await offers(federation, lender, 0, "2", "limits of the first node")
    await lenders.edit(name, resourceLimits=limit(1))
    await offers(federation, lender, 0, "1", "limits of the first node, edited")
    after = await federation.virtual.get(NODES, lender.vnode(1))
    assert resource_version_of(after) == resource_version_of(other), "the other one was written to"


async def test_of_two_of_the_lenders_policies_one_counts_and_the_other_says_so(
    federation: Federation, lender: Lender, lenders: Lenders
) -> None:
    weaker = await lenders.write(resourceLimits=limit(1))
    stronger = await lenders.write(priority=5, cluster="*", resourceLimits=limit(5))
    await offers(federation, lender, 0, "5", "limits of the stronger policy")

    async def overshadowed() -> bool:
        effective = condition(await lenders.read(weaker), "Effective")
        assert (effective.get("status"), effective.get("reason")) == ("False", "Overshadowed"), effective
        return stronger in effective["message"]

    await eventually(overshadowed, what="the weaker policy names the stronger")


async def test_an_invalid_edit_leaves_the_last_valid_version_in_force(
    federation: Federation, lender: Lender, lenders: Lenders, manager: Program
) -> None:
    name = await lenders.write(resourceLimits=limit(2))
    await offers(federation, lender, 0, "2", "a valid policy")
    await lenders.edit(name, timeZone="Mars/Olympus", resourceLimits=limit(5))

    async def failed() -> bool:
        policy = await lenders.read(name)
        assert condition(policy, "Valid").get("status") == "False", policy.get("status")
        return "spec.timeZone" in condition(policy, "Valid")["message"]

    await eventually(failed, what="the lender is told")
    manager.kill()
    manager.ensure()
    vnode = await offers(federation, lender, 0, "2", "the last valid version, after a restart as well")
    assert "kubeocean.io/last-valid-lender-policy" in annotations_of(vnode)
    await lenders.edit(name, timeZone=None)
    await offers(federation, lender, 0, "5", "the new version, once it is valid")


async def test_a_window_that_the_lender_shuts_is_shut(federation: Federation, lender: Lender, lenders: Lenders) -> None:
    name = await lenders.write(resourceLimits=limit(4), timeWindows=[{"start": "00:00", "end": "00:00", "days": ["monday"]}])

    async def taints() -> set[str]:
        vnode = await federation.virtual.get(NODES, lender.vnode())
        return {taint["key"] for taint in vnode["spec"].get("taints") or ()}

    async def shut() -> bool:
        return "kubeocean.io/out-of-time-windows" in await taints()

    async def open_again() -> bool:
        return not await shut()

    await eventually(shut, what="the taint")
    await lenders.edit(name, timeWindows=[])
    await eventually(open_again, what="the taint goes")


async def test_what_the_lender_deletes_is_gone_even_with_the_go_projects_finalizer(
    federation: Federation, lender: Lender, lenders: Lenders, client: Client
) -> None:
    name = await lenders.write(resourceLimits=limit(2), finalizers=(GO_FINALIZER,))
    await offers(federation, lender, 0, "2", "the policy counts")
    await discard(client, RESOURCELEASINGPOLICIES, name)
    await offers(federation, lender, 0, "6", "the borrower's alone counts")

    async def gone() -> bool:
        return await find(client, RESOURCELEASINGPOLICIES, name) is None

    await eventually(gone, what="nothing holds the policy")


async def test_the_lender_alone_may_lease(federation: Federation, client: Client, installed: None, manager: Program) -> None:
    lender = await federation.bind(await federation.pool(cluster=WITH_KIND))
    lenders = Lenders(client, lender)
    name = await lenders.write(resourceLimits=limit(2))
    try:
        await federation.vnodes(lender)
        vnode = await offers(federation, lender, 0, "2", "the lender's policy counts")
        assert annotations_of(vnode)["kubeocean.io/policies-applied"] == f"lender:{name}"
        node = await client.get(NODES, lender.pool.nodes[0])
        assert labels_of(node)["kubeocean.io/policy-applied"] == name

        async def told() -> bool:
            return bool(((await lenders.read(name)).get("status") or {}).get("borrowers"))

        await eventually(told, what="the entry in status.borrowers")
        await federation.unbind(lender)
        status = (await lenders.read(name)).get("status") or {}
        assert not status.get("borrowers"), status
        assert not status.get("phase"), status
    finally:
        await discard(client, RESOURCELEASINGPOLICIES, name)


async def test_what_is_not_granted_is_said_and_counts_once_it_is(
    federation: Federation, client: Client, installed: None, manager: Program
) -> None:
    borrower = f"borrower-{uuid.uuid4().hex[:6]}"
    lender = await federation.bind(await federation.pool(cluster=WITH_KIND), kubeconfig=b"soon", ready=False)
    lenders = Lenders(client, lender)
    name = await lenders.write(resourceLimits=limit(2))
    try:
        await grant(federation, lender, borrower, without=("ClusterRole", "resourceleasingpolicies", "watch"))
        await hand_in(federation.virtual, lender, issue_kubeconfig(federation.sandbox.physical[WITH_KIND], borrower))
        await eventually(lambda: federation.is_ready(lender), within=30, what="Ready: the right is optional")
        await federation.policy(lender, resourceLimits=CPU_6)
        await federation.vnodes(lender)
        await offers(federation, lender, 0, "6", "the borrower's alone counts")
        await event_about(federation.virtual, lender.binding, "LenderPoliciesNotGranted")

        await grant(federation, lender, borrower)

        async def both() -> Json:
            return await offers(federation, lender, 0, "2", "both count once the lender grants it")

        await eventually(both, within=45, what="the watch heals by itself")

        async def told() -> bool:
            return bool(((await lenders.read(name)).get("status") or {}).get("borrowers"))

        await eventually(told, what="what is printed for a lender is enough to tell him")
    finally:
        await discard(client, RESOURCELEASINGPOLICIES, name)


async def test_a_lender_without_the_kind_has_no_policies(federation: Federation, manager: Program) -> None:
    assert await find(federation.physical[WITHOUT], CUSTOMRESOURCEDEFINITIONS, CRD) is None
    lender = await federation.lend(cluster=WITHOUT, policy={"resourceLimits": CPU_6})
    vnode = await offers(federation, lender, 0, "6", "the borrower's alone counts")
    assert "lender:" not in annotations_of(vnode)["kubeocean.io/policies-applied"]


async def test_when_the_kind_goes_its_policies_go(
    federation: Federation, lender: Lender, lenders: Lenders, client: Client
) -> None:
    await lenders.write(resourceLimits=limit(2))
    await offers(federation, lender, 0, "2", "the policy counts")
    await discard(client, CUSTOMRESOURCEDEFINITIONS, CRD)
    await offers(federation, lender, 0, "6", "the borrower's alone counts")
