"""Whom the proxier trusts, what it shows, and that one binding's ports never lead to another one's Pods."""

import asyncio
import base64
import ssl
import uuid
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509

from kubeocean.kube.client import Client
from kubeocean.kube.meta import name_of
from kubeocean.kube.resources import CONFIGMAPS, PODS, SECRETS
from kubeocean.sandbox.assets import Assets
from kubeocean.sandbox.pki import Authority, KeyPair
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.audit import AuditLog
from tests.integration.credentials import authority_of
from tests.integration.federation import Federation, Lender, build_pod, eventually
from tests.integration.kubectl import Kubectl
from tests.integration.nodepages import api_server, ask, kubelet_port, no_certificate, read_page, showing
from tests.integration.programs import Program

CLIENT_CA, CLIENT_CA_KEY = ("extension-apiserver-authentication", "kube-system"), "client-ca-file"
PLAYED = "KWOK plays this container"


async def served(federation: Federation, lender: Lender) -> int:
    """Return the port of a lender's virtual node once it is served."""
    async def healthy() -> bool:
        page = await read_page(federation.sandbox.virtual, federation.virtual, lender.vnode(), "/healthz")
        return page.text == "ok"

    await eventually(healthy, within=30, what=f"{lender.vnode()} is served")
    return await kubelet_port(federation.virtual, lender.vnode())


@pytest.fixture
async def own_authority(virtual_client: Client) -> AsyncIterator[str]:
    """The client CA of the virtual cluster as it was; whatever a test adds is taken out again."""
    found = await virtual_client.get(CONFIGMAPS, *CLIENT_CA)
    own = str(found["data"][CLIENT_CA_KEY])
    yield own
    await virtual_client.patch(CONFIGMAPS, *CLIENT_CA, {"data": {CLIENT_CA_KEY: own}})


async def test_a_new_client_authority_is_trusted_and_one_that_goes_no_longer_without_a_restart(
    federation: Federation, own_authority: str, sandbox: Sandbox, manager: Program, tmp_path: Path
) -> None:
    port = await served(federation, await federation.lend(nodes=1, policy={}))
    child = manager.child("proxier")
    old, new = (Authority.create(f"client-ca-{which}") for which in ("old", "new"))
    old_user, new_user = (
        showing(each.issue("operator", organizations=("system:masters",)), tmp_path / f"{number}.pem")
        for number, each in enumerate((old, new))
    )

    async def trust(*others: Authority) -> None:
        # The API server sees to it that its own authority is always in it, as in any cluster.
        bundle = "".join([own_authority, *(each.pair.certificate.decode() for each in others)])
        await federation.virtual.patch(CONFIGMAPS, *CLIENT_CA, {"data": {CLIENT_CA_KEY: bundle}})

    async def admits(who: ssl.SSLContext) -> bool:
        try:
            return b" 200 " in await ask(port, who, "/healthz")
        except (ssl.SSLError, ConnectionError, EOFError):
            return False

    async def are_admitted(expected: tuple[bool, bool]) -> bool:
        return (await admits(old_user), await admits(new_user)) == expected

    assert await are_admitted((False, False))
    for trusted, expected in (((old,), (True, False)), ((old, new), (True, True)), ((new,), (False, True))):
        await trust(*trusted)
        await eventually(partial(are_admitted, expected), within=10, what=f"old and new: {expected}")
        assert await admits(api_server(sandbox.virtual)), "the API server itself, all the time"
    assert manager.child("proxier") == child, "it was not started again"


