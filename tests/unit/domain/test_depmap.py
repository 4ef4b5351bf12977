"""Copies of ConfigMaps and Secrets: the golden pairs in `depmap/`, and what makes a copy what it should be.

In a pair HASH stands for 32 hex digits and OWNER for the label of the owner.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeocean.api import names
from kubeocean.domain.depmap import (
    Step,
    build_copy,
    build_copy_patch,
    can_exist,
    decide_copy,
    digest_in,
    digest_of,
    origin_of,
    says_right,
    trim,
)
from kubeocean.domain.ownership import Owner
from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.kube.patch import apply_merge

OWNER = Owner("virtual-uid", "edge")
PAIRS = sorted((Path(__file__).parent / "depmap").glob("*.input.yaml"))


@pytest.mark.parametrize("case", PAIRS, ids=lambda case: case.name.removesuffix(".input.yaml"))
def test_golden(case: Path) -> None:
    virtual = yaml.safe_load(case.read_text())
    before = yaml.safe_load(case.read_text())
    text = yaml.safe_dump(build_copy(virtual, OWNER, "kubeocean-worker"))
    shown = re.sub(r"\b[0-9a-f]{32}\b", "HASH", text).replace(OWNER.label, "OWNER")
    assert yaml.safe_load(shown) == yaml.safe_load(case.with_name(case.name.replace("input", "output")).read_text())
    assert virtual == before, "the virtual object was mutated"


def build_config(**fields: Any) -> Json:
    metadata = {"name": "app", "namespace": "team", "uid": "v-1", "labels": {"app": "shop"}}
    return {"kind": "ConfigMap", "metadata": metadata, "data": {"color": "red"}} | fields


def build_secret(**fields: Any) -> Json:
    return {**build_config(), "kind": "Secret", "type": "Opaque"} | fields


def desired(virtual: Json, **more: str) -> Json:
    return build_copy(virtual, OWNER, "mount", more)


def stored(virtual: Json, change: Json | None = None) -> Json:
    """Return the copy as the server keeps it, after `change` by somebody."""
    server = {"metadata": {"uid": "p-1", "resourceVersion": "9", "creationTimestamp": "2026-01-01T00:00:00Z"}}
    return apply_merge(apply_merge(desired(virtual), server), change or {})


THEIRS: Json = {"metadata": {"labels": {names.OWNER_LABEL: "0123456789abcdef"}}}
DELETING: Json = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
STEPS: dict[str, tuple[Json | None, Json, Step]] = {
    "nothing there is created": (None, build_config(), Step.CREATE),
    "what is right stays": (stored(build_config()), build_config(), Step.NOTHING),
    "others' annotations stay": (
        stored(build_config(), {"metadata": {"annotations": {"lender.example/note": "x"}}}), build_config(), Step.NOTHING,
    ),
    "other data is patched": (stored(build_config()), build_config(data={"color": "blue"}), Step.PATCH),
    "edited data is patched": (stored(build_config(), {"data": {"color": "blue"}}), build_config(), Step.PATCH),
    "a hash taken off is put back": (
        stored(build_config(), {"metadata": {"annotations": {names.CONTENT_HASH_ANNOTATION: None}}}), build_config(),
        Step.PATCH,
    ),
    "it may become immutable in place": (stored(build_config()), build_config(immutable=True), Step.PATCH),
    "labels of what is immutable are patched": (
        stored(build_config(immutable=True), {"metadata": {"labels": {"app": None}}}), build_config(immutable=True), Step.PATCH,
    ),
    "data of what is immutable is replaced": (
        stored(build_config(immutable=True)), build_config(immutable=True, data={"color": "blue"}), Step.REPLACE,
    ),
    "what is immutable no more is replaced": (stored(build_config(immutable=True)), build_config(), Step.REPLACE),
    "another type is replaced": (stored(build_secret()), build_secret(type="team.example/other"), Step.REPLACE),
    "a type that is mapped alike is no change": (
        stored(build_secret()), build_secret(type="kubernetes.io/service-account-token"), Step.NOTHING,
    ),
    "a stranger's is left alone": (stored(build_config(), THEIRS), build_config(data={}), Step.CONFLICT),
    "one without labels is a stranger's": (
        {"kind": "ConfigMap", "metadata": {"name": "x", "uid": "p-1"}}, build_config(), Step.CONFLICT,
    ),
    "one on its way out is waited for": (stored(build_config(), DELETING), build_config(), Step.WAIT),
}


@pytest.mark.parametrize("sentence", STEPS)
def test_what_makes_a_copy_what_it_should_be(sentence: str) -> None:
    live, virtual, step = STEPS[sentence]
    assert decide_copy(live, desired(virtual), OWNER) is step
    if step is Step.PATCH and live is not None:
        patch = build_copy_patch(live, desired(virtual))
        assert patch is not None
        assert (patch["metadata"]["uid"], patch["metadata"]["resourceVersion"]) == ("p-1", "9")
        assert decide_copy(apply_merge(live, patch), desired(virtual), OWNER) is Step.NOTHING


def test_a_patch_takes_off_what_is_too_much_and_leaves_others_notes() -> None:
    live = stored(build_config(), {"data": {"more": "1"}, "metadata": {"labels": {"more": "1"}, "annotations": {"note": "x"}}})
    patch = build_copy_patch(live, desired(build_config()))
    assert patch == {
        "data": {"more": None}, "metadata": {"uid": "p-1", "resourceVersion": "9", "labels": {"more": None}},
    }


def test_what_is_remembered_is_enough_to_compare_and_holds_no_data() -> None:
    virtual = build_secret(data={"word": "hush"})
    virtual["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "hush"}
    remembered, copy = trim(virtual), trim(stored(virtual))
    assert "hush" not in repr((remembered, copy))
    assert digest_in(remembered) == digest_in(copy) == digest_of(virtual)
    assert says_right(copy, remembered, OWNER, {})
    assert not says_right(copy, remembered, OWNER, {"kubeocean.io/used-by-pv": "true"})
    assert says_right(trim(desired(virtual, used="true")), remembered, OWNER, {"used": "true"})
    assert digest_of(build_secret(data={"word": "shout"})) != digest_of(virtual)


@pytest.mark.parametrize("change", [
    THEIRS, DELETING, {"metadata": {"labels": {"app": None}}},
    {"metadata": {"annotations": {names.VIRTUAL_NAME_ANNOTATION: "b"}}},
])
def test_metadata_that_somebody_changed_is_not_right(change: Json) -> None:
    virtual = build_config()
    assert not says_right(trim(stored(virtual, change)), trim(virtual), OWNER, {})


def test_a_copy_says_of_what_unless_its_annotations_lie() -> None:
    copy = desired(build_config())
    assert origin_of(copy) == ObjectKey("team", "app")
    lying = apply_merge(copy, {"metadata": {"annotations": {names.VIRTUAL_NAME_ANNOTATION: "b"}}})
    bare = apply_merge(copy, {"metadata": {"annotations": None}})
    assert origin_of(lying) == origin_of(bare) == ObjectKey("", copy["metadata"]["name"])


def test_which_names_an_object_can_have() -> None:
    assert all(map(can_exist, ("a", "kube-root-ca.crt", "x" * 253)))
    assert not any(map(can_exist, ("", ".", "..", "a/b", "A", "a_b", "-a", "a..b", "x" * 254, "a\n")))
