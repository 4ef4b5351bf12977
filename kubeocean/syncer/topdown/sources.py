"""Which sources of dependencies a binding has."""

from __future__ import annotations

from collections.abc import Callable

from kubeocean.kube.meta import ObjectKey
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.topdown.dependencies import Dependencies, DependencySource


def build_dependencies(pairing: Pairing, wake: Callable[[ObjectKey], None]) -> Dependencies:
    """Return the sources of one binding; `wake` is called with every virtual Pod that may be able to start now."""
    del wake
    sources: list[DependencySource] = []
    return Dependencies(sources)
