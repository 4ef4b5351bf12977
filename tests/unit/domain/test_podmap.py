"""What a twin looks like. The golden pairs in `podmap/` are the specification (how to read them: `tests/forge/pairs.py`)."""

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given

from kubeocean.api import names
from kubeocean.domain.ownership import is_ours
from kubeocean.domain.podchange import changeable_hash
from kubeocean.domain.podcontext import Surroundings
from kubeocean.domain.podfields import TABLES, Treatment
from kubeocean.domain.podmap import ForgedPod, build_physical_pod, map_ephemeral_container
from kubeocean.domain.podrefs import references_of
from kubeocean.domain.refusal import Refusal
from kubeocean.kube.meta import Json
from tests.forge import pairs
from tests.forge.drawn import CARRIED, MANY, fields_of, pods, with_unknown_fields

OWNER = pairs.CONTEXT.owner


def build(pod: Json, **changes: Any) -> ForgedPod:
    forged = build_physical_pod(pod, replace(pairs.CONTEXT, **changes))
    assert isinstance(forged, ForgedPod), forged
    return forged


@pytest.mark.parametrize("case", pairs.INPUTS, ids=pairs.title)
def test_golden(case: Path) -> None:
    situation = pairs.read(case)
    before = pairs.plain(situation)
    outcome = {"whole": pairs.USUAL} if pairs.title(case) == pairs.WHOLE else pairs.forge(situation)
    assert outcome == pairs.expected(case)
    assert situation == before, "the virtual Pod was mutated"


def test_every_row_of_the_tables_has_its_golden_pair() -> None:
    shown: set[tuple[str, str]] = set()
    for case in pairs.INPUTS:
        situation = pairs.read(case)
        shown |= {(table, field) for table, field, _ in fields_of(situation["pod"]["spec"], "PodSpec", "spec")}
        debug = situation.get("ephemeral")
        shown |= {(table, field) for table, field, _ in fields_of(debug, "EphemeralContainer", "ephemeral")}
    rows = {
        (table, field) for table, rules in TABLES.items() for field in rules
        # Rows it shares with Container are shown there.
        if table != "EphemeralContainer" or field not in TABLES["Container"]
    }
    assert rows - shown == set()


def simple_pod(**spec: Any) -> Json:
    return {
        "metadata": {"name": "web-0", "namespace": "shop", "uid": "v-1", "labels": {"app": "web"}},
        "spec": {"nodeName": "vnode-edge-node-7", "containers": [{"name": "app", "image": "nginx"}], **spec},
    }


def test_a_twin_is_ours() -> None:
    assert is_ours(build(simple_pod()).pod, OWNER)


def test_expected_metadata_is_what_the_user_wanted() -> None:
    text = build(simple_pod()).pod["metadata"]["annotations"][names.EXPECTED_METADATA_ANNOTATION]
    assert orjson.loads(base64.b64decode(text)) == {
        "labels": {"app": "web"}, "annotations": {}, "images": {"app": "nginx"}, "resources": {},
    }


def test_the_hash_is_that_of_the_virtual_pod_and_ignores_the_surroundings() -> None:
    pod = simple_pod()
    hashes = [
        build(pod, **changes).pod["metadata"]["annotations"][names.CONTENT_HASH_ANNOTATION]
        for changes in ({}, {"surroundings": Surroundings(dns_server="10.0.0.53", api_server_host="10.0.0.9")})
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
    noted["metadata"]["annotations"] = {names.PHYSICAL_POD_UID_ANNOTATION: "p-1", names.MAPPED_UID_ANNOTATION: "v-1"}
    assert changeable_hash(noted) == changeable_hash(simple_pod())


LARGE = {
    "that fit as they are and once more for the merge": (100 * 1024, True),
    "that do not": (120 * 1024, False),
}


@pytest.mark.parametrize("case", LARGE)
def test_annotations(case: str) -> None:
    size, fits = LARGE[case]
    pod = simple_pod()
    pod["metadata"]["annotations"] = {"a": "x" * size}
    forged = build_physical_pod(pod, pairs.CONTEXT)
    assert isinstance(forged, ForgedPod) == fits
    assert fits or (isinstance(forged, Refusal) and forged.reason == "AnnotationsTooLarge")


@pytest.mark.parametrize(("links", "fits"), [(True, False), (False, True)])
def test_more_services_than_an_object_has_room_for_are_refused_with_the_remedy(links: bool, fits: bool) -> None:
    services = tuple(
        {"metadata": {"name": f"service-{number}"}, "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}}
        for number in range(3000)
    )
    context = replace(pairs.CONTEXT, surroundings=Surroundings(services=services))
    forged = build_physical_pod(simple_pod(enableServiceLinks=links), context)
    assert isinstance(forged, ForgedPod) == fits
    assert fits or (isinstance(forged, Refusal) and "enableServiceLinks: false" in forged.message)


def test_a_literal_value_of_an_ephemeral_container_is_not_expanded() -> None:
    pod = simple_pod()
    pod["metadata"]["annotations"] = {names.OWNER_ANNOTATION: "$(HOME) costs $5"}
    path = f"metadata.annotations['{names.OWNER_ANNOTATION}']"
    debug = {"name": "debug", "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": path}}}]}
    mapped = map_ephemeral_container(pod, debug, pairs.CONTEXT)
    assert not isinstance(mapped, Refusal)
    assert mapped["env"][-1] == {"name": "A", "value": "$$(HOME) costs $$5"}


# --- properties ------------------------------------------------------------------------------------------------------

@MANY
@given(pods(privileged=True))
def test_a_forged_pod_has_no_field_outside_the_tables(pod: Json) -> None:
    strange = pod | {"future": 1, "spec": with_unknown_fields(pod["spec"], "PodSpec")}
    forged = build(strange, allow_privileged=True).pod
    assert set(forged) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(forged["metadata"]) == {"name", "namespace", "labels", "annotations"}
    for table, field, path in fields_of(forged["spec"], "PodSpec", "spec"):
        rule = TABLES[table].get(field)
        assert rule, f"{path} is in no table"
        assert rule.treatment in CARRIED, f"{path} is to be left behind"
    assert forged["spec"] == build(pod, allow_privileged=True).pod["spec"]


@MANY
@given(pods())
def test_what_is_kept_is_kept_and_no_name_of_the_virtual_cluster_is_left(pod: Json) -> None:
    forged = build(pod).pod
    assert not {reference.name for reference in references_of(pod)} & {reference.name for reference in references_of(forged)}
    for field, value in pod["spec"].items():
        rule = TABLES["PodSpec"][field]
        if rule.treatment is Treatment.KEEP and not rule.of:
            assert forged["spec"][field] == value
        if rule.treatment in (Treatment.DROP, Treatment.REFUSE):
            assert field not in forged["spec"]
    for mine, theirs in zip(pod["spec"]["containers"], forged["spec"]["containers"], strict=True):
        left = {field for field in mine if field not in theirs}
        assert left == set(), "a field of a container was lost"


@MANY
@given(pods())
def test_forging_is_deterministic_and_survives_reading_the_pod_again(pod: Json) -> None:
    before = orjson.dumps(pod)
    forged = build(pod)
    again = build(orjson.loads(orjson.dumps(pod, option=orjson.OPT_SORT_KEYS)))
    assert pairs.plain(forged.pod) == pairs.plain(again.pod)
    assert forged.tokens == again.tokens
    assert orjson.dumps(pod) == before
