"""What the oracle says of a virtual node, against tables computed by hand."""

import hashlib
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.oracle.amounts import amount
from tests.oracle.judgement import Physical, Record, Verdict, View, World, differences, judge, read

Json = dict[str, Any]
NOON = datetime.fromisoformat("2026-03-28T12:00:00Z")  # a Saturday
MORNING, AFTERNOON = {"start": "06:00", "end": "11:59"}, {"start": "12:00", "end": "18:00"}
MARS: Json = {"timeZone": "Mars/Phobos"}
MINE = {"kubeocean.io/managed-by": "kubeocean", "kubeocean.io/owner": hashlib.sha256(b"uid/c1").hexdigest()[:16]}
CLOSED, FORCED = {"NoSchedule"}, {"NoSchedule", "NoExecute"}


def policy(name: str = "p", *, age: int = 0, metadata: Json | None = None, **spec: Any) -> Json:
    created = (NOON - timedelta(minutes=age)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "metadata": {"name": name, "creationTimestamp": created, **(metadata or {})}, "spec": {"cluster": "binding", **spec},
    }


def node(*, labels: Json | None = None, taints: tuple[Json, ...] = (), metadata: Json | None = None) -> Json:
    allocatable = {"cpu": "8", "memory": "32Gi", "pods": "110", "example.com/gpu": "5"}
    return {
        "metadata": {"name": "n", "labels": labels or {}, **(metadata or {})}, "spec": {"taints": list(taints)},
        "status": {"allocatable": allocatable},
    }


def pod(*, on: str = "n", labels: Json | None = None, **requests: str) -> Json:
    containers = [{"name": "main", "resources": {"requests": requests}}]
    return {"metadata": {"name": "f", "labels": labels or {}}, "spec": {"nodeName": on, "containers": containers}}


def limit(resource: str = "cpu", **most: Any) -> Json:
    return {"resourceLimits": [{"resource": resource, **most}]}


def verdict(
    *, ours: tuple[Json, ...] = (), theirs: tuple[Json, ...] = (), at: Json | None = None, pods: tuple[Json, ...] = (),
    binding: Json | None = None, now: datetime = NOON, before: Record | None = None,
) -> Verdict | None:
    bound = {"metadata": {"name": "binding"}, "spec": {"clusterID": "c1", **(binding or {})}}
    world = World("uid", [bound], list(ours), {"binding": Physical([at or node()], list(pods), list(theirs))})
    (answer,) = judge(world, now, {"vnode-c1-n": before} if before else {}).values()
    return answer


def view(answer: Verdict | None) -> View:
    assert answer is not None, "no such node"
    assert answer[0].capacity == answer[0].allocatable
    return answer[0]


GONE: dict[str, Json] = {
    "without a policy": {},
    "for another binding": {"ours": (policy(cluster="other"),)},
    "under a policy that is being deleted": {"ours": (policy(metadata={"deletionTimestamp": "2026-03-28T11:00:00Z"}),)},
    "that the policy does not select": {"ours": (policy(nodeSelector={"nodeSelectorTerms": [{}]}),)},
    "that the binding does not select": {"ours": (policy(),), "binding": {"nodeSelector": {"nodeSelectorTerms": [{}]}}},
    "that is virtual itself": {"ours": (policy(),), "at": node(labels={"type": "virtual-kubelet"})},
    "of another make": {"ours": (policy(),), "at": node(labels={"beta.kubernetes.io/instance-type": "eklet"})},
    "that is being deleted": {"ours": (policy(),), "at": node(metadata={"deletionTimestamp": "2026-03-28T11:00:00Z"})},
    "under an invalid policy alone": {"ours": (policy(**MARS),)},
    "under an invalid policy that ranks first": {"ours": (policy("q", priority=1, **MARS), policy())},
    "that the lender has an invalid word on": {"ours": (policy(),), "theirs": (policy(**MARS),)},
}


@pytest.mark.parametrize("sentence", GONE)
def test_there_is_no_virtual_node_for_one(sentence: str) -> None:
    assert verdict(**GONE[sentence]) is None


