"""Labels and annotations that both sides write: whatever the order of edits and however late the caches, nobody's is lost.

The model: two servers with optimistic locking, one key per name, a user on the virtual side, a lender on the physical one, and
us, who see both through caches that lag but never go back, and whose writes carry the resourceVersion they were decided from.
"""

import copy
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeocean.api import names
from kubeocean.domain.podchange import asked_of, changeable_hash, expected_metadata, is_pushed, lifted_marks, mark_of, wishes_of
from kubeocean.domain.podlift import diff_lifted
from kubeocean.domain.podpush import build_last_patch, lacks_nothing
from kubeocean.kube.meta import Json, annotations_of, labels_of
from kubeocean.kube.patch import apply_merge

KEYS = ("app", "team", "cni/address")
VALUES = ("1", "2", "3")


def pod(uid: str, **labels: str) -> Json:
    return {
        "metadata": {
            "name": "web", "namespace": "shop", "uid": uid, "resourceVersion": "1", "labels": labels, "annotations": {},
        },
        "spec": {"containers": [{"name": "app", "image": "nginx"}]},
    }


def forged(vpod: Json) -> Json:
    """Return the twin of `vpod` as it is created."""
    twin = copy.deepcopy(vpod)
    twin["metadata"] |= {"uid": "p-1", "annotations": {
        **annotations_of(vpod), names.VIRTUAL_POD_NAMESPACE_ANNOTATION: "shop", names.VIRTUAL_POD_NAME_ANNOTATION: "web",
        names.VIRTUAL_POD_UID_ANNOTATION: "v-1", names.EXPECTED_METADATA_ANNOTATION: expected_metadata(vpod),
        names.CONTENT_HASH_ANNOTATION: changeable_hash(vpod),
    }}
    twin["metadata"]["labels"][names.VIRTUAL_NAMESPACE_LABEL] = "shop"
    return twin


@dataclass
class Server:
    """One object, all its versions, and how much of them our cache has seen."""

    versions: list[Json]
    seen: int = 0

    @property
    def live(self) -> Json:
        return self.versions[-1]

    @property
    def cached(self) -> Json:
        return self.versions[self.seen]

    def patch(self, patch: Json) -> bool:
        wanted = patch["metadata"].get("resourceVersion")
        if wanted is not None and wanted != self.live["metadata"]["resourceVersion"]:
            return False
        new = apply_merge(self.live, copy.deepcopy(patch))
        if new != self.live:
            new["metadata"]["resourceVersion"] = str(len(self.versions) + 1)
            self.versions.append(new)
        return True

    def edit(self, kind: str, key: str, value: str | None) -> None:
        self.patch({"metadata": {kind: {key: value}}})

    def catch_up(self, steps: int = 1000) -> None:
        self.seen = min(self.seen + steps, len(self.versions) - 1)


