"""Carries later changes of virtual Pods to their twins (`domain.podpush` says what and why).

Each request names the uid and the resourceVersion it was decided from: one that comes too late is a Conflict, and the next
pass decides anew. What the physical server refuses is told on the virtual Pod with the server's own words and tried again
ever more rarely; another change of the virtual Pod is tried at once. A resize that does not fit into the lease waits here, and
nobody is asked. Metadata that somebody on the physical side keeps
changing is put right ever more rarely, too: a slow disagreement instead of a fight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from kubeocean.clusters.virtual import BY_NODE
from kubeocean.domain.hostports import is_placeholder
from kubeocean.domain.overhang import refuse_growth
from kubeocean.domain.podchange import changeable_hash, is_pushed
from kubeocean.domain.podcontext import PodContext
from kubeocean.domain.podmap import map_ephemeral_container
from kubeocean.domain.podpush import (
    Part,
    build_ephemeral_patch,
    build_last_patch,
    build_resize_patch,
    lacks_nothing,
    may_push,
    missing_ephemeral,
)
from kubeocean.domain.refusal import BEYOND_LEASE, Refusal
from kubeocean.domain.requests import pod_requests, sum_requests
from kubeocean.kube.answers import proves_absence
from kubeocean.kube.client import PatchType
from kubeocean.kube.errors import BadRequest, Forbidden, Invalid, NotFound
from kubeocean.kube.meta import Json, ObjectKey, name_of, namespace_of, resource_version_of, uid_of
from kubeocean.kube.resources import PODS
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.topdown.dependencies import Dependencies

REFUSED = "PhysicalPodUpdateRefused"
FIRST_RETRY, LAST_RETRY = 10.0, 300.0  # seconds between tries of what was refused
SOON = 1.0  # seconds; what an ephemeral container needs is under way
MENDED = 1.0  # seconds until a twin is written to again only to mend what others keep changing there; doubled each time


@dataclass(slots=True)
class Push:
    """How a push went: the twin as last written, None if nothing was; when to look again, in seconds.

    `refused` is what could not be done; without a reason it is something under way.
    """

    twin: Json | None = None
    refused: dict[Part, Refusal] = field(default_factory=dict)
    again: float | None = None

    def refusal(self) -> Refusal | None:
        """Return all refusals in one; None while there is none, or only something under way."""
        stated = [each for each in self.refused.values() if each.reason]
        return Refusal(stated[0].reason, "; ".join(each.message for each in stated)) if stated else None


@dataclass(frozen=True, slots=True)
class _Pause:
    """No push of the virtual Pod with this content before `until` (loop time); `length` was its duration."""

    content: str
    until: float
    length: float


class TwinPusher:
    """Brings the twins of one binding up to date."""

    def __init__(
        self, pairing: Pairing, dependencies: Dependencies, context_of: Callable[[Json], PodContext]
    ) -> None:
        self._pairing, self._dependencies, self._context_of = pairing, dependencies, context_of
        self._pauses: dict[ObjectKey, _Pause] = {}

    def forget(self, key: ObjectKey) -> None:
        """Drop what is remembered of a virtual Pod that is gone."""
        self._pauses.pop(key, None)

    async def push(self, key: ObjectKey, vpod: Json, ppod: Json) -> Push:
        """Write to the twin what it lacks. Raises Conflict, NotFound, and whatever else is no answer to the change itself."""
        if not may_push(vpod, ppod):
            return Push()
        pushed = is_pushed(vpod, ppod)
        if pushed and lacks_nothing(vpod, ppod):
            return Push()
        content, now = changeable_hash(vpod), asyncio.get_running_loop().time()
        pause = self._pauses.get(key)
        if pause and pause.content == content and now < pause.until:
            return Push(again=pause.until - now)
        push = await self._write(vpod, ppod)
        if push.refused or pushed:
            first = MENDED if pushed else FIRST_RETRY if push.refusal() else SOON
            repeated = pause and pause.content == content and now < pause.until + LAST_RETRY
            asks = not push.refused or any(each.reason != BEYOND_LEASE for each in push.refused.values())
            length = min(2 * pause.length, LAST_RETRY) if pause and repeated and asks else first
            self._pauses[key] = _Pause(content, now + length, length)
            push.again = length
        return push

    async def _write(self, vpod: Json, ppod: Json) -> Push:
        push = Push()
        if not is_pushed(vpod, ppod):
            await self._add_ephemeral(push, vpod, ppod)
            resize = build_resize_patch(vpod, push.twin or ppod)
            if resize and (beyond := self._beyond_lease(vpod, ppod)):
                push.refused[Part.RESIZE] = beyond
            elif resize:
                await self._try(push, Part.RESIZE, push.twin or ppod, resize, "resize")
        if (last := build_last_patch(vpod, push.twin or ppod, push.refused)) is None:
            return push
        if await self._try(push, Part.SPEC if "spec" in last else Part.METADATA, push.twin or ppod, last):
            return push
        if "spec" in last and (last := build_last_patch(vpod, push.twin or ppod, push.refused)):
            await self._try(push, Part.METADATA, push.twin or ppod, last)
        return push

    def _beyond_lease(self, vpod: Json, ppod: Json) -> Refusal | None:
        """Return why a resize has to wait although the machine may have room for it.

        What others wish for and have not got takes nothing: their twins say what they have.
        """
        pairing, vnode = self._pairing, vpod["spec"].get("nodeName") or ""
        node = pairing.physical_node_of(vnode) or ""
        if node in pairing.undecided_nodes:
            return Refusal("", "the node's lease is being decided on")
        lease, others = pairing.leases.get(node), []
        for entry in pairing.virtual.pods.store.by_index(BY_NODE, vnode):
            if entry.uid != uid_of(vpod) and not is_placeholder(entry.key):
                twin = pairing.twin_of(entry.key)
                others.append(pod_requests(twin.object() if twin and twin.summary.ours else entry.object()))
        leased = lease.capacity.resources if lease else {}
        physical = pairing.physical.nodes.store.object(ObjectKey("", node)) or {}
        machine = (physical.get("status") or {}).get("allocatable") or {}
        return refuse_growth(pod_requests(ppod), pod_requests(vpod), sum_requests(others), leased, machine)

    async def _add_ephemeral(self, push: Push, vpod: Json, ppod: Json) -> None:
        missing = missing_ephemeral(vpod, ppod)
        if not missing:
            return
        context = self._context_of(vpod)
        for container in missing:
            mapped = map_ephemeral_container(vpod, container, context)
            if isinstance(mapped, Refusal):
                push.refused[Part.EPHEMERAL] = mapped
            elif blocked := self._dependencies.check_container(vpod, container):
                push.refused[Part.EPHEMERAL] = Refusal(blocked.reason, blocked.message)
            else:
                patch = build_ephemeral_patch(mapped)
                await self._try(push, Part.EPHEMERAL, push.twin or ppod, patch, "ephemeralcontainers")

    async def _try(self, push: Push, part: Part, ppod: Json, patch: Json, subresource: str = "") -> bool:
        """Send one patch; returns whether the server took it."""
        preconditions = {"uid": uid_of(ppod), "resourceVersion": resource_version_of(ppod)}
        patch = {**patch, "metadata": {**preconditions, **patch.get("metadata", {})}}
        try:
            push.twin = await self._pairing.physical.calls.patch(
                PODS, name_of(ppod), namespace_of(ppod), patch, kind=PatchType.STRATEGIC, subresource=subresource
            )
        except (Forbidden, Invalid, BadRequest, NotFound) as error:
            if isinstance(error, NotFound) and proves_absence(error):
                raise
            push.refused[part] = Refusal(REFUSED, str(error))
            return False
        return True
