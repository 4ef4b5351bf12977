"""kubectl logs, exec and port-forward on a virtual node.

The way: kubectl → virtual API server → proxier → physical API server → kubelet.

KWOK plays the kubelet here: it answers logs with a fixed line, exec with a local command, port-forward with a local port.
"""

import asyncio
import os
import socket
import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from kubeocean.api.names import VIRTUAL_POD_UID_ANNOTATION
from kubeocean.kube.loopback import VNODE_LOOPBACK
from kubeocean.kube.meta import Json, annotations_of, labels_of, name_of, uid_of
from kubeocean.kube.resources import CLUSTERROLEBINDINGS, CLUSTERROLES, PODS, SERVICEACCOUNTS
from kubeocean.sandbox.assets import Assets
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.conftest import Eventually
from tests.integration.federation import TOLERATES_VNODES, Federation, Lender
from tests.integration.kubectl import Kubectl
from tests.integration.nodepages import api_server, ask, issued, kubelet_port, no_certificate
from tests.integration.programs import Program
from tests.integration.streams import forwarding, typing

HAND_SHAKEN = b"HTTP/1.1 101"


@pytest.fixture
async def pod(federation: Federation, namespace: str, eventually: Eventually) -> str:
    """The name of a Pod that runs on a virtual node which the manager's proxier serves."""
    lender = await federation.lend(nodes=1, policy={}, directScheduling=True)
    await federation.virtual.create(PODS, _pod("web", namespace, lender))

    async def runs() -> bool:
        return bool(((await federation.virtual.get(PODS, "web", namespace)).get("status") or {}).get("phase") == "Running")

    await eventually(runs, within=20, what="the Pod runs")
    await eventually(lambda: _port_is_open(federation, lender), within=20, what="the proxier listens for the virtual node")
    return "web"


def _pod(name: str, namespace: str, lender: Lender) -> Json:
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "nodeName": lender.vnode(), "tolerations": TOLERATES_VNODES, "automountServiceAccountToken": False,
            "containers": [{"name": "app", "image": "busybox"}],
        },
    }


async def _port_is_open(federation: Federation, lender: Lender) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((VNODE_LOOPBACK, await kubelet_port(federation.virtual, lender.vnode()))) == 0


async def test_kubectl_reads_logs_runs_commands_and_forwards_ports(
    federation: Federation, namespace: str, pod: str, assets: Assets, sandbox: Sandbox, eventually: Eventually
) -> None:
    kubectl = Kubectl(assets, sandbox.virtual)
    assert "KWOK plays this container" in await kubectl("logs", pod, "-n", namespace)
    assert (await kubectl("logs", pod, "-n", namespace, "--timestamps")).startswith("2026-01-01T00:00:00")
    assert await kubectl("exec", pod, "-n", namespace, "--", "echo", "two words") == "two words\n"
    with pytest.raises(AssertionError, match=r"not valid for pod|not found"):
        await kubectl("logs", pod, "-n", namespace, "-c", "nosuch")

    async with forwarding(kubectl, namespace, pod) as forward:
        await forward.answers()


async def test_a_forged_annotation_redirects_no_stream(
    federation: Federation, namespace: str, pod: str, assets: Assets, sandbox: Sandbox
) -> None:
    forged = {"kubeocean.io/physical-pod-name": "somebody-elses", "kubeocean.io/physical-pod-namespace": "kube-system"}
    await federation.virtual.patch(PODS, pod, namespace, {"metadata": {"annotations": forged}})
    assert "KWOK plays this container" in await Kubectl(assets, sandbox.virtual)("logs", pod, "-n", namespace)


async def test_nobody_breaks_in(federation: Federation, namespace: str, pod: str, sandbox: Sandbox, tmp_path: Path) -> None:
    vnode = (await federation.virtual.get(PODS, pod, namespace))["spec"]["nodeName"]
    port = await kubelet_port(federation.virtual, vnode)
    path, insider = f"/containerLogs/{namespace}/{pod}/app", api_server(sandbox.virtual)
    stranger = issued(sandbox.virtual, "somebody", tmp_path)
    foreign = issued(sandbox.physical[0], "kube-apiserver-kubelet-client", tmp_path)

    assert b" 200 " in await ask(port, insider, path), "the API server itself is let in"
    assert b" 401 " in await ask(port, no_certificate(), path), "nobody is anonymous"
    assert b" 401 " in await ask(port, no_certificate(), path, "Authorization: Bearer made-up")
    assert b" 403 " in await ask(port, stranger, path), "known, and without the right to nodes/proxy"
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError, asyncio.IncompleteReadError)):
        await ask(port, foreign, path)  # of another cluster's authority
    for trick in ("/containerLogs/..%2f..%2fkube-system/x/y", "/exec/%2e%2e/x/y", f"/exec/{namespace}/{pod}%00/app"):
        assert b" 400 " in await ask(port, insider, trick), trick
    assert b" 404 " in await ask(port, insider, f"/containerLogs/kube-system/{pod}/app")
    assert b" 400 " in await ask(port, insider, f"/{'x' * 40_000}")
    assert b" 400 " in await ask(port, insider, f"/exec/{namespace}/{pod}/app?command=ls"), "a stream must be one"


