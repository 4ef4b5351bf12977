"""One side of the floor, a process of its own: `python -m kubeocean.bench.floorside`.

The parent speaks to it in lines: first the plan (JSON), then `create ROUND` and `delete ROUND` as often as it likes; each
is answered by a line `done` when the last call of it has been answered. End of input ends the process. `ready` comes
first, once the connections are open.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Literal

from pydantic import TypeAdapter

from kubeocean.bench import workload
from kubeocean.bench.flight import CALL_DEADLINE, in_flight, loop_factory, warm_up
from kubeocean.kube.client import Client, PatchType
from kubeocean.kube.config import config_from_file
from kubeocean.kube.meta import Json, uid_of
from kubeocean.kube.resources import PODS, SECRETS, SERVICEACCOUNTS


@dataclass(frozen=True, slots=True)
class Plan:
    """What this side writes. `with_token` adds the writes that a token makes necessary to those of the floor."""

    side: Literal["virtual", "physical"]
    kubeconfigs: list[str]
    user_agent: str
    namespace: str
    node: str
    pods: int
    token: bool
    with_token: bool


PLAN = TypeAdapter(Plan)


class Side:
    """Makes the calls: the Pods of a round are dealt out to `clients` in turn, 64 in flight in all."""

    def __init__(self, plan: Plan, clients: list[Client]) -> None:
        self._plan, self._clients = plan, clients
        self._uids: dict[str, str] = {}

    async def create(self, turn: str) -> None:
        """Make every Pod of one round."""
        make = self._create_virtual if self._plan.side == "virtual" else self._create_physical
        await in_flight(self._work(turn), lambda each: make(*each))

    async def delete(self, turn: str) -> None:
        """Remove every Pod of one round: asked for first, and then, as a kubelet does when all has stopped, for good."""
        await in_flight(self._work(turn), lambda each: self._delete(*each))

    def _work(self, turn: str) -> list[tuple[Client, str]]:
        names = workload.pod_names(f"floor-{turn}", self._plan.pods)
        return [(self._clients[number % len(self._clients)], name) for number, name in enumerate(names)]

    async def _create_virtual(self, client: Client, name: str) -> None:
        plan = self._plan
        await self._create(client, workload.build_unscheduled(name, plan.namespace, token=plan.token))
        binding = workload.build_binding(name, plan.namespace, plan.node)
        await client.create(PODS, binding, subresource="binding", name=name, deadline=CALL_DEADLINE)
        if plan.with_token:
            request = workload.build_token_request(name, self._uids[name])
            await client.create(
                SERVICEACCOUNTS, request, subresource="token", name="default", namespace=plan.namespace,
                deadline=CALL_DEADLINE,
            )
        await self._run(client, name)

    async def _create_physical(self, client: Client, name: str) -> None:
        plan = self._plan
        if plan.with_token:
            secret = await client.create(SECRETS, workload.build_secret(name, plan.namespace), deadline=CALL_DEADLINE)
            self._uids[f"secret/{name}"] = uid_of(secret)
        token_secret = name if plan.token else ""
        await self._create(client, workload.build_bound(name, plan.namespace, plan.node, token_secret=token_secret))
        await self._run(client, name)

    async def _create(self, client: Client, pod: Json) -> None:
        created = await client.create(PODS, pod, deadline=CALL_DEADLINE)
        self._uids[created["metadata"]["name"]] = uid_of(created)

    async def _run(self, client: Client, name: str) -> None:
        status = workload.build_running(mapped=self._plan.side == "virtual")
        await client.patch(
            PODS, name, self._plan.namespace, status, kind=PatchType.STRATEGIC, subresource="status", deadline=CALL_DEADLINE
        )

    async def _delete(self, client: Client, name: str) -> None:
        plan, uid = self._plan, self._uids.pop(name)
        await client.delete(PODS, name, plan.namespace, uid=uid, deadline=CALL_DEADLINE)
        await client.delete(PODS, name, plan.namespace, uid=uid, grace_seconds=0, deadline=CALL_DEADLINE)
        if secret := self._uids.pop(f"secret/{name}", ""):
            await client.delete(SECRETS, name, plan.namespace, uid=secret, deadline=CALL_DEADLINE)


async def _serve() -> None:
    plan = PLAN.validate_json(await _line())
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(Client(await config_from_file(path), cluster=path, user_agent=plan.user_agent))
            for path in plan.kubeconfigs
        ]
        side = Side(plan, clients)
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
