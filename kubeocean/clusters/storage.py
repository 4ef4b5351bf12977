"""The caches of claims and volumes on both sides, and what we remember of each without decoding it.

In the virtual cluster all of them are watched, once for every binding of the process: a claim without a volume says only by
an annotation that it is meant for us, so no selector finds it, and an unselected watch also proves deletions. In the physical
cluster we see our own alone. Volumes have no namespace: the lender grants to read them all or none, and may grant none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from kubeocean.api import names
from kubeocean.domain.ownership import Owner
from kubeocean.domain.provisioning import SELECTED_NODE, is_provisioned, origin_of
from kubeocean.domain.volumemap import virtual_claim_of
from kubeocean.domain.volumesources import secrets_of
from kubeocean.kube.informer import Informer
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, finalizers_of, is_deleting
from kubeocean.kube.reflector import WatchClient
from kubeocean.kube.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES

BY_CLAIM: Final = "claim"
BY_SECRET: Final = "secret"


@dataclass(frozen=True, slots=True)
class VirtualClaim:
    """A claim of the virtual cluster: its volume, the node and binding it is meant for ("" = none), who holds it."""

    volume: str
    selected_node: str
    binding: str
    deleting: bool
    finalizers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VirtualVolume:
    """A volume of the virtual cluster: the claims ("namespace/name") it is bound to or was provisioned for."""

    claims: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PhysicalVolume:
    """A volume of ours in a physical cluster: for which virtual claim, of which physical claim, with which Secrets."""

    virtual: ObjectKey
    claim: str
    secrets: tuple[ObjectKey, ...]


class VirtualStorage:
    """Claims, volumes and storage classes of the virtual cluster; nobody waits for these at the start."""

    def __init__(self, watches: WatchClient) -> None:
        self.claims: Informer[VirtualClaim] = Informer(
            watches, PERSISTENTVOLUMECLAIMS, summarise=summarise_claim, keep_raw=True, name="virtual-claims"
        )
        self.volumes: Informer[VirtualVolume] = Informer(
            watches, PERSISTENTVOLUMES, summarise=summarise_volume, keep_raw=True,
            indexers={BY_CLAIM: lambda _, volume: volume.claims}, name="virtual-volumes",
        )
        self.classes: Informer[None] = Informer(watches, STORAGECLASSES, summarise=_nothing, name="virtual-storageclasses")

    @property
    def informers(self) -> list[Informer[Any]]:
        """Return all of them, to be run."""
        return [self.claims, self.volumes, self.classes]


class PhysicalStorage:
    """Our claims and volumes in a physical cluster. `mount_is_gone` as in PhysicalCluster."""

    def __init__(
        self, watches: WatchClient, owner: Owner, mount_namespace: str, binding: str,
        mount_is_gone: Callable[[], Awaitable[bool]],
    ) -> None:
        ours = ",".join(f"{label}={value}" for label, value in owner.labels().items())
        self.claims: Informer[ObjectKey] = Informer(
            watches, PERSISTENTVOLUMECLAIMS, namespace=mount_namespace, label_selector=ours, summarise=virtual_claim_of,
            keep_raw=True, name=f"{binding}-claims", place_is_gone=mount_is_gone,
        )
        self.volumes: Informer[PhysicalVolume] = Informer(
            watches, PERSISTENTVOLUMES, label_selector=ours, summarise=summarise_physical_volume, keep_raw=True,
            indexers={
                BY_CLAIM: lambda _, volume: (str(volume.virtual),),
                BY_SECRET: lambda _, volume: [str(secret) for secret in volume.secrets],
            },
            name=f"{binding}-volumes",
        )

    @property
    def informers(self) -> list[Informer[Any]]:
        """Return both, to be run."""
        return [self.claims, self.volumes]


def summarise_claim(claim: Json) -> VirtualClaim:
    """Return the head of a claim of the virtual cluster."""
    annotations = annotations_of(claim)
    return VirtualClaim(
        claim["spec"].get("volumeName") or "", annotations.get(SELECTED_NODE, ""),
        annotations.get(names.BINDING_OF_CLAIM_ANNOTATION, ""), is_deleting(claim), tuple(finalizers_of(claim)),
    )


def summarise_volume(volume: Json) -> VirtualVolume:
    """Return the head of a volume of the virtual cluster."""
    return VirtualVolume(tuple(sorted(set(map(str, _claims_of(volume))))))


def _claims_of(volume: Json) -> Iterator[ObjectKey]:
    if reference := volume["spec"].get("claimRef"):
        yield ObjectKey(reference.get("namespace") or "", reference.get("name") or "")
    if is_provisioned(volume):
        yield origin_of(volume)


def summarise_physical_volume(volume: Json) -> PhysicalVolume:
    """Return the head of a volume of ours in a physical cluster."""
    reference = volume["spec"].get("claimRef") or {}
    return PhysicalVolume(virtual_claim_of(volume), reference.get("name") or "", secrets_of(volume["spec"]))


def _nothing(_: Json) -> None:
    return None
