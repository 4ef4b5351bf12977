"""A process that is told to stop stops, one way or the other. Virtual time."""

import asyncio
import os
import signal
from typing import cast

import pytest

from kubeocean import runtime, signals
from kubeocean.kube.client import Client
from kubeocean.kube.errors import Forbidden, NotFound
from kubeocean.kube.meta import Json

pytestmark = pytest.mark.looptime


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what ended the process by force."""
    said: list[str] = []
    monkeypatch.setattr(signals, "exit_loudly", said.append)
    return said


async def told_to_stop(*, cleanup_seconds: float) -> None:
    async def program() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(cleanup_seconds)

    await signals._until_signalled(program)


async def test_a_graceful_stop_is_given_its_time(forced: list[str]) -> None:
    await told_to_stop(cleanup_seconds=20)
    await asyncio.sleep(60)
    assert forced == []


async def test_a_stop_that_hangs_ends_by_force_and_says_so(forced: list[str]) -> None:
    await told_to_stop(cleanup_seconds=60)
    assert forced == ["told to stop, it did not within 28 s"]


class Namespaces:
    """A cluster that answers a look at a namespace with `error`, and a creation with Forbidden."""

    def __init__(self, error: Exception | None) -> None:
        self.error, self.asked = error, 0

    async def get(self, *_: object) -> Json:
        if self.error:
            raise self.error
        return {}

    async def create(self, *_: object) -> Json:
        self.asked += 1
        raise Forbidden("may not", status=403)


@pytest.mark.parametrize(("error", "asked"), [
    (None, 0), (NotFound("none", status=404), 1), (Forbidden("may not look", status=403), 0),
], ids=["it is there", "it is not", "we may not look"])
async def test_the_namespace_of_the_lease_is_made_only_where_it_is_missing(error: Exception | None, asked: int) -> None:
    cluster = Namespaces(error)
    await runtime._ensure_namespace(cast(Client, cluster), "kubeocean-system")
    assert cluster.asked == asked
