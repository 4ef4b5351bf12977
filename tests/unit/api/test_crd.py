from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from kubeocean.api.binding import parse_binding
from kubeocean.api.crd import crds, render_yaml
from kubeocean.api.policy import parse_policy
from kubeocean.api.resources import CLUSTERBINDINGS, RESOURCELEASINGPOLICIES
from kubeocean.cli.crds import crds as crds_command
from kubeocean.kube.meta import Json

ROOT = Path(__file__).resolve().parents[3]
BINDING, POLICY = crds()


def version(crd: Json) -> Json:
    (only,) = crd["spec"]["versions"]
    return dict(only)


def schema(crd: Json) -> Json:
    return dict(version(crd)["schema"]["openAPIV3Schema"])


def columns(crd: Json) -> list[str]:
    listed = version(crd)["additionalPrinterColumns"]
    return [column["name"] + (" (wide)" if column.get("priority") else "") for column in listed]


def parts(node: Any) -> Iterator[Json]:
    """Every schema in a schema, itself included."""
    yield node
    for inner in node.get("properties", {}).values():
        yield from parts(inner)
    for key in ("items", "additionalProperties"):
        if key in node:
            yield from parts(node[key])


EVERY_PART = [part for crd in (BINDING, POLICY) for part in parts(schema(crd))]


def test_the_names_are_those_of_the_go_project() -> None:
    assert BINDING["metadata"]["name"] == "clusterbindings.cloud.tencent.com"
    assert BINDING["spec"]["names"] == {
        "kind": "ClusterBinding", "listKind": "ClusterBindingList", "plural": "clusterbindings",
        "singular": "clusterbinding", "shortNames": ["cb"],
    }
    assert POLICY["metadata"]["name"] == "resourceleasingpolicies.cloud.tencent.com"
    assert POLICY["spec"]["names"]["shortNames"] == ["rlp"]
    for crd in (BINDING, POLICY):
        assert (crd["spec"]["scope"], version(crd)["name"]) == ("Cluster", "v1beta1")
        assert version(crd)["subresources"] == {"status": {}}


def test_kubectl_get_tells_the_story() -> None:
    assert columns(BINDING) == [
        "ClusterID", "Phase", "Nodes", "Pods", "Connected",
        "Version (wide)", "LastSync (wide)", "Message (wide)", "Age",
    ]
    assert columns(POLICY) == ["Cluster", "Phase", "Active", "NextChange", "Age"]


def test_every_field_of_the_contract_is_there() -> None:
    assert list(schema(BINDING)["properties"]["spec"]["properties"]) == [
        "clusterID", "secretRef", "nodeSelector", "mountNamespace", "serviceNamespaces", "disableNodeDefaultTaint",
        "podPriorityClassName", "runningDaemonsetByDefault", "directScheduling", "deletionPolicy", "allowPrivileged",
        "nodeProxy", "timeZone",
    ]
    assert list(schema(BINDING)["properties"]["status"]["properties"]) == [
        "phase", "conditions", "lastSyncTime", "observedGeneration", "kubernetesVersion", "nodes", "pods", "lastError",
        "physicalClusterUID",
    ]
    assert list(schema(POLICY)["properties"]["spec"]["properties"]) == [
        "cluster", "nodeSelector", "timeWindows", "resourceLimits", "forceReclaim", "gracefulReclaimPeriodSeconds",
        "priority", "timeZone", "noticeSeconds", "reclaimTimeoutSeconds",
    ]
    assert list(schema(POLICY)["properties"]["status"]["properties"]) == [
        "phase", "activeTimeWindow", "lastAppliedTime", "conditions", "nextChangeTime", "nodes", "leased", "borrowers",
    ]


def test_only_what_the_contract_says_is_required() -> None:
    assert schema(BINDING)["properties"]["spec"]["required"] == ["clusterID", "secretRef", "mountNamespace"]
    assert schema(POLICY)["properties"]["spec"]["required"] == ["cluster"]
    assert "required" not in schema(BINDING)["properties"]["status"]
    assert "required" not in schema(POLICY)["properties"]["status"]


