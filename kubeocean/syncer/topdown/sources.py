"""Which sources of dependencies a binding has."""

from __future__ import annotations

from collections.abc import Callable

from kubeocean.kube.meta import ObjectKey
from kubeocean.kube.resources import CONFIGMAPS, SECRETS
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.topdown.claims import ClaimSource
from kubeocean.syncer.topdown.dependencies import Dependencies, DependencySource
from kubeocean.syncer.topdown.netpolicies import NetworkPolicyMirror
from kubeocean.syncer.topdown.objects import ObjectSource
from kubeocean.syncer.topdown.services import ServiceMirror


def build_dependencies(pairing: Pairing, wake: Callable[[ObjectKey], None]) -> Dependencies:
    """Return the sources of one binding; `wake` is called with every virtual Pod that may be able to start now."""
    configmaps, secrets = ObjectSource(pairing, CONFIGMAPS, wake), ObjectSource(pairing, SECRETS, wake)
    # In this order they are taken back: a volume may need its Secret to the last.
    sources: list[DependencySource] = [ClaimSource(pairing, wake, secrets), configmaps, secrets]
    return Dependencies(sources, [ServiceMirror(pairing, wake), NetworkPolicyMirror(pairing, wake)])
