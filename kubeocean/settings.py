"""What an operator may set, checked at the door: one frozen model per program, filled from flags and KUBEOCEAN_* variables.

Flag names and defaults are those of the Go project where it has them, so that its Deployments start ours unchanged.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from kubeocean.api import names
from kubeocean.api.zone import is_zone
from kubeocean.kube.clock import read_shift
from kubeocean.kube.loopback import VNODE_LOOPBACK

_NO_HOST = re.compile(r"[^A-Za-z0-9.\-]")  # what neither a DNS name nor an IPv4 address contains


class ProcessSettings(BaseModel):
    """What every program of ours has. Durations are in seconds; a qps of 0 means no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kubeconfig: Path | None = None
    metrics_bind_address: str = ":8080"
    health_probe_bind_address: str = ":8081"
    leader_elect: bool = True
    leader_election_id: str = ""
    leader_election_namespace: str = names.KUBEOCEAN_NAMESPACE
    leader_election_lease_duration: float = Field(default=15.0, gt=0)
    leader_election_renew_deadline: float = Field(default=10.0, gt=0)
    leader_election_retry_period: float = Field(default=2.0, gt=0)
    virtual_client_qps: float = Field(default=0, ge=0)
    virtual_client_burst: int = Field(default=0, ge=0)
    physical_client_qps: float = Field(default=0, ge=0)
    physical_client_burst: int = Field(default=0, ge=0)
    vnode_address: str = VNODE_LOOPBACK
    virtual_api_server: str = ""  # HOST[:PORT] as physical Pods reach it
    virtual_dns: str = ""
    time_zone: str = "UTC"
    clock_file: Path | None = None  # for tests and trials only: see kube.clock
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] | None = None

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        if not is_zone(zone):
            raise ValueError(f"unknown time zone {zone!r}: write an IANA name such as Europe/Berlin")
        return zone

    @field_validator("clock_file")
    @classmethod
    def _a_readable_clock(cls, file: Path | None) -> Path | None:
        try:
            if file:
                read_shift(file)
        except OSError as error:
            raise ValueError(f"cannot read {file}: {error.strerror}") from error
        return file

    @field_validator("vnode_address", "virtual_dns")
    @classmethod
    def _an_ip_address(cls, text: str, info: ValidationInfo) -> str:
        if text or info.field_name == "vnode_address":  # only the DNS may be unknown
            try:
                ip_address(text)
            except ValueError as error:
                # API servers use the host's DNS, which knows no Service; and kubeadm's ask for no InternalDNS of a node.
                service = "; of a Service, write its ClusterIP" if info.field_name == "vnode_address" and text else ""
                raise ValueError(f"{text!r} is no IP address; write one such as 10.0.0.10{service}") from error
        return text

    @field_validator("virtual_api_server")
    @classmethod
    def _a_host_and_maybe_a_port(cls, text: str) -> str:
        host, colon, port = text.rpartition(":")
        if not text or (not colon and not _NO_HOST.search(text)):
            return text
        if not host or _NO_HOST.search(host) or not (port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError(f"{text!r} is no address; write HOST or HOST:PORT such as api.example.com:6443")
        return text

    @model_validator(mode="after")
    def _durations_fit(self) -> ProcessSettings:
        if not self.leader_election_lease_duration > self.leader_election_renew_deadline > self.leader_election_retry_period:
            raise ValueError("leader election needs lease duration > renew deadline > retry period")
        return self

    @property
    def api_server(self) -> tuple[str, str]:
        """Return host and port of the virtual API server as physical Pods reach it, ("", "") when unknown."""
        host, colon, port = self.virtual_api_server.rpartition(":")
        if not colon:
            return self.virtual_api_server, "443" if self.virtual_api_server else ""
        return host, port


class ManagerSettings(ProcessSettings):
    """`kubeocean manager`."""

    leader_election_id: str = "kubeocean-manager"
    launcher: Literal["inprocess", "none"] = "inprocess"
    install_crds: bool = False
    proxier_bind_address: str = ""  # "" = the address of the virtual nodes
    proxier_linger: float = Field(default=3600.0, ge=0)  # for streams when this manager leads no more, or has died

    @field_validator("proxier_bind_address")
    @classmethod
    def _an_ip_address_or_nothing(cls, text: str) -> str:
        return _checked_bind_address(text)

    @property
    def proxier_flags(self) -> list[str]:
        """Return the flags of a `kubeocean proxier` for all bindings that goes by the same settings."""
        flags = {
            "kubeconfig": self.kubeconfig.absolute() if self.kubeconfig else "", "vnode-address": self.vnode_address,
            "bind-address": self.proxier_bind_address, "linger": f"{self.proxier_linger:f}",
            "log-level": self.log_level, "log-format": self.log_format,
            # One machine, one process that answers there: the manager.
            "metrics-bind-address": "0", "health-probe-bind-address": "0",
        }
        return [f"--{name}={value}" for name, value in flags.items() if value]


class SyncerSettings(ProcessSettings):
    """`kubeocean syncer`."""

    cluster_binding_name: str = Field(min_length=1)

    @property
    def lease_name(self) -> str:
        """Return the Lease of this binding's syncers."""
        return self.leader_election_id or f"kubeocean-syncer-{self.cluster_binding_name}"


class ProxierSettings(ProcessSettings):
    """`kubeocean proxier`: every replica serves, so leader election means nothing to it."""

    cluster_binding_name: str = ""  # "" = every binding
    bind_address: str = ""  # "" = the address of the virtual nodes
    supervised: bool = False  # a manager's child
    linger: float = Field(default=3600.0, ge=0)  # for the streams of a manager's child that has been let go
    tls_secret: str = Field(default="", pattern=r"^([a-z0-9][-a-z0-9]*/[a-z0-9][-.a-z0-9]*)?$")  # NAMESPACE/NAME
    max_streams_per_caller: int = Field(default=2000, ge=1)
    max_streams_per_cluster: int = Field(default=4000, ge=1)

    @field_validator("bind_address")
    @classmethod
    def _an_ip_address_or_nothing(cls, text: str) -> str:
        return _checked_bind_address(text)


def _checked_bind_address(text: str) -> str:
    if text:
        try:
            ip_address(text)
        except ValueError as error:
            raise ValueError(f"{text!r} is no IP address; write one such as 10.0.0.10 or 0.0.0.0") from error
    return text


def process_identity() -> str:
    """Return a name no other process has, another one at every call: the Pod's or host's name, and something random.

    Process numbers alone repeat: in containers that share a host's name, and after a restart.
    """
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{os.getpid()}_{secrets.token_hex(4)}"
