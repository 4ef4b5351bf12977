"""What a proxier counts, under `kubeocean_proxier_`: on its own /metrics when it runs alone, on the manager's when it is his.

In a registry of their own: a manager is told this and nothing else, for of Python and his own process he tells himself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

FAMILIES: Final = CollectorRegistry(auto_describe=True)

_BINDING: Final = "clusterbinding"
OPEN = Gauge("kubeocean_proxier_sessions", "Streams that are open.", (_BINDING, "action"), registry=FAMILIES)
ENDED = Counter(
    "kubeocean_proxier_sessions_ended_total", "Streams that have ended, by how: closed, cut, refused, failed.",
    (_BINDING, "action", "outcome"), registry=FAMILIES,
)
BYTES = Counter(
    "kubeocean_proxier_stream_bytes_total", "Bytes carried so far, also of streams that are open, by direction.",
    (_BINDING, "direction"), registry=FAMILIES,
)
REFUSALS = Counter(
    "kubeocean_proxier_refusals_total", "Requests that the proxier itself refused, by the status it answered.", ("code",),
    registry=FAMILIES,
)
EXPIRES = Gauge(
    "kubeocean_proxier_certificate_expiry_timestamp_seconds", "When the serving certificate ends.", registry=FAMILIES
)
TASKS = Gauge("kubeocean_proxier_tasks", "Tasks of the event loop: some three for each stream.", registry=FAMILIES)


def show() -> None:
    """Have all of it told on this process's /metrics, which is a proxier's; to be called in its event loop."""
    count_tasks()
    REGISTRY.register(_Shown())


def count_tasks() -> None:
    """Have the running loop's tasks counted whenever somebody asks."""
    TASKS.set_function(lambda: float(len(asyncio.all_tasks())))


def count_process() -> None:
    """Tell of this process's memory, CPU and open files, too, as `kubeocean_proxier_process_...`; a parent has its own."""
    ProcessCollector(namespace="kubeocean_proxier", registry=FAMILIES)


def outcome_of(ended: str) -> str:
    """Return the class of what a session's line in the log says of its end.

    >>> outcome_of("refused: 404"), outcome_of("cut"), outcome_of("OSError")
    ('refused', 'cut', 'failed')
    """
    word = ended.partition(":")[0]
    return word if word in ("closed", "cut", "refused") else "failed"


class _Shown(Collector):
    def collect(self) -> Iterable[Metric]:
        return FAMILIES.collect()


def as_text() -> str:
    """Return all of it as a scraper reads it."""
    return generate_latest(FAMILIES).decode()
