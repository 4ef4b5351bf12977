"""What a sandbox promises, against the real thing: the session's own one, then some that are started and broken here."""

import asyncio
import base64
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kubeocean.kube.client import Client, PatchType
from kubeocean.kube.config import config_from_file
from kubeocean.kube.errors import NotFound
from kubeocean.kube.meta import Json, name_of, uid_of
from kubeocean.kube.resources import CONFIGMAPS, DEPLOYMENTS, JOBS, NAMESPACES, NODES, PODS, SERVICEACCOUNTS, Resource
from kubeocean.sandbox import processes
from kubeocean.sandbox.assets import Assets, Binary
from kubeocean.sandbox.nodes import NodeTemplate, build_node, is_ready, parse_taint
from kubeocean.sandbox.sandbox import Sandbox, up
from kubeocean.sandbox.spec import SandboxSpec
from kubeocean.sandbox.state import NoSandbox, SandboxError
from tests.integration.audit import AuditLog

Eventually = Callable[..., Awaitable[Any]]
CSRS = Resource("certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", False)
HOME = Path(__file__).parents[2]


def pod(name: str, namespace: str, **spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [{"name": "main", "image": "busybox"}], **spec},
    }


def running(found: Json) -> bool:
    conditions = found.get("status", {}).get("conditions") or []
    return found["status"].get("phase") == "Running" and any(
        each["type"] == "Ready" and each["status"] == "True" for each in conditions
    )


async def until_runs(client: Client, namespace: str, eventually: Eventually) -> None:
    """Return once Pod `p` runs."""
    async def runs() -> bool:
        return running(await client.get(PODS, "p", namespace))

    await eventually(runs, within=5, what="Pod runs")


def is_file(path: str) -> bool:
    return Path(path).is_file()


def contents(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def gone(client: Client, resource: Resource, name: str, namespace: str = "") -> bool:
    try:
        await client.get(resource, name, namespace)
    except NotFound:
        return True
    return False


@pytest.fixture
async def physical_namespace(physical_clients: list[Client], eventually: Eventually) -> AsyncIterator[str]:
    """A namespace of the first physical cluster that takes Pods."""
    client, name = physical_clients[0], f"test-{time.monotonic_ns()}"
    created = await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    async def takes_pods() -> bool:
        return not await gone(client, SERVICEACCOUNTS, "default", name)

    await eventually(takes_pods, what=f"ServiceAccount default of {name}")
    yield name
    await client.delete(NAMESPACES, name, uid=uid_of(created))


# --- the session's own sandbox


async def test_the_virtual_cluster_starts_without_nodes(virtual_client: Client) -> None:
    assert (await virtual_client.list(NODES)).items == []


async def test_physical_clusters_have_ready_nodes(physical_clients: list[Client]) -> None:
    assert len(physical_clients) == 2
    for client in physical_clients:
        nodes = (await client.list(NODES)).items
        assert [name_of(node) for node in nodes] == ["node-1", "node-2", "node-3"]
        assert all(is_ready(node) for node in nodes)


async def test_servers_tell_their_real_version(virtual_client: Client) -> None:
    assert (await virtual_client.server_version())["gitVersion"].startswith("v1.34.")


async def test_kwok_runs_pods_at_once_and_deletes_them_promptly(
    physical_clients: list[Client], physical_namespace: str, eventually: Eventually
) -> None:
    client = physical_clients[0]
    created = await client.create(PODS, pod("p", physical_namespace))
    await until_runs(client, physical_namespace, eventually)
    await client.delete(PODS, "p", physical_namespace, uid=uid_of(created))  # 30 s of grace: KWOK needs none of it
    await eventually(lambda: gone(client, PODS, "p", physical_namespace), within=5, what="Pod is gone")


async def test_kwok_writes_once_that_a_pod_runs_and_once_that_it_is_gone_as_a_kubelet_does(
    sandbox: Sandbox, physical_clients: list[Client], physical_namespace: str, eventually: Eventually
) -> None:
    client, log = physical_clients[0], AuditLog(sandbox.physical[0])
    sidecar = {"name": "sidecar", "image": "busybox", "restartPolicy": "Always"}
    wanted = pod(
        "p", physical_namespace, initContainers=[{"name": "first", "image": "busybox"}, sidecar],
        readinessGates=[{"conditionType": "example.com/open"}],
    )
    created = await client.create(PODS, wanted)
    await until_runs(client, physical_namespace, eventually)
    status = (await client.get(PODS, "p", physical_namespace))["status"]
    await client.delete(PODS, "p", physical_namespace, uid=uid_of(created))
    await eventually(lambda: gone(client, PODS, "p", physical_namespace), within=5, what="Pod is gone")
    await asyncio.sleep(1)  # KWOK's own stages would take it up once more
    by_kwok = [(each.verb, each.code) for each in log.writes() if each.agent.startswith("kwok") and each.name == "p"]
    assert by_kwok == [("patch", 200), ("delete", 200)]
    assert {each["type"] for each in status["conditions"] if each["status"] == "True"} >= {
        "Initialized", "Ready", "ContainersReady", "example.com/open",
    }
    first, second = status["initContainerStatuses"]
    assert first["state"]["terminated"]["reason"] == "Completed"
    assert "running" in second["state"]
    assert second["started"] is True


async def test_kwok_ends_the_pods_of_jobs(
    physical_clients: list[Client], physical_namespace: str, eventually: Eventually
) -> None:
    client = physical_clients[0]
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox"}]}}
    metadata = {"name": "once", "namespace": physical_namespace}
    await client.create(JOBS, {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template}})

    async def complete() -> bool:
        job = await client.get(JOBS, "once", physical_namespace)
        return bool(job["status"].get("succeeded") == 1)

    await eventually(complete, within=20, what="the Job has succeeded")


