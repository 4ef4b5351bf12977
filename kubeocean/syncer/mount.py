"""The place where twins live: the mountNamespace, claimed before anything is written into it, and their PriorityClass.

Claiming is a compare-and-swap (see `domain.ownership`): two borrowers that want the same namespace cannot both get it.

Twins cannot move. When spec.mountNamespace is edited while some live, the namespace they live in stays in use until the last
of them is gone; only then it is given back and the new one claimed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import structlog

from kubeocean.api import names
from kubeocean.clusters.mountuse import claimed_besides, holds_twins, list_ours
from kubeocean.domain.ownership import (
    ClaimAction,
    Owner,
    build_claim_patch,
    build_namespace,
    build_release_patch,
    created_by_us,
    decide_claim,
)
from kubeocean.kube.client import Client
from kubeocean.kube.errors import AlreadyExists, Conflict, Forbidden, KubeError, NotFound
from kubeocean.kube.meta import Json, annotations_of, is_deleting, labels_of, name_of, resource_version_of, uid_of
from kubeocean.kube.resources import (
    CONFIGMAPS,
    CRONJOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    JOBS,
    NAMESPACES,
    NETWORKPOLICIES,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    PRIORITYCLASSES,
    REPLICASETS,
    SECRETS,
    SERVICES,
    STATEFULSETS,
    Resource,
)

MOUNT_NAMESPACE_IN_USE = "MountNamespaceInUse"
# What nobody makes by accident. The lender's own of any of these keeps a namespace alive that we made.
_WORTH_KEEPING = (
    PODS, SECRETS, CONFIGMAPS, PERSISTENTVOLUMECLAIMS, SERVICES, DEPLOYMENTS, REPLICASETS, STATEFULSETS, DAEMONSETS, JOBS,
    CRONJOBS,
)

log = structlog.get_logger(__name__)


class MountRefused(KubeError):
    """The mountNamespace cannot be used now; `reason` is the binding's condition reason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


async def claim_namespace(client: Client, name: str, owner: Owner) -> None:
    """Make the mountNamespace exist and be ours. Raises MountRefused when it is another's or going away."""
    claim = decide_claim(name, namespace := await _get(client, name), owner)
    match claim.action:
        case ClaimAction.CREATE:
            try:
                await client.create(NAMESPACES, build_namespace(name, owner))
            except Forbidden as error:
                remedy = f"the lender can, with `kubeocean rbac --mount-namespace {name}`"
                raise MountRefused(claim.reason, f"there is no namespace {name}, and we may not make it: {remedy}") from error
        case ClaimAction.CLAIM if namespace is not None:
            await client.patch(NAMESPACES, name, "", build_claim_patch(namespace, owner))
        case ClaimAction.TAKEN | ClaimAction.TERMINATING:
            raise MountRefused(claim.reason, claim.message)


def describe_use(served: str) -> str:
    """Return why another mountNamespace than the one in the spec is served, and what can be done about it."""
    return (
        f"namespace {served} holds Pods of this binding, or claims, and they cannot move: set spec.mountNamespace back to "
        f"{served}; to change it, delete these first, or make a new binding. Until then all goes on as before the change"
    )


async def leave_earlier_namespaces(client: Client, served: str, owner: Owner) -> None:
    """Give back what this owner claimed before it came to use `served`, without what is ours in there.

    Whatever holds twins is kept. Where the right to clean up was taken back, nobody waits for it.
    """
    for earlier in await claimed_besides(client, served, owner):
        try:
            if not await holds_twins(client, earlier, owner):
                for resource in (SECRETS, CONFIGMAPS):
                    await delete_ours(client, resource, earlier, owner)
                for resource in (SERVICES, ENDPOINTSLICES, NETWORKPOLICIES):
                    with suppress(Forbidden):  # a right that need not be granted; without it there are none
                        await delete_ours(client, resource, earlier, owner)
                await release_namespace(client, earlier, owner)
        except Forbidden as error:
            log.warning("an earlier mountNamespace is left as it is", namespace=earlier, error=str(error))


async def delete_ours(client: Client, resource: Resource, namespace: str, owner: Owner) -> bool:
    """Ask for the deletion of all that is ours in `namespace`; returns whether a live, complete list showed any."""
    found = await list_ours(client, resource, namespace, owner)
    for obj in found:
        if is_deleting(obj):
            continue  # asked already
        try:
            await client.delete(resource, name_of(obj), namespace, uid=uid_of(obj))
        except (NotFound, Conflict):
            continue  # gone meanwhile; another of that name is found by the next look
    return bool(found)


async def ensure_priority_class(client: Client) -> None:
    """Create `kubeocean-default`, shared by all borrowers; one that exists is left as it is."""
    try:
        await client.get(PRIORITYCLASSES, names.DEFAULT_PRIORITY_CLASS)
    except NotFound:
        try:
            await client.create(PRIORITYCLASSES, build_priority_class())
        except AlreadyExists:
            return  # another borrower was quicker


def build_priority_class() -> Json:
    """Return the PriorityClass of twins: below everything of the lender's own, never preempting."""
    return {
        "apiVersion": PRIORITYCLASSES.api_version, "kind": PRIORITYCLASSES.kind,
        "metadata": {"name": names.DEFAULT_PRIORITY_CLASS, "labels": {names.MANAGED_BY_LABEL: names.MANAGED_BY_VALUE}},
        "value": names.DEFAULT_PRIORITY_VALUE, "globalDefault": False, "preemptionPolicy": "Never",
        "description": "Pods that run on leased capacity; the lender's own go first.",
    }


async def release_namespace(client: Client, name: str, owner: Owner) -> None:
    """Give the mountNamespace back: deleted if we made it and it is empty, else only our claim is taken off."""
    namespace = await _get(client, name)
    if namespace is None or decide_claim(name, namespace, owner).action is not ClaimAction.OURS:
        return
    if created_by_us(namespace, owner):
        try:
            if await _is_empty(client, name):
                await client.delete(NAMESPACES, name, uid=uid_of(namespace), resource_version=resource_version_of(namespace))
                return
        except Forbidden:
            pass  # we may not see all that is in there, or not delete it (any more): it is left to the lender
    await client.patch(NAMESPACES, name, "", build_release_patch(namespace))


async def release_priority_class(client: Client) -> None:
    """Remove `kubeocean-default` unless a namespace is still claimed by some borrower."""
    namespaces = await client.list(NAMESPACES)
    # One that is on its way out counts no more: nothing new can be created in it.
    if any(names.CLAIMED_BY_ANNOTATION in annotations_of(item) and not is_deleting(item) for item in namespaces.items):
        return
    try:
        live = await client.get(PRIORITYCLASSES, names.DEFAULT_PRIORITY_CLASS)
        if labels_of(live).get(names.MANAGED_BY_LABEL) == names.MANAGED_BY_VALUE:
            await client.delete(PRIORITYCLASSES, names.DEFAULT_PRIORITY_CLASS, uid=uid_of(live))
    except NotFound:
        return
    except Forbidden as error:  # it holds nothing of ours; no binding waits for that
        log.warning("PriorityClass left behind", name=names.DEFAULT_PRIORITY_CLASS, error=str(error))


async def _is_empty(client: Client, name: str) -> bool:
    for resource in _WORTH_KEEPING:
        found = (await client.list(resource, name)).items
        if any(resource != CONFIGMAPS or name_of(obj) != names.ROOT_CA_CONFIGMAP for obj in found):
            return False
    return True


async def _get(client: Client, name: str) -> dict[str, Any] | None:
    try:
        return await client.get(NAMESPACES, name)
    except NotFound:
        return None
