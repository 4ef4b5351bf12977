"""The token bucket in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from kubeocean.kube.tokenbucket import TokenBucket

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_burst_passes_at_once_and_the_rest_at_the_rate() -> None:
    bucket, start, passed = TokenBucket(qps=10, burst=3), now(), list[float]()
    for _ in range(6):
        await bucket.take()
        passed.append(round(now() - start, 3))
    assert passed == [0, 0, 0, 0.1, 0.2, 0.3]


async def test_waiters_are_served_in_order_of_arrival() -> None:
    bucket, served = TokenBucket(qps=10, burst=1), list[int]()

    async def wait(number: int) -> None:
        await bucket.take()
        served.append(number)

    await asyncio.gather(*(wait(number) for number in range(20)))
    assert served == list(range(20))


async def test_those_who_give_up_take_no_token_from_those_behind_them() -> None:
    bucket = TokenBucket(qps=1, burst=1)
    await bucket.take()
    impatient = [asyncio.create_task(bucket.take()) for _ in range(50)]
    patient = asyncio.create_task(bucket.take())
    await asyncio.sleep(0.5)
    for task in impatient:
        task.cancel()
    start = now()
    await patient
    assert now() - start == pytest.approx(0.5, abs=0.01)


async def test_a_token_given_in_the_instant_of_cancellation_is_handed_on() -> None:
    bucket = TokenBucket(qps=1, burst=1)
    await bucket.take()
    first, second = asyncio.create_task(bucket.take()), asyncio.create_task(bucket.take())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_at(now() + 1.0, first.cancel)  # due with the token, or just before it
    await asyncio.sleep(1.05)
    assert second.done()


async def test_rest_refills_no_more_than_the_burst() -> None:
    bucket = TokenBucket(qps=10, burst=2)
    await asyncio.sleep(100)
    start = now()
    for _ in range(3):
        await bucket.take()
    assert now() - start == pytest.approx(0.1, abs=0.01)


def test_a_bucket_that_lets_nothing_through_is_refused() -> None:
    with pytest.raises(ValueError, match="leave the bucket out"):
        TokenBucket(qps=0, burst=1)
