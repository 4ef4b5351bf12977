"""The queue's promises one by one, then all of them at once against random histories. Time is virtual."""

import asyncio
from collections import Counter
from contextlib import suppress

import looptime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from kubeocean.kube.backoff import Backoff
from kubeocean.kube.readyqueue import FairQueue
from kubeocean.kube.workqueue import QueueShutDown, Workqueue

pytestmark = pytest.mark.looptime


def new_queue(name: str = "test") -> Workqueue[str]:
    return Workqueue(name, backoff=Backoff(base=1.0, cap=300.0, jitter=0.0))


def now() -> float:
    return asyncio.get_running_loop().time()


async def finish(queue: Workqueue[str]) -> str:
    """Take one key through a pass."""
    key = await queue.get()
    queue.done(key)
    return key


async def test_keys_come_in_the_order_of_their_arrival_and_once() -> None:
    queue = new_queue()
    for key in "abab":
        queue.add(key)
    assert len(queue) == 2
    assert [await finish(queue), await finish(queue)] == ["a", "b"]
    assert len(queue) == 0


def fair_queue() -> Workqueue[str]:
    """Return a queue whose tenants are the first letters."""
    return Workqueue("fair", backoff=Backoff(base=1.0, cap=300.0, jitter=0.0), ready=FairQueue(lambda key: key[0]))


async def test_a_low_wish_waits_for_the_others() -> None:
    queue = fair_queue()
    queue.add("a", low=True)
    queue.add("b")
    assert [await finish(queue), await finish(queue)] == ["b", "a"]


async def test_news_of_a_key_that_waits_for_a_look_moves_it_up_and_a_look_moves_none_down() -> None:
    queue = fair_queue()
    for key in ("a", "b", "c"):
        queue.add(key, low=True)
    queue.add("c")
    queue.add("c", low=True)
    assert [await finish(queue) for _ in range(3)] == ["c", "a", "b"]
    assert len(queue) == 0


async def test_a_wish_during_a_pass_is_ready_after_it_as_high_as_the_highest() -> None:
    queue = fair_queue()
    for key in ("a", "b"):
        queue.add(key)
        await queue.get()
    queue.add("a", low=True)
    queue.add("b", low=True)
    queue.add("b")
    queue.done("a")
    queue.done("b")
    assert [await finish(queue), await finish(queue)] == ["b", "a"]


async def test_after_its_pass_a_low_key_is_not_low_for_ever() -> None:
    queue = fair_queue()
    queue.add("a", low=True)
    await finish(queue)
    queue.add("b", low=True)
    queue.add("a")
    assert await finish(queue) == "a"


async def test_a_burst_of_one_tenant_does_not_starve_another() -> None:
    queue = fair_queue()
    for number in range(5000):
        queue.add(f"a{number}")
    queue.add("b")
    assert [await finish(queue), await finish(queue)] == ["a0", "b"]


async def test_an_add_during_a_pass_makes_one_more_after_it() -> None:
    queue = new_queue()
    queue.add("a")
    key = await queue.get()
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0  # not while the pass runs
    queue.done(key)
    assert await finish(queue) == "a"
    assert len(queue) == 0


async def test_a_waiting_worker_is_woken_by_an_add() -> None:
    queue = new_queue()
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(1)
    queue.add("a")
    assert await worker == "a"


async def test_each_add_wakes_one_worker() -> None:
    queue = new_queue()
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.add("a")
    queue.add("b")
    await asyncio.sleep(1)
    assert sorted(worker.result() for worker in workers if worker.done()) == ["a", "b"]
    workers[2].cancel()


async def test_a_worker_cancelled_while_it_is_woken_passes_the_key_on() -> None:
    queue = new_queue()
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    assert await second == "a"


async def test_a_worker_that_is_being_cancelled_is_passed_over() -> None:
    queue = new_queue()
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    first.cancel()
    queue.add("a")
    assert await second == "a"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_worker_cancelled_while_it_waits_is_not_woken_any_more() -> None:
    queue = new_queue()
    first = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    queue.add("a")
    assert await finish(queue) == "a"


