"""Floor: the writes that no federation can avoid, made by the bench itself on both sides at once.

    virtual    create, bind, status           delete, delete for good
    physical   create already bound, status   delete, delete for good

One process a side, 64 calls in flight on each, best of three. The sides do not wait for each other, which a federation
must: so this is a floor, not a target that could be met exactly.

*The physical status is the bench's own write.* KWOK must not interfere, or every status would be written twice: the
floor's Pods are bound to a Node object that KWOK was not asked to play (no annotation) and that no kubelet knows. The
other choice, to let KWOK write the status and count that, would have tied the floor to KWOK's pace, which is the rig's and
no federation's. For the same reason the virtual Pods name a scheduler that does not exist, and each Node object stands
there so that the garbage collector of Pods on vanished nodes has no business with them. All of it is removed before
Kubeocean starts. That nobody else wrote shows in the audit logs: the floor's phase is in the report.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import monotonic

from kubeocean.bench.burst import patience
from kubeocean.bench.errors import BenchError
from kubeocean.bench.floorside import PLAN, Plan
from kubeocean.bench.results import Floor, Lap, Phase
from kubeocean.bench.rig import USER_AGENT, Rig
from kubeocean.kube.client import Client
from kubeocean.kube.meta import uid_of
from kubeocean.kube.resources import NODES
from kubeocean.sandbox.processes import last_lines

ROUNDS = 3
_NODE = "kubeocean-bench-floor"


async def measure_floor(rig: Rig, pods: int, *, token: bool, with_token: bool = False) -> tuple[Floor, Phase]:
    """Return the best of three rounds, and the phase of all of them.

    token: the Pods are those that have one. with_token: its own writes are made too (virtual: TokenRequest; physical:
    create and delete a Secret), which the floor by definition leaves out.
    """
    clients = [rig.virtual, *rig.physical]
    async with AsyncExitStack() as stack:
        suffix = "floor" + "-token" * token + "-writes" * with_token
        for client in clients:
            namespace = await stack.enter_async_context(rig.namespace(client, suffix))
            await stack.enter_async_context(_node_of_nobody(client))
        physical = [str(cluster.kubeconfig) for cluster in rig.sandbox.physical]
        plans = [
            Plan("virtual", [str(rig.sandbox.virtual.kubeconfig)], USER_AGENT, namespace, _NODE, pods, token, with_token),
            Plan("physical", physical, USER_AGENT, namespace, _NODE, pods, token, with_token),
        ]
        sides = [await stack.enter_async_context(_side(plan, rig.folder)) for plan in plans]
        for side in sides:
            rig.meter.add("bench", side.pid)
        await _round(sides, "warm", pods)
        await rig.meter.settle()
        rig.meter.start()
        rounds = [await _round(sides, str(number), pods) for number in range(ROUNDS)]
        await rig.meter.settle()
        phase = rig.meter.stop().phase
    best = Lap(min(each.create for each in rounds), min(each.delete for each in rounds))
    return Floor(best, rounds), phase


async def _round(sides: list[_Process], turn: str, pods: int) -> Lap:
    create = await _both(sides, f"create {turn}", pods)
    return Lap(create, await _both(sides, f"delete {turn}", pods))


async def _both(sides: list[_Process], order: str, pods: int) -> float:
    began = monotonic()
    await asyncio.gather(*(side.obey(order, within=patience(pods)) for side in sides))
    return monotonic() - began


@asynccontextmanager
async def _node_of_nobody(client: Client) -> AsyncIterator[None]:
    made = await client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": _NODE}})
    try:
        yield
    finally:
        await client.delete(NODES, _NODE, uid=uid_of(made))


class _Process:
    """A child that takes orders, one at a time."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process, self._log = process, log
        self.pid = process.pid

    async def obey(self, order: str, *, within: float) -> None:
        """Send a line and return when it is answered. Raises BenchError."""
        assert self._process.stdin is not None, "started with a pipe"
        self._process.stdin.write(f"{order}\n".encode())
        await self.answer(order, within=within)

    async def answer(self, order: str, *, within: float) -> None:
        """Return when the child has said a line. Raises BenchError."""
        assert self._process.stdout is not None, "started with a pipe"
        try:
            async with asyncio.timeout(within):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise BenchError(f"floor: {order!r} was not done within {within:.0f} s") from None
        if not line:
            raise BenchError(f"floor: {order!r} failed: " + " | ".join(last_lines(self._log, 3)))


@asynccontextmanager
async def _side(plan: Plan, folder: Path) -> AsyncIterator[_Process]:
    log = folder / f"floor-{plan.side}.log"
    with log.open("ab") as errors:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "kubeocean.bench.floorside", stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=errors, start_new_session=True,
        )
    try:
        side = _Process(child, log)
        assert child.stdin is not None, "started with a pipe"
        child.stdin.write(PLAN.dump_json(plan) + b"\n")
        await side.answer("start", within=60)
        yield side
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