CPU: dict[str, tuple[Json, str]] = {
    "whole without limits": ({"ours": (policy(),)}, "8"),
    "half": ({"ours": (policy(**limit(percent=50)),)}, "4"),
    "a quantity": ({"ours": (policy(**limit(quantity=3)),)}, "3"),
    "the smaller of quantity and percentage": ({"ours": (policy(**limit(quantity="500m", percent=50)),)}, "500m"),
    "none of it": ({"ours": (policy(**limit(quantity=0)),)}, "0"),
    "a third, to the thousandth": ({"ours": (policy(**limit(percent=33)),), "pods": (pod(cpu="997m"),)}, "2310m"),  # of 7003m
    "what foreign Pods leave": ({"ours": (policy(),), "pods": (pod(cpu="3"), pod(cpu="500m"))}, "4500m"),
    "never less than nothing": ({"ours": (policy(),), "pods": (pod(cpu="9"),)}, "0"),
    "whole beside Pods of other nodes": ({"ours": (policy(),), "pods": (pod(on="m", cpu="3"),)}, "8"),
    "whole beside our own Pods": ({"ours": (policy(),), "pods": (pod(labels=MINE, cpu="3"),)}, "8"),
    "less beside those of another borrower": (
        {"ours": (policy(),), "pods": (pod(labels=MINE | {"kubeocean.io/owner": "another"}, cpu="3"),)}, "5",
    ),
    "what the higher priority says": ({"ours": (policy(age=9), policy("q", priority=1, **limit(quantity=1)))}, "1"),
    "what the older says": ({"ours": (policy(age=9, **limit(quantity=2)), policy("a", **limit(quantity=1)))}, "2"),
    "of two equally old what the first by name says": ({"ours": (policy("b", **limit(quantity=2)), policy("c"))}, "2"),
    "what the lender alone allows": ({"theirs": (policy(**limit(quantity=5)),)}, "5"),
    "the less of both sides": ({"ours": (policy(**limit(percent=50)),), "theirs": (policy(**limit(quantity=3)),)}, "3"),
    "the lender's word for the clusterID": ({"theirs": (policy(cluster="c1", **limit(quantity=3)),)}, "3"),
    "the lender's word for everybody": ({"theirs": (policy(cluster="*", **limit(quantity=3)),)}, "3"),
    "the lender's word for nobody in particular": ({"theirs": (policy(cluster="", **limit(quantity=3)),)}, "3"),
}


@pytest.mark.parametrize("sentence", CPU)
def test_of_eight_cpus_there_are_leased(sentence: str) -> None:
    facts, cpu = CPU[sentence]
    assert view(verdict(**facts)).allocatable["cpu"] == amount(cpu)


def test_what_no_limit_names_is_leased_whole_and_gpus_are_whole() -> None:
    leased = view(verdict(ours=(policy(**limit("example.com/gpu", percent=50)),), pods=(pod(memory="2Gi"),))).allocatable
    assert leased == {"cpu": 8, "memory": 30 * 2**30, "pods": 109, "example.com/gpu": 2}


TAINTED: dict[str, tuple[Json, set[str]]] = {
    "nothing while its window is open": ({"ours": (policy(timeWindows=[AFTERNOON]),)}, set()),
    "nothing without windows": ({"ours": (policy(forceReclaim=True),)}, set()),
    "that nothing new may come when it is shut": ({"ours": (policy(timeWindows=[MORNING]),)}, CLOSED),
    "that nobody may stay when that is forced": ({"ours": (policy(timeWindows=[MORNING], forceReclaim=True),)}, FORCED),
    "no force before the grace is over": (
        {"ours": (policy(timeWindows=[MORNING], forceReclaim=True, gracefulReclaimPeriodSeconds=60),)}, CLOSED,
    ),
    "force when the grace is over, wherever it began": (
        {
            "ours": (policy(timeWindows=[MORNING], forceReclaim=True, gracefulReclaimPeriodSeconds=60),),
            "before": Record(closed_since=NOON - timedelta(seconds=60)),
        },
        FORCED,
    ),
    "shut when the lender's window is": ({"ours": (policy(),), "theirs": (policy(timeWindows=[MORNING]),)}, CLOSED),
    "shut when the two never meet": (
        {"ours": (policy(timeWindows=[MORNING]),), "theirs": (policy(timeWindows=[AFTERNOON]),)}, CLOSED,
    ),
    "force when either side uses it": (
        {"ours": (policy(timeWindows=[MORNING]),), "theirs": (policy(forceReclaim=True),)}, FORCED,
    ),
    "the grace of the side that uses force": (
        {
            "ours": (policy(timeWindows=[MORNING], gracefulReclaimPeriodSeconds=0),),
            "theirs": (policy(forceReclaim=True, gracefulReclaimPeriodSeconds=60),),
        },
        CLOSED,
    ),
    "by the zone of the policy": ({"ours": (policy(timeWindows=[AFTERNOON], timeZone="America/New_York"),)}, CLOSED),
    "by the zone of the binding": (
        {"ours": (policy(timeWindows=[AFTERNOON]),), "binding": {"timeZone": "America/New_York"}}, CLOSED,
    ),
    "by the last valid version of an invalid policy": (
        {
            "ours": (policy(timeWindows=[AFTERNOON], **MARS),),
            "before": Record(last_valid={"borrower": ("p", policy(timeWindows=[MORNING])["spec"])}),
        },
        CLOSED,
    ),
    "shut and unforced when nothing is valid": (
        {"ours": (policy(forceReclaim=True, **MARS),), "before": Record(closed_since=NOON - timedelta(hours=1))}, CLOSED,
    ),
    "nothing of another's virtual node on the same machine": (
        {
            "ours": (policy(),),
            "at": node(taints=({"key": "kubeocean.io/out-of-time-windows", "value": "true", "effect": "NoExecute"},)),
        },
        set(),
    ),
}


