"""Puts our CRDs into a cluster and waits until the API server serves them."""

from __future__ import annotations

import asyncio

from kubeocean.api.crd import crds
from kubeocean.kube.client import Client, PatchType
from kubeocean.kube.meta import Json, name_of
from kubeocean.kube.resources import CUSTOMRESOURCEDEFINITIONS

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
    async with asyncio.timeout(within):
        for crd in crds():
            while not _established(await client.get(CUSTOMRESOURCEDEFINITIONS, name_of(crd))):
                await asyncio.sleep(POLL)


def _established(crd: Json) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(item["type"] == "Established" and item["status"] == "True" for item in conditions)
