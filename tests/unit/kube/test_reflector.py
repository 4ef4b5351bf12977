"""The driver against a scripted server, in virtual time: outages last minutes and the tests do not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import orjson
import pytest
from structlog.testing import capture_logs

from kubeocean.kube.backoff import Backoff
from kubeocean.kube.errors import BadRequest, Forbidden, Gone, TooManyRequests, Unreachable
from kubeocean.kube.informer import Informer
from kubeocean.kube.listwatch import Timing
from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.kube.resources import PODS, Resource

pytestmark = pytest.mark.looptime

TIMING = Timing(backoff=Backoff(base=1.0, cap=30.0, jitter=0.0))


class Page(NamedTuple):
    """What `list` answers."""

    items: list[Json]
    resource_version: str


@dataclass
class Watch:
    """What one watch brings; then it ends, hangs or breaks."""

    chunks: list[bytes]
    then: Exception | str = "hang"
    pause: float = 0.0  # seconds before each chunk


@dataclass
class Server:
    """Answers one request after the other from `script`; when that is used up, it hangs."""

    script: list[Watch | Page | Exception]
    cluster: str = "c1"
    asked: list[tuple[float, str]] = field(default_factory=list)

    @asynccontextmanager
    async def stream(self, path: str, params: dict[str, str], /) -> AsyncIterator[AsyncIterator[bytes]]:
        assert path == "/api/v1/pods"
        resumed = params.get("resourceVersion")
        answer = await self._next(f"watch {resumed}" if resumed else "streaming list")
        assert isinstance(answer, Watch)
        yield self._body(answer)

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> Page:
        answer = await self._next("pages")
        assert isinstance(answer, Page)
        return answer

    async def _next(self, what: str) -> Watch | Page:
        self.asked.append((asyncio.get_running_loop().time(), what))
        if not self.script:
            await asyncio.Event().wait()
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _body(self, watch: Watch) -> AsyncIterator[bytes]:
        for chunk in watch.chunks:
            await asyncio.sleep(watch.pause)
            yield chunk
        if isinstance(watch.then, Exception):
            raise watch.then
        if watch.then == "hang":
            await asyncio.Event().wait()

    @property
    def questions(self) -> Sequence[str]:
        return [what for _, what in self.asked]


def pod(name: str, rv: int, *, color: str = "") -> Json:
    metadata = {"name": name, "namespace": "a", "uid": f"uid-{name}", "resourceVersion": str(rv)}
    return {"metadata": metadata, "color": color}


def line(kind: str, name: str, rv: int, *, color: str = "") -> bytes:
    return orjson.dumps({"type": kind, "object": pod(name, rv, color=color)}) + b"\n"


def bookmark(rv: int, *, end: bool = False) -> bytes:
    annotations = {"annotations": {"k8s.io/initial-events-end": "true"}} if end else {}
    metadata = {"resourceVersion": str(rv), **annotations}
    return orjson.dumps({"type": "BOOKMARK", "object": {"metadata": metadata}}) + b"\n"


def error(code: int, reason: str) -> bytes:
    return orjson.dumps({"type": "ERROR", "object": {"code": code, "reason": reason, "message": "as scripted"}}) + b"\n"


LIST_A_B = [line("ADDED", "a", 5), line("ADDED", "b", 3), bookmark(10, end=True)]


async def after(
    server: Server, seconds: float, *, resume_at: float | None = None,
    place_is_gone: Callable[[], Awaitable[bool]] | None = None,
) -> Informer[str]:
    """Run an informer on `server` for a while and return it, stopped."""
    informer = Informer(
        server, PODS, summarise=lambda obj: str(obj.get("color")), timing=TIMING, place_is_gone=place_is_gone
    )
    task = asyncio.create_task(informer.run())
    if resume_at is not None:
        asyncio.get_running_loop().call_later(resume_at, informer.resume)
    await asyncio.sleep(seconds)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return informer


def names(informer: Informer[str]) -> list[str]:
    return sorted(key.name for key in informer.store.keys())  # noqa: SIM118 - a Store is no mapping


async def test_a_list_and_a_change_are_in_the_store() -> None:
    server = Server([Watch([*LIST_A_B, line("MODIFIED", "a", 11, color="red"), line("DELETED", "b", 12)])])
    informer = await after(server, 1)
    assert names(informer) == ["a"]
    entry = informer.store.get(ObjectKey("a", "a"))
    assert entry is not None
    assert entry.summary == "red"
    assert informer.has_synced
    assert informer.latest_revision == 12


REFUSED = Forbidden("403", status=403)


async def answer(gone: bool) -> bool:
    return gone


@pytest.mark.parametrize("gone", [False, True])
async def test_nothing_is_in_a_namespace_that_is_gone_with_the_rights_in_it(gone: bool) -> None:
    server = Server([Watch([*LIST_A_B], then="end"), REFUSED, REFUSED])
    informer = await after(server, 10, place_is_gone=lambda: answer(gone))
    assert names(informer) == ([] if gone else ["a", "b"])
    assert server.questions[:2] == ["streaming list", "watch 10"]
    first = await after(Server([REFUSED]), 0.5, place_is_gone=lambda: answer(gone))
    assert first.has_synced is gone


async def test_a_namespace_that_is_made_again_is_seen_again() -> None:
    server = Server([Watch([*LIST_A_B], then="end"), REFUSED, Watch([line("ADDED", "c", 11)])])
    informer = await after(server, 10, place_is_gone=lambda: answer(True))
    assert (server.questions, names(informer)) == (["streaming list", "watch 10", "watch 10"], ["c"])
    assert informer.latest_revision == 11


async def test_lines_may_be_cut_anywhere() -> None:
    stream = b"".join(LIST_A_B)
    informer = await after(Server([Watch([stream[at : at + 7] for at in range(0, len(stream), 7)])]), 1)
    assert names(informer) == ["a", "b"]


async def test_a_watch_that_ends_is_resumed_at_once() -> None:
    server = Server([Watch([*LIST_A_B, bookmark(30)], then="end")])
    await after(server, 1)
    assert server.asked == [(0.0, "streaming list"), (0.0, "watch 30")]


async def test_a_reset_in_the_middle_of_a_line_resumes_from_the_last_whole_one() -> None:
    server = Server([
        Watch([*LIST_A_B, line("ADDED", "c", 11), line("ADDED", "d", 12)[:20]], then=Unreachable("reset")),
        Watch([line("ADDED", "d", 12)]),
    ])
    informer = await after(server, 5)
    assert server.asked == [(0.0, "streaming list"), (1.0, "watch 11")]
    assert names(informer) == ["a", "b", "c", "d"]


async def test_a_line_cut_by_a_clean_end_is_no_object_either() -> None:
    cut = Watch([*LIST_A_B, line("ADDED", "c", 11), line("ADDED", "d", 12)[:-9]], then="end")
    server = Server([cut, Watch([line("ADDED", "d", 12)])])
    informer = await after(server, 5)
    assert server.asked == [(0.0, "streaming list"), (1.0, "watch 11")]
    assert names(informer) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("gone", ["event", "status"])
async def test_410_lists_again_and_what_vanished_in_the_gap_is_dropped(gone: str) -> None:
    relist = Watch([line("ADDED", "a", 40), bookmark(41, end=True)])
    lost: list[Watch | Page | Exception] = [
        Watch([*LIST_A_B, error(410, "Expired")]) if gone == "event" else Watch(LIST_A_B, then=Gone("too old"))
    ]
    server = Server([*lost, relist])
    informer = await after(server, 1)
    assert server.questions == ["streaming list", "streaming list"]
    assert names(informer) == ["a"]
    assert informer.latest_revision == 41
    assert not informer.was_deleted("uid-b")  # gone in a gap: nobody said DELETED


async def test_an_older_server_is_listed_in_pages() -> None:
    server = Server([BadRequest("unknown"), Page([pod("a", 5), pod("b", 3)], "10"), Watch([line("DELETED", "a", 11)])])
    informer = await after(server, 1)
    assert server.asked == [(0.0, "streaming list"), (0.0, "pages"), (0.0, "watch 10")]
    assert names(informer) == ["b"]
    assert informer.was_deleted("uid-a")


async def test_429_waits_as_long_as_the_server_asks() -> None:
    server = Server([TooManyRequests("storage is (re)initializing", retry_after=9.0), Watch(LIST_A_B)])
    informer = await after(server, 20)
    assert [at for at, _ in server.asked] == [0.0, 9.0]
    assert informer.consecutive_failures == 0


async def test_an_outage_is_waited_out_with_growing_patience_and_said_once() -> None:
    cut = Watch(LIST_A_B, then=Unreachable("reset"))
    server = Server([cut, *[Unreachable("refused") for _ in range(4)], Watch([bookmark(11)])])
    with capture_logs() as logs:
        informer = await after(server, 60)
    assert [at for at, _ in server.asked] == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0]
    assert [(entry["log_level"], entry["event"]) for entry in logs] == [
        ("warning", "watch failed"), ("info", "watch is well again"),
    ]
    assert names(informer) == ["a", "b"]
    assert (informer.consecutive_failures, informer.last_error) == (0, None)


async def test_during_an_outage_it_can_be_seen_and_nothing_is_dropped() -> None:
    informer = await after(Server([Watch(LIST_A_B, then=Unreachable("reset")), *[Unreachable("refused")] * 9]), 10)
    assert informer.consecutive_failures == 4
    assert isinstance(informer.last_error, Unreachable)
    assert names(informer) == ["a", "b"]


async def test_a_connection_that_falls_silent_is_given_up_after_the_limit() -> None:
    server = Server([Watch(LIST_A_B)])
    informer = await after(server, 150)
    assert server.asked == [(0.0, "streaming list"), (100.0, "watch 10")]
    assert informer.last_activity == 0.0


async def test_what_is_open_is_resumed_at_once_when_somebody_knows_that_the_server_answers() -> None:
    server = Server([Watch(LIST_A_B), Watch([line("MODIFIED", "a", 11)])])
    informer = await after(server, 50, resume_at=20.0)
    assert server.asked == [(0.0, "streaming list"), (20.0, "watch 10")]
    assert (informer.consecutive_failures, informer.latest_revision) == (0, 11)


async def test_a_backoff_ends_when_somebody_knows_that_the_server_answers() -> None:
    server = Server([Watch(LIST_A_B, then=Unreachable("reset")), *[Unreachable("refused")] * 3, Watch([])])
    await after(server, 14, resume_at=9.0)
    assert [at for at, _ in server.asked] == [0.0, 1.0, 3.0, 7.0, 9.0], "and not at 15"


async def test_any_byte_counts_as_life() -> None:
    server = Server([Watch([*LIST_A_B, *[bookmark(10 + at) for at in range(6)]], pause=60.0)])
    informer = await after(server, 550)
    assert server.questions == ["streaming list"]
    assert informer.last_activity == 9 * 60.0


async def test_a_slow_list_is_not_synced_before_its_end() -> None:
    server = Server([Watch(LIST_A_B, pause=30.0)])
    assert not (await after(server, 80)).has_synced
    assert (await after(Server([Watch(LIST_A_B, pause=30.0)]), 95)).has_synced


async def test_a_list_that_breaks_off_drops_nothing() -> None:
    half = Watch([line("ADDED", "b", 50)], then=Unreachable("reset"))
    server = Server([Watch([*LIST_A_B, error(410, "Gone")]), half, *[Unreachable("refused")] * 9])
    informer = await after(server, 20)
    assert names(informer) == ["a", "b"]
    assert informer.has_synced
    assert informer.latest_revision == 10


async def test_events_told_twice_are_handled_once() -> None:
    seen: list[str] = []
    server = Server([Watch([*LIST_A_B, line("MODIFIED", "a", 11)], then="end"), Watch([line("MODIFIED", "a", 11)])])
    informer = Informer(server, PODS, summarise=lambda _: None, timing=TIMING)
    informer.add_handler(lambda _, new: seen.append(f"{new.key}@{new.revision}" if new else "-"))
    task = asyncio.create_task(informer.run())
    await asyncio.sleep(1)
    task.cancel()
    assert seen == ["a/a@5", "a/b@3", "a/a@11"]


async def test_only_bookmarks_move_the_place_to_resume_at() -> None:
    server = Server([Watch([*LIST_A_B, bookmark(20), bookmark(30)], then=Unreachable("reset"))])
    informer = await after(server, 2)
    assert server.questions[-1] == "watch 30"
    assert informer.passed(30)


async def test_garbage_from_something_in_between_is_waited_out() -> None:
    server = Server([Watch([b"<html>504</html>\n"]), Watch([b'{"type": "ADDED"}\n']), Watch(LIST_A_B)])
    with capture_logs():
        informer = await after(server, 10)
    assert [at for at, _ in server.asked] == [0.0, 1.0, 3.0]
    assert names(informer) == ["a", "b"]


async def test_a_burst_leaves_the_loop_to_others_every_few_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    real, spent = loop.time, 0.0

    def work(_: Json) -> str:
        nonlocal spent
        spent += 0.004  # seconds; virtual time stands still while code runs, so the work moves the clock itself
        return ""

    monkeypatch.setattr(loop, "time", lambda: real() + spent)
    burst = b"".join([*LIST_A_B, *[line("ADDED", f"p{number}", 11 + number) for number in range(50)]])
    informer = Informer(Server([Watch([burst])]), PODS, summarise=work, timing=TIMING)
    task = asyncio.create_task(informer.run())
    turns = []
    while len(informer.store) < 52:
        turns.append(len(informer.store))
        await asyncio.sleep(0)
    task.cancel()
    assert max(after - before for before, after in pairwise([*turns, 52])) <= 3


async def test_run_again_after_a_stop_resumes() -> None:
    server = Server([Watch(LIST_A_B), Watch([line("ADDED", "c", 11)])])
    informer = Informer(server, PODS, summarise=lambda _: "", timing=TIMING)
    for _ in range(2):
        task = asyncio.create_task(informer.run())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.sleep(0)
    assert server.questions == ["streaming list", "watch 10"]
    assert names(informer) == ["a", "b", "c"]
