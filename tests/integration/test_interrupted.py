"""Things end while work is under way: a binding in mid-sync, a physical node with Pods on it."""

import asyncio

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.kube.meta import Json, name_of
from kubeocean.kube.resources import NAMESPACES, NODES, PODS, SECRETS, Resource
from tests.integration.federation import Federation, Lender, build_pod_spec, discard, eventually, find, is_running

DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment", True)


def deployment(namespace: str, lender: Lender, replicas: int) -> Json:
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": build_pod_spec(lender, terminationGracePeriodSeconds=1)},
        },
    }


async def on_vnodes(federation: Federation, namespace: str) -> list[Json]:
    """Return the living Pods of a namespace that are bound to a virtual node."""
    pods = (await federation.virtual.list(PODS, namespace)).items
    return [pod for pod in pods if pod["spec"].get("nodeName") and "deletionTimestamp" not in pod["metadata"]]


async def test_a_binding_deleted_in_mid_sync_leaves_nothing(federation: Federation, namespace: str) -> None:
    lender = await federation.bind(await federation.pool(nodes=3), ready=False)
    await federation.policy(lender)
    await federation.virtual.create(DEPLOYMENTS, deployment(namespace, lender, 30))

    async def begun() -> bool:
        return bool(await find(federation.physical[0], NAMESPACES, lender.mount_namespace) and await federation.twins(lender))

    await eventually(begun, within=30, what="the first twins are made")
    await federation.unbind(lender, within=60)
    client = federation.physical[0]
    for resource in (PODS, SECRETS):
        assert not (await client.list(resource, lender.mount_namespace)).items
    for vnode in lender.vnodes:
        assert await find(federation.virtual, NODES, vnode) is None
    for node in lender.pool.nodes:
        metadata = (await client.get(NODES, node))["metadata"]
        assert not [key for key in (*metadata["labels"], *metadata["annotations"]) if key.startswith("kubeocean.io/")]
    assert not await on_vnodes(federation, namespace)


async def test_a_binding_deleted_before_it_was_ready_goes_at_once(federation: Federation) -> None:
    pool = await federation.pool()
    lenders = [await federation.bind(pool, ready=False) for _ in range(3)]
    await asyncio.gather(*(federation.unbind(lender, within=20) for lender in lenders))
    for lender in lenders:
        assert await find(federation.virtual, CLUSTERBINDINGS, lender.binding) is None
        namespace = await find(federation.physical[0], NAMESPACES, lender.mount_namespace)
        assert namespace is None or "deletionTimestamp" in namespace["metadata"]


async def test_a_physical_node_that_vanishes_takes_its_virtual_node_along_and_pods_are_replaced(
    federation: Federation, namespace: str
) -> None:
    lender = await federation.lend(nodes=2)
    await federation.virtual.create(DEPLOYMENTS, deployment(namespace, lender, 6))

    async def all_run() -> bool:
        pods = await on_vnodes(federation, namespace)
        assert len([pod for pod in pods if is_running(pod)]) == 6, f"{len(pods)} Pods"
        return len({pod["spec"]["nodeName"] for pod in pods}) == 2

    await eventually(all_run, within=30, what="six Pods run on both nodes")
    gone, vnode = lender.pool.nodes[0], lender.vnode(0)
    before = {name_of(pod) for pod in await on_vnodes(federation, namespace) if pod["spec"]["nodeName"] != vnode}
    await discard(federation.physical[0], NODES, gone)

    async def moved() -> bool:
        assert await find(federation.virtual, NODES, vnode) is None, "the virtual node is still there"
        pods = await on_vnodes(federation, namespace)
        assert len([pod for pod in pods if is_running(pod)]) == 6, f"{len(pods)} Pods"
        assert {pod["spec"]["nodeName"] for pod in pods} == {lender.vnode(1)}
        return True

    await eventually(moved, within=40, what="its Pods run on the other node")
    assert before <= {name_of(pod) for pod in await on_vnodes(federation, namespace)}

    async def no_twin_is_left_there() -> bool:
        left = [name_of(twin) for twin in await federation.twins(lender) if twin["spec"].get("nodeName") == gone]
        assert not left, f"left: {left}"
        return True

    await eventually(no_twin_is_left_there, within=10, what="no twin is left on the node that is gone")
