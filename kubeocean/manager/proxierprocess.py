"""The proxier as a child process of the manager, supervised: started again when it dies, let go when another manager leads.

One child serves every binding: where bindings share a manager's process, they share a proxier's as well, and its watch of
all Pods. It has caches and an event loop of its own, so that no keystroke waits for a syncer. Its ports are those of the
virtual nodes, which only one process of a machine can hold: so it runs where the manager leads. When that ends, in whatever
way, it closes them at once and carries the streams it has to their end (`proxier.supervised`); a manager that stops in good
order ends it, too.

What it says about itself (`domain.proxierstate`) is kept for the bindings' conditions, and what it counts is shown among the
manager's own metrics, so that it needs no port of its own. A child that says nothing for a while is hung, and is ended like
one that has died.
"""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Final

import structlog

from kubeocean.domain.proxierstate import ProxierReport, ProxierState, decide_proxier, parse_report
from kubeocean.kube.backoff import Backoff
from kubeocean.manager.metrics import PROXIER, PROXIER_STARTS

RESTART: Final = Backoff(base=1.0, cap=60.0)
STEADY_AFTER: Final = 60.0  # seconds of life after which an end counts as the first one again
SILENCE: Final = 30.0  # seconds without a report; it has one every 5 s
ENDS_WITHIN: Final = 17.0  # seconds: its streams get 15 to end by themselves
MOST_LET_GO: Final = 3  # each has caches of its own
_LONGEST_REPORT: Final = 2**24

log = structlog.get_logger(__name__)


class LetGo:
    """Processes that serve no more, and carry the streams they had to their end; of one manager, whether it leads or not."""

    def __init__(self) -> None:
        self._processes: list[Process] = []

    def add(self, process: Process) -> None:
        """Let a process go: its stdin ends. Of many the oldest gets no more time than one whose manager stops."""
        assert process.stdin, "it was asked for"
        process.stdin.close()
        self._processes = [each for each in self._processes if each.returncode is None] + [process]
        for oldest in self._processes[:-MOST_LET_GO]:
            _signal(oldest, signal.SIGTERM)

    async def end(self) -> None:
        """End them all, and wait for them."""
        await asyncio.gather(*map(_end, self._processes))


class ProxierProcess:
    """Keeps `command` running while `run` does; then it is one of `let_go`.

    `on_change` is called with each of `bindings` whose state has changed, `on_blocked` with every virtual node whose port
    cannot be opened, and the port, again and again.
    """

    def __init__(self, command: Sequence[str], bindings: Callable[[], Iterable[str]], let_go: LetGo) -> None:
        self._command, self._bindings, self._let_go = tuple(command), bindings, let_go
        self.on_change: Callable[[str], None] = lambda _: None
        self.on_blocked: Callable[[str, int], None] = lambda _, __: None
        self._report = ProxierReport()
        self._ended = ""
        self._started = 0.0  # monotonic
        self._known: dict[str, ProxierState] = {}

    def state(self, binding: str) -> ProxierState:
        """Return how the virtual nodes of a binding are served."""
        return decide_proxier(binding, self._report, ended=self._ended, age=monotonic() - self._started)

    async def run(self) -> None:
        """Have the process running until cancelled; then it is let go."""
        failures = 0
        while True:
            self._report, self._ended, self._started = ProxierReport(), "", monotonic()
            ended = await self._one_life()
            failures = 1 if monotonic() - self._started > STEADY_AFTER else failures + 1
            pause = RESTART.delay(failures)
            log.error("proxier ended", because=ended, again_in=round(pause, 1))
            self._ended = f"{ended}; it is started again, its log tells why"
            self._tell()
            await asyncio.sleep(pause)

    async def _one_life(self) -> str:
        """Return why the process is no more."""
        try:
            # A session of its own: Ctrl-C is for the manager, which then stops it in good order.
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, start_new_session=True, limit=_LONGEST_REPORT
            )
        except OSError as error:
            return f"the proxier cannot be started: {error}"
        log.info("proxier started", pid=process.pid)
        PROXIER_STARTS.inc()
        try:
            why = await self._listen(process)
            await _end(process)
        except asyncio.CancelledError:
            self._let_go.add(process)
            raise
        finally:
            PROXIER.forget()
        return why

    async def _listen(self, process: Process) -> str:
        assert process.stdout, "it was asked for"
        while True:
            try:
                async with asyncio.timeout(SILENCE):
                    line = await process.stdout.readline()
                    if not line:
                        return f"the proxier ended with {_told(await process.wait())}"
                self._report = parse_report(line)
                PROXIER.take(self._report.metrics)
            except TimeoutError:
                return f"the proxier gave no sign of life for {SILENCE:.0f} s"
            except ValueError as error:
                return f"the proxier cannot be understood: {error}"
            self._tell()
            for vnode, port in self._report.blocked.items():
                self.on_blocked(vnode, port)

    def _tell(self) -> None:
        """Call `on_change` for what has changed; time alone may change it, too."""
        states = {binding: self.state(binding) for binding in self._bindings()}
        changed = [binding for binding, state in states.items() if self._known.get(binding) != state]
        self._known = states
        for binding in changed:
            self.on_change(binding)


async def _end(process: Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        _signal(process, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(ENDS_WITHIN):
                await process.wait()
                return
    log.error("proxier cannot be ended", pid=process.pid)


def _signal(process: Process, number: signal.Signals) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.send_signal(number)


def _told(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