async def test_who_asks_for_the_rest_of_a_moment_is_not_asked_again_and_again() -> None:
    queue, due, passes = new_queue(), now() + 30.0, 0
    queue.add_after("a", due - now())
    while (rest := due - now() + 1e-9) > 0:
        await finish(queue)
        passes += 1
        assert passes < 3
        queue.add_after("a", rest)
    assert passes > 0


async def test_add_after_waits() -> None:
    queue = new_queue()
    queue.add_after("a", 30.0)
    assert len(queue) == 0
    await finish(queue)
    assert now() == pytest.approx(30.0)


WISHES = {
    "an earlier wish wins over a later one": ([30.0, 10.0], [10.0]),
    "a later wish changes nothing": ([10.0, 30.0], [10.0]),
    "no time at all is now": ([0.0], [0.0]),
    "a time in the past is now": ([-5.0], [0.0]),
    "now does not undo a wish for later": ([10.0, 0.0], [0.0, 10.0]),
}


@pytest.mark.parametrize("case", WISHES)
async def test_add_after(case: str) -> None:
    wishes, expected = WISHES[case]
    queue = new_queue()
    for seconds in wishes:
        queue.add_after("a", seconds)
    passes = []
    with suppress(TimeoutError):
        async with asyncio.timeout(1000):
            while True:
                await finish(queue)
                passes.append(now())
    assert passes == pytest.approx(expected)


async def test_wishes_that_earlier_ones_replaced_do_not_pile_up() -> None:
    queue = new_queue()
    for _ in range(1000):
        queue.add_after("a", 86_400.0)
        queue.add_after("a", 5.0)
        await finish(queue)
    assert len(queue._delayed) < 100


async def test_a_wish_that_is_withdrawn_is_not_fulfilled_and_no_other_is_harmed() -> None:
    queue = new_queue()
    queue.add_after("a", 10.0)
    queue.add_after("b", 20.0)
    queue.withdraw("a")
    queue.withdraw("nobody")
    assert await finish(queue) == "b"
    assert now() == pytest.approx(20.0)
    queue.add_after("a", 10.0)
    queue.withdraw("a")
    queue.add_after("a", 15.0)
    assert await finish(queue) == "a"
    assert now() == pytest.approx(35.0)


async def test_what_waits_because_it_failed_has_its_next_attempt_at_once_and_nothing_else_has() -> None:
    queue = new_queue()
    for _ in range(5):
        queue.retry("failed")
    queue.add_after("planned", 40.0)
    queue.hasten()
    assert await finish(queue) == "failed"
    assert now() == pytest.approx(0.0)
    assert queue.failures("failed") == 0, "what was in its way is gone"
    assert await finish(queue) == "planned"
    assert now() == pytest.approx(40.0)


async def test_wishes_that_were_withdrawn_do_not_pile_up() -> None:
    queue = new_queue()
    for number in range(1000):
        queue.add_after(str(number), 86_400.0)
        queue.withdraw(str(number))
    assert len(queue._delayed) < 100
    queue.add_after("a", 5.0)
    assert await finish(queue) == "a"


async def test_many_delays_share_the_one_timer() -> None:
    queue = new_queue()
    for number in (5, 1, 4, 2, 3):
        queue.add_after(str(number), float(number))
    order = [(await finish(queue), round(now())) for _ in range(5)]
    assert order == [(str(number), number) for number in range(1, 6)]


async def test_retries_wait_twice_as_long_each_time_until_forgotten() -> None:
    queue = new_queue()
    waits = []
    for _ in range(11):
        began = now()
        queue.retry("a")
        await finish(queue)
        waits.append(round(now() - began))
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert queue.failures("a") == 11
    queue.forget("a")
    began = now()
    queue.retry("a")
    await finish(queue)
    assert now() - began == pytest.approx(1.0)


async def test_keys_back_off_apart() -> None:
    queue = new_queue()
    for _ in range(5):
        queue.retry("a")
    queue.retry("b")
    assert (queue.failures("a"), queue.failures("b")) == (5, 1)


