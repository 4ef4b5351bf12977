"""From what a sandbox is to be like to every command that makes it so. Pure: nothing is written or started here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kubeocean.sandbox.assets import Assets
from kubeocean.sandbox.commands import (
    Command,
    Files,
    apiserver_command,
    controller_manager_command,
    etcd_command,
    kwok_command,
    scheduler_command,
)
from kubeocean.sandbox.spec import VIRTUAL, SandboxSpec

_ETCD_PORTS = 2  # clients and (never used) peers


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """One cluster: `storage` and `apiserver` start at once, the `controllers` when the API server is ready."""

    name: str
    files: Files
    storage: Command | None
    apiserver: Command
    controllers: tuple[Command, ...]
    kubelet_port: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole sandbox; `storage` is the etcd all clusters share, None when each has its own."""

    logs: Path
    storage: Command | None
    clusters: tuple[ClusterPlan, ...]


def count_ports(spec: SandboxSpec) -> int:
    """Return how many TCP ports the sandbox listens on."""
    etcds = 1 if spec.etcd == "shared" else spec.clusters + 1
    return etcds * _ETCD_PORTS + 3 * (spec.clusters + 1) + spec.clusters


def build_plan(spec: SandboxSpec, folder: Path, assets: Assets, ports: Sequence[int]) -> Plan:
    """Return the commands; `ports` are as many as `count_ports` says."""
    port = iter(ports)
    storage = None
    if spec.etcd == "shared":
        storage = etcd_command(assets, folder / "etcd", next(port), next(port))
    clusters = tuple(_build_cluster(name, spec, folder, assets, storage, port) for name in spec.cluster_names)
    return Plan(folder / "logs", storage, clusters)


def _build_cluster(
    name: str, spec: SandboxSpec, folder: Path, assets: Assets, shared: Command | None, port: Iterator[int]
) -> ClusterPlan:
    files = Files(folder / name)
    own = None if shared else etcd_command(assets, files.folder / "etcd", next(port), next(port))
    etcd = shared or own
    assert etcd is not None
    apiserver = apiserver_command(assets, files, etcd=etcd.address, prefix=name, listen=spec.listen, port=next(port))
    controllers = (
        controller_manager_command(assets, files, port=next(port)), scheduler_command(assets, files, port=next(port))
    )
    if name == VIRTUAL:
        return ClusterPlan(name, files, own, apiserver, controllers, None)
    kubelet_port = next(port)
    return ClusterPlan(
        name, files, own, apiserver, (*controllers, kwok_command(assets, files, port=kubelet_port)), kubelet_port
    )
