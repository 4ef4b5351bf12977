"""What a physical cluster measured of a twin, told as figures of the virtual Pod: a `PodStats` of the kubelet's Summary API.

Two sources, one shape:

    exact      the PodStats of the node's own kubelet, copied field by field from an allow-list. What tells of the machine
               (how large the disk is, how much others have left free) is not on it, nor is any physical name or uid.
    metrics    PodMetrics of metrics.k8s.io: cores and bytes per container, nothing else.

Counters are not in what these functions return; they come from the ledger (`cpuledger`), which `count` puts in.
Source of the fields: k8s.io/kubelet/pkg/apis/stats/v1alpha1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kubeocean.domain.cpuledger import CounterKey, Ledger, Reading
from kubeocean.domain.nodepods import NodePod, Run
from kubeocean.kube.meta import Json, parse_time
from kubeocean.kube.quantity import InvalidQuantity, Quantity

NANO: Final = 10**9
_CPU: Final = ("time", "usageNanoCores")
_MEMORY: Final = ("time", "availableBytes", "usageBytes", "workingSetBytes", "rssBytes", "pageFaults", "majorPageFaults")
_SWAP: Final = ("time", "swapUsageBytes")
_USED: Final = ("time", "usedBytes", "inodesUsed")  # of a disk that others use, too
_CLAIM: Final = (*_USED, "availableBytes", "capacityBytes", "inodesFree", "inodes")  # of a volume of the Pod's own
_TRAFFIC: Final = ("name", "rxBytes", "rxErrors", "txBytes", "txErrors")
_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?)(h|ms|m|s|us|µs|ns)")
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of one Pod without counters, and what the ledger must hear."""

    stats: Json
    readings: tuple[Reading, ...]


def moment(text: str) -> float:
    """Return an RFC 3339 time in seconds since the epoch, 0 for none or nonsense."""
    try:
        return parse_time(text).timestamp() if text else 0.0
    except ValueError:
        return 0.0


