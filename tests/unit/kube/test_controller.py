"""What becomes of a pass, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from kubeocean.kube.controller import Controller, Result, Terminal
from kubeocean.kube.errors import Conflict, Forbidden, NotLeading, Unreachable
from kubeocean.kube.freshness import Freshness
from kubeocean.kube.workqueue import Workqueue

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


class Reconciler:
    """Notes every pass; each key meets its scripted outcomes in turn, then all is well."""

    def __init__(self, *script: Exception | Result) -> None:
        self.script = list(script)
        self.passes: list[tuple[str, float]] = []

    async def __call__(self, key: str) -> Result:
        self.passes.append((key, now()))
        outcome = self.script.pop(0) if self.script else Result()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    @property
    def times(self) -> list[int]:
        return [round(at) for _, at in self.passes]


def started(
    reconcile: Callable[[str], Awaitable[Result]], *, name: str = "test", workers: int = 2, deadline: float = 60.0
) -> tuple[Controller[str], asyncio.Task[None]]:
    controller = Controller(name, reconcile, workers=workers, deadline=deadline)
    return controller, asyncio.create_task(controller.run())


async def passes_within(seconds: float, reconcile: Reconciler) -> list[int]:
    """Queue one key and return when its passes began."""
    controller, task = started(reconcile)
    controller.enqueue("a")
    await asyncio.sleep(seconds)
    await stop(task)
    return reconcile.times


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def count(result: str, name: str) -> float:
    labels = {"controller": name, "result": result}
    return REGISTRY.get_sample_value("controller_runtime_reconcile_total", labels) or 0.0


OUTCOMES: dict[str, tuple[list[Exception | Result], list[int]]] = {
    "a pass that went well is not repeated": ([Result()], [0]),
    "a pass may ask to come back": ([Result(requeue_after=30.0)], [0, 30]),
    "a conflict is tried again at once": ([Conflict("409")], [0, 0]),
    "a second conflict in a row backs off": ([Conflict("409"), Conflict("409"), Conflict("409")], [0, 0, 1, 3]),
    "what the world does wrong backs off": ([Unreachable("down"), Forbidden("no"), Unreachable("down")], [0, 1, 3, 7]),
    "a bug backs off": ([RuntimeError("bug"), KeyError("bug")], [0, 1, 3]),
    "a terminal failure is not repeated": ([Terminal("the name is taken")], [0]),
    "a good pass resets the backoff": (
        [Unreachable("down"), Unreachable("down"), Result(requeue_after=10.0), Unreachable("down")], [0, 1, 3, 13, 14],
    ),
}


@pytest.mark.parametrize("case", OUTCOMES)
async def test_outcomes(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubeocean.kube.backoff.random", lambda: 0.0)
    script, expected = OUTCOMES[case]
    with capture_logs():
        assert await passes_within(60.0, Reconciler(*script)) == expected


async def test_a_pass_that_hangs_is_ended_and_repeated() -> None:
    passes: list[float] = []

    async def hang_once(_: str) -> Result:
        passes.append(now())
        if len(passes) == 1:
            await asyncio.sleep(3600)
        return Result()

    controller, task = started(hang_once, deadline=5.0)
    controller.enqueue("a")
    with capture_logs() as logs:
        await asyncio.sleep(60)
    await stop(task)
    assert passes == [0.0, pytest.approx(6.0, abs=0.5)]
    assert "no end after 5 s" in [entry.get("error") for entry in logs]


async def test_no_longer_leading_ends_the_run_with_that_very_error() -> None:
    interrupted: list[str] = []

    async def reconcile(key: str) -> Result:
        if key == "write":
            raise NotLeading("lease lost")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            interrupted.append(key)
            raise
        return Result()

    controller, task = started(reconcile)
    controller.enqueue("slow")
    controller.enqueue("write")
    with pytest.raises(NotLeading, match="lease lost"):
        await task
    assert interrupted == ["slow"]
    assert len(controller.queue) == 2  # neither is lost for the next term


async def test_what_was_interrupted_is_done_by_the_next_run() -> None:
    reconciler = Reconciler()

    async def slow_at_first(key: str) -> Result:
        await reconciler(key)
        if len(reconciler.passes) == 1:
            await asyncio.sleep(3600)
        return Result()

    controller, task = started(slow_at_first)
    controller.enqueue("a")
    await asyncio.sleep(5)
    await stop(task)
    task = asyncio.create_task(controller.run())
    await asyncio.sleep(5)
    await stop(task)
    assert reconciler.times == [0, 5]


async def test_as_many_passes_run_at_once_as_there_are_workers() -> None:
    running = most = 0

    async def reconcile(_: str) -> Result:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running -= 1
        return Result()

    controller, task = started(reconcile, name="many", workers=3)
    for key in "abcdefg":
        controller.enqueue(key)
    await asyncio.sleep(0.5)
    assert REGISTRY.get_sample_value("controller_runtime_active_workers", {"controller": "many"}) == 3.0
    await asyncio.sleep(10)
    await stop(task)
    assert most == 3
    assert REGISTRY.get_sample_value("controller_runtime_active_workers", {"controller": "many"}) == 0.0


async def test_passes_that_never_wait_leave_the_loop_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    real, spent, done = loop.time, 0.0, 0

    async def busy(_: str) -> Result:
        nonlocal spent, done
        spent += 0.003  # seconds; virtual time stands still while code runs, so the work moves the clock itself
        done += 1
        return Result()

    monkeypatch.setattr(loop, "time", lambda: real() + spent)
    controller, task = started(busy)
    for number in range(100):
        controller.enqueue(str(number))
    turns = []
    while done < 100:
        turns.append(done)
        await asyncio.sleep(0)
    task.cancel()
    assert max(after - before for before, after in pairwise([*turns, 100])) <= 6  # two workers, 3 each


class Cache:
    """An informer that has not yet seen the write; `reach` lets it."""

    def __init__(self) -> None:
        self.revision = 10
        self.callbacks: list[Callable[[], None]] = []

    def passed(self, revision: int, /) -> bool:
        return self.revision >= revision

    def when_passed(self, revision: int, callback: Callable[[], None], /) -> None:
        self.callbacks.append(callback)

    def dropped(self, uid: str, /) -> bool:
        return False

    def when_dropped(self, uid: str, callback: Callable[[], None], /) -> None:
        raise AssertionError(uid)

    def reach(self, revision: int) -> None:
        self.revision = revision
        for callback in self.callbacks:
            callback()


async def write_and_change(cache: Cache, *, seen_after: float) -> list[float]:
    """Let the first pass write; its change is told many times before the cache shows it. Return when passes began."""
    passes: list[float] = []

    async def reconcile(key: str) -> Result:
        passes.append(now())
        if len(passes) == 1:
            controller.freshness.expect(key, cache, 11)
        return Result()

    controller, task = started(reconcile, workers=1)
    for _ in range(3):
        controller.enqueue("a")
        await asyncio.sleep(0.1)
    asyncio.get_running_loop().call_later(seen_after - 0.3, cache.reach, 11)
    controller.enqueue("other")
    await asyncio.sleep(10)
    await stop(task)
    return passes


async def test_a_key_is_parked_until_its_write_is_seen_and_blocks_no_worker() -> None:
    cache = Cache()
    assert await write_and_change(cache, seen_after=1.0) == [0.0, pytest.approx(0.3), pytest.approx(1.0)]
    assert len(cache.callbacks) == 1  # parked once, however often it was told


async def test_a_key_is_not_parked_for_ever() -> None:
    assert await write_and_change(Cache(), seen_after=9.0) == [0.0, pytest.approx(0.3), pytest.approx(2.0)]


async def test_trouble_is_said_once_per_key_and_reason() -> None:
    trouble = [Unreachable("down"), Unreachable("down"), Forbidden("no", reason="Forbidden"), Unreachable("down")]
    with capture_logs() as logs:
        await passes_within(100.0, Reconciler(*trouble))
    said = [(entry["log_level"], entry.get("reason")) for entry in logs if entry["log_level"] != "debug"]
    assert said == [
        ("warning", "Unreachable"), ("warning", "Forbidden/Forbidden"), ("warning", "Unreachable"), ("info", None),
    ]


async def test_a_bug_is_said_with_its_traceback() -> None:
    bug = RuntimeError("bug")
    with capture_logs() as logs:
        await passes_within(0.5, Reconciler(bug))
    assert [(entry["log_level"], entry["exc_info"]) for entry in logs] == [("error", bug)]


async def test_a_slow_pass_is_said() -> None:
    async def slow(_: str) -> Result:
        await asyncio.sleep(3)
        return Result()

    controller, task = started(slow)
    controller.enqueue("a")
    with capture_logs() as logs:
        await asyncio.sleep(5)
    await stop(task)
    assert [(entry["event"], entry["key"], entry["seconds"]) for entry in logs] == [("slow pass", "a", 3.0)]


async def test_the_metrics_are_those_that_dashboards_know() -> None:
    script = Reconciler(Result(requeue_after=1.0), Conflict("409"), Unreachable("down"), Terminal("no"))
    controller, task = started(script, name="metrics")
    controller.enqueue("a")
    with capture_logs():
        await asyncio.sleep(10)
    await stop(task)
    results = {result: count(result, "metrics") for result in ("success", "error", "requeue", "requeue_after")}
    assert results == {"success": 0.0, "error": 2.0, "requeue": 1.0, "requeue_after": 1.0}
    samples = {
        "controller_runtime_reconcile_time_seconds_count": 4.0, "controller_runtime_reconcile_errors_total": 2.0,
        "controller_runtime_terminal_reconcile_errors_total": 1.0, "controller_runtime_max_concurrent_reconciles": 2.0,
    }
    for name, value in samples.items():
        assert REGISTRY.get_sample_value(name, {"controller": "metrics"}) == value


async def test_workers_have_names_that_a_stack_dump_explains() -> None:
    _, task = started(Reconciler(), name="pods")
    await asyncio.sleep(1)
    assert {each.get_name() for each in asyncio.all_tasks()} >= {"pods-0", "pods-1"}
    await stop(task)


def test_a_controller_has_its_own_queue_and_freshness() -> None:
    controller = Controller[str]("pods", Reconciler())
    assert isinstance(controller.queue, Workqueue)
    assert isinstance(controller.freshness, Freshness)
    assert controller.queue.name == "pods"
