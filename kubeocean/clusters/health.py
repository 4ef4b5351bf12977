"""Can we reach a cluster? A small state machine fed by probes; what to do about the answer is decided elsewhere.

A healthy cluster is probed every 5 s, one that has just failed every 2 s; three failures in a row mean unreachable, so a
dead API server is known within 15 s and a single lost packet means nothing. One success means reachable again. How long
it has been silent counts from its last answer, since nobody knows what came after that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

import structlog

from kubeocean.clusters.identity import ClusterIdentityChanged
from kubeocean.kube.errors import KubeError

PROBE_EVERY, PROBE_AFTER_FAILURE, PROBE_DEADLINE = 5.0, 2.0, 2.0
FAILURES_TO_UNREACHABLE = 3

log = structlog.get_logger(__name__)


class Reachability:
    """Whether a cluster answers. `steady` is a clock in seconds that nobody sets."""

    def __init__(self, steady: Callable[[], float] = monotonic) -> None:
        self._steady = steady
        self._last_answer = steady()
        self.reachable = True
        self.last_error = ""
        self._failures = 0
        self._subscribers: list[Callable[[bool], None]] = []

    def subscribe(self, on_change: Callable[[bool], None]) -> None:
        """Call `on_change`, in the event loop, with every new answer."""
        self._subscribers.append(on_change)

    def succeeded(self) -> None:
        """Note that the cluster answered."""
        self._failures, self.last_error, self._last_answer = 0, "", self._steady()
        self._become(True)

    def failed(self, error: str) -> None:
        """Note that it did not."""
        self._failures += 1
        self.last_error = error
        if self._failures >= FAILURES_TO_UNREACHABLE:
            self._become(False)

    @property
    def missed_a_probe(self) -> bool:
        """Tell whether the last probe failed."""
        return self._failures > 0

    @property
    def silent_for(self) -> float:
        """Seconds since its last answer, 0 while it is reachable."""
        return 0.0 if self.reachable else self._steady() - self._last_answer

    @property
    def next_probe(self) -> float:
        """Seconds until the next probe."""
        return PROBE_AFTER_FAILURE if self._failures else PROBE_EVERY

    def _become(self, reachable: bool) -> None:
        if reachable != self.reachable:
            self.reachable = reachable
            for subscriber in self._subscribers:
                subscriber(reachable)

    async def run(self, probe: Callable[[], Awaitable[object]], *, cluster: str) -> None:
        """Probe for ever. `probe` raises KubeError when the cluster does not answer as it should.

        Raises ClusterIdentityChanged when `probe` does: it is another cluster that answers, and waiting does not help.
        """
        while True:
            await asyncio.sleep(self.next_probe)
            try:
                async with asyncio.timeout(PROBE_DEADLINE):
                    await probe()
            except ClusterIdentityChanged:
                raise
            except (KubeError, TimeoutError) as error:
                self.failed(str(error) or f"no answer within {PROBE_DEADLINE:.0f} s")
                say = log.warning if self._failures <= FAILURES_TO_UNREACHABLE else log.debug  # an outage may last for days
                say("cluster did not answer a probe", cluster=cluster, error=self.last_error, failures=self._failures)
            else:
                if self._failures:
                    log.info("cluster answers again", cluster=cluster)
                self.succeeded()
