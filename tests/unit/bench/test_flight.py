import asyncio

import pytest

from kubeocean.bench.flight import in_flight


async def test_never_more_than_the_limit_are_in_flight() -> None:
    flying = highest = 0

    async def call(number: int) -> int:
        nonlocal flying, highest
        flying += 1
        highest = max(highest, flying)
        await asyncio.sleep(0)
        flying -= 1
        return number

    assert sorted(await in_flight(range(20), call, limit=3)) == list(range(20))
    assert highest == 3


async def test_the_first_error_ends_it_as_itself() -> None:
    called: list[int] = []

    async def call(number: int) -> None:
        called.append(number)
        await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await in_flight(range(100), call, limit=2)
    assert len(called) <= 4
