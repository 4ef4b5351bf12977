"""Live reads that may be built upon before anything is deleted, released or declared lost.

A cache that lacks an object proves nothing, and neither does every 404: an unknown path answers so, and a control plane
that was set up anew behind the same address. So absence here is the server's own word about that object, from a cluster
whose identity was confirmed a moment ago; everything else is an exception.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kubeocean.kube.answers import proves_absence
from kubeocean.kube.client import Client
from kubeocean.kube.errors import Forbidden, NotFound
from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.kube.resources import PODS, Resource
from kubeocean.syncer.pairing import Pairing


async def read_virtual_pod(pairing: Pairing, key: ObjectKey) -> Json | None:
    """Return the virtual Pod as it is now; None only when it is proved not to be there."""
    return await _read(pairing.virtual.calls, key, pairing.virtual.identity.confirm)


async def read_physical_pod(pairing: Pairing, key: ObjectKey) -> Json | None:
    """Return the physical Pod as it is now; None only when it is proved not to be there."""
    return await _read(pairing.physical.calls, key, pairing.physical.identity.confirm)


async def read_virtual(pairing: Pairing, resource: Resource, key: ObjectKey) -> Json | None:
    """Return an object of the virtual cluster as it is now; None only when it is proved not to be there."""
    return await _read(pairing.virtual.calls, key, pairing.virtual.identity.confirm, resource)


async def read_physical(pairing: Pairing, resource: Resource, key: ObjectKey) -> Json | None:
    """Return an object of the physical cluster as it is now; None only when it is proved not to be there.

    That its mountNamespace is not there proves it, too: who has no rights in it any more gets no other answer.
    """
    physical = pairing.physical
    try:
        return await _read(physical.calls, key, physical.identity.confirm, resource)
    except Forbidden:
        if key.namespace == physical.mount_namespace and await physical.mount_is_gone():
            return None
        raise


async def _read(
    client: Client, key: ObjectKey, confirm_identity: Callable[[], Awaitable[None]], resource: Resource = PODS
) -> Json | None:
    try:
        return await client.get(resource, key.name, key.namespace)
    except NotFound as answer:
        if not proves_absence(answer):
            raise
        await confirm_identity()
        return None
