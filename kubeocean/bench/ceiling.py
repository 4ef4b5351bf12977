"""Ceiling: what this rig would show for a federation that costs nothing itself.

The floor leaves out everybody but the API servers. On a rig they are not alone: its scheduler binds every Pod and writes an
Event about it, and KWOK plays the kubelet, which means watches and its own CPU time.
Where all of them share a few cores no federation gets below that, however well it is written. So the bench makes here what a
federation has to write, with the scheduler and KWOK doing what they will do for the real one:

    virtual    create · the scheduler binds · seen bound: (with a token: TokenRequest,) status     delete, delete for good
    physical   (with a token: Secret,) create already bound · KWOK: status                         delete · KWOK: for good

As in the floor the sides do not wait for each other, and nothing is decided, mapped, compared or read again.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

from kubeocean.bench.results import Floor, Phase
from kubeocean.bench.rig import Rig
from kubeocean.bench.sideprocess import measure_rounds
from kubeocean.bench.workload import build_roomy_node
from kubeocean.kube.meta import name_of
from kubeocean.kube.resources import NODES


async def measure_ceiling(rig: Rig, pods: int, *, token: bool) -> tuple[Floor, Phase]:
    """Return the best of three rounds, and the phase of all of them."""
    async with AsyncExitStack() as stack:
        for number in range(rig.nodes):  # as many as there will be virtual ones: the scheduler looks at them all
            await stack.enter_async_context(rig.node(rig.virtual, build_roomy_node(f"kubeocean-bench-ceiling-{number}")))
        nodes = [[name_of(node) for node in (await client.list(NODES)).items] for client in rig.physical]
        return await measure_rounds(rig, "ceiling", [[""]], nodes, pods, token=token, rigged=True)