def build_bare_stats(pod: NodePod) -> Json:
    """Return what is known of a Pod that nobody has measured: that it is there and what runs in it."""
    stats: Json = {"podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid}}
    if pod.started:
        stats["startTime"] = pod.started
    stats["containers"] = [{"name": name, "startTime": run.started} for name, run in pod.runs.items()]
    return stats


# --- exact


def map_kubelet_stats(stats: Json, pod: NodePod) -> Measured:
    """Return the figures of the twin's kubelet as those of the virtual Pod."""
    mapped = build_bare_stats(pod)
    readings = _read_counter(CounterKey(pod.uid), stats.get("cpu"))
    containers = []
    for each in stats.get("containers") or ():
        if (run := pod.runs.get(each.get("name") or "")) is None:
            continue
        containers.append(_map_container(each, run))
        key = CounterKey(pod.uid, each["name"], run.id)
        readings += _read_counter(key, each.get("cpu"), moment(each.get("startTime") or run.started))
    mapped["containers"] = containers
    mapped |= _picked(stats, {"cpu": _CPU, "memory": _MEMORY, "swap": _SWAP, "ephemeral-storage": _USED})
    mapped |= _picked(stats, {"process_stats": ("process_count",)})
    if network := stats.get("network"):
        mapped["network"] = _pick(network, ("time", *_TRAFFIC))
        mapped["network"]["interfaces"] = [_pick(each, _TRAFFIC) for each in network.get("interfaces") or ()]
    if volumes := [_map_volume(each, pod) for each in stats.get("volume") or ()]:
        mapped["volume"] = volumes
    return Measured(mapped, readings)


def _map_container(stats: Json, run: Run) -> Json:
    begun = {"name": stats["name"], "startTime": stats.get("startTime") or run.started}
    return begun | _picked(stats, {"cpu": _CPU, "memory": _MEMORY, "swap": _SWAP, "rootfs": _USED, "logs": _USED})


def _map_volume(stats: Json, pod: NodePod) -> Json:
    name = stats.get("name") or ""
    if claim := pod.claims.get(name):
        return {**_pick(stats, _CLAIM), "name": name, "pvcRef": {"name": claim, "namespace": pod.namespace}}
    return {**_pick(stats, _USED), "name": name}


def _read_counter(key: CounterKey, cpu: Json | None, started: float = 0.0) -> tuple[Reading, ...]:
    if not cpu or cpu.get("usageCoreNanoSeconds") is None:
        return ()
    cores = (cpu.get("usageNanoCores") or 0) / NANO
    return (Reading(key, moment(cpu.get("time") or ""), cores, 0.0, cpu["usageCoreNanoSeconds"] / NANO, started),)


def _picked(stats: Json, wanted: dict[str, tuple[str, ...]]) -> Json:
    return {part: _pick(stats[part], fields) for part, fields in wanted.items() if stats.get(part)}


def _pick(stats: Json, fields: Iterable[str]) -> Json:
    return {field: stats[field] for field in fields if stats.get(field) is not None}


# --- metrics.k8s.io


def build_metrics_stats(metrics: Json, pod: NodePod) -> Measured:
    """Return the figures of the twin's PodMetrics as those of the virtual Pod.

    Containers that do not run (any more), or began after the sample, are left out: what it says is of a run before.
    """
    time, window = metrics.get("timestamp") or "", parse_duration(metrics.get("window") or "")
    stats, at = build_bare_stats(pod), moment(time)
    readings: list[Reading] = []
    containers: list[Json] = []
    for each in metrics.get("containers") or ():
        run, usage = pod.runs.get(each.get("name") or ""), each.get("usage") or {}
        if run is None or moment(run.started) > at:
            continue
        cores, size = _quantity(usage.get("cpu")), _quantity(usage.get("memory"))
        readings.append(
            Reading(CounterKey(pod.uid, each["name"], run.id), at, cores.nano / NANO, window, started=moment(run.started))
        )
        containers.append({
            "name": each["name"], "startTime": run.started, "cpu": {"time": time, "usageNanoCores": cores.nano},
            "memory": {"time": time, "workingSetBytes": size.whole()},
        })
    if not containers:
        return Measured(stats, ())
    total = sum(each["cpu"]["usageNanoCores"] for each in containers)
    stats["containers"] = containers
    stats["cpu"] = {"time": time, "usageNanoCores": total}
    stats["memory"] = {"time": time, "workingSetBytes": sum(each["memory"]["workingSetBytes"] for each in containers)}
    began = min(reading.started for reading in readings)
    return Measured(stats, (Reading(CounterKey(pod.uid), at, total / NANO, window, started=began), *readings))


def parse_duration(text: str) -> float:
    """Return a Go duration in seconds, 0 for none or nonsense.

    >>> parse_duration("1m0.5s")
    60.5
    """
    parts = _DURATION.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        return 0.0
    return sum((float(number) * _UNITS[unit] for number, unit in parts), 0.0)


def _quantity(value: str | int | float | None) -> Quantity:
    try:
        return Quantity.parse(value if value is not None else 0)
    except InvalidQuantity:
        return Quantity(0)


# --- counters


def count(stats: Json, pod: NodePod, ledger: Ledger) -> Json:
    """Return figures of a Pod with the counters that the ledger has for it."""
    counted = _with_counter(stats, CounterKey(pod.uid), ledger)
    counted["containers"] = [
        _with_counter(each, CounterKey(pod.uid, each["name"], pod.runs[each["name"]].id), ledger)
        for each in stats["containers"]
    ]
    return counted


def _with_counter(stats: Json, key: CounterKey, ledger: Ledger) -> Json:
    counter = ledger.counters.get(key)
    if counter is None or "cpu" not in stats:
        return dict(stats)
    return {**stats, "cpu": {**stats["cpu"], "usageCoreNanoSeconds": round(counter.seconds * NANO)}}
