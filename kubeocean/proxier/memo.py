"""Answers that are good for a while: whoever asks in between gets the same one, and only one asks at a time.

That is a rate limit towards whoever answers, as well: a question is put at most once per `good_for`. A failure is
remembered, too, or a dead cluster would be asked by each of those who wait. An answer that is old is let go at once: it may be
large, and nobody may ever ask again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

from kubeocean.kube.errors import Forbidden, KubeError, NotFound

V = TypeVar("V")
REFUSED_FOR: Final = 60.0  # seconds that a 403 or 404 is believed: rights and APIs change seldom
_MOST_REMEMBERED: Final = 4096


class _Question(Generic[V]):
    """One question: who asks it holds `turn`."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.answer: V | None = None
        self.error: KubeError | None = None
        self.until = float("-inf")

    def let_go(self, answer: V) -> None:
        """Forget `answer`, if it is still the one."""
        if self.answer is answer:
            self.answer, self.until = None, float("-inf")


class Memo(Generic[V]):
    """Remembers by key. A caller that is cancelled while it asks leaves asking to the next."""

    def __init__(self, good_for: float) -> None:
        self._good_for = good_for
        self._questions: OrderedDict[Hashable, _Question[V]] = OrderedDict()

    async def get(self, key: Hashable, ask: Callable[[], Awaitable[V]]) -> V:
        """Return the remembered answer, or ask. Raises the KubeError that asking ended with, remembered or not."""
        question = self._questions.setdefault(key, _Question())
        self._questions.move_to_end(key)
        while len(self._questions) > _MOST_REMEMBERED:
            self._questions.popitem(last=False)
        async with question.turn:
            if question.until <= asyncio.get_running_loop().time():
                await self._ask(question, ask)
            if question.error:
                raise question.error
            assert question.answer is not None, "answered or failed"
            return question.answer

    async def _ask(self, question: _Question[V], ask: Callable[[], Awaitable[V]]) -> None:
        good_for = self._good_for
        try:
            question.answer, question.error = await ask(), None
        except KubeError as error:
            question.answer, question.error = None, error
            if isinstance(error, Forbidden | NotFound):
                good_for = REFUSED_FOR
        loop = asyncio.get_running_loop()
        question.until = loop.time() + good_for
        if question.answer is not None:
            loop.call_at(question.until, question.let_go, question.answer)
