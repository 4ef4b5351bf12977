import asyncio
from typing import cast

import pytest

from kubeocean.clusters.health import Reachability
from kubeocean.clusters.identity import ClusterIdentityChanged, Identity
from kubeocean.clusters.physical import PhysicalCluster
from kubeocean.domain.ownership import Owner
from kubeocean.kube.client import Client
from kubeocean.kube.config import ServerConfig
from kubeocean.kube.errors import NotLeading, Unreachable
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import Resource


def test_one_lost_answer_means_nothing_three_in_a_row_mean_unreachable() -> None:
    heard: list[bool] = []
    state = Reachability()
    state.subscribe(heard.append)
    state.failed("timeout")
    state.failed("timeout")
    assert state.reachable
    state.failed("timeout")
    assert (state.reachable, heard, state.last_error) == (False, [False], "timeout")


def test_an_answer_between_failures_starts_the_count_anew() -> None:
    state = Reachability()
    for _ in range(4):
        state.failed("x")
        state.failed("x")
        state.succeeded()
    assert state.reachable


def test_one_answer_makes_it_reachable_again_and_is_told_once() -> None:
    heard: list[bool] = []
    state = Reachability()
    state.subscribe(heard.append)
    for _ in range(5):
        state.failed("x")
    state.succeeded()
    state.succeeded()
    assert heard == [False, True]


def test_silence_counts_from_the_last_answer() -> None:
    clock = [100.0]
    state = Reachability(steady=lambda: clock[0])
    clock[0] = 110.0
    state.succeeded()
    clock[0] = 120.0
    state.failed("x")
    state.failed("x")
    assert state.silent_for == 0.0, "it may be one lost packet"
    state.failed("x")
    assert state.silent_for == 10.0
    state.succeeded()
    assert state.silent_for == 0.0


def test_after_a_failure_it_looks_more_often() -> None:
    state = Reachability()
    assert state.next_probe == 5.0
    state.failed("x")
    assert state.next_probe == 2.0


@pytest.mark.looptime
async def test_a_dead_cluster_is_known_within_fifteen_seconds() -> None:
    import asyncio

    state, known = Reachability(), asyncio.Event()
    state.subscribe(lambda _: known.set())

    async def probe() -> None:
        await asyncio.sleep(60)  # hangs: the probe's own deadline ends it
        raise Unreachable("never reached")

    started = asyncio.get_running_loop().time()
    task = asyncio.create_task(state.run(probe, cluster="c"))
    await known.wait()
    task.cancel()
    assert asyncio.get_running_loop().time() - started <= 15.0


class Health:
    """A physical cluster whose API server is scripted: what /readyz and kube-system say, None for no answer."""

    cluster = "edge"  # a Client's

    def __init__(self) -> None:
        owner = Owner("virtual-uid", "edge")
        self.uid: str | None = "first"
        self.leads = True
        self.physical = PhysicalCluster(
            ServerConfig("https://physical.invalid"), binding="edge", owner=owner, mount_namespace="m", user_agent="test",
            guard=self._check,
        )
        self.physical.watches = self.physical.calls = cast(Client, self)
        self.physical.identity = Identity(cast(Client, self))
        self.physical._identity_of_probes = Identity(cast(Client, self))
        self.physical.identity.uid = "first"

    def _check(self) -> None:
        if not self.leads:
            raise NotLeading("not leading")

    async def raw(self, method: str, path: str, *, deadline: float) -> bytes:
        if self.uid is None:
            raise Unreachable("refused")
        return b"ok"

    async def get(self, resource: Resource, name: str) -> Json:
        return {"metadata": {"uid": self.uid}}

    def may_write(self) -> bool:
        try:
            self.physical._may_write()
        except (NotLeading, Unreachable):
            return False
        return True


@pytest.mark.looptime
async def test_nothing_is_written_until_a_cluster_that_fell_silent_has_proved_who_it_is() -> None:
    health = Health()
    task = asyncio.create_task(health.physical.reachability.run(health.physical.probe, cluster="edge"))
    await asyncio.sleep(6)
    assert health.may_write()
    health.uid = None
    await asyncio.sleep(15)
    assert not health.may_write()
    health.uid = "first"
    await asyncio.sleep(3)
    assert health.may_write()
    health.uid = None
    await asyncio.sleep(15)
    health.uid = "another"
    with pytest.raises(ClusterIdentityChanged):
        await task
    assert not health.may_write()


@pytest.mark.looptime
async def test_one_missed_probe_is_enough_to_ask_who_answers() -> None:
    health = Health()
    task = asyncio.create_task(health.physical.reachability.run(health.physical.probe, cluster="edge"))
    health.uid = None
    await asyncio.sleep(6)
    health.uid = "another"
    with pytest.raises(ClusterIdentityChanged):
        await task


async def test_who_leads_is_still_asked_first() -> None:
    health = Health()
    health.leads = False
    assert not health.may_write()