async def test_a_token_opens_what_its_account_may_and_nothing_else(
    federation: Federation, namespace: str, pod: str
) -> None:
    virtual = federation.virtual
    port = await kubelet_port(federation.virtual, (await virtual.get(PODS, pod, namespace))["spec"]["nodeName"])
    path, role = f"/containerLogs/{namespace}/{pod}/app", f"tests-{namespace}"
    tokens = {name: await _token(federation, namespace, name) for name in ("reader", "nobody")}
    await virtual.create(CLUSTERROLES, {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": role},
        "rules": [{"apiGroups": [""], "resources": ["nodes/proxy"], "verbs": ["get"]}],
    })
    await virtual.create(CLUSTERROLEBINDINGS, {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": role},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": namespace}],
    })
    federation.made.virtual += [(CLUSTERROLES, role, ""), (CLUSTERROLEBINDINGS, role, "")]

    async def shows_token(who: str, path: str) -> bytes:
        return await ask(port, no_certificate(), path, f"Authorization: Bearer {tokens[who]}")

    assert b" 200 " in await shows_token("reader", path)
    assert b" 403 " in await shows_token("reader", f"/exec/{namespace}/{pod}/app?command=ls"), "to read is not to run commands"
    assert b" 403 " in await shows_token("nobody", path), "known, and without rights"


async def test_a_pod_of_the_lenders_that_claims_to_be_a_twin_is_never_reached(
    federation: Federation, namespace: str, pod: str, assets: Assets, sandbox: Sandbox, eventually: Eventually
) -> None:
    """Whoever may create Pods elsewhere in the lender's cluster can write any label, and would see what users type."""
    virtual, physical, kubectl = federation.virtual, federation.physical[0], Kubectl(assets, sandbox.virtual)
    original = await virtual.get(PODS, pod, namespace)
    twins = (await physical.list(PODS)).items
    twin = next(each for each in twins if annotations_of(each).get(VIRTUAL_POD_UID_ANNOTATION) == uid_of(original))
    forged = {
        "apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "app", "image": "busybox"}], "nodeName": "x"},
        "metadata": {
            "name": name_of(twin), "namespace": "default", "labels": labels_of(twin), "annotations": annotations_of(twin),
        },
    }
    made = await physical.create(PODS, forged)
    try:
        for _ in range(3):
            assert "KWOK plays this container" in await kubectl("logs", pod, "-n", namespace)
    finally:
        await physical.delete(PODS, name_of(twin), "default", uid=uid_of(made), grace_seconds=0)


async def test_who_says_nothing_is_hung_up_on_and_a_head_without_end_too(
    federation: Federation, namespace: str, pod: str, sandbox: Sandbox
) -> None:
    port = await kubelet_port(federation.virtual, (await federation.virtual.get(PODS, pod, namespace))["spec"]["nodeName"])

    async def until_hung_up(words: bytes, context: ssl.SSLContext | None) -> None:
        reader, writer = await asyncio.open_connection(VNODE_LOOPBACK, port, ssl=context)
        writer.write(words)
        async with asyncio.timeout(30):
            with suppress(ConnectionError):
                await reader.read()
        writer.transport.abort()

    tls = api_server(sandbox.virtual)
    await asyncio.gather(until_hung_up(b"", None), until_hung_up(b"", tls), until_hung_up(b"GET / HTTP/1.1\r\nX: ", tls))


async def test_two_proxiers_serve_at_a_time_and_one_that_ends_takes_no_stream_of_the_other_along(
    federation: Federation, namespace: str, pod: str, assets: Assets, sandbox: Sandbox, manager: Program, tmp_path: Path
) -> None:
    vnode = (await federation.virtual.get(PODS, pod, namespace))["spec"]["nodeName"]
    second = Program("proxier", "--bind-address=127.0.0.3", kubeconfig=sandbox.virtual.kubeconfig, log=tmp_path / "log")
    async with typing(Kubectl(assets, sandbox.virtual), namespace, pod) as stream:
        try:
            second.ensure()
            port = await kubelet_port(federation.virtual, vnode)
            answer = await ask(port, api_server(sandbox.virtual), f"/containerLogs/{namespace}/{pod}/app", host="127.0.0.3")
            assert b" 200 " in answer
            assert second.stop() == 0
            await stream.echoes("and after that")
        finally:
            second.stop()


async def test_streams_that_are_dropped_leave_nothing_behind(
    federation: Federation, namespace: str, pod: str, sandbox: Sandbox, manager: Program, eventually: Eventually
) -> None:
    vnode = (await federation.virtual.get(PODS, pod, namespace))["spec"]["nodeName"]
    port, context = await kubelet_port(federation.virtual, vnode), api_server(sandbox.virtual)
    proxier = manager.child("proxier")
    before = len(os.listdir(f"/proc/{proxier}/fd"))

    async def open_and_drop() -> None:
        reader, writer = await asyncio.open_connection(VNODE_LOOPBACK, port, ssl=context)
        writer.write(
            f"POST /exec/{namespace}/{pod}/app?command=sleep&command=30&output=1 HTTP/1.1\r\nHost: x\r\n"
            "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
            "Content-Length: 0\r\n\r\n".encode()
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(HAND_SHAKEN)
        writer.transport.abort()

    for _ in range(50):
        await asyncio.gather(*(open_and_drop() for _ in range(20)))

    def nothing_left() -> bool:
        left = len(os.listdir(f"/proc/{proxier}/fd")) - before
        assert left <= 8, f"{left} file descriptors more than before"  # a few pooled connections
        return True

    # Twenty at once ask the API server twenty times whether they may; such connections stay pooled for 15 to 30 s.
    await eventually(nothing_left, within=40, what="every connection is closed")


async def _token(federation: Federation, namespace: str, account: str) -> str:
    """Make a ServiceAccount and return a token of it."""
    await federation.virtual.create(SERVICEACCOUNTS, {
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": namespace},
    })
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": {"audiences": []}}
    answer = await federation.virtual.create(
        SERVICEACCOUNTS, request, subresource="token", name=account, namespace=namespace
    )
    return str(answer["status"]["token"])
