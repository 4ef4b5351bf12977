"""Events of twins, said of their virtual Pods: each once, repeats gathered, Warnings first."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from kubeocean.domain.naming import physical_name
from kubeocean.kube.errors import Forbidden
from kubeocean.kube.events import EventRecorder
from kubeocean.kube.meta import Json, ObjectKey, format_time, uid_of
from kubeocean.kube.resources import EVENTS, NAMESPACES, PODS
from kubeocean.syncer.bottomup import twinevents
from kubeocean.syncer.bottomup.twinevents import TwinEvents
from kubeocean.syncer.pairing import Pairing, SyncerOptions
from kubeocean.syncer.pods import PodController
from tests.unit.syncer.world import SPEC, World

pytestmark = pytest.mark.looptime
TWIN = ObjectKey("mount", physical_name("web", "ns"))


class Case:
    """One running Pod with its twin; the test is the kubelet."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.physical_server.put(NAMESPACES, {"metadata": {"name": "mount"}})
        self.busy = False
        self.pairing = Pairing(
            "lender", "binding-uid", SPEC, world.physical.owner, world.virtual, world.physical, cast(EventRecorder, world),
            SyncerOptions(), clock=world.now, real_time=world.now,
        )

    @asynccontextmanager
    async def mirroring(self) -> AsyncIterator[TwinEvents]:
        """Run what mirrors, with caches of its own that are filled from the servers as by a list."""
        mirror = TwinEvents(self.pairing, lambda: self.busy)
        for server, informer in ((self.world.physical_server, mirror.said), (self.world.virtual_server, mirror.mirrored)):
            server.serve(EVENTS, informer)
            for (plural, _), obj in server.objects.items():
                if plural == "events":
                    informer.put({**obj})
        mirror.attach()
        tasks = [asyncio.create_task(controller.run()) for controller in (mirror.warnings, mirror.normals)]
        try:
            yield mirror
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.pairing.stop_listening()

    def says(
        self, reason: str, *, kind: str = "Warning", count: int = 1, number: int = 0, uid: str = "", **more: object
    ) -> None:
        """Let the kubelet say something about the twin."""
        twin = self.world.physical_server.find(PODS, TWIN.name, TWIN.namespace)
        now = format_time(self.world.now())
        self.world.physical_server.put(EVENTS, {
            "metadata": {"name": f"{reason.lower()}-{number}", "namespace": "mount"},
            "involvedObject": {"kind": "Pod", "namespace": "mount", "name": TWIN.name, "uid": uid or uid_of(twin)},
            "type": kind, "reason": reason, "message": f"{reason} of {TWIN.name}", "count": count, "firstTimestamp": now,
            "lastTimestamp": now, "source": {"component": "kubelet", "host": "node-1"}, **more,
        })

    def heard(self) -> dict[str, Json]:
        """Return the virtual Events by reason."""
        return {obj["reason"]: obj for (plural, _), obj in self.world.virtual_server.objects.items() if plural == "events"}

    def writes(self) -> list[str]:
        return [write for write in self.world.virtual_server.writes if "events" in write]


@pytest.fixture
async def case() -> Case:
    world = World()
    async with world.leading():
        await asyncio.sleep(0.2)
    world.pod("web")
    case = Case(world)
    await asyncio.sleep(0.1)
    await PodController(case.pairing).reconcile(ObjectKey("ns", "web"))
    await asyncio.sleep(0.1)
    return case


async def test_what_the_kubelet_says_of_the_twin_is_said_of_the_pod(case: Case) -> None:
    async with case.mirroring():
        case.says("BackOff")
        await asyncio.sleep(0.1)
    said = case.heard()["BackOff"]
    assert said["message"] == "BackOff of web"
    assert said["involvedObject"]["uid"] == uid_of(case.world.virtual_server.find(PODS, "web", "ns"))
    assert said["source"] == {"component": "kubelet", "host": "vnode-edge-node-1"}


async def test_a_restart_says_nothing_twice(case: Case) -> None:
    async with case.mirroring():
        case.says("BackOff")
        case.says("Pulled", kind="Normal")
        await asyncio.sleep(1)
    before = case.writes()
    assert len(before) == 2
    async with case.mirroring():
        await asyncio.sleep(60)
    assert case.writes() == before


async def test_a_restart_says_what_was_missed(case: Case) -> None:
    case.says("BackOff")
    async with case.mirroring():
        await asyncio.sleep(0.1)
    assert set(case.heard()) == {"BackOff"}


async def test_repeats_are_gathered_and_the_last_one_is_told(case: Case) -> None:
    async with case.mirroring():
        for count in range(1, 61):
            case.says("BackOff", count=count)
            await asyncio.sleep(1)
        await asyncio.sleep(40)
    assert case.heard()["BackOff"]["count"] == 60
    assert case.writes() == ["create events", "patch events", "patch events"]


async def test_an_event_about_a_predecessor_or_a_stranger_is_not_told(case: Case) -> None:
    async with case.mirroring():
        case.says("BackOff", uid="an-earlier-twin")
        case.world.physical_server.put(PODS, {
            "metadata": {"name": "stranger", "namespace": "mount", "uid": "s"}, "spec": {"containers": []}, "status": {},
        })
        case.says("Unhealthy", involvedObject={"kind": "Pod", "namespace": "mount", "name": "stranger", "uid": "s"})
        await asyncio.sleep(1)
    assert not case.heard()


async def test_what_the_virtual_cluster_says_itself_is_not_told_again(case: Case) -> None:
    async with case.mirroring():
        case.says("Scheduled", kind="Normal")
        await asyncio.sleep(1)
    assert not case.heard()


async def test_events_that_were_quicker_than_their_twin_are_told(case: Case) -> None:
    twin = case.world.physical_server.find(PODS, TWIN.name, TWIN.namespace)
    case.world.physical_server.remove(PODS, TWIN)
    await asyncio.sleep(0.1)
    async with case.mirroring():
        case.world.physical.pods.delete(twin)
        case.world.physical_server.objects["pods", TWIN] = twin
        case.says("FailedMount")
        await asyncio.sleep(0.1)
        assert not case.heard()
        case.world.physical_server.put(PODS, twin)
        await asyncio.sleep(0.1)
    assert set(case.heard()) == {"FailedMount"}


async def test_normal_events_go_slowly_and_warnings_overtake_them(case: Case) -> None:
    async with case.mirroring():
        for number in range(100):
            case.says("Pulled", kind="Normal", number=number)
        await asyncio.sleep(0.1)
        case.says("Failed")
        await asyncio.sleep(0.05)
        assert "Failed" in case.heard()
        assert len(case.writes()) < 20
        await asyncio.sleep(100 / twinevents.NORMAL_PACE)
        assert len(case.writes()) == 101


async def test_normal_events_let_pods_go_first_but_not_for_ever(case: Case) -> None:
    case.busy = True
    async with case.mirroring():
        case.says("Pulled", kind="Normal")
        await asyncio.sleep(twinevents.LONGEST_YIELD - 0.1)
        assert not case.heard()
        await asyncio.sleep(0.3)
        assert case.heard()


async def test_an_event_that_the_server_refuses_is_dropped(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0

    async def refuse(*_: object, **__: object) -> Json:
        nonlocal tries
        tries += 1
        raise Forbidden("the namespace is being terminated", status=403, reason="Forbidden")

    monkeypatch.setattr(case.world.virtual_server, "create", refuse)
    async with case.mirroring():
        case.says("Killing", kind="Normal")
        case.says("BackOff")
        await asyncio.sleep(600)
    assert tries == 2
