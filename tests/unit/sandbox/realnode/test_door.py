"""Who may have real nodes, and what everybody else is told, all at once."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kubeocean.sandbox.assets import Assets
from kubeocean.sandbox.realnode import door
from kubeocean.sandbox.realnode.door import PACKAGES, Machine, NoRealNodes, check, is_static
from kubeocean.sandbox.sandbox import up
from kubeocean.sandbox.spec import SandboxSpec

ALL = Machine(
    linux=True, root=True, programs={name: Path("/usr/bin") / name for name in PACKAGES}, plugins=Path("/usr/lib/cni"),
    static_busybox=True, cgroups=True,
)
BARE = replace(ALL, root=False, programs={}, plugins=None, static_busybox=False)
HOME = Path("/root/sandboxes/x")


def without(*names: str) -> Machine:
    return replace(ALL, programs={name: path for name, path in ALL.programs.items() if name not in names})


def test_a_machine_that_has_everything_is_let_in() -> None:
    tools = check(ALL, HOME)
    assert (tools.plugins, tools.busybox) == (Path("/usr/lib/cni"), Path("/usr/bin/busybox"))


REFUSED: dict[str, tuple[Machine, Path, str]] = {
    "nobody's administrator": (replace(ALL, root=False), HOME, "they need root: run it as root, such as with sudo"),
    "one program less": (without("runc"), HOME, "runc is missing: apt-get install runc"),
    "programs of one package are named, the package once": (
        without("containerd", "ctr"), HOME, "containerd, ctr are missing: apt-get install containerd"),
    "no network plugins": (
        replace(ALL, plugins=None), HOME,
        "the network plugins bridge, host-local, loopback, portmap are missing: apt-get install containernetworking-plugins"),
    "a busybox that needs libraries": (
        replace(ALL, static_busybox=False), HOME, "a static busybox is missing: apt-get install busybox-static"),
    "no cgroups": (replace(ALL, cgroups=False), HOME, "there are no cgroups: mount them at /sys/fs/cgroup"),
    "another system": (replace(BARE, linux=False), HOME, "this is not Linux"),
    "a folder that nodes would not see": (
        ALL, Path("/var/lib/sandboxes/x"),
        "the sandbox's folder /var/lib/sandboxes/x is below /var/lib, of which a node sees its own: choose another with "
        "--root"),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_is_missing_is_named_with_the_remedy(sentence: str) -> None:
    machine, folder, expected = REFUSED[sentence]
    with pytest.raises(NoRealNodes) as refusal:
        check(machine, folder)
    assert str(refusal.value) == f"real nodes (--real-nodes) cannot be started here: {expected}"


def test_a_bare_machine_is_told_everything_at_once() -> None:
    with pytest.raises(NoRealNodes) as refusal:
        check(BARE, HOME)
    told = str(refusal.value)
    assert "they need root" in told
    assert all(name in told for name in PACKAGES)
    assert told.endswith(
        "apt-get install containerd runc iptables iproute2 util-linux mount busybox-static containernetworking-plugins"
    )


def test_nothing_is_written_before_the_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "look_around", lambda: BARE)
    with pytest.raises(NoRealNodes):
        asyncio.run(up(SandboxSpec("x", real_nodes=1), assets=Assets({}), root=tmp_path / "root"))
    assert not any(tmp_path.iterdir())


def elf(*kinds: int) -> bytes:
    header = bytearray(64)
    header[:5] = b"\x7fELF\x02"
    header[32:40] = (64).to_bytes(8, "little")
    header[54:56], header[56:58] = (56).to_bytes(2, "little"), len(kinds).to_bytes(2, "little")
    return bytes(header) + b"".join(kind.to_bytes(4, "little") + bytes(52) for kind in kinds)


STATIC: dict[str, tuple[Any, bool]] = {
    "loadable parts only": (elf(1, 1, 4), True), "an interpreter": (elf(6, 3, 1), False), "a script": (b"#!/bin/sh", False),
}


@pytest.mark.parametrize("sentence", STATIC)
def test_a_static_program_names_no_interpreter(sentence: str) -> None:
    program, static = STATIC[sentence]
    assert is_static(program) is static
