"""A sandbox: one virtual cluster and some physical ones, started, found again and ended.

`up` starts processes that outlive it, so nothing of a sandbox is kept in memory: `Sandbox.load` reads the record that
`up` wrote and looks at the processes as they are now. What can be found, and what follows from it:

    starting   a command holds the lock and is at it                       wait
    running    all components are alive
    degraded   some died, or the start itself was killed                   status quotes their logs; down, up
    failed     a start that went wrong; processes ended, logs kept         up starts anew, down removes
    stale      nobody is alive: the machine was restarted                  up starts anew, down removes
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from kubeocean.kube.meta import Json
from kubeocean.sandbox import processes
from kubeocean.sandbox.assets import Assets, images_folder
from kubeocean.sandbox.cluster import prepare_files
from kubeocean.sandbox.commands import LOOPBACK, Command
from kubeocean.sandbox.launch import Journal, Launch, describe_death
from kubeocean.sandbox.plan import Plan, build_plan, count_ports
from kubeocean.sandbox.ports import PortError, choose_ports
from kubeocean.sandbox.progress import Progress, Silence
from kubeocean.sandbox.realnode import door, machine
from kubeocean.sandbox.realnode.crew import Crew, Material
from kubeocean.sandbox.realnode.images import ensure_archives
from kubeocean.sandbox.realnode.node import RealNode, plan_nodes, server_for_containers
from kubeocean.sandbox.spec import VIRTUAL, SandboxSpec
from kubeocean.sandbox.state import (
    FORMAT,
    ClusterHandle,
    ComponentInfo,
    NoSandbox,
    Record,
    SandboxError,
    folder_of,
    is_locked,
    locked,
    read_record,
    taken_ports,
)

Condition = Literal["starting", "running", "degraded", "failed", "stale"]


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What is remembered about a sandbox; the properties and methods look at the machine as it is now."""

    folder: Path
    record: Record

    @classmethod
    def load(cls, name: str = "default", *, root: Path | None = None) -> Sandbox:
        """Find the sandbox `name`. Raises NoSandbox; SandboxError when its record cannot be read."""
        folder = folder_of(name, root)
        return cls(folder, read_record(folder))

    @property
    def name(self) -> str:
        """The sandbox's name."""
        return self.record.spec.name

    @property
    def virtual(self) -> ClusterHandle:
        """The virtual cluster."""
        return self.cluster(VIRTUAL)

    @property
    def physical(self) -> list[ClusterHandle]:
        """The physical clusters, in order."""
        return [cluster for cluster in self.record.clusters if cluster.role == "physical"]

    def cluster(self, name: str) -> ClusterHandle:
        """Return the cluster called `name`. Raises SandboxError that names those there are."""
        for cluster in self.record.clusters:
            if cluster.name == name:
                return cluster
        names = ", ".join(cluster.name for cluster in self.record.clusters) or "none"
        raise SandboxError(f"sandbox {self.name!r} has no cluster {name!r}; it has: {names}")

    @property
    def real_nodes(self) -> tuple[RealNode, ...]:
        """The real nodes, in order of their numbers."""
        network, count = self.record.network, self.record.spec.real_nodes
        return plan_nodes(network, count, [(each.name, each.folder) for each in self.physical]) if network else ()

    def server_for_containers(self, cluster: ClusterHandle) -> str:
        """Return ADDRESS:PORT at which containers on real nodes reach an API server. Raises SandboxError."""
        if not self.record.network:
            raise SandboxError(f"sandbox {self.name!r} has no real nodes, so no container reaches its API servers")
        return server_for_containers(self.record.network, cluster.server)

    @property
    def condition(self) -> Condition:
        """Tell how it is now; see the table above."""
        alive = [component.alive for _, component in self.record.all_components]
        if self.record.phase == "starting" and is_locked(self.folder):
            return "starting"
        if self.record.phase == "running" and alive and all(alive):
            return "running"
        if any(alive):
            return "degraded"
        return "failed" if self.record.phase == "failed" else "stale"

    def dead(self) -> list[str]:
        """Return for every component that died a sentence with the end of its log."""
        return [describe_death(cluster, each) for cluster, each in self.record.all_components if not each.alive]

    def status(self) -> Json:
        """Return everything other programs may want to know, ready for JSON."""
        return {
            "name": self.name,
            "condition": self.condition,
            "folder": str(self.folder),
            "components": [_component_status(each) for each in self.record.components],
            "clusters": [
                {
                    "name": cluster.name,
                    "role": cluster.role,
                    "server": cluster.server,
                    "kubeconfig": str(cluster.kubeconfig),
                    "auditLog": str(cluster.audit_log),
                    "components": [_component_status(each) for each in cluster.components],
                }
                for cluster in self.record.clusters
            ],
            "realNodes": [self._node_status(each) for each in self.real_nodes],
        }

    def _node_status(self, node: RealNode) -> Json:
        return {
            "name": node.name,
            "cluster": node.cluster,
            "address": node.place.address,
            "pods": node.place.pods,
            "networkNamespace": node.place.namespace,
            "cgroup": f"/{node.cgroup}",
            "folder": str(node.folder),
        }

    def with_component(self, cluster: str, command: Command) -> Sandbox:
        """Start one more program beside `cluster` and return the sandbox with it: `status` shows it, `down` ends it.

        Raises SandboxBusy while another command is at it; SandboxError when the program cannot be started.
        """
        with locked(self.folder):
            journal = Journal(self.folder, self.record)
            journal.start(cluster, command, self.cluster(cluster).folder / "logs")
        return Sandbox(self.folder, journal.record)

    async def down(self) -> list[Path]:
        """End exactly what was started and remove what was written; return files of others, which are left alone.

        Raises SandboxBusy while another command is at it; SandboxError when a process cannot be ended.
        """
        return await asyncio.to_thread(_end_and_remove, self.folder)


