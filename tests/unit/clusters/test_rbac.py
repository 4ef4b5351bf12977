import subprocess
from pathlib import Path

import pytest
import yaml

from kubeocean.cli.rbac import rbac
from kubeocean.clusters.rbac import build_physical_rbac

ROOT = Path(__file__).resolve().parents[3]


def test_the_printed_rbac_binds_the_user_to_a_cluster_role_and_a_role() -> None:
    objects = {obj["kind"]: obj for obj in build_physical_rbac(user="alice", mount_namespace="team-a")}
    assert set(objects) == {"Namespace", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
    assert objects["Namespace"]["metadata"]["name"] == objects["Role"]["metadata"]["namespace"] == "team-a"
    assert objects["RoleBinding"]["subjects"][0]["name"] == "alice"
    granted = {(rule["resources"][0], verb) for rule in objects["ClusterRole"]["rules"] for verb in rule["verbs"]}
    assert ("pods", "create") not in granted
    assert ("secrets", "get") not in granted


def test_no_namespace_and_no_foreign_priority_class_can_be_deleted_with_it() -> None:
    for obj in build_physical_rbac(user="alice", mount_namespace="team-a"):
        for rule in obj.get("rules", []):
            assert not ("namespaces" in rule["resources"] and {"create", "delete"} & {*rule["verbs"]})
            if "delete" in rule["verbs"] and obj["kind"] == "ClusterRole" and "persistentvolumes" not in rule["resources"]:
                assert rule["resourceNames"] == ["kubeocean-default"]


def test_granting_a_second_borrower_takes_nothing_from_the_first() -> None:
    def named(user: str, namespace: str) -> dict[tuple[str, str, str], object]:
        objects = build_physical_rbac(user=user, mount_namespace=namespace)
        return {(obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]): obj for obj in objects}

    first, second = named("alice", "team-a"), named("bob", "team-b")
    for key in first.keys() & second.keys():
        assert first[key] == second[key]


def run(script: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "hack" / script, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )


def test_config_rbac_is_what_the_tables_say() -> None:
    verified = run("verify-rbac")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_a_stale_file_is_told_with_a_diff(tmp_path: Path) -> None:
    assert run("update-rbac", tmp_path).returncode == 0
    stale = tmp_path / "borrower.yaml"
    stale.write_text(stale.read_text().replace("- nodes", "- '*'"))
    verified = run("verify-rbac", tmp_path)
    assert verified.returncode == 1
    assert "+  - nodes" in verified.stdout
    assert "run hack/update-rbac" in verified.stderr


def test_the_right_to_a_nodes_proxy_is_printed_on_request_only(capsys: pytest.CaptureFixture[str]) -> None:
    rbac(mount_namespace="team-a", user="alice")
    assert "nodes/proxy" not in capsys.readouterr().out
    rbac(mount_namespace="team-a", user="alice", node_proxy=True)
    objects = {obj["metadata"]["name"]: obj for obj in yaml.safe_load_all(capsys.readouterr().out)}
    assert objects["kubeocean-borrower-node-proxy"]["rules"] == [
        {"apiGroups": [""], "resources": ["nodes/proxy"], "verbs": ["get"]}
    ]
    assert objects["kubeocean-borrower-node-proxy-team-a"]["subjects"][0]["name"] == "alice"
