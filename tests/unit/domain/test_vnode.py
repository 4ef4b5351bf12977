"""What a virtual node looks like, as YAML: the plain one whole, every other one by what sets it apart from `REFERENCE`."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeocean.api import names
from kubeocean.api.binding import ClusterBindingSpec
from kubeocean.domain.vnode import VnodeFacts, build_vnode, is_vnode_of, physical_name_of, physical_uid_of, port_of
from kubeocean.domain.vnode_diff import read_expected
from kubeocean.domain.vnode_lease import node_lease, node_lease_renewal
from kubeocean.kube.meta import Json
from kubeocean.kube.patch import diff_merge

GOLDEN = sorted(Path(__file__).with_name("vnode_build").glob("*.input.yaml"))
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def facts(physical: Json, binding: Json | None = None, **fields: Any) -> VnodeFacts:
    wire = {"clusterID": "edge", "secretRef": {"name": "s", "namespace": "n"}, "mountNamespace": "m", **(binding or {})}
    defaults: Json = {
        "physical": physical, "existing": None, "binding_name": "edge-binding", "capacity": {"cpu": "4", "pods": "50"},
        "policy_name": "rlp", "policy_details": "rlp(cpu=4/)", "window_open": True, "force_reclaim_now": False,
        "unreachable": False, "deleting": False, "proxier_address": "10.0.0.9", "port": 20001,
    }
    return VnodeFacts(**{**defaults, **fields, "spec": ClusterBindingSpec.model_validate(wire)})


PHYSICAL: Json = {"metadata": {"name": "node-1", "uid": "u1"}}
REFERENCE = facts(PHYSICAL)


def told(case: Path, built: Json) -> Json:
    """Return a built node without its record, whole or as the difference to the reference."""
    reference = build_vnode(REFERENCE)
    for node in (built, reference):
        node["metadata"]["annotations"].pop(names.EXPECTED_METADATA_ANNOTATION, None)
    return built if case.name.startswith("a-plain-node") else diff_merge(reference, built) or {}


@pytest.mark.parametrize("case", GOLDEN, ids=lambda path: path.name.split(".")[0])
def test_build_vnode(case: Path) -> None:
    situation = yaml.safe_load(case.read_text())
    before = copy.deepcopy(situation)
    built = build_vnode(facts(**situation))
    expected = read_expected(built)
    assert expected is not None
    annotations = built["metadata"]["annotations"]
    del annotations[names.EXPECTED_METADATA_ANNOTATION]  # it says the same as what stands beside it
    assert (expected.labels, expected.annotations) == (built["metadata"]["labels"], annotations)
    assert expected.taints == built["spec"]["taints"]
    assert told(case, built) == yaml.safe_load(case.with_name(case.name.replace("input", "output")).read_text())
    assert situation == before


def vnode(**metadata: Any) -> Json:
    return {"metadata": {"name": "vnode-edge-node-1", "uid": "uid-v", **metadata}}


def test_what_is_built_is_recognised() -> None:
    built = build_vnode(facts(PHYSICAL))
    assert is_vnode_of(built, "edge")
    assert (physical_name_of(built), physical_uid_of(built), port_of(built)) == ("node-1", "u1", 20001)


def test_other_nodes_are_not_ours() -> None:
    assert not is_vnode_of(build_vnode(facts(PHYSICAL)), "core")
    assert not is_vnode_of(vnode(labels={names.PHYSICAL_CLUSTER_ID_LABEL: "edge"}), "edge")
    assert (physical_name_of(vnode()), physical_uid_of(vnode()), port_of(vnode())) == ("", "", 0)


@pytest.mark.parametrize("text", ["", "x", "-1", "٣", "1234567"])
def test_an_illegible_port_is_none(text: str) -> None:
    assert port_of(vnode(labels={names.PROXIER_PORT_LABEL: text})) == 0


def test_a_long_name_is_cut_the_same_way_everywhere() -> None:
    built = build_vnode(facts({"metadata": {"name": "n" * 80, "uid": "u"}}))
    assert len(built["metadata"]["name"]) == 63
    assert built["metadata"]["labels"][names.HOSTNAME_LABEL] == built["metadata"]["name"]
    assert len(built["metadata"]["labels"][names.PHYSICAL_NODE_NAME_LABEL]) == 63
    assert built["metadata"]["annotations"][names.PHYSICAL_NODE_NAME_ANNOTATION] == "n" * 80


def test_a_lease_goes_with_its_node() -> None:
    assert node_lease(vnode(), NOW, "syncer-1") == {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": "vnode-edge-node-1", "namespace": "kube-node-lease",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "vnode-edge-node-1", "uid": "uid-v"}],
        },
        "spec": {"holderIdentity": "syncer-1", "leaseDurationSeconds": 40, "renewTime": "2026-01-01T12:00:00.000000Z"},
    }


def test_a_renewal_repairs_the_owner_of_a_recreated_node() -> None:
    renewal = node_lease_renewal(vnode(uid="uid-new"), NOW, "syncer-1")
    assert renewal["metadata"]["ownerReferences"][0]["uid"] == "uid-new"
    assert renewal["spec"]["renewTime"] == "2026-01-01T12:00:00.000000Z"
