"""A world as it looks when everything went well; tests break one thing in it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from kubeocean.demo.cast import LENDERS, NODES, REPLICAS, Lender
from kubeocean.demo.observations import Snapshot
from kubeocean.domain.naming import physical_name
from kubeocean.kube.meta import Json

READY = [{"type": "Ready", "status": "True"}]


class World:
    """The objects of every cluster, to be changed at will."""

    def __init__(self) -> None:
        self.objects: dict[str, list[Json]] = {"virtual": [], **{lender.context: [] for lender in LENDERS}}

    def add(self, context: str, kind: str, name: str, namespace: str = "", **fields: Any) -> Json:
        metadata: Json = {"name": name, **({"namespace": namespace} if namespace else {}), **fields.pop("metadata", {})}
        self.objects[context].append({"kind": kind, "metadata": metadata, **deepcopy(fields)})
        return self.objects[context][-1]

    def get(self, context: str, kind: str, name: str) -> Json:
        return next(obj for obj in self.objects[context] if (obj["kind"], obj["metadata"]["name"]) == (kind, name))

    def remove(self, context: str, kind: str, name: str = "") -> None:
        self.objects[context] = [
            obj for obj in self.objects[context] if obj["kind"] != kind or name not in ("", obj["metadata"]["name"])
        ]

    def run(self, lender: Lender, name: str, node: str) -> None:
        add_pod(self, lender, name, node)

    def seen(self) -> Snapshot:
        return Snapshot(self.objects)


@pytest.fixture
def apart() -> World:
    """Clusters that know nothing of each other."""
    world = World()
    for lender in LENDERS:
        for number in range(1, NODES + 1):
            world.add(
                lender.context, "Node", f"node-{number}",
                status={"conditions": READY, "allocatable": {"cpu": "8", "memory": "32Gi"}},
            )
        world.add(lender.context, "Namespace", "default")
    return world


@pytest.fixture
def bound(apart: World) -> World:
    """Both clusters are bound and leased."""
    shares = {1: {"cpu": "4", "memory": "16Gi"}, 2: {"cpu": "3", "memory": "8Gi"}}
    for lender in LENDERS:
        apart.add("virtual", "ClusterBinding", lender.binding, status={"phase": "Ready", "nodes": NODES})
        apart.add("virtual", "ResourceLeasingPolicy", lender.policy, status={"phase": "Active"})
        apart.add(lender.context, "Namespace", "kubeocean-demo")
        for number in range(1, NODES + 1):
            vnode = f"vnode-c{lender.number}-node-{number}"
            share = shares[lender.number]
            apart.add("virtual", "Node", vnode, status={"conditions": READY, "capacity": share, "allocatable": share})
            apart.add("virtual", "Lease", vnode, "kube-node-lease")
    return apart


@pytest.fixture
def deployed(bound: World) -> World:
    """All Pods run, each with its twin."""
    for number in range(REPLICAS):
        lender = LENDERS[number % 2]
        add_pod(bound, lender, f"code-server-{number}", f"node-{number % NODES + 1}")
    return bound


def add_pod(world: World, lender: Lender, name: str, node: str) -> None:
    twin, uid, twin_uid, status = physical_name(name, "default"), f"uid-{name}", f"uid-of-twin-{name}", {
        "phase": "Running", "podIP": "10.0.0.1", "startTime": "2026-01-01T00:00:00Z", "conditions": READY,
    }
    world.add(
        "virtual", "Pod", name, "default", status=status, spec={"nodeName": f"vnode-c{lender.number}-{node}"},
        metadata={"uid": uid, "labels": {"app": "code-server"}, "annotations": {
            "kubeocean.io/physical-pod-namespace": "kubeocean-demo", "kubeocean.io/physical-pod-name": twin,
            "kubeocean.io/physical-pod-uid": twin_uid,
        }},
    )
    world.add(
        lender.context, "Pod", twin, "kubeocean-demo", status=status,
        spec={"nodeName": node, "volumes": [{"name": "t", "secret": {"secretName": f"token-{name}"}}]},
        metadata={"uid": twin_uid, "annotations": {"kubeocean.io/virtual-pod-uid": uid}},
    )
    world.add(lender.context, "Secret", f"token-{name}", "kubeocean-demo")
