"""One physical cluster as its syncer holds it: clients, informers and health, started and stopped as a unit.

`open_physical_cluster` turns a kubeconfig into a connection whose identity is known: nothing is written before the uid of
the physical kube-system namespace has been compared with the one the binding was first connected to. New credentials mean
a new connection, so the comparison is made again at every reload.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from kubeocean.api import names
from kubeocean.clusters.health import Reachability
from kubeocean.clusters.lender import LenderPolicies
from kubeocean.clusters.podsummary import PhysicalPod, summarise_physical_pod, trim_foreign_pod
from kubeocean.domain.ownership import Owner
from kubeocean.kube.client import Client
from kubeocean.kube.config import ServerConfig, config_from_kubeconfig, guard_kubeconfig
from kubeocean.kube.errors import ConfigError, KubeError
from kubeocean.kube.informer import Informer
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, uid_of
from kubeocean.kube.resources import NAMESPACES, NODES, PODS, SECRETS

BY_NODE, BY_VIRTUAL = "node", "virtual"
IDENTITY_GOOD_FOR = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class TokenSecretHead:
    """What is kept of a token Secret: whose it is, never what is in it."""

    virtual: ObjectKey
    uid: str


class ClusterIdentityChanged(KubeError):
    """The credentials lead to another cluster than before: nothing may be written there."""


class PhysicalCluster:
    """Clients, informers and health of one physical cluster. `guard` is asked before every mutating call."""

    def __init__(
        self, config: ServerConfig, *, binding: str, owner: Owner, mount_namespace: str, user_agent: str,
        guard: Callable[[], None] | None = None, qps: float = 0, burst: int = 0,
    ) -> None:
        self.owner, self.mount_namespace = owner, mount_namespace
        self.name = binding
        self.uid = ""
        self._identity_until = 0.0  # monotonic
        self.calls = Client(config, cluster=binding, user_agent=user_agent, qps=qps, burst=burst, guard=guard)
        self.watches = Client(config, cluster=binding, user_agent=user_agent)
        self.reachability = Reachability()
        self.nodes: Informer[None] = Informer(self.watches, NODES, summarise=_nothing, name=f"{binding}-nodes")
        self.pods: Informer[PhysicalPod] = Informer(
            self.watches, PODS, transform=lambda pod: trim_foreign_pod(pod, owner),
            summarise=lambda pod: summarise_physical_pod(pod, owner),
            indexers={BY_NODE: lambda _, pod: (pod.node,) if pod.node else ()}, keep_raw=True, name=f"{binding}-pods",
        )
        self.token_secrets: Informer[TokenSecretHead] = Informer(
            self.watches, SECRETS, namespace=mount_namespace,
            label_selector=f"{names.SERVICE_ACCOUNT_TOKEN_LABEL}=true,{names.OWNER_LABEL}={owner.label}",
            transform=_without_data, summarise=_token_secret_head,
            indexers={BY_VIRTUAL: lambda _, head: (str(head.virtual),)}, name=f"{binding}-token-secrets",
        )

        self.lender = LenderPolicies(self.watches, name=binding, confirm_identity=self.confirm_identity)

    async def identify(self) -> str:
        """Return the uid of this cluster's kube-system namespace: what makes it this cluster and no other."""
        return uid_of(await self.calls.get(NAMESPACES, "kube-system"))

    async def confirm_identity(self) -> None:
        """Prove that this is still the cluster we connected to; asked before absence there is taken for a fact.

        Raises ClusterIdentityChanged when it is another one. An answer is good for a few seconds.
        """
        if self._identity_until > monotonic():
            return
        uid = await self.identify()
        if uid != self.uid:
            raise ClusterIdentityChanged(f"kube-system has uid {uid}, it was {self.uid}; nothing is written", cluster=self.name)
        self._identity_until = monotonic() + IDENTITY_GOOD_FOR

    async def probe(self) -> None:
        """Ask for a sign of life; raises KubeError when there is none."""
        await self.watches.raw("GET", "/readyz", deadline=2.0)

    async def run(self) -> None:
        """Run informers and probes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for informer in (self.nodes, self.pods, self.token_secrets):
                tasks.create_task(informer.run(), name=f"informer {informer.name}")
            tasks.create_task(self.lender.run(), name=f"lender's policies of {self.name}")
            tasks.create_task(self.reachability.run(self.probe, cluster=self.name), name=f"probe {self.name}")

    async def wait_synced(self) -> None:
        """Return once every informer holds a full list, and it is known how we stand with the lender's own policies."""
        for informer in (self.nodes, self.pods, self.token_secrets):
            await informer.wait_synced()
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


def _without_data(secret: Json) -> Json:
    return {key: value for key, value in secret.items() if key not in ("data", "stringData")}


def _token_secret_head(secret: Json) -> TokenSecretHead:
    annotations = annotations_of(secret)
    virtual = ObjectKey(
        annotations.get(names.VIRTUAL_POD_NAMESPACE_ANNOTATION, ""), annotations.get(names.VIRTUAL_POD_NAME_ANNOTATION, "")
    )
    return TokenSecretHead(virtual, annotations.get(names.VIRTUAL_POD_UID_ANNOTATION, ""))


def _nothing(_: Json) -> None:
    return None
