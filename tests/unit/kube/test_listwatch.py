"""The state machine alone: no loop, no client; a list of lines in, a story out."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.kube.backoff import Backoff
from kubeocean.kube.errors import (
    ApiError,
    BadRequest,
    Forbidden,
    Gone,
    Invalid,
    ServerError,
    TooManyRequests,
    Unreachable,
)
from kubeocean.kube.listwatch import LineSplitter, ListWatch, Phase, Timing
from kubeocean.kube.meta import Json, name_of

TIMING = Timing(backoff=Backoff(base=1.0, cap=30.0, jitter=0.0))


class Story:
    """A sink that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def list_begins(self) -> None:
        self.told.append("list")

    def put(self, obj: Json) -> None:
        self.told.append(f"+{name_of(obj)}")

    def delete(self, obj: Json) -> None:
        self.told.append(f"-{name_of(obj)}")

    def list_ends(self, revision: int) -> None:
        self.told.append(f"end@{revision}")

    def advance(self, revision: int) -> None:
        self.told.append(f"@{revision}")

    def pass_over(self, revision: int) -> None:
        self.told.append(f"over@{revision}")


def machine() -> tuple[ListWatch, Story]:
    story = Story()
    return ListWatch(story, timing=TIMING, cluster="c1", what="/api/v1/pods"), story


def watching() -> tuple[ListWatch, Story]:
    """A machine that has listed up to revision 10."""
    watch, story = machine()
    watch.begin()
    watch.receive(bookmark(10, end=True))
    story.told.clear()
    return watch, story


def event(kind: str, name: str, rv: int) -> bytes:
    return orjson.dumps({"type": kind, "object": {"metadata": {"name": name, "resourceVersion": str(rv)}}})


def bookmark(rv: int, *, end: bool = False) -> bytes:
    annotations = {"annotations": {"k8s.io/initial-events-end": "true"}} if end else {}
    return orjson.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(rv), **annotations}}})


def error_event(code: int, reason: str = "", **details: Any) -> bytes:
    return orjson.dumps({"type": "ERROR", "object": {"code": code, "reason": reason, "details": details}})


def test_a_streaming_list_ends_with_its_bookmark_and_goes_on_as_a_watch() -> None:
    watch, story = machine()
    assert watch.begin() is Phase.STREAMING_LIST
    for line in (event("ADDED", "a", 9), event("ADDED", "b", 3), bookmark(10, end=True), event("MODIFIED", "a", 11)):
        watch.receive(line)
    assert story.told == ["list", "+a", "+b", "end@10", "+a"]
    assert (watch.phase, watch.position) == (Phase.WATCHING, "11")


def test_the_first_request_asks_for_a_streaming_list() -> None:
    watch, _ = machine()
    watch.begin()
    params = watch.params({"labelSelector": "a=b"})
    assert 240 <= int(params.pop("timeoutSeconds")) <= 480
    assert params == {
        "watch": "true", "allowWatchBookmarks": "true", "labelSelector": "a=b",
        "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan",
    }


def test_initial_events_are_no_place_to_resume_at() -> None:
    watch, story = machine()
    watch.begin()
    watch.receive(event("ADDED", "a", 9))
    assert watch.ended(lived=5.0) == 1.0
    assert watch.begin() is Phase.STREAMING_LIST
    assert story.told == ["list", "+a", "list"]  # and nothing was dropped


def test_a_watch_resumes_behind_the_last_event_or_bookmark() -> None:
    watch, story = watching()
    watch.receive(event("DELETED", "a", 12))
    watch.receive(bookmark(15))
    assert story.told == ["-a", "@15"]
    assert watch.ended(lived=300.0) == 0.0
    assert watch.begin() is Phase.WATCHING
    assert watch.params({})["resourceVersion"] == "15"
    assert story.told == ["-a", "@15"]


