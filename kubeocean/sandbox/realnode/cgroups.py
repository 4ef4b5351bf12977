"""Cgroups of real nodes, in every hierarchy this machine has (cgroup v1 has one per controller, v2 has one).

A node's cgroup is made beforehand, because the kubelet insists, with two parts: `daemons` for kubelet and containerd with its
shims, and the kubelet's own for Pods. Tried on v1; on v2 there is one hierarchy, with the controllers to be handed down.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kubeocean.sandbox.state import SandboxError

DAEMONS = "daemons"
_END_WITHIN = 10.0  # seconds killed processes may take to disappear
_EVERY = 0.02


def hierarchies(mountinfo: str) -> list[Path]:
    """Return where the hierarchies are mounted, as /proc/self/mountinfo tells.

    >>> hierarchies("38 31 0:35 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory")
    [PosixPath('/sys/fs/cgroup/memory')]
    """
    found: dict[Path, None] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] in ("cgroup", "cgroup2"):
            found[Path(before.split()[4])] = None
    return list(found)


def _hierarchies() -> list[Path]:
    return hierarchies(Path("/proc/self/mountinfo").read_text())


def make(name: str) -> list[Path]:
    """Make the cgroup `name` in every hierarchy; return the cgroups that its daemons are to join. Raises OSError."""
    joined: list[Path] = []
    for hierarchy in _hierarchies():
        for group in (hierarchy / name, hierarchy / name / DAEMONS):
            _hand_down(group.parent)
            group.mkdir(exist_ok=True)
            _inherit_cpus(group)
        joined.append(hierarchy / name / DAEMONS)
    return joined


def _hand_down(parent: Path) -> None:
    offered = parent / "cgroup.controllers"
    if not offered.exists():
        return  # v1: a hierarchy is of its controllers
    for controller in offered.read_text().split():
        with suppress(OSError):  # a kernel may keep one for itself
            (parent / "cgroup.subtree_control").write_text(f"+{controller}")


def _inherit_cpus(group: Path) -> None:
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = group / name
        if file.exists() and not (group / "cgroup.controllers").exists() and not file.read_text().strip():
            file.write_text((group.parent / name).read_text())  # v1: nobody may join while they are empty


def end(prefix: str) -> None:
    """Kill every process of the cgroups whose names begin with `prefix`, then remove these. Raises SandboxError.

    SIGKILL until nobody is left: who is killed may just have started another.
    """
    give_up = time.monotonic() + _END_WITHIN
    while pids := set(_members(prefix)):
        if time.monotonic() > give_up:
            raise SandboxError(f"killed, but not gone after {_END_WITHIN:.0f} s: pid {', '.join(map(str, sorted(pids)))}")
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_EVERY)
    while left := [each for each in _tops(prefix) if not _removed(each)]:
        if time.monotonic() > give_up:
            raise SandboxError(f"cgroups cannot be removed: {', '.join(map(str, left))}")
        time.sleep(_EVERY)


def _tops(prefix: str) -> Iterator[Path]:
    for hierarchy in _hierarchies():
        yield from hierarchy.glob(f"{prefix}*")


def _members(prefix: str) -> Iterator[int]:
    for top in _tops(prefix):
        for folder, _, _ in os.walk(top):
            with suppress(OSError):  # gone meanwhile; or a v2 cgroup that may not have members
                yield from map(int, Path(folder, "cgroup.procs").read_text().split())


def _removed(top: Path) -> bool:
    for folder, _, _ in os.walk(top, topdown=False):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError:
            return False  # the last of its processes is not yet quite gone
    return True
