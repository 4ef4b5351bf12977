"""Which ports a Pod takes on its node, and the placeholder that tells the virtual scheduler."""

from typing import Any

import pytest

from kubeocean.domain.hostports import (
    HostPort,
    build_placeholder,
    host_ports,
    is_placeholder,
    merge_ports,
    plan_placeholder,
)
from kubeocean.kube.meta import Json, ObjectKey

WEB: Json = {"containerPort": 80, "hostPort": 8080}


def pod(*ports: Json, phase: str = "Running", init: tuple[Json, ...] = (), **spec: Any) -> Json:
    return {
        "metadata": {"name": "p"}, "status": {"phase": phase},
        "spec": {"containers": [{"name": "c", "ports": list(ports)}], "initContainers": list(init), **spec},
    }


ANY = "0.0.0.0"
TABLE: dict[str, tuple[Json, list[tuple[str, str, int]]]] = {
    "a hostPort on every address is a TCP port, unless said otherwise": (pod(WEB), [(ANY, "TCP", 8080)]),
    "a containerPort takes nothing of the node": (pod({"containerPort": 80}), []),
    "but with hostNetwork it does": (pod({"containerPort": 80}, hostNetwork=True), [(ANY, "TCP", 80)]),
    "address and protocol count": (pod({**WEB, "hostIP": "10.0.0.1", "protocol": "UDP"}), [("10.0.0.1", "UDP", 8080)]),
    "a Pod that is starting has them": (pod(WEB, phase="Pending"), [(ANY, "TCP", 8080)]),
    "one that has ended has none": (pod(WEB, phase="Succeeded"), []),
    "one that has failed has none": (pod(WEB, phase="Failed"), []),
    "a sidecar has them": (pod(init=({"name": "s", "restartPolicy": "Always", "ports": [WEB]},)), [(ANY, "TCP", 8080)]),
    "an init container does not": (pod(init=({"name": "s", "ports": [WEB]},)), []),
    "the same one twice is one": (pod(WEB, WEB), [(ANY, "TCP", 8080)]),
    "they are sorted by address, protocol and port": (
        pod(WEB, {**WEB, "hostPort": 443}, {**WEB, "protocol": "SCTP"}, {**WEB, "hostIP": "0.0.0.1"}),
        [(ANY, "SCTP", 8080), (ANY, "TCP", 443), (ANY, "TCP", 8080), ("0.0.0.1", "TCP", 8080)],
    ),
}


@pytest.mark.parametrize("sentence", TABLE)
def test_host_ports(sentence: str) -> None:
    given, expected = TABLE[sentence]
    assert list(host_ports(given)) == expected


def test_a_placeholder_is_as_the_contract_has_it() -> None:
    ports = merge_ports([[HostPort("10.0.0.1", "UDP", 53)], [HostPort(ANY, "TCP", 8080), HostPort("10.0.0.1", "UDP", 53)]])
    placeholder = build_placeholder("vnode-edge-a", ports, "edge")
    metadata, spec = placeholder["metadata"], placeholder["spec"]
    assert metadata["namespace"] == "kubeocean-fake"
    assert metadata["name"].startswith("fake-pod-for-hostport-")
    assert metadata["labels"] == {
        "kubeocean.io/hostport-fake-pod": "true", "kubeocean.io/managed-by": "kubeocean",
        "kubeocean.io/physical-cluster-id": "edge",
    }
    assert spec["nodeName"] == "vnode-edge-a"
    assert spec["tolerations"] == [{"operator": "Exists"}]
    (container,) = spec["containers"]
    assert container["ports"] == [
        {"name": "port-0", "containerPort": 8080, "hostPort": 8080, "hostIP": ANY, "protocol": "TCP"},
        {"name": "port-1", "containerPort": 53, "hostPort": 53, "hostIP": "10.0.0.1", "protocol": "UDP"},
    ]
    assert "resources" not in container


@pytest.mark.parametrize(("key", "answer"), [
    (ObjectKey("kubeocean-fake", "fake-pod-for-hostport-1"), True), (ObjectKey("kubeocean-fake", "users-own"), False),
    (ObjectKey("default", "fake-pod-for-hostport-1"), False),
])
def test_it_is_known_by_what_nobody_can_change(key: ObjectKey, answer: bool) -> None:
    assert is_placeholder(key) is answer


A, B = (HostPort(ANY, "TCP", 1),), (HostPort(ANY, "TCP", 2),)
OF_A, OF_B = build_placeholder("v", A, "edge"), build_placeholder("v", B, "edge")
GOING: Json = {**OF_A, "metadata": {**OF_A["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
UNMARKED: Json = {**OF_A, "metadata": {**OF_A["metadata"], "labels": {}}}

PLANS: dict[str, tuple[tuple[HostPort, ...], list[Json], Json | None, list[Json]]] = {
    "no ports, no placeholder": ((), [], None, []),
    "one for the ports there are": (A, [], OF_A, []),
    "one that says so already stays": (A, [OF_A], None, []),
    "other ports, another placeholder": (B, [OF_A], OF_B, [OF_A]),
    "without ports it goes": ((), [OF_A], None, [OF_A]),
    "of two the right one stays": (A, [OF_B, OF_A], None, [OF_B]),
    "one that goes is replaced": (A, [GOING], OF_A, [GOING]),
    "one without our labels is replaced": (A, [UNMARKED], OF_A, [UNMARKED]),
}


@pytest.mark.parametrize("sentence", PLANS)
def test_plan(sentence: str) -> None:
    ports, existing, create, delete = PLANS[sentence]
    plan = plan_placeholder("v", ports, existing, "edge")
    assert (plan.create, list(plan.delete)) == (create, delete)
