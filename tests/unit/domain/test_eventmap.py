"""What is said of a twin, said of its virtual Pod. The golden pairs in `eventmap/` hold both; null = not mirrored."""

import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.domain.eventmap import EventRoute, build_repeat_patch, fingerprint, map_event, mirror_name, rename, trim_event
from kubeocean.domain.naming import physical_name
from kubeocean.domain.ownership import Owner
from kubeocean.kube.meta import Json
from kubeocean.kube.patch import apply_merge

CASES = sorted(Path(__file__).parent.glob("eventmap/*.input.yaml"))
ROUTE = EventRoute("lender", Owner("virtual-uid", "edge"))


def mapped(event: Json, vpod: Json) -> Json | None:
    trimmed = trim_event(event)
    return map_event(trimmed, vpod, ROUTE) if trimmed else None


def load(name: str) -> tuple[Json, Json]:
    pair = yaml.safe_load((Path(__file__).parent / "eventmap" / f"{name}.input.yaml").read_text())
    return pair["event"], pair["vpod"]


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name.split(".")[0])
def test_golden(case: Path) -> None:
    pair = yaml.safe_load(case.read_text())
    before = copy.deepcopy(pair)
    found = mapped(pair["event"], pair["vpod"])
    assert found == yaml.safe_load(case.with_name(case.name.replace("input", "output")).read_text())
    assert pair == before, "an argument was mutated"


def test_an_event_has_one_name_for_ever_and_another_event_another() -> None:
    _, vpod = load("a-repeat-keeps-times-and-count")
    assert mirror_name(vpod, "one") == mirror_name(copy.deepcopy(vpod), "one")
    assert mirror_name(vpod, "one") != mirror_name(vpod, "two")


def test_a_repeat_is_seen_and_its_patch_makes_both_say_the_same() -> None:
    event, vpod = load("a-repeat-keeps-times-and-count")
    told = mapped(event, vpod)
    repeated = mapped({**event, "count": 12, "lastTimestamp": "2026-01-01T12:09:00Z"}, vpod)
    assert told is not None
    assert repeated is not None
    assert fingerprint(told) != fingerprint(repeated)
    patched = apply_merge({**told, "metadata": {**told["metadata"], "uid": "u-1"}}, build_repeat_patch("u-1", repeated))
    assert fingerprint(patched) == fingerprint(repeated)
    assert patched["count"] == 12


def test_what_the_server_adds_is_no_news() -> None:
    event, vpod = load("what-a-kubelet-says-comes-from-the-virtual-node")
    told = mapped(event, vpod)
    assert told is not None
    assert fingerprint({**told, "eventTime": None, "series": None, "related": None}) == fingerprint(told)


NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,40}[a-z0-9])?", fullmatch=True)


@given(NAMES, NAMES, NAMES)
def test_no_name_of_ours_survives(pod: str, settings: str, namespace: str) -> None:
    vpod: Json = {
        "metadata": {"name": pod, "namespace": namespace, "uid": "v"},
        "spec": {"volumes": [{"name": "v", "configMap": {"name": settings}}]},
    }
    twin = {"name": physical_name(pod, namespace), "uid": "physical-uid"}
    copied = physical_name(settings, namespace)
    message = f'{twin["name"]}_lent({twin["uid"]}): configmap "{copied}" not found; object "lent"/"{copied}" not registered'
    said = rename(message, vpod, twin, "lent")
    assert said == f'{pod}_{namespace}(v): configmap "{settings}" not found; object "{namespace}"/"{settings}" not registered'
