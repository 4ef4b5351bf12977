"""Nodes that look like nodes."""

import pytest

from kubeocean.kube.meta import Json
from kubeocean.sandbox.nodes import InvalidNode, NodeTemplate, build_node, is_ready, node_names, parse_pair, parse_taint

GPU = NodeTemplate(
    count=2, cpu="96", memory="768Gi", labels={"zone": "a"}, taints=(parse_taint("gpu:NoSchedule"),),
    extended={"nvidia.com/gpu": "8"},
)


def test_size_labels_and_taints_come_from_the_template() -> None:
    node = build_node("node-1", GPU, address="127.0.0.1", port=20001)
    assert node["status"]["allocatable"] == node["status"]["capacity"] == {
        "cpu": "96", "memory": "768Gi", "ephemeral-storage": "100Gi", "pods": "110", "nvidia.com/gpu": "8",
    }
    assert node["metadata"]["labels"].items() >= {"kubernetes.io/hostname": "node-1", "zone": "a"}.items()
    assert node["spec"]["taints"] == [{"key": "gpu", "effect": "NoSchedule"}]


def test_a_label_of_the_template_wins_over_ours() -> None:
    node = build_node("n", NodeTemplate(labels={"kubernetes.io/arch": "s390x"}), address="127.0.0.1", port=1)
    assert node["metadata"]["labels"]["kubernetes.io/arch"] == "s390x"


def test_names_are_the_same_in_every_cluster() -> None:
    assert node_names(3) == ["node-1", "node-2", "node-3"]


READY: Json = {"conditions": [{"type": "Ready", "status": "True"}]}
READINESS: dict[str, tuple[Json, bool]] = {
    "a new node is not": ({"spec": {}}, False),
    "a node KWOK has seen is": ({"spec": {}, "status": READY}, True),
    "one with its first taint is not yet": (
        {"spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}, "status": READY}, False
    ),
    "one with a taint of its own is": (
        {"spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}, "status": READY}, True
    ),
    "one that KWOK lost is not": ({"spec": {}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}, False),
}


@pytest.mark.parametrize("sentence", READINESS)
def test_readiness(sentence: str) -> None:
    node, ready = READINESS[sentence]
    assert is_ready(node) is ready


TAINTS = {
    "key, value and effect": ("a=b:NoExecute", {"key": "a", "value": "b", "effect": "NoExecute"}),
    "no value": ("a:NoSchedule", {"key": "a", "effect": "NoSchedule"}),
    "a key with a domain": ("x.io/a=b:PreferNoSchedule", {"key": "x.io/a", "value": "b", "effect": "PreferNoSchedule"}),
}


@pytest.mark.parametrize("sentence", TAINTS)
def test_taints_are_read_as_kubectl_writes_them(sentence: str) -> None:
    text, taint = TAINTS[sentence]
    assert parse_taint(text) == taint


@pytest.mark.parametrize("text", ["", "a", "a=b", "a=b:Sometimes", ":NoSchedule", "=b:NoSchedule"])
def test_an_unreadable_taint_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(InvalidNode, match="write KEY=VALUE:EFFECT"):
        parse_taint(text)


@pytest.mark.parametrize("text", ["", "a", "=b"])
def test_an_unreadable_pair_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(InvalidNode, match="write KEY=VALUE"):
        parse_pair(text)
