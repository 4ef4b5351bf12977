"""What a benchmark runs on: a sandbox, and clients of our own to every API server of it."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kubeocean.bench.errors import BenchError
from kubeocean.bench.flight import warm_up
from kubeocean.bench.meter import Meter
from kubeocean.bench.poll import until_true
from kubeocean.kube.client import Client
from kubeocean.kube.config import config_from_file
from kubeocean.kube.meta import Json, name_of, uid_of
from kubeocean.kube.resources import NAMESPACES, NODES, SERVICEACCOUNTS
from kubeocean.sandbox.assets import ensure_assets
from kubeocean.sandbox.nodes import NodeTemplate
from kubeocean.sandbox.progress import Progress
from kubeocean.sandbox.sandbox import Sandbox, up
from kubeocean.sandbox.spec import SandboxSpec
from kubeocean.sandbox.state import ClusterHandle

USER_AGENT = "kubeocean-bench"


@dataclass(frozen=True, slots=True)
class RigSpec:
    """What to start: `nodes` in all clusters together. `reuse` names a running sandbox to take instead ("" = none)."""

    clusters: int = 2
    nodes: int = 50
    reuse: str = ""
    keep: bool = False
    root: Path | None = None


@dataclass(frozen=True, slots=True)
class Rig:
    """A running sandbox; `name` is in the name of everything a run creates, `folder` is for logs and is thrown away."""

    sandbox: Sandbox
    virtual: Client
    physical: list[Client]
    nodes: int
    lasts: bool  # others may look at the sandbox afterwards: leave nothing of ours in it
    folder: Path
    progress: Progress
    meter: Meter
    name: str = field(default_factory=lambda: f"bench-{uuid.uuid4().hex[:6]}")

    @asynccontextmanager
    async def namespace(self, client: Client, suffix: str) -> AsyncIterator[str]:
        """Give a namespace that takes Pods, and delete it afterwards where somebody could stumble over it."""
        name = f"{self.name}-{suffix}"
        made = await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

        async def takes_pods() -> bool:
            return "default" in map(name_of, (await client.list(SERVICEACCOUNTS, name)).items)

        await until_true(takes_pods, within=60, what=f"{client.cluster}: ServiceAccount default of namespace {name}")
        yield name
        if self.lasts:
            await client.delete(NAMESPACES, name, uid=uid_of(made))

    @asynccontextmanager
    async def node(self, client: Client, node: Json) -> AsyncIterator[None]:
        """Have a Node object there that nobody plays."""
        made = await client.create(NODES, node)
        try:
            yield
        finally:
            await client.delete(NODES, name_of(made), uid=uid_of(made))


@asynccontextmanager
async def open_rig(spec: RigSpec, progress: Progress) -> AsyncIterator[Rig]:
    """Start (or find) the sandbox and connect; whatever happens, what was started here is ended. Raises SandboxError."""
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(_sandbox(spec, progress))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kubeocean-bench-")))
        virtual = await stack.enter_async_context(await connect(sandbox.virtual))
        physical = [await stack.enter_async_context(await connect(cluster)) for cluster in sandbox.physical]
        await warm_up((virtual, *physical))
        nodes = sum([len((await client.list(NODES)).items) for client in physical])
        lasts = spec.keep or bool(spec.reuse)
        yield Rig(sandbox, virtual, physical, nodes, lasts, folder, progress, Meter(sandbox))


async def connect(cluster: ClusterHandle) -> Client:
    """Return a client of one cluster, an administrator, known by its own name in the audit log."""
    return Client(await config_from_file(str(cluster.kubeconfig)), cluster=cluster.name, user_agent=USER_AGENT)


@asynccontextmanager
async def _sandbox(spec: RigSpec, progress: Progress) -> AsyncIterator[Sandbox]:
    if spec.reuse:
        found = Sandbox.load(spec.reuse, root=spec.root)
        if found.condition != "running" or not found.physical:
            raise BenchError(
                f"sandbox {spec.reuse!r} is {found.condition} with {len(found.physical)} physical clusters: a benchmark needs"
                " a running one with at least one"
            )
        yield found
        return
    nodes = NodeTemplate(count=-(-spec.nodes // spec.clusters))
    wanted = SandboxSpec(name=f"bench-{os.getpid()}", clusters=spec.clusters, nodes=nodes)
    sandbox = await up(wanted, assets=await ensure_assets(progress), progress=progress, root=spec.root)
    try:
        yield sandbox
    finally:
        if spec.keep:
            progress.say(f"sandbox kept; end it with: kubeocean sandbox down --name {sandbox.name}")
        else:
            await sandbox.down()
