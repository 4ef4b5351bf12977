"""Read your writes: a key waits until the caches show what its last pass wrote.

A pass decides from caches. Started again before its own write has come back through the watch it would decide from the
past: create the twin a second time, patch the same field again, delete what is gone. So a pass says what it `expect`s
(the object its write returned, or the one read live after a 409), and the controller does not start the key again
before the informer has passed that revision or dropped that uid. It gives up after two seconds: a stale pass is
answered by preconditions and 409s, a pass that never comes is answered by nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from prometheus_client import Counter

from kubeocean.kube.meta import Json, revision

K = TypeVar("K", bound=Hashable)

_PATIENCE = 2.0  # seconds [design §4]
_GIVEN_UP = Counter(
    "controller_stale_cache_total", "Passes started although a cache did not show the last write.", ["controller"]
)


class Watermark(Protocol):
    """The part of an informer that tells how far it has come."""

    def passed(self, revision: int, /) -> bool:
        """See Informer."""

    def when_passed(self, revision: int, callback: Callable[[], None], /) -> None:
        """See Informer."""

    def dropped(self, uid: str, /) -> bool:
        """See Informer."""

    def when_dropped(self, uid: str, callback: Callable[[], None], /) -> None:
        """See Informer."""


class _Wait:
    """What one key waits for: per informer the highest revision, and uids that must be gone."""

    __slots__ = ("deadline", "revisions", "uids")

    def __init__(self) -> None:
        self.deadline = 0.0
        self.revisions: dict[Watermark, int] = {}
        self.uids: list[tuple[Watermark, str]] = []

    def over(self) -> bool:
        return all(informer.passed(awaited) for informer, awaited in self.revisions.items()) and all(
            informer.dropped(uid) for informer, uid in self.uids
        )

    def call_when_progress(self, callback: Callable[[], None]) -> None:
        for informer, awaited in self.revisions.items():
            informer.when_passed(awaited, callback)
        for informer, uid in self.uids:
            informer.when_dropped(uid, callback)


class Freshness(Generic[K]):
    """Which keys wait for which informers. All times are loop time, so call it on the loop."""

    def __init__(self, name: str = "", *, patience: float = _PATIENCE) -> None:
        self._patience = patience
        self._waits: dict[K, _Wait] = {}
        self._sweep_at = 1024
        self._count_given_up = _GIVEN_UP.labels(name).inc

    def expect(self, key: K, informer: Watermark, written: int | Json) -> None:
        """Hold `key` back until `informer` shows what was `written`: a revision, or what the API server answered.

        The answer to a DELETE may be a Status, which has no revision; then the uid it names must have left the cache.
        """
        uid = ""
        if isinstance(written, int):
            awaited = written
        else:
            awaited = revision((written.get("metadata") or {}).get("resourceVersion") or "")
            uid = (written.get("details") or {}).get("uid") or "" if written.get("kind") == "Status" else ""
        behind = not informer.passed(awaited)
        if not behind and (not uid or informer.dropped(uid)):
            return
        wait = self._waits.get(key)
        if wait is None:
            if len(self._waits) >= self._sweep_at:
                self._sweep()
            wait = self._waits[key] = _Wait()
        wait.deadline = asyncio.get_running_loop().time() + self._patience
        if behind:
            wait.revisions[informer] = max(awaited, wait.revisions.get(informer, 0))
        else:
            wait.uids.append((informer, uid))

    def ready(self, key: K) -> bool:
        """Tell whether `key` may run: its caches have caught up, or it has waited long enough."""
        wait = self._waits.get(key)
        if wait is None:
            return True
        if not wait.over():
            if asyncio.get_running_loop().time() < wait.deadline:
                return False
            self._count_given_up()
        del self._waits[key]
        return True

    def when_ready(self, key: K, callback: Callable[[], None]) -> None:
        """Call `callback` once, on the loop, as soon as `ready(key)` (it may be now)."""
        if self.ready(key):
            callback()
            return
        wait = self._waits[key]
        called = False

        def look() -> None:
            nonlocal called
            if not called and self.ready(key):
                called = True
                timer.cancel()
                callback()

        def expire() -> None:
            nonlocal called
            if not called:
                called = True
                self.when_ready(key, callback)  # more may have been expected meanwhile

        timer = asyncio.get_running_loop().call_at(wait.deadline, expire)
        wait.call_when_progress(look)

    def _sweep(self) -> None:
        """Drop the waits that are over: of keys that nobody ever asked for again."""
        now = asyncio.get_running_loop().time()
        self._waits = {key: wait for key, wait in self._waits.items() if now < wait.deadline and not wait.over()}
        self._sweep_at = max(1024, 2 * len(self._waits))
