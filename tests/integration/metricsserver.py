"""A real metrics-server in a virtual cluster: a program beside its API server, with the rights of its own manifest.

The API server finds it by a Service of type ExternalName: one with an address would need endpoints that are not on loopback.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from subprocess import STDOUT

from kubeocean.kube.client import Client
from kubeocean.kube.errors import KubeError
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import CLUSTERROLEBINDINGS, CLUSTERROLES, SERVICEACCOUNTS, SERVICES, Resource
from kubeocean.sandbox.state import ClusterHandle
from tests.integration.credentials import token_kubeconfig
from tests.integration.federation import discard, eventually
from tests.integration.programs import free_port

APISERVICES = Resource("apiregistration.k8s.io", "v1", "apiservices", "APIService", False)
ROLEBINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", True)
API = "v1beta1.metrics.k8s.io"
NAME, NAMESPACE = "metrics-server", "kube-system"
RBAC = "rbac.authorization.k8s.io"
RULES = [
    {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]},
]


@asynccontextmanager
async def metrics_server(binary: Path, cluster: ClusterHandle, client: Client, folder: Path) -> AsyncIterator[None]:
    """Have metrics.k8s.io served in `cluster`, from what its nodes' kubelets say every 10 s."""
    port, log = free_port(), folder / "metrics-server.log"
    made: list[tuple[Resource, str, str]] = []
    process: asyncio.subprocess.Process | None = None
    try:
        for resource, obj in manifests(port):
            name, namespace = obj["metadata"]["name"], obj["metadata"].get("namespace", "")
            made.append((resource, name, namespace))
            await client.create(resource, obj)
        kubeconfig = folder / "metrics-server.kubeconfig"
        kubeconfig.write_bytes(await token_kubeconfig(client, cluster, NAME, NAMESPACE))
        process = await asyncio.create_subprocess_exec(
            *command(binary, cluster, kubeconfig, folder, port), stdout=log.open("wb"), stderr=STDOUT
        )
        await eventually(lambda: is_open(port), within=30, what="metrics-server listens")
        yield
    except AssertionError as error:
        told = log.read_text(errors="replace").splitlines()[-30:] if log.exists() else []
        raise AssertionError("\n".join([str(error), "the log of metrics-server:", *told])) from error
    finally:
        # The APIService first: one that nobody serves keeps every namespace from being deleted.
        for resource, name, namespace in reversed(made):
            with suppress(KubeError):
                await discard(client, resource, name, namespace)
        if process is not None:
            process.terminate()
            await process.wait()


def command(binary: Path, cluster: ClusterHandle, kubeconfig: Path, folder: Path, port: int) -> list[str]:
    """Return its command line: its manifest's, and what is needed outside of a Pod."""
    return [
        str(binary), "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname", "--kubelet-use-node-status-port",
        "--metric-resolution=10s", "--kubelet-request-timeout=9s",
        f"--kubelet-certificate-authority={cluster.folder}/pki/ca.crt",
        *(f"--{use}kubeconfig={kubeconfig}" for use in ("", "authentication-", "authorization-")),
        f"--cert-dir={folder}/metrics-server-tls", "--bind-address=127.0.0.1", f"--secure-port={port}",
    ]


def manifests(port: int) -> list[tuple[Resource, Json]]:
    account = {"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}

    def bound(name: str, kind: str, role: str, namespace: str = "") -> Json:
        return {
            "apiVersion": f"{RBAC}/v1", "kind": f"{kind}Binding", "subjects": [account],
            "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
            "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
        }

    return [
        (SERVICEACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": NAMESPACE}}),
        (CLUSTERROLES, {
            "apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": f"system:{NAME}"}, "rules": RULES,
        }),
        (CLUSTERROLEBINDINGS, bound(f"system:{NAME}", "ClusterRole", f"system:{NAME}")),
        (CLUSTERROLEBINDINGS, bound(f"{NAME}:system:auth-delegator", "ClusterRole", "system:auth-delegator")),
        (ROLEBINDINGS, bound(f"{NAME}-auth-reader", "Role", "extension-apiserver-authentication-reader", NAMESPACE)),
        (SERVICES, {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME, "namespace": NAMESPACE},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }),
        (APISERVICES, {
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": API},
            "spec": {
                "group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
                "insecureSkipTLSVerify": True, "service": {"name": NAME, "namespace": NAMESPACE, "port": port},
            },
        }),
    ]


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
