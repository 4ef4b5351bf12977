"""Which mountNamespace of a physical cluster a binding serves, and what is ours in there: asked live.

Twins cannot move. When spec.mountNamespace is edited while some live, the namespace they live in stays in use until the last
of them is gone. Whoever judges a binding from outside has to ask the same question as its syncer.
"""

from __future__ import annotations

from contextlib import suppress

from kubeocean.api import names
from kubeocean.clusters.physical import exists
from kubeocean.domain.ownership import Owner, is_ours
from kubeocean.kube.client import Client
from kubeocean.kube.errors import Forbidden
from kubeocean.kube.meta import Json, annotations_of, name_of
from kubeocean.kube.resources import NAMESPACES, PERSISTENTVOLUMECLAIMS, PODS, Resource


async def namespace_in_use(client: Client, wanted: str, owner: Owner) -> str:
    """Return the namespace to serve: `wanted`, or an earlier one as long as twins live there.

    They cannot move, and taken for lost they would run on unseen.
    """
    for earlier in await claimed_besides(client, wanted, owner):
        if await holds_twins(client, earlier, owner):
            return earlier
    return wanted


async def holds_twins(client: Client, namespace: str, owner: Owner) -> bool:
    """Tell whether what cannot move is in `namespace`: Pods, or claims, which may hold data while no Pod runs."""
    if await list_ours(client, PODS, namespace, owner):
        return True
    with suppress(Forbidden):  # a right that need not be granted; without it there are none
        return bool(await list_ours(client, PERSISTENTVOLUMECLAIMS, namespace, owner))
    return False


async def claimed_besides(client: Client, name: str, owner: Owner) -> list[str]:
    """Return the namespaces that `owner` has claimed, but for `name`."""
    return [
        name_of(namespace) for namespace in (await client.list(NAMESPACES)).items
        if name_of(namespace) != name and annotations_of(namespace).get(names.CLAIMED_BY_ANNOTATION) == owner.annotation
    ]


async def list_ours(client: Client, resource: Resource, namespace: str, owner: Owner, selector: str = "") -> list[Json]:
    """Return what is ours (and of `selector`) in `namespace` ("" = everywhere), live and complete.

    Nothing is in a namespace that does not exist, although whoever got his rights by a Role in there is refused the list.
    """
    try:
        found = (await client.list(resource, namespace, label_selector=selector or f"{names.OWNER_LABEL}={owner.label}")).items
    except Forbidden:
        if not namespace or await exists(client, namespace):
            raise
        return []
    return [obj for obj in found if is_ours(obj, owner)]
