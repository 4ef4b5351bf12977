"""Real containers for the tests beside this file: one sandbox with a real node per session, and a binding that leases it.

Quick work: start one yourself (`kubeocean sandbox up --name dev --clusters 1 --nodes 0 --real-nodes 1`, as root) and run with
KUBEOCEAN_TEST_REAL_SANDBOX=dev; it is left running, manager and binding are the session's. Where a real node cannot be, the
tests are skipped and say why; with KUBEOCEAN_E2E_REQUIRED=1 they fail.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import pytest

from kubeocean.kube.client import Client
from kubeocean.kube.resources import NAMESPACES, NODES
from kubeocean.sandbox.assets import Assets, Missing, find_assets
from kubeocean.sandbox.nodes import NodeTemplate
from kubeocean.sandbox.realnode import door
from kubeocean.sandbox.sandbox import Sandbox, knock, up
from kubeocean.sandbox.spec import SandboxSpec
from kubeocean.sandbox.state import SandboxError
from tests.e2e import kubectl, shell
from tests.e2e.realnode import RealFederation
from tests.integration.federation import (
    POOL,
    Federation,
    Lender,
    Pool,
    connect,
    discard,
    find,
    for_a_module,
    make_namespace,
)
from tests.integration.programs import Program, watch_over
from tests.integration.programs import pytest_runtest_makereport as pytest_runtest_makereport

T = TypeVar("T")
ROOT: Final = Path(tempfile.gettempdir()) / f"kubeocean-e2e-{os.getuid()}"
SERVICE_NAMESPACE: Final = "e2e-services"  # the one whose Services the binding mirrors


def unavailable(why: str) -> NoReturn:
    """End a test that needs what is not here."""
    if os.environ.get("KUBEOCEAN_E2E_REQUIRED") == "1":
        pytest.fail(f"KUBEOCEAN_E2E_REQUIRED=1, but {why}")
    pytest.skip(why)


@pytest.fixture(scope="session")
def real_assets() -> Assets:
    """All programs, also those of real nodes; tests never build them."""
    try:
        knock(SandboxSpec(real_nodes=1), ROOT)
    except door.NoRealNodes as error:
        unavailable(str(error))
    found = find_assets(kubelet=True)
    if isinstance(found, Missing):
        unavailable(f"no {', '.join(found.names)}: build them once with `kubeocean sandbox assets --kubelet`")
    return found


@pytest.fixture(scope="session")
def start_real_sandbox(real_assets: Assets) -> Iterator[Callable[..., Sandbox]]:
    """Start a sandbox with real nodes: `start_real_sandbox("name", real_nodes=2)`, and what else a SandboxSpec has."""
    end_what_killed_sessions_left()
    started: list[Sandbox] = []

    def start(name: str, **fields: Any) -> Sandbox:
        spec = SandboxSpec(**{
            "name": f"{name}-{os.getpid()}", "clusters": 1, "nodes": NodeTemplate(count=0), "real_nodes": 1, **fields,
        })
        started.append(run(up(spec, assets=real_assets, root=ROOT)))
        return started[-1]

    yield start
    for sandbox in started:
        with suppress(SandboxError):  # a test may have ended it
            run(sandbox.down())
    with suppress(OSError):  # other sessions have theirs in it
        ROOT.rmdir()


@pytest.fixture(scope="session")
def real_sandbox(request: pytest.FixtureRequest) -> Sandbox:
    """One virtual and one physical cluster, whose only node is a real one: real-1."""
    if name := os.environ.get("KUBEOCEAN_TEST_REAL_SANDBOX"):
        root = os.environ.get("KUBEOCEAN_SANDBOX_ROOT")
        return Sandbox.load(name, root=Path(root) if root else None)
    start: Callable[..., Sandbox] = request.getfixturevalue("start_real_sandbox")
    return start("real")


@pytest.fixture(scope="session")
def real_manager(real_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """`kubeocean manager`, which tells containers the way to the virtual API server."""
    program = Program(
        "manager", "--install-crds", "--leader-elect=false",
        f"--virtual-api-server={real_sandbox.server_for_containers(real_sandbox.virtual)}",
        "--virtual-dns=10.96.0.10",  # nobody answers there, in either cluster; but containers are told of it in both
        kubeconfig=real_sandbox.virtual.kubeconfig, log=tmp_path_factory.mktemp("manager") / "log",
    )
    program.ensure()
    yield program
    program.stop()


@pytest.fixture(scope="session")
def real_federation(real_sandbox: Sandbox, real_manager: Program) -> Iterator[RealFederation]:
    """The binding, Ready, and its virtual node, which takes Pods. Baseline's ban is lifted: lenders may do that, too."""
    async def lend(federation: Federation) -> Lender:
        pool = Pool(0, "real", ("real-1",))
        label = {"metadata": {"labels": {POOL: pool.name}}}
        await federation.physical[0].patch(NODES, pool.nodes[0], "", label)
        if not await find(federation.virtual, NAMESPACES, SERVICE_NAMESPACE):
            await federation.virtual.create(
                NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SERVICE_NAMESPACE}}
            )
        lender = await federation.bind(
            pool, directScheduling=True, allowPrivileged=True, serviceNamespaces=[SERVICE_NAMESPACE],
            disableNodeDefaultTaint=True,  # ordinary manifests tolerate nothing
        )
        await federation.policy(lender)
        await federation.vnodes(lender)
        return lender

    with for_a_module(real_sandbox, lend) as lender:
        yield RealFederation(real_sandbox, lender)


