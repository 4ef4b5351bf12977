"""The processes that make the calls of floor and ceiling, one a side, and the rounds they are sent through."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import monotonic

from kubeocean.bench.burst import patience
from kubeocean.bench.errors import BenchError
from kubeocean.bench.floorside import PLAN, Plan, SideName
from kubeocean.bench.results import Floor, Lap, Phase
from kubeocean.bench.rig import USER_AGENT, Rig
from kubeocean.sandbox.processes import last_lines
from kubeocean.sandbox.state import ClusterHandle

ROUNDS = 3


async def measure_rounds(
    rig: Rig, name: str, virtual_nodes: list[list[str]], physical_nodes: list[list[str]], pods: int, *, token: bool,
    rigged: bool,
) -> tuple[Floor, Phase]:
    """Return the best of three rounds of both sides at once, and the phase of all of them. See `Plan`."""
    async with AsyncExitStack() as stack:
        for client in (rig.virtual, *rig.physical):
            namespace = await stack.enter_async_context(rig.namespace(client, f"{name}-token" if token else name))

        def plan(side: SideName, clusters: Sequence[ClusterHandle], nodes: list[list[str]]) -> Plan:
            kubeconfigs = [str(cluster.kubeconfig) for cluster in clusters]
            return Plan(side, kubeconfigs, USER_AGENT, namespace, nodes, pods, token, rigged)

        plans = plan("virtual", [rig.sandbox.virtual], virtual_nodes), plan("physical", rig.sandbox.physical, physical_nodes)
        sides = [await stack.enter_async_context(_side(each, rig.folder / f"{name}-{each.side}.log")) for each in plans]
        for side in sides:
            rig.meter.add("bench", side.pid)
        await _round(sides, "warm", pods)
        await rig.meter.settle()
        rig.meter.start()
        rounds = [await _round(sides, str(number), pods) for number in range(ROUNDS)]
        await rig.meter.settle()
        phase = rig.meter.stop().phase
    return Floor(Lap(min(each.create for each in rounds), min(each.delete for each in rounds)), rounds), phase


async def _round(sides: list[SideProcess], turn: str, pods: int) -> Lap:
    create = await _both(sides, f"create {turn}", pods)
    return Lap(create, await _both(sides, f"delete {turn}", pods))


async def _both(sides: list[SideProcess], order: str, pods: int) -> float:
    began = monotonic()
    await asyncio.gather(*(side.obey(order, within=patience(pods)) for side in sides))
    return monotonic() - began


class SideProcess:
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
            raise BenchError(f"{self._log.stem}: {order!r} was not done within {within:.0f} s") from None
        if not line:
            raise BenchError(f"{self._log.stem}: {order!r} failed: " + " | ".join(last_lines(self._log, 3)))


@asynccontextmanager
async def _side(plan: Plan, log: Path) -> AsyncIterator[SideProcess]:
    with log.open("ab") as errors:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "kubeocean.bench.side", stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=errors, start_new_session=True,
        )
    try:
        side = SideProcess(child, log)
        assert child.stdin is not None, "started with a pipe"
        child.stdin.write(PLAN.dump_json(plan) + b"\n")
        await side.answer("start", within=60)
        yield side
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
