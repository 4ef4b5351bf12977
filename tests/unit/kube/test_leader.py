"""Leader election in virtual time, against a Lease that keeps the API server's promise: optimistic locking."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import looptime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeocean.kube.errors import AlreadyExists, Conflict, Forbidden, NotFound, NotLeading, ServerError, Unreachable
from kubeocean.kube.leader import LeaderConfig, LeaderElector, Leadership, always_leading
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import Resource

pytestmark = pytest.mark.looptime

PERIOD = 2.0 * 1.2  # the longest pause between two calls


class LeaseServer:
    """Holds one Lease. A test may take it away (`down`), let it hang, or lose its answers."""

    def __init__(self) -> None:
        self.lease: Json | None = None
        self.revision = 0
        self.down = self.hangs = self.loses_answers = self.lets_nobody_delete = False
        self.stores_after = 0.0  # seconds that a change takes from its effect to its answer
        self.writes = 0

    @property
    def spec(self) -> Json:
        assert self.lease is not None
        return dict(self.lease["spec"])

    @property
    def holder(self) -> str:
        return str(self.spec["holderIdentity"])

    async def get(self, resource: Resource, name: str, namespace: str = "", *, deadline: float = 10.0) -> Json:
        await self._arrive(deadline)
        if self.lease is None:
            raise NotFound("no lease")
        return self.lease

    async def create(self, resource: Resource, obj: Json, *, deadline: float = 10.0) -> Json:
        await self._arrive(deadline)
        if self.lease is not None:
            raise AlreadyExists("there is one")
        return self._store(obj)

    async def update(self, resource: Resource, obj: Json, *, deadline: float = 10.0) -> Json:
        await self._arrive(deadline)
        if self.lease is None:
            raise NotFound("no lease")
        if obj["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict("somebody else was faster")
        stored = self._store(obj)
        await asyncio.sleep(self.stores_after)
        return stored

    async def delete(
        self, resource: Resource, name: str, namespace: str = "", *, uid: str, resource_version: str = "",
        deadline: float = 10.0,
    ) -> Json:
        await self._arrive(deadline)
        if self.lets_nobody_delete:
            raise Forbidden("not granted")
        if self.lease is None:
            raise NotFound("no lease")
        metadata = self.lease["metadata"]
        if (uid, resource_version) != (metadata["uid"], metadata["resourceVersion"]):
            raise Conflict("another lease")
        self.lease = None
        return {"kind": "Status"}

    async def _arrive(self, deadline: float) -> None:
        if self.hangs:
            await asyncio.sleep(deadline)
            raise Unreachable(f"no answer within {deadline} s")
        if self.down:
            raise Unreachable("connection refused")

    def _store(self, obj: Json) -> Json:
        self.revision += 1
        self.writes += 1
        self.lease = obj | {"metadata": {"uid": "a-uid", **obj["metadata"], "resourceVersion": str(self.revision)}}
        if self.loses_answers:
            raise Unreachable("connection reset")
        return self.lease

    def touch(self, **spec: object) -> None:
        """Write as somebody else would."""
        assert self.lease is not None
        self._store(self.lease | {"spec": self.lease["spec"] | spec})


class Replica:
    """One process: an elector and the work it does while it leads."""

    def __init__(
        self, server: LeaseServer, identity: str, *, wall_off_by: timedelta = timedelta(), lease_duration: float = 15.0
    ) -> None:
        config = LeaderConfig("ns", "kubeocean", identity, lease_duration=lease_duration)
        now: Callable[[], float] = asyncio.get_running_loop().time
        epoch = datetime(2026, 1, 1, tzinfo=UTC) + wall_off_by
        self.elector = LeaderElector(
            server, config, clock=now, wall=lambda: epoch + timedelta(seconds=now()), give_up=self._give_up
        )
        self.given_up: list[str] = []
        self.leadership = self.elector.leadership
        self.started = self.stopped = 0
        self.cleanup_seconds = 0.0
        self.failure: BaseException | None = None
        self.finish = asyncio.Event()

    def _give_up(self, what: str) -> None:
        self.given_up.append(what)

    async def lead(self) -> None:
        self.started += 1
        try:
            await self.finish.wait()
            if self.failure:
                raise self.failure
        finally:
            await asyncio.sleep(self.cleanup_seconds)
            self.stopped += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.elector.run(self.lead))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
def server() -> LeaseServer:
    return LeaseServer()


async def test_the_first_replica_creates_the_lease_and_leads(server: LeaseServer) -> None:
    replica = Replica(server, "a")
    async with replica.running():
        await asyncio.sleep(0.1)
        assert (replica.started, replica.leadership.is_leading, server.holder) == (1, True, "a")
        replica.leadership.check()


async def test_the_lease_tells_kubernetes_tools_who_holds_it(server: LeaseServer) -> None:
    async with Replica(server, "a").running():
        await asyncio.sleep(5)
        assert server.lease is not None
        assert (server.lease["metadata"]["namespace"], server.lease["metadata"]["name"]) == ("ns", "kubeocean")
        assert server.spec.keys() == {
            "holderIdentity", "leaseDurationSeconds", "acquireTime", "renewTime", "leaseTransitions",
        }
        assert server.spec["leaseDurationSeconds"] == 15
        assert server.spec["acquireTime"] < server.spec["renewTime"]


async def test_a_leader_stays_leader_and_only_renews(server: LeaseServer) -> None:
    a, b = Replica(server, "a"), Replica(server, "b")
    async with a.running(), b.running():
        await asyncio.sleep(600)
        assert (a.started, a.stopped, b.started) == (1, 0, 0)
        assert server.writes <= 600 / 2 + 1


async def test_a_dead_leader_is_replaced_once_its_lease_has_run_out(server: LeaseServer) -> None:
    a, b = Replica(server, "a"), Replica(server, "b")
    async with a.running(), b.running():
        await asyncio.sleep(10)
        server.down = True  # for a's last breath: it cannot release
        await asyncio.sleep(11)
        assert {a.leadership.is_leading, b.leadership.is_leading} == {False}
        server.down = False
        await asyncio.sleep(15 + 2 * PERIOD)
        assert a.leadership.is_leading != b.leadership.is_leading


async def test_a_rival_waits_as_long_as_the_holder_asked_for(server: LeaseServer) -> None:
    a, b = Replica(server, "a", lease_duration=60), Replica(server, "b")
    a.elector._give_up = _nothing  # type: ignore[method-assign]  # killed: no release
    async with a.running():
        await asyncio.sleep(1)
    async with b.running():
        await asyncio.sleep(59)
        assert b.started == 0
        await asyncio.sleep(1 + PERIOD)
        assert (b.started, server.spec["leaseTransitions"]) == (1, 1)


async def _nothing(**_: bool) -> None:
    pass


async def test_wrong_wall_clocks_neither_hasten_nor_hinder_a_takeover(server: LeaseServer) -> None:
    a = Replica(server, "a", wall_off_by=timedelta(days=-400))
    b = Replica(server, "b", wall_off_by=timedelta(days=400))
    async with a.running(), b.running():
        await asyncio.sleep(100)
        assert (a.started, b.started) == (1, 0)


async def test_a_stopped_leader_releases_and_the_next_need_not_wait(server: LeaseServer) -> None:
    a, b = Replica(server, "a"), Replica(server, "b")
    async with b.running():
        async with a.running():
            await asyncio.sleep(PERIOD)
            leader, other = (a, b) if a.leadership.is_leading else (b, a)
            assert not other.leadership.is_leading
            server.touch(holderIdentity="")
            await asyncio.sleep(3 * PERIOD)
        assert (a.leadership.is_leading, a.started, a.stopped) == (False, a.stopped, a.started)
        await asyncio.sleep(2 * PERIOD)
        assert b.leadership.is_leading
        assert leader.started >= 1


async def test_shutdown_ends_the_work_first_and_releases_then(server: LeaseServer) -> None:
    replica = Replica(server, "a")
    replica.cleanup_seconds = 19.0  # longer than the lease
    async with replica.running() as task:
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.sleep(18)
        assert (replica.stopped, server.holder) == (0, "a")
        replica.leadership.check()  # still renewed, so the work may write until it has ended
        await asyncio.sleep(2)
        assert (replica.stopped, server.holder, task.cancelled()) == (1, "", True)
    assert not replica.leadership.is_leading


@pytest.mark.parametrize("fault", ["down", "hangs"])
async def test_a_leader_that_cannot_renew_stops_before_anybody_can_take_over(fault: str, server: LeaseServer) -> None:
    replica = Replica(server, "a")
    async with replica.running():
        await asyncio.sleep(1)
        setattr(server, fault, True)
        await asyncio.sleep(10.1)
        with pytest.raises(NotLeading):
            replica.leadership.check()
        await asyncio.sleep(2 * PERIOD + 3)
        assert replica.stopped == 1


async def test_a_short_outage_changes_nothing(server: LeaseServer) -> None:
    replica = Replica(server, "a")
    async with replica.running():
        for _ in range(20):
            server.down = not server.down
            await asyncio.sleep(3)
        assert (replica.started, replica.stopped) == (1, 0)


async def test_a_leader_comes_back_after_a_long_outage(server: LeaseServer) -> None:
    replica = Replica(server, "a")
    async with replica.running():
        await asyncio.sleep(1)
        server.down = True
        await asyncio.sleep(60)
        server.down = False
        await asyncio.sleep(PERIOD)
        assert (replica.started, replica.stopped, replica.leadership.is_leading) == (2, 1, True)


async def test_a_renewal_whose_answer_was_lost_is_not_a_loss(server: LeaseServer) -> None:
    replica = Replica(server, "a")
    async with replica.running():
        await asyncio.sleep(1)
        server.loses_answers = True
        await asyncio.sleep(PERIOD)
        server.loses_answers = False
        await asyncio.sleep(30)
        assert (replica.started, replica.stopped, replica.leadership.is_leading) == (1, 0, True)


async def test_a_leader_that_sees_another_holder_stops_at_once(server: LeaseServer) -> None:
    replica = Replica(server, "a")
    async with replica.running():
        await asyncio.sleep(1)
        server.touch(holderIdentity="usurper")
        await asyncio.sleep(PERIOD)
        assert (replica.stopped, replica.leadership.is_leading, server.holder) == (1, False, "usurper")


async def test_somebody_who_only_annotates_the_lease_disturbs_nobody(server: LeaseServer) -> None:
    replica = Replica(server, "a")
    async with replica.running():
        for _ in range(30):
            await asyncio.sleep(1)
            server.touch()
        assert (replica.started, replica.stopped) == (1, 0)


async def test_a_deleted_lease_is_made_again(server: LeaseServer) -> None:
    replica = Replica(server, "a")
    async with replica.running():
        await asyncio.sleep(1)
        server.lease = None
        await asyncio.sleep(3 * PERIOD)
        assert (server.holder, replica.started, replica.stopped) == ("a", 1, 0)


async def test_work_that_does_not_end_ends_the_process(server: LeaseServer) -> None:
    replica = Replica(server, "a")
    replica.cleanup_seconds = 60.0
    async with replica.running() as task:
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.sleep(19)
        assert not replica.given_up
        await asyncio.sleep(2)
        assert replica.given_up == ["leading kubeocean did not end within 20 s after it was cancelled"]


async def test_the_death_of_the_work_is_seen_and_the_lease_released(server: LeaseServer) -> None:
    replica = Replica(server, "a")
    replica.failure = RuntimeError("a defect")
    async with replica.running() as task:
        await asyncio.sleep(1)
        replica.finish.set()
        with pytest.raises(RuntimeError, match="a defect"):
            await task
    assert server.holder == ""


async def test_work_that_is_done_ends_the_run_and_leaves_no_lease(server: LeaseServer) -> None:
    replica = Replica(server, "a")
    async with replica.running() as task:
        replica.finish.set()
        await task
    assert (server.lease, replica.leadership.is_leading) == (None, False)


async def test_a_lease_that_may_not_be_deleted_is_left_free(server: LeaseServer) -> None:
    server.lets_nobody_delete = True
    replica = Replica(server, "a")
    async with replica.running() as task:
        replica.finish.set()
        await task
    assert (server.holder, replica.leadership.is_leading) == ("", False)


@pytest.mark.parametrize("done", [False, True], ids=["stopped", "its work done"])
async def test_a_renewal_cut_short_by_the_end_does_not_keep_the_lease(server: LeaseServer, done: bool) -> None:
    replica = Replica(server, "a")
    async with replica.running() as task:
        await asyncio.sleep(1)
        server.stores_after, seen = 1.0, server.revision
        while server.revision == seen:  # stored, and not answered yet
            await asyncio.sleep(0.01)
        server.stores_after = 0.0
        replica.finish.set() if done else task.cancel()
        await asyncio.wait([task])
    assert (server.lease is None) if done else (server.holder == "")


async def test_another_ones_lease_is_not_deleted(server: LeaseServer) -> None:
    replica = Replica(server, "a")
    async with replica.running() as task:
        await asyncio.sleep(1)
        server.touch(holderIdentity="b")
        replica.finish.set()
        await task
    assert server.holder == "b"


LOST = {
    "a refused write": NotLeading("not leading"),
    "refused writes of several tasks": ExceptionGroup("", [NotLeading("1"), ExceptionGroup("", [NotLeading("2")])]),
}


@pytest.mark.parametrize("how", LOST)
async def test_work_that_notices_the_loss_first_is_started_anew_later(how: str, server: LeaseServer) -> None:
    replica = Replica(server, "a")
    replica.failure = LOST[how]
    async with replica.running():
        await asyncio.sleep(1)
        replica.finish.set()
        await asyncio.sleep(0.1)
        replica.failure, replica.finish = None, asyncio.Event()
        await asyncio.sleep(2 * PERIOD)
        assert (replica.started, replica.leadership.is_leading) == (2, True)


async def test_a_group_with_another_failure_in_it_is_not_mistaken_for_a_loss(server: LeaseServer) -> None:
    replica = Replica(server, "a")
    replica.failure = ExceptionGroup("", [NotLeading("1"), ServerError("2")])
    async with replica.running() as task:
        replica.finish.set()
        with pytest.raises(ExceptionGroup):
            await task


def test_leadership_is_refused_until_it_is_won() -> None:
    with pytest.raises(NotLeading):
        Leadership().check()


def test_a_process_that_runs_alone_by_decree_always_leads() -> None:
    leadership = always_leading()
    leadership.check()
    assert leadership.is_leading


BAD_TIMES = {
    "a deadline as long as the lease": {"renew_deadline": 15.0},
    "retries as rare as the deadline": {"retry_period": 10.0},
    "no pause": {"retry_period": 0.0},
}


@pytest.mark.parametrize("case", BAD_TIMES)
def test_times_that_cannot_be_safe_are_refused(case: str) -> None:
    with pytest.raises(ValueError, match="lease_duration > renew_deadline > retry_period > 0"):
        LeaderConfig("ns", "n", "me", **BAD_TIMES[case])


def test_an_identity_is_required() -> None:
    with pytest.raises(ValueError, match="identity"):
        LeaderConfig("ns", "n", "")


# --- the proof that there are never two ------------------------------------------------------------------------------


class Weather:
    """Cuts off one replica after the other for a while each, as a rule the leader, while its rivals see the server."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.electors: list[LeaderElector] = []
        self.victim: LeaderElector | None = None
        self.changes_at = 0.0

    def cuts(self, elector: LeaderElector) -> bool:
        now = asyncio.get_running_loop().time()
        if now >= self.changes_at:
            leaders = [elector for elector in self.electors if elector.leadership.is_leading]
            self.victim = None if self.victim else self.chance.choice(leaders or self.electors)
            self.changes_at = now + self.chance.uniform(1, 25)
        return self.victim is elector


