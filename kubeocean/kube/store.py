"""The last known state of one resource, readable without waiting.

Ten thousand Pods as decoded dicts cost 300–400 MB and most of a second per garbage collection. So an entry is a small
frozen head (key, uid, revision and a `summary` the owner chose: what its controllers look at on every pass) and the
object itself, kept either as the dict (small kinds) or as JSON bytes that are decoded only when somebody asks
(`keep_raw`, large kinds). Readers share what they get and must not change it.

Only the informer writes; everything happens on the event loop's thread, so there are no locks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from kubeocean.kube.codec import decode, encode
from kubeocean.kube.meta import Json, ObjectKey, revision

S = TypeVar("S")

Indexer = Callable[[ObjectKey, S], Iterable[str]]


@dataclass(frozen=True, slots=True, eq=False)
class Entry(Generic[S]):
    """One object as last seen; `revision` is its resourceVersion as a number. Entries are equal only if identical."""

    key: ObjectKey
    uid: str
    revision: int
    summary: S
    kept: bytes | Json

    def object(self) -> Json:
        """Return the whole object: decoded anew when only its bytes are kept, else shared. Never change it."""
        kept = self.kept
        if isinstance(kept, bytes):
            return decode(kept)
        return kept


class Store(Generic[S]):
    """Entries by key and by index value. `summarise` and the indexers must be pure: they are asked again to undo."""

    def __init__(
        self, *, summarise: Callable[[Json], S], indexers: Mapping[str, Indexer[S]] | None = None,
        keep_raw: bool = False,
    ) -> None:
        self._summarise = summarise
        self._keep_raw = keep_raw
        self._entries: dict[ObjectKey, Entry[S]] = {}
        self._indexers = tuple((indexers or {}).values())
        # Per index: value -> keys. A dict serves as an ordered set, so answers come in a stable order.
        self._buckets: dict[str, dict[str, dict[ObjectKey, None]]] = {name: {} for name in indexers or {}}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: ObjectKey) -> Entry[S] | None:
        """Return the entry, None when the object is not known."""
        return self._entries.get(key)

    def object(self, key: ObjectKey) -> Json | None:
        """Return the whole object, None when it is not known. Never change it."""
        entry = self._entries.get(key)
        return entry.object() if entry is not None else None

    def by_index(self, index: str, value: str) -> list[Entry[S]]:
        """Return the entries for which indexer `index` named `value`. KeyError when there is no such index."""
        return [self._entries[key] for key in self._buckets[index].get(value, ())]

    def entries(self) -> list[Entry[S]]:
        """Return all entries as they are now; the list is the caller's."""
        return list(self._entries.values())

    def keys(self) -> list[ObjectKey]:
        """Return all keys as they are now; the list is the caller's."""
        return list(self._entries)

    def put(self, obj: Json, raw: bytes | None = None) -> Entry[S]:
        """Add or replace `obj`, whose JSON may be at hand in `raw`. For the informer only.

        Whatever `summarise` or an indexer raises comes out before anything has changed.
        """
        metadata = obj["metadata"]
        key = ObjectKey(sys.intern(metadata.get("namespace") or ""), metadata["name"])
        old = self._entries.get(key)
        if old is not None:
            key = old.key  # one tuple for as long as the object lives, not one per update
        kept: bytes | Json = _exactly(raw if raw is not None else encode(obj)) if self._keep_raw else obj
        rv = revision(metadata.get("resourceVersion") or "")
        entry = Entry(key, metadata.get("uid") or "", rv, self._summarise(obj), kept)
        if self._indexers:
            self._reindex(key, old, entry)
        self._entries[key] = entry
        return entry

    def remove(self, key: ObjectKey) -> Entry[S] | None:
        """Forget the object and return its last entry, None when it was not known. For the informer only."""
        old = self._entries.get(key)
        if old is not None:
            if self._indexers:
                self._reindex(key, old, None)
            del self._entries[key]
        return old

    def _reindex(self, key: ObjectKey, old: Entry[S] | None, new: Entry[S] | None) -> None:
        # All indexers are asked before any bucket changes, so one that raises leaves the indexes whole.
        asked = [(self._values(indexer, old), self._values(indexer, new)) for indexer in self._indexers]
        for buckets, (before, after) in zip(self._buckets.values(), asked, strict=True):
            if before == after:
                continue
            for value in before - after:
                bucket = buckets[value]
                del bucket[key]
                if not bucket:
                    del buckets[value]
            for value in after - before:
                buckets.setdefault(value, {})[key] = None

    @staticmethod
    def _values(indexer: Indexer[S], entry: Entry[S] | None) -> frozenset[str]:
        return frozenset(indexer(entry.key, entry.summary)) if entry is not None else frozenset()


def _exactly(raw: bytes) -> bytes:
    """Return a copy that holds no more memory than it has bytes: orjson's own buffers keep up to four times that."""
    return bytes(memoryview(raw))
