"""The virtual node of a cluster that nobody serves at the moment: no new Pods, and a note that this was our doing."""

from __future__ import annotations

from dataclasses import replace

from kubeocean.api import names
from kubeocean.domain.vnode_diff import NOTHING_EXPECTED, read_expected
from kubeocean.kube.meta import Json, resource_version_of

_TAINT: Json = {"key": names.CLUSTER_UNREACHABLE_TAINT, "value": "true", "effect": "NoSchedule"}


def build_cut_off_patch(vnode: Json) -> Json | None:
    """Return the merge patch that taints `vnode` as out of reach; None when it is tainted so already.

    The taint is recorded as `build_vnode` would have recorded it, so that the next pass that wants it no more takes it off.
    """
    taints = (vnode.get("spec") or {}).get("taints") or []
    if any((taint["key"], taint["effect"]) == (_TAINT["key"], _TAINT["effect"]) for taint in taints):
        return None
    expected = read_expected(vnode) or NOTHING_EXPECTED
    record = replace(expected, taints=[*(taint for taint in expected.taints if taint != _TAINT), _TAINT]).encode()
    return {
        "metadata": {
            "resourceVersion": resource_version_of(vnode), "annotations": {names.EXPECTED_METADATA_ANNOTATION: record},
        },
        "spec": {"taints": [*taints, _TAINT]},
    }
