"""The ConfigMaps or Secrets that Pods name, kept in step with their copies beside the twins.

    a Pod asks (`check`) ──► key queued ──► GET, mark ──► copy ──► ready: the Pods that wait are queued
                                   │ 404: missing; told on the Pod if it is mandatory, and watched for (`missing`)
    either side changes ─────► key queued ──► the copy is made what it should be again
    a Pod ends ──────────────► key queued ──► unused for the grace ──► copy deleted ──► marks off

The key is the virtual object's, and its pass (`objectkeeper`) is the only writer of both sides. Here is what leads to a pass,
and the gate that asks what came of it. However many Pods share an object, it costs one GET, one PATCH and one POST.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import NoReturn

from kubeocean.clusters.mountuse import list_ours
from kubeocean.clusters.podsummary import VirtualPod
from kubeocean.clusters.virtual import BY_NODE
from kubeocean.domain.depmap import CopyHead, can_exist, origin_of
from kubeocean.domain.marks import marked_selector
from kubeocean.domain.podrefs import Reference
from kubeocean.kube.controller import Controller
from kubeocean.kube.meta import Json, ObjectKey, is_deleting, key_of, namespace_of, uid_of
from kubeocean.kube.resources import Resource
from kubeocean.kube.store import Entry
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.topdown.dependencies import Blocked
from kubeocean.syncer.topdown.objectkeeper import Demand, ObjectKeeper, read_reference

LEFT_AGAIN = 0.5  # seconds between looks at what is still to be taken back


class ObjectSource:
    """The source (`dependencies.DependencySource`) of one kind, ConfigMap or Secret, for one binding."""

    def __init__(self, pairing: Pairing, resource: Resource, wake: Callable[[ObjectKey], None]) -> None:
        self._pairing, self._resource = pairing, resource
        self.name = f"{resource.plural} of {pairing.binding_name}"
        self.kinds = frozenset({resource.kind})
        self.keeper = ObjectKeeper(pairing, resource, wake)
        self._enqueue = self.keeper.controller.enqueue

    # --- the gate ----------------------------------------------------------------------------------------------------
    def check(self, reference: Reference, vpod: Json) -> Blocked | None:
        """See DependencySource."""
        key = ObjectKey(namespace_of(vpod), reference.name)
        if key in self.keeper.ready:
            return None
        if not can_exist(key.name):
            return None if reference.optional else self._mandatory(reference, key)
        answer = self._say_absent(reference, key, vpod) if key in self.keeper.absent else self._under_way(key)
        if answer is not None:
            self.keeper.asked.setdefault(key, set()).add(key_of(vpod))
        return answer

    def demand(self, key: ObjectKey) -> Blocked | None:
        """Answer like `check` to somebody who was introduced by `serve` and needs the object."""
        if key in self.keeper.ready:
            return None
        if not can_exist(key.name) or key in self.keeper.absent:
            return Blocked(f"Mandatory{self._resource.kind}NotFound", f"waits for {self._resource.kind} {key}: create it")
        return self._under_way(key)

    def serve(self, demand: Demand) -> None:
        """Keep copies for somebody besides Pods, too."""
        self.keeper.demands.append(demand)

    def reconsider(self, key: ObjectKey) -> None:
        """Look at a key again: somebody who was introduced by `serve` needs it from now on, or no longer does."""
        self._enqueue(key)

    @property
    def controller(self) -> Controller[ObjectKey]:
        """See DependencySource."""
        return self.keeper.controller

    def suspects(self) -> Iterator[ObjectKey]:
        """See DependencySource."""
        return self.keeper.suspects()

    def _under_way(self, key: ObjectKey) -> Blocked:
        if trouble := self.keeper.trouble.get(key):
            return trouble  # the queue brings it back by itself
        self._enqueue(key)
        return Blocked()

    def _mandatory(self, reference: Reference, key: ObjectKey) -> Blocked:
        return Blocked(
            f"Mandatory{self._resource.kind}NotFound",
            f"waits for {self._resource.kind} {key} ({reference.where}), which does not exist: create it and the Pod starts at "
            "once, or mark the reference optional",
        )

    def _say_absent(self, reference: Reference, key: ObjectKey, vpod: Json) -> Blocked | None:
        if not reference.optional:
            return self._mandatory(reference, key)
        told, kind = self.keeper.told.setdefault(key, set()), self._resource.kind
        if uid_of(vpod) not in told:
            told.add(uid_of(vpod))
            self._pairing.events.event(
                vpod, "Warning", f"Optional{kind}NotFound",
                f"{kind} {key} ({reference.where}) does not exist; the Pod runs without it, and gets it when it is created",
            )
        return None

    # --- what leads to a pass ----------------------------------------------------------------------------------------
    async def run(self) -> NoReturn:
        """See DependencySource."""
        keeper = self.keeper
        async with asyncio.TaskGroup() as tasks:
            for informer in (keeper.marked, keeper.copies):
                tasks.create_task(informer.run(), name=f"informer {informer.name}")
            await keeper.marked.wait_synced()
            await keeper.copies.wait_synced()
            for demand in keeper.demands:
                await demand.settled()
            self._begin()
            tasks.create_task(keeper.missing.run(), name=f"watch for missing {self.name}")
            await keeper.controller.run()
        raise AssertionError("controllers never return")

    def _begin(self) -> None:
        self.keeper.marked.add_handler(self._marked_changed)
        self.keeper.copies.add_handler(self._copy_changed)
        self._pairing.listen_to_own_pods(self._pod_changed)
        self._pairing.listen(self._pairing.virtual.nodes, self._node_changed)
        self._pairing.physical.reachability.subscribe(self._reachability_changed)

    def _marked_changed(self, old: Entry[str] | None, new: Entry[str] | None) -> None:
        keeper = self.keeper
        for key in {entry.key for entry in (old, new) if entry}:
            if new is None or is_deleting(new.object()) or keeper.carried.get(key, ("", ""))[0] != new.summary:
                keeper.ready.discard(key)
            self._enqueue(key)

    def _copy_changed(self, old: Entry[CopyHead] | None, new: Entry[CopyHead] | None) -> None:
        keeper = self.keeper
        # Both: somebody may have taken the annotations off that said what it is a copy of.
        for key in {entry.summary.origin for entry in (old, new) if entry}:
            if new is None or keeper.carried.get(key, ("", ""))[1] != new.summary.digest:
                keeper.ready.discard(key)
            self._enqueue(key)

    def _pod_changed(self, old: Entry[VirtualPod] | None, new: Entry[VirtualPod] | None) -> None:
        before, after = self._named_by(old), self._named_by(new)
        if before == after:
            return
        if old:
            for key in before - after:
                self.keeper.told.get(key, set()).discard(old.uid)
        # A Pod that has a twin is past the gate; after a restart nobody else asks for what it may still lack.
        has_twin = new is not None and (twin := self._pairing.twin_of(new.key)) is not None and twin.summary.ours
        for key in before ^ after:
            if can_exist(key.name) and (has_twin or self.keeper.knows(key)):
                self._enqueue(key)

    def _named_by(self, entry: Entry[VirtualPod] | None) -> frozenset[ObjectKey]:
        """Return what a Pod names and still needs: none of one that is finished."""
        if entry is None or not entry.summary.references or entry.summary.finished:
            return frozenset()
        references = map(read_reference, entry.summary.references)
        return frozenset(key for kind, key in references if kind == self._resource.kind)

    def _node_changed(self, old: Entry[str] | None, new: Entry[str] | None) -> None:
        # Pods may be seen before their node, and outlive it; in between it changes nothing for them.
        node = new or old
        if node is None or (old and new) or not self._pairing.physical_node_behind(node.object()):
            return
        for pod in self._pairing.virtual.pods.store.by_index(BY_NODE, node.key.name):
            self._pod_changed(None if new else pod, pod if new else None)

    def _reachability_changed(self, reachable: bool) -> None:
        """Look at everything again when the physical cluster is back: what failed meanwhile would wait for its backoff."""
        if reachable:
            keeper = self.keeper
            keeper.copies.resume()
            copied = {entry.summary.origin for entry in keeper.copies.store.entries()}
            for key in {*keeper.marked.store.keys(), *copied, *keeper.trouble}:
                self._enqueue(key)

    # --- unbinding ---------------------------------------------------------------------------------------------------
    async def take_back(self) -> None:
        """See DependencySource. The passes do it, without grace; here the two servers are asked until they show nothing."""
        while left := await self._what_is_left():
            for key in left:
                self._enqueue(key)
            await asyncio.sleep(LEFT_AGAIN)

    async def _what_is_left(self) -> set[ObjectKey]:
        virtual, physical = self._pairing.virtual, self._pairing.physical
        marked = await virtual.calls.list(self._resource, label_selector=marked_selector(self._pairing.spec.cluster_id))
        copies = await list_ours(
            physical.calls, self._resource, physical.mount_namespace, self._pairing.owner, self.keeper.selector
        )
        return {key_of(obj) for obj in marked.items} | {origin_of(copy) for copy in copies}

