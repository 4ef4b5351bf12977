"""A binding that uses everything there is: one Pod that needs all kinds of objects, and all that stands beside it."""

import base64
import uuid
from typing import Any

from kubeocean.kube.meta import Json, name_of
from kubeocean.kube.resources import (
    CONFIGMAPS,
    CSINODES,
    ENDPOINTSLICES,
    NETWORKPOLICIES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    SECRETS,
    SERVICES,
    Resource,
)
from tests.integration.federation import Federation, Lender, build_pod, eventually, find
from tests.integration.storage import build_claim, build_volume

LABELS = {"app": "web"}
# Resource and name of what Pod `web` needs or is served by, each of them copied to the mountNamespace.
COPIED: list[tuple[Resource, str]] = [
    (CONFIGMAPS, "settings"), (SECRETS, "password"), (PERSISTENTVOLUMECLAIMS, "data"), (SERVICES, "web"),
    (NETWORKPOLICIES, "guard"),
]


async def use_everything(federation: Federation, namespace: str, **spec: Any) -> Lender:
    """Bind two nodes and have Pods `web` and `other` Running there, with every kind of copy, mark and companion in place.

    `spec` adds to the binding's.
    """
    pool = await federation.pool(nodes=2)
    driver = {"name": "csi.test.example", "nodeID": pool.nodes[0], "allocatable": {"count": 5}}
    federation.made.physical.append((0, CSINODES, pool.nodes[0], ""))
    await federation.physical[0].create(CSINODES, {
        "apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": pool.nodes[0]},
        "spec": {"drivers": [driver]},
    })
    lender = await federation.bind(pool, serviceNamespaces=[namespace], **spec)
    await federation.policy(lender, resourceLimits=[{"resource": "cpu", "percent": 90}])
    await federation.vnodes(lender)
    await _hold_a_host_port(federation, lender)
    for resource, obj in _objects(namespace):
        if resource.namespaced:
            await federation.virtual.create(resource, obj)
        else:
            await federation.create(resource, obj)
    pod = build_pod("web", namespace, lender, metadata={"labels": LABELS}, **_needing_everything())
    await federation.virtual.create(PODS, pod)
    await federation.virtual.create(PODS, build_pod("other", namespace, lender))
    await federation.running(namespace, "web", "other", within=60)  # volume controllers of two clusters take their time
    await eventually(lambda: _all_there(federation, lender, namespace), within=20, what="everything is in place")
    return lender


async def _hold_a_host_port(federation: Federation, lender: Lender) -> None:
    name = f"web-{lender.pool.name}"
    federation.made.physical.append((0, PODS, name, "default"))
    container = {"name": "main", "image": "busybox", "ports": [{"containerPort": 80, "hostPort": 8080}]}
    await federation.physical[0].create(PODS, {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": lender.pool.nodes[0], "containers": [container], "terminationGracePeriodSeconds": 1},
    })


def _objects(namespace: str) -> list[tuple[Resource, Json]]:
    def metadata(name: str) -> Json:
        return {"name": name, "namespace": namespace, "labels": LABELS}

    volume = f"volume-{uuid.uuid4().hex[:6]}"
    password = base64.b64encode(b"sesame").decode()
    return [
        (CONFIGMAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("settings"), "data": {"colour": "blue"}}),
        (SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata("password"), "data": {"password": password}}),
        (PERSISTENTVOLUMES, build_volume(volume, "data", namespace, nfs={"server": "10.0.0.9", "path": "/data"})),
        (PERSISTENTVOLUMECLAIMS, build_claim("data", namespace, volumeName=volume)),
        (SERVICES, {
            "apiVersion": "v1", "kind": "Service", "metadata": metadata("web"),
            "spec": {"selector": LABELS, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        }),
        (NETWORKPOLICIES, {
            "apiVersion": NETWORKPOLICIES.api_version, "kind": "NetworkPolicy", "metadata": metadata("guard"),
            "spec": {"podSelector": {"matchLabels": LABELS}, "ingress": [{}]},
        }),
    ]


def _needing_everything() -> Json:
    container: Json = {
        "name": "main", "image": "busybox", "envFrom": [{"configMapRef": {"name": "settings"}}],
        "volumeMounts": [{"name": "password", "mountPath": "/password"}, {"name": "data", "mountPath": "/data"}],
    }
    volumes: list[Any] = [
        {"name": "password", "secret": {"secretName": "password"}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
    ]
    return {"containers": [container], "volumes": volumes}


async def _all_there(federation: Federation, lender: Lender, namespace: str) -> bool:
    physical, mount = federation.physical[lender.pool.cluster], lender.mount_namespace
    for resource, name in COPIED:
        found = {name_of(obj).rpartition("-")[0] for obj in (await physical.list(resource, mount)).items}
        assert name in found, f"no copy of {resource.kind} {name}"
    assert (await physical.list(ENDPOINTSLICES, mount)).items, "no EndpointSlice"
    tokens = await physical.list(SECRETS, mount, label_selector="kubeocean.io/service-account-token=true")
    assert len(tokens.items) == 2, "no token Secrets"
    assert await find(federation.virtual, CSINODES, lender.vnode()), "no CSINode"
    fakes = (await federation.virtual.list(PODS, "kubeocean-fake")).items
    assert lender.vnode() in {pod["spec"]["nodeName"] for pod in fakes}, "no placeholder"
    labels = (await physical.get(NODES, lender.pool.nodes[0]))["metadata"]["labels"]
    assert "kubeocean.io/policy-applied" in labels, "no label on the physical node"
    return True