def test_a_list_that_always_breaks_off_is_tried_with_growing_patience() -> None:
    watch, _ = machine()
    waits = []
    for _ in range(4):
        watch.begin()
        watch.receive(event("ADDED", "a", 9))
        waits.append(watch.failed(Unreachable("reset")))
    assert waits == [1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize("refusal", [BadRequest("no"), Invalid("no")])
def test_a_server_without_streaming_lists_is_listed_in_pages_at_once(refusal: ApiError) -> None:
    watch, story = machine()
    watch.begin()
    assert watch.failed(refusal) == 0.0
    assert (watch.consecutive_failures, watch.last_error) == (0, None)
    assert watch.begin() is Phase.PAGED_LIST
    watch.listed("20")
    assert story.told[-1] == "end@20"
    watch.begin()
    assert watch.failed(Gone("old")) == 0.0
    assert watch.begin() is Phase.PAGED_LIST  # it is not asked a second time


def test_a_server_that_overlooks_send_initial_events_is_listed_in_pages() -> None:
    watch, _ = machine()
    watch.begin()
    watch.receive(event("ADDED", "a", 3))
    with pytest.raises(Invalid) as caught:
        watch.receive(bookmark(10))
    assert watch.failed(caught.value) == 0.0
    assert watch.begin() is Phase.PAGED_LIST


def test_a_streaming_list_without_end_is_tried_in_pages() -> None:
    watch, _ = machine()
    watch.begin()
    assert watch.silent() == 1.0
    assert watch.begin() is Phase.PAGED_LIST


LOST = {
    "410 as a status": Gone("too old"),
    "400: it cannot read the revision": BadRequest("invalid resource version"),
    "504: it has not reached the revision": ServerError("Too large resource version", status=504),
}


@pytest.mark.parametrize("case", LOST)
def test_a_lost_place_means_to_list_again_at_once(case: str) -> None:
    watch, story = watching()
    watch.begin()
    assert watch.failed(LOST[case]) == 0.0
    assert watch.begin() is Phase.STREAMING_LIST
    assert "resourceVersion" not in watch.params({})
    assert story.told == ["list"]
    assert watch.last_error is None  # revisions age; that is no trouble


ERRORS: dict[str, tuple[bytes, type[ApiError], Phase]] = {
    "410 Expired": (error_event(410, "Expired"), Gone, Phase.STREAMING_LIST),
    "410 Gone": (error_event(410, "Gone"), Gone, Phase.STREAMING_LIST),
    "500 from etcd": (error_event(500, "InternalError"), ServerError, Phase.WATCHING),
    "429 while it starts": (error_event(429, "TooManyRequests", retryAfterSeconds=7), TooManyRequests, Phase.WATCHING),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_event_is_what_its_status_says(case: str) -> None:
    line, expected, phase = ERRORS[case]
    watch, _ = watching()
    with pytest.raises(expected) as caught:
        watch.receive(line)
    watch.failed(caught.value)
    assert watch.begin() is phase
    assert "c1: watch of /api/v1/pods" in str(caught.value)


def test_a_server_that_lists_well_and_refuses_every_watch_is_not_asked_in_a_tight_loop() -> None:
    watch, _ = watching()
    waits = []
    for _ in range(6):
        watch.begin()
        waits.append(watch.failed(Gone("too old")))
        watch.begin()
        watch.receive(bookmark(20, end=True))
    assert waits == [0.0, 2.0, 4.0, 8.0, 16.0, 30.0]


def test_failures_back_off_until_the_watch_makes_headway() -> None:
    watch, _ = watching()
    assert [watch.failed(Unreachable("reset")) for _ in range(7)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert (watch.consecutive_failures, str(watch.last_error)) == (7, "reset")
    watch.begin()
    watch.receive(bookmark(11))
    assert (watch.consecutive_failures, watch.last_error) == (0, None)
    assert watch.failed(Unreachable("reset")) == 1.0


def test_retry_after_is_honoured_when_it_is_longer() -> None:
    watch, _ = watching()
    assert watch.failed(TooManyRequests("busy", retry_after=7.0)) == 7.0
    assert watch.failed(TooManyRequests("busy", retry_after=1.0)) == 2.0


def test_a_refusal_for_want_of_permission_keeps_the_place() -> None:
    watch, _ = watching()
    watch.failed(Forbidden("no"))
    assert (watch.phase, watch.position) == (Phase.WATCHING, "10")


def test_a_watch_that_ends_at_once_and_told_nothing_is_a_failure() -> None:
    watch, _ = watching()
    watch.begin()
    assert [watch.ended(lived=0.1), watch.ended(lived=0.1)] == [1.0, 2.0]
    assert watch.ended(lived=5.0) == 0.0
    watch.begin()
    watch.receive(event("MODIFIED", "a", 11))
    assert watch.ended(lived=0.1) == 0.0


def test_a_watch_that_fell_silent_resumes_at_once_and_that_is_no_failure() -> None:
    watch, _ = watching()
    watch.begin()
    watch.accepted()
    watch.receive(bookmark(11))
    for _ in range(20):
        assert watch.silent() == 0.0
        assert (watch.begin(), watch.position, watch.consecutive_failures) == (Phase.WATCHING, "11", 0)
        watch.accepted()
        watch.receive(bookmark(11))


def test_one_that_is_never_answered_is_a_failure() -> None:
    watch, _ = watching()
    watch.begin()
    assert [watch.silent(), watch.silent()] == [1.0, 2.0]
    assert watch.consecutive_failures == 2


def test_watches_that_never_say_anything_for_ten_minutes_end_in_a_list() -> None:
    # A restored etcd is behind our revision: such a watch opens well and stays silent. So does one over what nobody writes.
    watch, _ = watching()
    for _ in range(Timing().silences):
        assert watch.begin() is Phase.WATCHING
        watch.accepted()
        assert watch.silent() == 0.0
    assert watch.begin() is Phase.STREAMING_LIST
    assert Timing().silences * Timing().silence > 600.0, "as often as etcd tells of progress where nobody writes"


def test_a_server_that_says_how_long_to_wait_is_believed_for_half_a_minute() -> None:
    watch, _ = watching()
    assert watch.failed(TooManyRequests("busy", retry_after=7.0)) == 7.0
    assert watch.failed(TooManyRequests("away", retry_after=3600.0)) == 30.0


def test_a_bookmark_from_the_past_means_that_history_was_rewound() -> None:
    watch, _ = watching()
    with pytest.raises(Gone, match="went back from 10 to 4"):
        watch.receive(bookmark(4))


@pytest.mark.parametrize("line", [b"<html>", b"[]", b'{"type":"ADDED"'])
def test_garbage_is_a_value_error(line: bytes) -> None:
    watch, _ = watching()
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's own words
        watch.receive(line)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1)), st.integers(1, 7))
def test_lines_survive_any_chopping(texts: list[str], size: int) -> None:
    stream = b"".join(text.encode() + b"\n" for text in texts)
    splitter = LineSplitter()
    lines = [line for at in range(0, len(stream), size) for line in splitter.feed(stream[at : at + size])]
    assert [line.decode() for line in lines] == texts
    assert not splitter.unfinished


def test_a_line_without_end_is_unfinished_and_an_endless_one_is_refused() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"whole\nhal") == [b"whole"]
    assert splitter.unfinished
    for _ in range(31):
        splitter.feed(b"x" * 2**20)
    with pytest.raises(ValueError, match="MiB"):
        splitter.feed(b"x" * 2**20)
