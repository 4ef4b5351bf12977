"""What is remembered, and who may work on it."""

import asyncio
from pathlib import Path

import pytest

from kubeocean.sandbox.nodes import NodeTemplate, parse_taint
from kubeocean.sandbox.sandbox import Sandbox
from kubeocean.sandbox.spec import SandboxSpec
from kubeocean.sandbox.state import (
    FORMAT,
    ClusterHandle,
    ComponentInfo,
    NoSandbox,
    Record,
    SandboxBusy,
    SandboxError,
    default_root,
    folder_of,
    is_locked,
    locked,
    read_record,
    sandbox_names,
    taken_ports,
    write_record,
)

ETCD = ComponentInfo("etcd", 1, "", "http://127.0.0.1:20000", Path("/sandbox/logs/etcd.log"))
SERVER = ComponentInfo("kube-apiserver", 2, "", "https://127.0.0.1:20002", Path("/sandbox/virtual/logs/x.log"))
VIRTUAL = ClusterHandle("virtual", Path("/v"), "https://127.0.0.1:20002", Path("/v/kubeconfig"), Path("/v/audit.log"))
SPEC = SandboxSpec(nodes=NodeTemplate(labels={"a": "b"}, taints=(parse_taint("a=b:NoSchedule"),), extended={"c": "1"}))


def record(**changes: object) -> Record:
    return Record(**{"format": FORMAT, "phase": "running", "spec": SPEC, "clusters": (VIRTUAL,), **changes})  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "default"
    folder.mkdir()
    return folder


def test_what_was_written_is_read_again(folder: Path) -> None:
    remembered = record(ports=(1, 2)).with_component("", ETCD).with_component("virtual", SERVER)
    write_record(folder, remembered)
    assert read_record(folder) == remembered
    assert [path.name for path in folder.iterdir()] == ["sandbox.json"]


def test_the_sandboxes_of_a_folder_are_found_by_their_records(folder: Path) -> None:
    assert sandbox_names(folder.parent) == []
    write_record(folder, record())
    assert sandbox_names(folder.parent) == ["default"]


def test_components_are_told_with_their_cluster() -> None:
    remembered = record().with_component("", ETCD).with_component("virtual", SERVER)
    assert remembered.all_components == [("", ETCD), ("virtual", SERVER)]


def test_a_sandbox_that_is_not_there_says_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(NoSandbox, match="sandbox up --name default"):
        Sandbox.load(root=tmp_path)


DAMAGED = {
    "not JSON": ("{", "damaged"),
    "something else": ("[]", "damaged"),
    "fields are missing": ('{"format": 1}', "damaged"),
}


@pytest.mark.parametrize("sentence", DAMAGED)
def test_a_record_that_cannot_be_read_is_said_to_be(folder: Path, sentence: str) -> None:
    text, words = DAMAGED[sentence]
    (folder / "sandbox.json").write_text(text)
    with pytest.raises(SandboxError, match=words):
        read_record(folder)


def test_a_record_of_another_version_is_left_to_that_version(folder: Path) -> None:
    write_record(folder, record(format=FORMAT + 1))
    with pytest.raises(SandboxError, match="another Kubeocean"):
        read_record(folder)


def test_only_one_command_works_on_a_sandbox(folder: Path) -> None:
    with locked(folder):
        assert is_locked(folder)
        with pytest.raises(SandboxBusy), locked(folder):
            pass
    assert not is_locked(folder)


def test_a_folder_that_is_gone_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(NoSandbox), locked(tmp_path / "none"):
        pass
    assert not is_locked(tmp_path / "none")


def test_ports_of_all_neighbours_are_taken_even_beside_a_damaged_one(tmp_path: Path) -> None:
    for name, ports in {"a": (1, 2), "b": (3,)}.items():
        (tmp_path / name).mkdir()
        write_record(tmp_path / name, record(ports=ports))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "sandbox.json").write_text("{")
    assert taken_ports(tmp_path) == {1, 2, 3}


def test_the_state_folder_follows_the_xdg_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert folder_of("demo") == Path("/state/kubeocean/sandboxes/demo")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert default_root() == Path.home() / ".local/state/kubeocean/sandboxes"


def test_a_sandbox_without_living_processes_is_stale_and_can_be_removed(folder: Path) -> None:
    write_record(folder, record().with_component("virtual", SERVER))
    assert Sandbox.load(root=folder.parent).condition == "stale"


def test_an_unknown_cluster_is_answered_with_the_known_ones(folder: Path) -> None:
    with pytest.raises(SandboxError, match="it has: virtual"):
        Sandbox(folder, record()).cluster("physical-9")


def test_down_removes_what_was_written_and_leaves_what_was_not(folder: Path) -> None:
    write_record(folder, record())
    (folder / "virtual" / "pki").mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    assert asyncio.run(Sandbox.load(root=folder.parent).down()) == [folder / "notes.txt"]
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_down_leaves_nothing(folder: Path) -> None:
    write_record(folder, record())
    assert asyncio.run(Sandbox.load(root=folder.parent).down()) == []
    assert not folder.exists()


def test_down_does_not_disturb_a_command_that_is_at_it(folder: Path) -> None:
    write_record(folder, record())
    with locked(folder), pytest.raises(SandboxBusy):
        asyncio.run(Sandbox.load(root=folder.parent).down())
    assert read_record(folder) == record()
