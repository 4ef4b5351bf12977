"""A Pod bound to a virtual node runs on the physical node behind it, and both sides know each other."""

from collections.abc import Iterator

import pytest

from kubeocean.kube.meta import Json, name_of
from kubeocean.kube.resources import PODS
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.federation import (
    Federation,
    Lender,
    build_pod,
    for_a_module,
)
from tests.integration.programs import Program


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    with for_a_module(sandbox, lambda federation: federation.lend(nodes=2)) as lender:
        yield lender


async def run(federation: Federation, lender: Lender, pod: Json) -> tuple[Json, Json]:
    """Create a Pod; return it and its twin once it runs."""
    await federation.virtual.create(PODS, pod)
    (vpod,) = await federation.running(pod["metadata"]["namespace"], name_of(pod))
    twin = await federation.twin(lender, vpod)
    assert twin, "runs without a twin"
    return vpod, twin


async def test_a_pod_runs_on_the_node_behind_its_virtual_node(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    pod = build_pod("web", namespace, lender, nodeSelector={"kubernetes.io/hostname": lender.vnode(1)})
    vpod, twin = await run(federation, lender, pod)
    assert vpod["spec"]["nodeName"] == lender.vnode(1)
    assert twin["spec"]["nodeName"] == lender.pool.nodes[1]
