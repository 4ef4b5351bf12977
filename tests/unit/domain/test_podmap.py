"""What a twin looks like. The golden pairs in `podmap/` are the specification: `pod` and `context` in, twin or refusal out."""

import base64
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.api import names
from kubeocean.domain.ownership import Owner, is_ours
from kubeocean.domain.podchange import changeable_hash
from kubeocean.domain.podfields import (
    CONTAINER,
    CONTAINER_SECURITY_CONTEXT,
    POD_SECURITY_CONTEXT,
    POD_SPEC,
    VOLUME,
    Rule,
    Treatment,
)
from kubeocean.domain.podmap import ForgedPod, PodContext, Surroundings, build_physical_pod
from kubeocean.domain.refusal import Refusal
from kubeocean.kube.meta import Json

OWNER = Owner("virtual-uid", "edge")
CONTEXT = PodContext(
    owner=OWNER, cluster_id="edge", mount_namespace="lent", physical_node="node-7", direct_scheduling=False,
    allow_privileged=False, priority_class="kubeocean-default", workload=("pod", "web-0"),
)
CASES = sorted(Path(__file__).parent.glob("podmap/*.input.yaml"))


def context(**changes: Any) -> PodContext:
    if "surroundings" in changes:
        changes["surroundings"] = Surroundings(**changes["surroundings"])
    if "workload" in changes:
        changes["workload"] = tuple(changes["workload"])
    return replace(CONTEXT, **changes)


def shown(forged: ForgedPod | Refusal) -> Json:
    """Return the outcome as YAML shows it, without the two annotations that only a machine can read."""
    if isinstance(forged, Refusal):
        return {"refusal": asdict(forged)}
    pod = plain(forged.pod)
    for annotation in (names.EXPECTED_METADATA_ANNOTATION, names.CONTENT_HASH_ANNOTATION):
        assert pod["metadata"]["annotations"].pop(annotation)
    return {"pod": pod} | ({"tokens": plain({"": [asdict(token) for token in forged.tokens]})[""]} if forged.tokens else {})


def plain(obj: Json) -> Json:
    return dict(orjson.loads(orjson.dumps(obj)))


def build(pod: Json, **changes: Any) -> ForgedPod:
    forged = build_physical_pod(pod, context(**changes))
    assert isinstance(forged, ForgedPod), forged
    return forged


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name.split(".")[0])
def test_golden(case: Path) -> None:
    situation = yaml.safe_load(case.read_text())
    before = plain(situation)
    outcome = shown(build_physical_pod(situation["pod"], context(**situation.get("context", {}))))
    assert outcome == yaml.safe_load(case.with_name(case.name.replace("input", "output")).read_text())
    assert situation == before, "the virtual Pod was mutated"


def simple_pod(**spec: Any) -> Json:
    return {
        "metadata": {"name": "web-0", "namespace": "shop", "uid": "v-1", "labels": {"app": "web"}},
        "spec": {"nodeName": "vnode-edge-node-7", "containers": [{"name": "app", "image": "nginx"}], **spec},
    }


def test_a_twin_is_ours() -> None:
    assert is_ours(build(simple_pod()).pod, OWNER)


def test_expected_metadata_is_what_the_user_wanted() -> None:
    text = build(simple_pod()).pod["metadata"]["annotations"][names.EXPECTED_METADATA_ANNOTATION]
    assert orjson.loads(base64.b64decode(text)) == {"labels": {"app": "web"}, "annotations": {}}


def test_the_hash_is_that_of_the_virtual_pod_and_ignores_the_surroundings() -> None:
    pod = simple_pod()
    hashes = [
        build(pod, **changes).pod["metadata"]["annotations"][names.CONTENT_HASH_ANNOTATION]
        for changes in ({}, {"surroundings": {"dns_server": "10.0.0.53", "api_server_host": "10.0.0.9"}})
    ]
    assert hashes == [changeable_hash(pod)] * 2


CHANGES: dict[str, tuple[Json, bool]] = {
    "an image counts as a change": ({"containers": [{"name": "app", "image": "nginx:2"}]}, True),
    "a deadline counts as a change": ({"activeDeadlineSeconds": 5}, True),
    "a toleration counts as a change": ({"tolerations": [{"operator": "Exists"}]}, True),
    "an in-place resize counts as a change": (
        {"containers": [{"name": "app", "image": "nginx", "resources": {"requests": {"cpu": "1"}}}]}, True,
    ),
    "what cannot change is not hashed": ({"dnsPolicy": "Default", "restartPolicy": "Never"}, False),
}


