"""A child whose parent is gone, however that ended, closes its ports at once and lives no longer than its streams."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# The parent starts the child, says its pid and waits to be killed; the child plays a proxier and says what becomes of it.
CHILD = """
import asyncio, signal, sys, time
from kubeocean.domain.proxierstate import ProxierReport
from kubeocean.proxier import supervised

def say(what):
    with open(sys.argv[1], "a") as file:
        file.write(what + ";")

class Proxier:
    lingers = False
    def report(self):
        return ProxierReport()
    def leave(self):
        say("leaves")
        self.lingers = {serves}
        return {serves}

async def main():
    supervised.PORTS_CLOSED_WITHIN, supervised.GONE_WITHIN = 0.5, 0.3
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: (say("told to stop"), sys.exit()))
    proxier = Proxier()
    supervised.leave_with_parent(proxier, {linger})
    print("ready", flush=True)
    await supervised.report(proxier)
    say("reports no more")
    {then}

asyncio.run(main())
"""
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, *sys.argv[1:]], stdin=subprocess.PIPE, start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""
CASES = {
    "one that serves leaves, and ends with its streams": (
        "True", 60, 'await asyncio.sleep(0.5); say("streams ended")', "leaves;reports no more;streams ended;"),
    "one that serves nobody yet is told to stop": ("False", 60, "", "leaves;told to stop;"),
    "streams that never end get no more than the time they were given": (
        "True", 0.2, "await asyncio.sleep(60)", "leaves;reports no more;"),
}


@contextmanager
def orphan(number: signal.Signals, said: Path, **plays: object) -> Iterator[int]:
    """Have a parent of such a child end by a signal; the child is what is left."""
    argv = [sys.executable, "-c", PARENT, "-c", CHILD.format(**plays), str(said)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert not said.exists()
        os.kill(parent.pid, number)
    yield child
    give_up = time.monotonic() + 10
    while runs(child):
        if time.monotonic() > give_up:
            os.kill(child, signal.SIGKILL)
            pytest.fail(f"child {child} still runs: {said.read_text()}")
        time.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("case", CASES)
def test_what_becomes_of_a_child_whose_parent_is_gone(case: str, number: signal.Signals, tmp_path: Path) -> None:
    serves, linger, then, expected = CASES[case]
    said = tmp_path / "said"
    with orphan(number, said, serves=serves, linger=linger, then=then or "pass"):
        pass
    assert said.read_text() == expected


def test_one_that_hangs_keeps_no_port(tmp_path: Path) -> None:
    said = tmp_path / "said"
    hangs = "asyncio.get_running_loop().call_soon(time.sleep, 60)"
    with orphan(signal.SIGKILL, said, serves=f"not {hangs}", linger=60, then="pass"):
        pass
    assert said.read_text() == "leaves;"
