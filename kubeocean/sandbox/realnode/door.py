"""What this machine must have before real nodes can be started: looked at as a whole, told as a whole."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kubeocean.sandbox.state import SandboxError

_PLUGINS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
_NEEDED_PLUGINS = ("bridge", "host-local", "loopback", "portmap")
# Program → the Debian package it comes from.
PACKAGES = {
    "containerd": "containerd", "containerd-shim-runc-v2": "containerd", "ctr": "containerd", "runc": "runc",
    "iptables": "iptables", "ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux", "mount": "mount",
    "busybox": "busybox-static",
}
_PLUGIN_PACKAGE = "containernetworking-plugins"
_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_HIDDEN = tuple(map(Path, ("/run", "/var/run", "/var/lib", "/var/log")))


@dataclass(frozen=True, slots=True)
class Machine:
    """What is there: the needed `programs` by name, the folder of the CNI `plugins`, and who we are."""

    linux: bool
    root: bool
    programs: dict[str, Path]
    plugins: Path | None
    static_busybox: bool
    cgroups: bool


@dataclass(frozen=True, slots=True)
class Tools:
    """What real nodes are made with, all of it there."""

    plugins: Path
    busybox: Path


class NoRealNodes(SandboxError):
    """Real nodes cannot be started here; the message names everything that is missing and the remedy."""


def look_around() -> Machine:
    """Look at this machine."""
    path = os.pathsep.join((*_SYSTEM_FOLDERS, os.environ.get("PATH", "")))
    programs = {name: Path(found) for name in PACKAGES if (found := shutil.which(name, path=path))}
    plugins = next((each for each in _PLUGINS if all((each / name).is_file() for name in _NEEDED_PLUGINS)), None)
    busybox = programs.get("busybox")
    return Machine(
        linux=sys.platform == "linux", root=os.geteuid() == 0, programs=programs, plugins=plugins,
        static_busybox=busybox is not None and is_static(busybox.read_bytes()), cgroups=Path("/sys/fs/cgroup").is_dir(),
    )


def check(machine: Machine, folder: Path) -> Tools:
    """Return the tools with which real nodes are made for the sandbox in `folder`. Raises NoRealNodes."""
    if problems := list(_problems(machine, folder)):
        raise NoRealNodes(f"real nodes (--real-nodes) cannot be started here: {'; '.join(problems)}")
    assert machine.plugins
    return Tools(machine.plugins, machine.programs["busybox"])


def _problems(machine: Machine, folder: Path) -> Iterator[str]:
    if not machine.linux:
        yield "this is not Linux"
        return
    if not machine.root:
        yield "they need root: run it as root, such as with sudo"
    if not machine.cgroups:
        yield "there are no cgroups: mount them at /sys/fs/cgroup"
    if packages := _missing_packages(machine):
        yield f"{' and '.join(_missing_things(machine))} missing: apt-get install {' '.join(packages)}"
    if hidden := next((each for each in _HIDDEN if folder.is_relative_to(each)), None):
        yield f"the sandbox's folder {folder} is below {hidden}, of which a node sees its own: choose another with --root"


def _missing_things(machine: Machine) -> list[str]:
    programs = [name for name in PACKAGES if name not in machine.programs]
    if "busybox" in machine.programs and not machine.static_busybox:
        programs.append("a static busybox")
    plugins = [] if machine.plugins else [f"the network plugins {', '.join(_NEEDED_PLUGINS)}"]
    things = [*([", ".join(programs)] if programs else []), *plugins]
    return [*things[:-1], f"{things[-1]} {'are' if len(programs) + 4 * len(plugins) > 1 else 'is'}"]


def _missing_packages(machine: Machine) -> list[str]:
    packages = [package for name, package in PACKAGES.items() if name not in machine.programs]
    if not machine.static_busybox:
        packages.append(PACKAGES["busybox"])
    if not machine.plugins:
        packages.append(_PLUGIN_PACKAGE)
    return list(dict.fromkeys(packages))


def is_static(elf: bytes) -> bool:
    """Tell whether a 64-bit program needs nothing else: it names no interpreter (PT_INTERP) that would load libraries."""
    if elf[:5] != b"\x7fELF\x02":
        return False
    start, size = int.from_bytes(elf[32:40], "little"), int.from_bytes(elf[54:56], "little")
    count = int.from_bytes(elf[56:58], "little")
    kinds = (elf[start + size * each:start + size * each + 4] for each in range(count))
    return all(int.from_bytes(kind, "little") != 3 for kind in kinds)