@pytest.fixture(scope="session")
def shell_namespace(real_federation: RealFederation) -> Iterator[str]:
    """The namespace of the Pods of `shell.py`, on the real node."""
    async def begin() -> str:
        async with await connect(real_federation.sandbox.virtual) as client:
            namespace = await make_namespace(client)
            await shell.set_up(client, namespace, real_federation.lender)
            return namespace

    async def end(namespace: str) -> None:
        async with await connect(real_federation.sandbox.virtual) as client:
            await discard(client, NAMESPACES, namespace)

    namespace = run(begin())
    yield namespace
    run(end(namespace))


@pytest.fixture
def ways(
    request: pytest.FixtureRequest, real_assets: Assets, real_federation: RealFederation, shell_namespace: str
) -> kubectl.Ways:
    """kubectl of one version and protocol (a test's parameter), through the virtual node and straight to the twin."""
    sandbox = real_federation.sandbox
    return kubectl.ways(
        real_assets, getattr(request, "param", kubectl.FLAVOURS[0]), sandbox.virtual, sandbox.physical[0],
        shell_namespace, real_federation.lender.mount_namespace,
    )


@pytest.fixture(autouse=True)
def living_manager(request: pytest.FixtureRequest) -> None:
    """Start the manager again when an earlier test has ended it, and note where its log stands."""
    if "real_federation" in request.fixturenames:
        watch_over(request, request.getfixturevalue("real_manager"))


@pytest.fixture
async def virtual_client(real_sandbox: Sandbox) -> AsyncIterator[Client]:
    """A client of the virtual cluster, an administrator."""
    async with await connect(real_sandbox.virtual) as client:
        yield client


@pytest.fixture
async def physical_client(real_sandbox: Sandbox) -> AsyncIterator[Client]:
    """A client of the physical cluster, an administrator."""
    async with await connect(real_sandbox.physical[0]) as client:
        yield client


@pytest.fixture
async def virtual_namespace(virtual_client: Client) -> AsyncIterator[str]:
    """The name of a fresh namespace of the virtual cluster that takes Pods; it is deleted after the test."""
    name = await make_namespace(virtual_client)
    yield name
    await discard(virtual_client, NAMESPACES, name)


@pytest.fixture
async def physical_namespace(physical_client: Client) -> AsyncIterator[str]:
    """The name of a fresh namespace of the physical cluster that takes Pods; it is deleted after the test."""
    name = await make_namespace(physical_client)
    yield name
    await discard(physical_client, NAMESPACES, name)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run in a loop of its own: a session's sandbox outlives the loops of its tests."""
    return asyncio.run(work)


def end_what_killed_sessions_left() -> None:
    for folder in ROOT.glob("*-*"):
        if not Path(f"/proc/{folder.name.rpartition('-')[2]}").exists():
            with suppress(SandboxError):  # another session was quicker
                run(Sandbox.load(folder.name, root=ROOT).down())