@pytest.mark.parametrize("sentence", TAINTED)
def test_a_virtual_node_shows(sentence: str) -> None:
    facts, effects = TAINTED[sentence]
    assert view(verdict(**facts)).out_of_window == effects


def test_figures_stay_when_nothing_is_valid_any_more() -> None:
    shown = {"cpu": amount("3"), "pods": amount("7")}
    answer = verdict(ours=(policy(**MARS),), before=Record(shown=shown))
    assert view(answer).allocatable == shown


def test_the_last_valid_version_is_remembered_until_the_policy_goes() -> None:
    valid = policy(**limit(quantity=2))
    first = verdict(ours=(valid,))
    assert first is not None
    second = verdict(ours=(policy(**limit(quantity=7), **MARS),), before=first[1])
    assert view(second).allocatable["cpu"] == 2
    assert second is not None
    assert second[1].last_valid == {"borrower": ("p", valid["spec"])}
    third = verdict(ours=(policy("q"),), before=second[1])
    assert third is not None
    assert third[1].last_valid == {"borrower": ("q", policy("q")["spec"])}


def test_another_machine_of_the_same_name_begins_anew() -> None:
    before = Record("one", {"borrower": ("p", policy()["spec"])}, shown={"cpu": amount("3")})
    assert verdict(ours=(policy(**MARS),), at=node(metadata={"uid": "one"}), before=before) is not None
    assert verdict(ours=(policy(**MARS),), at=node(metadata={"uid": "two"}), before=before) is None


def test_a_shut_window_is_counted_from_when_it_was_found_shut_and_anew_after_it_was_open() -> None:
    shut = policy(timeWindows=[MORNING])
    first = verdict(ours=(shut,))
    assert first is not None
    second = verdict(ours=(shut,), now=NOON + timedelta(hours=1), before=first[1])
    assert second is not None
    assert second[1].closed_since == NOON
    third = verdict(ours=(policy(),), now=NOON + timedelta(hours=2), before=second[1])
    assert third is not None
    assert third[1].closed_since is None


def test_a_cordon_is_told_under_another_name() -> None:
    cordon = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    assert view(verdict(ours=(policy(),), at=node(taints=(cordon,)))).cordoned == {"NoSchedule"}


def test_a_virtual_node_is_read_as_it_shows_itself_and_compared() -> None:
    expected = {"vnode-c1-n": verdict(ours=(policy(timeWindows=[MORNING]),)), "vnode-c1-m": None}
    vnode = {
        "metadata": {"name": "vnode-c1-n"},
        "spec": {"taints": [{"key": "kubeocean.io/out-of-time-windows", "value": "true", "effect": "NoSchedule"}]},
        "status": {"capacity": node()["status"]["allocatable"], "allocatable": node()["status"]["allocatable"]},
    }
    assert differences(expected, [vnode]) == []
    assert read(vnode).out_of_window == CLOSED
    open_again = vnode | {"spec": {}}
    (text,) = differences(expected, [open_again])
    assert text.startswith("vnode-c1-n\n   oracle: cpu=8")
    (missing, extra) = differences(expected, [vnode | {"metadata": {"name": "vnode-c1-x"}}])
    assert "cluster: no such node" in missing
    assert "oracle: no such node" in extra
