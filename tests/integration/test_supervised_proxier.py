"""The manager's own proxier: it is there without a word, it is told of truthfully, and it never outlives its manager."""

import asyncio
import os
import signal
import socket
import urllib.request

import pytest

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.domain.naming import proxier_port
from kubeocean.domain.vnode import port_of
from kubeocean.kube.loopback import VNODE_LOOPBACK
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import NODES, PODS
from kubeocean.sandbox.assets import Assets
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.federation import Federation, Lender, build_pod, condition, eventually
from tests.integration.kubectl import Kubectl
from tests.integration.programs import Program, runs

PLAYED = "KWOK plays this container"


@pytest.fixture
async def lender(federation: Federation, namespace: str) -> Lender:
    """A binding with a Pod `web` on its virtual node."""
    lender = await federation.lend(nodes=1, policy={})
    await federation.virtual.create(PODS, build_pod("web", namespace, lender))
    await federation.running(namespace, "web")
    return lender


async def is_served(federation: Federation, lender: Lender) -> bool:
    served = await proxier_ready(federation, lender)
    assert served.get("status") == "True", f"ProxierReady is {served}"
    return True


async def proxier_ready(federation: Federation, lender: Lender) -> Json:
    return condition(await federation.virtual.get(CLUSTERBINDINGS, lender.binding), "ProxierReady")


async def test_a_binding_is_served_with_no_further_setup_and_says_where(federation: Federation, lender: Lender) -> None:
    await eventually(lambda: is_served(federation, lender), within=20, what="the binding is served")
    served = await proxier_ready(federation, lender)
    assert served["reason"] == "Serving"
    assert VNODE_LOOPBACK in served["message"]


async def test_the_managers_metrics_tell_what_its_proxier_counts_and_each_family_once(
    federation: Federation, lender: Lender, manager: Program, namespace: str, sandbox: Sandbox, assets: Assets
) -> None:
    await eventually(lambda: is_served(federation, lender), within=20, what="the binding is served")
    assert PLAYED in await Kubectl(assets, sandbox.virtual)("logs", "web", "-n", namespace)
    ended = f'kubeocean_proxier_sessions_ended_total{{action="logs",clusterbinding="{lender.binding}",outcome="closed"}}'

    async def page_with_it() -> str:
        page = await asyncio.to_thread(read_metrics, manager)
        return page if f"{ended} 1.0" in page else ""

    page = await eventually(page_with_it, within=10, what="the session is counted")
    families = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE ")]
    assert sorted(set(families)) == sorted(families)
    told = {line.partition("{")[0].partition(" ")[0] for line in page.splitlines()}
    assert told >= {
        "kubeocean_proxier_sessions", "kubeocean_proxier_stream_bytes_total", "kubeocean_proxier_process_resident_memory_bytes",
        "kubeocean_proxier_process_open_fds", "kubeocean_proxier_certificate_expiry_timestamp_seconds",
        "kubeocean_manager_proxier_starts_total",
    }


def read_metrics(manager: Program) -> str:
    with urllib.request.urlopen(f"http://{manager.metrics}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


async def test_a_proxier_that_dies_is_told_of_and_started_again(
    federation: Federation, lender: Lender, manager: Program, namespace: str, sandbox: Sandbox, assets: Assets
) -> None:
    await eventually(lambda: is_served(federation, lender), within=20, what="the binding is served")
    first = manager.child("proxier")
    os.kill(first, signal.SIGKILL)

    async def is_told() -> bool:
        served = await proxier_ready(federation, lender)
        return (served["status"], served["reason"]) == ("False", "ProxierFailed") and "SIGKILL" in served["message"]

    await eventually(is_told, within=5, what="its death stands in the condition")
    await eventually(lambda: is_served(federation, lender), within=20, what="another one serves")
    assert manager.child("proxier") != first
    assert PLAYED in await Kubectl(assets, sandbox.virtual)("logs", "web", "-n", namespace)
    assert condition(await federation.virtual.get(CLUSTERBINDINGS, lender.binding), "Ready")["status"] == "True"


async def test_a_killed_manager_leaves_no_proxier_and_the_next_one_serves_the_same_ports(
    federation: Federation, lender: Lender, manager: Program, namespace: str, sandbox: Sandbox, assets: Assets
) -> None:
    await eventually(lambda: is_served(federation, lender), within=20, what="the binding is served")
    orphan = manager.child("proxier")
    manager.kill()
    manager.ensure()
    await eventually(lambda: not runs(orphan), within=5, what="the orphan ends")
    kubectl = Kubectl(assets, sandbox.virtual)

    async def answers() -> bool:
        return PLAYED in await kubectl("logs", "web", "-n", namespace)

    await eventually(answers, within=20, what="logs come through the next manager's proxier")
    assert (await proxier_ready(federation, lender))["status"] == "True"


async def test_a_stopped_manager_takes_its_proxier_along(federation: Federation, lender: Lender, manager: Program) -> None:
    await eventually(lambda: is_served(federation, lender), within=20, what="the binding is served")
    proxier = manager.child("proxier")
    assert manager.stop() == 0
    assert not runs(proxier)
    manager.ensure()


async def test_a_virtual_node_whose_port_somebody_else_has_gets_the_next_one(
    federation: Federation, namespace: str, sandbox: Sandbox, assets: Assets
) -> None:
    lender = await federation.bind(await federation.pool(nodes=1))
    port = proxier_port(lender.vnode(), set())
    with socket.create_server((VNODE_LOOPBACK, port)):
        await federation.policy(lender)
        await federation.vnodes(lender)
        await federation.virtual.create(PODS, build_pod("web", namespace, lender))
        await federation.running(namespace, "web")

        async def says_why() -> bool:
            served = await proxier_ready(federation, lender)
            return served["reason"] == "ProxierFailed" and f"{VNODE_LOOPBACK}:{port}" in served["message"]

        async def has_moved() -> bool:
            node = await federation.virtual.get(NODES, lender.vnode())
            return bool(port_of(node) != port == node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] - 1)

        await eventually(says_why, within=10, what="the binding says what is in the way")
        await eventually(has_moved, within=20, what="the virtual node has the next port")
        await eventually(lambda: is_served(federation, lender), within=20, what="the binding is served")
        assert PLAYED in await Kubectl(assets, sandbox.virtual)("logs", "web", "-n", namespace)


async def test_each_binding_is_told_of_by_itself(federation: Federation, lender: Lender) -> None:
    lost = await federation.bind(
        await federation.pool(nodes=1), kubeconfig=_kubeconfig_to_nowhere(federation), ready=False,
    )

    async def says_why() -> bool:
        served = await proxier_ready(federation, lost)
        return served.get("reason") == "ProxierFailed" and "127.0.0.1:9" in served["message"]

    await eventually(says_why, within=20, what="the binding that leads nowhere says why it is not served")
    await eventually(lambda: is_served(federation, lender), within=20, what="the other one is served")


def _kubeconfig_to_nowhere(federation: Federation) -> bytes:
    lines = federation.sandbox.physical[0].kubeconfig.read_text().splitlines()
    return "\n".join(
        f"{line.partition('server:')[0]}server: https://127.0.0.1:9" if "server:" in line else line for line in lines
    ).encode()
