"""Every object of a cluster, of every kind that its API server serves, searched for traces of Kubeocean."""

import asyncio
import json
from collections.abc import Collection, Iterator

from kubeocean.kube.client import Client
from kubeocean.kube.errors import ApiError
from kubeocean.kube.meta import Json, key_of
from kubeocean.kube.resources import Resource

# Told by the sandbox itself, and Events, which are history and end by themselves.
_LEFT_OUT = {"events", "componentstatuses", "customresourcedefinitions"}


async def find_traces(client: Client, *words: str) -> dict[str, str]:
    """Return the objects in which one of the words is found anywhere, each with the places: {"pods a/b": "..."}."""
    resources = await _discover(client)
    found = await asyncio.gather(*(_search(client, resource, words) for resource in resources))
    return {name: places for part in found for name, places in part.items()}


async def find_left(client: Client, *words: str, names: Collection[str] = (), kinds: tuple[str, ...] = ()) -> dict[str, str]:
    """Return what `find_traces` does, without the objects of these names and all of these `kinds` (plurals)."""
    found = await find_traces(client, *words)
    return {
        name: places for name, places in found.items() if name not in names and name.partition(" ")[0] not in kinds
    }


async def _search(client: Client, resource: Resource, words: tuple[str, ...]) -> dict[str, str]:
    try:
        objects = (await client.list(resource)).items
    except ApiError as error:
        if error.status in (404, 405):
            return {}
        raise
    traces = {}
    for obj in objects:
        obj["metadata"].pop("managedFields", None)
        places = [place for place, text in _texts(obj) if any(word in text for word in words)]
        if places:
            traces[f"{resource.plural} {key_of(obj)}"] = ", ".join(places[:5])
    return traces


def _texts(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every key and every text in an object, with its place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.{key}", key
            yield from _texts(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, f"{path}[{index}]")
    elif isinstance(value, str):
        yield path, value


async def _discover(client: Client) -> list[Resource]:
    groups = json.loads(await client.raw("GET", "/apis"))["groups"]
    versions = [("", "v1", "/api/v1")]
    for group in groups:
        # The preferred one first; but a kind may be served in another one only.
        served = sorted(group["versions"], key=lambda each: each != group["preferredVersion"])
        versions += [(group["name"], each["version"], f"/apis/{each['groupVersion']}") for each in served]
    listed: dict[tuple[str, str], Resource] = {}
    for group, version, path in versions:
        answer: Json = json.loads(await client.raw("GET", path))
        for each in answer["resources"]:
            if "list" in each["verbs"] and "/" not in each["name"] and each["name"] not in _LEFT_OUT:
                found = Resource(group, version, each["name"], each["kind"], each["namespaced"])
                listed.setdefault((group, each["name"]), found)
    return list(listed.values())
