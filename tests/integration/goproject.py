"""What the Go project of the same name (v0.1.1) leaves on both sides for one Pod that needs everything, in the form it writes.

Marks and names as in ours, for it set them; but no owner anywhere, no hash, no uid on a claim, and the twin has its token under
a key of that project's, the certificate from a copied ConfigMap.
"""

import base64
import json
import uuid
from dataclasses import dataclass, field

from kubeocean.kube.client import Client, PatchType
from kubeocean.kube.meta import Json, annotations_of, is_deleting, labels_of, name_of, namespace_of, uid_of
from kubeocean.kube.resources import (
    CONFIGMAPS,
    CSINODES,
    LEASES,
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    SECRETS,
    Resource,
)
from tests.integration.federation import (
    Federation,
    Lender,
    build_pod,
    eventually,
    find,
    is_running,
    twin_name,
    until_it_takes_pods,
)
from tests.integration.storage import build_claim, build_volume

LEASES_OF_NODES, PLACEHOLDERS = "kube-node-lease", "kubeocean-fake"
MANAGED = {"kubeocean.io/managed-by": "kubeocean"}
PASSWORD = {"password": base64.b64encode(b"sesame").decode()}
TAKEN: Json = {"resources": {"requests": {"cpu": "6"}}, "ports": [{"containerPort": 80, "hostPort": 8080}]}
READY: Json = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}
TAINTS: list[Json] = [{"key": "kubeocean.io/vnode", "effect": "NoSchedule"}]


