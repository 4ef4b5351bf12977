"""The place where twins live: the mountNamespace, claimed before anything is written into it, and their PriorityClass.

Claiming is a compare-and-swap (see `domain.ownership`): two borrowers that want the same namespace cannot both get it.
"""

from __future__ import annotations

from typing import Any

from kubeocean.api import names
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
from kubeocean.kube.errors import AlreadyExists, Forbidden, KubeError, NotFound
from kubeocean.kube.meta import Json, annotations_of, is_deleting, labels_of, uid_of
from kubeocean.kube.resources import NAMESPACES, PODS, PRIORITYCLASSES, SECRETS


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
    if created_by_us(namespace, owner) and await _is_empty(client, name):
        try:
            await client.delete(NAMESPACES, name, uid=uid_of(namespace))
            return
        except Forbidden:
            pass  # the right to do so was taken back: the empty namespace is left to the lender
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


async def _is_empty(client: Client, name: str) -> bool:
    # What we could have put there; a lender's own Pods or Secrets keep the namespace alive.
    for resource in (PODS, SECRETS):
        if (await client.list(resource, name)).items:
            return False
    return True


async def _get(client: Client, name: str) -> dict[str, Any] | None:
    try:
        return await client.get(NAMESPACES, name)
    except NotFound:
        return None
