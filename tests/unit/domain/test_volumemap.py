"""What a carried claim and its volume look like. The golden pairs in `volumemap/` are the specification."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from kubeocean.api import names
from kubeocean.domain.ownership import Owner, is_ours
from kubeocean.domain.refusal import Refusal
from kubeocean.domain.volumeaffinity import map_affinity_up, read_node_names
from kubeocean.domain.volumemap import (
    ForgedVolume,
    VolumeContext,
    build_reminder,
    diff_volume,
    map_volume,
    virtual_claim_of,
    virtual_claim_uid_of,
)
from kubeocean.domain.volumesources import SOURCES
from kubeocean.kube.meta import Json, ObjectKey

OWNER = Owner("virtual-uid", "edge")
NODES = read_node_names(
    iter([
        {"metadata": {"name": "node-1", "labels": {"kubernetes.io/hostname": "host-1"}}},
        {"metadata": {"name": "node-2"}},
    ]), "edge", "lender",
)
CASES = sorted(Path(__file__).parent.glob("volumemap/*.input.yaml"))


def forge(case: Json) -> ForgedVolume | Refusal:
    context = VolumeContext(OWNER, "lent", NODES, allow_privileged=case.get("allowPrivileged", False))
    return map_volume(case["claim"], case["volume"], context)


def forged(case: Json) -> ForgedVolume:
    result = forge(case)
    assert isinstance(result, ForgedVolume)
    return result


def shown(result: ForgedVolume | Refusal) -> Json:
    if isinstance(result, Refusal):
        return {"refusal": asdict(result)}
    for obj in (result.claim, result.volume):
        assert obj["metadata"]["annotations"].pop(names.CONTENT_HASH_ANNOTATION)
    plain = {"claim": result.claim, "volume": result.volume, "secrets": [str(key) for key in result.secrets]}
    return dict(orjson.loads(orjson.dumps(plain)))


def load(name: str) -> Json:
    return dict(yaml.safe_load((Path(__file__).parent / "volumemap" / f"{name}.input.yaml").read_text()))


NFS = "a-volume-without-class-is-carried-with-an-empty-one"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name.removesuffix(".input.yaml"))
def test_golden_pair(path: Path) -> None:
    expected = path.with_name(path.name.replace(".input.", ".output."))
    assert shown(forge(yaml.safe_load(path.read_text()))) == yaml.safe_load(expected.read_text())


def test_every_source_has_a_verdict_on_its_secrets() -> None:
    for kind, source in SOURCES.items():
        assert not source.fields & set(source.secrets), kind
        assert not any("secret" in field.lower() for field in source.fields - {"secretFile"}), kind


def test_both_twins_are_ours_and_know_their_claim() -> None:
    result = forged(load(NFS))
    for obj in (result.claim, result.volume):
        assert is_ours(obj, OWNER)
        assert virtual_claim_of(obj) == ObjectKey("team", "data")
        assert virtual_claim_uid_of(obj) == "claim-uid"


@pytest.mark.parametrize(("change", "patched"), [
    ({}, None),
    ({"persistentVolumeReclaimPolicy": "Delete"}, {"persistentVolumeReclaimPolicy": "Retain"}),
    ({"mountOptions": ["ro"]}, {"mountOptions": None}),
    ({"capacity": {"storage": "2Gi"}}, None),
    ({"capacity": {"storage": "1Mi"}}, {"capacity": {"storage": "1Gi"}}),
])
def test_a_physical_volume_is_kept_as_it_was_meant(change: Json, patched: Json | None) -> None:
    result = forged(load(NFS))
    live: Json = {"metadata": {"uid": "pv", "resourceVersion": "7"}, "spec": {**result.volume["spec"], **change}}
    live["spec"]["claimRef"] = {**live["spec"]["claimRef"], "uid": "twin-uid"}
    patch = diff_volume(live, result.volume, {"metadata": {"uid": "twin-uid"}})
    assert (patch or {}).get("spec") == patched
    assert patch is None or patch["metadata"] == {"uid": "pv", "resourceVersion": "7"}


@pytest.mark.parametrize(("claim_phase", "volume_phase", "told", "reminded"), [
    ("Pending", "Bound", "", True),
    ("Pending", "Available", "of another volume", True),
    ("Pending", "Bound", "v-1", False),
    ("Pending", "", "", False),
    ("Bound", "Bound", "", False),
])
def test_a_claim_is_reminded_once_of_a_volume_that_came_after_it(
    claim_phase: str, volume_phase: str, told: str, reminded: bool
) -> None:
    note = {"kubeocean.io/volume-uid": told} if told else {}
    twin = {"metadata": {"uid": "c-1", "resourceVersion": "7", "annotations": note}, "status": {"phase": claim_phase}}
    patch = build_reminder(twin, {"metadata": {"uid": "v-1"}, "status": {"phase": volume_phase}})
    expected = {"uid": "c-1", "resourceVersion": "7", "annotations": {"kubeocean.io/volume-uid": "v-1"}}
    assert patch == ({"metadata": expected} if reminded else None)


def test_a_volume_is_reserved_anew_for_a_claim_that_was_made_anew() -> None:
    result = forged(load(NFS))
    live: Json = {"metadata": {"uid": "pv", "resourceVersion": "7"}, "spec": {**result.volume["spec"]}}
    live["spec"]["claimRef"] = {**live["spec"]["claimRef"], "uid": "old", "resourceVersion": "3"}
    patch = diff_volume(live, result.volume, {"metadata": {"uid": "new"}})
    assert patch
    reference = patch["spec"]["claimRef"]
    assert (reference["uid"], reference["resourceVersion"]) == ("new", None)


def expression(key: str, *values: str) -> Json:
    return {"key": key, "operator": "In", "values": list(values)}


HERE = expression("kubeocean.io/physical-cluster-id", "edge")
ZONE = expression("topology.kubernetes.io/zone", "z1")


@pytest.mark.parametrize(("terms", "expected"), [
    ([], [{"matchExpressions": [HERE]}]),
    ([{"matchExpressions": [ZONE]}], [{"matchExpressions": [ZONE, HERE]}]),
    (
        [{"matchExpressions": [expression("kubernetes.io/hostname", "host-1", "node-2", "elsewhere")]}],
        [{"matchExpressions": [
            expression("kubernetes.io/hostname", "vnode-edge-node-1", "vnode-edge-node-2", "elsewhere"), HERE,
        ]}],
    ),
    (
        [{"matchFields": [expression("metadata.name", "node-1")]}, {"matchExpressions": [ZONE]}],
        [
            {"matchExpressions": [HERE], "matchFields": [expression("metadata.name", "vnode-edge-node-1")]},
            {"matchExpressions": [ZONE, HERE]},
        ],
    ),
])
def test_where_provisioned_data_is_reached_is_told_by_virtual_nodes(terms: list[Any], expected: list[Any]) -> None:
    affinity = {"required": {"nodeSelectorTerms": terms}} if terms else None
    assert map_affinity_up(affinity, NODES) == {"required": {"nodeSelectorTerms": expected}}
