"""A key waits for its own write, but never for ever. Time is virtual."""

import asyncio
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from kubeocean.kube.freshness import Freshness
from kubeocean.kube.meta import Json

pytestmark = pytest.mark.looptime


class Cache:
    """An informer of which only the progress is real."""

    def __init__(self, revision: int = 10) -> None:
        self.revision = revision
        self.gone: set[str] = set()
        self.callbacks: list[tuple[int | str, Callable[[], None]]] = []

    def passed(self, revision: int, /) -> bool:
        return self.revision >= revision

    def when_passed(self, revision: int, callback: Callable[[], None], /) -> None:
        self._when(revision, callback)

    def dropped(self, uid: str, /) -> bool:
        return uid in self.gone

    def when_dropped(self, uid: str, callback: Callable[[], None], /) -> None:
        self._when(uid, callback)

    def reach(self, revision: int) -> None:
        self.revision = revision
        self._tell()

    def drop(self, uid: str) -> None:
        self.gone.add(uid)
        self._tell()

    def _when(self, what: int | str, callback: Callable[[], None]) -> None:
        self.callbacks.append((what, callback))
        self._tell()

    def _tell(self) -> None:
        waiting, self.callbacks = self.callbacks, []
        for what, callback in waiting:
            if (self.passed(what) if isinstance(what, int) else self.dropped(what)):
                callback()
            else:
                self.callbacks.append((what, callback))


def obj(rv: int) -> Json:
    return {"metadata": {"resourceVersion": str(rv)}}


STATUS: Json = {"kind": "Status", "metadata": {}, "status": "Success", "details": {"uid": "u1"}}


class Bell:
    """Counts how often it was rung, and when."""

    def __init__(self) -> None:
        self.rung: list[float] = []

    def __call__(self) -> None:
        self.rung.append(asyncio.get_running_loop().time())


async def test_a_key_that_wrote_nothing_is_ready() -> None:
    assert Freshness[str]().ready("a")


@pytest.mark.parametrize("written", [11, obj(11)])
async def test_a_key_waits_until_the_cache_has_passed_its_write(written: int | Json) -> None:
    cache, freshness = Cache(), Freshness[str]()
    freshness.expect("a", cache, written)
    assert not freshness.ready("a")
    assert freshness.ready("b")
    cache.reach(11)
    assert freshness.ready("a")


async def test_a_write_that_the_cache_shows_already_is_no_reason_to_wait() -> None:
    cache, freshness = Cache(20), Freshness[str]()
    freshness.expect("a", cache, 11)
    assert freshness.ready("a")


async def test_of_several_writes_all_must_be_shown() -> None:
    virtual, physical, freshness = Cache(), Cache(), Freshness[str]()
    freshness.expect("a", virtual, 12)
    freshness.expect("a", virtual, 11)
    freshness.expect("a", physical, 30)
    virtual.reach(11)
    physical.reach(30)
    assert not freshness.ready("a")
    virtual.reach(12)
    assert freshness.ready("a")


async def test_a_delete_answered_by_a_status_waits_for_the_uid_to_leave() -> None:
    cache, freshness = Cache(), Freshness[str]()
    freshness.expect("a", cache, STATUS)
    cache.reach(99)
    assert not freshness.ready("a")
    bell = Bell()
    freshness.when_ready("a", bell)
    cache.drop("u1")
    assert len(bell.rung) == 1
    assert freshness.ready("a")


async def test_an_answer_without_revision_is_no_reason_to_wait() -> None:
    freshness = Freshness[str]()
    freshness.expect("a", Cache(), {"kind": "Status", "status": "Success"})
    assert freshness.ready("a")


async def test_the_callback_comes_with_the_event_that_was_waited_for() -> None:
    cache, freshness, bell = Cache(), Freshness[str](), Bell()
    freshness.expect("a", cache, 11)
    freshness.when_ready("a", bell)
    await asyncio.sleep(0.5)
    cache.reach(11)
    await asyncio.sleep(10)
    assert bell.rung == [0.5]


async def test_the_callback_comes_at_once_when_there_is_nothing_to_wait_for() -> None:
    bell = Bell()
    Freshness[str]().when_ready("a", bell)
    assert bell.rung == [0.0]


async def test_a_wait_is_given_up_after_two_seconds_and_counted() -> None:
    cache, freshness, bell = Cache(), Freshness[str]("given-up"), Bell()
    freshness.expect("a", cache, 11)
    freshness.when_ready("a", bell)
    await asyncio.sleep(10)
    assert bell.rung == [pytest.approx(2.0)]
    assert freshness.ready("a")
    assert REGISTRY.get_sample_value("controller_stale_cache_total", {"controller": "given-up"}) == 1.0
    cache.reach(11)
    assert len(bell.rung) == 1


async def test_the_two_seconds_count_from_the_last_write() -> None:
    cache, freshness, bell = Cache(), Freshness[str](), Bell()
    freshness.expect("a", cache, 11)
    freshness.when_ready("a", bell)
    await asyncio.sleep(1.5)
    freshness.expect("a", cache, 12)
    await asyncio.sleep(10)
    assert bell.rung == [pytest.approx(3.5)]


async def test_what_is_expected_while_somebody_waits_is_waited_for_too() -> None:
    cache, freshness, bell = Cache(), Freshness[str](), Bell()
    freshness.expect("a", cache, 11)
    freshness.when_ready("a", bell)
    freshness.expect("a", cache, 12)
    cache.reach(11)
    assert bell.rung == []
    await asyncio.sleep(10)
    assert bell.rung == [pytest.approx(2.0)]


async def test_waits_that_nobody_asks_for_again_are_swept() -> None:
    cache, freshness = Cache(), Freshness[int]()
    for key in range(5000):
        freshness.expect(key, cache, 11 + key)
        cache.reach(11 + key)
    assert len(freshness._waits) <= 1024
