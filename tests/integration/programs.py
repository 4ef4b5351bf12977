"""A `kubeocean` of our own as a child process: started, killed, asked how it is, its log quoted when something fails."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from pathlib import Path

import pytest

from kubeocean.kube.loopback import VNODE_LOOPBACK
from kubeocean.sandbox.ports import choose_ports

QUOTED_LINES = 60


class Program:
    """`kubeocean ARGS`, from the outside. Starts nothing by itself; may be started again after `kill` or `stop`.

    A fault of its own comes from `preamble`, Python that runs first.
    """

    def __init__(self, *args: str, kubeconfig: Path, log: Path, preamble: str = "") -> None:
        self.log = log
        self.health, self.metrics = (f"{VNODE_LOOPBACK}:{port}" for port in choose_ports(2, (VNODE_LOOPBACK,)))
        program = [str(Path(sys.executable).with_name("kubeocean"))]
        if preamble:
            program = [sys.executable, "-c", f"{preamble}; from kubeocean.cli import main; main()"]
        self._argv = [
            *program, *args, f"--kubeconfig={kubeconfig}", "--log-format=json",
            f"--metrics-bind-address={self.metrics}", f"--health-probe-bind-address={self.health}",
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> "Program":
        assert not self.alive, "runs already"
        # Nothing of the environment may lead it to another cluster.
        environment = {key: text for key, text in os.environ.items() if not key.startswith(("KUBE", "POD_IP"))}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._argv, stdout=log, stderr=log, env=environment)
        return self

    def ensure(self) -> "Program":
        """Have it run and be ready, whatever a test did to it before."""
        if not self.alive:
            self.start()
            self.wait_ready()
        return self

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.health}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def wait_ready(self, within: float = 30.0) -> "Program":
        give_up = time.monotonic() + within
        while not self.is_ready():
            assert self.alive, f"it ended by itself with {self.exit_code}:\n{self.tail()}"
            assert time.monotonic() < give_up, f"not ready within {within:g} s:\n{self.tail()}"
            time.sleep(0.05)
        return self

    @property
    def exit_code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def kill(self) -> None:
        """End it as a crash would: nothing is cleaned up, nothing given back."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to stop, as Kubernetes would; returns the exit code."""
        return self._end(signal.SIGTERM)

    def tell(self, number: signal.Signals) -> None:
        """Send a signal, and wait for nothing."""
        assert self._process is not None, "not started"
        self._process.send_signal(number)

    def scrape(self) -> str:
        """Return its metrics."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        if self.alive:
            self._process.send_signal(number)
        try:
            return self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=5)
            raise AssertionError(f"it did not end within 20 s of {number.name}:\n{self.tail()}") from None

    def child(self, command: str) -> int:
        """Return the pid of its child process `kubeocean COMMAND`; of several the last one. Fails when it has none."""
        children = self.children(command)
        assert children, f"no child {command} of process {self.pid}:\n{self.tail()}"
        return children[-1]

    def children(self, command: str) -> list[int]:
        """Return the pids of its child processes `kubeocean COMMAND`."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = folder.joinpath("cmdline").read_bytes().split(b"\0")
                parent = int(folder.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # ended meanwhile
            if parent == self.pid and command.encode() in words:
                found.append(int(folder.name))
        return sorted(found)

    def mark(self) -> int:
        """Return how long the log is now, for `tail`."""
        return self.log.stat().st_size if self.log.exists() else 0

    def has_said(self, words: str, since: int = 0) -> bool:
        """Tell whether the log has these words in it, since `mark`."""
        if not self.log.exists():
            return False
        with self.log.open("rb") as log:
            log.seek(since)
            return words.encode() in log.read()

    def tail(self, since: int = 0) -> str:
        if not self.log.exists():
            return "(no log)"
        with self.log.open("rb") as log:
            log.seek(since)
            return "\n".join(log.read().decode(errors="replace").splitlines()[-QUOTED_LINES:])


def runs(pid: int) -> bool:
    """Tell whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port on which nobody listens, and none of those that connections take."""
    return choose_ports(1, (address,))[0]


LOG_MARK = pytest.StashKey[tuple[Program, int]]()


def watch_over(request: pytest.FixtureRequest, program: Program) -> None:
    """Start a program again when an earlier test has ended it, and note where its log stands."""
    request.node.stash[LOG_MARK] = (program.ensure(), program.mark())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Quote what a watched program has said since, when the test fails; for a conftest to import."""
    report = yield
    if report.failed and LOG_MARK in item.stash:
        manager, since = item.stash[LOG_MARK]
        report.sections.append(("log of the manager", manager.tail(since)))
    return report
