"""Starts what a sandbox consists of, as much as possible at once, and waits until it works.

    etcd and every API server together (an API server waits for its etcd by itself)
      → API server ready → kube-controller-manager, kube-scheduler, KWOK and the Nodes together
      → each answers its probe, the default ServiceAccount exists, every Node can take Pods → ready

Everything that is started is at once written into the record (`Journal`), so whatever happens next, `down` finds it. A
component that dies while it is waited for ends the start, with the last lines of its log as the reason.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from kubeocean.kube.causes import first_cause
from kubeocean.kube.client import Client
from kubeocean.kube.config import ServerConfig
from kubeocean.kube.resources import NODES
from kubeocean.sandbox import processes
from kubeocean.sandbox.cluster import client_context
from kubeocean.sandbox.commands import LOOPBACK, Command
from kubeocean.sandbox.nodes import NodeTemplate, build_node, is_ready, node_names
from kubeocean.sandbox.plan import ClusterPlan, Plan
from kubeocean.sandbox.probe import Probe, until
from kubeocean.sandbox.progress import Progress
from kubeocean.sandbox.realnode.crew import Crew
from kubeocean.sandbox.realnode.node import RealNode
from kubeocean.sandbox.state import ComponentInfo, Record, SandboxError, write_record

_T = TypeVar("_T")
_LOOK_EVERY = 0.2  # seconds
# Each server takes some instances for watching its certificates; Linux gives a user 128.
_INOTIFY_REMEDY = (
    "(files cannot be watched: too many sandboxes for this machine's settings; end some or, as root, raise the limit with"
    " `sysctl -w fs.inotify.max_user_instances=1024`)"
)


class Journal:
    """The record of a sandbox that is being started, kept true on disk."""

    def __init__(self, folder: Path, record: Record) -> None:
        self._folder = folder
        self.record = record
        self.update(record)

    def update(self, record: Record) -> None:
        """Make `record` the truth."""
        self.record = record
        write_record(self._folder, record)

    def start(self, cluster: str, command: Command, logs: Path) -> ComponentInfo:
        """Start a component of `cluster` ("" for a shared one) and remember it. Raises SandboxError."""
        log = logs / f"{command.name}.log"
        try:
            pid = processes.start(command.argv, log=log, environment=_environment(self._folder))
        except OSError as error:
            raise SandboxError(f"{command.argv[0]} cannot be started: {error.strerror}") from None
        component = ComponentInfo(command.name, pid, processes.birth_of(pid), command.address, log)
        self.update(self.record.with_component(cluster, component))
        return component


class Launch:
    """Starts the components of `plan` and waits for them."""

    def __init__(
        self, plan: Plan, nodes: NodeTemplate, journal: Journal, progress: Progress, crew: Crew | None = None,
    ) -> None:
        self._plan = plan
        self._nodes = nodes
        self._journal = journal
        self._progress = progress
        self._crew = crew
        self._started_at = time.monotonic()
        self._waiting_for: list[str] = []

    async def run(self, within: float) -> None:
        """Return when everything works. Raises SandboxError when something dies, or does not work `within` seconds."""
        try:
            async with asyncio.timeout(within), aiohttp.ClientSession(trust_env=False) as session:
                await self._start_all(session)
        except TimeoutError:
            waiting = ", ".join(self._waiting_for)
            raise SandboxError(
                f"not ready after {within:.0f} s, still waiting for: {waiting}; the logs in {self._plan.logs.parent} may"
                " tell why; a slow machine needs more time"
            ) from None
        except BaseExceptionGroup as group:
            raise first_cause(group) from None

    async def _start_all(self, session: aiohttp.ClientSession) -> None:
        if self._plan.storage:
            self._journal.start("", self._plan.storage, self._plan.logs)
        async with asyncio.TaskGroup() as group:
            for cluster in self._plan.clusters:
                group.create_task(self._start_cluster(cluster, session), name=f"start {cluster.name}")

    async def _start_cluster(self, cluster: ClusterPlan, session: aiohttp.ClientSession) -> None:
        probe = Probe(session, client_context(cluster.files))
        if cluster.storage:
            self._journal.start(cluster.name, cluster.storage, cluster.files.logs)
        async with asyncio.TaskGroup() as group:
            answers = asyncio.Event()
            for node in self._crew.of(cluster.name) if self._crew else ():
                group.create_task(self._start_real(node, cluster, probe, answers), name=f"start {node.name}")
            await self._start(cluster, cluster.apiserver, probe)
            answers.set()
            for command in cluster.controllers:
                group.create_task(self._start(cluster, command, probe))
            group.create_task(self._default_account(cluster, probe))
            if cluster.kubelet_port:
                group.create_task(self._create_nodes(cluster, cluster.kubelet_port, probe))
        self._say(f"{cluster.name}: ready")

    async def _start(self, cluster: ClusterPlan, command: Command, probe: Probe) -> None:
        self._journal.start(cluster.name, command, cluster.files.logs)
        url = command.address + command.readiness
        await self._wait(f"{cluster.name}: {command.name}", lambda: probe.works(url))
        self._say(f"{cluster.name}: {command.name} answers")

    async def _start_real(
        self, node: RealNode, cluster: ClusterPlan, probe: Probe, api_server_answers: asyncio.Event
    ) -> None:
        assert self._crew
        with self._waiting(f"{cluster.name}: containerd of {node.name}"):
            containerd = await self._unless_dead(self._crew.begin(node, cluster.files.logs))
        self._say(f"{cluster.name}: containerd of {node.name} has its images")
        await api_server_answers.wait()
        self._crew.join(node, containerd, cluster.files.logs)
        url = f"{cluster.apiserver.address}/api/v1/nodes/{node.name}"

        async def ready() -> bool:
            found = await probe.read(url)
            return found is not None and is_ready(found)

        await self._wait(f"{cluster.name}: node {node.name}", ready)
        self._say(f"{cluster.name}: {node.name} is Ready")

    async def _unless_dead(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Return what `work` returns; cancel it when something dies meanwhile. Raises SandboxError."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=_LOOK_EVERY))[0]:
                self._raise_for_the_dead()
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})  # what it runs is ended when it is

    async def _default_account(self, cluster: ClusterPlan, probe: Probe) -> None:
        # Before it exists every Pod is refused; it proves that kube-controller-manager really works.
        url = f"{cluster.apiserver.address}/api/v1/namespaces/default/serviceaccounts/default"
        await self._wait(f"{cluster.name}: ServiceAccount default", lambda: probe.works(url))

    async def _create_nodes(self, cluster: ClusterPlan, port: int, probe: Probe) -> None:
        nodes = [build_node(name, self._nodes, address=LOOPBACK, port=port) for name in node_names(self._nodes.count)]
        config = ServerConfig(cluster.apiserver.address, probe.tls, authorization=_by_certificate)
        async with Client(config, cluster=cluster.name, user_agent="kubeocean-sandbox") as client:
            async with asyncio.TaskGroup() as group:  # how many are in flight is bounded by the client's connections
                for node in nodes:
                    group.create_task(client.create(NODES, node, deadline=60))

            async def all_ready() -> bool:
                return all(is_ready(node) for node in (await client.list(NODES)).items)

            await self._wait(f"{cluster.name}: nodes", all_ready)

    async def _wait(self, what: str, look: Callable[[], Awaitable[_T]]) -> _T:
        async def look_unless_dead() -> _T:
            self._raise_for_the_dead()
            return await look()

        with self._waiting(what):
            return await until(look_unless_dead)

    @contextmanager
    def _waiting(self, what: str) -> Iterator[None]:
        self._waiting_for.append(what)
        self._show()
        yield  # no `finally`: when it fails, what was waited for is part of the message
        self._waiting_for.remove(what)
        self._show()

    def _raise_for_the_dead(self) -> None:
        for cluster, component in self._journal.record.all_components:
            if not component.alive:
                raise SandboxError(describe_death(cluster, component))

    def _say(self, text: str) -> None:
        self._progress.say(f"{time.monotonic() - self._started_at:5.1f} s  {text}")

    def _show(self) -> None:
        self._progress.show(f"waiting for {', '.join(self._waiting_for)}")


def describe_death(cluster: str, component: ComponentInfo) -> str:
    """Return one sentence and the last lines of the log of a component that is not alive."""
    title = f"{component.name} of {cluster}" if cluster else component.name
    lines = processes.last_lines(component.log) or ["(empty)"]
    remedy = [_INOTIFY_REMEDY] if any("notify" in line and "too many open files" in line for line in lines) else []
    return "\n    ".join([f"{title} died; the end of {component.log}:", *lines, *remedy])


def _environment(folder: Path) -> dict[str, str]:
    # Nothing of ours leaks in: no proxies, no kubeconfig, no ~/.kwok. Collecting garbage half as often saves a tenth of
    # the CPU for a tenth more memory; on a big machine a dozen servers need not use all cores each.
    return {
        "PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "GOGC": "200",
        "GOMAXPROCS": str(min(os.cpu_count() or 1, 8)),
    }


async def _by_certificate(refresh: bool) -> str | None:
    return None  # no Authorization header: the client certificate says who we are
