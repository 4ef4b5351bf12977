"""Taking nodes back, on real control planes: the taint manager that evicts here is kube-controller-manager's own.

Windows are shut by editing the policy, so that a test need not wait for a minute to come; two tests do wait for one.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubeocean.api.resources import RESOURCELEASINGPOLICIES
from kubeocean.kube.meta import Json, annotations_of, is_deleting, name_of, parse_time
from kubeocean.kube.resources import EVENTS, NODES, PODS, Resource
from tests.integration.audit import AuditLog, summary
from tests.integration.federation import (
    TOLERATES_VNODES,
    Federation,
    Lender,
    build_pod,
    condition,
    discard,
    eventually,
    find,
    steadily,
)
from tests.integration.programs import Program

BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", namespaced=True)
PRIORITIES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False)
OUT_OF_WINDOW = "kubeocean.io/out-of-time-windows"
TOLERATES: Json = {"key": OUT_OF_WINDOW, "operator": "Exists", "effect": "NoExecute"}
AT_ONCE = 1.0  # seconds, from an edge to its taint


def window(begin: datetime, end: datetime) -> Json:
    return {"start": f"{begin:%H:%M}", "end": f"{end:%H:%M}"}


def shut() -> list[Json]:
    """Return windows none of which is open now or soon."""
    now = datetime.now(UTC)
    return [window(now + timedelta(hours=3), now + timedelta(hours=4))]


def minute_edge(*, at_least: float = 12.0) -> datetime:
    """Return the next full minute that leaves `at_least` seconds to prepare for it."""
    now = datetime.now(UTC)
    edge = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    return edge if (edge - now).total_seconds() >= at_least else edge + timedelta(minutes=1)


class Lent:
    """A lender of one or more nodes and the one policy that they are leased under."""

    def __init__(self, federation: Federation, lender: Lender, policy: str) -> None:
        self.federation, self.lender, self.policy = federation, lender, policy
        self.client, self.log = federation.virtual, AuditLog(federation.sandbox.virtual)

    async def edit(self, **spec: Any) -> datetime:
        """Edit the policy and return when."""
        await self.client.patch(RESOURCELEASINGPOLICIES, self.policy, "", {"spec": spec})
        return datetime.now(UTC)

    async def vnode(self, number: int = 0) -> Json:
        return await self.client.get(NODES, self.lender.vnode(number))

    async def effects(self, number: int = 0) -> list[str]:
        taints = (await self.vnode(number))["spec"].get("taints") or []
        return [taint["effect"] for taint in taints if taint["key"] == OUT_OF_WINDOW]

    async def until(self, *effects: str, within: float = 10.0) -> None:
        """Wait until the virtual nodes carry the out-of-window taint with exactly these effects."""
        async def tainted() -> bool:
            found = [await self.effects(number) for number in range(len(self.lender.pool.nodes))]
            assert all(each == list(effects) for each in found), f"effects {found}"
            return True

        await eventually(tainted, within=within, what=f"taints {effects}")

    def late(self, since: datetime) -> float:
        """Return after how many seconds the last of the virtual nodes was first written after `since`."""
        first: dict[str, float] = {}
        for write in self.log.ours():
            if write.name in self.lender.vnodes and write.resource == "nodes" and write.verb == "patch" and write.at >= since:
                first.setdefault(write.name, (write.at - since).total_seconds())
        assert sorted(first) == sorted(self.lender.vnodes), f"written: {first}"
        return max(first.values())

    async def run(self, namespace: str, name: str, *tolerations: Json, metadata: Json | None = None, **spec: Any) -> None:
        """Run a Pod on the first of the nodes."""
        await self.client.create(PODS, build_pod(
            name, namespace, self.lender, tolerations=[*TOLERATES_VNODES, *tolerations], metadata=metadata,
            **{"nodeSelector": {"kubernetes.io/hostname": self.lender.vnode()}, **spec},
        ))
        await self.federation.running(namespace, name)

    async def leaves(self, namespace: str, name: str, *, within: float) -> datetime:
        """Wait until a Pod is asked to leave and return when that was seen."""
        async def asked() -> bool:
            pod = await find(self.client, PODS, name, namespace)
            return pod is None or is_deleting(pod)

        await eventually(asked, within=within, what=f"Pod {name} is asked to leave")
        return datetime.now(UTC)

    async def stays(self, namespace: str, name: str) -> bool:
        pod = await find(self.client, PODS, name, namespace)
        return pod is not None and not is_deleting(pod)

    async def heard(self, name: str, namespace: str, *reasons: str) -> None:
        """Wait until Events with all of these reasons tell about an object."""
        async def told() -> bool:
            events = (await self.client.list(EVENTS, namespace, field_selector=f"involvedObject.name={name}")).items
            found = {event["reason"] for event in events if event["source"].get("component", "").startswith("kubeocean")}
            assert found.issuperset(reasons), f"{name} heard {found}"
            return True

        await eventually(told, what=f"Events {reasons} on {name}")


@asynccontextmanager
async def lent(federation: Federation, *, nodes: int = 1, **policy: Any) -> AsyncIterator[Lent]:
    pool = await federation.pool(nodes=nodes)
    lender = await federation.bind(pool)
    name = await federation.policy(lender, **policy)
    await federation.vnodes(lender)
    yield Lent(federation, lender, name)


@asynccontextmanager
async def budget(lent: Lent, namespace: str, app: str) -> AsyncIterator[None]:
    """Have a disruption budget that lets none of `app` go."""
    await lent.client.create(BUDGETS, {
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": app, "namespace": namespace},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": app}}},
    })

    async def known() -> bool:
        status = (await lent.client.get(BUDGETS, app, namespace)).get("status") or {}
        return status.get("currentHealthy") == 1 and status.get("disruptionsAllowed") == 0

    await eventually(known, what="the budget counts its Pod")
    yield


@contextmanager
def suspended(program: Program) -> Iterator[None]:
    """Stop a process where it stands, and let it go on afterwards."""
    os.kill(program.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(program.pid, signal.SIGCONT)


# --- edges -----------------------------------------------------------------------------------------------------------
async def test_an_edit_that_shuts_the_window_taints_at_once(
    federation: Federation, record_property: Any
) -> None:
    async with lent(federation, nodes=3) as here:
        before = datetime.now(UTC)
        await here.edit(timeWindows=shut())
        await here.until("NoSchedule")
        late = here.late(before)
        record_property("edit -> taint", late)
        print(f"edit -> taint: {late:.3f} s")
        assert late <= AT_ONCE
        await here.heard(here.lender.vnode(), "default", "WindowClosed")
        await here.heard(here.policy, "default", "WindowClosed")


@pytest.mark.timeout(180)
async def test_a_minute_that_ends_the_window_taints_within_a_second_and_was_announced(
    federation: Federation, namespace: str, record_property: Any
) -> None:
    async with lent(federation, nodes=3) as here:
        await here.run(namespace, "warned")
        await here.run(namespace, "tolerant", TOLERATES)
        edge = minute_edge()
        await here.edit(
            timeWindows=[window(edge - timedelta(hours=2), edge - timedelta(minutes=1))], noticeSeconds=600,
            forceReclaim=True, gracefulReclaimPeriodSeconds=3600,
        )

        async def ending(status: str) -> bool:
            found = condition(await here.vnode(), "LeaseEnding")
            return bool(found.get("status") == status and (status == "False" or f"{edge:%H:%M:%S}Z" in found["message"]))

        await eventually(lambda: ending("True"), what="LeaseEnding")
        await here.heard("warned", namespace, "LeaseEnding")
        events = (await here.client.list(EVENTS, namespace, field_selector="involvedObject.name=tolerant")).items
        assert "LeaseEnding" not in {event["reason"] for event in events}
        assert await here.effects() == []
        here.log.restart()
        await here.until("NoSchedule", within=(edge - datetime.now(UTC)).total_seconds() + 10)
        late = here.late(edge)
        record_property("edge -> taint", late)
        print(f"edge -> taint: {late:.3f} s")
        assert late <= AT_ONCE
        await eventually(lambda: ending("False"), what="LeaseEnding is over")


@pytest.mark.timeout(180)
async def test_a_process_that_was_stopped_over_the_edge_taints_as_soon_as_it_goes_on(
    federation: Federation, manager: Program, record_property: Any
) -> None:
    async with lent(federation) as here:
        edge = minute_edge(at_least=4)
        await here.edit(timeWindows=[window(edge - timedelta(hours=2), edge - timedelta(minutes=1))])
        while (left := (edge - datetime.now(UTC)).total_seconds()) > 2:
            await asyncio.sleep(left - 2)
        with suspended(manager):
            await asyncio.sleep(5)
            assert await here.effects() == []
        again = datetime.now(UTC)
        await here.until("NoSchedule")
        late = here.late(again - timedelta(milliseconds=50))
        record_property("going on -> taint", late)
        print(f"going on -> taint: {late:.3f} s")
        assert late <= AT_ONCE


# --- reclaim ---------------------------------------------------------------------------------------------------------
async def test_grace_comes_before_eviction_and_who_tolerates_it_is_left_alone(
    federation: Federation, namespace: str
) -> None:
    async with lent(federation, forceReclaim=True, gracefulReclaimPeriodSeconds=6) as here:
        await here.run(namespace, "goes")
        await here.run(namespace, "stays", TOLERATES)
        await here.run(namespace, "stays-a-while", {**TOLERATES, "tolerationSeconds": 4})
        before = datetime.now(UTC)
        await here.edit(timeWindows=shut())
        await here.until("NoSchedule", within=1.5)
        gone = await here.leaves(namespace, "goes", within=10)
        assert 6 <= (gone - before).total_seconds() < 8
        await here.until("NoSchedule", "NoExecute", within=3)
        forced = datetime.now(UTC)
        assert await here.stays(namespace, "stays-a-while"), "its tolerationSeconds were not honoured"
        later = await here.leaves(namespace, "stays-a-while", within=10)
        assert 3 <= (later - forced).total_seconds() < 6
        await eventually(lambda: vanished(here, namespace, "goes"), what="Pod and twin are gone")
        here.log.restart()
        await steadily(lambda: here.stays(namespace, "stays"), during=5, what="the tolerating Pod runs on")
        written = [write for write in here.log.ours() if here.lender.vnode() == write.name and not write.is_lease]
        assert not written, f"written at rest: {summary(written)}"
        await here.heard("goes", namespace, "WindowClosed", "Evicted")
        await here.heard(here.lender.vnode(), "default", "WindowClosed", "Reclaimed")


async def vanished(here: Lent, namespace: str, name: str) -> bool:
    assert await find(here.client, PODS, name, namespace) is None, "the Pod is still there"
    twins = [name_of(twin) for twin in await here.federation.twins(here.lender)]
    assert not any(twin.startswith(f"{name}-") and len(twin) == len(name) + 33 for twin in twins), twins
    return True


async def test_a_disruption_budget_is_honoured_until_the_timeout(federation: Federation, namespace: str) -> None:
    async with lent(federation, forceReclaim=True, reclaimTimeoutSeconds=7) as here:
        await here.run(namespace, "kept", metadata={"labels": {"app": "kept"}})
        await here.run(namespace, "goes")
        async with budget(here, namespace, "kept"):
            before = datetime.now(UTC)
            await here.edit(timeWindows=shut())
            gone = await here.leaves(namespace, "goes", within=5)
            assert (gone - before).total_seconds() < 2, "without a grace it goes at once"
            await here.heard("kept", namespace, "EvictionBlocked")
            assert await here.effects() == ["NoSchedule"]
            kept_until = await here.leaves(namespace, "kept", within=15)
            assert 7 <= (kept_until - before).total_seconds() < 9.5
            assert await here.effects() == ["NoSchedule", "NoExecute"]
            await here.heard("kept", namespace, "ReclaimTimeout")
            await here.heard(here.lender.vnode(), "default", "ReclaimTimeout")
            await here.heard(here.policy, "default", "ReclaimTimeout")
            pod = await find(here.client, PODS, "kept", namespace)
            if pod:  # the real taint manager did it, and says so
                assert condition(pod, "DisruptionTarget").get("reason") == "DeletionByTaintManager"


async def test_opening_the_window_in_the_middle_undoes_everything(federation: Federation, namespace: str) -> None:
    async with lent(federation, forceReclaim=True, reclaimTimeoutSeconds=8) as here:
        await here.run(namespace, "kept", metadata={"labels": {"app": "kept"}})
        async with budget(here, namespace, "kept"):
            await here.edit(timeWindows=shut())
            await here.heard("kept", namespace, "EvictionBlocked")
            assert "kubeocean.io/closed-at" in annotations_of(await here.vnode())
            await here.edit(timeWindows=[])
            await here.until(within=2)
            assert "kubeocean.io/closed-at" not in annotations_of(await here.vnode())
            await discard(here.client, BUDGETS, "kept", namespace)
            await steadily(lambda: here.stays(namespace, "kept"), during=10, what="the Pod runs on")
            assert await here.effects() == []
            await here.heard(here.policy, "default", "WindowClosed", "WindowOpened")


async def test_a_successor_goes_on_where_the_grace_was(
    federation: Federation, manager: Program, namespace: str
) -> None:
    async with lent(federation, forceReclaim=True, gracefulReclaimPeriodSeconds=12) as here:
        await here.run(namespace, "goes")
        await here.edit(timeWindows=shut())
        await here.until("NoSchedule")
        since = parse_time(annotations_of(await here.vnode())["kubeocean.io/closed-at"])
        await asyncio.sleep(2)
        manager.kill()
        await asyncio.sleep(1)
        await asyncio.to_thread(manager.ensure)
        gone = await here.leaves(namespace, "goes", within=20)
        assert parse_time(annotations_of(await here.vnode())["kubeocean.io/closed-at"]) == since
        assert 12 <= (gone - since).total_seconds() < 15


# --- overhang --------------------------------------------------------------------------------------------------------
@pytest.fixture
async def important(federation: Federation, namespace: str) -> str:
    """The name of a PriorityClass above the default."""
    name = f"important-{namespace}"
    await federation.create(PRIORITIES, {
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": 1000,
    })
    return name


async def test_a_limit_that_shrinks_moves_just_enough_the_least_important_first(
    federation: Federation, namespace: str, important: str
) -> None:
    def cpus(count: int) -> Json:
        return {"containers": [{"name": "main", "image": "busybox", "resources": {"requests": {"cpu": str(count)}}}]}

    async with lent(federation, resourceLimits=[{"resource": "cpu", "quantity": 6}]) as here:
        await here.run(namespace, "old", **cpus(2))
        await asyncio.sleep(1.1)  # creation is told in whole seconds
        await here.run(namespace, "young", **cpus(2))
        await asyncio.sleep(1.1)
        await here.run(namespace, "important", priorityClassName=important, **cpus(2))
        await here.edit(resourceLimits=[{"resource": "cpu", "quantity": 5}])

        async def exceeded(status: str) -> bool:
            found = condition(await here.vnode(), "LeaseExceeded")
            assert found.get("status") == status, found
            return status == "False" or found["message"] == "cpu: 6 requested, 5 leased"

        await eventually(lambda: exceeded("True"), what="LeaseExceeded")
        await here.heard(here.lender.vnode(), "default", "LeaseExceeded")
        await here.heard(here.policy, "default", "LeaseExceeded")
        for name in ("old", "young", "important"):
            assert await here.stays(namespace, name), "without forceReclaim it is only told"
        await here.edit(forceReclaim=True, gracefulReclaimPeriodSeconds=0)
        await here.leaves(namespace, "young", within=5)
        await eventually(lambda: exceeded("False"), what="what runs fits")
        await here.heard("young", namespace, "Evicted")
        for name in ("old", "important"):
            assert await here.stays(namespace, name)
        assert await here.effects() == []
