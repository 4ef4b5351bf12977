"""Events: what happened to an object, where `kubectl describe` shows it. Best effort, and never in anybody's way.

`EventRecorder.event` only puts a line into memory; `run` writes. Lines about the same object, reason and message meet
in three places: waiting ones are counted together, so a storm of one sentence is one write; one that was written within
the last 10 minutes is counted up by a PATCH; only then a new Event is created. The waiting room and the memory are
bounded, the pace is limited, and whatever goes wrong drops the line (and counts it): no pass may fail for an Event.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, Protocol

import structlog
from prometheus_client import Counter

from kubeocean.kube.errors import KubeError, NotFound, NotLeading
from kubeocean.kube.meta import Json, format_time
from kubeocean.kube.resources import EVENTS, Resource
from kubeocean.kube.tokenbucket import TokenBucket

DROPPED = Counter("event_recorder_dropped_total", "Events that were not written, by why.", ("why",))
WAITING = 1000  # different lines that may wait
REMEMBERED = 4096  # written Events that can still be counted up
WINDOW = timedelta(minutes=10)  # how long they can; client-go's aggregation interval
PACE, BURST = 10.0, 50  # writes per second
LONGEST_MESSAGE = 1024  # characters; the API server refuses more
LONGEST_NAME = 230  # of the object's name within the Event's, which ends in a dot and 16 hex digits (253 in all)

Kind = Literal["Normal", "Warning"]
_log = structlog.get_logger(__name__)


class Line(NamedTuple):
    """One sentence about one object; equal lines are counted, not repeated."""

    api_version: str
    object_kind: str
    namespace: str
    name: str
    uid: str
    kind: str
    reason: str
    message: str


@dataclass(slots=True)
class _Written:
    """An Event in the cluster: its name, how often it happened, and when we last said so."""

    name: str
    count: int
    at: datetime


class EventClient(Protocol):
    """The part of Client that events need."""

    async def create(self, resource: Resource, obj: Json) -> Json:
        """Create an Event."""

    async def patch(self, resource: Resource, name: str, namespace: str, patch: Json) -> Json:
        """Merge-patch an Event."""


class EventRecorder:
    """Collects Events and writes them in the background; `component` says who speaks, `clock` is the wall clock."""

    def __init__(
        self, client: EventClient, *, component: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._client = client
        self._component = component
        self._clock = clock
        self._waiting: OrderedDict[Line, int] = OrderedDict()
        self._written: OrderedDict[Line, _Written] = OrderedDict()
        self._serial = 0
        self._wake = asyncio.Event()
        self._bucket = TokenBucket(PACE, BURST)

    def event(self, regarding: Json, kind: Kind, reason: str, message: str) -> None:
        """Say something about `regarding` (an object, or a reference with kind, name, namespace, uid). Never raises."""
        try:
            line = _line(regarding, kind, reason, message)
        except (KeyError, TypeError, AttributeError):
            self._drop("unnamed", reason)
            return
        if line not in self._waiting and len(self._waiting) >= WAITING:
            self._drop("overflow", reason)
            return
        self._waiting[line] = self._waiting.get(line, 0) + 1
        self._wake.set()

    async def run(self) -> None:
        """Write what was said, for ever; cancel to stop (what still waits is lost)."""
        while True:
            await self._wake.wait()
            while self._waiting:
                await self._bucket.take()
                await self._write(*self._waiting.popitem(last=False))
            self._wake.clear()

    async def _write(self, line: Line, times: int) -> None:
        try:
            await self._count_up(line, times)
        except NotLeading:
            self._drop("not-leading", line.reason)
        except KubeError as error:
            self._drop("failed", line.reason, str(error))
        except Exception as error:  # a defect here must not end the program whose events these are
            _log.exception("event not written", reason=line.reason, error=str(error))
            self._drop("failed", line.reason)

    async def _count_up(self, line: Line, times: int) -> None:
        now = self._clock()
        self._forget(now)
        known = self._written.get(line)
        if known is not None:
            patch = {"count": known.count + times, "lastTimestamp": format_time(now)}
            try:
                await self._client.patch(EVENTS, known.name, _namespace(line), patch)
            except NotFound:
                del self._written[line]  # its time to live (an hour by default) was shorter than ours
            else:
                known.count, known.at = known.count + times, now
                self._written.move_to_end(line)
                return
        # Nanoseconds in hex make the name unique, as in client-go; the maximum does so when the clock stands still.
        self._serial = max(self._serial + 1, int(now.timestamp() * 1e9))
        event = _build(line, times, now, self._component, self._serial)
        await self._client.create(EVENTS, event)
        self._written[line] = _Written(event["metadata"]["name"], times, now)

    def _forget(self, now: datetime) -> None:
        """Drop what can no longer be counted up, the oldest first."""
        while self._written:
            line, oldest = next(iter(self._written.items()))
            if len(self._written) <= REMEMBERED and now - oldest.at <= WINDOW:
                return
            del self._written[line]

    def _drop(self, why: str, reason: str, error: str = "") -> None:
        DROPPED.labels(why).inc()
        _log.debug("event dropped", why=why, reason=reason, error=error)


def _line(regarding: Json, kind: Kind, reason: str, message: str) -> Line:
    named = regarding.get("metadata", regarding)
    if len(message) > LONGEST_MESSAGE:
        message = message[: LONGEST_MESSAGE - 1] + "…"
    return Line(
        regarding.get("apiVersion") or "", regarding["kind"], named.get("namespace") or "", named["name"],
        named.get("uid") or "", kind, reason, message,
    )


def _namespace(line: Line) -> str:
    """Return where the Event lives: beside its object; a cluster-scoped object's in "default" (core/v1 validation)."""
    return line.namespace or "default"


def _build(line: Line, times: int, now: datetime, component: str, serial: int) -> Json:
    moment = format_time(now)
    regarding = {
        "apiVersion": line.api_version, "kind": line.object_kind, "namespace": line.namespace, "name": line.name,
        "uid": line.uid,
    }
    return {
        "apiVersion": EVENTS.api_version, "kind": EVENTS.kind,
        "metadata": {"namespace": _namespace(line), "name": f"{line.name[:LONGEST_NAME].rstrip('.-')}.{serial:016x}"},
        "involvedObject": {key: value for key, value in regarding.items() if value},
        "type": line.kind, "reason": line.reason, "message": line.message, "count": times,
        "firstTimestamp": moment, "lastTimestamp": moment,
        "source": {"component": component}, "reportingComponent": component,
    }
