"""A lock between processes, held on an open file: it goes away with its holder, however that one dies."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kubeocean.sandbox.progress import Progress


@asynccontextmanager
async def hold_lock(path: Path, progress: Progress, *, poll: float = 0.25) -> AsyncIterator[None]:
    """Hold the lock file `path` for the block, waiting for as long as another process has it.

    Looks every `poll` seconds, because waiting inside flock() could not be cancelled. The file stays: removing a lock
    file lets two processes hold two different ones of the same name.
    """
    file = _open(path)
    try:
        while not _try_lock(file):
            progress.show(f"waiting for another build (pid {_read_pid(file)})")
            await asyncio.sleep(poll)
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(file)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_pid(file: int) -> str:
    return os.pread(file, 20, 0).decode(errors="replace") or "unknown"
