"""Claims and volumes for tests: how to build them, and a provisioner to be played in a physical cluster."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from kubeocean.kube.client import Client
from kubeocean.kube.errors import AlreadyExists, Conflict, NotFound
from kubeocean.kube.meta import Json, annotations_of, name_of, uid_of
from kubeocean.kube.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES
from tests.integration.federation import Federation, discard

SELECTED_NODE = "volume.kubernetes.io/selected-node"


def build_volume(name: str, claim: str, namespace: str, **spec: Any) -> Json:
    reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": claim}
    return {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": reference, **spec,
        },
    }


def build_claim(name: str, namespace: str, *, storage_class: str = "", annotations: Json | None = None, **spec: Any) -> Json:
    return {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations or {}},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": storage_class,
            **spec,
        },
    }


def mounting(claim: str) -> Json:
    container = {"name": "main", "image": "busybox", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    return {"containers": [container], "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]}


@asynccontextmanager
async def provisioner(client: Client, name: str, *, refuse: set[str]) -> AsyncIterator[None]:
    """Play the external provisioner of StorageClass `name`; a claim in `refuse` is given up once, as when a node is full."""
    async def provide(claim: Json) -> None:
        node, place = annotations_of(claim).get(SELECTED_NODE), claim["metadata"]
        if name_of(claim) in refuse and node:
            refuse.discard(name_of(claim))
            patch = {"metadata": {"annotations": {SELECTED_NODE: None}}}
            await client.patch(PERSISTENTVOLUMECLAIMS, name_of(claim), place["namespace"], patch)
            return
        at = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]
        volume = build_volume(
            f"made-{uid_of(claim)}", name_of(claim), place["namespace"], storageClassName=name,
            persistentVolumeReclaimPolicy="Delete", csi={"driver": "csi.test.example", "volumeHandle": uid_of(claim)},
            **({"nodeAffinity": {"required": {"nodeSelectorTerms": at}}} if node else {}),
        )
        volume["metadata"]["annotations"] = {"pv.kubernetes.io/provisioned-by": "csi.test.example"}
        volume["spec"]["claimRef"]["uid"] = uid_of(claim)
        with suppress(AlreadyExists):
            await client.create(PERSISTENTVOLUMES, volume)

    async def play() -> None:
        while True:
            for claim in (await client.list(PERSISTENTVOLUMECLAIMS)).items:
                asked = "volume.kubernetes.io/storage-provisioner" in annotations_of(claim)
                if claim["spec"].get("storageClassName") == name and not claim["spec"].get("volumeName") and asked:
                    with suppress(Conflict, NotFound):
                        await provide(claim)
            for volume in (await client.list(PERSISTENTVOLUMES)).items:
                if volume["spec"].get("storageClassName") == name and volume["status"].get("phase") == "Released":
                    await discard(client, PERSISTENTVOLUMES, name_of(volume))
            await asyncio.sleep(0.1)

    task = asyncio.create_task(play())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def make_class(federation: Federation, name: str, *, physical: bool = True, mode: str = "WaitForFirstConsumer") -> None:
    """Make a StorageClass on both sides, or in the virtual cluster alone."""
    obj = {
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
        "provisioner": "csi.test.example", "volumeBindingMode": mode, "reclaimPolicy": "Delete", "allowVolumeExpansion": True,
    }
    await federation.create(STORAGECLASSES, obj)
    if physical:
        federation.made.physical.append((0, STORAGECLASSES, name, ""))
        await federation.physical[0].create(STORAGECLASSES, obj)
