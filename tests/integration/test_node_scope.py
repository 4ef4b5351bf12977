"""Which physical nodes a binding reaches, and what becomes of Pods when one of them goes."""

from collections.abc import Iterator

import pytest

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.kube.meta import Json, finalizers_of, is_deleting, name_of, resource_version_of, uid_of
from kubeocean.kube.resources import DEPLOYMENTS, NAMESPACES, NODES, PODS
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.federation import (
    Federation,
    Lender,
    build_pod_spec,
    discard,
    eventually,
    find,
    for_a_module,
    is_running,
)
from tests.integration.programs import Program


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    with for_a_module(sandbox, lambda federation: federation.lend(nodes=2)) as lender:
        yield lender


async def select(federation: Federation, lender: Lender, selector: Json) -> None:
    await federation.virtual.patch(CLUSTERBINDINGS, lender.binding, "", {"spec": {"nodeSelector": selector}})


async def test_a_binding_that_is_ready_says_what_it_reached(federation: Federation, lender: Lender) -> None:
    binding = await federation.virtual.get(CLUSTERBINDINGS, lender.binding)
    status = binding["status"]
    said = {each["type"]: each["status"] for each in status["conditions"]}
    assert (said["Ready"], said["Connected"], said["SyncerReady"]) == ("True", "True", "True")
    assert status["phase"] == "Ready"
    assert not status.get("lastError")
    assert status["observedGeneration"] == binding["metadata"]["generation"]
    assert status["kubernetesVersion"].startswith("v1.")
    assert status["physicalClusterUID"] == uid_of(await federation.physical[0].get(NAMESPACES, "kube-system"))
    assert set(finalizers_of(binding)) == {"kubeocean.io/clusterbinding-manager", "kubeocean.io/clusterbinding-syncer"}


async def test_a_narrower_selector_takes_back_what_it_no_longer_selects_and_nothing_else(
    federation: Federation, lender: Lender
) -> None:
    async def settled() -> Json:
        (first, _) = await federation.vnodes(lender)
        binding = await federation.virtual.get(CLUSTERBINDINGS, lender.binding)
        assert binding["status"].get("nodes") == 2, binding["status"]
        return first

    before = await eventually(settled, what="two virtual nodes are counted")
    by_name: Json = {"key": "metadata.name", "operator": "In", "values": [lender.pool.nodes[0]]}
    await select(federation, lender, {"nodeSelectorTerms": [{"matchFields": [by_name]}]})

    async def narrowed() -> bool:
        return await find(federation.virtual, NODES, lender.vnode(1)) is None

    await eventually(narrowed, what="the second virtual node goes")
    after = await federation.virtual.get(NODES, lender.vnode(0))
    assert resource_version_of(after) == resource_version_of(before), "the other one was written to"
    await select(federation, lender, lender.pool.selector)
    again, _ = await federation.vnodes(lender)
    assert uid_of(again) == uid_of(before)


async def test_nodes_that_join_later_are_leased(federation: Federation, lender: Lender) -> None:
    name = f"{lender.pool.name}-9"
    await federation.add_node(lender.pool, name)

    async def leased() -> bool:
        return await find(federation.virtual, NODES, f"vnode-{lender.cluster_id}-{name}") is not None

    await eventually(leased, what="its virtual node")
    await discard(federation.physical[0], NODES, name)

    async def gone() -> bool:
        return not await leased()

    await eventually(gone, what="its virtual node goes with it")


async def test_pods_of_a_physical_node_that_is_deleted_are_replaced_elsewhere(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    labels = {"app": "web"}
    await federation.virtual.create(DEPLOYMENTS, {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "replicas": 4, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": build_pod_spec(lender)},
        },
    })

    async def all_run(nodes: set[str]) -> list[Json]:
        pods = [pod for pod in (await federation.virtual.list(PODS, namespace)).items if not is_deleting(pod)]
        assert len(pods) == 4, f"{len(pods)} Pods"
        assert all(map(is_running, pods)), [pod["status"] for pod in pods if not is_running(pod)]
        assert {pod["spec"]["nodeName"] for pod in pods} <= nodes, [pod["spec"]["nodeName"] for pod in pods]
        return pods

    before = await eventually(lambda: all_run(set(lender.vnodes)), within=20, what="four replicas run")
    victims = {name_of(pod) for pod in before if pod["spec"]["nodeName"] == lender.vnode(1)}
    assert victims, "the scheduler put nothing on the second node"
    await discard(federation.physical[0], NODES, lender.pool.nodes[1])
    after = await eventually(lambda: all_run({lender.vnode(0)}), within=40, what="four replicas on the other node")
    assert {name_of(pod) for pod in after}.isdisjoint(victims)

    async def nothing_left() -> bool:
        assert await find(federation.virtual, NODES, lender.vnode(1)) is None, "virtual node"
        twins = {twin["spec"]["nodeName"] for twin in await federation.twins(lender)}
        assert twins == {lender.pool.nodes[0]}, f"twins on {twins}"
        return True

    await eventually(nothing_left, within=20, what="nothing is left of the node")
