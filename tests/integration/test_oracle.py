"""After every step of a random walk through a day, the virtual nodes are what an independent oracle says (tests/oracle).

    KUBEOCEAN_ORACLE_SEED, _STEPS, _NODES (per cluster), _PODS     vary it; `hack/oracle` takes the full size
"""

import base64
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest

from kubeocean.api.crd import crds
from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.clusters.install import install_crds
from kubeocean.kube.client import Client
from kubeocean.kube.meta import name_of, uid_of
from kubeocean.kube.resources import CUSTOMRESOURCEDEFINITIONS, NAMESPACES, SECRETS, Resource
from kubeocean.sandbox.nodes import NodeTemplate
from kubeocean.sandbox.sandbox import Sandbox
from kubeocean.sandbox.state import ClusterHandle
from tests.integration.drawing import OVERHEAD_CLASS
from tests.integration.federation import condition, connect, eventually
from tests.integration.lenderside import LenderSide
from tests.integration.programs import Program
from tests.integration.walk import START, UNCHECKED_SIDE, Scale, SteppedClock, Walk

RUNTIMECLASSES = Resource("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", False)
ZONES = (None, "America/New_York")  # of the two bindings


def setting(name: str, default: int) -> int:
    return int(os.environ.get(f"KUBEOCEAN_ORACLE_{name}", default))


SCALE = Scale(setting("NODES", 10), setting("PODS", 200), setting("STEPS", 20), setting("SEED", 12))


@pytest.fixture(scope="module")
def template() -> NodeTemplate:
    return NodeTemplate(count=SCALE.nodes, extended={"example.com/gpu": "8"})


@pytest.fixture(scope="module")
def sandbox(start_sandbox: Callable[..., Sandbox], template: NodeTemplate) -> Sandbox:
    """Clusters of this module's own: its manager goes by another clock than that of the session."""
    return start_sandbox("oracle", nodes=template)


@pytest.fixture
def clock(tmp_path: Path) -> SteppedClock:
    clock = SteppedClock(tmp_path / "clock")
    clock.set(START)
    return clock


@pytest.fixture
def manager(sandbox: Sandbox, clock: SteppedClock, tmp_path: Path) -> Iterator[Program]:
    program = Program(
        "manager", "--install-crds", "--leader-elect=false", f"--clock-file={clock.file}",
        kubeconfig=sandbox.virtual.kubeconfig, log=tmp_path / "log",
    )
    program.start()
    yield program
    program.stop()


@pytest.fixture
async def walk(
    sandbox: Sandbox, manager: Program, clock: SteppedClock, template: NodeTemplate
) -> AsyncIterator[Walk]:
    async with AsyncExitStack() as stack:
        virtual, *physical = [
            await stack.enter_async_context(await connect(cluster)) for cluster in (sandbox.virtual, *sandbox.physical)
        ]
        for number, client in enumerate(physical):
            await prepare(client, checked=number != UNCHECKED_SIDE)
        manager.wait_ready()
        rng = Random(SCALE.seed)
        lenders = [
            LenderSide(rng, client, f"lender-{number}", f"c{number}", template) for number, client in enumerate(physical, 1)
        ]
        for lender, cluster, zone in zip(lenders, sandbox.physical, ZONES, strict=True):
            await bind(virtual, lender, cluster, zone)
        virtual_uid = uid_of(await virtual.get(NAMESPACES, "kube-system"))
        yield Walk(SCALE, rng, clock, virtual, virtual_uid, lenders)


async def prepare(client: Client, *, checked: bool) -> None:
    """Have our policies in a lender's cluster, or those of a CRD that lets everything through; and Pods with overhead."""
    if checked:
        await install_crds(client)
    else:
        (crd,) = (each for each in crds() if each["spec"]["names"]["kind"] == "ResourceLeasingPolicy")
        anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = anything
        await client.create(CUSTOMRESOURCEDEFINITIONS, crd)

        async def served() -> bool:
            found = await client.get(CUSTOMRESOURCEDEFINITIONS, name_of(crd))
            return condition(found, "Established").get("status") == "True"

        await eventually(served, within=20, what="the kind of policies is served")
    await client.create(RUNTIMECLASSES, {
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": OVERHEAD_CLASS}, "handler": "boxed",
        "overhead": {"podFixed": {"cpu": "55m", "memory": "33Mi"}},
    })


async def bind(virtual: Client, lender: LenderSide, cluster: ClusterHandle, zone: str | None) -> None:
    """Bind a physical cluster, and wait until it is served."""
    kubeconfig = base64.b64encode(cluster.kubeconfig.read_bytes()).decode()
    await virtual.create(SECRETS, {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": lender.binding, "namespace": "default"},
        "data": {"kubeconfig": kubeconfig},
    })
    await virtual.create(CLUSTERBINDINGS, {
        "apiVersion": CLUSTERBINDINGS.api_version, "kind": "ClusterBinding", "metadata": {"name": lender.binding},
        "spec": {
            "clusterID": lender.cluster_id, "secretRef": {"name": lender.binding, "namespace": "default"},
            "mountNamespace": "borrowed", "timeZone": zone,
        },
    })

    async def ready() -> bool:
        status = (await virtual.get(CLUSTERBINDINGS, lender.binding)).get("status") or {}
        assert status.get("phase") == "Ready", status
        return True

    await eventually(ready, within=30, what=f"{lender.binding} is Ready")


@pytest.mark.timeout(120 + 20 * SCALE.steps)
async def test_through_a_day_of_changes_the_virtual_nodes_are_what_the_oracle_says(walk: Walk, manager: Program) -> None:
    try:
        await walk.prepare()
        for _ in range(SCALE.steps):
            await walk.step()
            print(walk.story[-1], flush=True)
    except AssertionError:
        print(manager.tail())
        raise
    complaints = [line for line in map(json.loads, manager.log.read_text().splitlines()) if is_error(line)]
    assert not complaints, complaints[0]


def is_error(line: dict[str, Any]) -> bool:
    return line.get("level") in ("error", "critical") or "exception" in line
