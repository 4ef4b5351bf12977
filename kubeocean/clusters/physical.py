"""One physical cluster as its syncer holds it: clients, informers and health, started and stopped as a unit.

`open_physical_cluster` turns a kubeconfig into a connection whose identity is known: nothing is written before the uid of
the physical kube-system namespace has been compared with the one the binding was first connected to. New credentials mean
a new connection, so the comparison is made again at every reload; and also before a cluster that missed a probe counts as
answering: what comes back under the old address may be another one. Until then nothing is sent that changes anything.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kubeocean.api import names
from kubeocean.clusters.health import Reachability
from kubeocean.clusters.identity import Identity
from kubeocean.clusters.lender import LenderPolicies
from kubeocean.clusters.podsummary import PhysicalPod, summarise_physical_pod, trim_foreign_pod
from kubeocean.clusters.tokensummary import TokenSecretHead, token_secret_head, trim_token_secret
from kubeocean.domain.ownership import Owner
from kubeocean.kube.answers import proves_absence
from kubeocean.kube.client import Client
from kubeocean.kube.config import ServerConfig, config_from_kubeconfig, guard_kubeconfig
from kubeocean.kube.errors import ConfigError, Forbidden, KubeError, NotFound, Unreachable
from kubeocean.kube.informer import Informer
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import CSINODES, NAMESPACES, NODES, PODS, SECRETS

BY_NODE, BY_VIRTUAL = "node", "virtual"
# Calls of one syncer. Half as many as to the virtual cluster, which serves all bindings: in a burst of ours a lender's server
# answers in a fifth of the time, and has others to serve. At 50 ms away they are 320 calls a second.
_IN_FLIGHT = 16
_REFUSED_FOR = 10.0  # seconds are no moment's failure: a server that starts, or whose rules are being applied anew, refuses too
_LOOK_AGAIN = 0.5  # seconds between looks at an informer that has not synced


class PhysicalCluster:
    """Clients, informers and health of one physical cluster. `guard` is asked before every mutating call."""

    def __init__(
        self, config: ServerConfig, *, binding: str, owner: Owner, mount_namespace: str, user_agent: str,
        guard: Callable[[], None] | None = None, qps: float = 0, burst: int = 0,
    ) -> None:
        self.owner, self.mount_namespace = owner, mount_namespace
        self.name = binding
        self.calls = Client(
            config, cluster=binding, user_agent=user_agent, qps=qps, burst=burst, guard=self._may_write, connections=_IN_FLIGHT,
        )
        self._guard = guard
        self.watches = Client(config, cluster=binding, user_agent=user_agent)
        # Asked over the connections of what it proves. Probes have one of their own, for they must not wait behind what
        # --physical-client-qps holds back.
        self.identity, self._identity_of_probes = Identity(self.calls), Identity(self.watches)
        self.reachability = Reachability()
        self.nodes: Informer[None] = Informer(self.watches, NODES, summarise=_nothing, name=f"{binding}-nodes")
        self.csi_nodes: Informer[None] = Informer(self.watches, CSINODES, summarise=_nothing, name=f"{binding}-csinodes")
        self.pods: Informer[PhysicalPod] = Informer(
            self.watches, PODS, transform=lambda pod: trim_foreign_pod(pod, owner),
            summarise=lambda pod: summarise_physical_pod(pod, owner),
            indexers={BY_NODE: lambda _, pod: (pod.node,) if pod.node else ()}, keep_raw=True, name=f"{binding}-pods",
        )
        self.token_secrets = self._watch_token_secrets()
        self.lender = LenderPolicies(self.watches, name=binding, confirm_identity=self.identity.confirm)

    def _watch_token_secrets(self) -> Informer[TokenSecretHead]:
        return Informer(
            self.watches, SECRETS, namespace=self.mount_namespace,
            label_selector=f"{names.SERVICE_ACCOUNT_TOKEN_LABEL}=true,{names.OWNER_LABEL}={self.owner.label}",
            transform=lambda secret: trim_token_secret(secret, self.owner), summarise=token_secret_head,
            indexers={BY_VIRTUAL: lambda _, head: (str(head.virtual),)}, name=f"{self.name}-token-secrets",
            place_is_gone=self.mount_is_gone,
        )

    async def mount_is_gone(self) -> bool:
        """Tell whether the right cluster says, live, that there is no mountNamespace: then nothing of ours is in it.

        Asked when we may not look inside, as happens to whoever got his rights by a Role in there. Doubt is no.
        """
        try:
            await self.identity.confirm()
            return not await exists(self.calls, self.mount_namespace)
        except KubeError:
            return False

    def serve_namespace(self, name: str) -> None:
        """Have another mountNamespace than the one given at first; only before `run`."""
        self.mount_namespace = name
        self.token_secrets = self._watch_token_secrets()

    def _may_write(self) -> None:
        if self._guard:
            self._guard()
        if not self.reachability.reachable:
            raise Unreachable("not sent: the cluster does not answer, and which one will is not known", cluster=self.name)

    async def probe(self) -> None:
        """Ask for a sign of life; raises KubeError when there is none, ClusterIdentityChanged when another cluster answers."""
        await self.watches.raw("GET", "/readyz", deadline=2.0)
        if self.reachability.missed_a_probe:
            self.identity.doubt()
            self._identity_of_probes.uid = self.identity.uid
            self._identity_of_probes.doubt()
            await self._identity_of_probes.confirm()

    async def run(self) -> None:
        """Run informers and probes until cancelled."""
        self.reachability.subscribe(self._reachability_changed)
        async with asyncio.TaskGroup() as tasks:
            # CSINodes are nice to have: nobody waits for them, so a lender who does not let us read them is no trouble.
            for informer in (self.nodes, self.pods, self.token_secrets, self.csi_nodes):
                tasks.create_task(informer.run(), name=f"informer {informer.name}")
            tasks.create_task(self.lender.run(), name=f"lender's policies of {self.name}")
            tasks.create_task(self.reachability.run(self.probe, cluster=self.name), name=f"probe {self.name}")

    def _reachability_changed(self, reachable: bool) -> None:
        """Have caches catch up when the cluster answers again: a watch may not know for 100 s that it is dead."""
        if reachable:
            for informer in (self.nodes, self.pods, self.token_secrets, self.csi_nodes, self.lender.informer):
                informer.resume()

    async def wait_synced(self) -> None:
        """Return once every informer we cannot do without holds a full list, and the lender's policies are settled.

        Raises Forbidden when we may not read what one of them reads: waiting changes nothing about that.
        """
        for informer in (self.nodes, self.pods, self.token_secrets):
            await _synced_or_refused(informer)
        await self.lender.wait_settled()

    async def close(self) -> None:
        """Close the connections."""
        await self.calls.close()
        await self.watches.close()


async def read_kubeconfig(secret: Json | None, *, reference: str) -> ServerConfig:
    """Return the connection data a binding's Secret holds. Raises ConfigError naming the Secret and the remedy."""
    if secret is None:
        raise ConfigError(f"Secret {reference} does not exist: create it with the key {names.KUBECONFIG_KEY!r}")
    encoded = (secret.get("data") or {}).get(names.KUBECONFIG_KEY)
    if encoded == "":
        raise ConfigError(f"Secret {reference}: key {names.KUBECONFIG_KEY!r} is empty: put a kubeconfig into it")
    if encoded is None:
        present = ", ".join(sorted(secret.get("data") or {})) or "none"
        raise ConfigError(f"Secret {reference} has no key {names.KUBECONFIG_KEY!r} (keys there: {present}): add it")
    source = f"Secret {reference}"
    return await config_from_kubeconfig(guard_kubeconfig(_unwrap(encoded, reference), source=source), source=source)


def _unwrap(encoded: str, reference: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise ConfigError(f"Secret {reference}: key {names.KUBECONFIG_KEY!r} is not base64") from error


async def exists(client: Client, namespace: str) -> bool:
    """Tell whether there is a namespace; raises KubeError for every answer that proves neither."""
    try:
        await client.get(NAMESPACES, namespace)
    except NotFound as answer:
        if not proves_absence(answer):
            raise
        return False
    return True


async def _synced_or_refused(informer: Informer[Any]) -> None:
    steady = asyncio.get_running_loop().time
    accepted = steady()
    while not informer.has_synced:
        if not isinstance(informer.last_error, Forbidden):
            accepted = steady()
        elif steady() - accepted >= _REFUSED_FOR:
            raise informer.last_error
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_AGAIN):
                await informer.wait_synced()


def _nothing(_: Json) -> None:
    return None
