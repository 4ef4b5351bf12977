from __future__ import annotations

import copy
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from kubeocean.api.binding import ClusterBindingSpec, parse_binding
from kubeocean.api.model import InvalidObject, Problem, wire_name
from kubeocean.api.policy import (
    ClockTime,
    Day,
    Quantity,
    ResourceLeasingPolicySpec,
    ResourceLimit,
    TimeWindow,
    parse_policy,
)
from kubeocean.kube import quantity
from kubeocean.kube.meta import Json

WIRE_NAMES = {
    "cluster": "cluster",
    "secret_ref": "secretRef",
    "cluster_id": "clusterID",
    "physical_cluster_uid": "physicalClusterUID",
    "running_daemonset_by_default": "runningDaemonsetByDefault",
    "graceful_reclaim_period_seconds": "gracefulReclaimPeriodSeconds",
}


@pytest.mark.parametrize("name", WIRE_NAMES)
def test_wire_name(name: str) -> None:
    assert wire_name(name) == WIRE_NAMES[name]


def test_a_binding_is_read_with_its_defaults() -> None:
    spec = parse_binding({"spec": {
        "clusterID": "cls-1", "secretRef": {"name": "k", "namespace": "n"}, "mountNamespace": "worker",
    }})
    assert (spec.cluster_id, spec.secret_ref.name, spec.mount_namespace) == ("cls-1", "k", "worker")
    assert (spec.node_selector, spec.pod_priority_class_name, spec.time_zone) == (None, None, None)
    assert (spec.service_namespaces, spec.deletion_policy) == ([], "Wait")
    assert not any((
        spec.disable_node_default_taint, spec.running_daemonset_by_default, spec.direct_scheduling,
        spec.allow_privileged, spec.node_proxy,
    ))


def test_a_policy_is_read_with_its_defaults() -> None:
    assert parse_policy({"spec": {"cluster": "a"}}) == ResourceLeasingPolicySpec(
        cluster="a", node_selector=None, time_windows=[], resource_limits=[], force_reclaim=False,
        graceful_reclaim_period_seconds=0, priority=0, time_zone=None, notice_seconds=None, reclaim_timeout_seconds=300,
    )


def test_models_are_built_by_python_names_too() -> None:
    assert TimeWindow(start="08:00", end="09:00") == TimeWindow.model_validate({"start": "08:00", "end": "09:00"})
    assert ResourceLimit(resource="cpu", quantity=4, percent=50).quantity == 4


def test_a_quantity_stays_as_it_was_written() -> None:
    for written in ("1500m", "0", 0, 7):
        assert ResourceLimit(resource="cpu", quantity=written).quantity == written


def test_models_are_immutable() -> None:
    window = TimeWindow(start="08:00", end="09:00")
    with pytest.raises(ValidationError):
        window.start = "10:00"


def test_a_node_selector_stays_the_plain_dict_and_the_object_is_untouched() -> None:
    selector = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}], "future": 1}]}
    obj: Json = {"spec": {"cluster": "a", "nodeSelector": selector, "timeZone": None, "future": True}}
    before = copy.deepcopy(obj)
    assert parse_policy(obj).node_selector == selector
    assert obj == before


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(InvalidObject) as refusal:
        parse_policy({"spec": {"timeWindows": [{"start": "25:00"}], "timeZone": "Mars/Olympus"}})
    assert [problem.field for problem in refusal.value.problems] == [
        "spec.cluster", "spec.timeWindows[0].start", "spec.timeWindows[0].end", "spec.timeZone",
    ]
    assert "spec.cluster: is required; spec.timeWindows[0].start: write a time of day" in str(refusal.value)


NO_SPECS: dict[str, tuple[Json, str]] = {
    "a missing spec lacks what is required": ({}, "spec.cluster"),
    "so does a null": ({"spec": None}, "spec.cluster"),
    "a spec that is a list is refused as such": ({"spec": []}, "spec"),
}


