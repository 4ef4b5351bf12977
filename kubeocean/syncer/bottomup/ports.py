"""The kubelet port of a virtual node: one per node and proxier address, the same after every restart.

The number follows from the node's name; where two names meet on one number, the later one takes the next. A port once
written on a virtual node stays. Two nodes that are new at the same moment do not see each other in the cache yet, so what
was handed out is remembered until it is seen.
"""

from __future__ import annotations

from kubeocean.domain.naming import proxier_port, vnode_name
from kubeocean.domain.vnode import port_of
from kubeocean.kube.meta import Json, name_of
from kubeocean.syncer.pairing import Pairing


def choose_port(pairing: Pairing, physical_node: str, existing: Json | None) -> int:
    """Return the port of the virtual node of `physical_node`."""
    if existing and (port := port_of(existing)):
        return port
    vnode, handed_out = vnode_name(pairing.spec.cluster_id, physical_node), pairing.virtual.kubelet_ports
    if vnode not in handed_out:
        seen = {
            port_of(node): name_of(node) for node in (entry.object() for entry in pairing.virtual.nodes.store.entries())
        }
        handed_out[vnode] = proxier_port(vnode, {*seen, *handed_out.values()})
    return handed_out[vnode]