async def test_a_given_certificate_is_shown_and_a_renewed_one_at_once_but_no_broken_one(
    federation: Federation, sandbox: Sandbox, tmp_path: Path
) -> None:
    port = await served(federation, await federation.lend(nodes=1, policy={}))
    name, authority = f"tls-{uuid.uuid4().hex[:6]}", authority_of(sandbox.virtual)
    first, second = (authority.issue("virtual-nodes", names=("127.0.0.3",)) for _ in range(2))
    proxier = Program(
        "proxier", "--bind-address=127.0.0.3", f"--tls-secret=default/{name}", kubeconfig=sandbox.virtual.kubeconfig,
        log=tmp_path / "log",
    )
    verifying = ssl.create_default_context(cafile=str(sandbox.virtual.folder / "pki" / "ca.crt"))

    async def shows(pair: KeyPair) -> bool:
        _, writer = await asyncio.open_connection("127.0.0.3", port, ssl=verifying)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        return x509.load_der_x509_certificate(shown) == x509.load_pem_x509_certificate(pair.certificate)

    async def put(pair: KeyPair) -> None:
        data = {"tls.crt": base64.b64encode(pair.certificate).decode(), "tls.key": base64.b64encode(pair.key).decode()}
        await federation.virtual.patch(SECRETS, name, "default", {"data": data})

    try:
        proxier.start()
        await eventually(lambda: f"default/{name}" in proxier.tail(), within=20, what="the log says what is missing")
        assert not proxier.is_ready()
        with pytest.raises(ConnectionRefusedError):  # never without TLS
            await shows(first)
        await federation.create(SECRETS, {
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": name, "namespace": "default"}, "data": {"tls.crt": "", "tls.key": ""},
        })
        await put(first)
        proxier.wait_ready()
        assert await shows(first)
        await put(second)
        await eventually(lambda: shows(second), within=10, what="the renewed one is shown")
        mark = proxier.mark()
        await put(KeyPair(first.certificate, second.key))
        await eventually(lambda: "unusable" in proxier.tail(mark), within=10, what="the log says what is wrong with it")
        assert await shows(second)
    finally:
        assert proxier.stop() == 0


async def test_the_serving_certificate_is_good_for_the_address_in_the_nodes_status(
    federation: Federation, sandbox: Sandbox, manager: Program
) -> None:
    """As kube-apiserver sees it with --kubelet-certificate-authority."""
    port = await served(federation, await federation.lend(nodes=1, policy={}))
    verifying = ssl.create_default_context(cafile=str(sandbox.virtual.folder / "pki" / "ca.crt"))
    assert b" 401 " in await ask(port, verifying, "/healthz")


async def test_two_bindings_to_one_cluster_are_worlds_apart(
    federation: Federation, namespace: str, sandbox: Sandbox, assets: Assets
) -> None:
    ours, theirs = await federation.lend(nodes=1, policy={}), await federation.lend(nodes=1, policy={})
    ports = [await served(federation, lender) for lender in (ours, theirs)]
    await federation.virtual.create(PODS, build_pod("ours", namespace, ours))
    await federation.virtual.create(PODS, build_pod("theirs", namespace, theirs))
    (our_pod, their_pod) = await federation.running(namespace, "ours", "theirs")
    our_twin, their_twin = await federation.twin(ours, our_pod), await federation.twin(theirs, their_pod)
    assert our_twin
    assert their_twin
    context, path = api_server(sandbox.virtual), f"/containerLogs/{namespace}/{{}}/main"

    assert b" 200 " in await ask(ports[0], context, path.format("ours"))
    assert b" 404 " in await ask(ports[1], context, path.format("ours")), "through the other binding's node"
    assert b" 401 " in await ask(ports[0], no_certificate(), path.format("ours"))
    for name in (name_of(our_twin), name_of(their_twin)):
        assert b" 404 " in await ask(ports[0], context, path.format(name)), "a twin's name opens nothing"
        mounted = f"/containerLogs/{theirs.mount_namespace}/{name}/main"
        assert b" 404 " in await ask(ports[0], context, mounted), "nor with its namespace"

    forged = {
        "kubeocean.io/physical-pod-name": name_of(their_twin), "kubeocean.io/physical-pod-namespace": theirs.mount_namespace,
    }
    await federation.virtual.patch(PODS, "ours", namespace, {"metadata": {"annotations": forged}})
    assert b" 404 " in await ask(ports[1], context, path.format("ours"))
    log = AuditLog(sandbox.physical[0])
    assert await Kubectl(assets, sandbox.virtual)("exec", "ours", "-n", namespace, "--", "echo", "hello") == "hello\n"

    def reached() -> set[tuple[str, str]]:
        return {(each.namespace, each.name) for each in log.writes() if each.resource == "pods/exec"}

    await eventually(reached, within=10, what="the command stands in the audit log")
    assert reached() == {(ours.mount_namespace, name_of(our_twin))}
