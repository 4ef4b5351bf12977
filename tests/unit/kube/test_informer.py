"""What an informer promises to those who read it. The reflector's side is played by hand: no server, no time."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from structlog.testing import capture_logs

from kubeocean.kube.informer import Informer
from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.kube.reflector import Listed
from kubeocean.kube.resources import PODS, Resource
from kubeocean.kube.store import Entry


class Nowhere:
    """A client that is never called."""

    cluster = "c1"

    def stream(self, path: str, params: dict[str, str], /) -> AbstractAsyncContextManager[asyncio.StreamReader]:
        raise AssertionError(path)

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> Listed:
        raise AssertionError(resource)


def pod(name: str, rv: int, *, uid: str = "", phase: str = "Running") -> Json:
    metadata = {"name": name, "namespace": "a", "uid": uid or f"uid-{name}", "resourceVersion": str(rv)}
    return {"metadata": {**metadata, "managedFields": []}, "status": {"phase": phase}}


def phase_of(obj: Json) -> str:
    return str(obj["status"]["phase"])


def informer(
    *, label_selector: str = "", selected_for_life: bool = False, transform: Callable[[Json], Json | None] | None = None,
    summarise: Callable[[Json], str] = phase_of,
) -> Informer[str]:
    return Informer(
        Nowhere(), PODS, label_selector=label_selector, selected_for_life=selected_for_life, transform=transform,
        summarise=summarise,
    )


def synced(
    *objects: Json, revision: int = 10, label_selector: str = "", selected_for_life: bool = False
) -> Informer[str]:
    started = informer(label_selector=label_selector, selected_for_life=selected_for_life)
    relist(started, *objects, revision=revision)
    return started


def relist(target: Informer[str], *objects: Json, revision: int) -> None:
    target.list_begins()
    for obj in objects:
        target.put(obj)
    target.list_ends(revision)


class Diary:
    """A handler that writes changes as `name old>new`."""

    def __init__(self, target: Informer[str]) -> None:
        self.lines: list[str] = []
        target.add_handler(self)

    def __call__(self, old: Entry[str] | None, new: Entry[str] | None) -> None:
        entry = new or old
        assert entry is not None
        self.lines.append(f"{entry.key.name} {old.revision if old else ''}>{new.revision if new else ''}")


def test_managed_fields_never_get_in() -> None:
    target = synced(pod("web", 5))
    assert "managedFields" not in (target.store.object(ObjectKey("a", "web")) or {})["metadata"]


def test_handlers_hear_of_additions_changes_and_ends() -> None:
    target = informer()
    diary = Diary(target)
    relist(target, pod("web", 5), revision=10)
    target.put(pod("web", 11))
    target.delete(pod("web", 12))
    assert diary.lines == ["web >5", "web 5>11", "web 11>"]


def test_a_late_handler_hears_of_all_that_is_there() -> None:
    assert Diary(synced(pod("a", 1), pod("b", 2))).lines == ["a >1", "b >2"]


def test_a_relist_tells_the_differences_only() -> None:
    target = synced(pod("same", 1), pod("changed", 2), pod("gone", 3))
    diary = Diary(target)
    diary.lines.clear()
    relist(target, pod("same", 1), pod("changed", 20), pod("new", 21), revision=30)
    assert diary.lines == ["changed 2>20", "new >21", "gone 3>"]


def test_an_object_recreated_in_a_gap_is_told_with_both_uids() -> None:
    target = synced(pod("web", 1, uid="first"))
    seen: list[tuple[str, str]] = []
    target.add_handler(lambda old, new: seen.append((old.uid if old else "", new.uid if new else "")))
    relist(target, pod("web", 20, uid="second"), revision=30)
    assert seen == [("", "first"), ("first", "second")]


def test_a_late_end_of_a_former_object_does_not_take_its_successor() -> None:
    target = synced(pod("web", 20, uid="second"), revision=30)
    target.delete(pod("web", 19, uid="first"))
    assert len(target.store) == 1
    assert target.was_deleted("first")


def test_a_handler_that_fails_harms_nobody() -> None:
    target = informer()

    def broken(old: Entry[str] | None, new: Entry[str] | None) -> None:
        raise RuntimeError("bug")

    target.add_handler(broken)
    diary = Diary(target)
    with capture_logs() as logs:
        relist(target, pod("web", 5), revision=10)
    assert diary.lines == ["web >5"]
    assert [entry["event"] for entry in logs] == ["handler failed"]


def test_what_the_transform_drops_is_not_there_but_counts_as_seen() -> None:
    target = informer(transform=lambda obj: obj if phase_of(obj) == "Running" else None)
    diary = Diary(target)
    relist(target, pod("done", 4, phase="Succeeded"), pod("web", 5), revision=10)
    target.put(pod("web", 11, phase="Succeeded"))
    assert diary.lines == ["web >5", "web 5>"]
    assert target.passed(11)
    assert not target.was_deleted("uid-web")
    target.delete(pod("web", 12, phase="Succeeded"))
    assert target.was_deleted("uid-web")


def test_a_summary_that_fails_keeps_what_was_known() -> None:
    target = synced(pod("web", 5))
    with capture_logs() as logs:
        target.put({"metadata": pod("web", 11)["metadata"]})
    entry = target.store.get(ObjectKey("a", "web"))
    assert entry is not None
    assert entry.revision == 5
    assert target.passed(11)
    assert [log["event"] for log in logs] == ["object cannot be taken into the store"]


async def test_wait_synced_returns_when_the_first_list_is_whole() -> None:
    target = informer()
    waiter = asyncio.create_task(target.wait_synced())
    target.list_begins()
    target.put(pod("web", 5))
    await asyncio.sleep(0)
    assert (target.has_synced, waiter.done()) == (False, False)
    target.list_ends(10)
    await waiter
    assert target.has_synced


def test_a_list_in_progress_shows_no_revision_yet() -> None:
    target = informer()
    target.list_begins()
    target.put(pod("web", 50))
    assert not target.passed(1)
    target.list_ends(60)
    assert target.passed(60)
    assert not target.passed(61)


def test_a_restored_server_sets_the_revision_back() -> None:
    target = synced(pod("web", 50), revision=60)
    relist(target, pod("web", 8), revision=9)
    assert target.latest_revision == 9
    assert (target.store.object(ObjectKey("a", "web")) or {})["metadata"]["resourceVersion"] == "8"


def test_callbacks_come_in_order_of_revision_and_once() -> None:
    target = synced(revision=10)
    called: list[int] = []
    for wanted in (12, 11, 15, 10):
        target.when_passed(wanted, lambda wanted=wanted: called.append(wanted))  # type: ignore[misc]  # mypy cannot infer it
    assert called == [10]
    target.put(pod("web", 12))
    assert called == [10, 11, 12]
    target.advance(20)
    target.advance(21)
    assert called == [10, 11, 12, 15]


def test_the_store_shows_the_write_before_its_callback_runs() -> None:
    target = synced(revision=10)
    seen: list[Json | None] = []
    target.when_passed(11, lambda: seen.append(target.store.object(ObjectKey("a", "web"))))
    target.put(pod("web", 11))
    assert seen[0] is not None


def test_a_callback_that_fails_harms_nobody() -> None:
    target = synced(revision=10)
    called: list[str] = []

    def broken() -> None:
        raise RuntimeError("bug")

    target.when_passed(11, broken)
    target.when_passed(11, lambda: called.append("second"))
    with capture_logs():
        target.advance(11)
    assert called == ["second"]


def test_a_handler_with_a_topic_hears_of_that_and_of_what_nobody_asks_for() -> None:
    target = Informer(Nowhere(), PODS, summarise=phase_of, topic_of=lambda phase: phase)
    relist(target, pod("before", 5, phase="Running"), pod("unheard-of", 6, phase="Odd"), revision=10)
    heard: dict[str, list[str]] = {"Running": [], "Failed": [], "": []}

    def handler(topic: str) -> Callable[[Entry[str] | None, Entry[str] | None], None]:
        return lambda old, new: heard[topic].append(entry.key.name if (entry := new or old) else "")

    handlers = {topic: handler(topic) for topic in heard}
    for topic, each in handlers.items():
        target.add_handler(each, topic)
    replayed = {topic: sorted(names) for topic, names in heard.items()}
    assert replayed == {
        "Running": ["before", "unheard-of"], "Failed": ["unheard-of"], "": ["before", "unheard-of"]
    }
    for names in heard.values():
        names.clear()
    target.put(pod("one", 11, phase="Running"))
    target.put(pod("one", 12, phase="Failed"))  # both are told of a change from one to the other
    target.put(pod("odd", 13, phase="Odd"))
    target.remove_handler(handlers["Running"])
    target.put(pod("two", 14, phase="Running"))  # nobody asks for these any more
    assert heard == {"Running": ["one", "one", "odd"], "Failed": ["one", "odd", "two"], "": ["one", "one", "odd", "two"]}


def test_deleted_on_a_whole_watch_proves_the_deletion() -> None:
    target = synced(pod("web", 5))
    target.delete(pod("web", 11))
    assert target.was_deleted("uid-web")
    assert target.dropped("uid-web")


def test_deleted_on_a_selected_watch_may_be_a_changed_label() -> None:
    target = synced(pod("web", 5), label_selector="a=b")
    target.delete(pod("web", 11))
    assert not target.was_deleted("uid-web")
    assert target.dropped("uid-web")
    target.put(pod("web", 12))
    assert not target.dropped("uid-web")


def test_deleted_on_a_watch_that_selects_for_life_proves_the_deletion() -> None:
    target = synced(pod("web", 5), label_selector="a=b", selected_for_life=True)
    target.delete(pod("web", 11))
    assert target.was_deleted("uid-web")


def test_missing_from_a_list_proves_nothing() -> None:
    target = synced(pod("web", 5))
    relist(target, revision=20)
    assert target.dropped("uid-web")
    assert not target.was_deleted("uid-web")


def test_deletions_during_a_list_are_proofs_too() -> None:
    target = informer()
    target.list_begins()
    target.put(pod("web", 5))
    target.delete(pod("web", 9))
    target.list_ends(10)
    assert target.was_deleted("uid-web")
    assert len(target.store) == 0


def test_the_end_of_a_former_object_during_a_list_leaves_its_successor() -> None:
    target = informer()
    target.list_begins()
    target.put(pod("web", 8, uid="second"))
    target.delete(pod("web", 5, uid="first"))
    target.list_ends(10)
    assert len(target.store) == 1


def test_the_memory_of_deletions_is_bounded() -> None:
    target = synced(revision=10)
    for number in range(10_000):
        target.delete(pod(f"p{number}", 11 + number))
    assert not target.was_deleted("uid-p0")
    assert target.was_deleted("uid-p9999")


@pytest.mark.parametrize("dropped", ["deleted", "missing from a list"])
def test_who_waits_for_the_end_of_a_uid_is_called(dropped: str) -> None:
    target = synced(pod("web", 5))
    called: list[str] = []
    target.when_dropped("uid-web", lambda: called.append("first"))
    if dropped == "deleted":
        target.delete(pod("web", 11))
    else:
        relist(target, revision=20)
    target.when_dropped("uid-web", lambda: called.append("late"))
    assert called == ["first", "late"]


def test_who_waits_for_an_end_hears_of_a_successor_that_a_list_named() -> None:
    target = synced(pod("web", 5))
    called: list[str] = []
    target.when_dropped("uid-web", lambda: called.append("gone"))
    relist(target, pod("web", 15, uid="another"), revision=20)
    assert called == ["gone"]
    assert target.dropped("uid-web")
    assert not target.was_deleted("uid-web"), "nobody said so"
