"""The same queue on the event loop of production, whose timers differ from asyncio's in small ways."""

import asyncio

import pytest

from kubeocean.kube.workqueue import Workqueue


def test_a_delay_that_is_over_at_once_may_be_followed_by_another() -> None:
    # uvloop returns a handle without an instant for a timer that is due already.
    uvloop = pytest.importorskip("uvloop")

    async def scenario() -> list[str]:
        queue: Workqueue[str] = Workqueue("uvloop")
        queue.add_after("first", 0.0001)
        queue.add_after("second", 0.0001)
        async with asyncio.timeout(5):
            return sorted([await queue.get(), await queue.get()])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(scenario()) == ["first", "second"]
