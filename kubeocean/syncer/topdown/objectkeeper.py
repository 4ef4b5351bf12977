"""One pass over a virtual ConfigMap or Secret that Pods name, or no longer name: look, then provide or take back.

What there is say two caches, of the marked objects and of our copies; they hold a digest in place of the data, so a restart
finds everything and what is in order costs no call. Who needs an object says the index of virtual Pods.

The gate to a twin is `ready`: keys whose last pass ended well and of which nothing else was heard since. It is shut before a
pass begins to take something back. A Pod that comes later than that asks, is not let through, and its question queues the key
again. That is why the cache of virtual Pods is good enough to tell that nobody needs a copy: a Pod that it does not show yet
has not asked yet.

A copy that somebody in the physical cluster changes back each time is mended ever more rarely (`damping`), and who waits for it
is told. A change by the user never waits.

The grace keeps a copy through the gap between two Pods of a rollout. It is kept in memory: a restart prolongs it, no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Protocol

import structlog

from kubeocean.api import names
from kubeocean.domain.depmap import CopyHead, copy_key, digest_in, digest_of, meaning_of, says_right, summarise_copy, trim
from kubeocean.domain.marks import build_mark_patch, marked_selector
from kubeocean.domain.naming import physical_name
from kubeocean.kube.controller import Controller, Result
from kubeocean.kube.errors import Forbidden, NotFound
from kubeocean.kube.informer import Informer
from kubeocean.kube.meta import Json, ObjectKey, is_deleting, resource_version_of, revision
from kubeocean.kube.resources import Resource
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.topdown.dependencies import Blocked, pods_in_need
from kubeocean.syncer.topdown.mending import MountMender
from kubeocean.syncer.topdown.missing import MissingWatch
from kubeocean.syncer.topdown.objectcopier import Copier, NameTaken
from kubeocean.syncer.topdown.refusals import REFUSED, Refusals, may_pass

GRACE = 60.0  # seconds a copy stays when nobody needs it
NEARLY = 0.01  # seconds: the queue brings a key back a little early
TAKEN_AGAIN = 5.0  # seconds between looks at a name that a stranger holds: we watch nothing that is not ours

log = structlog.get_logger(__name__)


class Demand(Protocol):
    """Somebody besides Pods who needs copies; `labels` are on a copy while he does."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Return what marks a copy as his."""

    async def settled(self) -> None:
        """Return once he knows what he needs."""

    def needs(self, key: ObjectKey, /) -> bool:
        """Tell from caches whether he needs the copy of a virtual object; not asked before he is settled."""

    def wake(self, key: ObjectKey, /) -> None:
        """Take that the copy of a virtual object may be there now, or that it is known why it is not."""


