"""Puts our CRDs into a cluster and waits until the API server serves them.

Each carries a hash of what was meant. One that does, and of which nothing has been changed since, is not written again: a start
over a cluster that has them writes nothing.
"""

from __future__ import annotations

import asyncio

from kubeocean.api import names
from kubeocean.api.crd import crds
from kubeocean.api.resources import CLUSTERBINDINGS, RESOURCELEASINGPOLICIES
from kubeocean.domain.hashing import content_hash
from kubeocean.kube.client import Client, PatchType
from kubeocean.kube.errors import NotFound
from kubeocean.kube.meta import Json, annotations_of, name_of
from kubeocean.kube.resources import CUSTOMRESOURCEDEFINITIONS, Resource

FIELD_MANAGER = "kubeocean"
POLL = 0.1  # seconds


async def install_crds(client: Client, *, within: float = 30.0) -> None:
    """Have both CRDs there as we mean them, and wait until they are established.

    What differs is applied server-side, so a newer field of somebody else's survives.

    Raises KubeError when the server refuses, TimeoutError when it does not serve them `within` seconds.
    """
    for crd in map(build_marked, crds()):
        if not is_installed(await _find(client, name_of(crd)), crd):
            await client.patch(
                CUSTOMRESOURCEDEFINITIONS, name_of(crd), "", crd, kind=PatchType.APPLY, field_manager=FIELD_MANAGER, force=True
            )
    try:
        async with asyncio.timeout(within):
            await _wait_served(client)
    except TimeoutError:
        raise TimeoutError(f"the API server does not serve our kinds {within:.0f} s after they were applied") from None


def build_marked(crd: Json) -> Json:
    """Return a CRD as it is applied: with the hash of what it means."""
    mark = {names.CONTENT_HASH_ANNOTATION: content_hash(crd["spec"])}
    return {**crd, "metadata": {**crd["metadata"], "annotations": {**annotations_of(crd), **mark}}}


def is_installed(live: Json | None, wanted: Json) -> bool:
    """Tell whether the CRD in the cluster is what `build_marked` returned: of the same hash, and nothing of it changed since.

    What others, or the server's defaults, have added to it does not count. The hash tells what we no longer mean.
    """
    if live is None:
        return False
    mark = names.CONTENT_HASH_ANNOTATION
    return annotations_of(live).get(mark) == annotations_of(wanted)[mark] and _holds(live["spec"], wanted["spec"])


def _holds(live: object, wanted: object) -> bool:
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(key in live and _holds(live[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(live, list) and len(live) == len(wanted) and all(map(_holds, live, wanted))
    return live == wanted


async def _find(client: Client, name: str) -> Json | None:
    try:
        return await client.get(CUSTOMRESOURCEDEFINITIONS, name)
    except NotFound:
        return None


async def _wait_served(client: Client) -> None:
    for crd in crds():
        while not _established(await client.get(CUSTOMRESOURCEDEFINITIONS, name_of(crd))):
            await asyncio.sleep(POLL)
    for resource in (CLUSTERBINDINGS, RESOURCELEASINGPOLICIES):
        while not await _is_served(client, resource):
            await asyncio.sleep(POLL)


async def _is_served(client: Client, resource: Resource) -> bool:
    try:
        await client.list(resource)
    except NotFound:
        return False  # established, but the server's routes lag behind
    return True


def _established(crd: Json) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(item["type"] == "Established" and item["status"] == "True" for item in conditions)