class BadNetwork:
    """One replica's way to the server: cut in bad weather; slow both ways; losing requests and answers.

    A request that arrives late, its sender long gone, still takes effect.
    """

    elector: LeaderElector

    def __init__(self, server: LeaseServer, chance: random.Random, trouble: float, weather: Weather) -> None:
        self.server, self.chance, self.trouble, self.weather = server, chance, trouble, weather
        self.in_flight: set[asyncio.Task[Json]] = set()

    async def get(self, resource: Resource, name: str, namespace: str = "", *, deadline: float = 10.0) -> Json:
        return await self._send(lambda: self.server.get(resource, name, namespace), deadline)

    async def create(self, resource: Resource, obj: Json, *, deadline: float = 10.0) -> Json:
        return await self._send(lambda: self.server.create(resource, obj), deadline)

    async def update(self, resource: Resource, obj: Json, *, deadline: float = 10.0) -> Json:
        return await self._send(lambda: self.server.update(resource, obj), deadline)

    async def delete(
        self, resource: Resource, name: str, namespace: str = "", *, uid: str, resource_version: str = "",
        deadline: float = 10.0,
    ) -> Json:
        return await self._send(
            lambda: self.server.delete(resource, name, namespace, uid=uid, resource_version=resource_version), deadline
        )

    async def _send(self, call: Callable[[], object], deadline: float) -> Json:
        task = asyncio.create_task(self._travel(call))
        self.in_flight.add(task)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(deadline):
                return await asyncio.shield(task)
        except TimeoutError:
            raise Unreachable("no answer") from None

    async def _travel(self, call: Callable[[], object]) -> Json:
        await asyncio.sleep(self._delay())
        if self._cut() or self.chance.random() < self.trouble / 2:
            raise Unreachable("request lost")
        answer = await call()  # type: ignore[misc]  # one of the four coroutines above
        await asyncio.sleep(self._delay())
        if self._cut() or self.chance.random() < self.trouble / 2:
            raise Unreachable("answer lost")
        return dict(answer)

    def _cut(self) -> bool:
        return self.trouble > 0 and self.weather.cuts(self.elector)

    def _delay(self) -> float:
        slow = self.chance.random() < self.trouble
        return self.chance.uniform(0, 12.0) if slow else self.chance.uniform(0, 0.05)


