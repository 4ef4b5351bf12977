"""What goes down after the start: which door each change takes, and what is left out when the server refuses a part."""

from typing import Any

import pytest

from kubeocean.api import names
from kubeocean.domain.podchange import asked_of, changeable_hash, expected_metadata, is_pushed
from kubeocean.domain.podpush import (
    Part,
    build_last_patch,
    build_resize_patch,
    lacks_nothing,
    may_push,
    missing_ephemeral,
)
from kubeocean.kube.meta import Json, annotations_of

ALWAYS = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}

OURS = {names.VIRTUAL_NAMESPACE_LABEL: "shop"}


def vpod(*, labels: Json | None = None, container: Json | None = None, **spec: Any) -> Json:
    main = {"name": "app", "image": "nginx:1", "resources": {"requests": {"cpu": "1"}}, **(container or {})}
    return {
        "metadata": {"name": "web", "namespace": "shop", "uid": "v-1", "labels": labels or {"app": "web"}},
        "spec": {"containers": [main, {"name": "side", "image": "envoy"}], "tolerations": [ALWAYS], **spec},
    }


def twin(of: Json | None = None, *, container: Json | None = None, **spec: Any) -> Json:
    """Return the twin that was created from `of`, with what the lender's admission has changed since."""
    of = of or vpod()
    main, *others = of["spec"]["containers"]
    annotations = {
        names.VIRTUAL_POD_NAMESPACE_ANNOTATION: "shop", names.VIRTUAL_POD_NAME_ANNOTATION: "web",
        names.VIRTUAL_POD_UID_ANNOTATION: "v-1", names.EXPECTED_METADATA_ANNOTATION: expected_metadata(of),
        names.CONTENT_HASH_ANNOTATION: changeable_hash(of),
    }
    return {
        "metadata": {"name": "web-x", "uid": "p-1", "labels": {**of["metadata"]["labels"], **OURS}, "annotations": annotations},
        "spec": {**of["spec"], "containers": [{**main, **(container or {})}, *others], **spec},
    }


def test_a_twin_that_was_just_created_lacks_nothing() -> None:
    assert is_pushed(vpod(), twin())
    assert (build_resize_patch(vpod(), twin()), build_last_patch(vpod(), twin())) == (None, None)


@pytest.mark.parametrize("live", [None, "another"])
def test_the_label_by_which_network_policies_select_a_twin_is_put_back(live: str | None) -> None:
    physical = twin()
    physical["metadata"]["labels"] = {"app": "web"} | ({names.VIRTUAL_NAMESPACE_LABEL: live} if live else {})
    assert not lacks_nothing(vpod(), physical)
    assert build_last_patch(vpod(), physical) == {"metadata": {"labels": OURS}}


MORE = {"key": "gpu", "operator": "Exists"}
SPECS: dict[str, tuple[Json, Json, Json]] = {
    "a new image is that of its container": (
        vpod(container={"image": "nginx:2"}), twin(), {"containers": [{"name": "app", "image": "nginx:2"}]},
    ),
    "so is that of an init container": (
        vpod(initContainers=[{"name": "init", "image": "b"}]), twin(vpod(initContainers=[{"name": "init", "image": "a"}])),
        {"initContainers": [{"name": "init", "image": "b"}]},
    ),
    "an image that the lender rewrote stays when another changes": (
        vpod(container={"image": "nginx:2"}),
        {**twin(), "spec": {"containers": [{"name": "app", "image": "nginx:1"}, {"name": "side", "image": "mirror/envoy"}]}},
        {"tolerations": [ALWAYS], "containers": [{"name": "app", "image": "nginx:2"}]},
    ),
    "an added toleration joins those that admission gave the twin": (
        vpod(tolerations=[ALWAYS, MORE]), twin(tolerations=[{"key": "theirs"}, ALWAYS]),
        {"tolerations": [{"key": "theirs"}, ALWAYS, MORE]},
    ),
    "of a toleration that is there only the time changes": (
        vpod(tolerations=[{**ALWAYS, "tolerationSeconds": 5}]), twin(tolerations=[MORE, ALWAYS]),
        {"tolerations": [MORE, {**ALWAYS, "tolerationSeconds": 5}]},
    ),
    "a deadline may be set": (vpod(activeDeadlineSeconds=60), twin(), {"activeDeadlineSeconds": 60}),
    "and shortened": (vpod(activeDeadlineSeconds=60), twin(activeDeadlineSeconds=90), {"activeDeadlineSeconds": 60}),
    "but a stricter one of the lender's stays": (vpod(activeDeadlineSeconds=60), twin(activeDeadlineSeconds=30), {}),
    "a negative grace may become one second": (
        vpod(terminationGracePeriodSeconds=1), twin(terminationGracePeriodSeconds=-1), {"terminationGracePeriodSeconds": 1},
    ),
    "an edited label undoes nothing that the lender did to the containers": (
        vpod(labels={"app": "shop"}), twin(container={"image": "mirror/nginx:1", "resources": {"requests": {"cpu": "4"}}}), {},
    ),
}


