"""A watch that learns that objects are there, and never what is in them.

To know when a Secret appears, nobody needs its data: asked for PartialObjectMetadata the API server leaves it out, so it
neither crosses the wire nor rests in our memory. This stands in for the client of an Informer, which then needs to know
nothing about it.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from contextlib import AbstractAsyncContextManager

from kubeocean.kube.client import Client, Listing
from kubeocean.kube.resources import Resource


class MetadataOnly:
    """What `client` lists and watches, reduced to metadata (a `reflector.WatchClient`)."""

    def __init__(self, client: Client) -> None:
        self.cluster = client.cluster
        self._client = client

    def stream(self, path: str, params: dict[str, str], /) -> AbstractAsyncContextManager[AsyncIterable[bytes]]:
        """See WatchClient."""
        return self._client.stream(path, params, metadata_only=True)

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> Listing:
        """See WatchClient."""
        return await self._client.list(
            resource, namespace, label_selector=label_selector, field_selector=field_selector, metadata_only=True
        )
