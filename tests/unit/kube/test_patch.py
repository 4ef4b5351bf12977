"""Golden pairs for the strategic patches in patches/; the laws of all of them as properties."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.kube.meta import Json
from kubeocean.kube.patch import apply_merge, diff_merge, diff_strategic, three_way_map, three_way_taints

SHARED = {"status.conditions": "type"}
OWNED = ("status.podIPs", "status.hostIPs")

keys = st.sampled_from("abcd")
leaves = st.none() | st.integers(0, 2) | st.text("xy", max_size=1) | st.lists(st.integers(0, 2), max_size=2)
values = st.recursive(leaves, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=5)
objects = st.dictionaries(keys, values)


def without_nulls(obj: Json) -> Json:
    present = {key: value for key, value in obj.items() if value is not None}
    return {key: without_nulls(value) if isinstance(value, dict) else value for key, value in present.items()}


MERGE_DIFFS: dict[str, tuple[Json, Json, Json | None]] = {
    "nothing differs, nothing is written": ({"a": {"b": [1]}}, {"a": {"b": [1]}}, None),
    "a removed key becomes null": ({"a": 1, "b": 2}, {"a": 1}, {"b": None}),
    "only the changed leaf of a map is sent": ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, {"a": {"c": 3}}),
    "a list is sent whole": ({"a": [1, 2]}, {"a": [1, 2, 3]}, {"a": [1, 2, 3]}),
    "a map in place of a value is sent whole": ({"a": 1}, {"a": {"b": 2}}, {"a": {"b": 2}}),
    "an emptied list is sent": ({"a": [1]}, {"a": []}, {"a": []}),
    "a new empty map is sent": ({}, {"a": {}}, {"a": {}}),
    "an emptied map loses its keys one by one": ({"a": {"b": 1}}, {"a": {}}, {"a": {"b": None}}),
    "null means absent": ({"a": None}, {"b": None}, None),
    "a removed map becomes one null": ({"a": {"b": 1}}, {}, {"a": None}),
}


@pytest.mark.parametrize("promise", MERGE_DIFFS)
def test_diff_merge(promise: str) -> None:
    old, new, expected = MERGE_DIFFS[promise]
    assert diff_merge(old, new) == expected


@given(objects, objects)
def test_a_merge_patch_applied_gives_the_new_object(old: Json, new: Json) -> None:
    merged = apply_merge(old, diff_merge(old, new) or {})
    assert without_nulls(merged) == without_nulls(new)
    assert diff_merge(merged, new) is None


@given(objects, objects)
def test_a_patch_is_none_exactly_when_both_say_the_same(old: Json, new: Json) -> None:
    assert (diff_merge(old, new) is None) == (without_nulls(old) == without_nulls(new))


def test_applying_a_merge_patch_drops_nulls_in_new_maps() -> None:
    assert apply_merge({"a": 1}, {"a": {"b": None, "c": 1}, "gone": None}) == {"a": {"c": 1}}


@pytest.mark.parametrize(
    "case", sorted(Path(__file__).parent.glob("patches/*.input.yaml")), ids=lambda path: path.name.split(".")[0]
)
def test_golden(case: Path) -> None:
    situation = yaml.safe_load(case.read_text())
    expected = yaml.safe_load(case.with_name(case.name.replace("input", "output")).read_text())
    assert diff_strategic(situation["old"], situation["new"], shared=SHARED, owned=OWNED) == expected


def apply_strategic(target: Json, change: Json, path: str = "") -> Json:
    """Apply a strategic merge patch as the API server does, with SHARED and OWNED as its merge keys."""
    merge_keys = {**SHARED, **dict.fromkeys(OWNED, "ip")}
    merged = dict(target)
    for key, value in change.items():
        here = f"{path}.{key}" if path else key
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = apply_strategic(merged.get(key) or {}, value, here)
        elif here in merge_keys:
            merged[key] = merge_lists(merged.get(key) or [], value, merge_keys[here])
        else:
            merged[key] = value
    return merged


def merge_lists(live: list[Json], change: list[Json], merge_key: str) -> list[Json]:
    if change and change[0] == {"$patch": "replace"}:
        return change[1:]
    elements = {element[merge_key]: element for element in live}
    for element in change:
        elements[element[merge_key]] = apply_merge(elements.get(element[merge_key], {}), element)
    return list(elements.values())


def unique(field: str) -> Callable[[Json], str]:
    return lambda element: str(element[field])


conditions = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from("ABC")}, optional={"status": st.booleans(), "message": keys}),
    unique_by=unique("type"), max_size=3,
)
addresses = st.lists(st.fixed_dictionaries({"ip": keys}), unique_by=unique("ip"), max_size=2)
containers = st.lists(objects, max_size=1)
statuses = {"phase": keys, "conditions": conditions, "podIPs": addresses, "containerStatuses": containers}
pods = st.fixed_dictionaries({"status": st.fixed_dictionaries({}, optional=statuses)})


@given(pods, pods)
def test_a_strategic_patch_applied_leaves_nothing_to_write_and_loses_no_condition(old: Json, new: Json) -> None:
    merged = apply_strategic(old, diff_strategic(old, new, shared=SHARED, owned=OWNED) or {})
    assert diff_strategic(merged, new, shared=SHARED, owned=OWNED) is None
    wanted = {condition["type"]: condition for condition in new["status"].get("conditions", [])}
    theirs = {condition["type"]: condition for condition in old["status"].get("conditions", [])}
    live = {condition["type"]: condition for condition in merged["status"].get("conditions", [])}
    assert live == theirs | wanted
    assert merged["status"].get("podIPs") == new["status"].get("podIPs")


@given(pods, pods)
def test_nothing_that_is_read_is_changed(old: Json, new: Json) -> None:
    before = copy.deepcopy((old, new))
    apply_merge(old, diff_strategic(old, new, shared=SHARED, owned=OWNED) or {})
    assert (old, new) == before


MAPS: dict[str, tuple[dict[str, str] | None, dict[str, str], dict[str, str], dict[str, str]]] = {
    "what a user added is kept": ({"ours": "1"}, {"ours": "1"}, {"theirs": "x"}, {"ours": "1", "theirs": "x"}),
    "what we dropped is removed": ({"ours": "1", "old": "2"}, {"ours": "1"}, {"ours": "1", "old": "2"}, {"ours": "1"}),
    "what a user removed comes back": ({"ours": "1"}, {"ours": "1"}, {}, {"ours": "1"}),
    "what a user changed is set right": ({"ours": "1"}, {"ours": "1"}, {"ours": "9"}, {"ours": "1"}),
    "without a record nothing is removed": (None, {"ours": "1"}, {"perhaps": "2"}, {"perhaps": "2", "ours": "1"}),
}


@pytest.mark.parametrize("promise", MAPS)
def test_three_way_map(promise: str) -> None:
    last, desired, live, expected = MAPS[promise]
    assert three_way_map(last, desired, live) == expected


texts = st.dictionaries(keys, st.sampled_from("12"))


@given(texts | st.none(), texts, texts)
def test_a_second_merge_of_a_map_changes_nothing(
    last: dict[str, str] | None, desired: dict[str, str], live: dict[str, str]
) -> None:
    merged = three_way_map(last, desired, live)
    assert three_way_map(desired, desired, merged) == merged
    assert merged.items() >= desired.items()
    assert all(merged[key] == live[key] for key in live.keys() - (last or {}).keys() - desired.keys())


def taint(key: str, effect: str = "NoSchedule", **more: str) -> Json:
    return {"key": key, "effect": effect, **more}


TAINTS: dict[str, tuple[list[Json] | None, list[Json], list[Json], list[Json]]] = {
    "a user's taint is kept, in its place": (
        [taint("ours")], [taint("ours")], [taint("theirs"), taint("ours")], [taint("theirs"), taint("ours")],
    ),
    "a new taint comes last": ([], [taint("ours")], [taint("theirs")], [taint("theirs"), taint("ours")]),
    "what we dropped is removed": ([taint("old")], [], [taint("old"), taint("theirs")], [taint("theirs")]),
    "the same key with another effect is another taint": (
        [taint("lease")], [taint("lease", "NoExecute")], [taint("lease")], [taint("lease", "NoExecute")],
    ),
    "a changed value is set right": ([], [taint("ours", value="1")], [taint("ours")], [taint("ours", value="1")]),
    "the time the server added is kept": (
        [taint("ours", "NoExecute")], [taint("ours", "NoExecute")], [taint("ours", "NoExecute", timeAdded="T")],
        [taint("ours", "NoExecute", timeAdded="T")],
    ),
    "an empty value is no value": ([taint("ours")], [taint("ours", value="")], [taint("ours")], [taint("ours")]),
    "without a record nothing is removed": (None, [], [taint("perhaps")], [taint("perhaps")]),
}


@pytest.mark.parametrize("promise", TAINTS)
def test_three_way_taints(promise: str) -> None:
    last, desired, live, expected = TAINTS[promise]
    assert three_way_taints(last, desired, live) == expected


taint_lists = st.lists(
    st.builds(taint, keys, st.sampled_from(["NoSchedule", "NoExecute"]), value=st.sampled_from("12")),
    unique_by=lambda each: (each["key"], each["effect"]), max_size=4,
)


@given(taint_lists, taint_lists, taint_lists)
def test_a_second_merge_of_taints_changes_nothing(last: list[Json], desired: list[Json], live: list[Json]) -> None:
    merged = three_way_taints(last, desired, live)
    assert three_way_taints(desired, desired, merged) == merged
    assert all(each in merged for each in desired)
