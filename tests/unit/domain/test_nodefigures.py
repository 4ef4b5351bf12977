"""Figures of a virtual node. The golden pairs in `nodefigures/` hold Pods, twins and what the physical cluster tells at each
look; the output is the last Summary and the /metrics/resource made of it."""

import copy
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from kubeocean.domain.cpuledger import Ledger
from kubeocean.domain.figuretext import write_resource_metrics
from kubeocean.domain.nodefigures import Source, build_pod_list, build_running_pods, build_summary
from kubeocean.domain.nodepods import describe_pod
from kubeocean.domain.podfigures import moment, parse_duration
from kubeocean.kube.meta import Json
from tests.scrape.metricsserver import read_resource_metrics

CASES = sorted(Path(__file__).parent.glob("nodefigures/*.input.yaml"))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def look(case: Json) -> tuple[Json, str]:
    pods = [describe_pod(each["vpod"], each.get("twin")) for each in case["pods"]]
    ledger, summary, text = Ledger(), Json(), ""
    for told in case["looks"]:
        source = Source(
            {each["podRef"]["uid"]: each for each in told["summary"]["pods"]} if "summary" in told else None,
            {(each["metadata"]["namespace"], each["metadata"]["name"]): each for each in told["metrics"]}
            if "metrics" in told else None,
        )
        summary, ledger = build_summary(case["vnode"], pods, source, ledger, NOON)
        text = write_resource_metrics(summary, known=source.known, note="golden")
    return summary, text


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name.split(".")[0])
def test_golden(path: Path) -> None:
    case = yaml.safe_load(path.read_text())
    before = copy.deepcopy(case)
    summary, text = look(case)
    expected = yaml.safe_load(path.with_name(path.name.replace("input", "output")).read_text())
    assert summary == expected["summary"]
    assert text == expected["resource"]
    assert case == before, "an argument was mutated"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name.split(".")[0])
def test_no_physical_name_or_uid_and_nobody_elses_pod_is_told(path: Path) -> None:
    summary, text = look(yaml.safe_load(path.read_text()))
    told = f"{summary}{text}"
    for secret in ("physical-", "mount", "5d41", "77aa", "lender", "another", "kube-system", "-9c"):
        assert secret not in told, secret


def golden(name: str) -> str:
    return look(yaml.safe_load((Path(__file__).parent / "nodefigures" / f"{name}.input.yaml").read_text()))[1]


def test_metrics_server_takes_every_pod_that_was_measured_and_the_node() -> None:
    scrape = read_resource_metrics(golden("by-metrics-api-rates-become-counters"))
    assert scrape.pods.keys() == {("team", "web")}
    web = scrape.pods["team", "web"]
    assert (web["app"].cpu, web["app"].memory, web["app"].start) == (95.0, 200 * 2**20, moment("2026-01-01T10:00:05Z"))
    assert scrape.node is not None
    assert scrape.node.memory == sum(point.memory for point in web.values())


def test_metrics_server_takes_an_empty_node_for_idle_and_one_without_figures_for_unknown() -> None:
    idle = read_resource_metrics(golden("an-empty-node-uses-nothing-and-says-so")).node
    assert idle is not None
    assert (idle.cpu < 0.001, idle.memory) == (True, 1)
    unknown = read_resource_metrics(golden("without-a-source-what-is-known-is-told"))
    assert (unknown.node, unknown.pods) == (None, {})


@pytest.mark.parametrize(("text", "seconds"), [
    ("20s", 20.0), ("1m30s", 90.0), ("1h", 3600.0), ("15.25s", 15.25), ("500ms", 0.5), ("", 0.0), ("soon", 0.0), ("5 s", 0.0),
])
def test_go_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


def test_running_pods_are_those_that_run_and_tell_only_what_a_runtime_knows() -> None:
    running = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "team", "uid": "u", "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "app", "image": "busybox", "env": [{"name": "A", "value": "B"}]}], "nodeName": "n"},
        "status": {"phase": "Running"},
    }
    waiting = {**running, "status": {"phase": "Pending"}}
    assert build_running_pods([running, waiting])["items"] == [{
        "metadata": {"name": "web", "namespace": "team", "uid": "u"}, "status": {},
        "spec": {"containers": [{"name": "app", "image": "busybox", "resources": {}}]},
    }]
    listed = build_pod_list([running, waiting])
    assert (listed["kind"], len(listed["items"])) == ("PodList", 2)
    assert listed["items"][0] == {key: running[key] for key in ("metadata", "spec", "status")}
