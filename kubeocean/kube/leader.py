"""Exactly one replica works: leader election on a Lease, and the proof of leadership every write asks for.

A replica that holds no lease looks at it every `retry_period`. It may take over when the lease is free, is its own, or
has not changed for the holder's `leaseDurationSeconds` *by our own clock*: times written by others are never compared
with ours, so a wrong wall clock harms nobody. While it holds the lease it renews it every `retry_period`, and each
success moves `Leadership.valid_until` to `renew_deadline` after the moment *before* the renewal was sent.

Why two replicas never believe in themselves at once: the server stored the last renewal after we noted that moment, and
a rival saw it later still, and then waits the whole lease_duration, which is longer than renew_deadline. So our
valid_until lies before any takeover, whatever the network does in between. A takeover carries the resourceVersion the
rival decided on; a late renewal and a takeover cannot both succeed.

Order of ending, on loss as on shutdown: the leading work is cancelled and *awaited* first, while renewals go on if they
still can; then leadership ends; then the lease is given back (holderIdentity ""), so that a rival need not wait. Work that
has come to its own end needs no lease any more, and leaves none: it is deleted. When the leading work dies by itself, its
exception leaves run(), except NotLeading: so a write learns of the loss before us.
Work that does not end although it was cancelled would keep the lease for nothing, or do its work twice when the lease is won
again; so the process ends instead.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog
from prometheus_client import Gauge

from kubeocean.kube.errors import AlreadyExists, Conflict, Forbidden, KubeError, NotFound, NotLeading
from kubeocean.kube.meta import Json, format_micro_time, resource_version_of, uid_of
from kubeocean.kube.resources import LEASES, Resource
from kubeocean.obs.exit import exit_loudly

LEADING = Gauge("leader_election_master_status", "1 while this process holds the lease, else 0.", ("name",))
JITTER = 0.2  # of retry_period, so that replicas started together do not stay in step
STOP_DEADLINE = 20.0  # seconds that cancelled work may take to end
RELEASE_DEADLINE = 3.0  # seconds a shutdown may spend on giving the lease back

_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # the former is Linux's
_log = structlog.get_logger(__name__)


def monotonic() -> float:
    """Return seconds that never jump and also count while the machine sleeps: a suspended laptop must lose its lease.

    Not the loop's time, which uvloop caches: a hung loop has to notice that it hung.
    """
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True, slots=True)
class LeaderConfig:
    """Which Lease, who we are (unique per process), and the times in seconds.

    lease_duration: what a rival waits. renew_deadline: how long we trust our last renewal. retry_period: between calls.
    """

    namespace: str
    name: str
    identity: str
    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0

    def __post_init__(self) -> None:
        if not self.identity:
            raise ValueError("leader election needs an identity that no other process has")
        if not self.lease_duration > self.renew_deadline > self.retry_period > 0:
            raise ValueError("leader election needs lease_duration > renew_deadline > retry_period > 0")


class Leadership:
    """May we write at this moment? `valid_until` is an instant of `clock`; only the elector moves it."""

    __slots__ = ("_clock", "valid_until")

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self.valid_until = -math.inf

    @property
    def is_leading(self) -> bool:
        """Tell whether leadership is proved right now."""
        return self._clock() < self.valid_until

    def check(self) -> None:
        """Return if leadership is proved right now, else raise NotLeading. This is the guard of every mutating call."""
        if self._clock() >= self.valid_until:
            raise NotLeading("not sent: this process does not hold the lease (any more)")


def always_leading() -> Leadership:
    """Return the leadership of a process that runs alone by decree (--leader-elect=false); it never expires."""
    leadership = Leadership()
    leadership.valid_until = math.inf
    return leadership


class LeaseClient(Protocol):
    """The part of Client that an election needs; give it one of its own, so that nothing queues before a renewal."""

    async def get(self, resource: Resource, name: str, namespace: str = "", *, deadline: float = ...) -> Json:
        """Read the Lease."""

    async def create(self, resource: Resource, obj: Json, *, deadline: float = ...) -> Json:
        """Create the Lease."""

    async def update(self, resource: Resource, obj: Json, *, deadline: float = ...) -> Json:
        """Replace the Lease, if it is still at the resourceVersion that `obj` carries."""

    async def delete(
        self, resource: Resource, name: str, namespace: str = "", *, uid: str, resource_version: str = "", deadline: float = ...
    ) -> Json:
        """Delete the Lease, if it is still this one and at this resourceVersion."""


class LeaderElector:
    """Runs the leading work whenever this process holds the lease.

    leadership: hand `leadership.check` to the clients that write. give_up: called when cancelled work does not end within
    20 s, and not meant to return. clock and wall: for tests.
    """

    def __init__(
        self, client: LeaseClient, config: LeaderConfig, leadership: Leadership | None = None, *,
        clock: Callable[[], float] = monotonic, wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        give_up: Callable[[str], None] = exit_loudly,
    ) -> None:
        self.leadership = leadership or Leadership(clock)
        self._client = client
        self._config = config
        self._clock = clock
        self._wall = wall
        self._on_stuck = give_up
        self._lease: Json | None = None  # as last seen or written
        self._changed_at = -math.inf  # when we first saw its spec as it is
        self._complaint = ""
        self._gauge = LEADING.labels(config.name)
        self._log = _log.bind(lease=f"{config.namespace}/{config.name}", identity=config.identity)

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Run `lead` whenever we hold the lease: cancelled on loss, started anew when the lease is won again.

        Returns when `lead` returns, and deletes the lease then; raises what it raises (but NotLeading). Cancel to stop; the
        lease is then released.
        """
        while True:
            await self._acquire()
            if await self._lead_while_held(lead):
                return
            await self._pause()

    # --- holding -----------------------------------------------------------------------------------------------------

    async def _lead_while_held(self, lead: Callable[[], Awaitable[None]]) -> bool:
        """Tell whether the leading work came to its own end (True) or the lease was lost (False)."""
        self._gauge.set(1)
        self._log.info("leading")
        work = asyncio.create_task(_as_coroutine(lead), name=f"leading {self._config.name}")
        renewal = asyncio.create_task(self._renew_until_lost(), name=f"lease {self._config.name}")
        ended_by_itself = False
        try:
            await asyncio.wait((work, renewal), return_when=asyncio.FIRST_COMPLETED)
            ended_by_itself = work.done()
        finally:
            try:
                await self._stop(work)
            finally:
                await self._stop(renewal)
                await self._give_up(for_good=ended_by_itself and not work.cancelled() and work.exception() is None)
        return _outcome(work) and ended_by_itself

    async def _stop(self, task: asyncio.Task[None]) -> None:
        """Cancel `task` and wait for its end; how it ended is looked at elsewhere."""
        task.cancel()
        _, stuck = await asyncio.wait((task,), timeout=STOP_DEADLINE)
        if stuck:
            self._on_stuck(f"{task.get_name()} did not end within {STOP_DEADLINE:.0f} s after it was cancelled")
            await asyncio.wait((task,))

    async def _renew_until_lost(self) -> None:
        """Return when the lease is another's, or at the instant when our leadership lapses unrenewed."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.leadership.valid_until - self._clock()) as lapse:
                while True:
                    await self._pause()
                    if not await self._renew():
                        self._log.warning("leadership lost", reason="another process holds the lease")
                        return
                    lapse.reschedule(loop.time() + self.leadership.valid_until - self._clock())
        except TimeoutError:
            self._log.warning("leadership lost", reason="the lease could not be renewed in time")

    async def _renew(self) -> bool:
        """Renew once; False when the lease is seen to be another's. Failures wait for the next attempt."""
        deadline = self._config.renew_deadline / 3  # a call that hangs on a dead connection leaves time for another
        try:
            try:
                await self._write(deadline)
            except (Conflict, NotFound, AlreadyExists):
                # Somebody touched the lease, or our last answer was lost: a look tells whether it is still ours.
                await self._observe(deadline)
                if self._lease is not None and self._holder() != self._config.identity:
                    return False
                await self._write(deadline)
        except KubeError as error:
            self._log.warning("lease not renewed", error=str(error))
        return True

    async def _give_up(self, *, for_good: bool) -> None:
        """End leadership at once and give the lease back, if it is still ours, for the next to take without waiting."""
        self.leadership.valid_until = -math.inf
        self._gauge.set(0)
        try:
            try:
                await self._part_with_lease(for_good)
            except Conflict:  # the renewal that we have just cut short may have been stored all the same
                await self._observe(RELEASE_DEADLINE)
                await self._part_with_lease(for_good)
        except NotFound:
            pass  # somebody has deleted it
        except KubeError as error:
            self._log.info("lease not released; it will expire", error=str(error))
        self._lease = None

    async def _part_with_lease(self, for_good: bool) -> None:
        if self._lease is None or self._holder() != self._config.identity:
            return
        if for_good:
            uid, version = uid_of(self._lease), resource_version_of(self._lease)
            with suppress(Forbidden):  # rights of an older install; then it is left free, as for a successor
                name, namespace = self._config.name, self._config.namespace
                await self._client.delete(LEASES, name, namespace, uid=uid, resource_version=version, deadline=RELEASE_DEADLINE)
                return
        await self._client.update(LEASES, self._build(holder=""), deadline=RELEASE_DEADLINE)

    # --- acquiring ---------------------------------------------------------------------------------------------------

    async def _acquire(self) -> None:
        while not await self._try_to_acquire():
            await self._pause()

    async def _try_to_acquire(self) -> bool:
        deadline = self._config.renew_deadline / 2
        try:
            await self._observe(deadline)
            if not self._is_free():
                return False
            await self._write(deadline)
        except (Conflict, AlreadyExists):
            return False  # a rival was faster
        except KubeError as error:
            if (complaint := str(error)) != self._complaint:  # once, not every two seconds
                self._log.warning("lease not acquired", error=complaint)
            self._complaint = str(error)
            return False
        self._complaint = ""
        return self.leadership.is_leading  # a write that took longer than its own validity proves nothing

    def _is_free(self) -> bool:
        if self._lease is None or self._holder() in ("", self._config.identity):
            return True
        duration = (self._lease.get("spec") or {}).get("leaseDurationSeconds")
        waits = max(float(duration or 0), self._config.lease_duration)
        return self._clock() >= self._changed_at + waits

    async def _observe(self, deadline: float) -> None:
        """Read the lease and note when its spec last changed. None = there is none."""
        try:
            seen = await self._client.get(LEASES, self._config.name, self._config.namespace, deadline=deadline)
        except NotFound:
            self._lease = None
            return
        if self._lease is None or self._lease.get("spec") != seen.get("spec"):
            self._changed_at = self._clock()
        self._lease = seen

    # --- the lease itself --------------------------------------------------------------------------------------------

    async def _write(self, deadline: float) -> None:
        """Make the lease ours for another lease_duration; leadership counts from before the call was sent."""
        sent = self._clock()
        lease = self._build(holder=self._config.identity)
        write = self._client.update if self._lease is not None else self._client.create
        self._lease = await write(LEASES, lease, deadline=deadline)
        self.leadership.valid_until = sent + self._config.renew_deadline

    def _build(self, *, holder: str) -> Json:
        """Return the lease as it should be now; it carries the resourceVersion of the one we know, if we know one."""
        old = self._lease or {}
        spec: Json = old.get("spec") or {}
        now = format_micro_time(self._wall())
        changed = spec.get("holderIdentity") != holder
        return {
            "apiVersion": LEASES.api_version, "kind": LEASES.kind,
            "metadata": old.get("metadata") or {"namespace": self._config.namespace, "name": self._config.name},
            "spec": spec | {
                "holderIdentity": holder,
                "leaseDurationSeconds": math.ceil(self._config.lease_duration) if holder else 1,
                "acquireTime": now if changed else spec.get("acquireTime", now),
                "renewTime": now,
                "leaseTransitions": (spec.get("leaseTransitions") or 0) + (1 if changed and holder and old else 0),
            },
        }

    def _holder(self) -> str:
        return ((self._lease or {}).get("spec") or {}).get("holderIdentity") or ""

    async def _pause(self) -> None:
        await asyncio.sleep(self._config.retry_period * (1 + random.random() * JITTER))


async def _as_coroutine(lead: Callable[[], Awaitable[None]]) -> None:
    await lead()


def _outcome(work: asyncio.Task[None]) -> bool:
    """Tell whether the leading work returned; raise what it raised, unless that says only that the lease is lost."""
    if work.cancelled():
        return False
    error = work.exception()
    if error is None:
        return True
    if isinstance(error, NotLeading) or (isinstance(error, BaseExceptionGroup) and error.split(NotLeading)[1] is None):
        return False
    raise error
