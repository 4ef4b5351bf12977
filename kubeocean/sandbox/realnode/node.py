"""One real node: its names, its folders, and the programs that are started for it. Pure.

Each node is a machine of its own as far as its programs can tell. Its network namespace has a name (`ip netns`); its mount
namespace has none and lives as long as something in it does, and with it goes everything that kubelet, containerd and
containers have mounted: nothing has to be unmounted, and nothing of it is ever seen on this machine. In it /run, /var/lib
and /var/log are folders of the node. Its cgroup holds all of its processes: whatever became of containerd, they are found
there, and whoever is there is of this node.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from kubeocean.sandbox.commands import Command
from kubeocean.sandbox.realnode.files import KUBELET_PORT, REAL_LABEL, SYSCTLS
from kubeocean.sandbox.realnode.network import KUBERNETES_SERVICE, Network, NodePlace, namespace_path

_OWN_FOLDERS = ("run", "var/lib", "var/log")
_PATH = "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class RealNode:
    """The node `real-N` of a physical cluster; everything of it is below `folder`, the cluster's certificates in `pki`."""

    place: NodePlace
    cluster: str
    folder: Path
    pki: Path

    @property
    def name(self) -> str:
        """The name of the Node."""
        return f"real-{self.place.number}"

    @property
    def cgroup(self) -> str:
        """The cgroup of all its processes, directly below the root of every hierarchy."""
        return f"{cgroup_prefix(self.place.network.token)}{self.name}"

    @property
    def machine(self) -> Path:
        """The folder of what the node sees as its own instead of this machine's."""
        return self.folder / "machine"

    @property
    def own_folders(self) -> dict[str, Path]:
        """The folders that the node sees as its own, by the path it sees them at."""
        return {f"/{each}": self.machine / each for each in _OWN_FOLDERS}

    @property
    def networks(self) -> Path:
        """The folder of the settings of its network plugins."""
        return self.folder / "cni"

    @property
    def certificate(self) -> Path:
        """The certificate the kubelet serves with, without its `.crt`."""
        return self.folder / "kubelet"

    @property
    def kubeconfig(self) -> Path:
        """Where the kubelet finds its API server."""
        return self.folder / "kubelet.kubeconfig"

    @property
    def kubelet_config(self) -> Path:
        """The kubelet's settings."""
        return self.folder / "kubelet.yaml"

    @property
    def containerd_config(self) -> Path:
        """The settings of containerd."""
        return self.folder / "containerd.toml"

    @property
    def resolv_conf(self) -> Path:
        """What Pods that ask for no cluster DNS see as /etc/resolv.conf."""
        return self.folder / "resolv.conf"

    def sysctl(self, name: str) -> Path:
        """Return the file that the node sees at /proc/sys/NAME."""
        return self.machine / "sysctl" / name.replace("/", ".")


def cgroup_prefix(token: str) -> str:
    """Return what the names of all cgroups of a sandbox begin with."""
    return f"kubeocean-{token}-"


def plan_nodes(network: Network, count: int, clusters: Sequence[tuple[str, Path]]) -> tuple[RealNode, ...]:
    """Return `count` nodes, dealt out to `clusters` (name and folder) in turn."""
    return tuple(
        RealNode(NodePlace(network, number), name, folder / f"real-{number}", folder / "pki")
        for number, (name, folder) in ((each, clusters[(each - 1) % len(clusters)]) for each in range(1, count + 1))
    )


def server_for_containers(network: Network, server: str) -> str:
    """Return ADDRESS:PORT at which containers reach the API server whose URL on this machine is `server`."""
    return f"{network.api_servers}:{urlsplit(server).port}"


def containerd_command(node: RealNode, groups: Iterable[Path]) -> Command:
    """Return the command of containerd, which makes the node's mount namespace; it joins the cgroups `groups`."""
    own = [f"mount --bind {shlex.quote(str(folder))} {path}" for path, folder in node.own_folders.items()]
    sysctls = [f"mount --bind {shlex.quote(str(node.sysctl(name)))} /proc/sys/{name}" for name in SYSCTLS]
    return Command(f"containerd@{node.name}", (
        "/usr/bin/nsenter", f"--net={namespace_path(node.place.namespace)}",
        # What is unmounted on this machine goes here, too; what is mounted here is not seen there.
        "/usr/bin/unshare", "--mount", "--propagation=slave",
        *_shell(
            *_join(groups), "mount --make-rshared /",  # volumes with mount propagation insist on it
            # Every network namespace of this machine would live as long as this copy of its mount.
            "umount --recursive --lazy /run/netns || :", *own, *sysctls,
            f"exec containerd --config {shlex.quote(str(node.containerd_config))}",
        ),
    ), "", "")


def kubelet_command(node: RealNode, kubelet: Path, groups: Iterable[Path], *, containerd: int) -> Command:
    """Return the command of the kubelet, beside the process `containerd` in its namespaces."""
    flags = (
        f"--config={node.kubelet_config}", f"--kubeconfig={node.kubeconfig}", f"--hostname-override={node.name}",
        f"--node-ip={node.place.address}", f"--node-labels={REAL_LABEL}=true", "--v=1",
    )
    return Command(f"kubelet@{node.name}", (
        *_within(node, containerd), *_shell(*_join(groups), f"exec {shlex.join([str(kubelet), *flags])}"),
    ), f"https://{node.place.address}:{KUBELET_PORT}", "/healthz")


def forwarder_command(
    node: RealNode, forwarder: Path, servers: Iterable[str], own: str, groups: Iterable[Path]
) -> Command:
    """Return the command that lets the node reach the API servers (URLs), its `own` cluster's also as the Service."""
    targets = [
        *((server_for_containers(node.place.network, server), server) for server in servers),
        (f"{KUBERNETES_SERVICE}:443", own),
    ]
    pairs = [f"{listen}={urlsplit(server).netloc}" for listen, server in targets]
    program = shlex.join([str(forwarder), namespace_path(node.place.namespace), *pairs])
    return Command(f"forwarder@{node.name}", _shell(*_join(groups), f"exec {program}"), "", "")


def ctr_command(node: RealNode, containerd: int, *words: str) -> tuple[str, ...]:
    """Return a command of containerd's own client."""
    return (*_within(node, containerd), *_shell(f"exec {shlex.join(('ctr', '--namespace', 'k8s.io', *words))}"))


def _within(node: RealNode, containerd: int) -> tuple[str, ...]:
    return ("/usr/bin/nsenter", f"--net={namespace_path(node.place.namespace)}", f"--mount=/proc/{containerd}/ns/mnt")


def _shell(*lines: str) -> tuple[str, ...]:
    return ("/bin/sh", "-ec", "\n".join((_PATH, *lines)))


def _join(groups: Iterable[Path]) -> list[str]:
    return [f"echo 0 > {shlex.quote(str(each / 'cgroup.procs'))}" for each in groups]  # 0: who writes
