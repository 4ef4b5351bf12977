"""No cancellation is lost in a TaskGroup."""

import asyncio

import pytest

from kubeocean.kube.cancellation import heed_cancellation

pytestmark = pytest.mark.looptime


async def slow_to_end() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(1)


async def fail_slowly() -> None:
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(slow_to_end())
            await asyncio.sleep(1)
            raise ValueError
    except BaseExceptionGroup:
        heed_cancellation()


async def test_who_is_cancelled_while_a_group_fails_ends() -> None:
    task = asyncio.create_task(fail_slowly())
    await asyncio.sleep(1.5)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_who_is_not_cancelled_goes_on() -> None:
    await fail_slowly()
