"""Pages about a virtual node, asked for as kube-apiserver would: on the node's port, with its kubelet client certificate.

(Its own way, `kubectl get --raw /api/v1/nodes/NODE/proxy/...`, refuses nodes on loopback, as those of a sandbox are.)
"""

import asyncio
import json
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from kubeocean.kube.client import Client
from kubeocean.kube.loopback import VNODE_LOOPBACK
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import NODES
from kubeocean.sandbox.pki import KeyPair
from kubeocean.sandbox.state import ClusterHandle
from tests.integration.credentials import authority_of


@dataclass(frozen=True, slots=True)
class Page:
    """An answer; `warning` is the text of its Warning header, "" without one; `seconds` is how long it took."""

    status: int
    text: str
    warning: str
    seconds: float

    @property
    def json(self) -> Json:
        decoded: Json = json.loads(self.text)
        return decoded


async def read_page(virtual: ClusterHandle, client: Client, vnode: str, path: str, *, method: str = "GET") -> Page:
    """Ask the proxier of a virtual node; an AssertionError while nobody listens, so that `eventually` waits."""
    port = await kubelet_port(client, vnode)
    timeout = aiohttp.ClientTimeout(total=15)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(ssl=api_server(virtual))) as session:
        began = time.monotonic()
        try:
            async with session.request(method, f"https://{VNODE_LOOPBACK}:{port}{path}") as answer:
                text = await answer.text()
                return Page(answer.status, text, answer.headers.get("Warning", ""), time.monotonic() - began)
        except aiohttp.ClientConnectorError as error:
            raise AssertionError(f"nobody serves {vnode}: {error}") from error


async def kubelet_port(client: Client, vnode: str) -> int:
    """Return the port that the status of a virtual node names."""
    return int((await client.get(NODES, vnode))["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"])


async def ask(port: int, context: ssl.SSLContext, path: str, *headers: str, host: str = VNODE_LOOPBACK) -> bytes:
    """Return the first line of the answer to a GET."""
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        writer.write("\r\n".join([f"GET {path} HTTP/1.1", "Host: node", "Connection: close", *headers, "", ""]).encode())
        async with asyncio.timeout(10):
            return await reader.readuntil(b"\r\n")
    finally:
        writer.transport.abort()


def no_certificate() -> ssl.SSLContext:
    """Return the context of a caller who shows none."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def api_server(handle: ClusterHandle) -> ssl.SSLContext:
    """Return the context of a cluster's API server."""
    context = no_certificate()
    context.load_cert_chain(handle.folder / "pki" / "kubelet-client.crt", handle.folder / "pki" / "kubelet-client.key")
    return context


def issued(handle: ClusterHandle, user: str, folder: Path) -> ssl.SSLContext:
    """Return a context with a certificate for `user` of that cluster's own authority."""
    return showing(authority_of(handle).issue(user), folder / f"{handle.name}-{user}.pem")


def showing(pair: KeyPair, file: Path) -> ssl.SSLContext:
    """Return the context of a caller who shows this certificate; `file` is where it is written."""
    file.write_bytes(pair.certificate + pair.key)
    context = no_certificate()
    context.load_cert_chain(file)
    return context
