"""What is said of a twin is said of its virtual Pod, so that `kubectl describe pod` tells why an image is not pulled.

    Event in the mountNamespace -> whose twin? -> `domain.eventmap` -> is it said already? -> POST, or PATCH of a repeat

Two caches, and no memory that a restart could lose: the lender's Events about Pods of the mountNamespace, and of the virtual
Events only those that we wrote, without their text. Names follow from the physical Event's uid, so comparing the two tells what
is left to say; at rest, and after a restart, that is nothing.

Nobody waits for an Event. Warnings go at once, for somebody is looking for them. What is Normal goes one at a time and slowly,
and while Pods wait for a pass it lets them go first. Repeats of one Event are gathered: however fast a kubelet counts, we write
its count at most twice a minute. An Event about a Pod that has gone meanwhile is not written any more.

A lender may not let us read Events: that costs nobody a Pod, and is said once. Once granted, it begins by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

import structlog

from kubeocean.clusters.podsummary import PhysicalPod, VirtualPod
from kubeocean.domain.eventmap import WARNING, EventRoute, build_repeat_patch, fingerprint, map_event, trim_event
from kubeocean.kube.controller import Controller, Result
from kubeocean.kube.errors import AlreadyExists, BadRequest, Forbidden, Invalid, NotFound
from kubeocean.kube.informer import Informer
from kubeocean.kube.meta import Json, ObjectKey, key_of, name_of, namespace_of
from kubeocean.kube.resources import EVENTS
from kubeocean.kube.store import Entry
from kubeocean.kube.tokenbucket import TokenBucket
from kubeocean.syncer.pairing import Pairing

NOT_MIRRORED = "EventsNotMirrored"
BY_POD = "pod"
NORMAL_PACE, NORMAL_BURST = 20.0, 5  # Normal Events per second
REPEAT_EVERY = 30.0  # seconds between two writes of one Event
YIELD, LONGEST_YIELD = 0.05, 2.0  # seconds: how long a Normal Event lets Pods go first
LOOK = 2.0  # seconds between looks at whether we may read at all

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SaidOfTwin:
    """The head of a physical Event: which Pod it is about, and whether it can wait."""

    pod: ObjectKey
    pod_uid: str
    warning: bool


class TwinEvents:
    """Mirrors the Events about the twins of one binding. `pods_wait` tells whether Pods wait for a pass just now."""

    def __init__(self, pairing: Pairing, pods_wait: Callable[[], bool] = lambda: False) -> None:
        self.name = f"events of {pairing.binding_name}"
        self._pairing, self._pods_wait = pairing, pods_wait
        self._route = EventRoute(pairing.binding_name, pairing.owner)
        self._written: dict[ObjectKey, float] = {}  # physical Event -> loop time of our last write; only for the pace
        self._bucket = TokenBucket(NORMAL_PACE, NORMAL_BURST)
        self.said: Informer[SaidOfTwin] = Informer(
            pairing.physical.watches, EVENTS, namespace=pairing.physical.mount_namespace,
            field_selector="involvedObject.kind=Pod", transform=trim_event, summarise=_summarise, keep_raw=True,
            indexers={BY_POD: lambda _, said: (said.pod_uid,)}, name=f"{pairing.physical.name}-events",
        )
        self.mirrored: Informer[int] = Informer(
            pairing.virtual.watches, EVENTS, field_selector=f"reportingComponent={self._route.component}",
            transform=_only_fingerprint, summarise=lambda event: int(event["fingerprint"]), keep_raw=True,
            name=f"{pairing.binding_name}-mirrored-events",
        )
        self.warnings: Controller[ObjectKey] = Controller(f"warnings-{pairing.binding_name}", self.reconcile, workers=2)
        self.normals: Controller[ObjectKey] = Controller(f"events-{pairing.binding_name}", self._reconcile_normal, workers=1)

    async def run(self) -> NoReturn:
        """Mirror until cancelled; raises NotLeading when we may not write any more."""
        async with asyncio.TaskGroup() as tasks:
            for informer in (self.said, self.mirrored):
                tasks.create_task(informer.run(), name=f"informer {informer.name}")
            tasks.create_task(self._tell_when_forbidden(), name=f"rights of {self.name}")
            await self.said.wait_synced()
            await self.mirrored.wait_synced()
            self.attach()
            for controller in (self.warnings, self.normals):
                tasks.create_task(controller.run(), name=controller.name)
        raise AssertionError("informers never return")

    def attach(self) -> None:
        """Listen to the caches; whatever is in them already is compared as well."""
        self.said.add_handler(self._event_changed)
        self._pairing.listen(self._pairing.physical.pods, self._twin_changed)

    def _event_changed(self, old: Entry[SaidOfTwin] | None, new: Entry[SaidOfTwin] | None) -> None:
        if new and self._vpod_of(new.summary):
            self._enqueue(new)
        elif old and new is None:
            self._written.pop(old.key, None)

    def _twin_changed(self, old: Entry[PhysicalPod] | None, new: Entry[PhysicalPod] | None) -> None:
        if new and old is None and new.summary.ours:  # its first Events may have been quicker than itself
            for entry in self.said.store.by_index(BY_POD, new.uid):
                self._enqueue(entry)

    def _enqueue(self, entry: Entry[SaidOfTwin]) -> None:
        (self.warnings if entry.summary.warning else self.normals).enqueue(entry.key)

    def _vpod_of(self, said: SaidOfTwin) -> Entry[VirtualPod] | None:
        """Return the virtual Pod that an Event is about; None when its Pod is no twin, or not the present one."""
        twin = self._pairing.physical.pods.store.get(said.pod)
        if twin is None or twin.uid != said.pod_uid or twin.summary.virtual is None:
            return None
        vpod = self._pairing.virtual.pods.store.get(twin.summary.virtual)
        return vpod if vpod and vpod.uid == twin.summary.virtual_uid else None

    # --- one pass --------------------------------------------------------------------------------------------------
    async def _reconcile_normal(self, key: ObjectKey) -> Result:
        if self._wanted(key) is None:
            return Result()
        await self._bucket.take()
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_YIELD):
                while self._pods_wait():
                    await asyncio.sleep(YIELD)
        return await self.reconcile(key)

    async def reconcile(self, key: ObjectKey) -> Result:
        """Say in the virtual cluster what a physical Event says, unless it is said already."""
        wanted = self._wanted(key)
        if wanted is None:
            return Result()
        clock = asyncio.get_running_loop().time
        early = self._written.get(key, -REPEAT_EVERY) + REPEAT_EVERY - clock()
        if early > 0:
            return Result(early)
        try:
            written = await self._write(wanted)
        except (AlreadyExists, NotFound):
            return Result()  # not in our cache yet, or no more: a later repeat finds it as it is
        except (Forbidden, Invalid, BadRequest) as error:
            # The namespace is on its way out, mostly. No Event is worth a second try that will fail like the first.
            log.debug("event not mirrored", binding=self._pairing.binding_name, key=str(key), error=str(error))
            return Result()
        self._written[key] = clock()
        controller = self.warnings if wanted.get("type") == WARNING else self.normals
        controller.freshness.expect(key, self.mirrored, written)
        return Result()

    def _wanted(self, key: ObjectKey) -> Json | None:
        """Return the virtual Event as it should be; None when it is, or nobody needs it."""
        entry = self.said.store.get(key)
        vpod = self._vpod_of(entry.summary) if entry else None
        if entry is None or vpod is None:
            return None
        wanted = map_event(entry.object(), vpod.object(), self._route)
        live = self.mirrored.store.get(key_of(wanted))
        return wanted if live is None or live.summary != fingerprint(wanted) else None

    async def _write(self, wanted: Json) -> Json:
        calls, live = self._pairing.virtual.calls, self.mirrored.store.get(key_of(wanted))
        if live is None:
            return await calls.create(EVENTS, wanted)
        return await calls.patch(EVENTS, name_of(wanted), namespace_of(wanted), build_repeat_patch(live.uid, wanted))

    # --- rights ----------------------------------------------------------------------------------------------------
    async def _tell_when_forbidden(self) -> None:
        """Say once on the binding that the lender does not let us read Events; it works without."""
        while not isinstance(self.said.last_error, Forbidden):
            await asyncio.sleep(LOOK)
        pairing = self._pairing
        mount, why = pairing.physical.mount_namespace, str(self.said.last_error)
        log.info("events cannot be mirrored", binding=pairing.binding_name, why=why)
        binding = pairing.virtual.bindings.store.object(ObjectKey("", pairing.binding_name))
        if binding is not None:
            pairing.events.event(
                binding, "Normal", NOT_MIRRORED,
                f"Pods run, but the lender does not let us read Events in namespace {mount}: `kubectl describe pod` lacks what "
                f"kubelets say; he can grant it with `kubeocean rbac --mount-namespace {mount}`",
            )


def _summarise(event: Json) -> SaidOfTwin:
    about = event["involvedObject"]
    return SaidOfTwin(ObjectKey(about.get("namespace") or "", about["name"]), about["uid"], event.get("type") == WARNING)


def _only_fingerprint(event: Json) -> Json:
    metadata = {key: event["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
    return {"metadata": metadata, "fingerprint": fingerprint(event)}
