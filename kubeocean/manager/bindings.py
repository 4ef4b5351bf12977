"""Keeps every ClusterBinding in order: validated, connected, served by a syncer, and truthful about it.

Flow: a binding, its Secret or its syncer changes -> its *name* is queued -> the pass gathers facts (is the spec valid, does
another binding hold the clusterID, what did the physical cluster answer, how is the syncer) -> `domain.bindingstatus` decides
-> finalizer, syncer, status: each written only if it differs. A connection is looked at again when the Secret or the spec
changed and every half minute besides; a failing one after 2 s, then ever more slowly, up to five minutes.

Deletion: the syncer cleans up behind itself and drops its finalizer; only then the manager stops it and drops its own. When
the cluster is gone for good, `deletionPolicy: Force` (or the annotation of that name) lets go of what is left there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic

import structlog

from kubeocean.api import names
from kubeocean.api.binding import ClusterBindingSpec, parse_binding
from kubeocean.api.model import InvalidObject
from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.clusters.permissions import KnownRights
from kubeocean.clusters.secretwatch import SecretWatch
from kubeocean.clusters.virtual import VirtualCluster
from kubeocean.domain.bindingstatus import (
    CONNECTIVITY_FAILED,
    BindingFacts,
    Connection,
    Verdict,
    decide_binding,
    diff_status,
    find_duplicate,
)
from kubeocean.kube.backoff import Backoff
from kubeocean.kube.controller import Controller, Result
from kubeocean.kube.errors import NotFound
from kubeocean.kube.events import EventRecorder, Kind
from kubeocean.kube.meta import Json, ObjectKey, finalizers_of, is_deleting, name_of, resource_version_of
from kubeocean.kube.store import Entry
from kubeocean.manager import metrics
from kubeocean.manager.connection import check_connection
from kubeocean.manager.launcher import Launcher

RECHECK = 30.0  # seconds between looks at a healthy cluster
LOOK_SOON = 0.5  # seconds from a syncer's trouble, or the end of it, to a look of our own
RETRY = Backoff(base=2.0, cap=300.0, jitter=0.0)  # between looks at a failing one; the delay is asked for more than once

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Watched:
    """What the manager remembers of one binding between passes; all of it can be learnt again."""

    secret: SecretWatch
    task: asyncio.Task[None]
    connection: Connection | None = None
    looked_at: float = 0.0  # monotonic
    looked_for: tuple[str, str] = ("", "")  # what the connection was checked with
    failures: int = 0
    stale: bool = field(default=True)  # the Secret changed since the last look
    trouble: str = ""  # the syncer's, as last heard
    rights: KnownRights = field(default_factory=KnownRights)


class BindingController:
    """Reconciles ClusterBindings by name."""

    def __init__(
        self, virtual: VirtualCluster, launcher: Launcher, events: EventRecorder, *, user_agent: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._virtual, self._launcher, self._events = virtual, launcher, events
        self._user_agent, self._clock = user_agent, clock
        self._watched: dict[str, _Watched] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self.controller: Controller[str] = Controller("clusterbinding", self.reconcile, workers=16)

    async def run(self) -> None:
        """Work until cancelled; then every syncer that was started is stopped."""
        self._virtual.bindings.add_handler(self._binding_changed)
        metrics.show_bindings(self._count)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                await self.controller.run()
        finally:
            self._virtual.bindings.remove_handler(self._binding_changed)
            self._watched.clear()

    def _binding_changed(self, old: Entry[None] | None, new: Entry[None] | None) -> None:
        for entry in (old, new):
            if entry:
                self.controller.enqueue(entry.key.name)
        if new is None and old is not None:
            # A clusterID became free: a binding that was refused as its duplicate may be served now.
            for entry in self._virtual.bindings.store.entries():
                self.controller.enqueue(entry.key.name)

    def _count(self, phase: str) -> int:
        bindings = (entry.object() for entry in self._virtual.bindings.store.entries())
        return sum((binding.get("status") or {}).get("phase") == phase for binding in bindings)

    def syncer_changed(self, name: str) -> None:
        """Tell what a syncer says about itself at once, and look soon for ourselves when its trouble came, changed or went."""
        state, watched = self._launcher.state(name), self._watched.get(name)
        trouble = state.reason if state else ""
        if watched and watched.trouble != trouble:
            watched.trouble, watched.failures, watched.looked_at = trouble, 0, monotonic() - RECHECK + LOOK_SOON
        self.controller.enqueue(name)

    def proxier_changed(self, name: str) -> None:
        """Tell anew how the binding's virtual nodes are served."""
        self.controller.enqueue(name)

    async def reconcile(self, name: str) -> Result:
        """Bring one binding one step further; returns when to look at it again."""
        binding = self._virtual.bindings.store.object(ObjectKey("", name))
        if binding is None:
            await self._forget(name)
            metrics.forget_binding(name)
            return Result()
        with metrics.measured_sync(name):
            return await self._keep(name, binding)

    async def _keep(self, name: str, binding: Json) -> Result:
        if is_deleting(binding):
            return await self._unbind(binding)
        facts = await self._gather(binding)
        verdict = decide_binding(facts)
        if facts.problems or facts.duplicate_of:
            if verdict.launch:
                self._launcher.ensure(name)
            await self._write_status(facts, verdict)
            return Result()
        if await self._ensure_finalizer(binding):
            return Result()  # the write brings us back with the new resourceVersion
        if verdict.launch:
            self._launcher.ensure(name)
        await self._write_status(facts, verdict)
        return Result(self._next_look(name))

    async def _gather(self, binding: Json) -> BindingFacts:
        name = name_of(binding)
        proxier = self._launcher.proxier(name)
        try:
            spec = parse_binding(binding)
        except InvalidObject as error:
            watched = self._watched.get(name)
            return BindingFacts(
                binding, connection=watched.connection if watched else None, problems=tuple(map(str, error.problems)),
                syncer=self._launcher.state(name), proxier=proxier,
            )
        others = [entry.object() for entry in self._virtual.bindings.store.entries()]
        if duplicate := find_duplicate(binding, others):
            return BindingFacts(binding, duplicate_of=duplicate, proxier=proxier)
        connection = await self._connection(binding, spec)
        # Asked only now: the connection may have taken its time.
        return BindingFacts(
            binding, connection=connection, syncer=self._launcher.state(name), proxier=self._launcher.proxier(name)
        )

    async def _connection(self, binding: Json, spec: ClusterBindingSpec) -> Connection:
        name = name_of(binding)
        watched = self._watch(name, spec)
        known_uid = (binding.get("status") or {}).get("physicalClusterUID") or ""
        looked_for = (known_uid, spec.mount_namespace)
        if watched.connection and not watched.stale and watched.looked_for == looked_for and self._next_look(name) > 0:
            return watched.connection
        watched.stale = False
        try:
            secret = await watched.secret.read()
        except TimeoutError:
            message = f"Secret {watched.secret.reference} cannot be read: may this manager list it?"
            connection = Connection(CONNECTIVITY_FAILED, message)
        else:
            connection = await check_connection(
                spec, secret, known_uid=known_uid, rights=watched.rights, user_agent=self._user_agent
            )
        watched.connection, watched.looked_for, watched.looked_at = connection, looked_for, monotonic()
        watched.failures = watched.failures + 1 if connection.reason else 0
        return connection

    def _watch(self, name: str, spec: ClusterBindingSpec) -> _Watched:
        reference = f"{spec.secret_ref.namespace}/{spec.secret_ref.name}"
        watched = self._watched.get(name)
        if watched and watched.secret.reference == reference:
            return watched
        if watched:
            watched.task.cancel()
        assert self._tasks is not None, "reconcile runs inside run()"
        secret = SecretWatch(
            self._virtual.watches, namespace=spec.secret_ref.namespace, name=spec.secret_ref.name,
            on_change=lambda: self._secret_changed(name),
        )
        task = self._tasks.create_task(secret.run(), name=f"secret of binding {name}")
        self._watched[name] = watched = _Watched(secret, task)
        return watched

    def _secret_changed(self, name: str) -> None:
        if watched := self._watched.get(name):
            watched.stale, watched.failures = True, 0
        self.controller.enqueue(name)

    def _next_look(self, name: str) -> float:
        watched = self._watched.get(name)
        if watched is None:
            return RECHECK
        pause = RETRY.delay(watched.failures) if watched.failures else RECHECK
        return max(0.0, watched.looked_at + pause - monotonic())

    async def _ensure_finalizer(self, binding: Json) -> bool:
        if names.BINDING_MANAGER_FINALIZER in finalizers_of(binding):
            return False
        await self._patch_finalizers(binding, [*finalizers_of(binding), names.BINDING_MANAGER_FINALIZER])
        return True

    async def _patch_finalizers(self, binding: Json, finalizers: list[str]) -> None:
        name = name_of(binding)
        patch = {"metadata": {"resourceVersion": resource_version_of(binding), "finalizers": finalizers}}
        await self._patch(name, patch)

    async def _patch(self, name: str, patch: Json, *, subresource: str = "") -> None:
        try:
            written = await self._virtual.calls.patch(CLUSTERBINDINGS, name, "", patch, subresource=subresource)
        except NotFound:
            return  # its end is on its way to our cache
        self.controller.freshness.expect(name, self._virtual.bindings, written)

    async def _write_status(self, facts: BindingFacts, verdict: Verdict) -> None:
        patch = diff_status(facts, verdict, self._clock())
        if patch is None:
            return
        name, before = name_of(facts.binding), (facts.binding.get("status") or {}).get("phase")
        await self._patch(name, patch, subresource="status")
        if "phase" in patch["status"] or "lastError" in patch["status"]:
            kind: Kind = "Warning" if verdict.phase == "Failed" else "Normal"
            self._events.event(facts.binding, kind, verdict.reason, verdict.message)
            log.info("binding", binding=name, phase=verdict.phase, was=before, reason=verdict.reason, message=verdict.message)

    async def _unbind(self, binding: Json) -> Result:
        name, finalizers = name_of(binding), finalizers_of(binding)
        if names.BINDING_SYNCER_FINALIZER in finalizers:  # first: somebody may have taken ours off
            self._launcher.ensure(name)  # it alone knows what it made; it drops its finalizer when all is gone
            watched = self._watched.get(name)
            facts = BindingFacts(
                binding, connection=watched.connection if watched else None, syncer=self._launcher.state(name),
                proxier=self._launcher.proxier(name),
            )
            await self._write_status(facts, decide_binding(facts))
            return Result(RECHECK)
        await self._forget(name)
        if names.BINDING_MANAGER_FINALIZER not in finalizers:
            return Result()
        await self._patch_finalizers(binding, [item for item in finalizers if item != names.BINDING_MANAGER_FINALIZER])
        return Result()

    async def _forget(self, name: str) -> None:
        await self._launcher.stop(name)
        if watched := self._watched.pop(name, None):
            watched.task.cancel()