@pytest.mark.parametrize("case", CHANGES)
def test_changeable_hash(case: str) -> None:
    change, counts = CHANGES[case]
    assert (changeable_hash(simple_pod(**change)) != changeable_hash(simple_pod())) == counts


def test_our_own_notes_on_the_virtual_pod_are_no_change() -> None:
    noted = simple_pod()
    noted["metadata"]["annotations"] = {names.PHYSICAL_POD_UID_ANNOTATION: "p-1"}
    assert changeable_hash(noted) == changeable_hash(simple_pod())


# --- properties ------------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text("abc", max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("xyz", min_size=1, max_size=3), inner, max_size=2),
    max_leaves=4,
)
NESTED = {"lifecycle", "livenessProbe", "readinessProbe", "startupProbe", "envFrom"}  # read, so they must be sound
LISTS = {"containers", "initContainers", "volumes", "hostAliases", "tolerations", "readinessGates", "imagePullSecrets"}
BUILT = {"affinity", "nodeName", "hostAliases"}  # made by us, whatever the Pod had


def any_of(table: dict[str, Rule] | frozenset[str]) -> st.SearchStrategy[Json]:
    """Return objects with known fields that survive unread, and with fields nobody knows."""
    if isinstance(table, frozenset):
        return st.dictionaries(st.sampled_from(["future", "runAsUser", "fsGroup"]), VALUES, max_size=3)
    kept = [field for field, rule in table.items() if rule.treatment is not Treatment.REWRITE and field not in LISTS]
    return st.dictionaries(st.sampled_from([*kept, "futureField"]) | st.text("fgh", min_size=3, max_size=5), VALUES, max_size=6)


@st.composite
def pods(draw: st.DrawFn) -> Json:
    containers = [
        {
            **draw(any_of({key: rule for key, rule in CONTAINER.items() if key not in NESTED})),
            "name": f"c{index}", "image": "x", "securityContext": draw(any_of(CONTAINER_SECURITY_CONTEXT)),
            "env": [{"name": "A", "value": "1", draw(st.text("fgh", min_size=3, max_size=3)): 1}],
        }
        for index in range(draw(st.integers(1, 2)))
    ]
    spec = {
        **draw(any_of(POD_SPEC)), "nodeName": "vnode-edge-node-7", "containers": containers,
        "securityContext": draw(any_of(POD_SECURITY_CONTEXT)), "volumes": [{"name": "v", "emptyDir": draw(VALUES)}],
    }
    spec.pop("resourceClaims", None)
    return {"metadata": {"name": "web-0", "namespace": "shop", "uid": "v-1", "future": 1}, "spec": spec}


@given(pods())
def test_a_forged_pod_has_no_field_outside_the_allow_list(pod: Json) -> None:
    forged = build(pod, allow_privileged=True).pod
    allowed = {field for field, rule in POD_SPEC.items() if rule.treatment in (Treatment.KEEP, Treatment.REWRITE)}
    assert set(forged) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(forged["metadata"]) == {"name", "namespace", "labels", "annotations"}
    assert set(forged["spec"]) <= allowed | BUILT
    assert set(forged["spec"].get("securityContext", {})) <= POD_SECURITY_CONTEXT
    for container in forged["spec"]["containers"]:
        assert set(container) <= {field for field, rule in CONTAINER.items() if rule.treatment is not Treatment.REFUSE}
        assert set(container.get("securityContext", {})) <= CONTAINER_SECURITY_CONTEXT
        assert all(set(variable) <= {"name", "value", "valueFrom"} for variable in container["env"])
    assert all(set(volume) <= {"name", *VOLUME} for volume in forged["spec"]["volumes"])


@given(pods())
def test_forging_is_deterministic_and_leaves_the_virtual_pod_alone(pod: Json) -> None:
    before = orjson.dumps(pod)
    assert orjson.dumps(build(pod, allow_privileged=True).pod) == orjson.dumps(build(pod, allow_privileged=True).pod)
    assert orjson.dumps(pod) == before
