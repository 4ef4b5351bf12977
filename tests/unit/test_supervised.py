"""A child ends with its parent, however that ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# The parent starts the child, says its pid and waits to be killed; the child says when it was told to stop.
CHILD = """
import signal, sys, time
from kubeocean.proxier.supervised import end_with_parent
def stop(*_):
    open(sys.argv[1], "w").write("told to stop")
    sys.exit()
signal.signal(signal.SIGTERM, stop)
end_with_parent()
print("ready", flush=True)
time.sleep(60)
"""
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, *sys.argv[1:]], stdin=subprocess.PIPE, start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_is_stopped_when_its_parent_is_gone(number: signal.Signals, tmp_path: Path) -> None:
    said = tmp_path / "said"
    argv = [sys.executable, "-c", PARENT, "-c", CHILD, str(said)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert not said.exists()
        os.kill(parent.pid, number)
    give_up = time.monotonic() + 10
    while not said.exists() or not said.read_text():
        assert time.monotonic() < give_up, f"child {child} still runs"
        time.sleep(0.02)
    assert said.read_text() == "told to stop"
