import pytest

from kubeocean.clusters.health import Reachability
from kubeocean.kube.errors import Unreachable


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
