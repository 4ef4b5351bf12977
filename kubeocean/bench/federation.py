"""The physical clusters of a rig, bound to its virtual one, everything leased: Secrets, ClusterBindings, policies."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from kubeocean.api import names
from kubeocean.api.resources import CLUSTERBINDINGS, RESOURCELEASINGPOLICIES
from kubeocean.bench.errors import BenchError
from kubeocean.bench.managed import Manager, run_manager
from kubeocean.bench.poll import until_true
from kubeocean.bench.procfs import child_of
from kubeocean.bench.rig import Rig
from kubeocean.kube.client import Client
from kubeocean.kube.errors import NotFound
from kubeocean.kube.meta import Json, labels_of, uid_of
from kubeocean.kube.resources import LEASES, NODES, SECRETS, Resource
from kubeocean.sandbox.nodes import is_ready

MOUNT_NAMESPACE = "kubeocean-bench"
_READY_WITHIN = 120.0  # seconds
_API_VERSION = f"{names.GROUP}/{names.VERSION}"
_LEADER = "kubeocean-manager"


@asynccontextmanager
async def federate(
    rig: Rig, *, direct_scheduling: bool, profile: Path | None, flags: Sequence[str] = (), leave: bool = False
) -> AsyncIterator[Manager]:
    """Give a manager, with more `flags`, that serves all physical clusters, every node of them leased and ready for Pods.

    When the block ends well the rig is left as it was with `leave`, for what is measured afterwards.
    """
    await _refuse_a_second_manager(rig.virtual)
    log = rig.folder / "manager.log"
    async with run_manager(rig.sandbox.virtual.kubeconfig, log, profile, *flags) as manager:
        made = await _bind(rig, manager, direct_scheduling=direct_scheduling)
        await until_true(lambda: _all_ready(rig, manager), within=_READY_WITHIN, what=lambda: _why_not(rig, manager))
        rig.meter.add("manager", manager.pid)
        if proxier := child_of(manager.pid, "proxier"):
            rig.meter.add("proxier", proxier)
        try:
            yield manager
        except BaseException:
            if rig.lasts:
                await _unbind(rig, made)
            raise
        if rig.lasts or leave:
            await _unbind(rig, made)


async def _refuse_a_second_manager(virtual: Client) -> None:
    try:
        lease = await virtual.get(LEASES, _LEADER, names.KUBEOCEAN_NAMESPACE)
    except NotFound:
        return
    if holder := (lease.get("spec") or {}).get("holderIdentity"):
        raise BenchError(
            f"{holder} is the manager of this sandbox already, and its work would be measured: end it (if it was killed,"
            f" delete Lease {names.KUBEOCEAN_NAMESPACE}/{_LEADER}), or leave out --sandbox"
        )


async def _bind(rig: Rig, manager: Manager, *, direct_scheduling: bool) -> list[tuple[Resource, Json]]:
    made: list[tuple[Resource, Json]] = []
    for number, cluster in enumerate(rig.sandbox.physical, 1):
        name = f"{rig.name}-{number}"
        kubeconfig = base64.b64encode(cluster.kubeconfig.read_bytes()).decode()
        for resource, obj in (
            (SECRETS, _secret(name, kubeconfig)),
            (RESOURCELEASINGPOLICIES, _policy(name)),
            (CLUSTERBINDINGS, _binding(name, number, direct_scheduling=direct_scheduling)),
        ):
            await _create_when_served(rig.virtual, resource, obj, manager)
            made.append((resource, obj))
    return made


async def _create_when_served(virtual: Client, resource: Resource, obj: Json, manager: Manager) -> None:
    async def created() -> bool:
        manager.check()
        try:
            await virtual.create(resource, obj)
        except NotFound:  # the manager has not installed the CRDs yet
            return False
        return True

    await until_true(created, within=60, what=f"the virtual cluster serves {resource.plural}")


def _secret(name: str, kubeconfig: str) -> Json:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {names.KUBECONFIG_KEY: kubeconfig}}


def _binding(name: str, number: int, *, direct_scheduling: bool) -> Json:
    return {"apiVersion": _API_VERSION, "kind": "ClusterBinding", "metadata": {"name": name}, "spec": {
        "clusterID": f"bench{number}", "secretRef": {"name": name, "namespace": "default"},
        "mountNamespace": MOUNT_NAMESPACE, "directScheduling": direct_scheduling,
    }}


def _policy(binding: str) -> Json:
    return {
        "apiVersion": _API_VERSION, "kind": "ResourceLeasingPolicy", "metadata": {"name": binding},
        "spec": {"cluster": binding},
    }


async def _all_ready(rig: Rig, manager: Manager) -> bool:
    manager.check()
    return await _ready_vnodes(rig) >= rig.nodes


async def _ready_vnodes(rig: Rig) -> int:
    nodes = (await rig.virtual.list(NODES)).items
    return sum(is_ready(node) and labels_of(node).get(names.VIRTUAL_KUBELET_LABEL) is not None for node in nodes)


def _why_not(rig: Rig, manager: Manager) -> str:
    return "\n    ".join([
        f"all {rig.nodes} nodes of the physical clusters are leased and ready as virtual ones; the manager's last words:",
        *manager.last_words(),
    ])


async def _unbind(rig: Rig, made: list[tuple[Resource, Json]]) -> None:
    """Leave the rig as it was: bindings go while the manager is still there to clean up behind them."""
    virtual = rig.virtual
    for wanted in (CLUSTERBINDINGS, RESOURCELEASINGPOLICIES, SECRETS):
        for resource, obj in made:
            if resource is wanted:
                await _delete_and_wait(virtual, resource, obj["metadata"]["name"], obj["metadata"].get("namespace", ""))


async def _delete_and_wait(client: Client, resource: Resource, name: str, namespace: str) -> None:
    async def gone() -> bool:
        try:
            await client.delete(resource, name, namespace, uid=uid_of(await client.get(resource, name, namespace)))
        except NotFound:
            return True
        return False

    await until_true(gone, within=60, what=f"{resource.plural} {name} is gone", every=0.5)
