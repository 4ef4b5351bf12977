"""What the physical cluster refuses: told in its words, tried again soon but not by a stampede."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import cast

import pytest

from kubeocean.domain.naming import physical_name
from kubeocean.kube.errors import ApiError, Forbidden, NotFound, ServerError
from kubeocean.kube.events import EventRecorder
from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.kube.resources import NAMESPACES, PODS
from kubeocean.syncer.pairing import Pairing, SyncerOptions
from kubeocean.syncer.pods import PodController
from kubeocean.syncer.topdown.refusals import ATTEMPTS, Refusals
from tests.unit.syncer.world import SPEC, World

pytestmark = pytest.mark.looptime
KEY = ObjectKey("ns", "web")
TWIN = ("pods", ObjectKey("mount", physical_name("web", "ns")))
QUOTA = Forbidden("lender: POST pods: 403: exceeded quota: none", cluster="lender", status=403, reason="Forbidden")
BROKEN = ServerError("lender: POST pods: 500: failed calling webhook", cluster="lender", status=500)
NO_TOKEN = Forbidden("virtual: POST token: 403: may not", cluster="virtual", status=403, reason="Forbidden")


@asynccontextmanager
async def refusing(error: ApiError, *, times: int = 10**6) -> AsyncIterator[tuple[World, list[float]]]:
    """Run the Pod controller over one Pod whose twin is refused `times` times; give when it was tried."""
    world = World()
    async with world.leading():
        await asyncio.sleep(0.2)
    world.physical_server.put(NAMESPACES, {"metadata": {"name": "mount"}})
    world.pod("web")
    create = cast(Callable[..., Awaitable[Json]], world.physical_server.create)
    tries: list[float] = []

    async def refuse(*args: object, **kwargs: object) -> Json:
        if args[0] is not PODS:
            return await create(*args, **kwargs)
        tries.append(asyncio.get_running_loop().time())
        if len(tries) <= times:
            raise error
        return await create(*args, **kwargs)

    world.physical_server.create = refuse  # type: ignore[method-assign]
    pairing = Pairing(
        "lender", "binding-uid", SPEC, world.physical.owner, world.virtual, world.physical, cast(EventRecorder, world),
        SyncerOptions(), clock=world.now, real_time=world.now,
    )
    pods = PodController(pairing)
    pods.attach()
    task = asyncio.create_task(pods.controller.run())
    try:
        yield world, tries
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        pairing.stop_listening()


def told(world: World) -> Json:
    conditions = world.virtual_server.find(PODS, "web", "ns")["status"].get("conditions") or ()
    return next((dict(each) for each in conditions if each["type"] == "PhysicalPodCreated"), {})


async def test_it_is_told_once_and_tried_again_at_most_half_a_minute_apart() -> None:
    async with refusing(QUOTA) as (world, tries):
        await asyncio.sleep(600)
        assert (told(world)["reason"], told(world)["message"]) == ("PhysicalPodRefused", str(QUOTA))
        assert world.heard_by("web") == ["PhysicalPodRefused"]
        gaps = [later - earlier for earlier, later in pairwise(tries)]
        assert 1 <= gaps[0] <= 1.5
        assert max(gaps) <= 31
        assert 20 <= len(tries) <= 26


async def test_once_it_may_it_runs_and_no_word_of_it_stays() -> None:
    async with refusing(QUOTA, times=3) as (world, _):
        await asyncio.sleep(30)
        assert TWIN in world.physical_server.objects
        assert not told(world)


async def test_trouble_that_mostly_passes_is_told_when_it_lasts() -> None:
    async with refusing(BROKEN) as (world, tries):
        await asyncio.sleep(2)
        assert len(tries) == 2
        assert not told(world)
        await asyncio.sleep(10)
        assert told(world)["message"] == str(BROKEN)


@pytest.mark.parametrize(("error", "reason"), [
    (NO_TOKEN, "TokenRefused"), (QUOTA, "PhysicalPodRefused"), (NotFound("no mount", cluster="lender"), "PhysicalPodRefused"),
])
async def test_whose_refusal_it_is(error: ApiError, reason: str) -> None:
    async with refusing(error) as (world, _):
        await asyncio.sleep(1)
        assert told(world)["reason"] == reason


async def test_a_crowd_shares_the_attempts() -> None:
    refusals = Refusals()
    delays = [refusals.add(ObjectKey("ns", f"pod-{number}")) for number in range(2000)]
    assert max(delays) == pytest.approx(2000 / ATTEMPTS)
    refusals.forget(ObjectKey("ns", "pod-1"))
    assert refusals.wait(ObjectKey("ns", "pod-1")) == 0
    assert refusals.wait(ObjectKey("ns", "pod-1999")) > 90
