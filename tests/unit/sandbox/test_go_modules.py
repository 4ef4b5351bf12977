"""The pinned versions and the Go modules beside them agree, and a disagreement is found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kubeocean.sandbox.assets_build import go_line
from kubeocean.sandbox.versions import KUBERNETES, MODULES, NAMES, NAMES_ON_REQUEST, SOURCES

VERIFY = Path(__file__).parents[3] / "hack" / "verify-go-modules"


def verify(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, VERIFY, folder], capture_output=True, text=True, check=False)


def test_the_modules_agree_with_the_pins() -> None:
    finished = verify(SOURCES)
    assert (finished.returncode, finished.stdout) == (0, "")


DISAGREEMENTS = {
    "another release of Kubernetes": (f"\tk8s.io/kubernetes {KUBERNETES}\n", "\tk8s.io/kubernetes v1.33.0\n",
                                      f"requires k8s.io/kubernetes v1.33.0, pinned is {KUBERNETES}"),
    "one staging module of another release": ("k8s.io/api => k8s.io/api v0.34.4", "k8s.io/api => k8s.io/api v0.34.3",
                                              "replaces k8s.io/api by k8s.io/api v0.34.3"),
    "a staging module without a replace": ("\tk8s.io/kubectl => k8s.io/kubectl v0.34.4\n", "",
                                           "requires k8s.io/kubectl v0.0.0, which is nowhere"),
    "a program that is not a tool of the module": ("\tk8s.io/kubernetes/cmd/kubelet\n", "", "has the tools"),
    "a Go that the wheel does not have": ("\ngo 1.24.0\n", "\ngo 1.99.0\n", "needs a newer Go than the wheel's"),
}


@pytest.mark.parametrize("case", DISAGREEMENTS)
def test_a_disagreement_is_found(case: str, tmp_path: Path) -> None:
    old, new, expected = DISAGREEMENTS[case]
    shutil.copytree(SOURCES, tmp_path / "modules")
    go_mod = tmp_path / "modules" / "controlplane" / "go.mod"
    assert old in go_mod.read_text()
    go_mod.write_text(go_mod.read_text().replace(old, new))
    finished = verify(tmp_path / "modules")
    assert finished.returncode == 1
    assert f"controlplane/go.mod {expected}" in finished.stdout
    assert "run hack/update-go-modules" in finished.stderr


def test_every_program_of_the_multi_call_binary_is_in_its_main() -> None:
    main = (SOURCES / "controlplane" / "main.go").read_text()
    servers = next(program for program in MODULES[0].programs if program.file == "controlplane")
    assert [name for name in servers.names if f'case "{name}":' not in main] == []


def test_the_names_are_those_that_a_sandbox_needs() -> None:
    assert set(NAMES) == {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok"}
    assert [name.partition("-")[0] for name in NAMES_ON_REQUEST["kubelet"]] == ["kubelet", "pause", "forwarder", "toolbox"]
    assert NAMES_ON_REQUEST["metrics-server"] == ("metrics-server",)


def test_the_go_that_is_needed_is_the_modules_own_word() -> None:
    assert go_line("module x\n\ngo 1.24.0\n\nrequire golang.org/x/net v0.38.0\n") == (1, 24, 0)
