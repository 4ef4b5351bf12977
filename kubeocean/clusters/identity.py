"""Which cluster is this? The uid of its kube-system namespace says so: it lives as long as the cluster's memory does.

An address and a certificate do not: a control plane restored empty, or a kubeconfig swapped, answers under both. So the uid
is learnt once and confirmed again before what is *missing* there is taken for a fact.
"""

from __future__ import annotations

from time import monotonic

from kubeocean.kube.client import Client
from kubeocean.kube.errors import KubeError
from kubeocean.kube.meta import uid_of
from kubeocean.kube.resources import NAMESPACES

GOOD_FOR = 5.0  # seconds an answer may be built upon


class ClusterIdentityChanged(KubeError):
    """The credentials lead to another cluster than before: nothing may be written there."""


class Identity:
    """The identity of the cluster that `client` talks to; `uid` is "" until somebody has set or learnt it."""

    def __init__(self, client: Client) -> None:
        self.uid = ""
        self._client = client
        self._confirmed_until = 0.0  # monotonic

    async def ask(self) -> str:
        """Return the uid the cluster has now."""
        return uid_of(await self._client.get(NAMESPACES, "kube-system"))

    def doubt(self) -> None:
        """Have the next `confirm` ask again, however lately it was answered."""
        self._confirmed_until = 0.0

    async def confirm(self) -> None:
        """Return when this is still the cluster of `uid`, else raise ClusterIdentityChanged."""
        if self._confirmed_until > monotonic():
            return
        uid = await self.ask()
        if uid != self.uid:
            message = f"{self._client.cluster}: kube-system has uid {uid}, it was {self.uid}; nothing is written"
            raise ClusterIdentityChanged(message, cluster=self._client.cluster)
        self._confirmed_until = monotonic() + GOOD_FOR
