"""A program that is started beside a running sandbox belongs to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeocean.sandbox.commands import Command
from kubeocean.sandbox.sandbox import Sandbox
from kubeocean.sandbox.spec import SandboxSpec
from kubeocean.sandbox.state import FORMAT, ClusterHandle, Record, SandboxBusy, SandboxError, locked, write_record


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    folder = tmp_path / "demo"
    (folder / "virtual" / "logs").mkdir(parents=True)
    virtual = ClusterHandle("virtual", folder / "virtual", "", folder / "kubeconfig", folder / "audit.log")
    record = Record(FORMAT, "running", SandboxSpec("demo", clusters=0), clusters=(virtual,))
    write_record(folder, record)
    return Sandbox(folder, record)


async def test_it_is_found_by_later_commands_and_ended_with_the_sandbox(sandbox: Sandbox, tmp_path: Path) -> None:
    grown = sandbox.with_component("virtual", Command("sleeper", ("/bin/sleep", "60"), address="", readiness=""))
    sleeper = grown.virtual.component("sleeper")
    assert sleeper.alive
    assert Sandbox.load("demo", root=tmp_path) == grown
    assert await grown.down() == []
    assert not sleeper.alive


async def test_a_program_that_is_not_there_is_named(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match="/no/such/program cannot be started: No such file"):
        sandbox.with_component("virtual", Command("x", ("/no/such/program",), address="", readiness=""))


async def test_nothing_is_started_while_another_command_is_at_it(sandbox: Sandbox) -> None:
    with locked(sandbox.folder), pytest.raises(SandboxBusy):
        sandbox.with_component("virtual", Command("x", ("/bin/sleep", "60"), address="", readiness=""))
