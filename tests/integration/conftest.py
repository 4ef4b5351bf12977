"""Real API servers for the tests beside this file: one sandbox per session, isolation by namespace.

Quick work: start one yourself (`kubeocean sandbox up --name dev`) and run with KUBEOCEAN_TEST_SANDBOX=dev; it is left
running. Otherwise a sandbox of 1 + 2 clusters with 3 nodes each is started when the first test asks for it, and ended
with the session. A session that was killed cannot do that: the next one ends what it left.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from kubeocean.kube.client import Client
from kubeocean.kube.resources import NAMESPACES
from kubeocean.sandbox.assets import Assets, Missing, find_assets
from kubeocean.sandbox.sandbox import Sandbox, up
from kubeocean.sandbox.spec import SandboxSpec
from kubeocean.sandbox.state import SandboxError
from tests.integration.federation import Federation, connect, discard, make_namespace, opened
from tests.integration.federation import eventually as wait_until
from tests.integration.programs import Program, watch_over
from tests.integration.programs import pytest_runtest_makereport as pytest_runtest_makereport

T = TypeVar("T")
ROOT = Path(tempfile.gettempdir()) / f"kubeocean-tests-{os.getuid()}"


class Eventually(Protocol):
    """See the fixture `eventually`."""

    async def __call__(self, check: Callable[[], Any], *, within: float = 10.0, what: str = "") -> Any: ...


@pytest.fixture(scope="session")
def assets() -> Assets:
    """The programs of a sandbox; tests never build them."""
    found = find_assets()
    if isinstance(found, Missing):
        pytest.skip(f"no {', '.join(found.names)}: build them once with `kubeocean sandbox assets`")
    return found


@pytest.fixture(scope="session")
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """One virtual and two physical clusters with three nodes each."""
    if name := os.environ.get("KUBEOCEAN_TEST_SANDBOX"):
        root = os.environ.get("KUBEOCEAN_SANDBOX_ROOT")
        yield Sandbox.load(name, root=Path(root) if root else None)
        return
    assets: Assets = request.getfixturevalue("assets")
    end_what_killed_sessions_left()
    started = run(up(SandboxSpec(name=f"session-{os.getpid()}"), assets=assets, root=ROOT))
    yield started
    run(started.down())
    with suppress(OSError):  # other sessions have theirs in it
        ROOT.rmdir()


@pytest.fixture(scope="module")
def start_sandbox(assets: Assets) -> Iterator[Callable[..., Sandbox]]:
    """Start a sandbox of a module's own: `start_sandbox("name", nodes=...)`, and what else a SandboxSpec has."""
    started: list[Sandbox] = []

    def start(name: str, **fields: Any) -> Sandbox:
        end_what_killed_sessions_left()
        started.append(run(up(SandboxSpec(name=f"{name}-{os.getpid()}", **fields), assets=assets, root=ROOT)))
        return started[-1]

    yield start
    for sandbox in started:
        run(sandbox.down())
    with suppress(OSError):
        ROOT.rmdir()


@pytest.fixture
async def virtual_client(sandbox: Sandbox) -> AsyncIterator[Client]:
    """A client of the virtual cluster, an administrator."""
    async with await connect(sandbox.virtual) as client:
        yield client


@pytest.fixture
async def physical_clients(sandbox: Sandbox) -> AsyncIterator[list[Client]]:
    """A client for each physical cluster, administrators."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(await connect(cluster)) for cluster in sandbox.physical]


@pytest.fixture
async def namespace(virtual_client: Client) -> AsyncIterator[str]:
    """The name of a fresh namespace of the virtual cluster that takes Pods; it is deleted after the test."""
    name = await make_namespace(virtual_client)
    yield name
    await discard(virtual_client, NAMESPACES, name)


@pytest.fixture
def eventually() -> Eventually:
    """Wait until a check, plain or async, returns something true without an AssertionError; return what it returned."""
    return wait_until


@pytest.fixture(scope="session")
def manager(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """`kubeocean manager`, serving every binding of the session; its log is quoted when a test fails.

    Tests may kill it (`manager.kill()`) and leave it to the next one to start it again. Without leader election, so that
    a successor need not wait for the Lease of the one that was killed.
    """
    program = Program(
        "manager", "--install-crds", "--leader-elect=false", kubeconfig=sandbox.virtual.kubeconfig,
        log=tmp_path_factory.mktemp("manager") / "log",
    )
    program.ensure()
    yield program
    program.stop()


@pytest.fixture(autouse=True)
def living_manager(request: pytest.FixtureRequest) -> None:
    """Start the manager again when an earlier test has ended it, and note where its log stands."""
    if "manager" in request.fixturenames:
        watch_over(request, request.getfixturevalue("manager"))


@pytest.fixture
async def federation(sandbox: Sandbox, manager: Program) -> AsyncIterator[Federation]:
    """Makes pools of physical nodes, bindings and policies, and undoes them after the test."""
    async with opened(sandbox) as federation:
        yield federation
        manager.ensure()
        await federation.undo()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run in a loop of its own: a session's sandbox outlives the loops of its tests."""
    return asyncio.run(work)


def end_what_killed_sessions_left() -> None:
    for folder in ROOT.glob("*-*"):
        if not Path(f"/proc/{folder.name.rpartition('-')[2]}").exists():
            with suppress(SandboxError):  # another session was quicker
                run(Sandbox.load(folder.name, root=ROOT).down())
