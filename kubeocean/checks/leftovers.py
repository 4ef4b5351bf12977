"""One look at the virtual cluster for what bindings left that are gone, and the one mend there is: their marks come off.

Whether a binding is there is asked again before every write, and the write carries the resourceVersion of what was judged.
"""

from __future__ import annotations

import asyncio

from kubeocean.api import names
from kubeocean.checks.opening import cluster_ids_of, read_bindings
from kubeocean.domain.abandoned import LOOKED_AT, check_abandoned, ids_marked
from kubeocean.domain.findings import Finding, Mend
from kubeocean.domain.marks import build_unmark_patch
from kubeocean.kube.client import Client
from kubeocean.kube.errors import Conflict, Forbidden, KubeError, NotFound
from kubeocean.kube.meta import Json, uid_of
from kubeocean.kube.resources import PODS, Resource

_IN_PLACE = {PODS: names.PLACEHOLDER_NAMESPACE}


async def look_for_leftovers(virtual: Client) -> tuple[list[Finding], set[str]]:
    """Return what is found, and notes on what could not be read. The bindings are read last: one made meanwhile counts."""
    lists = await asyncio.gather(*(_list(virtual, resource) for resource in LOOKED_AT))
    found = {resource: items for resource, items, _ in lists}
    cluster_ids = cluster_ids_of(await read_bindings(virtual))
    return list(check_abandoned(found, cluster_ids)), {note for _, _, note in lists if note}


async def _list(virtual: Client, resource: Resource) -> tuple[Resource, list[Json], str]:
    try:
        listed = await virtual.list(resource, _IN_PLACE.get(resource, ""), metadata_only=True)
    except Forbidden as error:
        return resource, [], f"leftovers among {resource.plural} are not looked for: {error}"
    return resource, listed.items, ""


async def take_off(virtual: Client, finding: Finding) -> tuple[bool, str]:
    """Take the marks of bindings that are gone off one object; return whether it is mended, and what was done or why not."""
    if finding.mend is not Mend.UNMARK:
        return False, "not mended by itself"
    about = finding.about
    try:
        live = await virtual.get(about.resource, about.key.name, about.key.namespace)
        unknown = ids_marked(live) - cluster_ids_of(await read_bindings(virtual))
        if uid_of(live) != about.uid or not unknown:
            return False, "left: it carries no such mark any more"
        for cluster_id in sorted(unknown):
            if patch := build_unmark_patch(live, cluster_id):
                live = await virtual.patch(about.resource, about.key.name, about.key.namespace, patch)
    except (Conflict, NotFound):
        return False, "left: it changed at this very moment; look again"
    except KubeError as error:
        return False, f"left: {error}"
    return True, f"the marks of {', '.join(sorted(unknown))} are off"
