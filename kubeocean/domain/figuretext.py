"""A virtual node's figures as Prometheus text: `/metrics/resource`, `/metrics/cadvisor` and `/metrics` of its kubelet.

`/metrics/resource` is what metrics-server reads (0.6 and later), and its rules decide details here: it takes a node or Pod for
failed whose counter or working set is 0, so an idle node tells a byte; and it takes usage from two samples of different
times, so every sample carries the time it was measured, not that of the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from kubeocean.domain.nodepods import NodePod
from kubeocean.domain.podfigures import NANO, moment
from kubeocean.kube.meta import Json

LEAST_BYTES: Final = 1
# Of a container's file systems, what is true of the machine's disk.
_ABOUT_THE_DISK: Final = ("container_fs_limit_bytes", "container_fs_inodes_free", "container_fs_inodes_total")

_VOLUME_STATS: Final = {
    "availableBytes": "available_bytes", "capacityBytes": "capacity_bytes", "usedBytes": "used_bytes",
    "inodesFree": "inodes_free", "inodes": "inodes", "inodesUsed": "inodes_used",
}


def write_resource_metrics(summary: Json, *, known: bool, note: str) -> str:
    """Return /metrics/resource for a Summary; `note`, where the figures come from or why there are none, leads it."""
    container, pod = ("container", "namespace", "pod"), ("namespace", "pod")
    families = _Families()
    for each in summary["pods"]:
        reference = each["podRef"]
        place = (reference["namespace"], reference["name"])
        for run in each["containers"]:
            families.add_usage("container", container, (run["name"], *place), run)
            if (begun := moment(run.get("startTime") or "")) and "cpu" in run:
                family = families.gauge("container_start_time_seconds", "Start of the container since the epoch", container)
                family.add_metric((run["name"], *place), begun)
        families.add_usage("pod", pod, place, each)
    families.add_usage("node", (), (), summary["node"], least=LEAST_BYTES)
    failed = families.gauge("resource_scrape_error", "1 if the figures could not be got, 0 otherwise", ())
    failed.add_metric((), 0 if known else 1)
    return _write(families, note)


def write_cadvisor_metrics(summary: Json, *, note: str) -> str:
    """Return /metrics/cadvisor where the node's own is not to be had: the few of its figures that are known."""
    labels = ("container", "namespace", "pod")
    families = _Families()
    for each in summary["pods"]:
        reference = each["podRef"]
        for run in each["containers"]:
            families.add_usage("container", labels, (run["name"], reference["namespace"], reference["name"]), run)
    return _write(families, note)


def write_kubelet_metrics(summary: Json, *, note: str) -> str:
    """Return /metrics: which node this is, what runs there, and how full its claims are where that is known."""
    families = _Families()
    families.gauge("kubelet_node_name", "The node's name. The count is always 1.", ("node",)).add_metric(
        (summary["node"]["nodeName"],), 1
    )
    families.gauge("kubelet_running_pods", "Pods that run on the node", ()).add_metric((), len(summary["pods"]))
    running = families.gauge("kubelet_running_containers", "Containers that run on the node", ("container_state",))
    running.add_metric(("running",), sum(len(each["containers"]) for each in summary["pods"]))
    labels = ("namespace", "persistentvolumeclaim")
    for volume in _claims(summary):
        claim = (volume["pvcRef"]["namespace"], volume["pvcRef"]["name"])
        for field, name in _VOLUME_STATS.items():
            if field in volume:
                family = families.gauge(f"kubelet_volume_stats_{name}", f"{field} of the volume", labels)
                family.add_metric(claim, volume[field])
    return _write(families, note)


def _claims(summary: Json) -> list[Json]:
    """Return the volumes of claims, each claim once: several Pods may use it."""
    found = {
        (volume["pvcRef"]["namespace"], volume["pvcRef"]["name"]): volume
        for pod in summary["pods"] for volume in pod.get("volume") or () if "pvcRef" in volume
    }
    return [found[claim] for claim in sorted(found)]


def map_cadvisor(text: str, pods: Mapping[tuple[str, str], NodePod], *, note: str) -> str:
    """Return a physical node's /metrics/cadvisor as that of the virtual one; `pods` by namespace and name of the twin.

    What is about no twin of ours is left out. Physical names and uids give way to virtual ones, also in cgroup paths. Raises
    ValueError for what is no such text.
    """
    families: dict[str, Metric] = {}
    for family in text_string_to_metric_families(_about(text, {namespace for namespace, _ in pods})):
        mapped = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        for sample in family.samples:
            pod = pods.get((sample.labels.get("namespace", ""), sample.labels.get("pod", "")))
            if pod and sample.name not in _ABOUT_THE_DISK:
                mapped.add_sample(sample.name, _virtual_labels(sample.labels, pod), sample.value, sample.timestamp)
    return _write([family for family in families.values() if family.samples], note)


def _about(text: str, namespaces: Iterable[str]) -> str:
    """Return the lines that may concern Pods of some namespaces, with what is said of the metrics: parsing is slow."""
    marks = tuple(f'namespace="{namespace}"' for namespace in namespaces)
    lines = (line for line in text.splitlines() if line.startswith("#") or any(mark in line for mark in marks))
    return "\n".join(lines) + "\n"


def _virtual_labels(labels: Mapping[str, str], pod: NodePod) -> dict[str, str]:
    mapped = {**labels, "namespace": pod.namespace, "pod": pod.name}
    if "id" in labels:  # a cgroup's path on the lender's machine, which holds the twin's uid; its end tells containers apart
        last = labels["id"].rpartition("/")[2] if labels.get("container") else ""
        mapped["id"] = f"/kubepods/pod{pod.uid}/{last}".rstrip("/")
    if pod.twin_uid in mapped.get("name", ""):
        del mapped["name"]
    return mapped


class _Families:
    """Metric families by name, in the order of their first sample."""

    def __init__(self) -> None:
        self._families: dict[str, Metric] = {}

    def __iter__(self) -> Iterator[Metric]:
        return (family for family in self._families.values() if family.samples)

    def gauge(self, name: str, text: str, labels: tuple[str, ...]) -> GaugeMetricFamily:
        family = self._families.setdefault(name, GaugeMetricFamily(name, text, labels=labels))
        assert isinstance(family, GaugeMetricFamily)
        return family

    def add_usage(
        self, what: str, labels: tuple[str, ...], values: tuple[str, ...], figures: Json, *, least: int = 0
    ) -> None:
        """Add the CPU counter and the working set of something, with the times they were measured."""
        cpu, memory = figures.get("cpu") or {}, figures.get("memory") or {}
        if (used := cpu.get("usageCoreNanoSeconds")) is not None:
            name = f"{what}_cpu_usage_seconds_total"
            counter = self._families.setdefault(
                name, CounterMetricFamily(name, f"Cumulative cpu time consumed by the {what} in core-seconds", labels=labels)
            )
            assert isinstance(counter, CounterMetricFamily)
            counter.add_metric(values, used / NANO, timestamp=moment(cpu["time"]))
        if (size := memory.get("workingSetBytes")) is not None:
            gauge = self.gauge(f"{what}_memory_working_set_bytes", f"Current working set of the {what} in bytes", labels)
            gauge.add_metric(values, max(size, least), timestamp=moment(memory["time"]))


def _write(families: Iterable[Metric], note: str) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Fixed(families))
    return f"# {' '.join(note.split())}\n{generate_latest(registry).decode()}"


class _Fixed(Collector):
    """Families that are there already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families
