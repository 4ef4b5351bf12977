"""Processes that outlive the command that started them, and are ended only when they are provably the same.

A pid alone proves nothing: after a crash or a reboot it may belong to somebody else's editor. So a process is known by
its pid *and its birth* (boot and start time, which the kernel never gives twice); whoever has another birth is a
stranger and is left alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

_END_WITHIN = 10.0  # seconds a killed process may take to disappear (a core that flushes, a loaded machine)
_TAIL = 8 * 1024  # bytes of a log that are looked at for a quotation


class Process(Protocol):
    """Anything that says which process it means."""

    @property
    def pid(self) -> int:
        """The process id."""

    @property
    def birth(self) -> str:
        """What `birth_of` said when it was started."""


class StillAlive(Exception):
    """A process was killed and did not go away."""


def start(argv: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> int:
    """Start a program in a session of its own, its output appended to `log`; return its pid.

    Own session: neither Ctrl-C in our terminal nor its closing reaches it. Raises OSError when it cannot be executed.
    """
    with open(os.devnull, "rb") as nothing, log.open("ab") as output:
        return os.posix_spawn(
            argv[0], tuple(argv), environment, setsid=True,
            # Python ignores SIGPIPE and a child would inherit that.
            setsigdef=[signal.SIGPIPE],
            file_actions=[
                (os.POSIX_SPAWN_DUP2, nothing.fileno(), 0),
                (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, output.fileno(), 2),
            ],
        )


def birth_of(pid: int) -> str:
    """Return what tells this process from any other that ever had its pid; "" when there is none (a zombie is none)."""
    _reap(pid)
    return _birth_from_proc(pid) if sys.platform == "linux" else _birth_from_ps(pid)


def is_alive(process: Process) -> bool:
    """Tell whether this very process still runs."""
    return bool(process.birth) and birth_of(process.pid) == process.birth


def end(processes: Iterable[Process]) -> None:
    """Kill those that still are what they were, with all they started; return when they are gone.

    SIGKILL at once: what a sandbox holds is thrown away with it, so there is nothing to close in good order.
    Raises StillAlive.
    """
    waiting = [process for process in processes if is_alive(process)]
    for process in waiting:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it leads its own session, hence its own group
    give_up = time.monotonic() + _END_WITHIN
    while waiting := [process for process in waiting if is_alive(process)]:
        if time.monotonic() > give_up:
            pids = ", ".join(str(process.pid) for process in waiting)
            raise StillAlive(f"killed, but not gone after {_END_WITHIN:.0f} s: pid {pids}; look at what they wait for")
        time.sleep(0.01)


def last_lines(log: Path, count: int = 6) -> list[str]:
    """Return the last lines of a log, for quoting it when its writer died; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        return []


def _reap(pid: int) -> None:
    # Only the parent may; everybody else (a later command) is told so by ChildProcessError, and init does it.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _birth_from_proc(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    # The second field, the name in parentheses, may itself hold spaces and parentheses: count from its end (proc(5)).
    fields = text.rpartition(")")[2].split()
    state, start_time = fields[0], fields[19]
    return "" if state in "ZX" else f"{_boot_id()}:{start_time}"


@cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _birth_from_ps(pid: int) -> str:
    found = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = found.stdout.strip().partition(" ")
    return "" if found.returncode or state.startswith("Z") else " ".join(started.split())
