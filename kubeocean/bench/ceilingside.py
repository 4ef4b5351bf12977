"""One side of the ceiling: its calls, and the eyes it needs for the rig's own part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from kubeocean.bench import workload
from kubeocean.bench.burst import patience
from kubeocean.bench.flight import CALL_DEADLINE, in_flight
from kubeocean.bench.floorside import Side, Work
from kubeocean.bench.podwatch import RUNNING, PodWatch, Take, until
from kubeocean.kube.meta import Json, name_of, uid_of
from kubeocean.kube.resources import PODS, SECRETS, SERVICEACCOUNTS


class RiggedSide(Side):
    """Makes the ceiling's calls, and a round has ended when the scheduler or KWOK, too, are done with the last Pod.

    virtual: a Pod is patched as soon as it is seen bound. physical: KWOK lets them run, and go.
    """

    async def create(self, turn: str) -> None:
        """Make every Pod of one round."""
        await (self._create_scheduled(turn) if self.plan.side == "virtual" else self._create_played(turn))

    async def delete(self, turn: str) -> None:
        """Remove every Pod of one round."""
        await (super().delete(turn) if self.plan.side == "virtual" else self._delete_played(turn))

    async def _create_played(self, turn: str) -> None:
        await self._until_told(turn, self._create_twin, "ADDED", RUNNING, "KWOK runs all Pods")

    async def _delete_played(self, turn: str) -> None:
        await self._until_told(turn, self._ask_to_go, "DELETED", "", "all Pods are gone")

    async def _until_told(
        self, turn: str, call: Callable[[Work], Awaitable[None]], kind: str, selector: str, what: str
    ) -> None:
        """Make the call for every Pod and return when a watch has told of as many of them in an event of this kind."""
        left = self.plan.pods

        def take(*_: object) -> None:
            nonlocal left
            left -= 1

        async with self._watching(take, kind, selector) as watches:
            await in_flight(self.work(turn), call)
            await until(watches, lambda: left == 0, within=patience(left), what=lambda: f"{what}; {left} are left")

    async def _create_scheduled(self, turn: str) -> None:
        bound: asyncio.Queue[Work] = asyncio.Queue()
        work = {each.name: each for each in self.work(turn)}

        def take(_: str, pod: Json, __: float) -> None:
            self.uids[name_of(pod)] = uid_of(pod)  # this may come before the answer to its creation
            bound.put_nowait(work[name_of(pod)])

        async def one_bound(_: int) -> None:
            await self._run_bound(await bound.get())

        async with self._watching(take, "ADDED", "spec.nodeName!="), asyncio.timeout(patience(len(work))):
            await asyncio.gather(
                in_flight(work.values(), self._create_pod), in_flight(range(len(work)), one_bound),
            )

    async def _create_pod(self, work: Work) -> None:
        pod = workload.build_everywhere(work.name, self.plan.namespace, token=self.plan.token)
        await self.create_one(work, pod)

    async def _run_bound(self, work: Work) -> None:
        if self.plan.token:
            request = workload.build_token_request(work.name, self.uids[work.name])
            await work.client.create(
                SERVICEACCOUNTS, request, subresource="token", name="default", namespace=self.plan.namespace,
                deadline=CALL_DEADLINE,
            )
        await self.run(work)

    async def _create_twin(self, work: Work) -> None:
        if self.plan.token:
            made = workload.build_secret(work.name, self.plan.namespace)
            self.uids[f"secret/{work.name}"] = uid_of(await work.client.create(SECRETS, made, deadline=CALL_DEADLINE))
        await self.create_bound(work)

    async def _ask_to_go(self, work: Work) -> None:
        namespace, uid = self.plan.namespace, self.uids.pop(work.name)
        await work.client.delete(PODS, work.name, namespace, uid=uid, deadline=CALL_DEADLINE)
        if secret := self.uids.pop(f"secret/{work.name}", ""):
            await work.client.delete(SECRETS, work.name, namespace, uid=secret, deadline=CALL_DEADLINE)

    @asynccontextmanager
    async def _watching(self, take: Take, kind: str, selector: str) -> AsyncIterator[list[PodWatch]]:
        async with AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(
                    PodWatch(client, self.plan.namespace, take, kinds=(kind,), field_selector=selector)
                )
                for client in self.clients
            ]
