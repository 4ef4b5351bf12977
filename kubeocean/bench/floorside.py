"""One side of the floor: its calls."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic import TypeAdapter

from kubeocean.bench import workload
from kubeocean.bench.flight import CALL_DEADLINE, in_flight
from kubeocean.kube.client import Client, PatchType
from kubeocean.kube.meta import Json, uid_of
from kubeocean.kube.resources import PODS

SideName: TypeAlias = Literal["virtual", "physical"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What this side writes, and which Nodes its Pods are bound to: in physical clusters those of each, dealt out in turn.

    `rigged`: the ceiling, where the rig's scheduler and KWOK do their part, and a `token` costs its writes.
    """

    side: SideName
    kubeconfigs: list[str]
    user_agent: str
    namespace: str
    nodes: list[list[str]]
    pods: int
    token: bool
    rigged: bool


PLAN = TypeAdapter(Plan)


@dataclass(frozen=True, slots=True)
class Work:
    """One Pod of a round."""

    client: Client
    name: str
    node: str


class Side:
    """Makes the floor's calls: the Pods of a round are dealt out to `clients` in turn, 64 in flight in all."""

    def __init__(self, plan: Plan, clients: list[Client]) -> None:
        self.plan, self.clients = plan, clients
        self.uids: dict[str, str] = {}

    async def create(self, turn: str) -> None:
        """Make every Pod of one round."""
        make = self._create_virtual if self.plan.side == "virtual" else self._create_physical
        await in_flight(self.work(turn), make)

    async def delete(self, turn: str) -> None:
        """Remove every Pod of one round: asked for first, and then, as a kubelet does when all has stopped, for good."""
        await in_flight(self.work(turn), self._delete)

    def work(self, turn: str) -> list[Work]:
        """Return the Pods of one round."""
        names = workload.pod_names(f"floor-{turn}", self.plan.pods)
        sides = list(zip(self.clients, map(itertools.cycle, self.plan.nodes), strict=True))
        return [Work(client, name, next(nodes)) for name, (client, nodes) in zip(names, itertools.cycle(sides), strict=False)]

    async def _create_virtual(self, work: Work) -> None:
        plan = self.plan
        await self.create_one(work, workload.build_unscheduled(work.name, plan.namespace, token=plan.token))
        binding = workload.build_binding(work.name, plan.namespace, work.node)
        await work.client.create(PODS, binding, subresource="binding", name=work.name, deadline=CALL_DEADLINE)
        await self.run(work)

    async def _create_physical(self, work: Work) -> None:
        await self.create_bound(work)
        await self.run(work)

    async def create_bound(self, work: Work) -> None:
        """Create a physical Pod."""
        plan = self.plan
        secret = work.name if plan.token else ""
        await self.create_one(work, workload.build_bound(work.name, plan.namespace, work.node, token_secret=secret))

    async def create_one(self, work: Work, pod: Json) -> None:
        """Create `pod` and keep its uid."""
        created = await work.client.create(PODS, pod, deadline=CALL_DEADLINE)
        self.uids[work.name] = uid_of(created)

    async def run(self, work: Work) -> None:
        """Write the status of a Pod that runs."""
        status = workload.build_running(mapped=self.plan.side == "virtual")
        await work.client.patch(
            PODS, work.name, self.plan.namespace, status, kind=PatchType.STRATEGIC, subresource="status",
            deadline=CALL_DEADLINE,
        )

    async def _delete(self, work: Work) -> None:
        uid = self.uids.pop(work.name)
        for grace in (None, 0):
            await work.client.delete(
                PODS, work.name, self.plan.namespace, uid=uid, grace_seconds=grace, deadline=CALL_DEADLINE
            )
