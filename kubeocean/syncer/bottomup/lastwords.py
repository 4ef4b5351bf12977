"""What twins said last before they went.

A kubelet writes how a Pod ended and removes it in the next moment; an eviction, a garbage collector or a Job's clean-up may
do so just as fast. The pass that these events lead to finds the twin gone already. So its last state is kept until that pass:
a Pod that succeeded must not be called lost because its end was told twice in one breath.
"""

from __future__ import annotations

from kubeocean.clusters.podsummary import PhysicalPod
from kubeocean.kube.meta import Json
from kubeocean.kube.store import Entry

_MOST = 1024  # twins; they are heard within moments, but not those of Pods that went before them


class LastWords:
    """The last state of twins that left the cache, by the uid of their virtual Pod."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry[PhysicalPod]] = {}

    def note(self, entry: Entry[PhysicalPod]) -> None:
        """Keep the state of a twin that has just left the cache."""
        if entry.summary.virtual_uid:
            self._entries[entry.summary.virtual_uid] = entry
            if len(self._entries) > _MOST:
                del self._entries[next(iter(self._entries))]

    def of(self, virtual_uid: str, twin_uid: str) -> Json | None:
        """Return the last state of a Pod's twin; None if nothing is known of it. `twin_uid` may be ""."""
        entry = self._entries.get(virtual_uid)
        return entry.object() if entry and twin_uid in ("", entry.uid) else None

    def forget(self, virtual_uid: str) -> None:
        """Drop the last state of a Pod's twin: it is written, or nobody is to know it."""
        self._entries.pop(virtual_uid, None)
