"""The way to both sides of a binding for somebody who only has the kubeconfig of the virtual cluster.

The physical kubeconfig comes from the Secret that the binding names, under the same guard as the syncer's. Identity is proved
before anything there is believed: a cluster that is not the one the binding was made with is not looked at.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from kubeocean.api import names
from kubeocean.api.binding import ClusterBindingSpec, parse_binding
from kubeocean.api.model import InvalidObject
from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.clusters.identity import ClusterIdentityChanged, Identity
from kubeocean.clusters.physical import read_kubeconfig
from kubeocean.domain.findings import Side
from kubeocean.domain.ownership import Owner
from kubeocean.kube.client import Client
from kubeocean.kube.config import config_from_file
from kubeocean.kube.errors import ConfigError, NotFound
from kubeocean.kube.meta import Json, annotations_of, is_deleting, name_of, uid_of
from kubeocean.kube.resources import NAMESPACES, SECRETS

AGENT = "kubeocean-checks"


@dataclass(frozen=True, slots=True)
class Sides:
    """Both clusters of one binding, opened. `mount_namespace` is the one in use: it may be an earlier one than the spec's."""

    binding: str
    spec: ClusterBindingSpec
    owner: Owner
    mount_namespace: str
    virtual: Client
    physical: Client
    virtual_identity: Identity
    physical_identity: Identity
    binding_uid: str

    def client(self, side: Side) -> Client:
        """Return the client of one side."""
        return self.virtual if side is Side.VIRTUAL else self.physical

    async def confirm(self) -> None:
        """Return when both are still the clusters they were: only then does what is missing there prove anything."""
        await self.virtual_identity.confirm()
        await self.physical_identity.confirm()

    async def is_still_bound(self) -> bool:
        """Tell whether the binding is there as it was, and is not being unbound."""
        try:
            binding = await self.virtual.get(CLUSTERBINDINGS, self.binding)
        except NotFound:
            return False
        return uid_of(binding) == self.binding_uid and not is_deleting(binding)


@asynccontextmanager
async def open_virtual(kubeconfig: Path | None) -> AsyncIterator[Client]:
    """Open the virtual cluster; without `kubeconfig` the one that kubectl would take."""
    config = await config_from_file(str(kubeconfig) if kubeconfig else None)
    async with Client(config, cluster="the virtual cluster", user_agent=AGENT) as client:
        yield client


async def read_bindings(virtual: Client) -> list[Json]:
    """Return the bindings by name. Raises ConfigError when there is no such kind."""
    try:
        found = (await virtual.list(CLUSTERBINDINGS)).items
    except NotFound:
        raise ConfigError("the virtual cluster knows no ClusterBindings: kubeocean crds | kubectl apply -f -") from None
    return sorted(found, key=name_of)


def choose_bindings(found: list[Json], wanted: str) -> list[Json]:
    """Return the one called `wanted`, "" = all. Raises ConfigError when there is none of that name."""
    chosen = [binding for binding in found if wanted in ("", name_of(binding))]
    if wanted and not chosen:
        there = ", ".join(map(name_of, found)) or "none"
        raise ConfigError(f"--binding {wanted}: no ClusterBinding has this name; there are: {there}")
    return chosen


@asynccontextmanager
async def open_sides(virtual: Client, binding: Json) -> AsyncIterator[Sides]:
    """Open the physical cluster of a binding. Raises KubeError when it cannot be looked at, and says why."""
    spec = _parse(binding)
    reference = f"{spec.secret_ref.namespace}/{spec.secret_ref.name}"
    config = await read_kubeconfig(await _secret(virtual, spec), reference=reference)
    known = (binding.get("status") or {}).get("physicalClusterUID") or ""
    async with Client(config, cluster=f"the physical cluster of {name_of(binding)}", user_agent=AGENT) as physical:
        above, below = Identity(virtual), Identity(physical)
        above.uid, below.uid = await above.ask(), await below.ask()
        if known not in ("", below.uid):
            raise ClusterIdentityChanged(
                f"Secret {reference} leads to another cluster (kube-system uid {below.uid}) than the one this binding was made "
                f"with ({known}): restore the old kubeconfig; nothing there is looked at, or touched", cluster=name_of(binding),
            )
        owner = Owner(above.uid, spec.cluster_id)
        yield Sides(
            name_of(binding), spec, owner, await _mount_in_use(physical, spec, owner), virtual, physical, above, below,
            uid_of(binding),
        )


def _parse(binding: Json) -> ClusterBindingSpec:
    try:
        return parse_binding(binding)
    except InvalidObject as error:
        raise ConfigError(f"ClusterBinding {name_of(binding)} is not valid: {error}") from error


async def _secret(virtual: Client, spec: ClusterBindingSpec) -> Json | None:
    try:
        return await virtual.get(SECRETS, spec.secret_ref.name, spec.secret_ref.namespace)
    except NotFound:
        return None


async def _mount_in_use(physical: Client, spec: ClusterBindingSpec, owner: Owner) -> str:
    """Return the spec's mountNamespace, or the only other one this owner holds: twins cannot move when the spec is edited."""
    claimed = [
        name_of(namespace) for namespace in (await physical.list(NAMESPACES)).items
        if annotations_of(namespace).get(names.CLAIMED_BY_ANNOTATION) == owner.annotation
    ]
    return claimed[0] if len(claimed) == 1 else spec.mount_namespace
