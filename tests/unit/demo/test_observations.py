"""Each observation sees what is there, and says of one broken thing what was expected and what is there instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kubeocean.demo.cast import LENDERS, SLICE
from kubeocean.demo.observations import (
    NotYet,
    Observation,
    a_container_is_real,
    all_are_running,
    all_is_gone,
    both_are_bound,
    clusters_are_apart,
    leases_are_exact,
    nothing_left_of,
    twins_are_right,
)
from kubeocean.domain.naming import physical_name

World = Any  # of conftest.py, which tests cannot import
FIRST_TWIN = physical_name("code-server-0", "default")


def test_clusters_apart_are_seen(apart: World) -> None:
    assert clusters_are_apart(apart.seen()).startswith("3 + 3 physical nodes, no virtual one")


def test_bindings_and_leases_are_seen(bound: World) -> None:
    assert both_are_bound(bound.seen()) == "lender-1 and lender-2 are Ready, their policies Active"
    said = leases_are_exact(bound.seen())
    assert "(cpu 50 %, memory 50 %): 4 / 16Gi" in said
    assert "(cpu 3, memory 8Gi): 3 / 8Gi" in said


def test_running_pods_and_their_twins_are_seen(deployed: World) -> None:
    assert all_are_running(deployed.seen()) == "8 Pods are Running: 4 in lender-1 and 4 in lender-2"
    assert twins_are_right(deployed.seen()).startswith("each of the 8 Pods has one twin")


def test_a_real_node_more_is_counted(bound: World) -> None:
    bound.add("physical-1", "Node", "real-1", status={"conditions": [], "allocatable": {"cpu": "2", "memory": "4Gi"}})
    with pytest.raises(NotYet, match="expected 4 Ready nodes in physical-1; seen 3"):
        clusters_are_apart(bound.seen())
    with pytest.raises(NotYet, match="expected lender-1 has 4 virtual nodes; seen its status counts 3"):
        both_are_bound(bound.seen())


def greet(world: World, container: str) -> World:
    world.run(LENDERS[0], "hello", "node-1")
    world.get("virtual", "Pod", "hello")["status"]["containerStatuses"] = [{"containerID": container}]
    return world


def test_a_real_container_is_seen(bound: World) -> None:
    seen = greet(bound, "containerd://abc").seen()
    assert a_container_is_real(seen).startswith("hello is Ready on vnode-c1-node-1: its twin is a container of containerd")


def test_a_container_that_kwok_plays_is_not_a_real_one(bound: World) -> None:
    with pytest.raises(NotYet, match=r"expected a container of containerd in hello; seen kwok://abc"):
        a_container_is_real(greet(bound, "kwok://abc").seen())


def test_a_container_that_is_not_there_is_waited_for(bound: World) -> None:
    with pytest.raises(NotYet, match=r"expected Pod hello is Ready; seen none"):
        a_container_is_real(bound.seen())


def test_deleted_pods_are_seen_gone(bound: World) -> None:
    assert all_is_gone(bound.seen()).startswith("no Pod is left")


def test_a_binding_without_a_trace_is_seen_gone(bound: World) -> None:
    unbind(bound)
    assert "the other 3 virtual nodes stay" in nothing_left_of(SLICE)(bound.seen())


def unbind(world: World) -> World:
    world.remove("physical-2", "Pod")
    world.remove("physical-2", "Secret")
    world.remove("virtual", "ClusterBinding", "lender-2")
    world.remove("virtual", "ResourceLeasingPolicy", "slice")
    world.remove("physical-2", "Namespace", "kubeocean-demo")
    for number in (1, 2, 3):
        world.remove("virtual", "Node", f"vnode-c2-node-{number}")
        world.remove("virtual", "Lease", f"vnode-c2-node-{number}")
    return world


def first_pod(world: World) -> Any:
    return world.get("virtual", "Pod", "code-server-0")


Break = Callable[[World], object]
BROKEN: dict[str, tuple[Observation, Break, str, str]] = {
    "a binding that failed says why": (
        both_are_bound,
        lambda world: world.get("virtual", "ClusterBinding", "lender-2").update(status={
            "phase": "Failed", "conditions": [{"type": "Ready", "status": "False", "reason": "ValidationFailed",
                                               "message": "Secret default/physical-2 is missing"}],
        }),
        "lender-2 is Ready",
        "lender-2 is Failed (ValidationFailed: Secret default/physical-2 is missing)",
    ),
    "a binding nobody has looked at has no phase": (
        both_are_bound, lambda world: world.get("virtual", "ClusterBinding", "lender-1").pop("status"),
        "lender-1 is Ready", "lender-1 has no phase yet",
    ),
    "a binding that counts too few nodes": (
        both_are_bound, lambda world: world.get("virtual", "ClusterBinding", "lender-1")["status"].update(nodes=2),
        "lender-1 has 3 virtual nodes", "its status counts 2",
    ),
    "a policy that is not in force": (
        both_are_bound, lambda world: world.get("virtual", "ResourceLeasingPolicy", "half")["status"].update(phase="Inactive"),
        "policy half is Active", "policy half is Inactive",
    ),
    "a lease that is a little too large": (
        leases_are_exact,
        lambda world: world.get("virtual", "Node", "vnode-c1-node-2")["status"]["allocatable"].update(cpu="4001m"),
        "allocatable cpu of vnode-c1-node-2 is 4 of 8", "it is 4001m",
    ),
    "a capacity that is not the lease": (
        leases_are_exact,
        lambda world: world.get("virtual", "Node", "vnode-c2-node-1")["status"].update(capacity={"cpu": "3"}),
        "capacity memory of vnode-c2-node-1 is 8Gi of 32Gi", "it is 0",
    ),
    "a physical node without a virtual one": (
        leases_are_exact, lambda world: world.remove("virtual", "Node", "vnode-c1-node-3"),
        "virtual node vnode-c1-node-3",
        "vnode-c1-node-1, vnode-c1-node-2, vnode-c2-node-1, vnode-c2-node-2, vnode-c2-node-3",
    ),
    "a virtual node that stands for nothing": (
        leases_are_exact, lambda world: world.add("virtual", "Node", "vnode-c9-node-1", status={}),
        "6 virtual nodes and no other",
        "vnode-c1-node-1, vnode-c1-node-2, vnode-c1-node-3, vnode-c2-node-1, vnode-c2-node-2, vnode-c2-node-3, vnode-c9-node-1",
    ),
    "a Pod that waits": (
        all_are_running, lambda world: first_pod(world)["status"].update(phase="Pending", conditions=[]),
        "8 Pods, all Running and Ready", "8 Pods, 7 of them so: 1 Pending and 7 Running",
    ),
    "all Pods in one cluster": (
        all_are_running,
        lambda world: [pod["spec"].update(nodeName="vnode-c1-node-1") for pod in world.seen().app_pods()],
        "some Pods on vnode-c2-*", "none",
    ),
    "a twin that is missing": (
        twins_are_right, lambda world: world.remove("physical-1", "Pod"),
        f"Pod {FIRST_TWIN} in physical-1, the twin of code-server-0", "none",
    ),
    "a twin on another node": (
        twins_are_right, lambda world: world.get("physical-1", "Pod", FIRST_TWIN)["spec"].update(nodeName="node-3"),
        "the twin of code-server-0 on the node that stands for vnode-c1-node-1", "it is on node-3 of physical-1",
    ),
    "a Pod that records another twin": (
        twins_are_right,
        lambda world: first_pod(world)["metadata"]["annotations"].update({"kubeocean.io/physical-pod-uid": "other"}),
        "code-server-0 names its twin in annotations", "'kubeocean.io/physical-pod-uid': 'other'",
    ),
    "a twin of a former Pod": (
        twins_are_right, lambda world: first_pod(world)["metadata"].update(uid="new"),
        f"twin {FIRST_TWIN} names Pod uid new", "uid-code-server-0",
    ),
    "a status that was not mirrored": (
        twins_are_right, lambda world: first_pod(world)["status"].update(podIP="10.9.9.9"),
        "podIP of code-server-0 is its twin's, 10.0.0.1", "10.9.9.9",
    ),
    "a twin whose token is missing": (
        twins_are_right, lambda world: world.remove("physical-1", "Secret"),
        f"Secret token-code-server-0, which twin {FIRST_TWIN} mounts", "none",
    ),
    "a twin of nobody": (
        twins_are_right, lambda world: world.add("physical-2", "Pod", "stray", "kubeocean-demo"), "8 twins in all", "9",
    ),
    "a Pod that is still there": (
        all_is_gone, lambda world: [world.remove(context, "Pod") for context in ("physical-1", "physical-2")],
        "no code-server Pod in the virtual cluster", "8: 8 Running",
    ),
    "a twin that is left": (
        all_is_gone, lambda world: [world.remove("virtual", "Pod"), world.remove("physical-1", "Pod"),
                                    world.remove("physical-1", "Secret")],
        "no Pod of ours in physical-2", "4: code-server-1",
    ),
    "a token that is left": (
        all_is_gone, lambda world: [world.remove(context, "Pod") for context in world.objects],
        "no Secret of ours in physical-1", "token-code-server-0",
    ),
    "a binding that stays": (
        nothing_left_of(SLICE), lambda _: None, "nothing of lender-2 on either side",
        "ClusterBinding lender-2, ResourceLeasingPolicy slice, Node vnode-c2-node-1",
    ),
    "an annotation that stays on a physical node": (
        nothing_left_of(SLICE),
        lambda world: unbind(world).get("physical-2", "Node", "node-2")["metadata"].update(
            annotations={"kubeocean.io/policy-applied-by": "x"}
        ),
        "nothing of lender-2 on either side", "Node node-2 in physical-2",
    ),
    "another lender's virtual node that went with it": (
        nothing_left_of(SLICE),
        lambda world: unbind(world).remove("virtual", "Node", "vnode-c1-node-1"),
        "virtual nodes vnode-c1-node-1, vnode-c1-node-2, vnode-c1-node-3", "vnode-c1-node-2, vnode-c1-node-3",
    ),
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_what_is_not_as_told_is_not_observed(sentence: str, deployed: World) -> None:
    observation, break_it, expected, seen = BROKEN[sentence]
    break_it(deployed)
    with pytest.raises(NotYet) as raised:
        observation(deployed.seen())
    assert raised.value.expected.startswith(expected)
    assert seen in raised.value.seen


def test_a_physical_node_that_is_not_ready_is_waited_for(apart: World) -> None:
    apart.get("physical-1", "Node", "node-1")["status"]["conditions"] = []
    with pytest.raises(NotYet, match=r"expected 3 Ready nodes in physical-1; seen 2"):
        clusters_are_apart(apart.seen())


def test_a_pod_that_no_scheduler_has_bound_has_no_twin_to_look_for(deployed: World) -> None:
    del first_pod(deployed)["spec"]["nodeName"]
    with pytest.raises(NotYet, match="code-server-0 on a virtual node; seen it is on none"):
        twins_are_right(deployed.seen())