async def test_logs_of_a_pod_can_be_read(
    physical_clients: list[Client], physical_namespace: str, eventually: Eventually
) -> None:
    client = physical_clients[0]
    await client.create(PODS, pod("p", physical_namespace))
    await until_runs(client, physical_namespace, eventually)
    assert b"KWOK plays" in await client.raw("GET", PODS.path(physical_namespace, "p", "log"))


async def test_a_noexecute_taint_evicts(
    physical_clients: list[Client], physical_namespace: str, eventually: Eventually
) -> None:
    client = physical_clients[0]
    created = await client.create(PODS, pod("p", physical_namespace, nodeName="node-3"))
    taint = {"key": "test", "effect": "NoExecute"}
    await client.patch(NODES, "node-3", "", {"spec": {"taints": [taint]}}, kind=PatchType.MERGE)
    try:
        await eventually(lambda: gone(client, PODS, name_of(created), physical_namespace), what="Pod is evicted")
    finally:
        await client.patch(NODES, "node-3", "", {"spec": {"taints": None}}, kind=PatchType.MERGE)


async def test_the_virtual_cluster_schedules_deployments_to_nodes_it_is_given(
    virtual_client: Client, namespace: str, eventually: Eventually
) -> None:
    node = build_node(f"given-to-{namespace}", NodeTemplate(labels={"given-to": namespace}), address="127.0.0.1", port=1)
    created = await virtual_client.create(NODES, node)
    label = {"app": "web"}
    try:
        # Nobody makes this Node ready, so it keeps its first taint.
        await virtual_client.create(DEPLOYMENTS, {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": namespace},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": label},
                "template": {
                    "metadata": {"labels": label},
                    "spec": pod("x", "x", nodeSelector={"given-to": namespace}, tolerations=[{"operator": "Exists"}])["spec"],
                },
            },
        })

        async def scheduled() -> bool:
            pods = (await virtual_client.list(PODS, namespace)).items
            return len(pods) == 2 and all(each["spec"].get("nodeName") == name_of(node) for each in pods)

        await eventually(scheduled, what="both Pods are scheduled")
    finally:
        await virtual_client.delete(NODES, name_of(node), uid=uid_of(created))


async def test_namespaces_get_the_root_ca(sandbox: Sandbox, virtual_client: Client, namespace: str) -> None:
    found = await virtual_client.get(CONFIGMAPS, "kube-root-ca.crt", namespace)
    assert found["data"]["ca.crt"] == (sandbox.virtual.folder / "pki" / "ca.crt").read_text()


async def test_deleted_namespaces_go_away_with_all_that_is_in_them(
    virtual_client: Client, namespace: str, eventually: Eventually
) -> None:
    name = f"{namespace}-gone"
    created = await virtual_client.create(
        NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    )
    await virtual_client.create(
        CONFIGMAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": name}}
    )
    await virtual_client.delete(NAMESPACES, name, uid=uid_of(created))
    await eventually(lambda: gone(virtual_client, NAMESPACES, name), within=20, what="namespace is gone")


