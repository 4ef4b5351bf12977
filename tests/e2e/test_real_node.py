"""A Pod of the virtual cluster runs in real containers, and nothing of the node outlives its sandbox."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json, name_of, namespace_of
from kubeocean.kube.resources import NODES, PODS
from kubeocean.sandbox.nodes import is_ready
from kubeocean.sandbox.sandbox import Sandbox
from kubeocean.sandbox.state import NoSandbox
from tests.e2e.realnode import RealFederation
from tests.integration.federation import build_pod, connect, eventually, find, is_running, twin_name

IMAGE = "kubeocean.test/toolbox:1"


async def log_of(client: Client, pod: Json) -> str:
    return (await client.raw("GET", PODS.path(namespace_of(pod), name_of(pod), "log"))).decode()


async def test_a_pod_of_the_virtual_cluster_calls_the_virtual_api_server_from_a_real_container(
    real_federation: RealFederation, virtual_client: Client, physical_client: Client, virtual_namespace: str,
) -> None:
    command = f"toolbox call GET /api/v1/namespaces/{virtual_namespace}; toolbox serve -http :8080"
    container = {
        "name": "main", "image": IMAGE, "command": ["sh", "-c", command],
        "readinessProbe": {"httpGet": {"port": 8080, "path": "/healthz"}, "periodSeconds": 1},
    }
    pod = build_pod("caller", virtual_namespace, real_federation.lender, containers=[container])
    created = await virtual_client.create(PODS, pod)

    async def runs() -> bool:
        found = await virtual_client.get(PODS, "caller", virtual_namespace)
        assert is_running(found), found.get("status")
        return True

    await eventually(runs, within=30, what="the Pod runs")
    twin = await find(
        physical_client, PODS, twin_name("caller", virtual_namespace), real_federation.lender.mount_namespace,
    )
    assert twin
    status, _, body = (await log_of(physical_client, twin)).partition(" ")
    account = f"system:serviceaccount:{virtual_namespace}:default"
    assert (status, account in json.loads(body)["message"]) == ("403", True), body  # known there, but without rights
    found = await virtual_client.get(PODS, "caller", virtual_namespace)
    assert found["status"]["podIP"] == twin["status"]["podIP"]
    await virtual_client.delete(PODS, "caller", virtual_namespace, uid=created["metadata"]["uid"], grace_seconds=0)


# --- how nodes live and end


@pytest.fixture
def two(start_real_sandbox: Callable[..., Sandbox]) -> Iterator[Sandbox]:
    """A sandbox with two real nodes, one in each physical cluster."""
    sandbox = start_real_sandbox("two", clusters=2, real_nodes=2)
    yield sandbox
    with suppress(NoSandbox):  # the test ends it
        asyncio.run(sandbox.down())


def test_two_nodes_run_side_by_side_reach_each_other_and_leave_nothing_even_when_killed(two: Sandbox) -> None:
    panic = Path("/proc/sys/kernel/panic").read_text().strip()  # kubelets would set it to 10
    assert asyncio.run(look_at_two(two)) == ["200 ok", panic]
    assert Path("/proc/sys/kernel/panic").read_text().strip() == panic
    assert traces(two) != []
    for cluster in two.physical:
        for component in cluster.components:
            if component.name.startswith(("kubelet@", "containerd@")):
                os.kill(component.pid, signal.SIGKILL)
    started = time.monotonic()
    asyncio.run(two.down())
    assert time.monotonic() - started < 15
    assert traces(two) == []
    with pytest.raises(NoSandbox):
        Sandbox.load(two.name, root=two.folder.parent)


async def look_at_two(sandbox: Sandbox) -> list[str]:
    """Have a container of one node ask one of the other; return what it was told, and what it sees of the machine."""
    nodes = sandbox.real_nodes
    assert [(node.name, node.cluster) for node in nodes] == [("real-1", "physical-1"), ("real-2", "physical-2")]
    one, other = [await connect(cluster) for cluster in sandbox.physical]
    async with one, other:
        for client, node in ((one, "real-1"), (other, "real-2")):
            assert is_ready(await client.get(NODES, node))
        await other.create(PODS, bare("server", "real-2", "toolbox serve -http :8080"))
        server = await ended_or_running(other, "server", "Running")
        url = f"http://{server['status']['podIP']}:8080/healthz"
        await one.create(PODS, bare("caller", "real-1", f"toolbox get {url}; cat /proc/sys/kernel/panic"))
        caller = await ended_or_running(one, "caller", "Succeeded")
        return (await log_of(one, caller)).splitlines()


def bare(name: str, node: str, command: str) -> Json:
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": node, "restartPolicy": "Never",
            "containers": [{"name": "main", "image": IMAGE, "command": ["sh", "-c", command]}],
        },
    }


async def ended_or_running(client: Client, name: str, phase: str) -> Json:
    async def reached() -> Json:
        found = await client.get(PODS, name, "default")
        assert found["status"].get("phase") == phase, found["status"]
        return found

    pod: Json = await eventually(reached, within=30, what=f"{name} is {phase}")
    return pod


def traces(sandbox: Sandbox) -> list[str]:
    """Return what can be seen of a sandbox's real nodes on this machine: folders, namespaces, interfaces, processes."""
    token = f"kubeocean-{sandbox.record.token}"
    network = sandbox.record.network
    assert network
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout.split()
    return [
        *map(str, Path("/sys/fs/cgroup").glob(f"**/{token}*")),
        *map(str, Path("/run/netns").glob(f"{token}*")),
        *(word for word in links if word.partition("@")[0] == network.interface),
        *(line for line in Path("/proc/self/mounts").read_text().splitlines() if str(sandbox.folder) in line),
        *processes_of(token, str(sandbox.folder)),
        *([str(sandbox.folder)] if sandbox.folder.exists() else []),
    ]


def processes_of(*words: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, groups = (folder.joinpath(each).read_text() for each in ("cmdline", "cgroup"))
        except OSError:
            continue  # ended meanwhile
        if command and any(word in command + groups for word in words):  # one without a command only waits for init
            found.append(command.replace("\0", " "))
    return found
