"""Kubelet ports: one per node and address, the same for ever, whatever others do."""

import pytest

from kubeocean.clusters.kubeletports import KubeletPorts
from kubeocean.domain import naming
from kubeocean.domain.naming import proxier_port
from kubeocean.domain.vnode_diff import Expected
from kubeocean.kube.meta import Json, ObjectKey, key_of
from kubeocean.kube.store import Store

HERE, THERE = "10.0.0.9", "10.0.0.10"


def node(name: str, port: int, address: str = HERE, *, created: str = "2026-01-01T00:00:00Z", label: str = "") -> Json:
    record = Expected({"kubeocean.io/proxier_port": str(port)}, {}, []).encode()
    return {
        "metadata": {
            "name": name, "uid": name, "resourceVersion": "1", "creationTimestamp": created,
            "labels": {"kubeocean.io/proxier_port": label or str(port)},
            "annotations": {"kubeocean.io/expected-metadata": record},
        },
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }


class Cache:
    """The cache of virtual nodes, and the ports that follow it."""

    def __init__(self, *nodes: Json) -> None:
        self.store: Store[str] = Store(summarise=lambda _: "")
        self.ports, self.clashes = KubeletPorts(), list[str]()
        self.ports.subscribe(self.clashes.append)
        for each in nodes:
            self.put(each)

    def put(self, obj: Json) -> None:
        before = self.store.get(key_of(obj))
        self.ports.node_changed(before, self.store.put(obj))

    def drop(self, name: str) -> None:
        self.ports.node_changed(self.store.remove(ObjectKey("", name)), None)


@pytest.fixture(autouse=True)
def one_number_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naming, "_fnv1a", lambda data: 0)


def test_names_that_meet_on_a_number_get_the_next_ones_at_once() -> None:
    ports = Cache().ports
    assert [ports.choose(name, HERE, None) for name in ("a", "b", "a", "c")] == [15000, 15001, 15000, 15002]


def test_another_address_has_numbers_of_its_own() -> None:
    cache = Cache(node("a", 15000))
    assert cache.ports.choose("b", THERE, None) == 15000
    assert cache.ports.choose("c", HERE, None) == 15001


def test_a_port_stays_after_a_restart_whatever_is_free() -> None:
    second = node("b", 15001)
    assert Cache(second).ports.choose("b", HERE, second) == 15001


def test_an_edited_label_does_not_count() -> None:
    edited = node("a", 15000, label="4711")
    assert Cache(edited).ports.choose("a", HERE, edited) == 15000


def test_a_port_is_free_again_when_its_node_is_gone() -> None:
    cache = Cache()
    cache.ports.choose("a", HERE, None)
    cache.put(node("a", 15000))
    cache.drop("a")
    assert cache.ports.choose("b", HERE, None) == 15000


def test_of_two_that_share_a_port_the_younger_gives_way() -> None:
    old, young = node("z", 15000), node("a", 15000, created="2026-01-02T00:00:00Z")
    cache = Cache(old, young)
    assert sorted(cache.clashes) == ["a", "z"]
    assert cache.ports.choose("z", HERE, old) == 15000
    assert cache.ports.choose("a", HERE, young) == 15001


def test_whoever_moves_to_an_address_gives_way_to_who_is_there() -> None:
    there, moves = node("z", 15000, created="2026-01-02T00:00:00Z"), node("a", 15000, THERE)
    cache = Cache(there, moves)
    assert cache.clashes == []
    assert cache.ports.choose("a", HERE, moves) == 15001


def test_the_number_follows_from_the_name() -> None:
    assert Cache().ports.choose("a", HERE, None) == proxier_port("a", set())


def test_a_port_that_cannot_be_opened_is_given_up_for_the_next_one_and_those_who_care_are_woken_once() -> None:
    a = node("a", 15000)
    cache = Cache(a)
    for _ in range(2):  # it is told of again and again
        cache.ports.bar("a", (HERE, 15000))
    assert cache.clashes == ["a"]
    assert cache.ports.choose("a", HERE, a) == 15001
    assert cache.ports.choose("b", HERE, None) == 15002
    moved = node("a", 15001)
    cache.put(moved)
    assert cache.ports.choose("a", HERE, moved) == 15001
    assert cache.ports.choose("c", THERE, None) == 15000, "at another address it may be free"


def test_a_port_that_was_only_promised_can_be_given_up_too() -> None:
    cache = Cache()
    assert cache.ports.choose("a", HERE, None) == 15000
    cache.ports.bar("a", (HERE, 15000))
    assert cache.ports.choose("a", HERE, None) == 15001


def test_a_node_does_not_run_away_from_ports_for_ever() -> None:
    cache = Cache()
    for _ in range(10):
        cache.ports.bar("a", (HERE, cache.ports.choose("a", HERE, None)))
    assert cache.ports.choose("a", HERE, None) == 15003
    assert cache.clashes == ["a", "a", "a"]
