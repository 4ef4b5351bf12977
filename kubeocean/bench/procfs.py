"""What the kernel says about a process: memory and CPU time. On systems without /proc all of it is unknown (None)."""

from __future__ import annotations

import os
from pathlib import Path


def memory(pid: int) -> tuple[int, int] | None:
    """Return resident memory now and at its peak, in bytes; None when it cannot be known."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if "VmRSS" not in fields:
        return None
    return _kibibytes(fields["VmRSS"]), _kibibytes(fields["VmHWM"])


def cpu_seconds(pid: int) -> float | None:
    """Return the CPU time a process has used, its own and the kernel's for it; None when it cannot be known."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field, the name in parentheses, may itself hold spaces and parentheses: count from its end (proc(5)).
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _kibibytes(field: str) -> int:
    return int(field.split()[0]) * 1024


def open_files(pid: int) -> int | None:
    """Return how many files and connections a process has open; None when it cannot be known."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None


def child_of(pid: int, command: str) -> int | None:
    """Return the process id of the child of `pid` that has the word `command` in its command line; None: it has none."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = folder.joinpath("cmdline").read_bytes().split(b"\0")
            parent = int(folder.joinpath("stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            continue  # ended meanwhile
        if parent == pid and command.encode() in words:
            return int(folder.name)
    return None
