"""Which physical Pod answers for a virtual one: decided from our own caches, by uid.

What a caller names is a virtual Pod, and a virtual Pod's annotations are its user's to write. So they are not asked: the
virtual cache tells the uid of the Pod of that name and its node, the physical cache tells which Pod *of ours* (owner label and
annotation) was made for that uid. Its name must be the one that follows from the virtual name, and its namespace one that is
the binding's: labels and annotations are anybody's to write who may create Pods somewhere in the lender's cluster. Anything
else is "not found".
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from kubeocean.api import names
from kubeocean.domain.kubeletapi import PodRequest
from kubeocean.domain.naming import physical_name, vnode_prefix
from kubeocean.domain.ownership import Owner, is_ours
from kubeocean.kube.client import Client
from kubeocean.kube.informer import Informer
from kubeocean.kube.meta import Json, ObjectKey, annotations_of
from kubeocean.kube.resources import PODS
from kubeocean.kube.skim import Skimmer

_BY_UID = "virtual-uid"
_BY_NODE = "node"


class NoTwin(Exception):
    """No physical Pod answers for what was asked; the message says why, in virtual names."""


@dataclass(frozen=True, slots=True)
class _Virtual:
    node: str


class VirtualPods:
    """Name, uid and node of every Pod of the virtual cluster; one watch serves all bindings of the process.

    A process that serves one binding keeps those on virtual nodes of that binding (`show_only`), as the syncer does.
    """

    def __init__(self, client: Client) -> None:
        self._client, self._only = client, ""
        self.informer = self._watch("")

    def _watch(self, prefix: str) -> Informer[_Virtual]:
        return Informer(
            self._client, PODS, transform=lambda pod: _head(pod, prefix),
            summarise=lambda pod: _Virtual(pod["spec"].get("nodeName") or ""), skimmer=Skimmer(prefix) if prefix else None,
            indexers={_BY_NODE: lambda _, pod: (pod.node,) if pod.node else ()}, name="proxier-virtual-pods",
        )

    def show_only(self, cluster_id: str) -> None:
        """Keep no Pods but those on virtual nodes of the binding with this clusterID; only before the informer runs."""
        self._only, self.informer = cluster_id, self._watch(vnode_prefix(cluster_id))

    def shows(self, cluster_id: str) -> bool:
        """Tell whether the Pods on virtual nodes of the binding with this clusterID are kept."""
        return self._only in ("", cluster_id)

    def uid_on(self, vnode: str, request: PodRequest) -> str:
        """Return the uid of the Pod that was asked for. Raises NoTwin unless it is bound to `vnode`."""
        entry = self.informer.store.get(ObjectKey(request.namespace, request.pod))
        if entry is None or entry.summary.node != vnode or (request.uid and request.uid != entry.uid):
            raise NoTwin(f"pod {request.namespace}/{request.pod} is not on node {vnode}")
        return entry.uid

    def keys_on(self, vnode: str) -> list[tuple[ObjectKey, str]]:
        """Return name and uid of every Pod bound to `vnode`."""
        return [(entry.key, entry.uid) for entry in self.informer.store.by_index(_BY_NODE, vnode)]


class Twins:
    """The Pods of one owner in one physical cluster, whole (their status is asked for too)."""

    def __init__(self, client: Client, owner: Owner, *, name: str) -> None:
        self._owner = owner
        self.namespaces: frozenset[str] = frozenset()  # the binding's: no twin is anywhere else
        self.informer: Informer[str] = Informer(
            client, PODS, label_selector=f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY_VALUE},{names.OWNER_LABEL}={owner.label}",
            transform=self._ours, summarise=lambda pod: annotations_of(pod).get(names.VIRTUAL_POD_UID_ANNOTATION, ""),
            indexers={_BY_UID: lambda _, uid: (uid,) if uid else ()}, keep_raw=True, name=f"proxier-{name}-pods",
        )

    def _ours(self, pod: Json) -> Json | None:
        return pod if is_ours(pod, self._owner) else None

    def of(self, key: ObjectKey, uid: str) -> ObjectKey:
        """Return the twin of the virtual Pod `key` with this uid. Raises NoTwin."""
        wanted = physical_name(key.name, key.namespace)
        for entry in self.informer.store.by_index(_BY_UID, uid):
            if entry.key.name == wanted and entry.key.namespace in self.namespaces:
                return entry.key
        raise NoTwin(f"pod {key} does not run in its physical cluster (yet, or any more): kubectl describe tells why")

    def object_of(self, key: ObjectKey, uid: str) -> Json | None:
        """Return the twin itself, None when there is none."""
        try:
            return self.informer.store.object(self.of(key, uid))
        except NoTwin:
            return None

    async def run(self) -> None:
        """Watch until cancelled."""
        await self.informer.run()

    async def wait_synced(self, within: float) -> None:
        """Return once all twins are known. Raises TimeoutError."""
        async with asyncio.timeout(within):
            await self.informer.wait_synced()


def _head(pod: Json, prefix: str) -> Json | None:
    node = pod["spec"].get("nodeName") or ""
    if not node.startswith(prefix):
        return None
    metadata = {key: pod["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion") if key in pod["metadata"]}
    return {"metadata": metadata, "spec": {"nodeName": node}}
