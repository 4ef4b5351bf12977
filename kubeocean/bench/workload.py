"""The Pods of a benchmark, and what is written about them in the floor. Pure.

All are the same small bare Pod that tolerates virtual nodes. With a token means that nothing is said about it: the API
server then mounts the ServiceAccount's token, as it does for nearly every Pod in the world.
"""

from __future__ import annotations

import itertools

from kubeocean.api import names
from kubeocean.kube.meta import Json

_NOW = "2026-01-01T00:00:00Z"  # what a status says about time does not matter to a server
_PADDING = "eA" * 2000  # a token and a CA certificate in base64 are about this long


def pod_names(prefix: str, count: int) -> list[str]:
    """Return `count` names."""
    return [f"{prefix}-{number:05}" for number in range(count)]


def build_pod(name: str, namespace: str, *, token: bool) -> Json:
    """Return the Pod that is measured."""
    spec: Json = {
        "containers": [{
            "name": "main", "image": "bench:1", "env": [{"name": "MODE", "value": "bench"}],
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        }],
        "tolerations": [{"key": names.VNODE_TAINT, "operator": "Exists", "effect": "NoSchedule"}],
    }
    if not token:
        spec["automountServiceAccountToken"] = False
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "bench"}},
        "spec": spec,
    }


def deal_pods(prefix: str, count: int, namespaces: list[str], *, token: bool) -> list[list[Json]]:
    """Return `count` Pods, dealt out among `namespaces`."""
    dealt = [pod_names(prefix, count)[number::len(namespaces)] for number in range(len(namespaces))]
    return [
        [build_pod(name, namespace, token=token) for name in own] for own, namespace in zip(dealt, namespaces, strict=True)
    ]


def build_foreign(count: int, nodes: list[list[str]], namespaces: list[str]) -> list[list[Json]]:
    """Return a lender's own `count` Pods, by cluster: dealt out among clusters, and in each among its `nodes`."""
    dealt = deal_pods("foreign", count, namespaces, token=False)
    for pods, names_of_nodes in zip(dealt, nodes, strict=True):
        for pod, node in zip(pods, itertools.cycle(names_of_nodes), strict=False):
            pod["spec"]["nodeName"] = node
    return dealt


def build_unscheduled(name: str, namespace: str, *, token: bool) -> Json:
    """Return the floor's virtual Pod: no scheduler feels called, for the bench binds it itself."""
    pod = build_pod(name, namespace, token=token)
    pod["spec"]["schedulerName"] = "kubeocean-bench"
    return pod


def build_everywhere(name: str, namespace: str, *, token: bool) -> Json:
    """Return the ceiling's virtual Pod, for the scheduler and for Nodes that nobody keeps alive."""
    pod = build_pod(name, namespace, token=token)
    pod["spec"]["tolerations"] = [{"operator": "Exists"}]
    return pod


def build_roomy_node(name: str) -> Json:
    """Return a Node that takes as many Pods as a scheduler likes."""
    room = {"cpu": "1000", "memory": "1000Gi", "pods": "10000"}
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"capacity": room, "allocatable": room},
    }


def build_bound(name: str, namespace: str, node: str, *, token_secret: str = "") -> Json:
    """Return the floor's physical Pod: bound already, no ServiceAccount, and with the words that every twin must have.

    They are as many and as long as there: where it comes from and what was wanted of it, its hostname, and the variables that
    keep it from talking to the lender's API server. A server works longer on a Pod with more of them. What Kubeocean puts on
    a twin beyond that is its own expense, and not in here.
    """
    pod = build_pod(name, namespace, token=False)
    pod["metadata"]["labels"] |= {f"kubeocean.io/bench-{number}": "x" * 16 for number in range(5)}
    lengths = (36, 36, 36, 36, 32, 232)
    pod["metadata"]["annotations"] = {f"kubeocean.io/bench-{at}": "x" * length for at, length in enumerate(lengths)}
    pod["spec"] |= {"nodeName": node, "enableServiceLinks": False, "hostname": name}
    pod["spec"]["containers"][0]["env"] += [
        {"name": "KUBERNETES_SERVICE_HOST"}, {"name": "KUBERNETES_SERVICE_PORT"}, {"name": "HOSTNAME", "value": name},
    ]
    if token_secret:
        pod["spec"]["volumes"] = [{"name": "token", "secret": {"secretName": token_secret}}]
        pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "token", "mountPath": names.TOKEN_MOUNT_PATH}]
    return pod


def build_binding(name: str, namespace: str, node: str) -> Json:
    """Return what a scheduler POSTs to bind a Pod."""
    return {
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "namespace": namespace},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }


def build_token_request(name: str, uid: str) -> Json:
    """Return what is POSTed for a token bound to a Pod."""
    spec: Json = {
        "audiences": [], "expirationSeconds": 3607,
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid},
    }
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": spec}


def build_secret(name: str, namespace: str) -> Json:
    """Return a Secret as big as one with a token."""
    return {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque", "data": {"token": _PADDING},
    }


def build_running(*, mapped: bool) -> Json:
    """Return the status patch of a Pod that has come up, as a kubelet writes it; `mapped`: with a mirror's annotations."""
    ready = [
        {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": _NOW}
        for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")
    ]
    container = {
        "name": "main", "image": "bench:1", "imageID": "", "containerID": "kwok://0", "ready": True, "started": True,
        "restartCount": 0, "state": {"running": {"startedAt": _NOW}},
    }
    patch: Json = {"status": {
        "phase": "Running", "startTime": _NOW, "hostIP": "127.0.0.1", "hostIPs": [{"ip": "127.0.0.1"}],
        "podIP": "10.101.0.1", "podIPs": [{"ip": "10.101.0.1"}], "conditions": ready, "containerStatuses": [container],
    }}
    if mapped:
        patch["metadata"] = {"annotations": {
            names.PHYSICAL_POD_NAMESPACE_ANNOTATION: "x" * 16, names.PHYSICAL_POD_NAME_ANNOTATION: "x" * 42,
            names.PHYSICAL_POD_UID_ANNOTATION: "x" * 36,
        }}
    return patch
