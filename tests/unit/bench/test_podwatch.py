import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson
import pytest

from kubeocean.bench.errors import BenchError
from kubeocean.bench.podwatch import PodWatch, until
from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json


def event(kind: str, name: str, version: int) -> bytes:
    pod = {"metadata": {"name": name, "resourceVersion": str(version)}}
    return orjson.dumps({"type": kind, "object": pod}) + b"\n"


class FakeClient:
    """Serves one scripted watch after the other; the last one stays open."""

    cluster = "virtual"

    def __init__(self, *watches: list[bytes]) -> None:
        self._watches = list(watches)
        self.since: list[str] = []

    async def raw(self, *_: str, params: Mapping[str, str]) -> bytes:
        return orjson.dumps({"metadata": {"resourceVersion": "5"}})

    @asynccontextmanager
    async def stream(self, path: str, params: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        self.since.append(params["resourceVersion"])
        yield self._chunks(self._watches.pop(0))

    async def _chunks(self, chunks: list[bytes]) -> AsyncIterator[bytes]:
        for chunk in chunks:
            await asyncio.sleep(0)
            yield chunk
        if not self._watches:
            await asyncio.Event().wait()


def watch(client: FakeClient, seen: list[str], **options: Any) -> PodWatch:
    def take(kind: str, pod: Json, _: float) -> None:
        seen.append(f"{kind} {pod['metadata']['name']}")

    return PodWatch(cast("Client", client), "ns", take, **options)


async def test_events_are_taken_even_when_cut_anywhere() -> None:
    text, seen = event("ADDED", "a", 6) + event("DELETED", "a", 7), list[str]()
    async with watch(FakeClient([text[:10], text[10:90], text[90:]]), seen) as watching:
        await until([watching], lambda: len(seen) == 2, within=1, what=str)
    assert seen == ["ADDED a", "DELETED a"]


async def test_kinds_that_nobody_asked_for_are_left_out() -> None:
    seen: list[str] = []
    async with watch(FakeClient([event("ADDED", "a", 6), event("DELETED", "b", 7)]), seen, kinds=("DELETED",)) as watching:
        await until([watching], lambda: bool(seen), within=1, what=str)
    assert seen == ["DELETED b"]


async def test_a_closed_watch_goes_on_behind_the_last_event_taken() -> None:
    client, seen = FakeClient([event("ADDED", "a", 6), event("ADDED", "b", 9)[:20]], [event("ADDED", "b", 9)]), list[str]()
    async with watch(client, seen) as watching:
        await until([watching], lambda: len(seen) == 2, within=1, what=str)
    assert seen == ["ADDED a", "ADDED b"]
    assert client.since == ["5", "6"]


async def test_a_wait_that_is_over_says_what_is_missing() -> None:
    async with watch(FakeClient([]), []) as watching:
        with pytest.raises(BenchError, match=r"not within 0 s: the Pod runs"):
            await until([watching], lambda: False, within=0.01, what=lambda: "the Pod runs")


async def test_an_error_of_the_server_ends_the_wait_at_once() -> None:
    gone = orjson.dumps({"type": "ERROR", "object": {"message": "too old resource version"}}) + b"\n"
    async with watch(FakeClient([gone]), []) as watching:
        with pytest.raises(BenchError, match="too old resource version"):
            await until([watching], lambda: False, within=1, what=lambda: "the Pod runs")


async def test_what_holds_already_is_not_waited_for() -> None:
    async with watch(FakeClient([]), []) as watching:
        await until([watching], lambda: True, within=0.01, what=str)
