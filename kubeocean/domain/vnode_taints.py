"""The taints of a virtual node: its machine's, as far as they concern the virtual cluster, and ours.

The kubelet's and the node controller's condition taints are never copied: the virtual cluster's own node controller
derives them from the mirrored conditions, and would remove what we copy. A taint with one of our own keys on a
physical node speaks of another Kubeocean's virtual node, not of this one.
"""

from __future__ import annotations

from kubeocean.api import names
from kubeocean.kube.meta import Json

_DERIVED = frozenset(
    f"node.kubernetes.io/{name}"
    for name in (
        "not-ready", "unreachable", "memory-pressure", "disk-pressure", "pid-pressure", "network-unavailable",
        "out-of-service",
    )
)
_OURS = frozenset({
    names.VNODE_TAINT, names.OUT_OF_WINDOW_TAINT, names.CLUSTER_UNREACHABLE_TAINT, names.VNODE_DELETING_TAINT,
    names.PHYSICAL_UNSCHEDULABLE_TAINT,
})


def build_vnode_taints(
    physical: Json, *, default_taint: bool, window_open: bool, force_reclaim_now: bool, unreachable: bool,
    deleting: bool,
) -> list[Json]:
    """Return the taints we want, without times, at most one per key and effect.

    Shut windows taint NoSchedule, and NoExecute as well once Pods must go by force: who tolerates the latter may stay, but
    nobody may come.
    """
    taints = _copied(physical)
    if default_taint:
        taints.append({"key": names.VNODE_TAINT, "effect": "NoSchedule"})
    if not window_open:
        effects = ("NoSchedule", "NoExecute") if force_reclaim_now else ("NoSchedule",)
        taints += [{"key": names.OUT_OF_WINDOW_TAINT, "value": "true", "effect": effect} for effect in effects]
    if unreachable:
        taints.append({"key": names.CLUSTER_UNREACHABLE_TAINT, "value": "true", "effect": "NoSchedule"})
    if deleting:
        taints.append({"key": names.VNODE_DELETING_TAINT, "value": "true", "effect": "NoSchedule"})
    return taints


def _copied(physical: Json) -> list[Json]:
    spec = physical.get("spec") or {}
    taints = [
        {key: taint[key] for key in ("key", "value", "effect") if taint.get(key)}  # timeAdded: another server's clock
        for taint in spec.get("taints") or ()
        if taint["key"] not in _DERIVED and taint["key"] not in _OURS and taint["key"] != names.UNSCHEDULABLE_TAINT
    ]
    return taints + _cordon(spec)


def _cordon(spec: Json) -> list[Json]:
    """Return the lender's cordon under our own key: under its real one the virtual node controller would remove it.

    The field counts as well as the taint: who derives the latter from the former may lag, or not run at all.
    """
    effects = [taint["effect"] for taint in spec.get("taints") or () if taint["key"] == names.UNSCHEDULABLE_TAINT]
    if spec.get("unschedulable") and "NoSchedule" not in effects:
        effects.append("NoSchedule")
    return [{"key": names.PHYSICAL_UNSCHEDULABLE_TAINT, "effect": effect} for effect in effects]
