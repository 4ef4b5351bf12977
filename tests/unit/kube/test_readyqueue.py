"""Whose key is next: no key lost or doubled, news before looks, tenants in turn. Against a slow and obvious model."""

from collections.abc import Iterable
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from kubeocean.kube.readyqueue import LOW_SHARE, FairQueue, Fifo


class Key(NamedTuple):
    namespace: str
    name: str


def fair(*keys: str) -> FairQueue[str]:
    """Return a queue whose tenants are the first letters."""
    queue: FairQueue[str] = FairQueue(lambda key: key[0])
    for key in keys:
        queue.push(key, low=False)
    return queue


def drained(queue: FairQueue[str] | Fifo[str]) -> list[str]:
    return [queue.pop() for _ in range(len(queue))]


def test_a_fifo_knows_neither_tenants_nor_priorities() -> None:
    queue: Fifo[str] = Fifo()
    queue.push("b1", low=True)
    queue.push("a1")
    queue.raise_up("a1")
    assert drained(queue) == ["b1", "a1"]


def test_tenants_take_turns_and_each_ones_keys_keep_their_order() -> None:
    assert drained(fair("a1", "a2", "a3", "b1", "c1", "b2")) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_a_tenant_that_comes_late_waits_for_one_key_of_each_other() -> None:
    queue = fair(*(f"a{number}" for number in range(5000)))
    assert queue.pop() == "a0"
    queue.push("b0", low=False)
    assert [queue.pop(), queue.pop(), queue.pop()] == ["a1", "b0", "a2"]
    assert len(queue) == 4997


def test_low_keys_come_when_there_are_no_others() -> None:
    queue = fair()
    queue.push("a-low", low=True)
    queue.push("b", low=False)
    assert queue.pop() == "b"
    queue.push("c", low=False)
    assert drained(queue) == ["c", "a-low"]


def test_low_keys_have_their_share_of_a_queue_that_never_ends() -> None:
    queue = fair(*(f"a{number}" for number in range(500)))
    for number in range(4):
        queue.push(f"b{number}", low=True)
    taken = drained(queue)
    assert [taken.index(f"b{number}") for number in range(4)] == [(LOW_SHARE + 1) * turn - 1 for turn in range(1, 5)]


def test_a_low_key_that_is_raised_comes_with_the_others_and_once() -> None:
    queue = fair()
    for key in ("a1", "a2", "b1"):
        queue.push(key, low=True)
    queue.raise_up("a2")
    assert drained(queue) == ["a2", "a1", "b1"]


def test_raising_a_tenants_only_key_leaves_no_turn_behind() -> None:
    queue = fair()
    for key in ("a1", "b1"):
        queue.push(key, low=True)
    queue.raise_up("a1")
    for key in ("a2", "a3", "b2"):
        queue.push(key, low=True)
    assert drained(queue) == ["a1", "b1", "a2", "b2", "a3"]


class Model:
    """The same promises in lists: who has waited longest for a turn is next."""

    def __init__(self) -> None:
        self.keys: dict[bool, list[Key]] = {False: [], True: []}
        self.turns: dict[bool, list[str]] = {False: [], True: []}
        self.passed = 0  # high keys taken while the next low one waited

    def push(self, key: Key, low: bool) -> None:
        self.keys[low].append(key)
        if key.namespace not in self.turns[low]:
            self.turns[low].append(key.namespace)

    def leave(self, key: Key, low: bool) -> None:
        self.keys[low].remove(key)
        if not any(other.namespace == key.namespace for other in self.keys[low]):
            self.turns[low].remove(key.namespace)

    def pop(self) -> Key:
        low = not self.keys[False] or (bool(self.keys[True]) and self.passed == LOW_SHARE)
        self.passed = 0 if low or not self.keys[True] else self.passed + 1
        tenant = self.turns[low][0]
        key = next(key for key in self.keys[low] if key.namespace == tenant)
        self.turns[low].append(self.turns[low].pop(0))
        self.leave(key, low)
        return key

    def holds(self, low: bool) -> Iterable[Key]:
        return self.keys[low]


keys = st.builds(Key, st.sampled_from(["a", "b", "c"]), st.sampled_from(["1", "2", "3", "4"]))
steps = st.lists(st.tuples(st.sampled_from(["high", "low", "raise", "pop"]), keys), max_size=200)


@given(steps)
def test_whatever_is_pushed_raised_and_taken_the_order_is_that_of_the_model(history: list[tuple[str, Key]]) -> None:
    queue: FairQueue[Key] = FairQueue(lambda key: key.namespace)
    model = Model()
    taken: list[Key] = []
    pushed: list[Key] = []
    for action, key in history:
        waiting = {*model.holds(False), *model.holds(True)}
        if action in ("high", "low") and key not in waiting:
            queue.push(key, low=action == "low")
            model.push(key, action == "low")
            pushed.append(key)
        elif action == "raise" and key in model.holds(True):
            queue.raise_up(key)
            model.leave(key, True)
            model.push(key, False)
        elif action == "pop" and waiting:
            taken.append(queue.pop())
            assert taken[-1] == model.pop()
        assert len(queue) == len(model.keys[False]) + len(model.keys[True])
    while len(queue):
        taken.append(queue.pop())
        assert taken[-1] == model.pop()
    assert sorted(taken) == sorted(pushed)  # none lost, none doubled
