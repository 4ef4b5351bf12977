"""kubectl exec, attach, cp and debug on a virtual node, over both protocols and from two versions of kubectl."""

import asyncio
import fcntl
import os
import random
import signal
import struct
import termios
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.kubectl import FLAVOURS, NEWER, Ways, without_ids
from tests.e2e.shell import IMAGE

pytestmark = pytest.mark.parametrize("ways", FLAVOURS, indirect=True)

REFUSED = {
    "a program that is not there": ("exec", "{pod}", "-c", "main", "--", "nosuch"),
    "a program that may not be run": ("exec", "{pod}", "-c", "main", "--", "/etc/passwd"),
    "a container that is not there": ("exec", "{pod}", "-c", "nosuch", "--", "true"),
    "a container that has ended": ("exec", "{pod}", "-c", "setup", "--", "true"),
    "to attach where all has ended": ("attach", "{pod}", "-c", "setup"),
}


@pytest.mark.parametrize("code", [0, 1, 7, 137])
async def test_exec_keeps_the_two_outputs_apart_and_ends_with_the_programs_exit_code(code: int, ways: Ways) -> None:
    script = f"echo to the one; echo to the other >&2; exit {code}"
    ran = await ways.through("shell", "exec", "{pod}", "-c", "main", "--", "sh", "-c", script)
    assert (ran.code, ran.out) == (code, b"to the one\n")
    assert ran.err.startswith("to the other\n")


async def test_what_goes_in_comes_out_to_the_last_byte(ways: Ways) -> None:
    data = random.Random(7).randbytes(3 * 2**20)
    ran = await ways.through("shell", "exec", "{pod}", "-i", "-c", "main", "--", "cat", stdin=data)
    assert (ran.code, ran.err, len(ran.out)) == (0, "", len(data))
    assert ran.out == data


async def test_a_terminal_has_the_size_of_the_users_and_follows_it(ways: Ways) -> None:
    master, terminal = os.openpty()
    _resize(terminal, rows=31, columns=101)
    words = ways.words("shell", ("exec", "{pod}", "-it", "-c", "main", "--", "sh"))
    process = await asyncio.create_subprocess_exec(
        *ways.virtual.argv(*words), stdin=terminal, stdout=terminal, stderr=terminal, env=ways.virtual.environment,
        start_new_session=True,
    )
    try:
        screen = Screen(master)
        await screen.asks("stty size", until="31 101")
        _resize(terminal, rows=52, columns=160)
        process.send_signal(signal.SIGWINCH)  # as the kernel does it, to those in the foreground
        await asyncio.sleep(0.5)
        await screen.asks("stty size", until="52 160")
        await screen.asks("exit 5")
        async with asyncio.timeout(20):
            assert await process.wait() == 5
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(master)
        os.close(terminal)


class Screen:
    """The user's end of a terminal."""

    def __init__(self, master: int) -> None:
        self._master = master
        os.set_blocking(master, False)

    async def asks(self, line: str, *, until: str = "") -> None:
        """Type a line; wait until the screen shows `until`."""
        shown = b""
        os.write(self._master, f"{line}\n".encode())
        async with asyncio.timeout(20):
            while until.encode() not in shown:
                with suppress(BlockingIOError):
                    shown += os.read(self._master, 65536)
                await asyncio.sleep(0.05)


def _resize(terminal: int, *, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


async def test_attach_reaches_the_program_itself(ways: Ways) -> None:
    word = uuid.uuid4().hex
    words = ways.words("shell", ("attach", "{pod}", "-i", "-c", "listener"))
    async with ways.virtual.started(*words) as process, asyncio.timeout(20):
        assert process.stdin
        assert process.stdout
        process.stdin.write(f"{word}\n".encode())
        heard = b""
        while f"heard {word}\n".encode() not in heard:
            heard += await process.stdout.readline()


async def test_files_and_folders_are_copied_both_ways(ways: Ways, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    (source / "inner").mkdir(parents=True)
    (source / "inner" / "data").write_bytes(random.Random(9).randbytes(2**20))
    (source / "a name with spaces").write_text("text\n")
    there = f"{{pod}}:/tmp/{uuid.uuid4().hex}"
    for words in ((str(source), there), (there, str(back))):
        ran = await ways.through("shell", "cp", "-c", "main", *words)
        assert ran.code == 0, ran.err
    copied = {path.relative_to(back): path.read_bytes() for path in _files(back)}
    assert copied == {path.relative_to(source): path.read_bytes() for path in _files(source)}
    assert len(copied) == 2


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_debug_adds_a_container_that_sees_the_others_process(ways: Ways) -> None:
    name = f"looker-{uuid.uuid4().hex[:6]}"
    script = "sleep 2; tr '\\0' '\\n' < /proc/1/environ | grep SECRET; sleep 2"
    words = ways.words("looked-at", (
        "debug", "{pod}", "-i", f"--image={IMAGE}", "--target=main", "--profile=general", "-c", name, "--", "sh", "-c", script,
    ))
    async with ways.virtual.started(*words) as process, asyncio.timeout(60):
        assert process.stdout
        shown = await process.stdout.read()  # stdin stays open: whoever attaches stays until its end
        assert await process.wait() == 0
    assert b"SECRET=visible\n" in shown
    through, directly = [await way("looked-at", "logs", "{pod}", "-c", name) for way in (ways.through, ways.directly)]
    assert through == directly
    assert through.out == b"SECRET=visible\n"


@pytest.mark.parametrize("what", REFUSED)
async def test_refusals_are_in_the_words_of_the_far_side(what: str, ways: Ways) -> None:
    words = REFUSED[what]
    through, directly = await asyncio.gather(ways.through("shell", *words), ways.directly("shell", *words))
    # Unaltered: where the far side names the Pod, it names its own, the twin.
    assert without_ids(ways.in_virtual_names(through, "shell")) == without_ids(directly)
    assert through.code != 0
    assert through.err


def test_the_two_versions_are_two(ways: Ways) -> None:
    assert ways.virtual.program.exists(), f"kubectl {NEWER} comes with the lock file: make .venv/.ready"
