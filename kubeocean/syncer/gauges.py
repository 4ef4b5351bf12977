"""What a syncer holds, counted when somebody asks: computed at the scrape, so nothing is kept up to date for nobody.

Names, labels and units are those of the Go project: cpu in millicores; memory, storage and huge pages in MiB; the rest in
pieces. *origin* is what the physical node can allocate, *available* what of it is leased now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from kubeocean.clusters.virtual import BY_NODE
from kubeocean.domain.hostports import is_placeholder
from kubeocean.domain.vnode import physical_name_of
from kubeocean.kube.meta import Json, ObjectKey, name_of
from kubeocean.kube.quantity import Quantity
from kubeocean.syncer.pairing import Pairing

_PHASES = ("Pending", "Running", "Succeeded", "Failed", "Unknown")
_MIB = 2**20
_BYTES = ("memory", "storage", "ephemeral-storage")
_PREFIX = "kubeocean_syncer_"


class _Gauges(Collector):
    """Shows every pairing that is at work in this process."""

    def __init__(self) -> None:
        self.pairings: list[Pairing] = []

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return the families without values: what the registry asks for instead of a collection."""
        return [*self._families().values()]

    def _families(self) -> dict[str, GaugeMetricFamily]:
        by_binding, by_phase = ["clusterbinding"], ["clusterbinding", "phase"]
        families = {
            "vnode_total": ("Virtual nodes", by_binding),
            "virtual_pod_total": ("Virtual Pods on virtual nodes", by_phase),
            "physical_pod_total": ("Their twins", by_phase),
            "vnode_origin_resource": ("What the physical node can allocate", ["clusterbinding", "node", "resource"]),
            "vnode_available_resource": ("What of it is leased", ["clusterbinding", "node", "resource"]),
            "cluster_origin_resource": ("What the leased nodes can allocate", ["clusterbinding", "resource"]),
            "cluster_available_resource": ("What of it is leased", ["clusterbinding", "resource"]),
        }
        return {name: GaugeMetricFamily(_PREFIX + name, text, labels=labels) for name, (text, labels) in families.items()}

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return the families with the values of this moment."""
        families = self._families()
        for pairing in self.pairings:
            vnodes = pairing.own_vnodes()
            families["vnode_total"].add_metric([pairing.binding_name], len(vnodes))
            _add_phases(families["virtual_pod_total"], pairing, _virtual_phases(pairing, vnodes))
            _add_phases(families["physical_pod_total"], pairing, _physical_phases(pairing))
            _add_resources(families, "origin_resource", pairing, _origin(pairing, vnodes))
            _add_resources(families, "available_resource", pairing, {name_of(vnode): vnode for vnode in vnodes})
        return families.values()


_gauges = _Gauges()
REGISTRY.register(_gauges)


@contextmanager
def shown(pairing: Pairing) -> Iterator[None]:
    """Show what `pairing` holds at every scrape, as long as the context lasts."""
    _gauges.pairings.append(pairing)
    try:
        yield
    finally:
        _gauges.pairings.remove(pairing)


def _virtual_phases(pairing: Pairing, vnodes: Iterable[Json]) -> Counter[str]:
    pods = pairing.virtual.pods.store
    bound = (entry for vnode in vnodes for entry in pods.by_index(BY_NODE, name_of(vnode)))
    return Counter(entry.summary.phase for entry in bound if not is_placeholder(entry.key))


def _physical_phases(pairing: Pairing) -> Counter[str]:
    return Counter(entry.summary.phase for entry in pairing.physical.pods.store.entries() if entry.summary.ours)


def _add_phases(family: GaugeMetricFamily, pairing: Pairing, phases: Counter[str]) -> None:
    for phase in _PHASES:
        family.add_metric([pairing.binding_name, phase], phases[phase])


def _origin(pairing: Pairing, vnodes: Iterable[Json]) -> dict[str, Json]:
    nodes = pairing.physical.nodes.store
    found = {name_of(vnode): nodes.object(ObjectKey("", physical_name_of(vnode))) for vnode in vnodes}
    return {name: node for name, node in found.items() if node}


def _add_resources(families: dict[str, GaugeMetricFamily], kind: str, pairing: Pairing, nodes: dict[str, Json]) -> None:
    total: Counter[str] = Counter()
    for name, node in nodes.items():
        for resource, text in ((node.get("status") or {}).get("allocatable") or {}).items():
            value = in_units(resource, text)
            total[resource] += value  # type: ignore[assignment]  # a Counter counts fractions just as well
            families[f"vnode_{kind}"].add_metric([pairing.binding_name, name, resource], value)
    for resource, value in total.items():
        families[f"cluster_{kind}"].add_metric([pairing.binding_name, resource], value)


def in_units(resource: str, text: str) -> float:
    """Return a quantity in the unit its metric has.

    >>> in_units("cpu", "1500m"), in_units("memory", "1Gi"), in_units("nvidia.com/gpu", "2")
    (1500.0, 1024.0, 2.0)
    """
    value = Quantity.parse(text).nano / 10**9
    if resource == "cpu":
        return value * 1000
    return value / _MIB if resource in _BYTES or resource.startswith("hugepages-") else value
