"""Which physical Pod answers for a virtual one: asked of both clusters, and decided by uid.

What a caller names is a virtual Pod, and a virtual Pod's annotations are its user's to write. So they are not asked: the
virtual cluster tells the uid of the Pod of that name and its node, the physical one whether the Pod whose name follows from
the virtual name is *ours* (owner label and annotation) and was made for that uid. It must be in a namespace that is the
binding's: labels and annotations are anybody's to write who may create Pods somewhere in the lender's cluster. Anything else
is "not found".

No Pod is cached here. Two reads of one object each, when a stream begins, know a Pod that came a moment ago; and they are
nothing beside the news of every Pod of two clusters, which each replica would follow all day for streams that begin seldom.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kubeocean.api import names
from kubeocean.domain.kubeletapi import PodRequest
from kubeocean.domain.naming import physical_name
from kubeocean.domain.ownership import Owner, is_ours
from kubeocean.kube.client import Client
from kubeocean.kube.errors import NotFound
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, name_of, namespace_of, uid_of
from kubeocean.kube.resources import PODS

_ANSWER_WITHIN: Final = 4.0  # seconds
_OURS: Final = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY_VALUE},{names.OWNER_LABEL}="

NodeTwins = Mapping[tuple[str, str], Json]  # by name, and uid of the virtual Pod


class NoTwin(Exception):
    """No physical Pod answers for what was asked; the message says why, in virtual names."""


async def find_uid(virtual: Client, vnode: str, request: PodRequest) -> str:
    """Return the uid of the virtual Pod that was asked for. Raises NoTwin unless it is bound to `vnode`, or a KubeError."""
    missing = NoTwin(f"pod {request.namespace}/{request.pod} is not on node {vnode}")
    try:
        pod = await virtual.get(PODS, request.pod, request.namespace, deadline=_ANSWER_WITHIN)
    except NotFound:
        raise missing from None
    if pod["spec"].get("nodeName") != vnode or (request.uid and request.uid != uid_of(pod)):
        raise missing
    return uid_of(pod)


class Twins:
    """The Pods of one owner in one physical cluster.

    namespaces: the binding's, the one for new twins first; no twin is anywhere else.
    """

    def __init__(self, client: Client, owner: Owner) -> None:
        self._client, self._owner = client, owner
        self.namespaces: tuple[str, ...] = ()

    async def of(self, key: ObjectKey, uid: str) -> ObjectKey:
        """Return the twin of the virtual Pod `key` with this uid. Raises NoTwin, or a KubeError."""
        name = physical_name(key.name, key.namespace)
        for namespace in self.namespaces:
            try:
                pod = await self._client.get(PODS, name, namespace, deadline=_ANSWER_WITHIN)
            except NotFound:
                continue
            if is_ours(pod, self._owner) and _original(pod) == uid:
                return ObjectKey(namespace, name)
        raise NoTwin(f"pod {key} does not run in its physical cluster (yet, or any more): kubectl describe tells why")

    async def on(self, node: str) -> NodeTwins:
        """Return the twins on a physical node, whole, as its API server's cache has them. Raises a KubeError.

        Whoever asks for figures asks often: see `Measures.twins_on`.
        """
        listing = await self._client.list(
            PODS, label_selector=f"{_OURS}{self._owner.label}", field_selector=f"spec.nodeName={node}", cached=True,
            deadline=_ANSWER_WITHIN,
        )
        return {  # of two for one Pod the later here wins: it is the one that `of` finds first
            (name_of(pod), _original(pod)): pod for namespace in reversed(self.namespaces) for pod in listing.items
            if namespace_of(pod) == namespace and is_ours(pod, self._owner)
        }


def twin_on(twins: NodeTwins, key: ObjectKey, uid: str) -> Json | None:
    """Return the twin of the virtual Pod `key` with this uid, None when it is not among `twins`."""
    return twins.get((physical_name(key.name, key.namespace), uid))


def _original(twin: Json) -> str:
    return annotations_of(twin).get(names.VIRTUAL_POD_UID_ANNOTATION) or ""
