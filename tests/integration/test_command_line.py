"""What an operator mistypes: one clear line that names the flag and the remedy, a non-zero exit, no traceback."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.credentials import kubeconfig_of
from tests.integration.programs import Program

OFF = ("--metrics-bind-address=0", "--health-probe-bind-address=0", "--leader-elect=false")


def kubeocean(*args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it to its end, as from a shell."""
    environment = {key: text for key, text in os.environ.items() if not key.startswith("KUBE")}
    return subprocess.run(
        [Path(sys.executable).with_name("kubeocean"), *args], capture_output=True, text=True, check=False, timeout=30,
        env={**environment, "COLUMNS": "200", "HOME": "/nonexistent"},
    )


def error_of(finished: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that says what is wrong."""
    assert finished.returncode not in (0, None)
    assert "Traceback" not in finished.stderr
    lines = [line.removeprefix("Error: ") for line in finished.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, finished.stderr
    return lines[0]


@pytest.fixture(scope="module")
def taken() -> Iterator[str]:
    """An address that somebody else listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_port_in_use_is_named_with_its_flag(sandbox: Sandbox, taken: str) -> None:
    for flag in ("--metrics-bind-address", "--health-probe-bind-address"):
        flags = [each for each in OFF if not each.startswith(flag)]
        error = error_of(kubeocean("manager", f"--kubeconfig={sandbox.virtual.kubeconfig}", *flags, f"{flag}={taken}"))
        assert error == f"{flag}: cannot listen on '{taken}': Address already in use; choose another, or 0 to turn it off"


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with the kubeconfig of the virtual cluster, and what is said."""

    says: tuple[str, ...]
    server: str = ""
    authority: str = ""
    token: str = ""


MISTAKES = {
    "nobody listens": Mistake(("127.0.0.1:9", "Cannot connect"), server="https://127.0.0.1:9"),
    "the CA is another's": Mistake(("certificate-authority-data",), authority="other"),
    "the token is not accepted": Mistake(("401", "Unauthorized"), token="no-token-of-this-cluster"),
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_a_virtual_cluster_that_cannot_be_used_is_told(sandbox: Sandbox, tmp_path: Path, sentence: str) -> None:
    mistake, path = MISTAKES[sentence], tmp_path / "kubeconfig"
    other = yaml.safe_load(sandbox.physical[0].kubeconfig.read_text())["clusters"][0]["cluster"]

    def change(cluster: dict[str, str], user: dict[str, str]) -> None:
        if mistake.server:
            cluster["server"] = mistake.server
        if mistake.authority:
            cluster["certificate-authority-data"] = other["certificate-authority-data"]
        if mistake.token:
            user.clear()
            user["token"] = mistake.token

    path.write_bytes(kubeconfig_of(sandbox.virtual, change))
    finished = kubeocean("manager", f"--kubeconfig={path}", *OFF)
    error = error_of(finished)
    assert all(part in error for part in ("virtual", *mistake.says)), error
    assert mistake.token == "" or mistake.token not in finished.stdout + finished.stderr


def test_a_cluster_without_our_kinds_is_told_with_the_remedy(sandbox: Sandbox) -> None:
    error = error_of(kubeocean("manager", f"--kubeconfig={sandbox.physical[1].kubeconfig}", *OFF))
    assert error == (
        "the virtual cluster has no clusterbindings.cloud.tencent.com: kubeocean crds | kubectl apply -f -, or start the "
        "manager with --install-crds"
    )


def test_a_syncer_of_no_binding_is_told(sandbox: Sandbox, manager: Program) -> None:
    flags = ("--cluster-binding-name=nobody", f"--kubeconfig={sandbox.virtual.kubeconfig}", *OFF)
    assert error_of(kubeocean("syncer", *flags)) == (
        "there is no ClusterBinding 'nobody': correct --cluster-binding-name, or create it"
    )


def test_no_kubeconfig_anywhere_is_told() -> None:
    assert "set --kubeconfig or $KUBECONFIG" in error_of(kubeocean("manager", *OFF))
    assert error_of(kubeocean("manager", "--kubeconfig=/nonexistent/kubeconfig", *OFF)) == (
        "no kubeconfig at /nonexistent/kubeconfig; correct --kubeconfig or $KUBECONFIG"
    )
