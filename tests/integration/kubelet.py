"""The test plays the kubelet: on nodes of an unplayed pool nothing happens to a Pod but what is said here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json, format_micro_time, format_time, name_of, namespace_of, uid_of
from kubeocean.kube.resources import LEASES, NODES, PODS
from tests.integration.federation import Federation, Lender, discard, find


class Kubelet:
    """The kubelets of a lender's nodes."""

    def __init__(self, client: Client, lender: Lender) -> None:
        self._client, self._lender = client, lender

    async def heartbeat(self) -> None:
        """Keep the physical node controller content for another 50 s."""
        for node in self._lender.pool.nodes:
            spec = {
                "holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": format_micro_time(datetime.now(UTC)),
            }
            if await find(self._client, LEASES, node, "kube-node-lease"):
                await self._client.patch(LEASES, node, "kube-node-lease", {"spec": spec})
            else:
                await self._client.create(LEASES, {
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": node, "namespace": "kube-node-lease", "ownerReferences": [{
                        "apiVersion": "v1", "kind": "Node", "name": node,
                        "uid": uid_of(await self._client.get(NODES, node)),
                    }]},
                    "spec": spec,
                })

    async def says(self, twin: Json, **status: Any) -> Json:
        """Write part of a Pod's status."""
        return await self._client.patch(PODS, name_of(twin), namespace_of(twin), {"status": status}, subresource="status")

    async def runs(self, twin: Json, **status: Any) -> Json:
        """Say that the Pod runs and is ready."""
        return await self.says(twin, **running_status(), **status)

    async def confirm_end(self, twin: Json) -> None:
        """Say that the containers of a Pod that is being deleted have ended."""
        await self._client.delete(PODS, name_of(twin), namespace_of(twin), uid=uid_of(twin), grace_seconds=0)


@asynccontextmanager
async def played(federation: Federation, lender: Lender, namespace: str) -> AsyncIterator[Kubelet]:
    """The kubelet of a lender's nodes; in the end the Pods of a namespace, and all twins, are gone: nobody else ends them."""
    kubelet = Kubelet(federation.physical[0], lender)
    await kubelet.heartbeat()
    yield kubelet
    for pod in (await federation.virtual.list(PODS, namespace)).items:
        await discard(federation.virtual, PODS, name_of(pod), namespace, grace_seconds=0)
    for twin in await federation.twins(lender):
        await discard(federation.physical[0], PODS, name_of(twin), lender.mount_namespace, grace_seconds=0)


def running_status(*, pod_ip: str = "10.1.2.3") -> Json:
    now = format_time(datetime.now(UTC))
    return {
        "phase": "Running", "hostIP": "192.0.2.7", "hostIPs": [{"ip": "192.0.2.7"}], "podIP": pod_ip,
        "podIPs": [{"ip": pod_ip}], "startTime": now, "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": now}
            for kind in ("Initialized", "ContainersReady", "Ready", "PodScheduled", "PodReadyToStartContainers")
        ],
        "containerStatuses": [{
            "name": "main", "image": "busybox", "imageID": "sha256:1", "containerID": "containerd://1", "ready": True,
            "started": True, "restartCount": 0, "state": {"running": {"startedAt": now}},
        }],
    }
