"""The manager's proxier, seen from outside: by the kernel, and by what it tells through the manager's /metrics."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from kubeocean.bench.errors import BenchError
from kubeocean.bench.page import read_page
from kubeocean.bench.poll import until_true
from kubeocean.bench.procfs import memory, open_files
from kubeocean.bench.streamresults import Footprint

_TOLD_WITHIN = 30.0  # seconds: the child tells every five


@dataclass(frozen=True, slots=True)
class ProxierWatch:
    """`pid` is the proxier's, `metrics` the URL of the manager's metrics."""

    pid: int
    metrics: str

    async def look(self, *, sessions: int) -> Footprint:
        """Wait until the proxier tells of so many open streams and return what it holds then. Raises BenchError."""
        told: dict[str, int] = {}

        async def as_expected() -> bool:
            told.update(await self._ask())
            return told["sessions"] == sessions

        await until_true(
            as_expected, within=_TOLD_WITHIN, every=0.5,
            what=lambda: f"the proxier tells of {sessions} open streams; it tells of {told.get('sessions', 'none at all')}",
        )
        known = memory(self.pid)
        return Footprint(known[0] if known else None, open_files(self.pid), told["sessions"], told["tasks"])

    async def _ask(self) -> dict[str, int]:
        page = await read_page(self.metrics)
        if page is None:
            raise BenchError(f"the manager does not answer at {self.metrics}")
        return parse_counts(page)


def parse_counts(page: str) -> dict[str, int]:
    """Return from a page of metrics how many `sessions` are open and how many `tasks` there are; -1: it does not tell."""
    sums = {"kubeocean_proxier_sessions": 0.0, "kubeocean_proxier_tasks": -1.0}
    for family in text_string_to_metric_families(page):
        if family.name in sums and family.samples:
            sums[family.name] = sum(sample.value for sample in family.samples)
    told = sums["kubeocean_proxier_tasks"] >= 0  # without a child nothing is told, which is not "no sessions"
    return {
        "sessions": int(sums["kubeocean_proxier_sessions"]) if told else -1, "tasks": int(sums["kubeocean_proxier_tasks"]),
    }
