"""Pages about a virtual node, asked for as kube-apiserver would: on the node's port, with its kubelet client certificate.

(Its own way, `kubectl get --raw /api/v1/nodes/NODE/proxy/...`, refuses nodes on loopback, as those of a sandbox are.)
"""

import json
import ssl
import time
from dataclasses import dataclass

import aiohttp

from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import NODES
from kubeocean.sandbox.state import ClusterHandle


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
    port = (await client.get(NODES, vnode))["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    timeout = aiohttp.ClientTimeout(total=15)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(ssl=_api_server(virtual))) as session:
        began = time.monotonic()
        try:
            async with session.request(method, f"https://127.0.0.1:{port}{path}") as answer:
                text = await answer.text()
                return Page(answer.status, text, answer.headers.get("Warning", ""), time.monotonic() - began)
        except aiohttp.ClientConnectorError as error:
            raise AssertionError(f"nobody serves {vnode}: {error}") from error


def _api_server(handle: ClusterHandle) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(handle.folder / "pki" / "kubelet-client.crt", handle.folder / "pki" / "kubelet-client.key")
    return context