@dataclass
class GoProject:
    """Everything that `leave` made, as stored; `above` and `below` are by kind."""

    federation: Federation
    lender: Lender
    namespace: str
    above: dict[str, Json] = field(default_factory=dict)
    below: dict[str, Json] = field(default_factory=dict)

    @property
    def _physical(self) -> Client:
        return self.federation.physical[self.lender.pool.cluster]

    async def leave(self) -> None:
        """Put it all into both clusters; while no syncer of ours runs."""
        await self._leave_node()
        await self._leave_beside_node()
        await self._leave_copies()
        await self._leave_claim()
        await self._leave_pod()

    async def now(self) -> dict[str, Json]:
        """Return what has become of what is below."""
        found = {}
        for kind, obj in self.below.items():
            found[kind] = await self._physical.get(_RESOURCES[obj["kind"]], name_of(obj), namespace_of(obj))
        return found

    # --- marks -------------------------------------------------------------------------------------------------------
    def _marked(self, obj: Json, twin: str) -> Json:
        synced = f"kubeocean.io/synced-by-{self.lender.cluster_id}"
        metadata = obj["metadata"]
        place = {"kubeocean.io/physical-name": twin}
        if namespace_of(obj):
            place["kubeocean.io/physical-namespace"] = self.lender.mount_namespace
        metadata["labels"] = {**metadata.get("labels", {}), **MANAGED, synced: "true"}
        metadata["annotations"] = {**metadata.get("annotations", {}), **place}
        metadata["finalizers"] = [f"kubeocean.io/finalizer-{self.lender.cluster_id}"]
        return obj

    def _copied(self, obj: Json, twin: str) -> Json:
        origin = {"kubeocean.io/virtual-name": name_of(obj)}
        metadata: Json = {"name": twin, "annotations": origin}
        if namespace_of(obj):
            metadata["namespace"] = self.lender.mount_namespace
            origin["kubeocean.io/virtual-namespace"] = namespace_of(obj)
        metadata["labels"] = {**MANAGED, f"kubeocean.io/synced-by-{self.lender.cluster_id}": "true"}
        return {**obj, "metadata": metadata}

    async def _put_both(self, kind: str, obj: Json, twin: str = "") -> None:
        resource, twin = _RESOURCES[obj["kind"]], twin or twin_name(name_of(obj), namespace_of(obj))
        copied = self._copied(obj, twin)
        create = self.federation.virtual.create if resource.namespaced else self.federation.create
        self.above[kind] = await create(resource, self._marked(obj, twin))
        self.below[kind] = await self._physical.create(resource, copied)

    # --- what there is -----------------------------------------------------------------------------------------------
    async def _leave_node(self) -> None:
        node = await self._physical.get(NODES, self.lender.pool.nodes[0])
        vnode, virtual = self.lender.vnode(), self.federation.virtual
        told = {"kubeocean.io/physical-node-name": name_of(node), "kubeocean.io/physical-node-uid": uid_of(node)}
        labels = {
            **labels_of(node), **MANAGED, **told, "kubeocean.io/cluster-binding": self.lender.binding,
            "kubeocean.io/physical-cluster-id": self.lender.cluster_id, "kubeocean.io/proxier_port": "23456",
            "kubernetes.io/hostname": vnode, "node.kubernetes.io/instance-type": "vnode", "type": "virtual-kubelet",
        }
        annotations = {**told, "kubeocean.io/policies-applied": "rlp", "kubeocean.io/last-sync-time": "2026-01-01T11:59:00Z"}
        expected = json.dumps({"labels": labels, "annotations": annotations, "taints": TAINTS}).encode()
        annotations["kubeocean.io/expected-metadata"] = base64.b64encode(expected).decode()
        await virtual.create(NODES, {
            "apiVersion": "v1", "kind": "Node", "spec": {"taints": TAINTS},
            "metadata": {
                "name": vnode, "labels": {**labels, "team": "users-own"}, "annotations": annotations,
                "finalizers": ["kubeocean.io/vnode"],
            },
        })
        figures = node["status"]["allocatable"]
        status = {"status": {"capacity": figures, "allocatable": figures, "conditions": [READY]}}
        self.above["node"] = await virtual.patch(NODES, vnode, "", status, kind=PatchType.STRATEGIC, subresource="status")

    async def _leave_beside_node(self) -> None:
        """Leave the virtual node's Lease, its CSINode, and the placeholder of a host port that a Pod of the lender's takes."""
        create, node, vnode = self.federation.create, self.lender.pool.nodes[0], self.lender.vnode()
        spec: Json = {"holderIdentity": vnode, "leaseDurationSeconds": 40, "renewTime": "2026-01-01T11:59:00.000000Z"}
        lease = {"metadata": {"name": vnode, "namespace": LEASES_OF_NODES}, "spec": spec}
        self.above["lease"] = await self.federation.virtual.create(LEASES, {**_typed(LEASES), **lease})
        spec = {"drivers": [{"name": "csi.test.example", "nodeID": "machine-1", "allocatable": {"count": 8}}]}
        self.federation.made.physical.append((self.lender.pool.cluster, CSINODES, node, ""))
        await self._physical.create(CSINODES, {**_typed(CSINODES), "metadata": {"name": node}, "spec": spec})
        metadata = {"name": vnode} | {key: self.above["node"]["metadata"][key] for key in ("labels", "annotations")}
        self.above["csinode"] = await create(CSINODES, {**_typed(CSINODES), "metadata": metadata, "spec": spec})

        name = f"theirs-{self.lender.pool.name}"
        self.federation.made.physical.append((self.lender.pool.cluster, PODS, name, "default"))
        taken = {"name": "main", "image": "busybox", "ports": [{"containerPort": 90, "hostPort": 9090}]}
        spec = {"nodeName": node, "containers": [taken], "terminationGracePeriodSeconds": 1}
        await self._physical.create(PODS, {**_typed(PODS), "metadata": {"name": name, "namespace": "default"}, "spec": spec})
        await self._leave_namespace_of_placeholders()
        metadata = {
            "name": f"fake-pod-for-hostport-{uuid.uuid4().hex[:8]}", "namespace": PLACEHOLDERS,
            "labels": {**MANAGED, "kubeocean.io/hostport-fake-pod": "true"},
        }
        port = {"name": "port-0", "containerPort": 9090, "hostPort": 9090, "hostIP": "0.0.0.0", "protocol": "TCP"}
        spec = {
            "nodeName": vnode, "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "fake", "image": "busybox", "ports": [port]}],
        }
        placeholder = {**_typed(PODS), "metadata": metadata, "spec": spec}
        self.above["placeholder"] = await self.federation.virtual.create(PODS, placeholder)

    async def _leave_namespace_of_placeholders(self) -> None:
        namespace = {**_typed(NAMESPACES), "metadata": {"name": PLACEHOLDERS, "labels": MANAGED}}

        async def there() -> bool:
            found = await find(self.federation.virtual, NAMESPACES, PLACEHOLDERS)
            if found is None:
                await self.federation.create(NAMESPACES, namespace)
            return not is_deleting(found or namespace)  # one that goes was another test's

        await eventually(there, within=30, what="the namespace of placeholders")
        await until_it_takes_pods(self.federation.virtual, PLACEHOLDERS)

    async def _leave_copies(self) -> None:
        metadata = {"namespace": self.namespace}
        await self._put_both("config", {
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {**metadata, "name": "settings"}, "data": {"colour": "blue"},
        })
        await self._put_both("secret", {
            "apiVersion": "v1", "kind": "Secret", "metadata": {**metadata, "name": "password"}, "type": "Opaque",
            "data": PASSWORD,
        })

    async def _leave_claim(self) -> None:
        name = f"volume-{uuid.uuid4().hex[:6]}"
        source = {"csi": {"driver": "csi.test.example", "volumeHandle": name}}
        volume, claim = build_volume(name, "data", self.namespace, **source), build_claim("data", self.namespace)
        twin, twin_claim = twin_name(name, ""), twin_name("data", self.namespace)
        self.federation.made.physical.append((self.lender.pool.cluster, PERSISTENTVOLUMES, twin, ""))
        volume["spec"]["persistentVolumeReclaimPolicy"] = "Delete"
        copied = self._copied(volume, twin)
        copied["spec"] = {**volume["spec"], "claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": self.lender.mount_namespace, "name": twin_claim,
        }}
        self.above["volume"] = await self.federation.create(PERSISTENTVOLUMES, self._marked(volume, twin))
        await self._physical.create(PERSISTENTVOLUMES, copied)
        below = self._copied(claim, twin_claim)
        below["spec"] = {**claim["spec"], "volumeName": twin}
        claim["spec"]["volumeName"] = name
        await self.federation.virtual.create(PERSISTENTVOLUMECLAIMS, self._marked(claim, twin_claim))
        await self._physical.create(PERSISTENTVOLUMECLAIMS, below)

        async def bound() -> bool:
            self.above["claim"] = await self.federation.virtual.get(PERSISTENTVOLUMECLAIMS, "data", self.namespace)
            self.below["claim"] = await self._physical.get(PERSISTENTVOLUMECLAIMS, twin_claim, self.lender.mount_namespace)
            return all(side["claim"]["status"].get("phase") == "Bound" for side in (self.above, self.below))

        await eventually(bound, within=40, what="the claims are bound, each on its side")
        self.below["volume"] = await self._physical.get(PERSISTENTVOLUMES, twin)

    async def _leave_pod(self) -> None:
        mount, virtual = self.lender.mount_namespace, self.federation.virtual
        env: list[Json] = [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "password"}}]
        data = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
        pod = build_pod(
            "web", self.namespace, self.lender, nodeName=self.lender.vnode(), volumes=[data],
            containers=[{"name": "main", "image": "busybox", "envFrom": env, **TAKEN}],
        )
        vpod = await virtual.create(PODS, pod)
        (access,) = (each["name"] for each in vpod["spec"]["volumes"] if "projected" in each)
        token = twin_name(f"web-{access}-{uid_of(vpod)}", "")
        self.below["token"] = await self._physical.create(SECRETS, {
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"sa-token": base64.b64encode(b"old").decode()},
            "metadata": {
                "name": token, "namespace": mount, "labels": {**MANAGED, "kubeocean.io/service-account-token": "true"},
            },
        })
        names = {name: twin_name(name, self.namespace) for name in ("web", "settings", "password", "data", "kube-root-ca.crt")}
        origin = {
            "kubeocean.io/virtual-pod-namespace": self.namespace, "kubeocean.io/virtual-pod-name": "web",
            "kubeocean.io/virtual-pod-uid": uid_of(vpod), "kubeocean.io/virtual-node-name": self.lender.vnode(),
            "kubeocean.io/expected-metadata": base64.b64encode(b'{"labels": {}, "annotations": {}}').decode(),
        }
        sources = [
            {"secret": {"name": token, "items": [{"key": "sa-token", "path": "token"}]}},
            {"configMap": {"name": names["kube-root-ca.crt"], "optional": True}},
        ]
        await self._physical.create(PODS, {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": names["web"], "namespace": mount, "labels": MANAGED, "annotations": origin},
            "spec": {
                "nodeName": self.lender.pool.nodes[0], "automountServiceAccountToken": False,
                "containers": [{"name": "main", "image": "busybox", **TAKEN, "envFrom": [
                    {"configMapRef": {"name": names["settings"]}}, {"secretRef": {"name": names["password"]}},
                ]}],
                "volumes": [
                    {"name": "data", "persistentVolumeClaim": {"claimName": names["data"]}},
                    {"name": access, "projected": {"sources": sources}},
                ],
            },
        })

        async def runs() -> bool:
            self.below["pod"] = await self._physical.get(PODS, names["web"], mount)
            return is_running(self.below["pod"])

        await eventually(runs, within=20, what="the twin runs")
        noted = {
            "kubeocean.io/physical-pod-namespace": mount, "kubeocean.io/physical-pod-name": names["web"],
            "kubeocean.io/physical-pod-uid": uid_of(self.below["pod"]),
        }
        below = self.below["pod"]["status"]
        status = {key: below[key] for key in ("phase", "podIP", "podIPs", "startTime", "conditions", "containerStatuses")}
        patch = {"metadata": {"annotations": {**annotations_of(vpod), **noted}}, "status": status}
        self.above["pod"] = await virtual.patch(
            PODS, "web", self.namespace, patch, kind=PatchType.STRATEGIC, subresource="status"
        )


def _typed(resource: Resource) -> Json:
    return {"apiVersion": resource.api_version, "kind": resource.kind}


_RESOURCES: dict[str, Resource] = {
    each.kind: each for each in (CONFIGMAPS, SECRETS, PERSISTENTVOLUMES, PERSISTENTVOLUMECLAIMS, PODS, NODES)
}
