"""A cache of one resource that is kept true by a watch, and tells what changed.

watch line → decode → `transform` (drop what nobody reads) → store → handlers (sync: they turn a change into a key).

Two promises besides the cache itself:

*Read your writes.* A watch of one resource tells changes in order of resourceVersion, so once `latest_revision` has
reached the revision our write returned, the cache shows that write or something newer (`passed`, `when_passed`).

*Proof of deletion.* That an object is missing here proves nothing: a selector or a gap may hide it. That the server
said DELETED for its uid on a watch without selectors, or with one that selects for life, does (`was_deleted`).

A list that comes after a gap is applied object by object as it arrives and only what it did not name is dropped at its
end, so nothing is ever missing in between; handlers hear of the differences only.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Mapping
from heapq import heappop, heappush
from itertools import count
from typing import Generic, NoReturn, TypeVar

import structlog
from prometheus_client import Counter, Gauge

from kubeocean.kube.codec import strip_managed_fields
from kubeocean.kube.listwatch import Timing
from kubeocean.kube.meta import Json, ObjectKey, revision
from kubeocean.kube.reflector import Reflector, WatchClient
from kubeocean.kube.resources import Resource
from kubeocean.kube.skim import Skimmer
from kubeocean.kube.store import Entry, Indexer, Store

S = TypeVar("S")
Handler = Callable[[Entry[S] | None, Entry[S] | None], None]

_log = structlog.get_logger(__name__)
_REMEMBERED_DELETIONS = 8192

_EVENTS = Counter("informer_events_total", "Changes taken from watches and lists.", ["informer"])
_PASSED_OVER = Counter("informer_events_passed_over_total", "Changes that cannot concern us, not even decoded.", ["informer"])
_LISTS = Counter("informer_lists_total", "Complete lists; beyond the first, the watch lost its place.", ["informer"])
_BROKEN = Counter("informer_callback_errors_total", "Exceptions of transforms, summaries and handlers.", ["informer"])
_OBJECTS = Gauge("informer_objects", "Objects in the store.", ["informer"])


class Informer(Generic[S]):
    """Watches `resource` and keeps `store`. Selectors are Kubernetes' text; "" selects all.

    To a selector that no longer selects an object the server says DELETED, too. `selected_for_life` promises that this one
    does so until the object's end, so that DELETED proves it.

    With `topic_of` handlers may ask for one topic: where each of a hundred bindings has its handlers, an event is not told to
    all of them. It may say something else of the same summary later.

    `transform` may change the object it gets in place and returns what to keep, None for nothing; managedFields are
    gone already. What `skimmer` calls foreign is not even decoded; so `transform` must keep nothing of that, and what it has
    kept once it must keep until the object's end. `summarise` and `indexers` must be pure. None of them may be slow: they
    run for every event.
    """

    def __init__(
        self, client: WatchClient, resource: Resource, *, namespace: str = "", label_selector: str = "",
        field_selector: str = "", transform: Callable[[Json], Json | None] | None = None,
        summarise: Callable[[Json], S], indexers: Mapping[str, Indexer[S]] | None = None, keep_raw: bool = False,
        name: str = "", timing: Timing | None = None, skimmer: Skimmer | None = None, selected_for_life: bool = False,
        topic_of: Callable[[S], str] | None = None, place_is_gone: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self.name = name or resource.plural
        self.resource = resource
        self.store: Store[S] = Store(summarise=summarise, indexers=indexers, keep_raw=keep_raw)
        self.latest_revision = 0  # the server has told us all there was up to here
        self._transform = transform
        self._topic_of = topic_of
        self._handlers: dict[str, list[Handler[S]]] = {}  # by topic, "" for all; lists are replaced, never changed
        self._named: set[ObjectKey] | None = None  # what the list in progress has named so far; None between lists
        self._synced = asyncio.Event()
        self._waiting: list[tuple[int, int, Callable[[], None]]] = []  # heap by revision; the number keeps it stable
        self._order = count()
        self._proves_deletion = selected_for_life or not (label_selector or field_selector)
        self._gone: dict[str, bool] = {}  # uid -> whether the server said DELETED and meant it; oldest first
        self._mourners: dict[str, list[Callable[[], None]]] = {}
        self._reflector = Reflector(
            client, resource, self, namespace=namespace, label_selector=label_selector, field_selector=field_selector,
            timing=timing, skimmer=skimmer, place_is_gone=place_is_gone,
        )
        self._count_event = _EVENTS.labels(self.name).inc
        self._count_passed_over = _PASSED_OVER.labels(self.name).inc
        self._count_list = _LISTS.labels(self.name).inc
        self._count_broken = _BROKEN.labels(self.name).inc
        store = weakref.ref(self.store)
        _OBJECTS.labels(self.name).set_function(lambda: float(len(kept)) if (kept := store()) is not None else 0.0)

    # -- for those who read ------------------------------------------------------------------------------------------

    @property
    def has_synced(self) -> bool:
        """Tell whether the store has been complete at least once."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Return once the store has been complete."""
        await self._synced.wait()

    @property
    def is_listing(self) -> bool:
        """Tell whether what handlers hear now comes of a list: it may have happened long ago."""
        return self._named is not None

    @property
    def last_activity(self) -> float:
        """Return the loop time of the last byte from the server, -inf before the first."""
        return self._reflector.last_activity

    @property
    def consecutive_failures(self) -> int:
        """Return how many requests in a row have failed; 0 while the watch is well."""
        return self._reflector.machine.consecutive_failures

    @property
    def last_error(self) -> Exception | None:
        """Return what the last of the consecutive failures was, None while the watch is well."""
        return self._reflector.machine.last_error

    def add_handler(self, handler: Handler[S], topic: str = "") -> None:
        """Call `handler(old, new)` for every change, on the loop; at once `(None, entry)` for all that is known.

        With a `topic` it hears of that one only, and of what is on a topic that nobody asks for.

        `old` is None for an object that is new, `new` for one that is gone; two different uids mean that it was
        replaced behind our back. What a handler raises is logged and counted, and harms nobody else.
        """
        self._handlers[topic] = [*self._handlers.get(topic, ()), handler]
        for entry in self.store.entries():
            if not topic or self._topic(entry) in ("", topic):
                self._call(handler, None, entry)

    def remove_handler(self, handler: Handler[S]) -> None:
        """Stop calling `handler`, even when one is being called right now; one that was not added is no error."""
        left = {topic: [kept for kept in handlers if kept != handler] for topic, handlers in self._handlers.items()}
        self._handlers = {topic: handlers for topic, handlers in left.items() if handlers}

    def passed(self, revision: int) -> bool:
        """Tell whether the store shows everything up to `revision`."""
        return self.latest_revision >= revision

    def when_passed(self, revision: int, callback: Callable[[], None]) -> None:
        """Call `callback` once, on the loop, as soon as the store shows everything up to `revision` (it may be now)."""
        if self.latest_revision >= revision:
            callback()
        else:
            heappush(self._waiting, (revision, next(self._order), callback))

    def was_deleted(self, uid: str) -> bool:
        """Tell whether the server itself said that the object of this uid is deleted. False proves nothing."""
        return self._gone.get(uid, False)

    def dropped(self, uid: str) -> bool:
        """Tell whether the object of this uid has left the store lately, for whatever reason."""
        return uid in self._gone

    def when_dropped(self, uid: str, callback: Callable[[], None]) -> None:
        """Call `callback` once, on the loop, as soon as the object of this uid has left the store (it may be now)."""
        if uid in self._gone:
            callback()
        else:
            self._mourners.setdefault(uid, []).append(callback)

    async def run(self) -> NoReturn:
        """Keep the store true until cancelled. May be run again after that: it resumes where it was."""
        await self._reflector.run()

    def resume(self) -> None:
        """See Reflector."""
        self._reflector.resume()

    # -- for the reflector (listwatch.Sink) --------------------------------------------------------------------------

    def list_begins(self) -> None:
        """See listwatch.Sink."""
        self._named = set()

    def put(self, obj: Json) -> None:
        """See listwatch.Sink."""
        strip_managed_fields(obj)
        metadata = obj["metadata"]
        key = ObjectKey(metadata.get("namespace") or "", metadata["name"])
        told = revision(metadata.get("resourceVersion") or "")
        old = self.store.get(key)
        news = True
        if self._named is not None:
            self._named.add(key)
            if old is not None and old.revision == told and old.uid == metadata.get("uid"):
                news = False
        elif old is not None and told <= old.revision and old.uid == metadata.get("uid"):
            news = False  # told twice
        if news:
            self._count_event()
            self._take(key, old, obj)
        if self._named is None:
            self.advance(told)

    def delete(self, obj: Json) -> None:
        """See listwatch.Sink."""
        metadata = obj["metadata"]
        key = ObjectKey(metadata.get("namespace") or "", metadata["name"])
        uid: str = metadata.get("uid") or ""
        self._count_event()
        if self._proves_deletion:
            self._remember(uid, proved=True)
        old = self.store.get(key)
        if old is not None and old.uid == uid:
            self._drop(key)
        else:
            self._mourn(uid)  # kept out of the store by the transform, yet somebody may wait for its end
        if self._named is None:
            self.advance(revision(metadata.get("resourceVersion") or ""))

    def list_ends(self, revision: int) -> None:
        """See listwatch.Sink."""
        named = self._named or set()
        self._named = None
        for key in [entry.key for entry in self.store.entries() if entry.key not in named]:
            self._drop(key)
        self._count_list()
        # Not the maximum: a list is the truth even when a restored etcd counts from an earlier revision again.
        self.latest_revision = 0
        self._synced.set()
        self.advance(revision)

    def advance(self, revision: int) -> None:
        """See listwatch.Sink."""
        if revision > self.latest_revision:
            self.latest_revision = revision
            while self._waiting and self._waiting[0][0] <= revision:
                self._safely(heappop(self._waiting)[2])

    def pass_over(self, revision: int) -> None:
        """See listwatch.Sink."""
        self._count_passed_over()
        self.advance(revision)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _take(self, key: ObjectKey, old: Entry[S] | None, obj: Json) -> None:
        try:
            kept = self._transform(obj) if self._transform is not None else obj
            new = self.store.put(kept) if kept is not None else None
        except Exception:
            # Our own bug must not look like a deletion: what was known before stays.
            self._count_broken()
            _log.exception("object cannot be taken into the store", informer=self.name, object=str(key))
            return
        if new is None:
            if old is not None:
                self._drop(key)
        else:
            if old is None:
                self._gone.pop(new.uid, None)  # only selected out for a while
            self._notify(old, new)
            if old is not None and old.uid != new.uid:  # its end fell into a gap of the watch
                self._remember(old.uid, proved=False)
                self._mourn(old.uid)

    def _drop(self, key: ObjectKey) -> None:
        old = self.store.remove(key)
        if old is not None:
            self._remember(old.uid, proved=False)
            self._notify(old, None)
            self._mourn(old.uid)

    def _mourn(self, uid: str) -> None:
        if self._mourners:
            for callback in self._mourners.pop(uid, ()):
                self._safely(callback)

    def _remember(self, uid: str, *, proved: bool) -> None:
        self._gone[uid] = proved or self._gone.get(uid, False)
        if len(self._gone) > _REMEMBERED_DELETIONS:
            del self._gone[next(iter(self._gone))]

    def _notify(self, old: Entry[S] | None, new: Entry[S] | None) -> None:
        topics = {self._topic(entry) for entry in (old, new) if entry is not None}
        for topic in list(self._handlers) if "" in topics else ["", *topics]:
            for handler in self._handlers.get(topic, ()):
                self._call(handler, old, new)

    def _topic(self, entry: Entry[S]) -> str:
        """Return what an object is about, "" when nobody asks for that in particular: then all hear of it."""
        topic = self._topic_of(entry.summary) if self._topic_of else ""
        return topic if topic in self._handlers else ""

    def _call(self, handler: Handler[S], old: Entry[S] | None, new: Entry[S] | None) -> None:
        try:
            handler(old, new)
        except Exception:
            self._count_broken()
            entry = new or old
            _log.exception("handler failed", informer=self.name, object=str(entry.key) if entry else "")

    def _safely(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            self._count_broken()
            _log.exception("callback failed", informer=self.name)
