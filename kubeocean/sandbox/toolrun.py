"""Runs a tool (go, pip) to its end, listening to what it says meanwhile.

A silent tool is as interesting as a talking one to somebody who waits, so `pulse` comes after every line and after
every second without one. A tool that is no longer wanted is interrupted as Ctrl-C would do it, together with all that it
started (go does not end its compilers itself); what ignores that is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LINES_KEPT = 40
_LONGEST_LINE = 1 << 20  # the linker names every missing symbol in one
GRACE = 10.0  # seconds between the interrupt and the kill
QUIET = 1.0  # seconds of silence after which there is a pulse all the same


@dataclass(frozen=True, slots=True)
class Finished:
    """How a tool ended: its exit code, its standard output, and the last lines of its standard error."""

    code: int
    output: str
    complaints: tuple[str, ...]


async def run_tool(
    command: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path | None = None,
    heard: Callable[[str], bool] = lambda _line: False, pulse: Callable[[], None] = lambda: None,
) -> Finished:
    """Run `command` and return how it ended. `heard` gets every line of standard error; True means it is no complaint.

    Raises OSError when the program cannot be started. Cancelling it ends the program first.
    """
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=cwd, env=dict(env), stdin=DEVNULL, stdout=PIPE, stderr=PIPE, limit=_LONGEST_LINE,
        process_group=0)  # a group of its own, so that it can be ended as a whole
    assert process.stdout
    assert process.stderr
    complaints: deque[str] = deque(maxlen=LINES_KEPT)
    try:
        async with asyncio.TaskGroup() as group:
            # Both pipes are read at once: a tool blocks on the one that nobody empties.
            output = group.create_task(process.stdout.read())
            group.create_task(_listen(process.stderr, complaints, heard, pulse))
        code = await process.wait()
    finally:
        await _end(process)
    return Finished(code, output.result().decode(errors="replace"), tuple(complaints))


async def _listen(
    stderr: asyncio.StreamReader, complaints: deque[str], heard: Callable[[str], bool], pulse: Callable[[], None],
) -> None:
    while True:
        try:
            async with asyncio.timeout(QUIET):
                raw = await stderr.readline()
        except TimeoutError:
            pulse()
            continue
        if not raw:
            return
        line = raw.decode(errors="replace").rstrip()
        if not heard(line):
            complaints.append(line)
        pulse()


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    _signal_group(process, signal.SIGINT)
    try:
        async with asyncio.timeout(GRACE):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        _signal_group(process, signal.SIGKILL)  # also what its leader left behind
        await process.wait()


def _signal_group(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # all of it is gone already
        os.killpg(process.pid, number)
