"""How tools are run, heard and ended."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from kubeocean.sandbox import toolrun
from kubeocean.sandbox.toolrun import LINES_KEPT, run_tool


def shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


async def test_output_complaints_and_exit_code_are_returned() -> None:
    finished = await run_tool(shell("echo out; echo bad >&2; exit 3"), env={})
    assert (finished.code, finished.output, finished.complaints) == (3, "out\n", ("bad",))


async def test_lines_that_are_heard_as_progress_are_no_complaints_and_each_one_pulses() -> None:
    pulses: list[int] = []
    finished = await run_tool(shell("for n in 1 2 3; do echo step $n >&2; done; echo bad >&2"), env={},
                              heard=lambda line: line.startswith("step"), pulse=lambda: pulses.append(1))
    assert finished.complaints == ("bad",)
    assert len(pulses) == 4


async def test_only_the_last_complaints_are_kept() -> None:
    finished = await run_tool(shell("seq 1 200 >&2"), env={"PATH": "/usr/bin:/bin"})
    assert len(finished.complaints) == LINES_KEPT
    assert finished.complaints[-1] == "200"


async def test_more_output_than_a_pipe_holds_does_not_block() -> None:
    finished = await run_tool(shell("seq 1 20000; seq 1 20000 >&2"), env={"PATH": "/usr/bin:/bin"})
    assert finished.output.endswith("20000\n")


async def test_a_silent_tool_pulses_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolrun, "QUIET", 0.005)
    pulses: list[int] = []
    await run_tool(shell("sleep 0.04"), env={"PATH": "/usr/bin:/bin"}, pulse=lambda: pulses.append(1))
    assert pulses


async def test_a_program_that_is_not_there_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await run_tool((tmp_path / "nothing",), env={})


def is_running(pid: int) -> bool:
    # A zombie that nobody has waited for yet is as dead as can be.
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return not state.startswith("Z") and bool(state)


ENDINGS = {
    "a tool that is no longer wanted is interrupted":
        "trap 'echo > $MARK; exit' INT; echo ready >&2; while :; do sleep 0.01; done",
    "what it started ends with it": "sleep 60 & echo $! > $PID; echo ready >&2; wait",
    "one that ignores it is killed": "trap '' INT; echo ready >&2; exec sleep 60",
}


@pytest.mark.parametrize("case", ENDINGS)
async def test_cancelling_ends_the_tool(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolrun, "GRACE", 0.2)
    ready, mark = asyncio.Event(), tmp_path / "mark"
    env = {"PATH": "/usr/bin:/bin", "MARK": str(mark), "PID": str(tmp_path / "pid")}
    running = asyncio.create_task(run_tool(shell(f"echo $$ > $PID; {ENDINGS[case]}"), env=env, pulse=ready.set))
    await ready.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not is_running(int((tmp_path / "pid").read_text()))
    assert os.access(mark, os.F_OK) == ("interrupted" in case)
