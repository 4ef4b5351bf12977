"""What the tests need of one cluster: its Pods as a watch tells them, manifests applied to it, logs, Events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final, TypeVar

from kubeocean.kube.client import Client
from kubeocean.kube.errors import ApiError, NotFound
from kubeocean.kube.informer import Informer
from kubeocean.kube.meta import Json, ObjectKey, name_of, namespace_of, uid_of
from kubeocean.kube.resources import CONFIGMAPS, EVENTS, NAMESPACES, PODS, SERVICEACCOUNTS, Resource

T = TypeVar("T")
_LOOK: Final = 0.25  # seconds between two looks at what no watch tells
_CLUSTER_SCOPED: Final = frozenset({
    "Namespace", "StorageClass", "PersistentVolume", "ClusterRole", "ClusterRoleBinding", "RuntimeClass",
})


class Cluster:
    """One cluster, watched while `watching` runs."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._changed = asyncio.Event()
        self._pods: Informer[None] = Informer(
            client, PODS, summarise=lambda _: None, indexers={"namespace": lambda key, _: (key.namespace,)},
            name=f"e2e-{client.cluster}",
        )
        self._pods.add_handler(lambda _old, _new: self._changed.set())

    async def watching(self) -> None:
        """Keep `pods` true; never returns."""
        await self._pods.run()

    def pod(self, namespace: str, name: str) -> Json | None:
        return self._pods.store.object(ObjectKey(namespace, name))

    def pods(self, namespace: str) -> list[Json]:
        return [entry.object() for entry in self._pods.store.by_index("namespace", namespace)]

    def every_pod(self) -> list[Json]:
        return [entry.object() for entry in self._pods.store.entries()]

    async def until(self, check: Callable[[], T | None], *, within: float, what: Callable[[], str]) -> T:
        """Return the first true answer of `check`, asked at every change of a Pod. `what` describes a failure."""
        give_up = time.monotonic() + within
        while not (answer := check()):
            assert time.monotonic() < give_up, f"not within {within:g} s: {what()}"
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._changed.wait()
            await asyncio.sleep(0)  # whoever waits has seen it
            self._changed.clear()
        return answer

    async def apply(self, namespace: str, objects: Iterable[Json]) -> None:
        """Create the objects, in a namespace that takes Pods."""
        for obj in objects:
            resource = resource_of(obj)
            if resource.namespaced:
                obj["metadata"]["namespace"] = namespace
            await self.client.create(resource, obj)

    async def make_namespace(self, name: str) -> None:
        await self.client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

        async def takes_pods() -> bool:
            # Both are made by kube-controller-manager; a Pod's token volume waits for the second.
            await self.client.get(SERVICEACCOUNTS, "default", name)
            await self.client.get(CONFIGMAPS, "kube-root-ca.crt", name)
            return True

        await eventually(takes_pods, within=60, what=f"namespace {name} takes Pods")

    async def log(self, pod: Json, container: str, *, previous: bool = False, or_why: bool = False) -> str:
        """Return a container's log; when there is none (yet, or any more) "", or with `or_why` what was said instead."""
        params = {"container": container} | ({"previous": "true"} if previous else {})
        try:
            path = PODS.path(namespace_of(pod), name_of(pod), "log")
            return (await self.client.raw("GET", path, params=params, deadline=30)).decode(errors="replace")
        except ApiError as error:
            return str(error) if or_why else ""

    async def follow(self, pod: Json, container: str) -> str:
        """Return a container's log once the container has ended."""
        text = b""
        path = PODS.path(namespace_of(pod), name_of(pod), "log")
        async with self.client.stream(path, {"container": container, "follow": "true"}) as chunks:
            async for chunk in chunks:
                text += chunk
        return text.decode(errors="replace")

    async def list_events(self, namespace: str, *, name: str = "", kind: str = "") -> list[Json]:
        """Return the Events of a namespace (about objects of this name, this kind), oldest first."""
        about = {"name": name, "kind": kind}
        found = [
            event for event in (await self.client.list(EVENTS, namespace)).items
            if all(value in ("", event["involvedObject"].get(field)) for field, value in about.items())
        ]
        return sorted(found, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")

    async def remove(self, obj: Json, *, grace_seconds: int | None = None) -> None:
        resource = resource_of(obj)
        with suppress(NotFound):
            await self.client.delete(
                resource, name_of(obj), namespace_of(obj), uid=uid_of(obj), grace_seconds=grace_seconds,
                propagation="Background",
            )


async def eventually(check: Callable[[], Awaitable[T]], *, within: float, what: str) -> T:
    """Return the first true answer that comes without an AssertionError or an error of the API server."""
    give_up = time.monotonic() + within
    problem: object = "it stayed false"
    while True:
        try:
            if answer := await check():
                return answer
        except (AssertionError, ApiError) as error:
            problem = error
        assert time.monotonic() < give_up, f"{what}: not within {within:g} s: {problem}"
        await asyncio.sleep(_LOOK)


def resource_of(obj: Json) -> Resource:
    """Return where objects of this kind live. Plurals are regular here, but for classes and policies."""
    group, _, version = obj["apiVersion"].rpartition("/")
    kind: str = obj["kind"]
    plural = kind.lower()
    plural = f"{plural[:-1]}ies" if plural.endswith("y") else f"{plural}{'es' if plural.endswith('s') else 's'}"
    return Resource(group, version, plural, kind, kind not in _CLUSTER_SCOPED)


def sentence(event: Json) -> str:
    """Return what an Event says, on a line."""
    about = event["involvedObject"]
    return (
        f"{about['kind']}/{about['name']} {event.get('type')} {event.get('reason')} x{event.get('count') or 1}: "
        f"{event.get('message')}"
    )
