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
    """A running manager."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, profile: Path | None) -> None:
        self._process, self._log, self._profile = process, log, profile

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
        return last_lines(self._log)

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


@asynccontextmanager
async def run_manager(kubeconfig: Path, log: Path, profile: Path | None) -> AsyncIterator[Manager]:
    """Run it until the block ends; then it is asked to stop, and made to if it does not."""
    program = (_PROFILED.format(path=str(profile)) if profile else "") + _PROGRAM
    # What a person's shell says about Kubeocean must not change what is measured.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KUBEOCEAN_")}
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, "manager", "--kubeconfig", str(kubeconfig), "--install-crds",
            "--metrics-bind-address", "0", "--health-probe-bind-address", "0", "--log-format", "json",
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=environment,
        )
    try:
        yield Manager(process, log, profile)
    finally:
        if process.returncode is None:
            process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOPS_WITHIN):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
