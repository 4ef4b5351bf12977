"""Services of spec.serviceNamespaces, carried to where our Pods can reach them.

Flow: a virtual Service, one of its EndpointSlices, or a copy of either changes -> the *virtual Service's key* is queued -> the
pass brings the copy of the Service, and one copy of each slice, to what `domain.servicemap` says. A copy that lost its
original goes after proof; one whose namespace left the binding's list goes because the binding says so. Nothing is noted on the
virtual side: each copy tells of what it is one, so whatever was left by a process before us queues its own key.

Endpoints are watched namespace by namespace, for those in the list only: all EndpointSlices of a cluster are many, and change
with every Pod.

The gate: a Pod is told the physical cluster IPs when it is made, and never again. So it waits while a Service that should be
mirrored is on its way, but no longer than PATIENCE, and not for one that the physical cluster refuses: that is told in an Event
on the virtual Service, and the Pod starts without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

import structlog

from kubeocean.api import names
from kubeocean.clusters.virtual import BY_NAMESPACE
from kubeocean.domain.mirrors import decide_copy, origin_of, origin_uid_of
from kubeocean.domain.naming import physical_name
from kubeocean.domain.servicemap import (
    cluster_ips_of,
    is_headless,
    is_mirrored,
    map_service,
    map_slice,
    replaces_service,
    replaces_slice,
    service_content,
    service_of_slice,
    slice_content,
    trim_slice,
)
from kubeocean.kube.controller import Controller, Result
from kubeocean.kube.errors import KubeError
from kubeocean.kube.informer import Informer
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, is_deleting, key_of, name_of, uid_of
from kubeocean.kube.resources import ENDPOINTSLICES, SERVICES
from kubeocean.kube.store import Entry
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.proofs import read_virtual
from kubeocean.syncer.topdown.copies import NOT_READ_YET, POLL, REFUSED_RETRY, Contested, Copies, NameTaken, remove_all
from kubeocean.syncer.topdown.dependencies import Blocked
from kubeocean.syncer.topdown.refusals import REFUSED, may_pass

PATIENCE = 10.0  # seconds that a Pod waits for Services on their way
_BY_SERVICE = "service"
_REASONS: dict[type, str] = {NameTaken: "MirrorNameTaken", Contested: "MirrorContested"}

log = structlog.get_logger(__name__)

class ServiceMirror:
    """Mirrors Services of one binding; `wake` is called with every virtual Pod that no longer has to wait for them."""

    def __init__(self, pairing: Pairing, wake: Callable[[ObjectKey], None]) -> None:
        self.pairing, self.name = pairing, f"services of {pairing.binding_name}"
        self.controller: Controller[ObjectKey] = Controller(f"services-{pairing.binding_name}", self.reconcile, workers=4)
        self.services, self.slices = Copies(pairing, SERVICES), Copies(pairing, ENDPOINTSLICES, _service_of_copy)
        self._originals: dict[str, Informer[str]] = {}  # the virtual slices, by namespace
        self._wake = wake
        self._set_out_so_far = 0
        self._on_their_way: dict[ObjectKey, int] = {}  # with numbers, the oldest first
        self._waiting: dict[ObjectKey, tuple[str, int]] = {}  # Pods: the uid, and the latest number when it came
        self._said: dict[ObjectKey, str] = {}  # what was last told of a Service that is refused
        self._spec_changed = asyncio.Event()
        self._ending = False

    # --- what is wanted ------------------------------------------------------------------------------------------------
    def _in_scope(self, namespace: str) -> bool:
        return not self._ending and namespace in self.pairing.spec.service_namespaces

    def _original(self, key: ObjectKey) -> Json | None:
        """Return the virtual Service, None when there is none that is to be mirrored."""
        service = self.pairing.virtual.services.store.object(key) if self._in_scope(key.namespace) else None
        return service if service and is_mirrored(service) else None

    def _keys_of(self, namespaces: Iterable[str]) -> list[ObjectKey]:
        store = self.pairing.virtual.services.store
        return [entry.key for namespace in namespaces for entry in store.by_index(BY_NAMESPACE, namespace)]

    # --- the gate ------------------------------------------------------------------------------------------------------
    def check(self, vpod: Json) -> Blocked | None:
        """See dependencies.Gate."""
        if not self._on_their_way:
            return None
        # Those that set out later are none of its business, or somebody who makes Services all the time would keep all Pods.
        uid, latest = self._waiting.get(key_of(vpod), ("", 0))
        if uid != uid_of(vpod):
            latest = self._set_out_so_far
            self._waiting[key_of(vpod)] = uid_of(vpod), latest
        return Blocked() if self._oldest() <= latest else None

    def _oldest(self) -> int:
        """Return the number of the first that is still on its way, one that none has yet when there is none."""
        return next(iter(self._on_their_way.values()), self._set_out_so_far + 1)

    def _set_out(self, key: ObjectKey) -> None:
        """Have Pods wait for a Service that has no physical address yet."""
        original = self._original(key)
        if original is None or is_headless(original) or key in self.pairing.mirrored_services or key in self._said:
            return
        if key not in self._on_their_way:
            self._set_out_so_far += 1
            self._on_their_way[key] = self._set_out_so_far
            asyncio.get_running_loop().call_later(PATIENCE, self._arrived, key)

    def _arrived(self, key: ObjectKey) -> None:
        before = self._oldest()
        self._on_their_way.pop(key, None)
        if (oldest := self._oldest()) == before:
            return
        waiting, pods = self._waiting, self.pairing.virtual.pods.store
        self._waiting = {pod: came for pod, came in waiting.items() if self._on_their_way and pods.get(pod)}
        for pod, (_, latest) in waiting.items():
            if before <= latest < oldest:
                self._wake(pod)

    # --- listening -----------------------------------------------------------------------------------------------------
    def attach(self) -> None:
        """See dependencies.Gate."""
        self.pairing.listen(self.pairing.virtual.services, self._service_changed)
        self.services.informer.add_handler(self._copy_changed)
        self.slices.informer.add_handler(self._slice_copy_changed)

    def _service_changed(self, old: Entry[str] | None, new: Entry[str] | None) -> None:
        entry = new or old
        if entry is None or not self._in_scope(entry.key.namespace):
            return
        if new is None:
            self._said.pop(entry.key, None)
            self._arrived(entry.key)
        elif old is None or old.uid != new.uid:
            self._set_out(entry.key)
        self.controller.enqueue(entry.key)

    def _copy_changed(self, old: Entry[ObjectKey | None] | None, new: Entry[ObjectKey | None] | None) -> None:
        if old and old.summary and (new is None or new.summary != old.summary):
            self.pairing.mirrored_services.pop(old.summary, None)
            self._set_out(old.summary)
        if new and new.summary and (ips := cluster_ips_of(new.object())):
            self.pairing.mirrored_services[new.summary] = ips
            self._arrived(new.summary)
        self._enqueue_origins(old, new)

    def _slice_copy_changed(self, old: Entry[ObjectKey | None] | None, new: Entry[ObjectKey | None] | None) -> None:
        self._enqueue_origins(old, new)

    def _enqueue_origins(self, *entries: Entry[ObjectKey | None] | None) -> None:
        for entry in filter(None, entries):
            if entry.summary:
                self.controller.enqueue(entry.summary)
            else:  # somebody took off what it is a copy of: its original knows it by its name
                self._enqueue_all()

    def _original_slice_changed(self, old: Entry[str] | None, new: Entry[str] | None) -> None:
        for entry in filter(None, (old, new)):
            if entry.summary:
                self.controller.enqueue(ObjectKey(entry.key.namespace, entry.summary))

    def _enqueue_all(self) -> None:
        for key in self._keys_of(self.pairing.spec.service_namespaces):
            self.controller.enqueue(key)

    def spec_changed(self) -> None:
        """See dependencies.Gate."""
        for key in self._keys_of(self.pairing.spec.service_namespaces):
            self._set_out(key)
            self.controller.enqueue(key)
        for key in list(self._on_their_way):
            if self._original(key) is None:
                self._arrived(key)
        for copies in (self.services, self.slices):
            self._enqueue_origins(*copies.informer.store.entries())
        self._spec_changed.set()

    # --- running -------------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """See dependencies.Gate."""
        async with asyncio.TaskGroup() as tasks:
            for copies in (self.services, self.slices):
                tasks.create_task(copies.informer.run(), name=f"informer {copies.informer.name}")
            tasks.create_task(self.controller.run(), name=self.controller.name)
            await self._follow_namespaces(tasks)

    async def _follow_namespaces(self, tasks: asyncio.TaskGroup) -> NoReturn:
        """Watch the slices of the namespaces in the binding's list, as it is edited."""
        watches: dict[str, asyncio.Task[None]] = {}
        while True:
            wanted = dict.fromkeys(self.pairing.spec.service_namespaces)
            for namespace in watches.keys() - wanted.keys():
                watches.pop(namespace).cancel()
                del self._originals[namespace]
            for namespace in wanted.keys() - watches.keys():
                self._originals[namespace] = informer = self._watch(namespace)
                watches[namespace] = tasks.create_task(self._serve(namespace, informer), name=f"informer {informer.name}")
            await self._spec_changed.wait()
            self._spec_changed.clear()

    def _watch(self, namespace: str) -> Informer[str]:
        informer: Informer[str] = Informer(
            self.pairing.virtual.watches, ENDPOINTSLICES, namespace=namespace, transform=trim_slice, keep_raw=True,
            summarise=service_of_slice, indexers={_BY_SERVICE: lambda _, service: (service,)},
            name=f"{self.pairing.binding_name}-slices-{namespace}",
        )
        informer.add_handler(self._original_slice_changed)
        return informer

    async def _serve(self, namespace: str, informer: Informer[str]) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(informer.run())
            await informer.wait_synced()
            for key in self._keys_of([namespace]):  # from now on the absence of a slice can be looked into
                self.controller.enqueue(key)

    # --- one pass ------------------------------------------------------------------------------------------------------
    async def reconcile(self, key: ObjectKey) -> Result:
        """Bring the copies of one virtual Service, and of its slices, to what they should be."""
        original = self._original(key)
        try:
            if not (self.services.check_readable() and self.slices.check_readable()):
                return Result(NOT_READ_YET)
            if original is None and not await self._is_out(key):
                return Result(NOT_READ_YET)
            waits = [await self._bring_service(key, original), *await self._bring_slices(key, original)]
        except (NameTaken, *REFUSED) as refused:
            if may_pass(refused, self.controller.queue.failures(key) + 1):
                raise
            self._say(key, original, refused)
            return Result(REFUSED_RETRY)
        if pauses := [wait for wait in waits if wait]:
            self._say(key, original, self.services.fight_over(physical_name(key.name, key.namespace)))
            return Result(min(pauses))
        if original is None or key in self.pairing.mirrored_services or is_headless(original):
            self._said.pop(key, None)
            self._arrived(key)
        return Result()

    def _say(self, key: ObjectKey, original: Json | None, refused: KubeError) -> None:
        if original is None:
            return
        if self._said.get(key) != str(refused):
            self._said[key] = str(refused)
            reason = _REASONS.get(type(refused), "MirrorRefused")
            message = f"not mirrored for Pods of ClusterBinding {self.pairing.binding_name}: {refused}"
            self.pairing.events.event(original, "Warning", reason, message)
            log.warning("Service not mirrored", service=str(key), why=str(refused))
        self._arrived(key)

    async def _is_out(self, key: ObjectKey) -> bool:
        """Prove that nothing is to be mirrored under `key`; False while the cache has to catch up."""
        store = self.pairing.virtual.services.store
        if not self._in_scope(key.namespace) or store.get(key) is not None:
            return True
        copy = self.services.get(physical_name(key.name, key.namespace))
        if copy is None and not self.slices.of(key):
            return True
        if copy and self.pairing.virtual.services.was_deleted(origin_uid_of(copy)):
            return True
        live = await read_virtual(self.pairing, SERVICES, key)
        if live:
            self.controller.freshness.expect(key, self.pairing.virtual.services, live)
        return live is None

    async def _bring_service(self, key: ObjectKey, original: Json | None) -> float:
        pairing = self.pairing
        wanted = map_service(original, pairing.owner, pairing.physical.mount_namespace) if original else None
        existing = self.services.get(physical_name(key.name, key.namespace))
        step = decide_copy(wanted, existing, service_content, replaces=replaces_service)
        return await self.services.apply(step, self.controller, key)

    async def _bring_slices(self, key: ObjectKey, original: Json | None) -> list[float]:
        wanted = self._wanted_slices(key) if original else {}
        waits: list[float] = []
        if wanted is None:
            return waits
        for name, copy in wanted.items():
            step = decide_copy(copy, self.slices.get(name), slice_content, replaces=replaces_slice)
            waits.append(await self.slices.apply(step, self.controller, key))
        for copy in self.slices.of(key):
            if name_of(copy) not in wanted and (original is None or await self._slice_is_out(key, copy)):
                await self.slices.apply(decide_copy(None, copy, slice_content), self.controller, key)
        return waits

    def _wanted_slices(self, key: ObjectKey) -> dict[str, Json] | None:
        """Return the copies a Service should have, by name; None while its slices are not read in full."""
        pairing, originals = self.pairing, self._originals.get(key.namespace)
        if originals is None or not originals.has_synced:
            return None
        copies = [
            map_slice(entry.object(), pairing.owner, pairing.physical.mount_namespace, pairing.physical_node_of)
            for entry in originals.store.by_index(_BY_SERVICE, key.name)
        ]
        return {name_of(copy): copy for copy in copies}

    async def _slice_is_out(self, key: ObjectKey, copy: Json) -> bool:
        """Prove that the original of a slice is gone, or another Service's."""
        originals, origin = self._originals[key.namespace], origin_of(copy)
        if origin is None or originals.was_deleted(origin_uid_of(copy)):
            return True
        live = await read_virtual(self.pairing, ENDPOINTSLICES, origin)
        if live is None or service_of_slice(live) != key.name:
            return True
        self.controller.freshness.expect(key, originals, live)
        return False

    def suspects(self) -> Iterator[ObjectKey]:
        """See dependencies.Gate. What is refused is known, and looked at again anyhow."""
        if not (self.services.informer.has_synced and self.slices.informer.has_synced):
            return
        for key in self._keys_of(self.pairing.spec.service_namespaces):
            if key not in self._said and self._differs(key):
                yield key
        for copies in (self.services, self.slices):
            for entry in copies.informer.store.entries():
                if entry.summary and self._original(entry.summary) is None and not is_deleting(entry.object()):
                    yield entry.summary

    def _differs(self, key: ObjectKey) -> bool:
        if (original := self._original(key)) is None:
            return False  # its copies tell
        wanted = map_service(original, self.pairing.owner, self.pairing.physical.mount_namespace)
        if decide_copy(wanted, self.services.get(name_of(wanted)), service_content, replaces=replaces_service):
            return True
        if (slices := self._wanted_slices(key)) is None:
            return False
        for name, each in slices.items():
            if decide_copy(each, self.slices.get(name), slice_content, replaces=replaces_slice):
                return True
        return any(name_of(copy) not in slices and not is_deleting(copy) for copy in self.slices.of(key))

    def reconsider(self, key: ObjectKey) -> None:
        """See dependencies.Gate."""
        self.controller.enqueue(key)

    # --- the end -------------------------------------------------------------------------------------------------------
    async def take_back(self) -> None:
        """See dependencies.Gate."""
        self._ending = True
        for resource in (SERVICES, ENDPOINTSLICES):
            while await remove_all(self.pairing, resource):
                await asyncio.sleep(POLL)


def _service_of_copy(copy: Json) -> ObjectKey | None:
    annotations = annotations_of(copy)
    namespace = annotations.get(names.VIRTUAL_NAMESPACE_ANNOTATION) or ""
    service = annotations.get(names.VIRTUAL_SERVICE_ANNOTATION) or ""
    return ObjectKey(namespace, service) if namespace and service else None
