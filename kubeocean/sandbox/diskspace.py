"""Is there room for a build? Asked before it starts, because minutes later is a bad time to hear that there is none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Need:
    """`bytes` more will be written below `folder`, which need not be there yet."""

    folder: Path
    bytes: int


@dataclass(frozen=True, slots=True)
class Shortage:
    """One file system has too little room for all needs on it."""

    folder: Path
    needed: int
    free: int

    def __str__(self) -> str:
        """Say what is needed and what is there, in MiB."""
        return f"{self.folder} needs about {self.needed // MIB} MiB, {self.free // MIB} MiB are free"


def _free(folder: Path) -> int:
    return disk_usage(folder).free


def find_shortage(needs: Iterable[Need], *, free: Callable[[Path], int] = _free) -> Shortage | None:
    """Return the first file system on which the needs do not fit together; None when all fit."""
    sums: dict[int, tuple[Path, int]] = {}
    for need in needs:
        folder = _existing(need.folder)
        device = folder.stat().st_dev
        first, total = sums.get(device, (folder, 0))
        sums[device] = first, total + need.bytes
    for folder, needed in sums.values():
        if (there := free(folder)) < needed:
            return Shortage(folder, needed, there)
    return None


def size_up_to(folder: Path, limit: int) -> int:
    """Return how many bytes the files below `folder` hold, counting no further than `limit`: caches can be huge."""
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue  # a cache in use changes under us
        if total >= limit:
            return limit
    return total


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
