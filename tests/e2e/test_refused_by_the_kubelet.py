"""Two bindings lease the same real node and schedule directly: a race between them ends with the kubelet's refusal."""

import asyncio
from collections.abc import Iterator

import pytest

from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json, name_of, uid_of
from kubeocean.kube.quantity import parse
from kubeocean.kube.resources import NODES, PODS
from tests.e2e.realnode import RealFederation
from tests.integration.federation import Federation, Lender, build_pod, eventually, find, for_a_module, is_running, twin_name

IMAGE = "kubeocean.test/toolbox:1"


@pytest.fixture(scope="module")
def rival(real_federation: RealFederation) -> Iterator[Lender]:
    """Another binding to the node that is leased already: to the first one it is any other borrower."""
    async def lend(federation: Federation) -> Lender:
        lender = await federation.bind(real_federation.lender.pool, directScheduling=True, disableNodeDefaultTaint=True)
        await federation.policy(lender)
        await federation.vnodes(lender)
        return lender

    with for_a_module(real_federation.sandbox, lend) as lender:
        yield lender


def build_sleeper(name: str, namespace: str, lender: Lender, cpu: str) -> Json:
    """Return a Pod whose scheduler has decided already, on what the lease was a moment ago."""
    container = {
        "name": "main", "image": IMAGE, "command": ["toolbox", "serve", "-http", ":8080"],
        "resources": {"requests": {"cpu": cpu}},
    }
    return build_pod(name, namespace, lender, containers=[container], nodeName=lender.vnode(), terminationGracePeriodSeconds=1)


async def test_of_two_pods_at_once_the_kubelet_refuses_one_which_says_so_and_the_lease_is_corrected(
    real_federation: RealFederation, rival: Lender, virtual_client: Client, physical_client: Client, virtual_namespace: str
) -> None:
    whole = parse((await physical_client.get(NODES, real_federation.node))["status"]["allocatable"]["cpu"])
    lenders = {"one": real_federation.lender, "other": rival}

    async def offered(lender: Lender) -> object:
        return parse((await virtual_client.get(NODES, lender.vnode()))["status"]["allocatable"]["cpu"])

    async def all_is_free() -> bool:
        free = [await offered(lender) for lender in lenders.values()]
        assert free == [whole, whole], free
        return True

    await eventually(all_is_free, within=60, what="the node is empty, and both lease all of it")
    most = f"{whole.milli() * 3 // 5}m"
    await asyncio.gather(*(
        virtual_client.create(PODS, build_sleeper(name, virtual_namespace, lender, most)) for name, lender in lenders.items()
    ))

    async def decided() -> tuple[Json, Json]:
        pods = [await virtual_client.get(PODS, name, virtual_namespace) for name in lenders]
        running = [each for each in pods if is_running(each)]
        refused = [each for each in pods if each["status"].get("phase") == "Failed"]
        assert (len(running), len(refused)) == (1, 1), [each["status"] for each in pods]
        return running[0], refused[0]

    winner, loser = await eventually(decided, within=40, what="one runs, one is refused")
    assert loser["status"]["reason"] == "OutOfcpu", loser["status"]
    assert "cpu" in loser["status"]["message"]

    async def corrected() -> bool:
        left = await offered(lenders[name_of(loser)])
        assert left == parse(f"{whole.milli() - whole.milli() * 3 // 5}m"), left
        return True

    await eventually(corrected, what="what the loser's node leases is what the winner has left")
    place = twin_name(name_of(winner), virtual_namespace), lenders[name_of(winner)].mount_namespace
    twin = await find(physical_client, PODS, *place)
    assert twin is not None
    assert twin["status"]["containerStatuses"][0]["restartCount"] == 0
    for pod in (winner, loser):
        await virtual_client.delete(PODS, name_of(pod), virtual_namespace, uid=uid_of(pod), grace_seconds=0)
