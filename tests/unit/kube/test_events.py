"""Events in virtual time, written to a client that may fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from kubeocean.kube import events
from kubeocean.kube.errors import KubeError, NotFound, NotLeading, Unreachable
from kubeocean.kube.events import EventRecorder
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import Resource

pytestmark = pytest.mark.looptime

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
POD: Json = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-0", "namespace": "shop", "uid": "u1"}}
NODE: Json = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "u2"}}


class Cluster:
    """Keeps Events by name; `failure` is raised by the next write."""

    def __init__(self) -> None:
        self.events: dict[str, Json] = {}
        self.patches: list[Json] = []
        self.failure: Exception | None = None
        self.now = NOON

    async def create(self, resource: Resource, obj: Json) -> Json:
        self._fail()
        self.events[obj["metadata"]["name"]] = obj
        return obj

    async def patch(self, resource: Resource, name: str, namespace: str, patch: Json) -> Json:
        self._fail()
        if name not in self.events:
            raise NotFound("expired", status=404)
        self.patches.append(patch)
        self.events[name] = self.events[name] | patch
        return self.events[name]

    def _fail(self) -> None:
        failure, self.failure = self.failure, None
        if failure:
            raise failure

    @property
    def only(self) -> Json:
        (event,) = self.events.values()
        return event


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
async def recorder(cluster: Cluster) -> AsyncIterator[EventRecorder]:
    recorder = EventRecorder(cluster, component="kubeocean-test", clock=lambda: cluster.now)
    task = asyncio.create_task(recorder.run())
    yield recorder
    task.cancel()
    await asyncio.wait([task])


async def settle() -> None:
    await asyncio.sleep(0.01)


async def test_an_event_says_who_what_and_when(cluster: Cluster, recorder: EventRecorder) -> None:
    recorder.event(POD, "Warning", "Refused", "no room")
    await settle()
    event = dict(cluster.only)
    metadata = event.pop("metadata")
    assert event == {
        "apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": "Refused", "message": "no room", "count": 1,
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web-0", "uid": "u1"},
        "firstTimestamp": "2026-01-01T12:00:00Z", "lastTimestamp": "2026-01-01T12:00:00Z",
        "source": {"component": "kubeocean-test"}, "reportingComponent": "kubeocean-test",
    }
    assert metadata["namespace"] == "shop"
    assert metadata["name"].startswith("web-0.")


async def test_an_event_of_a_cluster_scoped_object_lives_in_default(cluster: Cluster, recorder: EventRecorder) -> None:
    recorder.event(NODE, "Normal", "Leased", "hello")
    await settle()
    assert cluster.only["metadata"]["namespace"] == "default"
    assert cluster.only["involvedObject"] == {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u2"}


async def test_a_reference_will_do(cluster: Cluster, recorder: EventRecorder) -> None:
    recorder.event({"kind": "Pod", "name": "web-0", "namespace": "shop"}, "Normal", "Seen", "x")
    await settle()
    assert cluster.only["involvedObject"] == {"kind": "Pod", "namespace": "shop", "name": "web-0"}


async def test_a_storm_of_one_sentence_is_one_write(cluster: Cluster, recorder: EventRecorder) -> None:
    for _ in range(500):
        recorder.event(POD, "Warning", "Refused", "no room")
    await settle()
    assert (cluster.only["count"], cluster.patches) == (500, [])


async def test_the_same_again_within_ten_minutes_is_counted_up(cluster: Cluster, recorder: EventRecorder) -> None:
    for _ in range(3):
        recorder.event(POD, "Warning", "Refused", "no room")
        await settle()
        cluster.now += timedelta(minutes=9)
    assert cluster.only["count"] == 3
    assert cluster.patches[-1] == {"count": 3, "lastTimestamp": "2026-01-01T12:18:00Z"}


async def test_the_same_again_later_is_a_new_event(cluster: Cluster, recorder: EventRecorder) -> None:
    for _ in range(2):
        recorder.event(POD, "Warning", "Refused", "no room")
        await settle()
        cluster.now += timedelta(minutes=11)
    assert len(cluster.events) == 2


async def test_an_event_that_the_cluster_forgot_is_made_again(cluster: Cluster, recorder: EventRecorder) -> None:
    recorder.event(POD, "Warning", "Refused", "no room")
    await settle()
    cluster.events.clear()
    cluster.now += timedelta(minutes=1)
    recorder.event(POD, "Warning", "Refused", "no room")
    await settle()
    assert cluster.only["count"] == 1


async def test_different_sentences_are_different_events(cluster: Cluster, recorder: EventRecorder) -> None:
    recorder.event(POD, "Warning", "Refused", "no room")
    recorder.event(POD, "Warning", "Refused", "no light")
    recorder.event(NODE, "Warning", "Refused", "no room")
    await settle()
    assert len(cluster.events) == 3


@pytest.mark.parametrize("failure", [Unreachable("gone"), NotLeading("no"), KubeError("?"), RuntimeError("a defect")])
async def test_a_failed_write_hurts_nobody(failure: Exception, cluster: Cluster, recorder: EventRecorder) -> None:
    cluster.failure = failure
    recorder.event(POD, "Normal", "First", "lost")
    recorder.event(POD, "Normal", "Second", "written")
    await settle()
    assert cluster.only["reason"] == "Second"


UNNAMED: dict[str, Json] = {
    "nothing": {}, "no kind": {"metadata": {"name": "x"}}, "no name": {"kind": "Pod", "metadata": {}},
    "no metadata": {"kind": "Pod", "metadata": None},
}


@pytest.mark.parametrize("what", UNNAMED)
async def test_an_event_about_nothing_is_dropped_quietly(what: str, cluster: Cluster, recorder: EventRecorder) -> None:
    recorder.event(UNNAMED[what], "Normal", "R", "m")
    await settle()
    assert cluster.events == {}


async def test_what_cannot_wait_is_dropped(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "WAITING", 10)
    recorder = EventRecorder(cluster, component="x", clock=lambda: cluster.now)
    for number in range(100):
        recorder.event(POD, "Normal", "R", f"message {number}")
    task = asyncio.create_task(recorder.run())
    await asyncio.sleep(1)
    task.cancel()
    assert [event["message"] for event in cluster.events.values()] == [f"message {number}" for number in range(10)]


async def test_writing_is_paced(cluster: Cluster, recorder: EventRecorder) -> None:
    start = asyncio.get_running_loop().time()
    for number in range(100):
        recorder.event(POD, "Normal", "R", f"message {number}")
    while recorder._waiting:
        await asyncio.sleep(0.1)
    assert asyncio.get_running_loop().time() - start == pytest.approx((100 - events.BURST) / events.PACE, abs=0.3)


async def test_a_long_message_is_cut_to_what_the_server_takes(cluster: Cluster, recorder: EventRecorder) -> None:
    recorder.event(POD, "Normal", "R", "x" * 5000)
    await settle()
    assert len(cluster.only["message"]) == 1024


async def test_a_long_name_leaves_room_for_the_suffix(cluster: Cluster, recorder: EventRecorder) -> None:
    recorder.event({"kind": "Pod", "metadata": {"name": "a" * 229 + "." + "b" * 23}}, "Normal", "R", "x")
    await settle()
    name = cluster.only["metadata"]["name"]
    assert len(name) <= 253
    assert ".." not in name
