"""The same objects out of live clusters: read once, never written.

The virtual cluster holds binding, policies, virtual nodes and users' Pods; the physical one nodes, everybody's Pods and
perhaps the lender's policies. The way there is the lender's own kubeconfig, or else the Secret the binding names, read
under the same guard as the syncer's.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from kubeocean.api.binding import ClusterBindingSpec, parse_binding
from kubeocean.api.model import InvalidObject
from kubeocean.api.resources import CLUSTERBINDINGS, RESOURCELEASINGPOLICIES
from kubeocean.clusters.physical import read_kubeconfig
from kubeocean.domain.ownership import Owner
from kubeocean.kube.client import Client
from kubeocean.kube.config import ServerConfig, config_from_file
from kubeocean.kube.errors import Forbidden, NotFound
from kubeocean.kube.meta import Json, name_of, uid_of
from kubeocean.kube.resources import NAMESPACES, NODES, PODS, SECRETS, Resource
from kubeocean.simulate.given import BadInput, Given, Side

_AGENT = "kubeocean-simulate"


@dataclass(frozen=True, slots=True)
class Live:
    """What two clusters hold of one binding. `owner` tells the twins among the physical Pods.

    `lender_trouble` says why the lender's policies could not be read, "" when they were (or he has none).
    """

    binding_name: str
    owner: Owner
    given: tuple[Given, ...]
    lender_trouble: str


async def read_clusters(kubeconfig: Path | None, *, physical_kubeconfig: Path | None, binding: str) -> Live:
    """Read a binding and all that decides about its lease. `binding` "" takes the only one there is.

    Raises BadInput when there is no such binding or it is not valid, KubeError when a cluster does not answer.
    """
    config = await config_from_file(str(kubeconfig) if kubeconfig else None)
    async with Client(config, cluster="the virtual cluster", user_agent=_AGENT) as virtual:
        found = await _read_binding(virtual, binding)
        name, spec = name_of(found), _parse(found)
        owner = Owner(uid_of(await virtual.get(NAMESPACES, "kube-system")), spec.cluster_id)
        source = f"binding {name}" if physical_kubeconfig is None else str(physical_kubeconfig)
        other = await _physical_config(virtual, spec, physical_kubeconfig)
        async with Client(other, cluster="the physical cluster", user_agent=_AGENT) as physical:
            lent, trouble = await _read_lenders_policies(physical, source)
            lists = await asyncio.gather(
                _read(virtual, RESOURCELEASINGPOLICIES, "virtual cluster", Side.VIRTUAL),
                _read(virtual, NODES, "virtual cluster", Side.VIRTUAL), _read(virtual, PODS, "virtual cluster", Side.VIRTUAL),
                _read(physical, NODES, source, Side.PHYSICAL), _read(physical, PODS, source, Side.PHYSICAL),
            )
    everything = [Given("virtual cluster", Side.VIRTUAL, found, live=True), *lent, *(each for part in lists for each in part)]
    return Live(name, owner, tuple(everything), trouble)


async def _read_binding(virtual: Client, wanted: str) -> Json:
    try:
        bindings = (await virtual.list(CLUSTERBINDINGS)).items
    except NotFound:
        raise BadInput(["the virtual cluster knows no ClusterBindings: kubeocean crds | kubectl apply -f -"]) from None
    chosen = [each for each in bindings if not wanted or name_of(each) == wanted]
    there = ", ".join(sorted(map(name_of, bindings)))
    if not bindings:
        raise BadInput(["the virtual cluster has no ClusterBinding: create one, or simulate files with -f"])
    if not chosen:
        raise BadInput([f"--binding {wanted}: no ClusterBinding has this name; choose one of {there}"])
    if len(chosen) > 1:
        raise BadInput([f"the virtual cluster has several bindings; choose one with --binding: {there}"])
    return {"apiVersion": CLUSTERBINDINGS.api_version, "kind": CLUSTERBINDINGS.kind, **chosen[0]}


def _parse(binding: Json) -> ClusterBindingSpec:
    try:
        return parse_binding(binding)
    except InvalidObject as error:
        title = f"virtual cluster: ClusterBinding {name_of(binding)}"
        raise BadInput([f"{title}: {problem}" for problem in error.problems]) from None


async def _physical_config(virtual: Client, spec: ClusterBindingSpec, kubeconfig: Path | None) -> ServerConfig:
    if kubeconfig is not None:
        return await config_from_file(str(kubeconfig))
    reference = spec.secret_ref
    try:
        secret: Json | None = await virtual.get(SECRETS, reference.name, reference.namespace)
    except NotFound:
        secret = None
    return await read_kubeconfig(secret, reference=f"{reference.namespace}/{reference.name}")


async def _read_lenders_policies(physical: Client, source: str) -> tuple[list[Given], str]:
    """Return the lender's policies, or why they cannot be read."""
    try:
        return await _read(physical, RESOURCELEASINGPOLICIES, source, Side.PHYSICAL), ""
    except NotFound:
        return [], ""  # a lender need not know our kinds
    except Forbidden as error:
        return [], f"the lender's policies cannot be read: {error}"


async def _read(client: Client, resource: Resource, source: str, side: Side) -> list[Given]:
    # An API server leaves kind and apiVersion out of the members of a list.
    member = {"apiVersion": resource.api_version, "kind": resource.kind}
    return [Given(source, side, {**member, **obj}, live=True) for obj in (await client.list(resource)).items]
