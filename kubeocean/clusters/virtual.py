"""The virtual cluster as one process holds it: one client for calls, one for watches, and the informers all bindings share.

The Pod informer selects those that have a node, which they keep to their end: so a DELETED event on it is proof that a Pod is
gone, and one watch serves every binding of the process. A process that serves one binding only has it keep the Pods bound to
that binding's virtual nodes, which their names tell; the others, most of a large cluster, are passed over undecoded. A Pod
never changes its node, so what was kept once is kept until its end. Watches have a session of their own, so a burst of calls
never delays an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kubeocean.api import names
from kubeocean.api.resources import CLUSTERBINDINGS, RESOURCELEASINGPOLICIES
from kubeocean.clusters.identity import Identity
from kubeocean.clusters.kubeletports import KubeletPorts
from kubeocean.clusters.podsummary import VirtualPod, summarise_virtual_pod
from kubeocean.clusters.storage import VirtualStorage
from kubeocean.domain.naming import vnode_prefix
from kubeocean.domain.policies import Policy, read_policy
from kubeocean.domain.servicemap import trim_service
from kubeocean.domain.vnode import cluster_of
from kubeocean.kube.client import Client
from kubeocean.kube.config import ServerConfig
from kubeocean.kube.errors import ConfigError, NotFound
from kubeocean.kube.informer import Informer
from kubeocean.kube.meta import Json, ObjectKey, namespace_of
from kubeocean.kube.resources import CONFIGMAPS, CSINODES, NAMESPACES, NETWORKPOLICIES, NODES, PODS, SERVICES
from kubeocean.kube.skim import Skimmer

BY_NODE, BY_CLUSTER, BY_REFERENCE, BY_NAMESPACE = "node", "cluster", "reference", "namespace"
INTRANET_API_SERVICE = ObjectKey("default", "kubernetes-intranet")
INTRANET_DNS_SERVICE = ObjectKey("kube-system", "kube-dns-intranet")
BOUND = "spec.nodeName!="  # a Pod that has a node keeps it; others are the scheduler's business

# Calls of one process. More than a core of Python can keep busy, even where each takes 10 ms; and each connection
# that a burst opens takes memory (`kube.tlsbuffers`), which the process keeps.
_IN_FLIGHT = 32


class OutOfView(Exception):
    """A process that is to serve a binding keeps none of its Pods: it has to be started anew."""

    def __init__(self, binding: str, cluster_id: str) -> None:
        super().__init__(
            f"ClusterBinding {binding!r} was made anew: clusterID {cluster_id!r} is another one than when this process "
            "started, which has to be started anew as well"
        )


class OnDemand:
    """An informer that most clusters never need: it runs from the first time on that somebody asks for it."""

    def __init__(self, informer: Informer[None]) -> None:
        self.informer = informer
        self._wanted = asyncio.Event()

    def demand(self) -> Informer[None]:
        """Return the informer, which is kept from now on; whoever reads it looks at `has_synced` first."""
        self._wanted.set()
        return self.informer

    async def run(self) -> None:
        """Run the informer until cancelled, once it is asked for."""
        await self._wanted.wait()
        await self.informer.run()


class VirtualCluster:
    """Clients and shared informers of the virtual cluster. `guard` is asked before every mutating call."""

    def __init__(
        self, config: ServerConfig, *, user_agent: str, guard: Callable[[], None] | None = None, qps: float = 0, burst: int = 0
    ) -> None:
        self.calls = Client(
            config, cluster="virtual", user_agent=user_agent, qps=qps, burst=burst, guard=guard, connections=_IN_FLIGHT
        )
        self.watches = Client(config, cluster="virtual", user_agent=user_agent)
        self.identity = Identity(self.calls)
        self.kubelet_ports = KubeletPorts()
        self.bindings: Informer[None] = Informer(self.watches, CLUSTERBINDINGS, summarise=_nothing, name="clusterbindings")
        self.policies: Informer[Policy] = Informer(
            self.watches, RESOURCELEASINGPOLICIES, summarise=read_policy, name="resourceleasingpolicies"
        )
        self.nodes: Informer[str] = Informer(
            self.watches, NODES, summarise=cluster_of, indexers={BY_CLUSTER: lambda _, cluster: (cluster,) if cluster else ()},
            name="virtual-nodes",
        )
        self.nodes.add_handler(self.kubelet_ports.node_changed)
        self.csi_nodes: Informer[None] = Informer(self.watches, CSINODES, summarise=_nothing, name="virtual-csinodes")
        self.pods = self._watch_pods()
        self._only = ""
        self.root_cas: Informer[None] = Informer(
            self.watches, CONFIGMAPS, field_selector=f"metadata.name={names.ROOT_CA_CONFIGMAP}", summarise=_nothing,
            name="root-cas",
        )
        self.services: Informer[str] = Informer(
            self.watches, SERVICES, transform=trim_service, summarise=namespace_of, keep_raw=True,
            indexers={BY_NAMESPACE: lambda _, namespace: (namespace,)}, name="virtual-services",
        )
        self.network_policies: Informer[str] = Informer(
            self.watches, NETWORKPOLICIES, summarise=namespace_of, indexers={BY_NAMESPACE: lambda _, namespace: (namespace,)},
            name="virtual-networkpolicies",
        )
        self.storage = VirtualStorage(self.watches)
        self.namespaces = OnDemand(Informer(
            self.watches, NAMESPACES, transform=_only_labels, summarise=_nothing, name="virtual-namespaces"
        ))

    def _watch_pods(self, only: str = "") -> Informer[VirtualPod]:
        prefix = vnode_prefix(only)
        return Informer(
            self.watches, PODS, field_selector=BOUND, selected_for_life=True, summarise=summarise_virtual_pod, keep_raw=True,
            indexers={
                BY_NODE: lambda _, pod: (pod.node,), BY_REFERENCE: lambda _, pod: pod.references,
            },
            transform=(lambda pod: pod if (pod["spec"].get("nodeName") or "").startswith(prefix) else None) if only else None,
            skimmer=Skimmer(prefix) if only else None, topic_of=self._cluster_of_pod, name="virtual-pods",
        )

    def _cluster_of_pod(self, pod: VirtualPod) -> str:
        """Return whose virtual node a Pod is on, as `cluster_of` has it; "" for a node that is not known or nobody's."""
        node = self.nodes.store.get(ObjectKey("", pod.node))
        return node.summary if node else ""

    def show_only(self, cluster_id: str) -> None:
        """Keep no Pods but those on virtual nodes of the binding with this clusterID; only before `run`."""
        self._only = cluster_id
        self.pods = self._watch_pods(cluster_id)

    def shows(self, cluster_id: str) -> bool:
        """Tell whether the Pods on virtual nodes of the binding with this clusterID are kept."""
        return self._only in ("", cluster_id)

    @property
    def uid(self) -> str:
        """Return the uid by which physical clusters know this one; "" before `connect`."""
        return self.identity.uid

    async def connect(self) -> None:
        """Learn which cluster this is: the uid of its kube-system namespace, which names us as owner elsewhere.

        Raises KubeError when the cluster does not answer as it should, ConfigError when it does not know our kinds.
        """
        self.identity.uid = await self.identity.ask()
        for resource in (CLUSTERBINDINGS, RESOURCELEASINGPOLICIES):
            try:
                await self.calls.list(resource)
            except NotFound as error:
                raise ConfigError(
                    f"the virtual cluster has no {resource.plural}.{resource.group}: kubeocean crds | kubectl apply -f -, "
                    "or start the manager with --install-crds", cluster="virtual",
                ) from error

    def informers(self, *, syncing: bool) -> list[Informer[Any]]:
        """Return what is watched: bindings and policies by every manager, the rest by a process that syncs."""
        managing: list[Informer[Any]] = [self.bindings, self.policies]
        if not syncing:
            return managing
        return [*managing, self.nodes, self.pods, self.root_cas, self.services, self.network_policies]

    async def run(self, *, syncing: bool) -> None:
        """Run the informers until cancelled. Without `syncing` only bindings and policies are watched."""
        # Whoever needs one of these waits for it himself.
        unawaited: list[Informer[Any]] = [self.csi_nodes, *self.storage.informers] if syncing else []
        async with asyncio.TaskGroup() as tasks:
            for informer in (*self.informers(syncing=syncing), *unawaited):
                tasks.create_task(informer.run(), name=f"informer {informer.name}")
            if syncing:
                tasks.create_task(self.namespaces.run(), name=f"informer {self.namespaces.informer.name}")

    async def wait_synced(self, *, syncing: bool) -> None:
        """Return once every informer that nothing works without holds a full list."""
        for informer in self.informers(syncing=syncing):
            await informer.wait_synced()

    def has_synced(self, *, syncing: bool) -> bool:
        """Tell whether every informer that nothing works without holds a full list."""
        return all(informer.has_synced for informer in self.informers(syncing=syncing))

    async def close(self) -> None:
        """Close the connections."""
        await self.calls.close()
        await self.watches.close()


def _nothing(_: Json) -> None:
    return None


def _only_labels(namespace: Json) -> Json:
    metadata = namespace["metadata"]
    return {"metadata": {field: metadata[field] for field in ("name", "uid", "resourceVersion", "labels") if field in metadata}}
