"""One look at both sides of a binding: whole lists of everything that may be ours, read side by side.

Of virtual ConfigMaps and Secrets only those marked as in use are read with their data. What we may not read is left out and
told; `domain.verification` then judges nothing that depends on it. Pods and Nodes of both sides are not optional.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from kubeocean.api import names
from kubeocean.api.resources import RESOURCELEASINGPOLICIES
from kubeocean.checks.opening import Sides, cluster_ids_of, read_bindings
from kubeocean.domain.findings import Side
from kubeocean.domain.marks import marked_selector
from kubeocean.domain.verification import Snapshot
from kubeocean.kube.client import Client
from kubeocean.kube.errors import Forbidden, NotFound
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import (
    CONFIGMAPS,
    CSINODES,
    ENDPOINTSLICES,
    LEASES,
    NAMESPACES,
    NETWORKPOLICIES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    PRIORITYCLASSES,
    SECRETS,
    SERVICES,
    Resource,
)

_NEEDED = (PODS, NODES)
_VIRTUAL_WHOLE = (
    PODS, NODES, RESOURCELEASINGPOLICIES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, NETWORKPOLICIES, NAMESPACES, CSINODES,
)
_MARKED = (CONFIGMAPS, SECRETS)
_PHYSICAL_WHOLE = (PODS, NODES, NAMESPACES, RESOURCELEASINGPOLICIES)
_MOUNTED = (CONFIGMAPS, SECRETS, PERSISTENTVOLUMECLAIMS, SERVICES, ENDPOINTSLICES, NETWORKPOLICIES)

Read = tuple[Resource, list[Json]]


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen, and what was not: `notes` say what could not be read."""

    snapshot: Snapshot
    notes: tuple[str, ...]


async def look(sides: Sides, *, time_zone: str = "UTC") -> Look:
    """Read both sides now. Raises KubeError when a server does not answer, or Pods or Nodes may not be read."""
    reader = _Reader(sides)
    await sides.confirm()
    physical, virtual, marked = await asyncio.gather(reader.physical(), reader.virtual(), reader.marked())
    cluster_ids = cluster_ids_of(await read_bindings(sides.virtual))  # last: whose binding was made meanwhile is not gone
    snapshot = Snapshot(
        sides.binding, sides.spec, sides.owner, sides.mount_namespace, datetime.now(UTC), virtual, physical, marked, time_zone,
        cluster_ids,
    )
    return Look(snapshot, tuple(sorted(reader.notes)))


class _Reader:
    def __init__(self, sides: Sides) -> None:
        self._sides = sides
        self.notes: set[str] = set()

    async def physical(self) -> dict[Resource, list[Json]]:
        sides = self._sides
        ours = ",".join(f"{label}={value}" for label, value in sides.owner.labels().items())
        lists = [self._list(sides.physical, Side.PHYSICAL, resource) for resource in _PHYSICAL_WHOLE]
        lists += [
            self._list(sides.physical, Side.PHYSICAL, resource, namespace=sides.mount_namespace, label_selector=ours)
            for resource in _MOUNTED
        ]
        lists.append(self._list(sides.physical, Side.PHYSICAL, PERSISTENTVOLUMES, label_selector=ours))
        return await _gather([*lists, self._priority_class()])

    async def virtual(self) -> dict[Resource, list[Json]]:
        sides = self._sides
        lists = [self._list(sides.virtual, Side.VIRTUAL, resource) for resource in _VIRTUAL_WHOLE]
        lists += [self._list(sides.virtual, Side.VIRTUAL, resource, metadata_only=True) for resource in _MARKED]
        lists.append(self._list(sides.virtual, Side.VIRTUAL, LEASES, namespace=names.NODE_LEASE_NAMESPACE))
        return await _gather([*lists, *(self._of_service_namespaces(resource) for resource in (SERVICES, ENDPOINTSLICES))])

    async def marked(self) -> dict[Resource, list[Json]]:
        selector = marked_selector(self._sides.spec.cluster_id)
        return await _gather([
            self._list(self._sides.virtual, Side.VIRTUAL, resource, label_selector=selector) for resource in _MARKED
        ])

    async def _of_service_namespaces(self, resource: Resource) -> Read | None:
        found: list[Json] = []
        for namespace in self._sides.spec.service_namespaces:
            read = await self._list(self._sides.virtual, Side.VIRTUAL, resource, namespace=namespace)
            if read is None:
                return None
            found += read[1]
        return resource, found

    async def _priority_class(self) -> Read | None:
        wanted = self._sides.spec.pod_priority_class_name or names.DEFAULT_PRIORITY_CLASS
        try:
            return PRIORITYCLASSES, [await self._sides.physical.get(PRIORITYCLASSES, wanted)]
        except NotFound:
            return PRIORITYCLASSES, []
        except Forbidden as error:
            self.notes.add(f"PriorityClass {wanted} is not judged: {error}")
            return None

    async def _list(
        self, client: Client, side: Side, resource: Resource, *, namespace: str = "", label_selector: str = "",
        metadata_only: bool = False,
    ) -> Read | None:
        try:
            listed = await client.list(resource, namespace, label_selector=label_selector, metadata_only=metadata_only)
        except NotFound:
            if side is Side.VIRTUAL or resource != RESOURCELEASINGPOLICIES:
                raise  # such a list always exists: whoever says otherwise is not the server we want to hear
            return resource, []  # a lender need not know our kinds
        except Forbidden as error:
            if resource in _NEEDED:
                raise
            self.notes.add(f"{side} {resource.plural} are not judged: {error}")
            return None
        return resource, listed.items


async def _gather(reads: Iterable[Awaitable[Read | None]]) -> dict[Resource, list[Json]]:
    return dict(filter(None, await asyncio.gather(*reads)))
