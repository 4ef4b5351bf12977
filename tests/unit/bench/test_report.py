import io
import json

from rich.console import Console

from kubeocean.bench.audit import WriteCount
from kubeocean.bench.report import print_report
from kubeocean.bench.results import Report
from kubeocean.cli.bench import as_json


def printed(report: Report) -> str:
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=140))
    return stream.getvalue()


def test_the_conditions_stand_with_the_figures(report: Report) -> None:
    text = printed(report)
    assert "launcher inprocess, directScheduling true" in text
    assert "Without a ServiceAccount token" in text
    assert "With a ServiceAccount token" in text


def test_ratios_writes_latencies_and_verdict_are_shown(report: Report) -> None:
    text = printed(report)
    for expected in (
        "1.25× floor", "2.00× direct", "1.20× ceiling", "patch pods/status", "twin Running → mirrored", "4.00 ms of CPU",
        "1.00× before",
    ):
        assert expected in text
    assert "on its way" in text


def test_rare_writes_do_not_crowd_the_table(report: Report) -> None:
    rare = WriteCount("virtual", "kube-controller-manager", "create", "events", 1, 0, 1.0)
    report.variants[0].federated.create_phase.writes.append(rare)
    assert "kube-controller-manager" not in printed(report)


def test_json_holds_every_figure_and_what_follows_from_it(report: Report) -> None:
    document = json.loads(json.dumps(as_json(report)))
    first = document["variants"][0]
    assert first["federated"]["lap"] == {"create": 5.0, "delete": 3.0}
    assert first["ratios"]["create"] == 1.25
    assert first["checks"][0]["keeps_final"] is True
    assert first["federated"]["quiet"]["pipeline"]["bound_to_twin"]["p99"] == 20.0
    assert document["setting"]["launcher"] == "inprocess"
    assert document["doubts"] == []
