"""The store as its readers see it, and indexes that cannot drift from what is stored."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.kube.store import Store


def pod(name: str, *, node: str = "n1", rv: int = 1, uid: str = "", namespace: str = "team-a") -> Json:
    metadata = {"name": name, "namespace": namespace, "uid": uid or f"uid-{name}", "resourceVersion": str(rv)}
    return {"metadata": metadata, "spec": {"nodeName": node}}


def node_of(obj: Json) -> str:
    return str(obj["spec"]["nodeName"])


def by_node(*, keep_raw: bool = False) -> Store[str]:
    return Store(summarise=node_of, indexers={"node": lambda _, node: [node] if node else []}, keep_raw=keep_raw)


WEB = ObjectKey("team-a", "web")


@pytest.mark.parametrize("keep_raw", [False, True])
def test_what_was_put_is_found_by_key_and_by_index(keep_raw: bool) -> None:
    store = by_node(keep_raw=keep_raw)
    entry = store.put(pod("web", rv=7))
    assert store.get(WEB) is entry
    assert (entry.key, entry.uid, entry.revision, entry.summary) == (WEB, "uid-web", 7, "n1")
    assert store.object(WEB) == entry.object() == pod("web", rv=7)
    assert store.by_index("node", "n1") == store.entries() == [entry]
    assert store.keys() == [WEB]
    assert len(store) == 1


def test_large_kinds_keep_bytes_of_exactly_their_size() -> None:
    entry = by_node(keep_raw=True).put(pod("web"))
    assert isinstance(entry.kept, bytes)
    assert entry.object() is not entry.object()
    assert entry.kept.__sizeof__() - b"".__sizeof__() == len(orjson.dumps(pod("web")))


def test_bytes_at_hand_are_kept_as_they_are() -> None:
    raw = b'{"metadata": {"name": "web"}, "told": "otherwise"}'
    assert by_node(keep_raw=True).put(pod("web"), raw).object()["told"] == "otherwise"


def test_small_kinds_share_the_dict() -> None:
    obj = pod("web")
    assert by_node().put(obj).object() is obj


def test_an_object_that_moved_is_found_at_its_new_place_only() -> None:
    store = by_node()
    store.put(pod("web", node="n1"))
    store.put(pod("web", node="n2", rv=2))
    assert store.by_index("node", "n1") == []
    assert [entry.revision for entry in store.by_index("node", "n2")] == [2]


def test_removing_returns_the_last_entry_and_forgets_it_everywhere() -> None:
    store = by_node()
    entry = store.put(pod("web"))
    assert store.remove(WEB) is entry
    assert store.remove(WEB) is None
    assert (store.get(WEB), store.object(WEB), store.by_index("node", "n1"), len(store)) == (None, None, [], 0)


def test_an_unknown_index_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError):
        by_node().by_index("zone", "a")


def test_a_summary_that_fails_changes_nothing() -> None:
    store = by_node()
    store.put(pod("web"))
    with pytest.raises(KeyError):
        store.put({"metadata": {"name": "web", "namespace": "team-a"}, "spec": {}})
    assert store.object(WEB) == pod("web")


def test_an_indexer_that_fails_changes_nothing() -> None:
    def picky(_: ObjectKey, node: str) -> list[str]:
        if node == "bad":
            raise ValueError(node)
        return [node]

    store: Store[str] = Store(summarise=node_of, indexers={"first": lambda _, node: [node], "picky": picky})
    store.put(pod("web", node="n1"))
    with pytest.raises(ValueError, match="bad"):
        store.put(pod("web", node="bad"))
    assert len(store.by_index("first", "n1")) == len(store.by_index("picky", "n1")) == 1


def test_cluster_scoped_objects_have_no_namespace_in_their_key() -> None:
    store: Store[None] = Store(summarise=lambda _: None)
    store.put({"metadata": {"name": "n1"}})
    assert store.keys() == [ObjectKey("", "n1")]


changes = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["n1", "n2", "", None])), max_size=30)


@given(changes)
def test_the_index_always_says_what_a_scan_would(history: list[tuple[str, str | None]]) -> None:
    store = by_node()
    for name, node in history:
        if node is None:
            store.remove(ObjectKey("team-a", name))
        else:
            store.put(pod(name, node=node))
    for node in ("n1", "n2"):
        assert {e.key for e in store.by_index("node", node)} == {e.key for e in store.entries() if e.summary == node}
