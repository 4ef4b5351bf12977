"""Puts our marks on virtual objects that are in use, and takes them off again (`domain.marks` says what they are)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from kubeocean.clusters.virtual import VirtualCluster
from kubeocean.domain.marks import build_mark_patch, build_unmark_patch, marked_selector
from kubeocean.kube.errors import Conflict, NotFound
from kubeocean.kube.meta import Json, ObjectKey, name_of, namespace_of
from kubeocean.kube.resources import CONFIGMAPS, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, SECRETS, Resource

MARKED_RESOURCES: Final = (CONFIGMAPS, SECRETS, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES)
AGAIN: Final = 0.5  # seconds until it is looked whether any mark is left


async def mark(virtual: VirtualCluster, resource: Resource, live: Json, cluster_id: str, physical: ObjectKey) -> Json:
    """Return `live`, an object not being deleted, with all our marks on it; Conflict when it changed meanwhile."""
    patch = build_mark_patch(live, cluster_id, physical)
    return live if patch is None else await virtual.calls.patch(resource, name_of(live), namespace_of(live), patch)


async def unmark(virtual: VirtualCluster, resource: Resource, live: Json, cluster_id: str) -> Json | None:
    """Take our marks off `live`; return what was written, None when there was nothing to do or the object is gone."""
    patch = build_unmark_patch(live, cluster_id)
    if patch is None:
        return None
    try:
        return await virtual.calls.patch(resource, name_of(live), namespace_of(live), patch)
    except NotFound:
        return None


async def remove_marks(virtual: VirtualCluster, cluster_id: str) -> None:
    """Return when no object of the virtual cluster carries a mark of that binding: for one that is let go of by force."""
    for resource in MARKED_RESOURCES:
        while marked := (await virtual.calls.list(resource, label_selector=marked_selector(cluster_id))).items:
            for live in marked:
                with suppress(Conflict):  # the next look sees it as it is then
                    await unmark(virtual, resource, live, cluster_id)
            await asyncio.sleep(AGAIN)
