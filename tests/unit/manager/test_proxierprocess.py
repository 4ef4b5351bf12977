"""The manager's child process, played by a few lines of Python."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, generate_latest

from kubeocean.domain.proxierstate import PROXIER_FAILED, ProxierReport, ProxierState
from kubeocean.kube.backoff import Backoff
from kubeocean.manager import proxierprocess
from kubeocean.manager.proxierprocess import LetGo, ProxierProcess

SERVING = ProxierState(True, "serves")
PAGE = """# HELP kubeocean_proxier_sessions Streams.
# TYPE kubeocean_proxier_sessions gauge
kubeocean_proxier_sessions{action="exec"} 3.0
"""
SERVES = ProxierReport("", {"a": SERVING}, metrics=PAGE).encode()
CHILD = """
import os, signal, sys, time
open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
exec(sys.argv[2])
"""
TELLS = f"print({SERVES!r}, flush=True); time.sleep(60)"


class Child:
    """One supervised process after the other, each doing `does`."""

    def __init__(self, does: str, folder: Path) -> None:
        self._pids = folder / "pids"
        self.changes: list[str] = []
        self.let_go = LetGo()
        self.process = ProxierProcess((sys.executable, "-c", CHILD, str(self._pids), does), lambda: ["a"], self.let_go)
        self.process.on_change = self.changes.append

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in self._pids.read_text().split()] if self._pids.exists() else []

    async def until(self, check: Callable[["Child"], bool]) -> None:
        async with asyncio.timeout(20):
            while not check(self):
                await asyncio.sleep(0.02)

    async def until_state(self, state: ProxierState) -> None:
        await self.until(lambda child: child.process.state("a") == state)


@asynccontextmanager
async def supervised(does: str, folder: Path) -> AsyncIterator[Child]:
    child = Child(does, folder)
    task = asyncio.create_task(child.process.run())
    yield child
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await child.let_go.end()
    assert [pid for pid in child.pids if runs(pid)] == [], "nothing is left of it"


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxierprocess, "RESTART", Backoff(base=0.05, cap=0.1, jitter=0.0))


async def test_what_it_reports_is_its_state_and_a_change_is_told_once(tmp_path: Path) -> None:
    async with supervised(f"print({SERVES!r}, flush=True); {TELLS}", tmp_path) as child:
        assert child.process.state("a").ready is False
        await child.until_state(SERVING)
        await asyncio.sleep(0.1)
        assert child.changes == ["a"]


async def test_its_death_is_noticed_and_another_one_is_started(tmp_path: Path) -> None:
    async with supervised(TELLS, tmp_path) as child:
        await child.until_state(SERVING)
        os.kill(child.pids[0], signal.SIGKILL)
        await child.until(lambda child: len(child.changes) == 2)
        state = child.process.state("a")
        assert (state.reason, state.message) == (
            PROXIER_FAILED, "the proxier ended with SIGKILL; it is started again, its log tells why"
        )
        await child.until_state(SERVING)
        assert len(child.pids) == 2


@pytest.mark.parametrize(("does", "why"), [
    ("sys.exit(3)", "exit code 3"),
    ("print('hello', flush=True); time.sleep(60)", "cannot be understood"),
    (f"print({ProxierReport(metrics='{').encode()!r}, flush=True); time.sleep(60)", "cannot be understood"),
    ("time.sleep(60)", "gave no sign of life"),
])
async def test_one_that_does_not_work_is_ended_and_started_again_and_says_why(
    does: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxierprocess, "SILENCE", 1.0)
    async with supervised(does, tmp_path) as child:
        await child.until(lambda child: why in child.process.state("a").message)
        await child.until(lambda child: len(child.pids) > 2)


async def test_what_it_counts_is_among_the_managers_metrics_while_it_lives(tmp_path: Path) -> None:
    async with supervised(TELLS, tmp_path) as child:
        await child.until_state(SERVING)
        assert 'kubeocean_proxier_sessions{action="exec"} 3.0' in generate_latest(REGISTRY).decode()
        os.kill(child.pids[0], signal.SIGKILL)
        await child.until(lambda child: child.process.state("a") != SERVING)
        assert "kubeocean_proxier_sessions" not in generate_latest(REGISTRY).decode()


async def test_one_that_does_not_stop_when_told_to_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxierprocess, "ENDS_WITHIN", 0.3)
    async with supervised(f"signal.signal(signal.SIGTERM, signal.SIG_IGN); {TELLS}", tmp_path) as child:
        await child.until_state(SERVING)


LINGERS = f"print({SERVES!r}, flush=True); sys.stdin.read(); open(sys.argv[1] + '-free', 'w'); time.sleep(60)"


async def let_go(child: Child) -> None:
    """Have it started, and let go once it serves: the manager no longer leads."""
    before = len(child.pids)
    task = asyncio.create_task(child.process.run())
    await child.until(lambda child: len(child.pids) > before and child.process.state("a").ready)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_one_that_is_let_go_learns_it_at_once_and_lives_on_until_the_manager_ends(tmp_path: Path) -> None:
    child, free = Child(LINGERS, tmp_path), tmp_path / "pids-free"
    for _ in range(2):  # a manager may lead again
        await let_go(child)
        await child.until(lambda _: free.exists())
        free.unlink()
        assert all(map(runs, child.pids)), "its streams go on"
    await child.let_go.end()
    assert not any(map(runs, child.pids))


async def test_of_many_that_were_let_go_the_oldest_is_told_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxierprocess, "MOST_LET_GO", 2)
    child = Child(LINGERS, tmp_path)
    for _ in range(3):
        await let_go(child)
    await child.until(lambda child: [runs(pid) for pid in child.pids] == [False, True, True])
    await child.let_go.end()


async def test_a_program_that_is_not_there_is_a_failure_too() -> None:
    process = ProxierProcess(("/nonexistent/python",), lambda: ["a"], LetGo())
    task = asyncio.create_task(process.run())
    async with asyncio.timeout(10):
        while "cannot be started" not in process.state("a").message:
            await asyncio.sleep(0.02)
    task.cancel()
