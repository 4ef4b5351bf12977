"""Answers that are good for a while. Time is virtual."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable

import pytest

from kubeocean.kube.errors import Forbidden, KubeError, Unreachable
from kubeocean.proxier.memo import REFUSED_FOR, Memo

pytestmark = pytest.mark.looptime


class Server:
    """Takes a second to answer, with the number of the question, or to fail."""

    def __init__(self) -> None:
        self.asked = self.at_once = self.most_at_once = 0
        self.error: KubeError | None = None

    async def __call__(self) -> int:
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(1)
            if self.error:
                raise self.error
            return self.asked
        finally:
            self.at_once -= 1


async def test_a_crowd_asks_once_and_again_when_the_answer_is_old() -> None:
    memo, server = Memo[int](10), Server()
    assert await asyncio.gather(*(memo.get("node", server) for _ in range(100))) == [1] * 100
    await asyncio.sleep(9.9)
    assert await memo.get("node", server) == 1
    await asyncio.sleep(0.2)
    assert await memo.get("node", server) == 2
    assert server.most_at_once == 1


async def test_questions_do_not_wait_for_each_other() -> None:
    memo, server = Memo[int](10), Server()
    await asyncio.gather(memo.get("one", server), memo.get("two", server))
    assert server.most_at_once == 2
    assert asyncio.get_running_loop().time() == pytest.approx(1)


@pytest.mark.parametrize(("error", "for_seconds"), [(Unreachable("gone"), 10), (Forbidden("no"), REFUSED_FOR)])
async def test_a_failure_is_remembered_and_those_who_wait_share_it(error: KubeError, for_seconds: float) -> None:
    memo, server = Memo[int](10), Server()
    server.error = error
    answers = await asyncio.gather(*(memo.get("node", server) for _ in range(10)), return_exceptions=True)
    assert answers == [error] * 10
    assert server.asked == 1
    assert asyncio.get_running_loop().time() == pytest.approx(1)
    server.error = None
    await asyncio.sleep(for_seconds - 0.1)
    with pytest.raises(type(error)):
        await memo.get("node", server)
    await asyncio.sleep(0.2)
    assert await memo.get("node", server) == 2


async def test_who_gives_up_while_asking_leaves_it_to_the_next() -> None:
    memo, server = Memo[int](10), Server()

    async def patiently(ask: Callable[[], Awaitable[int]]) -> int:
        return await memo.get("node", ask)

    first, second = asyncio.create_task(patiently(server)), asyncio.create_task(patiently(server))
    await asyncio.sleep(0.5)
    first.cancel()
    assert await second == 2
    assert server.most_at_once == 1


async def test_an_old_answer_is_let_go_although_nobody_asks_again() -> None:
    class Large:
        """Something that can be watched going."""

    async def ask() -> Large:
        return Large()

    memo = Memo[Large](10)
    going = weakref.ref(await memo.get("node", ask))
    await asyncio.sleep(9)
    assert going() is not None
    await asyncio.sleep(2)
    assert going() is None
    assert await memo.get("node", ask) is await memo.get("node", ask)
