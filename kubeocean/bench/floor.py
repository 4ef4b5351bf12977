"""Floor: the writes that no federation can avoid, made by the bench itself on both sides at once.

    virtual    create, bind, status           delete, delete for good
    physical   create already bound, status   delete, delete for good

One process a side, 64 calls in flight on each, best of three. The sides do not wait for each other, which a federation
must: so this is a floor, not a target that could be met exactly. The physical Pods carry the words that every twin must
carry (`workload.build_bound`), for a server works longer on a Pod with more of them.

*The physical status is the bench's own write.* KWOK must not interfere, or every status would be written twice: the
floor's Pods are bound to a Node object that KWOK was not asked to play (no annotation) and that no kubelet knows. The
other choice, to let KWOK write the status and count that, would have tied the floor to KWOK's pace, which is the rig's and
no federation's. For the same reason the virtual Pods name a scheduler that does not exist, and each Node object stands
there so that the garbage collector of Pods on vanished nodes has no business with them. All of it is removed before
Kubeocean starts. That nobody else wrote shows in the audit logs: the floor's phase is in the report.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

from kubeocean.bench.results import Floor, Phase
from kubeocean.bench.rig import Rig
from kubeocean.bench.sideprocess import measure_rounds
from kubeocean.kube.meta import Json

_NODE = "kubeocean-bench-floor"
_NODE_OF_NOBODY: Json = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": _NODE}}


async def measure_floor(rig: Rig, pods: int, *, token: bool, name: str = "floor") -> tuple[Floor, Phase]:
    """Return the best of three rounds, and the phase of all of them. token: the Pods are those that have one.

    Measured again in the same run, it needs another `name`.
    """
    async with AsyncExitStack() as stack:
        for client in (rig.virtual, *rig.physical):
            await stack.enter_async_context(rig.node(client, _NODE_OF_NOBODY))
        nodes = [[_NODE]] * len(rig.physical)
        return await measure_rounds(rig, name, [[_NODE]], nodes, pods, token=token, rigged=False)
