"""A process that is told to stop stops, one way or the other. Virtual time."""

import asyncio
import os
import signal

import pytest

from kubeocean import runtime

pytestmark = pytest.mark.looptime


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what ended the process by force."""
    said: list[str] = []
    monkeypatch.setattr(runtime, "exit_loudly", said.append)
    return said


async def told_to_stop(*, cleanup_seconds: float) -> None:
    async def program() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(cleanup_seconds)

    await runtime._until_signalled(program)


async def test_a_graceful_stop_is_given_its_time(forced: list[str]) -> None:
    await told_to_stop(cleanup_seconds=20)
    await asyncio.sleep(60)
    assert forced == []


async def test_a_stop_that_hangs_ends_by_force_and_says_so(forced: list[str]) -> None:
    await told_to_stop(cleanup_seconds=60)
    assert forced == ["told to stop, it did not within 28 s"]
