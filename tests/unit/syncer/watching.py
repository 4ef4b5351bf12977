"""Watches of a `world.Server`, for informers that a part makes and runs itself. Selectors count, and what is asked for.

    cluster.watches = cast(Client, Watches(server))      # World does it for both clusters
"""

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import orjson

from kubeocean.clusters.virtual import BOUND
from kubeocean.kube.errors import Gone
from kubeocean.kube.meta import Json, ObjectKey, key_of, labels_of
from kubeocean.kube.resources import Resource

DELAY = 0.005  # seconds from a write to its event
BOOKMARKS = 60.0  # seconds between them on a quiet watch
Watcher = Callable[[Resource, Json, bool], None]


class Watched(Protocol):
    """What is needed of a server."""

    objects: dict[tuple[str, ObjectKey], Json]
    watchers: list[Watcher]

    def admit(self, verb: str, plural: str) -> None:
        """Raise Forbidden when that is not granted."""


def selects(selector: str, labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector of the forms `key=value` and `!key` holds."""
    for part in filter(None, selector.split(",")):
        key, equals, value = part.lstrip("!").partition("=")
        if part.startswith("!") == (key in labels) or (equals and labels.get(key) != value):
            return False
    return True


class Watches:
    """Stands in for the Client that a cluster watches with."""

    cluster = "in memory"

    def __init__(self, server: Watched) -> None:
        self.server = server
        self.opened: list[tuple[str, bool]] = []  # path, metadata only

    @asynccontextmanager
    async def stream(
        self, path: str, params: Mapping[str, str], *, metadata_only: bool = False
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self.opened.append((path, metadata_only))
        self.server.admit("watch", path.rpartition("/")[2])
        if "resourceVersion" in params:
            raise Gone("no history is kept", status=410, reason="Expired")
        stream = _Stream(path, params, metadata_only=metadata_only)
        stream.begin(self.server)
        self.server.watchers.append(stream.changed)
        try:
            yield stream.chunks()
        finally:
            self.server.watchers.remove(stream.changed)

    async def list(self, *_: object, **__: object) -> Any:
        raise AssertionError("streaming lists are never refused here")

    async def close(self) -> None:
        """Nothing is open."""


class _Stream:
    """One watch: what it shows, in order, each thing a moment after it happened."""

    def __init__(self, path: str, params: Mapping[str, str], *, metadata_only: bool) -> None:
        *place, self._plural = path.split("/")
        self._namespace = place[-1] if place[-2] == "namespaces" else ""
        self._labels, self._fields = params.get("labelSelector", ""), params.get("fieldSelector", "")
        self._metadata_only = metadata_only
        self._shown: set[ObjectKey] = set()
        self._latest = "0"
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    def begin(self, server: Watched) -> None:
        found = [obj for (plural, _), obj in server.objects.items() if plural == self._plural and self._selects(obj)]
        for obj in found:
            self._shown.add(key_of(obj))
            self._say("ADDED", copy.deepcopy(obj))
        self._latest = str(max((int(obj["metadata"]["resourceVersion"]) for obj in server.objects.values()), default=0))
        end = {"resourceVersion": self._latest, "annotations": {"k8s.io/initial-events-end": "true"}}
        self._say("BOOKMARK", {"metadata": end})

    def changed(self, resource: Resource, obj: Json, gone: bool) -> None:
        key, self._latest = key_of(obj), obj["metadata"]["resourceVersion"]
        if resource.plural != self._plural:
            return
        if not gone and self._selects(obj):
            self._say("MODIFIED" if key in self._shown else "ADDED", obj)
            self._shown.add(key)
        elif key in self._shown:
            self._shown.remove(key)
            self._say("DELETED", obj)

    def _selects(self, obj: Json) -> bool:
        named = not self._fields.startswith("metadata.name=") or self._fields == f"metadata.name={key_of(obj).name}"
        bound = self._fields != BOUND or bool(obj["spec"].get("nodeName"))
        return named and bound and self._namespace in ("", key_of(obj).namespace) and selects(self._labels, labels_of(obj))

    def _say(self, kind: str, obj: Json) -> None:
        told = {"metadata": obj["metadata"]} if self._metadata_only else obj
        due = asyncio.get_running_loop().time() + DELAY
        self._queue.put_nowait((due, orjson.dumps({"type": kind, "object": told}) + b"\n"))

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(BOOKMARKS):  # wait_for of Python 3.11 loses a cancellation that meets a line
                    due, line = await self._queue.get()
            except TimeoutError:
                self._say("BOOKMARK", {"metadata": {"resourceVersion": self._latest}})
                continue
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            yield line
