"""The calls that carry one ConfigMap or Secret to the physical cluster, and take it back.

Each call carries the uid or resourceVersion it was decided on, and each order is such that a crash between two calls leaves
something that is found: the mark comes before the copy, the copy goes before the mark.
"""

from __future__ import annotations

from collections.abc import Mapping

from kubeocean.api import names
from kubeocean.domain.depmap import CopyHead, Step, build_copy, build_copy_patch, copy_key, decide_copy
from kubeocean.domain.ownership import is_ours
from kubeocean.kube.errors import AlreadyExists, NotFound
from kubeocean.kube.freshness import Freshness
from kubeocean.kube.informer import Informer
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, is_deleting, key_of, resource_version_of, uid_of
from kubeocean.kube.resources import Resource
from kubeocean.kube.store import Entry
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.proofs import read_virtual
from kubeocean.syncer.topdown.damping import Damper, log_fight
from kubeocean.syncer.topdown.marking import mark, unmark


class NameTaken(Exception):
    """An object that is not ours has the copy's name; it stays as it is."""


class Copier:
    """Does the writes for one kind; what is written is expected of `marked` and `copies` before a key's next pass.

    `damper` knows of each copy that was written, by the key of the virtual object; the meaning is the hash that it carries.
    """

    def __init__(
        self, pairing: Pairing, resource: Resource, freshness: Freshness[ObjectKey], marked: Informer[str],
        copies: Informer[CopyHead],
    ) -> None:
        self._pairing, self._resource, self._freshness = pairing, resource, freshness
        self._marked, self._copies = marked, copies
        self.damper: Damper[ObjectKey] = Damper()

    async def take_up(self, key: ObjectKey) -> Json | None:
        """Return the virtual object, read live and marked; None when it is proved missing, or is on its way out.

        One that is being deleted loses our marks at once: the finalizer must not hold up who deletes it.
        """
        virtual, cluster_id = self._pairing.virtual, self._pairing.spec.cluster_id
        live = await read_virtual(self._pairing, self._resource, key)
        if live is None:
            return None
        if is_deleting(live):
            await self._unmark(key, live)
            return None
        place = copy_key(key, self._pairing.physical.mount_namespace)
        try:
            marked = await mark(virtual, self._resource, live, cluster_id, place)
        except NotFound:
            return await self.take_up(key)  # gone between the two calls, or the 404 was no proof
        self._freshness.expect(key, self._marked, marked)
        return marked

    async def carry(self, live: Json, more: Mapping[str, str], *, contested: bool = False) -> Json | None:
        """Make the copy of `live` what it should be and return it as stored; None when its predecessor is still going.

        Raises NameTaken. With `contested` the name is looked at before it is tried.
        """
        pairing, key = self._pairing, key_of(live)
        place = copy_key(key, pairing.physical.mount_namespace)
        desired = build_copy(live, pairing.owner, pairing.physical.mount_namespace, more)
        present = await self._read(place) if contested or self._copies.store.get(place) else None
        if present is None:
            try:
                return self._wrote(key, desired, await pairing.physical.calls.create(self._resource, desired))
            except AlreadyExists:
                present = await pairing.physical.calls.get(self._resource, place.name, place.namespace)
        match decide_copy(present, desired, pairing.owner):
            case Step.CONFLICT:
                raise NameTaken(
                    f"{self._resource.kind} {place} exists in the physical cluster of binding {pairing.binding_name} and is "
                    f"not ours, so {self._resource.kind} {key} cannot be copied to it: the lender has to remove it"
                )
            case Step.WAIT:
                self._expect(key, present)
                return None
            case Step.REPLACE:
                return self._wrote(key, desired, await self._replace(place, present, desired))
            case Step.PATCH if patch := build_copy_patch(present, desired):
                answer = await pairing.physical.calls.patch(self._resource, place.name, place.namespace, patch)
                return self._wrote(key, desired, answer)
        return self._expect(key, present)

    async def drop_copy(self, key: ObjectKey, copy: Entry[CopyHead]) -> None:
        """Ask for the deletion of a copy that is ours; one that is on its way already is left to go."""
        obj = copy.object()
        if not is_ours(obj, self._pairing.owner) or is_deleting(obj):
            return
        try:
            answer = await self._pairing.physical.calls.delete(self._resource, copy.key.name, copy.key.namespace, uid=copy.uid)
        except NotFound:
            return
        self._freshness.expect(key, self._copies, answer)

    async def drop_marks(self, key: ObjectKey) -> None:
        """Take our marks off the virtual object, if it is there."""
        live = await read_virtual(self._pairing, self._resource, key)
        if live is not None:
            await self._unmark(key, live)

    async def _unmark(self, key: ObjectKey, live: Json) -> None:
        if written := await unmark(self._pairing.virtual, self._resource, live, self._pairing.spec.cluster_id):
            self._freshness.expect(key, self._marked, written)

    async def _replace(self, place: ObjectKey, present: Json, desired: Json) -> Json:
        calls = self._pairing.physical.calls
        await calls.delete(
            self._resource, place.name, place.namespace, uid=uid_of(present), resource_version=resource_version_of(present)
        )
        return await calls.create(self._resource, desired)

    async def _read(self, place: ObjectKey) -> Json | None:
        try:
            return await self._pairing.physical.calls.get(self._resource, place.name, place.namespace)
        except NotFound:
            return None

    def _wrote(self, key: ObjectKey, desired: Json, stored: Json) -> Json:
        pause = self.damper.mended(key, annotations_of(desired)[names.CONTENT_HASH_ANNOTATION])
        log_fight(self._resource.kind, key_of(desired), pause)
        return self._expect(key, stored)

    def _expect(self, key: ObjectKey, stored: Json) -> Json:
        self._freshness.expect(key, self._copies, stored)
        return stored
