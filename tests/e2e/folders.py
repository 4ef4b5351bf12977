"""Storage as a lender has it: a class whose volumes are folders of a node, provisioned when a claim has its node.

Played here by polling, because the tests need it while they run and nobody else does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json, annotations_of, name_of, namespace_of, uid_of
from kubeocean.kube.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, Resource

CLASS: Final = "e2e"
STORAGECLASSES: Final = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", False)
_PROVISIONER: Final = "e2e.kubeocean.test/folders"
_SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
_LOOK: Final = 0.5  # seconds


def build_class() -> Json:
    """Return the StorageClass; users of both clusters know it by the same name."""
    return {
        "apiVersion": STORAGECLASSES.api_version, "kind": "StorageClass", "metadata": {"name": CLASS},
        "provisioner": _PROVISIONER, "volumeBindingMode": "WaitForFirstConsumer",
    }


async def provide(client: Client, disk: Path) -> NoReturn:
    """Make a volume below `disk` for every claim that has its node, and remove it when it is released."""
    while True:
        volumes = {name_of(volume): volume for volume in (await client.list(PERSISTENTVOLUMES)).items}
        for claim in (await client.list(PERSISTENTVOLUMECLAIMS)).items:
            name, node = f"pvc-{uid_of(claim)}", annotations_of(claim).get(_SELECTED_NODE)
            if node and claim["spec"].get("storageClassName") == CLASS and not is_bound(claim) and name not in volumes:
                (disk / name).mkdir(parents=True)
                await client.create(PERSISTENTVOLUMES, build_volume(name, claim, node, disk))
        await _remove_released(client, volumes)
        await asyncio.sleep(_LOOK)


async def _remove_released(client: Client, volumes: Mapping[str, Json]) -> None:
    for name, volume in volumes.items():
        ours = annotations_of(volume).get("pv.kubernetes.io/provisioned-by") == _PROVISIONER
        if ours and volume["status"].get("phase") == "Released" and not volume["metadata"].get("deletionTimestamp"):
            await client.delete(PERSISTENTVOLUMES, name, uid=uid_of(volume))


def is_bound(claim: Json) -> bool:
    return bool(claim["spec"].get("volumeName"))


def build_volume(name: str, claim: Json, node: str, disk: Path) -> Json:
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    return {
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": _PROVISIONER}},
        "spec": {
            "capacity": claim["spec"]["resources"]["requests"], "accessModes": claim["spec"]["accessModes"],
            "storageClassName": CLASS, "persistentVolumeReclaimPolicy": "Delete", "local": {"path": str(disk / name)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace_of(claim),
                "name": name_of(claim), "uid": uid_of(claim),
            },
        },
    }
