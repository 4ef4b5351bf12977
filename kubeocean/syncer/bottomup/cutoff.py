"""Shuts the virtual nodes of a binding whose session cannot begin: no controller runs that would do it.

A running session taints them itself (`nodes`); here is what is done when the cluster was out of reach already, or is another
one, when the session began. The next session that works takes the taint off again.
"""

from __future__ import annotations

from contextlib import suppress

import structlog

from kubeocean.clusters.virtual import BY_CLUSTER, VirtualCluster
from kubeocean.domain.naming import label_value
from kubeocean.domain.vnode import is_vnode_of
from kubeocean.domain.vnode_cutoff import build_cut_off_patch
from kubeocean.kube.errors import Conflict, NotFound
from kubeocean.kube.meta import name_of
from kubeocean.kube.resources import NODES

log = structlog.get_logger(__name__)


async def cut_off(virtual: VirtualCluster, cluster_id: str) -> None:
    """Taint every virtual node of the binding with this clusterID that is not tainted yet: one patch each."""
    for entry in virtual.nodes.store.by_index(BY_CLUSTER, label_value(cluster_id)):
        vnode = entry.object()
        if not is_vnode_of(vnode, cluster_id) or not (patch := build_cut_off_patch(vnode)):
            continue
        with suppress(NotFound, Conflict):  # gone, or changed: the next failed attempt looks again
            await virtual.calls.patch(NODES, name_of(vnode), "", patch)
            log.warning("virtual node cut off", vnode=name_of(vnode))
