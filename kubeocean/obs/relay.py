"""Another process's metrics among our own: a child without a port tells its parent, whose /metrics tells everybody."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector


class Relay(Collector):
    """Shows what it was last given; nothing before that, and nothing once it was told to forget."""

    def __init__(self) -> None:
        self._families: tuple[Metric, ...] = ()

    def take(self, text: str) -> None:
        """Show these families from now on, as they stand on a page of metrics. Raises ValueError when it is none."""
        self._families = tuple(text_string_to_metric_families(text))

    def forget(self) -> None:
        """Show nothing: whoever told has ended, and a figure that stands still would look like one that is true."""
        self._families = ()

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        return self._families