async def up(
    spec: SandboxSpec, *, assets: Assets, progress: Progress | None = None, root: Path | None = None,
    within: float = 180.0,
) -> Sandbox:
    """Start a sandbox and return it when all of it works, at most `within` seconds later.

    What a dead sandbox of the same name left is cleared away first. When a component dies or the time is over, all
    processes are ended and the logs are kept; when cancelled (Ctrl-C), nothing is left at all. Raises SandboxError.
    """
    progress = progress or Silence()
    folder = folder_of(spec.name, root)
    material = _gather(spec, folder, assets)
    _make_folder(folder)
    try:
        with locked(folder):
            _clear_away(folder, progress)
            journal, plan, nodes = _prepare(spec, folder, assets)
            servers = {each.name: each.apiserver.address for each in plan.clusters}
            crew = Crew(nodes, material, servers, journal) if material else None
            await _launch(Launch(plan, spec.nodes, journal, progress, crew), folder, journal, within)
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # only ever an empty one: nothing came of it
    return Sandbox(folder, journal.record)


def knock(spec: SandboxSpec, root: Path | None = None) -> door.Tools | None:
    """Tell early whether this machine can have the real nodes of `spec`. Raises NoRealNodes, a SandboxError."""
    return door.check(door.look_around(), folder_of(spec.name, root)) if spec.real_nodes else None


def _gather(spec: SandboxSpec, folder: Path, assets: Assets) -> Material | None:
    tools = knock(spec, folder.parent)
    if not tools:
        return None
    kubelet, forwarder, pause, toolbox = assets.kubelet, assets.forwarder, assets.pause, assets.toolbox
    if not (kubelet and forwarder and pause and toolbox):
        raise SandboxError("the programs of real nodes are missing; get them with `kubeocean sandbox assets --kubelet`")
    archives = ensure_archives(images_folder(), pause=pause, toolbox=toolbox, busybox=tools.busybox)
    return Material(kubelet, forwarder, tools.plugins, archives)


async def _launch(launch: Launch, folder: Path, journal: Journal, within: float) -> None:
    try:
        await launch.run(within)
    except Exception:
        _end(journal.record)
        journal.update(replace(journal.record, phase="failed"))
        raise
    except BaseException:
        _remove(folder, journal.record)
        raise
    journal.update(replace(journal.record, phase="running"))


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _prepare(spec: SandboxSpec, folder: Path, assets: Assets) -> tuple[Journal, Plan, tuple[RealNode, ...]]:
    try:
        ports = choose_ports(count_ports(spec), {spec.listen, LOOPBACK}, taken_ports(folder.parent))
    except PortError as error:
        raise SandboxError(str(error)) from None
    plan = build_plan(spec, folder, assets, ports)
    clusters = tuple(
        ClusterHandle(each.name, each.files.folder, each.apiserver.address, each.files.kubeconfig, each.files.audit_log)
        for each in plan.clusters
    )
    # The record comes first: whatever is written after it, `down` knows to remove.
    token = machine.new_token() if spec.real_nodes else ""
    journal = Journal(folder, Record(FORMAT, "starting", spec, tuple(ports), clusters, token=token))
    if token:
        journal.update(replace(journal.record, network=machine.claim_network(token)))
    nodes = Sandbox(folder, journal.record).real_nodes
    reached_at = [journal.record.network.api_servers] if journal.record.network else []
    plan.logs.mkdir()
    for number, cluster in enumerate(plan.clusters):
        prepare_files(
            cluster.files, cluster=cluster.name, server=cluster.apiserver.address, number=number,
            server_names=[*spec.server_names, *reached_at], kubelet_port=cluster.kubelet_port,
            nodes=[node for node in nodes if node.cluster == cluster.name], audit_reads=spec.audit_reads,
        )
    return journal, plan, nodes


def _clear_away(folder: Path, progress: Progress) -> None:
    """End and remove what a former start left; raise SandboxError when that is a living sandbox."""
    try:
        sandbox = Sandbox(folder, read_record(folder))
    except NoSandbox:
        return
    if sandbox.record.phase == "running" and (condition := sandbox.condition) in ("running", "degraded"):
        raise SandboxError(
            f"sandbox {sandbox.name!r} is already there ({condition}); end it with"
            f" `kubeocean sandbox down --name {sandbox.name}` or choose another --name"
        )
    progress.say(f"clearing away what a former sandbox {sandbox.name!r} left")
    _empty(folder, sandbox.record)  # the folder itself stays: it is what we hold the lock on


def _end_and_remove(folder: Path) -> list[Path]:
    with locked(folder):
        return _remove(folder, read_record(folder))


def _remove(folder: Path, record: Record) -> list[Path]:
    _empty(folder, record)
    left = sorted(folder.iterdir())
    if not left:
        folder.rmdir()
    return left


def _empty(folder: Path, record: Record) -> None:
    """End and remove what `record` names; the record goes last, so that an interrupted `down` can be repeated."""
    _end(record)
    for name in ("etcd", "logs", *record.spec.cluster_names):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder / name)
    (folder / "sandbox.json").unlink()


def _end(record: Record) -> None:
    try:
        processes.end([each for _, each in record.all_components])
    except processes.StillAlive as error:
        raise SandboxError(str(error)) from None
    if record.token:
        machine.remove(record.token)


def _component_status(component: ComponentInfo) -> Json:
    return {
        "name": component.name,
        "pid": component.pid,
        "address": component.address,
        "log": str(component.log),
        "alive": component.alive,
    }
