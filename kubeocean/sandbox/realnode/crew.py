"""Starts real nodes: network and containerd at once, the kubelet as soon as its API server answers.

Network namespace, cgroup → forwarder, containerd → containerd answers → images ─┐
    API server answers ─────────────────────────────────────────────────────────┴→ kubelet → Node Ready
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kubeocean.sandbox.realnode import machine
from kubeocean.sandbox.realnode.files import (
    RESOLV_CONF,
    SYSCTLS,
    build_cni_config,
    build_containerd_config,
    build_kubelet_config,
)
from kubeocean.sandbox.realnode.node import RealNode, containerd_command, ctr_command, forwarder_command, kubelet_command
from kubeocean.sandbox.state import ComponentInfo

if TYPE_CHECKING:
    from kubeocean.sandbox.launch import Journal

_EVERY = 0.1  # seconds between two looks


@dataclass(frozen=True, slots=True)
class Material:
    """What nodes are made from: programs, the folder of network plugins, image archives."""

    kubelet: Path
    forwarder: Path
    plugins: Path
    images: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Crew:
    """The real nodes of a sandbox that is being started; `servers` are the URLs of all API servers, by cluster."""

    nodes: Sequence[RealNode]
    material: Material
    servers: Mapping[str, str]
    journal: Journal
    _groups: dict[str, list[Path]] = field(default_factory=dict)

    def of(self, cluster: str) -> list[RealNode]:
        """Return the nodes of a cluster."""
        return [node for node in self.nodes if node.cluster == cluster]

    async def begin(self, node: RealNode, logs: Path) -> ComponentInfo:
        """Start all that needs no API server; return containerd, which has the images then. Raises SandboxError."""
        write_settings(node, self.material.plugins)
        await machine.make_place(node.place, len(self.nodes))
        groups = self._groups[node.name] = machine.make_cgroup(node)
        servers, own = self.servers.values(), self.servers[node.cluster]
        self.journal.start(node.cluster, forwarder_command(node, self.material.forwarder, servers, own, groups), logs)
        containerd = self.journal.start(node.cluster, containerd_command(node, groups), logs)
        await self._answering(node, containerd)
        for image in self.material.images:
            await machine.run_async(ctr_command(node, containerd.pid, "images", "import", str(image)))
        return containerd

    async def _answering(self, node: RealNode, containerd: ComponentInfo) -> None:
        socket = node.own_folders["/run"] / "containerd" / "containerd.sock"
        while not socket.exists():
            await asyncio.sleep(_EVERY)  # whoever waits for us looks whether it still lives
        await machine.run_async(ctr_command(node, containerd.pid, "version"))

    def join(self, node: RealNode, containerd: ComponentInfo, logs: Path) -> None:
        """Start the kubelet, whose API server answers by now. Raises SandboxError."""
        command = kubelet_command(node, self.material.kubelet, self._groups[node.name], containerd=containerd.pid)
        self.journal.start(node.cluster, command, logs)


def write_settings(node: RealNode, plugins: Path) -> None:
    """Write what the programs of the node read, and make the folders it has for itself."""
    for folder in (*node.own_folders.values(), node.networks, node.machine / "sysctl"):
        folder.mkdir(parents=True)
    for name, value in SYSCTLS.items():
        node.sysctl(name).write_text(f"{value}\n")
    (node.networks / "10-pods.conflist").write_text(build_cni_config(node.place))
    node.containerd_config.write_text(build_containerd_config(plugins=plugins, networks=node.networks))
    node.resolv_conf.write_text(RESOLV_CONF)
    node.kubelet_config.write_text(build_kubelet_config(
        node.place, cgroup=node.cgroup, pki=node.pki, certificate=node.certificate, resolv_conf=node.resolv_conf,
    ))
