"""Only the very process that was started is ever ended."""

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kubeocean.sandbox import processes


@dataclass(frozen=True)
class Known:
    pid: int
    birth: str


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Known]:
    process = start(tmp_path, "/bin/sh", "-c", "exec sleep 60")
    yield process
    processes.end([process])


def start(folder: Path, *argv: str) -> Known:
    pid = processes.start(argv, log=folder / "log", environment={"PATH": os.defpath})
    return Known(pid, processes.birth_of(pid))


def wait_for_end(process: Known) -> None:
    with contextlib.suppress(ChildProcessError):  # it was so quick that looking at its birth has reaped it
        os.waitpid(process.pid, 0)


def test_a_started_process_is_alive_until_it_is_ended(sleeper: Known) -> None:
    assert processes.is_alive(sleeper)
    processes.end([sleeper])
    assert not processes.is_alive(sleeper)


def test_ending_twice_is_no_error(sleeper: Known) -> None:
    processes.end([sleeper])
    processes.end([sleeper])


def test_a_stranger_with_the_same_pid_is_left_alone(sleeper: Known) -> None:
    former = replace(sleeper, birth="another-boot:1")
    assert not processes.is_alive(former)
    processes.end([former])
    assert processes.is_alive(sleeper)


def test_a_process_whose_birth_is_unknown_is_never_ended(sleeper: Known) -> None:
    processes.end([replace(sleeper, birth="")])
    assert processes.is_alive(sleeper)


def test_it_leads_a_session_of_its_own(sleeper: Known) -> None:
    assert os.getsid(sleeper.pid) == sleeper.pid != os.getsid(0)


def test_a_zombie_is_dead(tmp_path: Path) -> None:
    pid = processes.start(["/bin/sh", "-c", "exit"], log=tmp_path / "log", environment={})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert processes.birth_of(pid) == ""


def test_its_children_end_with_it(tmp_path: Path) -> None:
    parent = start(tmp_path, "/bin/sh", "-c", "sleep 60 & echo $!; wait")
    while not (line := (tmp_path / "log").read_text()).endswith("\n"):
        assert processes.is_alive(parent)
    child = int(line)
    birth = processes.birth_of(child)
    assert birth
    processes.end([parent])
    processes.end([Known(child, birth)])  # dead already, or it would be killed here
    assert processes.birth_of(child) != birth


def test_signals_that_python_ignores_are_not_inherited(tmp_path: Path) -> None:
    wait_for_end(start(tmp_path, "/bin/sh", "-c", "grep SigIgn /proc/self/status"))
    ignored = int((tmp_path / "log").read_text().split()[1], 16)
    assert not ignored & 1 << (signal.SIGPIPE - 1)


def test_output_is_appended_to_the_log_and_its_end_can_be_quoted(tmp_path: Path) -> None:
    for word in ("one", "two"):
        wait_for_end(start(tmp_path, "/bin/sh", "-c", f"echo {word}; echo {word}! >&2"))
    assert processes.last_lines(tmp_path / "log") == ["one", "one!", "two", "two!"]
    assert processes.last_lines(tmp_path / "log", 1) == ["two!"]


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert processes.last_lines(tmp_path / "none") == []


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\xff" * 100_000 + b"\nlast\n")
    assert processes.last_lines(tmp_path / "log", 1) == ["last"]


def test_what_cannot_be_executed_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        start(tmp_path, str(tmp_path / "nothing"))


def test_ps_knows_births_too_where_there_is_no_proc(sleeper: Known) -> None:
    birth = processes._birth_from_ps(sleeper.pid)
    assert birth
    assert processes._birth_from_ps(sleeper.pid) == birth
    processes.end([sleeper])
    assert processes._birth_from_ps(sleeper.pid) == ""
