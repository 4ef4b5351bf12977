"""Whose an object is, read off the object; and a line for every one that cannot be used."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kubeocean.domain.ownership import Owner
from kubeocean.kube.meta import Json, name_of
from kubeocean.simulate.files import read_text
from kubeocean.simulate.given import BadInput, Given, Side
from kubeocean.simulate.world import World, build_world

GROUP = "cloud.tencent.com/v1beta1"
REQUESTS: Json = {"requests": {"cpu": "1"}}


def binding(name: str = "b", **spec: Any) -> Json:
    whole = {"clusterID": "c", "secretRef": {"name": "s", "namespace": "n"}, "mountNamespace": "m", **spec}
    return {"apiVersion": GROUP, "kind": "ClusterBinding", "metadata": {"name": name}, "spec": whole}


def policy(name: str = "p", **spec: Any) -> Json:
    return {"apiVersion": GROUP, "kind": "ResourceLeasingPolicy", "metadata": {"name": name}, "spec": {"cluster": "b", **spec}}


def node(name: str = "node-1", labels: Json | None = None, **allocatable: Any) -> Json:
    status = {"allocatable": {"cpu": "8", **allocatable}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels or {}}, "status": status}


def vnode(name: str = "vnode-c-node-1", cluster_id: str = "c") -> Json:
    labels = {
        "type": "virtual-kubelet", "kubeocean.io/managed-by": "kubeocean", "kubeocean.io/physical-cluster-id": cluster_id,
        "kubeocean.io/physical-node-name": "node-1",
    }
    return node(name, labels)


def pod(name: str, on: str, labels: Json | None = None, annotations: Json | None = None) -> Json:
    metadata = {"name": name, "namespace": "default", "labels": labels or {}, "annotations": annotations or {}}
    spec = {"nodeName": on, "containers": [{"name": "app", "resources": REQUESTS}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def given(*objects: Json, side: Side = Side.EITHER, source: str = "f", live: bool = False) -> list[Given]:
    return [Given(source, side, each, live) for each in objects]


def world(*objects: Json, **options: Any) -> World:
    return build_world(given(*objects), **options)


TWIN_MARKS = {"kubeocean.io/managed-by": "kubeocean", "kubeocean.io/owner": Owner("uid", "c").label}


def test_a_mix_of_both_clusters_is_told_apart() -> None:
    found = world(
        binding(), policy(), node(), vnode(), pod("user", "vnode-c-node-1"), pod("foreign", "node-1"),
        pod("twin", "node-1", TWIN_MARKS, {"kubeocean.io/virtual-node-name": "vnode-c-node-1"}),
    )
    assert [name_of(each) for each in found.nodes] == ["node-1"]
    assert list(found.vnodes) == ["node-1"]
    assert [name_of(each) for each in found.pods["vnode-c-node-1"]] == ["user"]
    assert str(found.foreign["node-1"]["cpu"]) == "1"


def test_another_borrowers_twin_takes_room_like_anybody() -> None:
    other = pod("twin", "node-1", TWIN_MARKS, {"kubeocean.io/virtual-node-name": "vnode-other-node-1"})
    assert str(world(binding(), policy(), node(), other).foreign["node-1"]["cpu"]) == "1"


def test_with_clusters_at_hand_a_twin_is_known_by_its_owner() -> None:
    twin = pod("twin", "node-1", TWIN_MARKS)
    objects = [*given(binding(), policy(), side=Side.VIRTUAL), *given(node(), twin, side=Side.PHYSICAL)]
    assert "node-1" not in build_world(objects, owner=Owner("uid", "c")).foreign
    assert "node-1" in build_world(objects, owner=Owner("another", "c")).foreign


def test_another_bindings_virtual_node_is_no_machine() -> None:
    found = world(binding(), policy(), node(), vnode("vnode-d-node-1", "d"))
    assert ([name_of(each) for each in found.nodes], dict(found.vnodes)) == (["node-1"], {})


def test_a_lenders_file_holds_his_own_policies() -> None:
    objects = [*given(binding(), policy()), *given(policy("p", cluster=""), node(), side=Side.PHYSICAL, source="lender")]
    found = build_world(objects)
    assert [each.name for each in found.policies] == ["p"]
    assert [each.cluster for each in found.lender.policies or ()] == ["*"]


def test_a_file_replaces_what_a_cluster_has() -> None:
    live = given(binding(), policy(priority=1), node(), side=Side.VIRTUAL, source="cluster", live=True)
    found = build_world([*live, *given(node(), side=Side.PHYSICAL, live=True), *given(policy(priority=2))])
    assert [each.priority for each in found.policies] == [2]


def test_an_invalid_policy_of_a_cluster_counts_as_it_does_for_the_syncer_with_a_note() -> None:
    live = given(binding(), policy(timeZone="Mars/Olympus"), side=Side.VIRTUAL, source="cluster", live=True)
    found = build_world([*live, *given(node())])
    assert found.policies[0].spec is None
    assert any("Mars/Olympus" in note for note in found.notes)


def test_without_a_binding_policies_name_it_and_every_node_is_in_scope() -> None:
    found = world(policy(cluster="Lender.One"), node())
    assert (found.binding_name, found.binding.cluster_id) == ("Lender.One", "lender-one")
    assert "no ClusterBinding is given" in found.notes[0]


def test_a_lenders_policy_alone_is_enough_and_may_mean_any_borrower() -> None:
    found = build_world(given(policy(cluster="*"), node(), side=Side.PHYSICAL))
    assert found.binding_name == "borrower"


def test_where_lenders_policies_cannot_be_read_that_is_said() -> None:
    found = world(binding(), policy(), node(), lender_trouble="the lender's policies cannot be read: forbidden")
    assert not found.lender.policies
    assert found.notes == ("the lender's policies cannot be read: forbidden",)


def test_other_kinds_are_counted_and_ignored() -> None:
    secret: Json = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    assert world(binding(), policy(), node(), secret).notes == ("ignored: 1 Secret",)


BAD: dict[str, tuple[str, str]] = {
    "a window that ends at 25:00": (
        "ResourceLeasingPolicy p: {spec: {cluster: b, timeWindows: [{start: '08:00', end: '25:00'}]}}",
        r"f: ResourceLeasingPolicy p: spec.timeWindows\[0\].end: write a time of day as HH:MM"),
    "a day that is none": (
        "ResourceLeasingPolicy p: {spec: {cluster: b, timeWindows: [{start: '08:00', end: '09:00', days: [Mon]}]}}",
        r"f: ResourceLeasingPolicy p: spec.timeWindows\[0\].days\[0\]: write a day's full English name"),
    "more than all": (
        "ResourceLeasingPolicy p: {spec: {cluster: b, resourceLimits: [{resource: cpu, percent: 150}]}}",
        r"f: ResourceLeasingPolicy p: spec.resourceLimits\[0\].percent: .*100"),
    "a policy for nobody": ("ResourceLeasingPolicy p: {spec: {}}", "f: ResourceLeasingPolicy p: spec.cluster: is required"),
    "a policy without a spec": (
        "ResourceLeasingPolicy p: {}", "f: ResourceLeasingPolicy p: spec: is required; write cluster"),
    "a spec that is a list": ("ResourceLeasingPolicy p: {spec: []}", "f: ResourceLeasingPolicy p: spec: is required"),
    "a selector with an unknown operator": (
        "ResourceLeasingPolicy p: {spec: {cluster: b, nodeSelector: {nodeSelectorTerms: "
        "[{matchExpressions: [{key: a, operator: Like}]}]}}}", "f: ResourceLeasingPolicy p: spec.nodeSelector.*operator"),
    "another version of a policy": (
        "ResourceLeasingPolicy p: {apiVersion: cloud.tencent.com/v1, spec: {cluster: b}}",
        "f: ResourceLeasingPolicy p: apiVersion: 'cloud.tencent.com/v1' is not known here; write cloud.tencent.com/v1beta1"),
    "a binding without clusterID": (
        "ClusterBinding b: {spec: {secretRef: {name: s, namespace: n}, mountNamespace: m}}",
        "f: ClusterBinding b: spec.clusterID: is required"),
    "a node that says nothing": ("Node n: {}", "f: Node n: status: is required; take the Node from its cluster"),
    "a node without allocatable": (
        "Node n: {status: {}}", "f: Node n: status.allocatable: is required; write what its Pods may use"),
    "a node with an amount that is none": (
        "Node n: {status: {allocatable: {cpu: lots}}}", "f: Node n: status.allocatable.cpu: 'lots' is no quantity; write"),
    "a node with less than nothing": (
        "Node n: {status: {allocatable: {cpu: '-1'}}}", "f: Node n: status.allocatable.cpu: must not be negative"),
    "a label that is a number": (
        "Node n: {metadata: {labels: {zone: 1}}, status: {allocatable: {}}}",
        "f: Node n: metadata.labels.zone: Input should be a valid string"),
    "a Pod that asks for words": (
        "Pod x: {spec: {nodeName: n, containers: [{name: a, resources: {requests: {memory: much}}}]}}",
        r"f: Pod x: spec.containers\[0\].resources.requests.memory: 'much' is no quantity"),
    "a Pod without containers": ("Pod x: {spec: {nodeName: n}}", "f: Pod x: spec.containers: is required; write the Pod's"),
    "a Pod with a toleration that is a text": (
        "Pod x: {spec: {containers: [{name: a}], tolerations: [all]}}", r"f: Pod x: spec.tolerations\[0\]: "),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_object_is_refused_with_field_and_remedy(case: str) -> None:
    text, message = BAD[case]
    title, _, body = text.partition(": ")
    kind, name = title.split()
    content = yaml.safe_load(body)
    obj: Json = {
        "apiVersion": GROUP if kind in ("ResourceLeasingPolicy", "ClusterBinding") else "v1", "kind": kind, **content,
        "metadata": {"name": name, **content.get("metadata", {})},
    }
    with pytest.raises(BadInput, match=message) as caught:
        world(binding("good"), policy("good"), node("good"), obj, binding="good")
    assert all("\n" not in line for line in caught.value.problems)


def test_all_bad_objects_are_named_at_once() -> None:
    with pytest.raises(BadInput) as caught:
        world(binding(), policy("p", priority="high"), node(cpu="lots"), node(), node(memory="much"))
    assert [line.split(":")[1].strip() for line in caught.value.problems] == ["Node node-1", "Node node-1", *[
        "ResourceLeasingPolicy p", "Node node-1"]]


def test_several_bindings_ask_for_a_choice() -> None:
    with pytest.raises(BadInput, match="choose one with --binding: a, b"):
        world(binding("a"), binding("b"), policy(), node())
    assert world(binding("a"), binding("b"), policy(), node(), binding="b").binding_name == "b"


def test_a_binding_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(BadInput, match="--binding x: no ClusterBinding has this name; choose one of b"):
        world(binding(), policy(), node(), binding="x")


def test_nothing_to_simulate_says_what_to_add() -> None:
    with pytest.raises(BadInput, match="no Node is given: add"):
        world(binding(), policy())
    with pytest.raises(BadInput, match="no ResourceLeasingPolicy is given"):
        world(node())


def test_the_samples_of_the_repository_can_be_simulated() -> None:
    objects: list[Given] = []
    for name in ("clusterbinding", "policy-night", "policy-percent", "policy-quantity"):
        with open(f"config/samples/{name}.yaml", "rb") as file:
            objects += read_text(file.read(), source=name, side=Side.EITHER)
    assert len(build_world([*objects, *given(node())]).policies) == 3