async def test_approved_certificate_requests_are_signed(virtual_client: Client, eventually: Eventually) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
        x509.NameAttribute(NameOID.COMMON_NAME, "system:node:x"),
    ])
    alternatives = x509.SubjectAlternativeName([x509.DNSName("x")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).add_extension(alternatives, critical=False)
    pem = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    created = await virtual_client.create(CSRS, {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "test-"},
        "spec": {
            "request": base64.b64encode(pem).decode(),
            "signerName": "kubernetes.io/kubelet-serving",
            "usages": ["digital signature", "server auth"],
        },
    })
    condition = {"type": "Approved", "status": "True", "reason": "Test", "message": "by a test"}
    await virtual_client.update(CSRS, {**created, "status": {"conditions": [condition]}}, subresource="approval")

    async def signed() -> bool:
        found = await virtual_client.get(CSRS, name_of(created))
        return bool(found["status"].get("certificate"))

    try:
        await eventually(signed, what="certificate is signed")
    finally:
        await virtual_client.delete(CSRS, name_of(created), uid=uid_of(created))


async def test_the_audit_log_tells_who_wrote_what_and_nothing_else(
    sandbox: Sandbox, virtual_client: Client, namespace: str, eventually: Eventually
) -> None:
    created = await virtual_client.create(
        CONFIGMAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seen", "namespace": namespace}}
    )
    await virtual_client.get(CONFIGMAPS, "seen", namespace)
    await virtual_client.delete(CONFIGMAPS, "seen", namespace, uid=uid_of(created))

    def entries() -> list[Json]:
        lines = sandbox.virtual.audit_log.read_text().splitlines()
        return [
            entry for entry in map(json.loads, lines)
            if entry["objectRef"].get("name") == "seen" and entry["objectRef"].get("namespace") == namespace
        ]

    await eventually(lambda: len(entries()) == 2, what="two writes in the audit log")
    assert [(entry["verb"], entry["userAgent"], entry["level"]) for entry in entries()] == [
        ("create", "kubeocean-tests", "Metadata"), ("delete", "kubeocean-tests", "Metadata"),
    ]


async def test_status_names_everything_that_runs(sandbox: Sandbox) -> None:
    report = json.loads(json.dumps(sandbox.status()))
    assert report["condition"] == "running"
    assert [(cluster["name"], cluster["role"]) for cluster in report["clusters"]] == [
        ("virtual", "virtual"), ("physical-1", "physical"), ("physical-2", "physical"),
    ]
    components = [each for group in (report, *report["clusters"]) for each in group["components"]]
    assert len(components) == 1 + 3 + 4 + 4
    for each in components:
        assert each["alive"]
        assert each["log"].startswith(report["folder"])
        assert is_file(each["log"])
    for cluster in report["clusters"]:
        async with Client(await config_from_file(cluster["kubeconfig"]), cluster=cluster["name"]) as client:
            assert await client.raw("GET", "/readyz") == b"ok"
        assert is_file(cluster["auditLog"])


async def test_a_running_sandbox_is_not_started_twice(sandbox: Sandbox, assets: Assets) -> None:
    with pytest.raises(SandboxError, match="already there"):
        await up(sandbox.record.spec, assets=assets, root=sandbox.folder.parent)
    assert sandbox.condition == "running"


# --- sandboxes of our own


@pytest.fixture
def clean_root(tmp_path: Path) -> Iterator[Path]:
    """A state root; whatever a failing test leaves running in it is ended."""
    yield tmp_path
    for folder in tmp_path.glob("*/sandbox.json"):
        asyncio.run(Sandbox.load(folder.parent.name, root=tmp_path).down())


async def test_a_sandbox_as_it_was_wished_for(assets: Assets, clean_root: Path, eventually: Eventually) -> None:
    nodes = NodeTemplate(
        count=1, cpu="64", labels={"zone": "a"}, taints=(parse_taint("gpu=yes:NoSchedule"),), extended={"nvidia.com/gpu": "8"}
    )
    spec = SandboxSpec(
        name="wish", clusters=1, nodes=nodes, etcd="per-cluster", listen="0.0.0.0", certificate_names=("api.test",)
    )
    sandbox = await up(spec, assets=assets, root=clean_root)
    pids = [each.pid for _, each in sandbox.record.all_components]
    assert len(pids) == len(set(pids)) == 2 * 4 + 1
    async with Client(await config_from_file(str(sandbox.physical[0].kubeconfig)), cluster="p") as client:
        (node,) = (await client.list(NODES)).items
        assert node["status"]["allocatable"]["nvidia.com/gpu"] == "8"
        assert node["metadata"]["labels"]["zone"] == "a"
        assert node["spec"]["taints"] == [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]
    config = await config_from_file(str(sandbox.virtual.kubeconfig))
    async with Client(dataclasses.replace(config, tls_server_name="api.test"), cluster="v") as client:
        assert await client.raw("GET", "/readyz") == b"ok"

    victim = sandbox.virtual.component("kube-scheduler")
    os.kill(victim.pid, signal.SIGKILL)
    await eventually(lambda: not victim.alive)
    assert sandbox.condition == "degraded"
    assert sandbox.dead()[0].startswith("kube-scheduler of virtual died; the end of")
    with pytest.raises(SandboxError, match="degraded"):
        await up(spec, assets=assets, root=clean_root)

    assert await sandbox.down() == []
    assert contents(clean_root) == []
    assert not any(processes.birth_of(pid) for pid in pids)
    with pytest.raises(NoSandbox):
        Sandbox.load("wish", root=clean_root)