@dataclass
class World:
    virtual: Server
    physical: Server
    writes: int = 0
    users: dict[tuple[str, str], str] = field(default_factory=dict)  # what he has set
    removed: set[tuple[str, str]] = field(default_factory=set)  # by him, and not put there again by the lender since
    touched: set[tuple[str, str]] = field(default_factory=set)  # by him at any time
    lenders: dict[tuple[str, str], str | None] = field(default_factory=dict)  # his last word

    def make(self, who: str, *what: Any) -> None:
        match who:
            case "user":
                self.edit_as_user(*what)
            case "lender":
                self.physical.edit(*what)
                self.lenders[what[0], what[1]] = what[2]
                self.removed.discard((what[0], what[1]))
            case "virtual cache":
                self.virtual.catch_up(*what)
            case "physical cache":
                self.physical.catch_up(*what)
            case _:
                self.step()

    def edit_as_user(self, kind: str, key: str, value: str | None) -> None:
        if self.virtual.live["metadata"][kind].get(key) == value:
            return  # no edit, the server sees to that
        self.virtual.edit(kind, key, value)
        own = self.users.pop((kind, key), None)
        self.removed.discard((kind, key))
        if value is None:
            if own is None or (kind, key) not in self.lenders:
                self.removed.add((kind, key))  # who removes his own value has not removed the lender's
        elif lifted_marks(self.virtual.live)[kind == "annotations"].get(key) == mark_of(value):
            return  # he put back what had come up before anybody looked: the Pod is as it was
        else:
            self.users[kind, key] = value
        self.touched.add((kind, key))

    def check(self, kind: str, key: str) -> None:
        """Demand that both sides agree, on the user's word if he has one and else on the lender's."""
        up, down = (server.live["metadata"][kind].get(key) for server in (self.virtual, self.physical))
        assert up == down, f"{kind} {key}: {up} above, {down} below"
        if word := self.users.get((kind, key)):
            assert up == word, f"the user set {kind} {key} to {word}, it is {up}"
        elif (kind, key) in self.removed:
            assert up is None, f"the user removed {kind} {key}, it is {up}"
        elif (kind, key) not in self.touched:
            assert up == self.lenders.get((kind, key)), f"the lender's {kind} {key} is {up}"

    def step(self) -> bool:
        """Make one pass; returns whether it wrote, or tried to."""
        vpod, ppod = self.virtual.cached, self.physical.cached
        if lifted := diff_lifted(vpod, ppod):
            self.writes += 1
            self.virtual.patch({"metadata": {"uid": "v-1", **lifted}})
            return True
        patch = build_last_patch(vpod, ppod)
        assert (is_pushed(vpod, ppod) and lacks_nothing(vpod, ppod)) == (patch is None)
        if patch:
            self.writes += 1
            version = ppod["metadata"]["resourceVersion"]
            self.physical.patch({"metadata": {"uid": "p-1", "resourceVersion": version, **patch["metadata"]}})
            return True
        return False

    def settle(self) -> None:
        for _ in range(8):
            self.virtual.catch_up()
            self.physical.catch_up()
            if not self.step():
                return
        raise AssertionError("the two sides never come to rest")


def world(**labels: str) -> World:
    vpod = pod("v-1", **labels)
    return World(Server([vpod]), Server([forged(vpod)]))


EDITS = [*product(("user", "lender"), ("labels", "annotations"), KEYS, (*VALUES, None))]
OTHERS = [("virtual cache", 1), ("physical cache", 1), ("virtual cache", 3), ("physical cache", 3), ("pass",), ("pass",)]
MOVES: list[tuple[Any, ...]] = EDITS + OTHERS * 8  # as many of these as of edits


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES)), st.lists(st.sampled_from(MOVES), max_size=30))
def test_edits_of_both_sides_in_any_order_with_late_caches_converge_and_no_edit_of_the_user_is_lost(
    labels: dict[str, str], history: list[tuple[Any, ...]]
) -> None:
    w = world(**labels)
    w.users = {("labels", key): value for key, value in labels.items()}
    w.touched = set(w.users)
    for move in history:
        w.make(*move)
    w.settle()
    for kind, key in product(("labels", "annotations"), KEYS):
        w.check(kind, key)
    assert is_pushed(w.virtual.live, w.physical.live)
    written = w.writes
    w.settle()
    assert w.writes == written, "writes at rest"


def settled(w: World) -> tuple[Json, Json]:
    """Return the metadata of both sides at rest, without the label of our own that every twin has."""
    w.settle()
    above, below = w.virtual.live["metadata"], w.physical.live["metadata"]
    labels = dict(below["labels"])
    assert labels.pop(names.VIRTUAL_NAMESPACE_LABEL) == "shop"
    return above, {**below, "labels": labels}


def test_what_the_lender_puts_on_a_twin_comes_up_in_one_write() -> None:
    w = world(app="web")
    w.physical.edit("annotations", "cni/address", "10.1.2.3")
    above, _ = settled(w)
    assert above["annotations"]["cni/address"] == "10.1.2.3"
    assert w.writes == 1


def test_what_the_lender_removes_again_goes_and_no_note_stays() -> None:
    w = world(app="web")
    w.physical.edit("annotations", "cni/address", "10.1.2.3")
    settled(w)
    w.physical.edit("annotations", "cni/address", None)
    above, _ = settled(w)
    assert above["annotations"] == {}


def test_an_edit_of_the_user_is_one_write_below() -> None:
    w = world(app="web")
    w.virtual.edit("labels", "app", "shop")
    _, below = settled(w)
    assert below["labels"] == {"app": "shop"}
    assert w.writes == 1


def test_what_the_user_set_is_not_changed_from_below_and_is_put_right_there() -> None:
    w = world(app="web")
    w.physical.edit("labels", "app", "mine now")
    above, below = settled(w)
    assert above["labels"] == below["labels"] == {"app": "web"}


