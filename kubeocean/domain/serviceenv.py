"""The variables by which a kubelet tells a container of its namespace's Services, and of the API server.

A twin has none of the lender's (enableServiceLinks is false there), so those of the *virtual* namespace are put into its env.
Source of names and order: Kubernetes pkg/kubelet/envvars and Kubelet.getServiceEnvVarMap. For each Service with a cluster IP,
and port P with protocol TCP, of a Service `redis-master`:

    REDIS_MASTER_SERVICE_HOST, REDIS_MASTER_SERVICE_PORT (the first port), REDIS_MASTER_SERVICE_PORT_{PORT NAME},
    REDIS_MASTER_PORT (the first port, as tcp://IP:P), REDIS_MASTER_PORT_{P}_TCP, …_PROTO, …_PORT, …_ADDR

The Service `kubernetes` is told even to Pods that want no Service links, and *every* kubelet does so: what we do not set, the
physical one sets to the address of the lender's API server, and a client would send it the virtual token. So all of its
variables are always there, empty where the virtual address is not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from kubeocean.kube.meta import Json, name_of

API_SERVICE: Final = "kubernetes"
# Every API server's own Service has this port, so a physical kubelet sets KUBERNETES_PORT_443_TCP.
_API_PORT: Final = 443
_VALID: Final = re.compile(r"[-._A-Za-z][-._A-Za-z0-9]*")  # older API servers refuse others, such as one with a leading digit


def build_service_env(services: Iterable[Json], *, enable_service_links: bool) -> list[Json]:
    """Return [{name, value}] for the Services of a Pod's namespace, ordered by Service; none without `enable_service_links`."""
    if not enable_service_links:
        return []
    env: dict[str, str] = {}
    for service in sorted(services, key=name_of):
        if (ip := service["spec"].get("clusterIP") or "None") != "None":
            env.update(_of_service(service, ip))
    return [{"name": name, "value": value} for name, value in env.items() if _VALID.fullmatch(name)]


def build_api_env(host: str, port: str) -> list[Json]:
    """Return [{name, value}] for the virtual API server; `host` "" = unknown: every name is there, every value ""."""
    known = {"name": "https", "port": port, "protocol": "TCP"}
    usual = known | {"port": _API_PORT}
    service: Json = {"metadata": {"name": API_SERVICE}, "spec": {"ports": [known if host else usual]}}
    env = dict(_of_service(service, host))
    # Where the virtual address has another port, these would still be the lender's.
    env |= {name: value for name, value in _of_port(API_SERVICE.upper(), usual, host, known) if name not in env}
    return [{"name": name, "value": value if host else ""} for name, value in env.items()]


def _of_service(service: Json, ip: str) -> Iterator[tuple[str, str]]:
    prefix, ports = _variable(name_of(service)), service["spec"].get("ports") or ()
    yield f"{prefix}_SERVICE_HOST", ip
    if ports:
        yield f"{prefix}_SERVICE_PORT", str(ports[0]["port"])
    for port in ports:
        if name := port.get("name"):
            yield f"{prefix}_SERVICE_PORT_{_variable(name)}", str(port["port"])
    for index, port in enumerate(ports):
        if index == 0:
            yield f"{prefix}_PORT", _url(port, ip)
        yield from _of_port(prefix, port, ip, port)


def _of_port(prefix: str, named: Json, ip: str, port: Json) -> Iterator[tuple[str, str]]:
    """Yield Docker's link variables, called after port `named` and telling of `port`."""
    protocol = _protocol(port)
    name = f"{prefix}_PORT_{named['port']}_{protocol.upper()}"
    yield name, _url(port, ip)
    yield f"{name}_PROTO", protocol
    yield f"{name}_PORT", str(port["port"])
    yield f"{name}_ADDR", ip


def _url(port: Json, ip: str) -> str:
    host = f"[{ip}]" if ":" in ip else ip
    return f"{_protocol(port)}://{host}:{port['port']}"


def _protocol(port: Json) -> str:
    return str(port.get("protocol") or "TCP").lower()


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")
