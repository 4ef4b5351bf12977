"""One binding's syncer: session after session until the binding is unbound.

What a session does stands in `session`; here is when the next one begins: at once when its premises changed, after 2 s (then
ever more slowly, up to a minute, or as soon as binding or Secret change) when it failed, and never again after unbinding.
`state` says meanwhile how it stands, in words for the binding's conditions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from kubeocean.api.model import InvalidObject
from kubeocean.clusters.physical import ClusterIdentityChanged
from kubeocean.clusters.virtual import VirtualCluster
from kubeocean.domain.bindingstatus import CLUSTER_UNREACHABLE, CONNECTIVITY_FAILED, IDENTITY_CHANGED, SyncerState
from kubeocean.kube.backoff import Backoff
from kubeocean.kube.errors import KubeError, NotLeading, Unreachable
from kubeocean.kube.events import EventRecorder
from kubeocean.kube.meta import Json, is_deleting
from kubeocean.kube.store import Entry
from kubeocean.syncer.mount import MountRefused
from kubeocean.syncer.pairing import SyncerOptions
from kubeocean.syncer.session import SYNC_DEADLINE, Finished, Reconnect, Session, Surrounding

BACKOFF = Backoff(base=2.0, cap=60.0)

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
            binding_name, virtual, events, options, guard, user_agent, changed=self._changed, tell=self._become
        )

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
                    await self._pause(BACKOFF.delay(failures))
        finally:
            self._virtual.bindings.remove_handler(self._binding_changed)

    async def _session(self) -> None:
        try:
            await Session(self._given).run()
        except BaseExceptionGroup as group:
            raise _the_cause(group) from None

    def _binding_changed(self, old: Entry[None] | None, new: Entry[None] | None) -> None:
        entry = new or old
        if entry and entry.key.name == self.binding_name:
            before, after = old.object() if old else None, new.object() if new else None
            if before is None or after is None or _generation(before) != _generation(after) or is_deleting(after):
                self._changed.set()

    async def _pause(self, seconds: float) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    def _explain(self, error: Exception) -> None:
        message = str(error) or f"the physical cluster did not answer within {SYNC_DEADLINE:.0f} s"
        reason = _reason(error)
        log.warning("syncer cannot work", binding=self.binding_name, reason=reason, error=message)
        self._become(SyncerState(False, message, reason))

    def _become(self, state: SyncerState) -> None:
        if state != self.state:
            self.state = state
            self._on_change(state)


def _reason(error: Exception) -> str:
    if isinstance(error, MountRefused):
        return error.reason
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