def test_defaults_are_only_those_that_say_something() -> None:
    assert [part["default"] for part in EVERY_PART if "default" in part] == [
        False, False, False, "Wait", False, False, False, 0, 0, 300,
    ]


@pytest.mark.parametrize("word", ["$ref", "title", "nullable", "allOf", "oneOf", "const", "exclusiveMinimum"])
def test_the_schema_is_structural(word: str) -> None:
    assert not [part for part in EVERY_PART if word in part]


def test_every_part_has_a_type_or_is_int_or_string() -> None:
    for part in EVERY_PART:
        assert ("type" in part) != bool(part.get("x-kubernetes-int-or-string")), part


def test_whatever_a_rule_looks_at_is_bounded() -> None:
    # The API server refuses a CRD whose rules might look at too much.
    for part in parts(schema(BINDING)["properties"]["spec"]):
        assert part.get("type") != "array" or "maxItems" in part, part
    for part in EVERY_PART:
        if "x-kubernetes-validations" in part and part["type"] == "string":
            assert "maxLength" in part


def test_every_rule_names_its_remedy() -> None:
    rules = [rule for part in EVERY_PART for rule in part.get("x-kubernetes-validations", [])]
    assert len(rules) >= 15
    assert all(len(rule["message"]) > 20 for rule in rules)


def test_lists_with_several_writers_merge_by_key() -> None:
    status = schema(POLICY)["properties"]["status"]["properties"]
    assert status["conditions"]["x-kubernetes-list-map-keys"] == ["type"]
    assert status["borrowers"]["x-kubernetes-list-map-keys"] == ["virtualClusterUID"]
    assert status["borrowers"]["items"]["required"] == ["virtualClusterUID"]


def test_each_call_gives_objects_of_ones_own() -> None:
    crds()[0]["spec"].clear()
    assert crds() == [BINDING, POLICY]


def test_the_yaml_says_the_same() -> None:
    assert list(yaml.safe_load_all(render_yaml())) == [BINDING, POLICY]
    assert list(yaml.safe_load_all(render_yaml([POLICY]))) == [POLICY]
    assert "&id" not in render_yaml()


def test_the_command_prints_it() -> None:
    app = typer.Typer()
    app.command()(crds_command)
    assert CliRunner().invoke(app).stdout == render_yaml()


def run(script: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "hack" / script, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )


def test_config_crd_is_what_the_models_say() -> None:
    verified = run("verify-crds")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_a_stale_or_leftover_file_is_told_with_a_diff(tmp_path: Path) -> None:
    assert run("update-crds", tmp_path).returncode == 0
    stale = tmp_path / "cloud.tencent.com_clusterbindings.yaml"
    stale.write_text(stale.read_text().replace("maxLength: 24", "maxLength: 23"))
    (tmp_path / "leftover.yaml").write_text("kind: Leftover\n")
    verified = run("verify-crds", tmp_path)
    assert verified.returncode == 1
    assert "-                maxLength: 23" in verified.stdout
    assert "+                maxLength: 24" in verified.stdout
    assert "-kind: Leftover" in verified.stdout
    assert "run hack/update-crds" in verified.stderr


SAMPLES = sorted((ROOT / "config" / "samples").glob("*.yaml"))


def test_there_are_samples() -> None:
    assert len(SAMPLES) >= 5


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_samples_are_valid(path: Path) -> None:
    for obj in yaml.safe_load_all(path.read_text()):
        if obj["kind"] == CLUSTERBINDINGS.kind:
            assert obj["apiVersion"] == CLUSTERBINDINGS.api_version
            parse_binding(obj)
        elif obj["kind"] == RESOURCELEASINGPOLICIES.kind:
            assert obj["apiVersion"] == RESOURCELEASINGPOLICIES.api_version
            assert parse_policy(obj).cluster == "cluster-a"
        else:
            assert obj["kind"] == "Secret"
            assert list(obj["stringData"]) == ["kubeconfig"]