def test_what_came_up_and_the_user_removed_is_removed_below_and_comes_again_only_when_put_there_again() -> None:
    w = world(app="web")
    w.physical.edit("labels", "cni/address", "1")
    settled(w)
    w.virtual.edit("labels", "cni/address", None)
    above, below = settled(w)
    assert above["labels"] == below["labels"] == {"app": "web"}
    w.physical.edit("labels", "cni/address", "1")
    above, below = settled(w)
    assert above["labels"] == below["labels"] == {"app": "web", "cni/address": "1"}


def test_a_user_who_undoes_his_override_of_the_lenders_value_gets_that_value() -> None:
    w = world()
    w.physical.edit("labels", "team", "1")
    settled(w)
    w.virtual.edit("labels", "team", "2")
    settled(w)
    w.virtual.edit("labels", "team", "1")
    above, below = settled(w)
    assert above["labels"] == below["labels"] == {"team": "1"}


def test_a_late_cache_of_the_virtual_pod_overwrites_nothing() -> None:
    w = world()
    w.virtual.edit("labels", "team", "user")
    w.physical.edit("labels", "team", "lender")
    w.physical.catch_up()
    assert w.step(), "the virtual cache has not seen the user's edit: a write is tried"
    assert labels_of(w.virtual.live) == {"team": "user"}, "and refused for its resourceVersion"
    above, below = settled(w)
    assert above["labels"] == below["labels"] == {"team": "user"}


@pytest.mark.parametrize("note", ["", "no base64!", "eyJsYWJlbHMiOiAxfQ==", "W10="], ids=("gone", "noise", "number", "list"))
def test_a_twin_without_a_readable_note_changes_nothing_above_and_gets_a_new_one(note: str) -> None:
    w = world(app="web")
    w.physical.edit("annotations", names.EXPECTED_METADATA_ANNOTATION, note or None)
    w.physical.edit("labels", "team", "lender")
    w.physical.catch_up()
    assert diff_lifted(w.virtual.cached, w.physical.cached) == {}
    above, _ = settled(w)
    assert asked_of(w.physical.live) == wishes_of(w.virtual.versions[0])
    assert above["labels"] == {"app": "web", "team": "lender"}


@pytest.mark.parametrize("note", ["{", "[]", '{"labels": 3}'])
def test_a_note_on_the_virtual_pod_that_somebody_has_spoilt_says_nothing(note: str) -> None:
    spoilt = pod("v-1", app="web")
    spoilt["metadata"]["annotations"] = {names.LIFTED_METADATA_ANNOTATION: note}
    assert wishes_of(spoilt).labels == {"app": "web"}


def test_our_own_keys_and_kubectls_memory_travel_in_neither_direction() -> None:
    memory = "kubectl.kubernetes.io/last-applied-configuration"
    w = world(app="web")
    for server in (w.virtual, w.physical):
        server.edit("annotations", memory, "{}")
        server.edit("labels", "kubeocean.io/owner", server.live["metadata"]["uid"])
    above, below = settled(w)
    assert (above["labels"]["kubeocean.io/owner"], below["labels"]["kubeocean.io/owner"]) == ("v-1", "p-1")
    assert w.writes == 0


def test_annotations_too_large_for_the_virtual_pod_stay_below() -> None:
    w = world(app="web")
    w.virtual.edit("annotations", "mine", "x" * 200_000)
    settled(w)
    w.physical.edit("annotations", "theirs", "x" * 100_000)
    w.physical.edit("labels", "team", "lender")
    above, _ = settled(w)
    assert above["labels"]["team"] == "lender"
    assert "theirs" not in above["annotations"]


def test_what_the_downward_api_of_a_twin_reads_follows_the_virtual_labels() -> None:
    w = world(app="web")
    w.physical.edit("annotations", names.VIRTUAL_LABELS_ANNOTATION, 'app="web"')
    w.physical.edit("labels", "team", "lender")
    _, below = settled(w)
    assert below["annotations"][names.VIRTUAL_LABELS_ANNOTATION] == 'app="web"\nteam="lender"'


def test_mapping_annotations_taken_off_a_twin_are_put_back() -> None:
    w = world(app="web")
    w.physical.edit("annotations", names.VIRTUAL_POD_UID_ANNOTATION, None)
    _, below = settled(w)
    assert below["annotations"][names.VIRTUAL_POD_UID_ANNOTATION] == "v-1"
