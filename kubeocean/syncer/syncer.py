"""One binding's syncer: session after session until the binding is unbound.

What a session does stands in `session`; here is when the next one begins: at once when its premises changed, after 2 s (then
ever more slowly, up to a minute, or soon after binding or Secret change) when it failed, and never again after unbinding.
The Secret is watched here, because it also changes between two sessions. `state` says meanwhile how it stands, in words for
the binding's conditions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from kubeocean.api.binding import SecretReference
from kubeocean.api.model import InvalidObject
from kubeocean.clusters.identity import ClusterIdentityChanged
from kubeocean.clusters.secretwatch import SecretWatch
from kubeocean.clusters.virtual import VirtualCluster
from kubeocean.domain.bindingstatus import (
    CLUSTER_UNREACHABLE,
    CONNECTIVITY_FAILED,
    IDENTITY_CHANGED,
    PERMISSION_DENIED,
    VALIDATION_FAILED,
    SyncerState,
)
from kubeocean.kube.backoff import Backoff
from kubeocean.kube.cancellation import heed_cancellation
from kubeocean.kube.errors import ConfigError, Forbidden, KubeError, NotLeading, Unauthorized, Unreachable
from kubeocean.kube.events import EventRecorder
from kubeocean.kube.meta import Json, ObjectKey, is_deleting
from kubeocean.kube.store import Entry
from kubeocean.syncer.bottomup.cutoff import cut_off
from kubeocean.syncer.mount import MountRefused
from kubeocean.syncer.pairing import SyncerOptions
from kubeocean.syncer.session import SYNC_DEADLINE, Finished, Reconnect, Session, Surrounding

BACKOFF = Backoff(base=2.0, cap=60.0)
NOT_SOONER = 1.0  # seconds from a failed attempt to the next, whatever changes

log = structlog.get_logger(__name__)


class Syncer:
    """Serves one binding until it is unbound. `on_change` is called with every new `state`."""

    def __init__(
        self, binding_name: str, virtual: VirtualCluster, events: EventRecorder, options: SyncerOptions, *,
        guard: Callable[[], None], user_agent: str, on_change: Callable[[SyncerState], None] = lambda _: None,
    ) -> None:
        self.binding_name, self.state = binding_name, SyncerState(False, "the syncer is starting")
        self._virtual, self._on_change = virtual, on_change
        self._changed = asyncio.Event()
        self._given = Surrounding(
            binding_name, virtual, events, options, guard, user_agent, changed=self._changed, secret_of=self._watch_secret,
            tell=self._become,
        )
        self._secret: SecretWatch | None = None

    async def run(self) -> None:
        """Serve the binding; returns when it is unbound or gone. NotLeading ends it, other known failures are retried."""
        self._virtual.bindings.add_handler(self._binding_changed)
        failures = 0
        try:
            while True:
                try:
                    await self._session()
                except Finished:
                    return
                except Reconnect:
                    failures = 0
                except NotLeading:
                    raise
                except (KubeError, InvalidObject, TimeoutError) as error:
                    failures += 1
                    self._explain(error)
                    if self._is_out_of_reach(error):
                        await self._cut_off()
                    await self._pause(BACKOFF.delay(failures))
        finally:
            self._virtual.bindings.remove_handler(self._binding_changed)
            if self._secret:
                self._secret.stop()

    async def _session(self) -> None:
        try:
            await Session(self._given).run()
        except BaseExceptionGroup as group:
            heed_cancellation()
            raise _the_cause(group) from None

    def _watch_secret(self, reference: SecretReference) -> SecretWatch:
        namespace, name = reference.namespace, reference.name
        if self._secret and self._secret.running and self._secret.reference == f"{namespace}/{name}":
            return self._secret
        if self._secret:
            self._secret.stop()
        self._secret = SecretWatch(self._virtual.watches, namespace=namespace, name=name, on_change=self._changed.set)
        self._secret.start()
        return self._secret

    def _binding_changed(self, old: Entry[None] | None, new: Entry[None] | None) -> None:
        if new is None:
            self._changed.set()  # whichever it was: the clusterID that it had is free now
        elif new.key.name == self.binding_name:
            before, after = old.object() if old else None, new.object()
            if before is None or _generation(before) != _generation(after) or is_deleting(after):
                self._changed.set()

    async def _pause(self, seconds: float) -> None:
        """Wait until `seconds` are over, or something has changed since the failed attempt began."""
        await asyncio.sleep(min(NOT_SOONER, seconds))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds - NOT_SOONER):
                await self._changed.wait()

    def _is_refused(self, error: Exception) -> bool:
        return isinstance(error, Forbidden) and error.cluster == self.binding_name

    def _is_out_of_reach(self, error: Exception) -> bool:
        """Tell whether it was the physical cluster, or what leads to it, that kept the session from working."""
        if isinstance(error, Unreachable | Unauthorized | Forbidden):
            return error.cluster == self.binding_name
        return isinstance(error, ConfigError | ClusterIdentityChanged | TimeoutError)

    async def _cut_off(self) -> None:
        binding = self._virtual.bindings.store.object(ObjectKey("", self.binding_name))
        cluster_id = ((binding or {}).get("spec") or {}).get("clusterID")
        try:
            if cluster_id:
                await cut_off(self._virtual, cluster_id)
        except NotLeading:
            raise
        except KubeError as error:
            log.warning("virtual nodes not cut off", binding=self.binding_name, error=str(error))

    def _explain(self, error: Exception) -> None:
        message = str(error) or f"the physical cluster did not answer within {SYNC_DEADLINE:.0f} s"
        reason = PERMISSION_DENIED if self._is_refused(error) else _reason(error)
        if self._is_refused(error):
            message += "; where a right is missing, `kubeocean rbac` prints what the lender has to grant"
        log.warning("syncer cannot work", binding=self.binding_name, reason=reason, error=message)
        self._become(SyncerState(False, message, reason))

    def _become(self, state: SyncerState) -> None:
        if state != self.state:
            self.state = state
            self._on_change(state)


def _reason(error: Exception) -> str:
    if isinstance(error, MountRefused):
        return error.reason
    if isinstance(error, InvalidObject):
        return VALIDATION_FAILED
    if isinstance(error, ClusterIdentityChanged):
        return IDENTITY_CHANGED
    return CLUSTER_UNREACHABLE if isinstance(error, Unreachable | TimeoutError) else CONNECTIVITY_FAILED


def _generation(binding: Json) -> int:
    return int(binding["metadata"].get("generation") or 0)


def _the_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one exception that ended a session: what the others are is its consequence."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop()
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            leaves.append(error)
    for kind in (NotLeading, Finished, Reconnect):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0]
