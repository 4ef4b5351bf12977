"""One binding's physical cluster as its proxier holds it: who it is, where twins may be, and a way to ask about one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import aiohttp
from yarl import URL

from kubeocean.api import names
from kubeocean.clusters.identity import ClusterIdentityChanged, Identity
from kubeocean.domain.ownership import Owner
from kubeocean.kube.answers import TRANSPORT_FAILURES, build_unreachable
from kubeocean.kube.client import Client
from kubeocean.kube.config import ServerConfig
from kubeocean.kube.errors import KubeError, NotFound
from kubeocean.kube.meta import annotations_of, name_of
from kubeocean.kube.resources import NAMESPACES, PODS
from kubeocean.kube.sockets import build_socket
from kubeocean.proxier.twins import Twins

CONNECT_WITHIN: Final = 10.0  # seconds


class PhysicalSide:
    """The client and the twins of one physical cluster. `known_uid` is the uid its kube-system namespace must have."""

    def __init__(self, config: ServerConfig, owner: Owner, *, binding: str, known_uid: str, user_agent: str) -> None:
        self.config, self.owner, self.binding, self.user_agent = config, owner, binding, user_agent
        self.calls = Client(config, cluster=binding, user_agent=user_agent)
        self.twins = Twins(self.calls, owner)
        self._known_uid = known_uid
        self._logs: aiohttp.ClientSession | None = None

    async def prove_identity(self) -> None:
        """Return when this is the cluster that the syncer joined. Raises ClusterIdentityChanged, or a KubeError."""
        uid = await Identity(self.calls).ask()
        if self._known_uid and uid != self._known_uid:
            message = f"the kubeconfig leads to another cluster (kube-system uid {uid}, it was {self._known_uid})"
            raise ClusterIdentityChanged(message, cluster=self.binding)

    async def prove_access(self, mount_namespace: str) -> None:
        """Return when Pods of the mountNamespace may be read, as each stream begins. Raises Forbidden, or another KubeError."""
        with suppress(NotFound):  # rights come before absence
            await self.calls.get(PODS, "any", mount_namespace)

    async def learn_namespaces(self, mount_namespace: str) -> None:
        """Learn where twins may be: in the mountNamespace, and in earlier ones that are still claimed for this binding."""
        claimed = {
            name_of(namespace) for namespace in (await self.calls.list(NAMESPACES)).items
            if annotations_of(namespace).get(names.CLAIMED_BY_ANNOTATION) == self.owner.annotation
        }
        self.twins.namespaces = (mount_namespace, *sorted(claimed - {mount_namespace}))

    async def close(self) -> None:
        """Close every connection."""
        await self.calls.close()
        if self._logs:
            await self._logs.close()

    @asynccontextmanager
    async def get(self, target: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET a path (encoded, with its query) and give the answer, whatever it is, unread. Raises Unreachable."""
        url = URL(f"{self.config.server}{target}", encoded=True)
        headers = {}
        if authorization := await self.config.authorization(False):
            headers["Authorization"] = authorization
        try:
            response = await self._session().get(
                url, headers=headers, allow_redirects=False, server_hostname=self.config.tls_server_name or None
            )
        except TRANSPORT_FAILURES as failure:
            raise build_unreachable(self.binding, f"GET {target.partition('?')[0]}", failure) from failure
        try:
            yield response
        finally:
            response.close()

    def _session(self) -> aiohttp.ClientSession:
        if self._logs is None:
            # No limit and no total timeout: a followed log lasts as long as somebody reads it.
            self._logs = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=self.config.ssl or True, socket_factory=build_socket),
                headers={"User-Agent": self.user_agent, "Accept-Encoding": "identity"}, cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_WITHIN), read_bufsize=2**16, trust_env=False,
            )
        return self._logs

    async def until_dead(self, probe_every: float, patience: int) -> None:
        """Return when the cluster has missed `patience` probes in a row."""
        missed = 0
        while missed < patience:
            await asyncio.sleep(probe_every)
            try:
                await self.calls.raw("GET", "/readyz", deadline=2.0)
                missed = 0
            except KubeError:
                missed += 1