@pytest.mark.parametrize("sentence", NO_SPECS)
def test_no_spec(sentence: str) -> None:
    obj, field = NO_SPECS[sentence]
    with pytest.raises(InvalidObject) as refusal:
        parse_policy(obj)
    assert [problem.field for problem in refusal.value.problems] == [field]


# What the API server cannot know: only this side has the list of zones.
UNKNOWN_ZONES = ("Mars/Olympus", "Europe", "Europe/Berlin/Mitte", "Asia/shanghai_", "utc+8")


@pytest.mark.parametrize("zone", UNKNOWN_ZONES)
def test_an_unknown_zone_is_refused_with_a_remedy(zone: str) -> None:
    with pytest.raises(InvalidObject) as refusal:
        parse_policy({"spec": {"cluster": "a", "timeZone": zone}})
    remedy = "write an IANA time zone such as Europe/Berlin, Asia/Shanghai or UTC"
    assert refusal.value.problems == (Problem("spec.timeZone", f"{zone!r} is no known time zone; {remedy}"),)


@given(st.text(max_size=200))
@example("a\0b")
@example("../UTC")
@example("A" * 65)
def test_any_zone_is_either_known_or_refused(zone: str) -> None:
    spec = {"clusterID": "a", "secretRef": {"name": "k", "namespace": "n"}, "mountNamespace": "w", "timeZone": zone}
    fields = {"spec.timeZone"}
    try:
        assert parse_binding({"spec": spec}).time_zone == zone
    except InvalidObject as refusal:
        fields = {problem.field for problem in refusal.problems}
    assert fields == {"spec.timeZone"}


@given(st.text(max_size=8) | st.from_regex(r"[0-9]{1,2}:[0-9]{1,2}", fullmatch=True))
@example("٠٨:٠٠")
def test_an_accepted_time_is_a_time_of_day(text: str) -> None:
    try:
        TypeAdapter[str](ClockTime).validate_python(text)
    except ValidationError:
        return
    hour, minute = text.split(":")
    assert len(text) == 5
    assert 0 <= int(hour) <= 23
    assert 0 <= int(minute) <= 59
    assert text.isascii()


@pytest.mark.parametrize("day", ["monday", "MONDAY", "Sunday", "wEdNeSdAy"])
def test_days_come_in_any_case(day: str) -> None:
    assert TypeAdapter[str](Day).validate_python(day) == day


@pytest.mark.parametrize("day", ["ſunday", "mondays", " monday", "monday\n", "mon", ""])
def test_other_days_do_not(day: str) -> None:
    with pytest.raises(ValidationError, match="full English name"):
        TypeAdapter[str](Day).validate_python(day)


WRITTEN = re.compile(r"[+]?[0-9]{0,9}\.?[0-9]{1,9}([numkMGTPE]|[KMGTPE]i|[eE][-+]?[0-9]{1,2}|)", re.ASCII)


@given(st.from_regex(WRITTEN, fullmatch=True))
@example("5.")
@example("9" * 64)
@example("1e99")
def test_quantities_are_accepted_as_written_and_can_all_be_reckoned_with(text: str) -> None:
    assert TypeAdapter[str | int](Quantity).validate_python(text) == text
    assert quantity.parse(text) >= quantity.parse("0")


@pytest.mark.parametrize("bad", [
    "", "-1", "1 Gi", "1KiB", "0x10", "1e", "1e200", "Gi", "1" * 65, -1, 1.5, True, None, [4],
])
def test_other_quantities_are_not(bad: object) -> None:
    with pytest.raises(ValidationError, match="such as 4, 500m or 8Gi"):
        TypeAdapter[str | int](Quantity).validate_python(bad)


def test_a_spec_compares_by_value() -> None:
    spec = {"clusterID": "a", "secretRef": {"name": "k", "namespace": "n"}, "mountNamespace": "w"}
    assert parse_binding({"spec": spec}) == ClusterBindingSpec.model_validate(spec)
