"""The figures of a virtual node: what `/stats/summary` of its kubelet answers, and `/runningpods/`.

A virtual node stands for a share of a machine, so its usage is what *its own Pods* use: the sum over their containers. What
else runs on the machine is the lender's affair, and would also make the node look full to whoever compares usage with the
node's capacity, which is the lease. For the same reason memory that is available is what is left of the lease.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from kubeocean.domain.cpuledger import Ledger, advance
from kubeocean.domain.nodepods import NodePod
from kubeocean.domain.podfigures import (
    NANO,
    Measured,
    build_bare_stats,
    build_metrics_stats,
    count,
    map_kubelet_stats,
)
from kubeocean.kube.meta import Json, format_time, name_of
from kubeocean.kube.quantity import Quantity

RUNNING: Final = "Running"


@dataclass(frozen=True, slots=True)
class Source:
    """What the physical cluster told; neither field: nobody could be asked.

    `summary`: PodStats of its kubelets, by the uid of the twin. `metrics`: PodMetrics, by namespace and name of the twin.
    """

    summary: Mapping[str, Json] | None = None
    metrics: Mapping[tuple[str, str], Json] | None = None

    @property
    def known(self) -> bool:
        """Tell whether there are figures at all."""
        return self.summary is not None or self.metrics is not None


def build_summary(
    vnode: Json, pods: Iterable[NodePod], source: Source, ledger: Ledger, now: datetime
) -> tuple[Json, Ledger]:
    """Return the Summary of a virtual node, and the ledger after it. Without figures it tells which Pods run, no more."""
    pods = list(pods)
    measured = {pod.uid: _measure(pod, source) for pod in pods}
    if source.known:
        readings = [reading for each in measured.values() for reading in each.readings]
        ledger = advance(ledger, readings, [key for pod in pods for key in pod.keys])
    told = [count(measured[pod.uid].stats, pod, ledger) for pod in pods if pod.phase == RUNNING]
    node: Json = {"nodeName": name_of(vnode), "startTime": vnode["metadata"].get("creationTimestamp") or format_time(now)}
    if source.known:
        node |= _sum(vnode, told, ledger, now)
    return {"node": node, "pods": told}, ledger


def _measure(pod: NodePod, source: Source) -> Measured:
    if source.summary is not None and (stats := source.summary.get(pod.twin_uid)):
        return map_kubelet_stats(stats, pod)
    if source.metrics is not None and (metrics := source.metrics.get((pod.twin_namespace, pod.twin_name))):
        return build_metrics_stats(metrics, pod)
    return Measured(build_bare_stats(pod), ())


def _sum(vnode: Json, told: list[Json], ledger: Ledger, now: datetime) -> Json:
    containers = [each for pod in told for each in pod["containers"]]
    cpu = [each["cpu"] for each in containers if "cpu" in each]
    memory = [each["memory"] for each in containers if "memory" in each]
    # The newest sample, so that who asks twice between two samples sees that nothing is new.
    newest = datetime.fromtimestamp(ledger.looked, UTC) if cpu else now
    time = newest.isoformat(timespec="microseconds").replace("+00:00", "Z")
    used = sum(each.get("workingSetBytes") or 0 for each in memory)
    figures: Json = {
        "cpu": {
            "time": time, "usageNanoCores": sum(each.get("usageNanoCores") or 0 for each in cpu),
            "usageCoreNanoSeconds": round(ledger.total * NANO),
        },
        "memory": {"time": time, "workingSetBytes": used},
    }
    if leased := ((vnode.get("status") or {}).get("allocatable") or {}).get("memory"):
        figures["memory"]["availableBytes"] = max(0, Quantity.parse(leased).whole() - used)
    return figures


def build_running_pods(pods: Iterable[Json]) -> Json:
    """Return the PodList of /runningpods/: of Pods that run, what a container runtime knows of them."""
    items = [
        {
            "metadata": {key: pod["metadata"][key] for key in ("name", "namespace", "uid")},
            "spec": {"containers": [{"name": each["name"], "image": each.get("image", ""), "resources": {}}
                                    for each in pod["spec"].get("containers") or ()]},
            "status": {},
        }
        for pod in pods if (pod.get("status") or {}).get("phase") == RUNNING
    ]
    return build_pod_list(items)


def build_pod_list(pods: Iterable[Json]) -> Json:
    """Return Pods as the kubelet's /pods lists them."""
    items = [{key: value for key, value in pod.items() if key not in ("apiVersion", "kind")} for pod in pods]
    return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
