"""Who holds the lock, who waits, and what is left of it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kubeocean.sandbox.filelock import hold_lock

if TYPE_CHECKING:
    from tests.unit.sandbox.conftest import Told


async def test_who_comes_second_waits_and_says_for_whom(tmp_path: Path, told: Told) -> None:
    order: list[str] = []

    async def second() -> None:
        async with hold_lock(tmp_path / "lock", told, poll=0.001):
            order.append("second")

    async with hold_lock(tmp_path / "lock", told):
        waiting = asyncio.create_task(second())
        await asyncio.sleep(0.02)
        order.append("first")
    await waiting
    assert order == ["first", "second"]
    assert set(told.shown) == {f"waiting for another build (pid {os.getpid()})"}


async def test_waiting_can_be_cancelled(tmp_path: Path, told: Told) -> None:
    async with hold_lock(tmp_path / "lock", told):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), hold_lock(tmp_path / "lock", told):
                pass


async def test_a_failure_inside_frees_the_lock(tmp_path: Path, told: Told) -> None:
    with pytest.raises(RuntimeError):
        async with hold_lock(tmp_path / "lock", told):
            raise RuntimeError("inside")
    async with hold_lock(tmp_path / "lock", told):
        assert told.shown == []


async def test_the_lock_of_a_killed_process_is_free(tmp_path: Path, told: Told) -> None:
    holder = ("import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX); "
              "os.kill(os.getpid(), 9)")
    process = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", holder, tmp_path / "lock")
    assert await process.wait() == -9
    async with hold_lock(tmp_path / "lock", told):
        assert told.shown == []
        assert (tmp_path / "lock").read_text() == str(os.getpid())