async def _simulate(seed: int, replicas: int, trouble: float, drift: float) -> int:
    """Run replicas with drifting clocks for a while; return how often the work was started."""
    chance, server = random.Random(seed), LeaseServer()
    loop = asyncio.get_running_loop()
    starts, working = 0, set[str]()

    async def lead_as(name: str) -> None:
        nonlocal starts
        starts += 1
        working.add(name)
        try:
            await asyncio.sleep(chance.uniform(1, 100))
            raise RuntimeError("the work dies, too")
        finally:
            working.discard(name)

    async def live(elector: LeaderElector, name: str) -> None:
        while True:
            try:
                await elector.run(lambda: lead_as(name))
            except RuntimeError:
                await asyncio.sleep(chance.uniform(0, 5))

    weather = Weather(chance)
    electors = weather.electors
    networks: list[BadNetwork] = []
    for number in range(replicas):
        rate, offset = 1 + chance.uniform(-drift, drift), chance.uniform(0, 1e6)

        def clock(rate: float = rate, offset: float = offset) -> float:
            return loop.time() * rate + offset

        networks.append(BadNetwork(server, chance, trouble, weather))
        config = LeaderConfig("ns", "n", f"replica-{number}")
        networks[-1].elector = LeaderElector(networks[-1], config, clock=clock)
        electors.append(networks[-1].elector)
    tasks = [asyncio.create_task(live(elector, f"{number}")) for number, elector in enumerate(electors)]
    while loop.time() < 200:
        await asyncio.sleep(0.25)
        assert sum(elector.leadership.is_leading for elector in electors) <= 1, f"two leaders at {loop.time()}"
    remaining = [*tasks, *(task for network in networks for task in network.in_flight)]
    for task in remaining:
        task.cancel()
    await asyncio.gather(*remaining, return_exceptions=True)
    assert not working
    return starts


def simulate(seed: int, replicas: int, trouble: float, drift: float) -> int:
    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        return runner.run(_simulate(seed, replicas, trouble, drift))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 4), st.floats(0, 0.9), st.floats(0, 0.15))
def test_there_are_never_two_leaders(seed: int, replicas: int, trouble: float, drift: float) -> None:
    assert simulate(seed, replicas, trouble, drift) >= 0


def test_in_a_good_network_there_is_a_leader_again_after_each_death() -> None:
    assert simulate(seed=1, replicas=3, trouble=0.0, drift=0.0) >= 3
