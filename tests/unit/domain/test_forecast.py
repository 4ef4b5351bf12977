"""Who has to leave at the next edge, when, and in which order: the table a lender reads before he makes a policy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubeocean.api.binding import ClusterBindingSpec, SecretReference
from kubeocean.api.names import CLOSED_AT_ANNOTATION, OUT_OF_WINDOW_TAINT
from kubeocean.domain.forecast import Fate, forecast
from kubeocean.domain.leasing import LeaseFacts
from kubeocean.domain.policies import read_policy
from kubeocean.domain.reclaim import AT_ONCE
from kubeocean.domain.simulation import WARM_UP
from kubeocean.kube.meta import Json

BEGIN = datetime(2026, 1, 5, 12, tzinfo=UTC)  # a Monday; the window is open until 16:59
BINDING = ClusterBindingSpec(cluster_id="c", secret_ref=SecretReference(name="s", namespace="n"), mount_namespace="m")
NODE: Json = {"metadata": {"name": "node-1"}, "status": {"allocatable": {"cpu": "8", "pods": "110"}}}
HOURS = [{"start": "09:00", "end": "16:59"}]
FORCED = {"forceReclaim": True, "gracefulReclaimPeriodSeconds": 600}


def policy(**spec: Any) -> Json:
    return {"metadata": {"name": "p"}, "spec": {"cluster": "b", "timeWindows": HOURS, **spec}}


def pod(name: str, *, priority: int = 0, created: str = "2026-01-05T09:00:00Z", cpu: str = "1", **fields: Any) -> Json:
    container = {"name": "app", "resources": {"requests": {"cpu": cpu}}}
    metadata = {"name": name, "namespace": "team", "creationTimestamp": created, **fields.pop("metadata", {})}
    return {"metadata": metadata, "spec": {"priority": priority, "containers": [container], **fields.pop("spec", {})}, **fields}


def tolerating(seconds: int | None = None) -> Json:
    toleration: Json = {"key": OUT_OF_WINDOW_TAINT, "operator": "Exists"}
    return {"tolerations": [toleration if seconds is None else {**toleration, "tolerationSeconds": seconds}]}


def facts(given: Json, existing: Json | None = None) -> LeaseFacts:
    return LeaseFacts(
        physical=NODE, existing=existing, binding_name="b", binding=BINDING, policies=[read_policy(given)], foreign={},
        now=BEGIN if existing else BEGIN - WARM_UP,
    )


def told(given: Json, *pods: Json, hours: int = 24, existing: Json | None = None) -> list[str]:
    found = forecast(facts(given, existing), pods, BEGIN, BEGIN + timedelta(hours=hours))
    lines = [(f"{each.when:%a %H:%M:%S} " if each.when else "", each.pod.key.name, each.fate.name) for each in found.departures]
    return [f"{when}{name} {fate}" for when, name, fate in lines]


LEAVING: dict[str, Any] = {"metadata": {"deletionTimestamp": "2026-01-05T11:59:00Z"}}
CASES: dict[str, tuple[Json, list[Json], list[str]]] = {
    "nobody has to go without forceReclaim": (policy(), [pod("a")], ["a ALLOWED"]),
    "at once, when there is no grace": (policy(forceReclaim=True), [pod("a")], ["Mon 17:00:00 a EVICTED"]),
    "after the grace, when there is one": (policy(**FORCED), [pod("a")], ["Mon 17:10:00 a EVICTED"]),
    "the lowest priority first, of equals the youngest": (
        policy(**FORCED),
        [pod("dear", priority=9), pod("old", created="2026-01-01T09:00:00Z"), pod("young"), pod("cheap", priority=-1)],
        ["Mon 17:10:00 cheap EVICTED", "Mon 17:10:00 young EVICTED", "Mon 17:10:00 old EVICTED", "Mon 17:10:00 dear EVICTED"]),
    "who tolerates the taint stays": (
        policy(**FORCED), [pod("a", spec=tolerating()), pod("b")], ["Mon 17:10:00 b EVICTED", "a TOLERATES"]),
    "who tolerates it for a while goes after that": (
        policy(**FORCED), [pod("a", spec=tolerating(900))], ["Mon 17:25:00 a EXPIRES"]),
    "without a timeout for evictions the taint deletes at once": (
        policy(forceReclaim=True, reclaimTimeoutSeconds=0), [pod("a")], ["Mon 17:00:00 a DELETED"]),
    "who is leaving is not asked": (policy(**FORCED), [pod("a", **LEAVING)], ["a LEAVING"]),
    "who has finished does not count": (policy(**FORCED), [pod("a", status={"phase": "Succeeded"})], []),
    "an open end evicts nobody": ({**policy(**FORCED, timeWindows=[])}, [pod("a")], []),
    "a grace that lasts until the window opens again spares everybody": (
        policy(forceReclaim=True, gracefulReclaimPeriodSeconds=17 * 3600), [pod("a")], ["a SPARED"]),
    "a closing beyond the time asked is told as such": (
        policy(forceReclaim=True, gracefulReclaimPeriodSeconds=8 * 3600), [pod("a")], ["a LATER"]),
    "a limit that leaves too little evicts just enough, the window being open": (
        policy(**FORCED, timeWindows=[], resourceLimits=[{"resource": "cpu", "quantity": "1"}]),
        [pod("a", priority=1), pod("b"), pod("c")], ["Mon 12:10:00 c OVERHANG", "Mon 12:10:00 b OVERHANG"]),
    "a node that is not leased any more is emptied, whoever tolerates what": (
        policy(cluster="another"), [pod("a", spec=tolerating())], ["Mon 12:00:00 a UNLEASED"]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_next_closing(case: str) -> None:
    given, pods, expected = CASES[case]
    assert told(given, *pods, hours=12 if "beyond" in case else 24) == expected


def test_large_nodes_are_emptied_at_the_pace_of_the_syncer() -> None:
    numbers = range(AT_ONCE * 2 + 1)
    pods = [pod(f"pod-{number:02}", created=f"2026-01-05T09:00:{59 - number:02}Z", cpu="0") for number in numbers]
    lines = told(policy(forceReclaim=True), *pods)
    assert [line.split()[1] for line in lines] == ["17:00:00"] * AT_ONCE + ["17:00:01"] * AT_ONCE + ["17:00:02"]
    assert [line.split()[2] for line in lines] == [f"pod-{number:02}" for number in numbers]


def test_it_says_when_the_window_shuts_and_until_when_budgets_count() -> None:
    found = forecast(facts(policy(**FORCED, reclaimTimeoutSeconds=120)), [pod("a")], BEGIN, BEGIN + timedelta(days=1))
    assert found.closes_at == datetime(2026, 1, 5, 17, tzinfo=UTC)
    assert found.deadline == datetime(2026, 1, 5, 17, 12, tzinfo=UTC)


def test_a_node_that_is_shut_already_counts_from_when_it_was() -> None:
    shut = policy(**FORCED, timeWindows=[{"start": "20:00", "end": "21:00"}])
    vnode: Json = {"metadata": {"name": "v", "annotations": {CLOSED_AT_ANNOTATION: "2026-01-05T11:55:00Z"}}}
    assert told(shut, pod("a"), existing=vnode) == ["Mon 12:05:00 a EVICTED"]


def test_every_fate_has_words_of_its_own() -> None:
    assert len({fate.value for fate in Fate}) == len(Fate)
