"""The way to both sides of a binding for somebody who only has the kubeconfig of the virtual cluster.

The physical kubeconfig comes from the Secret that the binding names, under the same guard as the syncer's. Identity is proved
before anything there is believed: a cluster that is not the one the binding was made with is not looked at.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from kubeocean.api import names
from kubeocean.api.binding import ClusterBindingSpec, parse_binding, parse_served_binding
from kubeocean.api.model import InvalidObject
from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.clusters.identity import ClusterIdentityChanged, Identity
from kubeocean.clusters.mountuse import namespace_in_use
from kubeocean.clusters.physical import read_kubeconfig
from kubeocean.domain.bindingstatus import find_duplicate
from kubeocean.domain.findings import Side
from kubeocean.domain.ownership import Owner
from kubeocean.kube.client import Client
from kubeocean.kube.config import config_from_file
from kubeocean.kube.errors import ConfigError, NotFound
from kubeocean.kube.meta import Json, finalizers_of, is_deleting, name_of, uid_of
from kubeocean.kube.resources import SECRETS

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

    async def read_spec(self) -> ClusterBindingSpec | None:
        """Return the binding's spec as it is now, None when it is gone, another one, or being unbound.

        Raises ConfigError when it is not valid any more.
        """
        try:
            binding = await self.virtual.get(CLUSTERBINDINGS, self.binding)
        except NotFound:
            return None
        return _parse(binding) if uid_of(binding) == self.binding_uid and not is_deleting(binding) else None


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


def cluster_ids_of(bindings: Sequence[Json]) -> frozenset[str]:
    """Return the clusterIDs that bindings have, valid or not."""
    return frozenset(str((binding.get("spec") or {}).get("clusterID") or "") for binding in bindings)


def choose_bindings(found: list[Json], wanted: str) -> list[Json]:
    """Return the one called `wanted`, "" = all. Raises ConfigError when there is none of that name."""
    chosen = [binding for binding in found if wanted in ("", name_of(binding))]
    if wanted and not chosen:
        there = ", ".join(map(name_of, found)) or "none"
        raise ConfigError(f"--binding {wanted}: no ClusterBinding has this name; there are: {there}")
    return chosen


@asynccontextmanager
async def open_sides(virtual: Client, binding: Json, bindings: Sequence[Json]) -> AsyncIterator[Sides]:
    """Open the physical cluster of a binding, one of all `bindings`.

    Raises KubeError when it cannot be looked at, and says why.
    """
    _refuse_duplicate(binding, bindings)
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
            name_of(binding), spec, owner, await namespace_in_use(physical, spec.mount_namespace, owner), virtual, physical,
            above, below, uid_of(binding),
        )


def _refuse_duplicate(binding: Json, bindings: Sequence[Json]) -> None:
    """Raise ConfigError when an older binding has this clusterID: its nodes and Pods would be looked for in another cluster."""
    if other := find_duplicate(binding, bindings):
        raise ConfigError(
            f"its spec.clusterID is already used by ClusterBinding {other!r}, which is served, and this one is not: nothing is "
            "looked at, or touched; delete this binding and create it again with a clusterID of its own"
        )


def _parse(binding: Json) -> ClusterBindingSpec:
    served = names.BINDING_SYNCER_FINALIZER in finalizers_of(binding)
    try:
        return parse_served_binding(binding) if served else parse_binding(binding)  # as its syncer does
    except InvalidObject as error:
        raise ConfigError(f"ClusterBinding {name_of(binding)} is not valid: {error}") from error


async def _secret(virtual: Client, spec: ClusterBindingSpec) -> Json | None:
    try:
        return await virtual.get(SECRETS, spec.secret_ref.name, spec.secret_ref.namespace)
    except NotFound:
        return None