@pytest.mark.parametrize("case", SPECS)
def test_changes_of_the_spec(case: str) -> None:
    virtual, physical, spec = SPECS[case]
    patch = build_last_patch(virtual, physical)
    assert patch is not None
    assert patch.get("spec", {}) == spec
    assert build_resize_patch(virtual, physical) is None
    told = patch["metadata"]["annotations"][names.CONTENT_HASH_ANNOTATION]
    assert told == changeable_hash(virtual), "it travels with the last write"


def sized(**amounts: str) -> Json:
    return {"resources": {"requests": amounts}}


SIZES: dict[str, tuple[Json, Json, Json | None]] = {
    "only what differs is sent": (
        vpod(container=sized(cpu="2", memory="1Gi")), twin(vpod(container=sized(cpu="1", memory="1Gi"))),
        {"containers": [{"name": "app", "resources": {"requests": {"cpu": "2"}}}]},
    ),
    "what the lender's limit range added stays": (
        vpod(container=sized(cpu="2")), twin(container={"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "4"}}}),
        {"containers": [{"name": "app", "resources": {"requests": {"cpu": "2"}}}]},
    ),
    "a sidecar is resized like a container": (
        vpod(initContainers=[{"name": "init", **sized(cpu="2")}]),
        twin(vpod(initContainers=[{"name": "init", **sized(cpu="1")}])),
        {"initContainers": [{"name": "init", "resources": {"requests": {"cpu": "2"}}}]},
    ),
    "and so is the Pod as a whole": (
        vpod(resources={"limits": {"cpu": "2"}}), twin(vpod(resources={"limits": {"cpu": "1"}})),
        {"resources": {"limits": {"cpu": "2"}}},
    ),
    "a twin that somebody resized already needs nothing": (
        vpod(container=sized(cpu="2")), twin(container=sized(cpu="2")), None,
    ),
    "a resize of the lender's own is left alone": (vpod(labels={"app": "shop"}), twin(container=sized(cpu="4")), None),
}


@pytest.mark.parametrize("case", SIZES)
def test_resizes(case: str) -> None:
    virtual, physical, spec = SIZES[case]
    assert build_resize_patch(virtual, physical) == (spec and {"spec": spec})


def test_of_the_ephemeral_containers_those_are_missing_that_the_twin_has_not() -> None:
    virtual = vpod(ephemeralContainers=[{"name": "debug-1"}, {"name": "debug-2"}])
    assert missing_ephemeral(virtual, twin(ephemeralContainers=[{"name": "debug-1"}])) == [{"name": "debug-2"}]
    assert not is_pushed(virtual, twin())


def test_what_was_refused_is_neither_noted_nor_hashed_but_the_rest_goes_down() -> None:
    virtual = vpod(labels={"app": "shop"}, container={"image": "nginx:2", **sized(cpu="2")})
    patch = build_last_patch(virtual, twin(), {Part.RESIZE, Part.SPEC})
    assert patch is not None
    assert "spec" not in patch
    assert patch["metadata"]["labels"] == {"app": "shop"}
    assert names.CONTENT_HASH_ANNOTATION not in patch["metadata"]["annotations"]
    after = twin()
    after["metadata"] = {**after["metadata"], "labels": {"app": "shop", **OURS}, "annotations": {
        **annotations_of(after), **patch["metadata"]["annotations"],
    }}
    asked = asked_of(after)
    assert asked is not None
    assert (asked.labels, asked.images["app"], asked.resources["app"]) == (
        {"app": "shop"}, "nginx:1", {"requests": {"cpu": "1"}},
    )
    assert build_last_patch(virtual, after, {Part.RESIZE, Part.SPEC}) is None, "what is left is refused: nothing to write"
    assert build_resize_patch(virtual, after) is not None, "and still to be seen"


def test_a_change_taken_back_before_it_was_taken_leaves_nothing_to_do() -> None:
    refused = build_last_patch(vpod(container=sized(cpu="2")), twin(), {Part.RESIZE})
    assert refused is None
    assert build_last_patch(vpod(), twin()) is None


@pytest.mark.parametrize("side", ["virtual", "physical"])
def test_nothing_is_pushed_to_a_pod_on_its_way_out(side: str) -> None:
    pods = {"virtual": vpod(), "physical": twin()}
    assert may_push(*pods.values())
    pods[side]["metadata"] = {**pods[side]["metadata"], "deletionTimestamp": "2026-01-01T12:00:00Z"}
    assert not may_push(*pods.values())
