"""The stations of a Pod on its way, found in the audit logs, and how long it took between them. Pure.

    created  virtual POST pods            by the bench
    bound    virtual POST pods/binding    by the virtual kube-scheduler
    twin     physical POST pods           by Kubeocean
    running  physical PATCH pods/status   by KWOK, who plays the kubelet
    mirrored virtual PATCH pods/status    by Kubeocean

Every station is the moment the server had answered. Kubeocean may write a status more than once: the one that mirrors is
the first that arrived after KWOK's had arrived (a watch may tell of a write before its own author has the answer).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kubeocean.bench.audit import OURS, Write
from kubeocean.bench.percentiles import Spread, spread
from kubeocean.domain.naming import physical_name

_KUBELET = "kwok"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """How long Pods took between two stations; None where no Pod has both."""

    created_to_bound: Spread | None
    bound_to_twin: Spread | None
    twin_to_running: Spread | None
    running_to_mirrored: Spread | None


def trace(virtual: Iterable[Write], physical: Iterable[Write], namespace: str) -> Pipeline:
    """Return the pipeline of the Pods of virtual `namespace` that `virtual` shows being created."""
    created: dict[str, float] = {}
    bound: dict[str, float] = {}
    mirrors: dict[str, list[Write]] = {}
    for write in virtual:
        if write.namespace != namespace or write.code >= 400:
            continue
        match write.verb, write.resource:
            case "create", "pods":
                created[write.name] = write.completed
            case "create", "pods/binding":
                bound[write.name] = write.completed
            case "patch", "pods/status" if write.program in OURS:
                mirrors.setdefault(write.name, []).append(write)
    twins, running = _twin_stations(physical)
    twin_names = {name: physical_name(name, namespace) for name in created}
    mirrored = {name: _first_after(mirrors.get(name, ()), running.get(twin)) for name, twin in twin_names.items()}
    twin = {name: twins[each].completed for name, each in twin_names.items() if each in twins}
    runs = {name: running[each].completed for name, each in twin_names.items() if each in running}
    return Pipeline(
        _between(created, bound), _between(bound, twin), _between(twin, runs),
        _between(runs, {name: moment for name, moment in mirrored.items() if moment is not None}),
    )


def _twin_stations(physical: Iterable[Write]) -> tuple[dict[str, Write], dict[str, Write]]:
    twins: dict[str, Write] = {}
    running: dict[str, Write] = {}
    for write in physical:
        if write.code >= 400:
            continue
        if (write.verb, write.resource) == ("create", "pods") and write.program in OURS:
            twins[write.name] = write
        elif (write.verb, write.resource) == ("patch", "pods/status") and write.program == _KUBELET:
            running.setdefault(write.name, write)
    return twins, running


def _first_after(mirrors: Iterable[Write], cause: Write | None) -> float | None:
    if cause is None:
        return None
    return min((each.completed for each in mirrors if each.received >= cause.received), default=None)


def _between(earlier: Mapping[str, float], later: Mapping[str, float]) -> Spread | None:
    return spread(later[name] - moment for name, moment in earlier.items() if name in later)
