"""Puts our CRDs into a cluster and waits until the API server serves them."""

from __future__ import annotations

import asyncio

from kubeocean.api.crd import crds
from kubeocean.api.resources import CLUSTERBINDINGS, RESOURCELEASINGPOLICIES
from kubeocean.kube.client import Client, PatchType
from kubeocean.kube.errors import NotFound
from kubeocean.kube.meta import Json, name_of
from kubeocean.kube.resources import CUSTOMRESOURCEDEFINITIONS, Resource

FIELD_MANAGER = "kubeocean"
POLL = 0.1  # seconds


async def install_crds(client: Client, *, within: float = 30.0) -> None:
    """Apply both CRDs (server-side, so a newer field of somebody else's survives) and wait until they are established.

    Raises KubeError when the server refuses, TimeoutError when it does not serve them `within` seconds.
    """
    for crd in crds():
        await client.patch(
            CUSTOMRESOURCEDEFINITIONS, name_of(crd), "", crd, kind=PatchType.APPLY, field_manager=FIELD_MANAGER, force=True
        )
    try:
        async with asyncio.timeout(within):
            await _wait_served(client)
    except TimeoutError:
        raise TimeoutError(f"the API server does not serve our kinds {within:.0f} s after they were applied") from None


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
