"""One side of the floor or of the ceiling, a process of its own: `python -m kubeocean.bench.side`.

The parent speaks to it in lines: first the plan (JSON), then `create ROUND` and `delete ROUND` as often as it likes; each
is answered by a line `done` when the round is over. End of input ends the process. `ready` comes first, once the
connections are open.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

from kubeocean.bench.ceilingside import RiggedSide
from kubeocean.bench.flight import loop_factory, warm_up
from kubeocean.bench.floorside import PLAN, Side
from kubeocean.kube.client import Client
from kubeocean.kube.config import config_from_file


async def _serve() -> None:
    plan = PLAN.validate_json(await _line())
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(Client(await config_from_file(path), cluster=path, user_agent=plan.user_agent))
            for path in plan.kubeconfigs
        ]
        side = (RiggedSide if plan.rigged else Side)(plan, clients)
        await warm_up(clients)
        _say("ready")
        while order := (await _line()).split():
            verb, turn = order
            await (side.create(turn) if verb == "create" else side.delete(turn))
            _say("done")


async def _line() -> str:
    return await asyncio.to_thread(sys.stdin.readline)


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve())