class ObjectKeeper:
    """Keeps the copies of one kind, ConfigMap or Secret. A key without namespace is the name of a stray copy."""

    def __init__(self, pairing: Pairing, resource: Resource, wake: Callable[[ObjectKey], None]) -> None:
        self._pairing, self._resource, self._wake = pairing, resource, wake
        binding, plural = pairing.binding_name, resource.plural
        self.selector = f"{names.OWNER_LABEL}={pairing.owner.label},!{names.SERVICE_ACCOUNT_TOKEN_LABEL}"
        self.marked: Informer[str] = Informer(
            pairing.virtual.watches, resource, label_selector=marked_selector(pairing.spec.cluster_id), transform=trim,
            summarise=digest_in, name=f"{binding}-{plural}-in-use",
        )
        self.copies: Informer[CopyHead] = Informer(
            pairing.physical.watches, resource, namespace=pairing.physical.mount_namespace, label_selector=self.selector,
            transform=trim, summarise=summarise_copy, name=f"{binding}-{plural}-copies",
            place_is_gone=pairing.physical.mount_is_gone,
        )
        self.controller: Controller[ObjectKey] = Controller(f"{plural}-{binding}", self.reconcile)
        self.missing = MissingWatch(
            pairing.virtual.watches, resource, self.controller.enqueue, name=f"{binding}-{plural}-missing"
        )
        self._copier = Copier(pairing, resource, self.controller.freshness, self.marked, self.copies)
        self._mount = MountMender(pairing)
        self._refusals = Refusals()
        self.demands: list[Demand] = []
        self.ready: set[ObjectKey] = set()
        self.carried: dict[ObjectKey, tuple[str, str]] = {}  # digest of what was meant, and of what was stored for it
        self.absent: set[ObjectKey] = set()  # proved, and watched for
        self.trouble: dict[ObjectKey, Blocked] = {}
        self.asked: dict[ObjectKey, set[ObjectKey]] = {}  # Pods that were told to wait, by what they wait for
        self.told: dict[ObjectKey, set[str]] = {}  # uids of the Pods that know that something optional is missing
        self._unused: dict[ObjectKey, float] = {}  # loop time since when

    def place_of(self, key: ObjectKey) -> ObjectKey:
        """Return where the copy of a virtual object is."""
        return copy_key(key, self._pairing.physical.mount_namespace)

    def knows(self, key: ObjectKey) -> bool:
        """Tell whether a pass over this key may have something to do when a Pod no longer needs it."""
        known = (self.ready, self.absent, self.trouble, self.asked, self._unused)
        return bool(self.marked.store.get(key) or self.copies.store.get(self.place_of(key))) or any(key in it for it in known)

    def waits_no_longer(self, key: ObjectKey, pod: ObjectKey) -> None:
        """Take that a Pod is gone, or has no more need of what it waited for."""
        waiting = self.asked.get(key, set())
        waiting.discard(pod)
        if not waiting:
            self.asked.pop(key, None)

    def suspects(self) -> Iterator[ObjectKey | None]:
        """Yield the keys that are neither in order nor in their grace, nor known to be in trouble, and None for all others."""
        if not (self.marked.has_synced and self.copies.has_synced):
            return
        known = {*self.marked.store.keys(), *(entry.summary.origin for entry in self.copies.store.entries())}
        for key in known - self.trouble.keys() - self._unused.keys() - self.absent:
            yield None if key.namespace and self._in_use(key) and self._in_order(key) else key

    async def reconcile(self, key: ObjectKey) -> Result:
        """Make the copy of one virtual object what it should be, or take it back when nobody needs it."""
        if not key.namespace:
            return await self._collect_stray(key)
        if not self._in_use(key):
            return await self._collect(key)
        self._unused.pop(key, None)
        if self._in_order(key):
            self._arrived(key)
            return Result()
        return await self._provide(key)

    def _in_use(self, key: ObjectKey) -> bool:
        by_pods = next(pods_in_need(self._pairing, self._resource.kind, key), None)
        return by_pods is not None or any(demand.needs(key) for demand in self.demands)

    def _labels(self, key: ObjectKey) -> dict[str, str]:
        return dict(chain.from_iterable(demand.labels.items() for demand in self.demands if demand.needs(key)))

    def _in_order(self, key: ObjectKey) -> bool:
        """Tell from the caches whether the object is marked and its copy is what it should be."""
        place = self.place_of(key)
        virtual, copy = self.marked.store.get(key), self.copies.store.get(place)
        if virtual is None or copy is None or is_deleting(obj := virtual.object()):
            return False
        # An admission webhook of the lender may change what we write: what it made of it is not drift.
        digests = (virtual.summary, copy.summary.digest)
        if virtual.summary != copy.summary.digest and digests != self.carried.get(key):
            return False
        if not says_right(copy.object(), obj, self._pairing.owner, self._labels(key)):
            return False
        if build_mark_patch(obj, self._pairing.spec.cluster_id, place):
            return False
        self.carried[key] = digests
        return True

    # --- in use ------------------------------------------------------------------------------------------------------
    async def _provide(self, key: ObjectKey) -> Result:
        live: Json | None = None
        known = self.marked.store.get(key)
        if known and not is_deleting(known.object()) and (pause := self._pause(key, known.object(), known.summary)):
            return Result(pause)
        # Marked before we come to it: its copy may be there, made by a process that died or by the Go project.
        contested = key in self.trouble or self.marked.store.get(key) is not None
        self.ready.discard(key)
        self.missing.want(key)
        try:
            live = await self._copier.take_up(key)
            if live is None:
                self._miss(key)
                return Result()
            if pause := self._pause(key, live, digest_of(live)):
                return Result(pause)
            stored = await self._copier.carry(live, self._labels(key), contested=contested)
        except NameTaken as taken:
            self._tell(key, live, Blocked("DependencyConflict", str(taken)))
            return Result(TAKEN_AGAIN)
        except (*REFUSED, NotFound) as error:
            again = self._refusals.add(key)
            if not may_pass(error, self._refusals.times(key)):
                self._tell(key, live, Blocked("DependencyRefused", f"{self._resource.kind} {key} cannot be copied: {error}"))
            if isinstance(error, Forbidden | NotFound):
                await self._mount.mend()
            return Result(again)
        if stored is not None:
            self.carried[key] = (digest_of(live), digest_of(stored))
            if not self._is_old_news(key, live):
                self._arrived(key)
        return Result()

    def _pause(self, key: ObjectKey, virtual: Json, digest: str) -> float:
        """Return in how many seconds a copy may be mended that somebody keeps changing, 0 = now; tell of it."""
        meaning = meaning_of(virtual, digest, self._pairing.owner, self._labels(key))
        pause, whole = self._copier.damper.pause(key, meaning), self._copier.damper.length(key, meaning)
        if pause:
            kind, place = self._resource.kind, self.place_of(key)
            self._tell(key, virtual, Blocked(
                "DependencyContested",
                f"somebody in the physical cluster keeps changing {kind} {place}, the copy of {kind} {key}; it is mended again "
                f"within {whole:.0f} s",
            ))
        return pause

    def _is_old_news(self, key: ObjectKey, live: Json) -> bool:
        """Tell whether the object has changed since it was read; then the key is queued again already."""
        seen = self.marked.store.get(key)
        return seen is not None and seen.revision > revision(resource_version_of(live)) and seen.summary != digest_of(live)

    def _arrived(self, key: ObjectKey) -> None:
        self._refusals.forget(key)
        self.missing.forget(key)
        self.absent.discard(key)
        self.trouble.pop(key, None)
        self.told.pop(key, None)
        if key not in self.ready:
            self.ready.add(key)
            self._wake_who_waits(key)

    def _miss(self, key: ObjectKey) -> None:
        """Note that an object is proved missing. A copy stays as long as Pods that run use it, as with any kubelet."""
        self.trouble.pop(key, None)
        if key not in self.absent:
            self.absent.add(key)
            self.missing.start()
            self._wake_who_waits(key)

    def _tell(self, key: ObjectKey, live: Json | None, blocked: Blocked) -> None:
        """Note what hinders; tell it on the object, and on the Pods that wait for it, by waking them."""
        self.absent.discard(key)
        if self.trouble.get(key) != blocked:
            self.trouble[key] = blocked
            if live is not None:
                self._pairing.events.event(live, "Warning", *blocked)
            self._wake_who_waits(key)

    def _wake_who_waits(self, key: ObjectKey) -> None:
        for pod in self.asked.pop(key, ()):
            self._wake(pod)
        for demand in self.demands:
            if demand.needs(key):
                demand.wake(key)

    # --- no longer in use --------------------------------------------------------------------------------------------
    async def _collect(self, key: ObjectKey) -> Result:
        """Take back what nobody needs, once the grace is over."""
        self._forget(key)
        place = self.place_of(key)
        virtual = self.marked.store.get(key)
        if virtual is None and self.copies.store.get(place) is None:
            self._unused.pop(key, None)
            self._copier.damper.forget(key)
            return Result()
        held_up = virtual is not None and is_deleting(virtual.object())  # by our finalizer, for nothing
        if (left := self._grace_left(key)) and not held_up:
            return Result(left)
        # An empty cache of Pods may also mean that the cluster is another one.
        await self._pairing.virtual.identity.confirm()
        if self._in_use(key):
            return Result(0.0)
        if copy := self.copies.store.get(place):
            await self._copier.drop_copy(key, copy)
        await self._copier.drop_marks(key)
        return Result()

    def _forget(self, key: ObjectKey) -> None:
        """Shut the gate, and forget what was known of a key that nobody needs."""
        self._refusals.forget(key)
        self.ready.discard(key)
        self.absent.discard(key)
        self.carried.pop(key, None)
        self.trouble.pop(key, None)
        self.told.pop(key, None)
        self.asked.pop(key, None)
        self.missing.forget(key)

    def _grace_left(self, key: ObjectKey) -> float:
        now = asyncio.get_running_loop().time()
        left = self._unused.setdefault(key, now) + GRACE - now
        return 0.0 if self._pairing.unbinding or left < NEARLY else left

    async def _collect_stray(self, key: ObjectKey) -> Result:
        """Remove a copy that does not say of what, unless what its name stands for is in use: that pass mends it."""
        copy = self.copies.store.get(ObjectKey(self._pairing.physical.mount_namespace, key.name))
        if copy is None or copy.summary.origin != key:
            self._unused.pop(key, None)
            return Result()
        if left := self._grace_left(key):
            return Result(left)
        await self._pairing.virtual.identity.confirm()
        if key.name in {physical_name(known.name, known.namespace) for known in self._everything_named()}:
            return Result(GRACE)
        why = "it does not say of what, and nobody uses it"
        log.info("copy removed", kind=self._resource.kind, name=str(copy.key), why=why)
        await self._copier.drop_copy(key, copy)
        return Result()

    def _everything_named(self) -> Iterator[ObjectKey]:
        yield from self.marked.store.keys()
        for pod in self._pairing.virtual.pods.store.entries():
            for kind, key in map(read_reference, pod.summary.references):
                if kind == self._resource.kind:
                    yield key


def read_reference(text: str) -> tuple[str, ObjectKey]:
    """Return kind and key of what index BY_REFERENCE calls "Kind/namespace/name"."""
    kind, namespace, name = text.split("/", 2)
    return kind, ObjectKey(namespace, name)