async def test_an_immediate_retry_is_immediate_only_the_first_time() -> None:
    queue = new_queue()
    waits = []
    for _ in range(4):
        began = now()
        queue.retry("a", immediate=True)
        await finish(queue)
        waits.append(round(now() - began))
    assert waits == [0, 1, 2, 4]


async def test_after_shutdown_what_is_ready_is_handed_out_and_then_the_end() -> None:
    queue = new_queue()
    queue.add("a")
    queue.add_after("later", 1.0)
    queue.shutdown()
    queue.add("b")
    queue.add_after("c", 1.0)
    assert await finish(queue) == "a"
    with pytest.raises(QueueShutDown):
        await queue.get()


async def test_shutdown_ends_waiting_workers() -> None:
    queue = new_queue()
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.shutdown()
    results = await asyncio.gather(*workers, return_exceptions=True)
    assert [type(result) for result in results] == [QueueShutDown] * 3


async def test_done_without_a_pass_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError):
        new_queue().done("a")


async def test_the_metrics_are_those_that_dashboards_know() -> None:
    queue = new_queue("queue-metrics")

    def sample(name: str) -> float | None:
        return REGISTRY.get_sample_value(name, {"name": "queue-metrics"})

    queue.add("a")
    queue.add("a")
    queue.add("b")
    assert (sample("workqueue_depth"), sample("workqueue_adds_total")) == (2.0, 2.0)
    key = await queue.get()
    assert (sample("workqueue_unfinished_work_seconds") or 0) > 0
    assert (sample("workqueue_longest_running_processor_seconds") or 0) > 0
    queue.retry(key)
    queue.done(key)
    assert sample("workqueue_queue_duration_seconds_count") == 1.0
    assert sample("workqueue_work_duration_seconds_count") == 1.0
    assert sample("workqueue_retries_total") == 1.0
    assert sample("workqueue_unfinished_work_seconds") == 0.0


async def test_a_queue_that_nobody_holds_any_more_has_no_depth() -> None:
    queue = new_queue("forgotten")
    queue.add("a")
    del queue
    assert REGISTRY.get_sample_value("workqueue_depth", {"name": "forgotten"}) == 0.0


# One step of somebody who adds: what to do, to which key, after how many seconds.
actions = st.sampled_from(["add", "look", "after", "retry"])
steps = st.lists(st.tuples(actions, st.sampled_from("abc"), st.sampled_from([0.0, 0.5, 1.0, 3.0])), max_size=25)


@settings(max_examples=60, deadline=None)
@given(steps, st.integers(1, 4), st.sampled_from([0.0, 0.3, 2.0]))
def test_whatever_happens_no_key_is_in_two_workers_and_nothing_is_lost(
    history: list[tuple[str, str, float]], workers: int, work: float
) -> None:
    async def scenario() -> None:
        queue = fair_queue()
        running: Counter[str] = Counter()
        wanted: dict[str, float] = {}  # the latest instant from which a pass is wanted
        began: dict[str, float] = {}  # when the last pass began

        async def worker() -> None:
            while True:
                key = await queue.get()
                running[key] += 1
                assert running[key] == 1
                began[key] = now()
                await asyncio.sleep(work)
                running[key] -= 1
                queue.done(key)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(worker()) for _ in range(workers)]
            for action, key, seconds in history:
                if action == "add":
                    queue.add(key)
                    wanted[key] = now()
                elif action == "look":
                    queue.add(key, low=True)
                    wanted[key] = now()
                elif action == "after":
                    queue.add_after(key, seconds)
                    wanted.setdefault(key, now())
                else:
                    queue.retry(key)
                    wanted.setdefault(key, now())
                await asyncio.sleep(seconds)
            await asyncio.sleep(1000)
            for task in tasks:
                task.cancel()
        assert len(queue) == 0
        assert running.total() == 0
        assert all(began[key] >= instant for key, instant in wanted.items())

    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        runner.run(scenario())


