"""The manager's own metrics, under the names of the Go project (dashboards rely on them)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import perf_counter

from prometheus_client import REGISTRY, Counter, Gauge, Histogram

from kubeocean.domain.bindingstatus import FAILED, PENDING, READY
from kubeocean.obs.relay import Relay

_BINDING = ("clusterbinding",)
_DURATION = Histogram("kubeocean_manager_sync_duration_seconds", "Length of a pass over a ClusterBinding", _BINDING)
_TOTAL = Counter("kubeocean_manager_sync_total", "Passes over a ClusterBinding", _BINDING)
_ERRORS = Counter("kubeocean_manager_sync_errors_total", "Passes over a ClusterBinding that failed", _BINDING)
_BINDINGS = Gauge("kubeocean_clusterbindings_total", "ClusterBindings by phase", ("status",))
PROXIER_STARTS = Counter("kubeocean_manager_proxier_starts_total", "Times that the proxier was started as a child process")
PROXIER = Relay()  # what that child counts
REGISTRY.register(PROXIER)


@contextmanager
def measured_sync(binding: str) -> Iterator[None]:
    """Count and time one pass over `binding`."""
    started = perf_counter()
    try:
        yield
    except Exception:
        _ERRORS.labels(binding).inc()
        raise
    finally:
        _TOTAL.labels(binding).inc()
        _DURATION.labels(binding).observe(perf_counter() - started)


def forget_binding(binding: str) -> None:
    """Show `binding` no more: it is gone."""
    for metric in (_DURATION, _TOTAL, _ERRORS):
        with suppress(KeyError):
            metric.remove(binding)


def show_bindings(count: Callable[[str], int]) -> None:
    """Show, at every scrape, how many bindings are in each phase, as `count` says then."""
    for phase in (PENDING, READY, FAILED):
        _BINDINGS.labels(phase).set_function(lambda phase=phase: float(count(phase)))  # type: ignore[misc]  # bound early
