"""What Pods name and does not exist: noticed the moment it appears.

Nothing is watched as long as nothing is missing. From the first time on there is one watch of the kind, metadata only: of
the objects nobody misses not even the head is kept. A key is wanted *before* the live read that may find it missing, so an
object that appears between that read and its answer is seen by one of the two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kubeocean.kube.client import Client
from kubeocean.kube.informer import Informer
from kubeocean.kube.meta import Json, ObjectKey, key_of
from kubeocean.kube.metadataonly import MetadataOnly
from kubeocean.kube.resources import Resource
from kubeocean.kube.store import Entry


class MissingWatch:
    """Calls `appeared(key)` for every wanted object that comes to be."""

    def __init__(self, client: Client, resource: Resource, appeared: Callable[[ObjectKey], None], *, name: str) -> None:
        self._wanted: set[ObjectKey] = set()
        self._started = asyncio.Event()
        self._appeared = appeared
        self._informer: Informer[None] = Informer(
            MetadataOnly(client), resource, transform=self._keep, summarise=_nothing, name=name
        )
        self._informer.add_handler(self._seen)

    def want(self, key: ObjectKey) -> None:
        """Tell of `key` from now on, if the watch is running."""
        self._wanted.add(key)

    def forget(self, key: ObjectKey) -> None:
        """Tell of `key` no more."""
        self._wanted.discard(key)

    def start(self) -> None:
        """Have the watch run: something wanted is missing."""
        self._started.set()

    async def run(self) -> None:
        """Watch until cancelled, once it is started."""
        await self._started.wait()
        await self._informer.run()

    def _keep(self, obj: Json) -> Json | None:
        metadata, kept = obj["metadata"], ("name", "namespace", "uid", "resourceVersion")
        return {"metadata": {field: metadata[field] for field in kept}} if key_of(obj) in self._wanted else None

    def _seen(self, _: Entry[None] | None, new: Entry[None] | None) -> None:
        if new and new.key in self._wanted:
            self._appeared(new.key)


def _nothing(_: Json) -> None:
    return None
