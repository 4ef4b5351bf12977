"""What a sandbox is to be like. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Literal

from kubeocean.sandbox.nodes import NodeTemplate

VIRTUAL = "virtual"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
MOST_REAL_NODES = 15  # what there are Pod networks for
_MOST_CLUSTERS = 50
_MOST_NODES = 5000  # what Kubernetes itself promises to bear


class InvalidSpec(ValueError):
    """A sandbox cannot be made like this; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """One virtual cluster and `clusters` physical ones with `nodes` each; the API servers listen at IPv4 `listen`.

    Their certificates are valid for loopback, for `listen` and for every DNS name or IP address of `certificate_names`
    (real nodes come from elsewhere than loopback). `etcd` is one for all clusters, each below its own key prefix, or
    one per cluster. `real_nodes` are kubelets with containerd, dealt out to the physical clusters in turn. With
    `audit_reads` the audit logs hold what is read as well as what is written.
    Raises InvalidSpec.
    """

    name: str = "default"
    clusters: int = 2
    nodes: NodeTemplate = field(default_factory=NodeTemplate)
    etcd: Literal["shared", "per-cluster"] = "shared"
    listen: str = "127.0.0.1"
    certificate_names: tuple[str, ...] = ()
    real_nodes: int = 0
    audit_reads: bool = False

    def __post_init__(self) -> None:
        check_name(self.name)
        if not 0 <= self.clusters <= _MOST_CLUSTERS:
            raise InvalidSpec(f"{self.clusters} physical clusters: ask for 0 to {_MOST_CLUSTERS}")
        if not 0 <= self.nodes.count <= _MOST_NODES:
            raise InvalidSpec(f"{self.nodes.count} nodes per cluster: ask for 0 to {_MOST_NODES}")
        if not 0 <= self.real_nodes <= MOST_REAL_NODES:
            raise InvalidSpec(f"{self.real_nodes} real nodes: ask for 0 to {MOST_REAL_NODES}")
        if self.real_nodes and not self.clusters:
            raise InvalidSpec("real nodes belong to physical clusters: ask for at least one of these, too")
        try:
            ipaddress.IPv4Address(self.listen)
        except ValueError:
            raise InvalidSpec(f"listen address {self.listen!r} is no IPv4 address; write one such as 127.0.0.1") from None

    @property
    def cluster_names(self) -> list[str]:
        """Return `virtual`, `physical-1`, `physical-2` and so on."""
        return [VIRTUAL, *(f"physical-{number}" for number in range(1, self.clusters + 1))]

    @property
    def server_names(self) -> list[str]:
        """Return every name the API servers' certificates are valid for."""
        names = [
            "localhost", "127.0.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local", "10.96.0.1", self.listen, *self.certificate_names,
        ]
        return list(dict.fromkeys(names))


def check_name(name: str) -> None:
    """Raise InvalidSpec unless `name` may name a sandbox; it becomes the name of a folder that `down` removes."""
    if not _NAME.fullmatch(name):
        raise InvalidSpec(f"sandbox name {name!r}: use up to 40 lower-case letters, digits and hyphens, such as demo-1")