def with_broken_kwok(assets: Assets, folder: Path) -> Assets:
    script = folder / "kwok"
    script.write_text("#!/bin/sh\necho this kwok is broken >&2\nexit 3\n")
    script.chmod(0o755)
    return Assets({**assets.binaries, "kwok": Binary("kwok", script, "test")})


async def test_a_component_that_dies_is_quoted_and_all_logs_are_kept(
    assets: Assets, clean_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    broken = with_broken_kwok(assets, tmp_path_factory.mktemp("assets"))
    spec = SandboxSpec(name="broken", clusters=1, nodes=NodeTemplate(count=1))
    with pytest.raises(SandboxError, match=r"(?s)kwok of physical-1 died.*this kwok is broken"):
        await up(spec, assets=broken, root=clean_root)
    sandbox = Sandbox.load("broken", root=clean_root)
    assert sandbox.condition == "failed"
    assert not any(each.alive for _, each in sandbox.record.all_components)
    assert processes.last_lines(sandbox.virtual.component("kube-apiserver").log)

    sandbox = await up(dataclasses.replace(spec, clusters=0), assets=assets, root=clean_root)  # what is left is cleared away
    assert sandbox.condition == "running"
    await sandbox.down()
    assert contents(clean_root) == []


async def test_a_start_that_takes_too_long_says_what_it_waited_for(assets: Assets, clean_root: Path) -> None:
    with pytest.raises(SandboxError, match="still waiting for: virtual: kube-apiserver"):
        await up(SandboxSpec(name="slow", clusters=0), assets=assets, root=clean_root, within=0.3)


# --- the command line


def kubeocean(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    # A background job of a shell inherits SIGINT ignored.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"{heed}; from kubeocean.cli.sandbox import app; app()"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, *arguments], cwd=HOME, env={**os.environ, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    out, err = process.communicate(timeout=90)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out if code == 0 else err


def test_the_life_of_a_sandbox_on_the_command_line(assets: Assets, clean_root: Path) -> None:
    root = {"KUBEOCEAN_SANDBOX_ROOT": str(clean_root)}
    assert "physical-1/kwok" in finish(kubeocean("up", "--clusters", "1", "--nodes", "1", **root))
    report = json.loads(finish(kubeocean("status", "--output", "json", **root)))
    assert report["condition"] == "running"
    path = finish(kubeocean("kubeconfig", "physical-1", **root)).strip()
    assert path == report["clusters"][1]["kubeconfig"]
    assert finish(kubeocean("kubeconfig", "physical-1", "--raw", **root)) == Path(path).read_text()
    assert "it has: virtual, physical-1" in finish(kubeocean("kubeconfig", "physical-2", **root), code=1)
    assert "is gone" in finish(kubeocean("down", **root))
    assert "sandbox up --name default" in finish(kubeocean("status", **root), code=1)
    assert contents(clean_root) == []


@pytest.mark.parametrize("interruption", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_a_start_leaves_nothing_behind(assets: Assets, clean_root: Path, interruption: signal.Signals) -> None:
    process = kubeocean("up", "--clusters", "0", KUBEOCEAN_SANDBOX_ROOT=str(clean_root))
    pids: list[int] = []
    while len(pids) < 2:  # etcd and the API server
        assert process.poll() is None
        time.sleep(0.05)
        if list(clean_root.glob("*/sandbox.json")):
            pids = [each.pid for _, each in Sandbox.load(root=clean_root).record.all_components]
    process.send_signal(interruption)
    assert finish(process, code=130) == "interrupted\n"
    assert contents(clean_root) == []
    assert not any(processes.birth_of(pid) for pid in pids)
