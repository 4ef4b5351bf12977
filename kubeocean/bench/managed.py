"""The real `kubeocean manager`, as a child process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from kubeocean.bench.errors import BenchError
from kubeocean.bench.poll import until_true
from kubeocean.sandbox.processes import last_lines

_PROGRAM = "from kubeocean.cli import main; main()"
_PROFILED = "from kubeocean.bench.profiling import install; install({path!r}); "
_STOPS_WITHIN = 20.0  # seconds


class Manager:
    """A manager; after `stop` it may be started anew."""

    def __init__(self, kubeconfig: Path, log: Path, profile: Path | None) -> None:
        self.log = log
        self._kubeconfig, self._profile = kubeconfig, profile
        self._process: asyncio.subprocess.Process

    async def start(self, *flags: str) -> None:
        """Start it; later `flags` win over those it always has."""
        program = (_PROFILED.format(path=str(self._profile)) if self._profile else "") + _PROGRAM
        # What a person's shell says about Kubeocean must not change what is measured.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("KUBEOCEAN_")}
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", program, "manager", "--kubeconfig", str(self._kubeconfig), "--install-crds",
                "--metrics-bind-address", "0", "--health-probe-bind-address", "0", "--log-format", "json", *flags,
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=environment,
            )

    async def stop(self) -> None:
        """Ask it to stop, and make it if it does not."""
        await _stop(self._process)

    @asynccontextmanager
    async def replaced(self, *flags: str) -> AsyncIterator[None]:
        """Start another beside it, which is the one from now on; the old one is stopped when the block ends."""
        old = self._process
        try:
            await self.start(*flags)
            yield
        finally:
            await _stop(old)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise BenchError with the end of its log if it has died."""
        if self._process.returncode is not None:
            raise BenchError("\n    ".join([f"the manager died ({self._process.returncode}):", *self.last_words()]))

    def last_words(self) -> list[str]:
        """Return the end of its log."""
        return last_lines(self.log)

    def profile_on(self) -> None:
        """Start the profile, if there is to be one."""
        if self._profile:
            self._process.send_signal(signal.SIGUSR1)

    async def profile_off(self) -> None:
        """Stop it and return once it is on disk."""
        if self._profile:
            profile = self._profile
            profile.unlink(missing_ok=True)
            self._process.send_signal(signal.SIGUSR2)

            async def written() -> bool:
                return profile.exists()

            await until_true(written, within=30, what=f"the manager wrote its profile to {profile}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    with suppress(TimeoutError):
        async with asyncio.timeout(_STOPS_WITHIN):
            await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()


@asynccontextmanager
async def run_manager(kubeconfig: Path, log: Path, profile: Path | None, *flags: str) -> AsyncIterator[Manager]:
    """Run it until the block ends; then it is asked to stop, and made to if it does not."""
    manager = Manager(kubeconfig, log, profile)
    await manager.start(*flags)
    try:
        yield manager
    finally:
        await manager.stop()
