"""Our copies of one kind in the mountNamespace: the cache of them, and the writes that `domain.mirrors` decided on.

Only what carries our labels is in the cache, and only that is ever changed or deleted, by resourceVersion or uid. An object
that is in the way under a copy's name is looked at live; when it is not ours it stays, and whoever wanted the name says so.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import TypeVar

import structlog

from kubeocean.domain.mirrors import Change, Create, Remove, Step, meaning_of, origin_of
from kubeocean.domain.ownership import is_ours
from kubeocean.kube.client import Client
from kubeocean.kube.controller import Controller
from kubeocean.kube.errors import AlreadyExists, Forbidden, KubeError, NotFound
from kubeocean.kube.informer import Informer
from kubeocean.kube.meta import Json, ObjectKey, name_of
from kubeocean.kube.resources import Resource
from kubeocean.syncer.mount import delete_ours
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.topdown.damping import Damper, log_fight

K = TypeVar("K", bound=Hashable)
BY_ORIGIN = "origin"
REFUSED_RETRY = 30.0  # seconds between attempts at what the physical cluster refuses
NOT_READ_YET = 0.2  # seconds between looks at a cache that is being filled
POLL = 0.5  # seconds between looks while all is taken back

log = structlog.get_logger(__name__)


class NameTaken(KubeError):
    """Somebody else's object has the name that a copy needs."""


class Copies:
    """The copies of one kind. `origin` tells under which virtual object one is found in index BY_ORIGIN, None for none."""

    def __init__(
        self, pairing: Pairing, resource: Resource, origin: Callable[[Json], ObjectKey | None] = origin_of
    ) -> None:
        self._pairing, self._resource = pairing, resource
        self._damper: Damper[str] = Damper()  # by the name of the copy
        owner = pairing.owner
        self.informer: Informer[ObjectKey | None] = Informer(
            pairing.physical.watches, resource, namespace=pairing.physical.mount_namespace, summarise=origin,
            label_selector=",".join(f"{label}={text}" for label, text in owner.labels().items()),
            indexers={BY_ORIGIN: lambda _, origin: (str(origin),) if origin else ()},
            name=f"{pairing.binding_name}-{resource.plural}", place_is_gone=pairing.physical.mount_is_gone,
        )

    def get(self, name: str) -> Json | None:
        """Return the copy called `name` as the cache has it, None when there is none that is ours."""
        found = self.informer.store.object(ObjectKey(self._pairing.physical.mount_namespace, name))
        return found if found and is_ours(found, self._pairing.owner) else None

    def of(self, origin: ObjectKey) -> list[Json]:
        """Return the copies found under a virtual object."""
        found = (entry.object() for entry in self.informer.store.by_index(BY_ORIGIN, str(origin)))
        return [obj for obj in found if is_ours(obj, self._pairing.owner)]

    def check_readable(self) -> bool:
        """Tell whether the cache is complete; raises Forbidden when it will not be, because we may not read."""
        if not self.informer.has_synced and isinstance(self.informer.last_error, Forbidden):
            raise self.informer.last_error
        return self.informer.has_synced

    async def apply(self, step: Step, controller: Controller[K], key: K) -> None:
        """Do what was decided; `key` is looked at again when the cache shows it. Raises NameTaken.

        What somebody undoes each time is not done at once: `key` comes back when it may be.
        """
        if step is None:
            return
        name, meaning = name_of(step.obj) if isinstance(step, Create) else step.name, meaning_of(step)
        if pause := self._damper.pause(name, meaning):
            controller.queue.add_after(key, pause)
            return
        if written := await self._write(step):
            controller.freshness.expect(key, self.informer, written)
        # One that has to go only to be made anew is written by its making. One that goes for good and is wanted again later
        # is another matter, to which no pause of before applies.
        if not (isinstance(step, Remove) and step.wanted):
            place = ObjectKey(self._pairing.physical.mount_namespace, name)
            log_fight(self._resource.kind, place, self._damper.mended(name, meaning))

    async def _write(self, step: Create | Change | Remove) -> Json | None:
        calls, namespace = self._pairing.physical.calls, self._pairing.physical.mount_namespace
        match step:
            case Create(obj):
                return await self._create(calls, obj)
            case Change(name, patch):
                return await calls.patch(self._resource, name, namespace, patch)
            case Remove(name, uid):
                with suppress(NotFound):
                    return await calls.delete(self._resource, name, namespace, uid=uid)
        return None

    async def _create(self, calls: Client, obj: Json) -> Json:
        try:
            return await calls.create(self._resource, obj)
        except AlreadyExists:
            live = await calls.get(self._resource, name_of(obj), self._pairing.physical.mount_namespace)
            if is_ours(live, self._pairing.owner):
                return live  # made before a crash, and the cache is about to learn of it
        raise NameTaken(
            f"{self._resource.kind} {self._pairing.physical.mount_namespace}/{name_of(obj)} exists in the physical cluster of "
            f"ClusterBinding {self._pairing.binding_name} and is not ours; the lender has to remove it"
        )


async def remove_all(pairing: Pairing, resource: Resource) -> bool:
    """Ask for the deletion of all our copies of a kind; returns whether a live, complete list showed any.

    Where we may not look we could not have made one; that somebody took the right from us later is told in the log.
    """
    try:
        return await delete_ours(pairing.physical.calls, resource, pairing.physical.mount_namespace, pairing.owner)
    except Forbidden as error:
        log.warning("copies cannot be taken back", binding=pairing.binding_name, kind=resource.kind, error=str(error))
        return False
