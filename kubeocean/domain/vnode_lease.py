"""A virtual node's Lease: the heartbeat that `kubelet` sends for a real one.

Renewed every 10 s while *we* know how the physical node fares; a node that is NotReady shows in its conditions only.
Once it stops for 40 s, the virtual node controller calls the node Unknown.
"""

from __future__ import annotations

from datetime import datetime

from kubeocean.api.names import NODE_LEASE_NAMESPACE
from kubeocean.kube.meta import Json, format_micro_time, name_of, uid_of

LEASE_SECONDS = 40


def node_lease(vnode: Json, now: datetime, identity: str) -> Json:
    """Return the Lease to create for `vnode` (as the API server returned it: with its uid), renewed at `now`.

    It is owned by the Node and goes with it. `identity` is who renews it.
    """
    name = name_of(vnode)
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid_of(vnode)}
    return {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "namespace": NODE_LEASE_NAMESPACE, "ownerReferences": [owner]},
        "spec": {
            "holderIdentity": identity, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": format_micro_time(now),
        },
    }


def node_lease_renewal(vnode: Json, now: datetime, identity: str) -> Json:
    """Return the merge patch that renews the Lease of `vnode`, and repairs what else stands in it."""
    wanted = node_lease(vnode, now, identity)
    return {"metadata": {"ownerReferences": wanted["metadata"]["ownerReferences"]}, "spec": wanted["spec"]}
