"""The verbs of the Kubernetes API on plain dicts: `await client.get(PODS, "web-0", "default")`.

Whoever holds a Client names a resource and an object; where it lives (URL, content type, paging) is decided here, how
it gets there (deadline, pool, credentials, errors) in `transport`, whether to try again in `retry`.

Rules that protect data: a list is whole or an error, never partial; DELETE always carries the uid; an empty name or a
missing namespace is refused here, because `DELETE /pods/` would mean every Pod, and a 404 for a path we built wrongly
would look like proof of absence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from types import TracebackType
from typing import NamedTuple
from urllib.parse import quote, urlencode

from kubeocean.kube import codec
from kubeocean.kube.config import ServerConfig
from kubeocean.kube.errors import Gone, Unreachable
from kubeocean.kube.meta import Json, name_of, namespace_of
from kubeocean.kube.resources import Resource
from kubeocean.kube.tokenbucket import TokenBucket
from kubeocean.kube.transport import ByteStream, Call, Transport

JSON = "application/json"
# What an object is called, without spec, status and data; nothing else is accepted in its stead (API concepts, "Receiving
# resources as ... PartialObjectMetadata"). A list has a kind of its own.
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class PatchType(StrEnum):
    """How a patch is to be understood; the value is the content type that says so."""

    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    JSON = "application/json-patch+json"
    APPLY = "application/apply-patch+yaml"  # JSON is YAML


class Listing(NamedTuple):
    """A whole list and the revision it shows; a watch from there misses nothing."""

    items: list[Json]
    resource_version: str


JsonList = list[Json]  # has a name because inside Client `list` is a verb


class Client:
    """Calls one API server with plain dicts. `async with Client(...)`, or call close() at the end.

    cluster: what errors and logs call it. qps, burst: a token bucket for every call but watches, 0 = no limit.
    guard: called before every attempt to change something; raises NotLeading to refuse it.
    connections: how many calls may be in flight at once; more wait for their turn, in order and within their deadline.

    Every call ends within its `deadline` (seconds) and raises only KubeError (or ValueError for a call that names no
    object). Returned objects are fresh, without managedFields, and belong to the caller; with `metadata_only` they are
    PartialObjectMetadata, which is cheaper for the server to write and for us to read.
    """

    def __init__(
        self, config: ServerConfig, *, cluster: str, user_agent: str = "kubeocean", qps: float = 0, burst: int = 0,
        guard: Callable[[], None] | None = None, connections: int = 64,
    ) -> None:
        self.cluster = cluster
        self.config = config
        self._transport = Transport(
            config, cluster=cluster, user_agent=user_agent, bucket=TokenBucket(qps, burst) if qps > 0 else None,
            guard=guard, connections=connections,
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; calls in flight fail with Unreachable. May be repeated."""
        await self._transport.close()

    async def get(
        self, resource: Resource, name: str, namespace: str = "", *, subresource: str = "", deadline: float = 10.0
    ) -> Json:
        """Return the object as it is now, not from a cache. Raises NotFound when it is not there."""
        return await self._object(Call("GET", _path(resource, name, namespace, subresource)), deadline)

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = "",
        metadata_only: bool = False, cached: bool = False, limit: int = 500, deadline: float = 60.0,
    ) -> Listing:
        """Return all objects (of `namespace`, or of all namespaces), read in pages of `limit`.

        A page that fails fails the list. A token that expired between pages (410) starts the list over, once.
        Items carry apiVersion and kind, which the API server leaves out of the items of a list. With `metadata_only` they
        are PartialObjectMetadata. `cached`: as the API server's own cache has them, perhaps a moment behind, for what is
        asked often: older servers read all objects from etcd to select a few. Absence from it proves nothing.
        """
        query = _query(
            limit=str(limit), labelSelector=label_selector, fieldSelector=field_selector, resourceVersion="0" if cached else "",
        )
        call = Call("GET", resource.path(_quote(namespace)), query, accept=_METADATA_LIST if metadata_only else "")
        ends = asyncio.get_running_loop().time() + deadline
        try:
            return await self._pages(resource, call, ends)
        except Gone:
            return await self._pages(resource, call, ends)

    async def create(
        self, resource: Resource, obj: Json, *, subresource: str = "", name: str = "", namespace: str | None = None,
        dry_run: bool = False, metadata_only: bool = False, deadline: float = 10.0,
    ) -> Json:
        """Create `obj` and return what was stored; with `subresource`, POST to that of the existing object `name`."""
        where = (obj.get("metadata") or {}).get("namespace") or "" if namespace is None else namespace
        path = _path(resource, name, where, subresource) if subresource else _collection(resource, where)
        query = "dryRun=All" if dry_run else ""
        return await self._object(_write("POST", path, obj, query=query, metadata_only=metadata_only), deadline)

    async def update(self, resource: Resource, obj: Json, *, subresource: str = "", deadline: float = 10.0) -> Json:
        """Replace the object; raises Conflict when it is no longer at the resourceVersion that `obj` carries."""
        path = _path(resource, name_of(obj), namespace_of(obj), subresource)
        return await self._object(_write("PUT", path, obj), deadline)

    async def patch(
        self, resource: Resource, name: str, namespace: str, patch: Json | JsonList, *,
        kind: PatchType = PatchType.MERGE, subresource: str = "", field_manager: str = "", force: bool = False,
        dry_run: bool = False, metadata_only: bool = False, deadline: float = 10.0,
    ) -> Json:
        """Change part of the object. A resourceVersion or uid inside `patch` is a precondition (Conflict).

        `force` and `field_manager` are for PatchType.APPLY, which requires the latter. With `dry_run` nothing is stored, and
        returned is what would be.
        """
        query = _query(fieldManager=field_manager, force="true" if force else "", dryRun="All" if dry_run else "")
        path = _path(resource, name, namespace, subresource)
        call = _write("PATCH", path, patch, query=query, content_type=kind.value, metadata_only=metadata_only)
        return await self._object(call, deadline)

    async def delete(
        self, resource: Resource, name: str, namespace: str = "", *, uid: str, resource_version: str = "",
        grace_seconds: int | None = None, propagation: str = "", metadata_only: bool = False, deadline: float = 10.0,
    ) -> Json:
        """Ask for deletion of exactly this object; raises Conflict when another of the same name has taken its place.

        Returns the object while it is still terminating, else a Status. `propagation` is Foreground, Background or
        Orphan ("" = the resource's default).
        """
        if not uid:
            raise ValueError(f"delete of {resource.plural} {namespace}/{name} without a uid")
        preconditions = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})
        options: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if propagation:
            options["propagationPolicy"] = propagation
        call = _write("DELETE", _path(resource, name, namespace, ""), options, metadata_only=metadata_only)
        return await self._object(call, deadline)

    async def raw(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: bytes | None = None,
        content_type: str = JSON, deadline: float = 10.0,
    ) -> bytes:
        """Send any other request (discovery, /readyz, logs) and return the body; `path` is already percent-encoded."""
        call = Call(method, path, urlencode(params or {}), body, content_type if body is not None else "")
        return await self._transport.call(call, deadline)

    def stream(
        self, path: str, params: Mapping[str, str], *, metadata_only: bool = False
    ) -> AbstractAsyncContextManager[ByteStream]:
        """Open a watch: `async with client.stream(...) as chunks: async for chunk in chunks`.

        Outside the token bucket, on connections of its own, and without an end in time: the reader watches for silence.
        With `metadata_only` its objects are PartialObjectMetadata.
        """
        return self._transport.stream(path, urlencode(params), _METADATA if metadata_only else "")

    async def server_version(self) -> Json:
        """Return the answer of /version: major, minor, gitVersion ..."""
        return await self._object(Call("GET", "/version"), 10.0)

    async def _object(self, call: Call, deadline: float) -> Json:
        body = await self._transport.call(call, deadline)
        try:
            obj = codec.decode(body)
        except ValueError as error:
            # Whoever answered 2xx with this is not the API server; whether a write took effect is unknown.
            text = f"{self.cluster}: {call}: the answer is no JSON object; is something between us and the API server?"
            raise Unreachable(text, cluster=self.cluster) from error
        codec.strip_managed_fields(obj)
        return obj

    async def _pages(self, resource: Resource, call: Call, ends: float) -> Listing:
        loop = asyncio.get_running_loop()
        items: JsonList = []
        token = ""
        while True:
            asked = call._replace(query=f"{call.query}&continue={quote(token, safe='')}") if token else call
            page = await self._object(asked, max(0.0, ends - loop.time()))
            for item in page.get("items") or ():
                codec.strip_managed_fields(item)
                item.setdefault("apiVersion", resource.api_version)
                item.setdefault("kind", resource.kind)
                items.append(item)
            metadata = page.get("metadata") or {}
            token = metadata.get("continue") or ""
            if not token:
                return Listing(items, metadata.get("resourceVersion") or "")


def _write(
    method: str, path: str, obj: Json | JsonList, *, query: str = "", content_type: str = JSON, metadata_only: bool = False
) -> Call:
    return Call(method, path, query, codec.encode(obj), content_type, _METADATA if metadata_only else "")


def _path(resource: Resource, name: str, namespace: str, subresource: str) -> str:
    """Return the encoded path of one object; ValueError when it would name none, or a whole collection."""
    if not name:
        raise ValueError(f"{resource.plural}: an empty name would mean the whole collection")
    if resource.namespaced and not namespace:
        raise ValueError(f"{resource.plural} {name!r}: the namespace is missing")
    return resource.path(_quote(namespace), _quote(name), subresource)


def _collection(resource: Resource, namespace: str) -> str:
    if resource.namespaced and not namespace:
        raise ValueError(f"{resource.plural}: an object to be created needs metadata.namespace")
    return resource.path(_quote(namespace))


def _quote(segment: str) -> str:
    if segment.isascii() and segment.isalnum():
        return segment
    if segment in (".", ".."):
        raise ValueError(f"{segment!r} names no object")
    return quote(segment, safe=":")


def _query(**params: str) -> str:
    return urlencode({key: value for key, value in params.items() if value})
