"""When a new manager is steady, told from its metrics; what is said of many Pods that stay, and held against budgets."""

from dataclasses import replace

import pytest
from rich.console import Console

from kubeocean.bench.audit import WriteCount
from kubeocean.bench.percentiles import Spread
from kubeocean.bench.restart import is_steady
from kubeocean.bench.results import Floor, Lap
from kubeocean.bench.scalereport import print_scale
from kubeocean.bench.scaleresults import ManagerMemory, Neighbourhood, Restart, Scale, ScaleSetting
from kubeocean.bench.scaleverdict import scale_checks
from kubeocean.cli.bench import scale_as_json

LOOKED = 'controller_runtime_reconcile_total{controller="pods-a",result="success"} '
OTHERS = 'controller_runtime_reconcile_total{controller="nodes-a",result="success"} 50.0\n'

STEADY = {
    "all Pods of all bindings were looked at":
        (LOOKED + "60.0\n" + LOOKED.replace("pods-a", "pods-b") + '40.0\nworkqueue_depth{name="pods-a"} 0.0', True),
    "one was not": (LOOKED + "99.0", False),
    "only nodes were": (OTHERS * 2, False),
    "one waits for another look": (LOOKED + '100.0\nworkqueue_depth{name="pods-a"} 1.0', False),
    "a node is being looked at": (LOOKED + '100.0\ncontroller_runtime_active_workers{controller="nodes-a"} 1.0', False),
    "there are none yet": ("", False),
}

MIB = 2**20
CLEAN = Restart(leading=1.0, steady=15.0, cpu_seconds=None, writes=[])
MESSY = replace(CLEAN, steady=15.1, writes=[
    WriteCount("virtual", "kubeocean-manager", "patch", "pods/status", 3, 0, 1.0),
    WriteCount("physical", "kubeocean-manager", "delete", "pods", 2, 0, 1.0),
])
SCALE = Scale(
    ScaleSetting(pods=1024, foreign=1024, nodes=10, clusters=2, token=False, rest_seconds=5.0, load=0.1),
    floor=Floor(Lap(6.0, 7.0), []), ceiling=Floor(Lap(7.5, 7.7), []), lap=Lap(9.0, 14.0),
    neighbourhood=Neighbourhood(Spread(200, 900.0, 2000.0, 2500.0), Spread(20, 30.0, 80.0, 80.0)),
    cpu_creating=3.072, cpu_deleting=1.024, writes_at_rest=[], cpu_at_rest=0.5, restart=CLEAN, rolling=CLEAN,
    memory=ManagerMemory(empty=90 * MIB, foreign=93 * MIB, burst=109 * MIB, restart=109 * MIB),
)

OVER = {
    "nothing": (SCALE, []),
    "a needless write at rest": (replace(SCALE, writes_at_rest=MESSY.writes[:1]), ["our writes at rest, beside Leases"]),
    "a restart that takes long and writes": (
        replace(SCALE, rolling=MESSY),
        ["rolling restart: from leadership to steady", "rolling restart: our writes beside Leases"],
    ),
    "a manager that keeps too much of each pair": (
        replace(SCALE, memory=replace(SCALE.memory, restart=110 * MIB)),
        ["manager's memory after the restart", "memory per Pod pair, after the restart"],
    ),
    "one that keeps too much of a lender's Pods": (
        replace(SCALE, memory=ManagerMemory(80 * MIB, 84 * MIB, 90 * MIB, 90 * MIB)), ["memory per Pod of a lender's"],
    ),
    "a burst after which memory is over": (
        replace(SCALE, memory=replace(SCALE.memory, burst=110 * MIB)), ["manager's memory after the burst"],
    ),
}


@pytest.mark.parametrize("case", STEADY)
def test_a_manager_of_a_hundred_pods_is_steady_or_not_when(case: str) -> None:
    metrics, steady = STEADY[case]
    assert is_steady(metrics, 100) is steady


@pytest.mark.parametrize("case", OVER)
def test_budgets_are_kept_to_the_last_byte_and_beyond_that_are_over(case: str) -> None:
    scale, over = OVER[case]
    assert [check.what for check in scale_checks(scale) if not check.keeps_final] == over


def test_what_a_system_does_not_tell_is_held_against_nothing() -> None:
    unknown = replace(SCALE, memory=ManagerMemory(None, None, None, None), cpu_creating=None, cpu_at_rest=None)
    assert not any("memory" in check.what for check in scale_checks(unknown))
    assert "–" in said_of(unknown)


def said_of(scale: Scale) -> str:
    console = Console(record=True, width=140)
    print_scale(scale, console)
    return console.export_text()


def test_the_report_names_what_a_restart_wrote_and_deleted_and_what_pods_cost() -> None:
    scale = replace(SCALE, restart=MESSY)
    text = said_of(scale)
    assert "3 × virtual patch pods/status, 2 × physical delete pods" in text
    assert MESSY.deletes == 2
    for part in (
        "beside 1024 of the lenders'", "1.25× floor", "1.50× floor", "2.00× floor", "10.0 % of a core", "16.00 KiB",
        "3.00 KiB", "900 / 2000 ms", "30 / 80 ms",
    ):
        assert part in text, part
    per_pod = next(line for line in text.splitlines() if "CPU, ms per Pod" in line)
    assert [cell.strip() for cell in per_pod.split("│")[2:5:2]] == ["3.00", "1.00"]
    document = scale_as_json(scale)
    assert document["bytes_per_foreign"] == 3072
    assert document["ratios"]["create"] == 1.5
    assert document["ratios"]["ceiling_create"] == 1.25


def test_where_lenders_run_nothing_nothing_is_said_of_them() -> None:
    none = replace(SCALE, setting=replace(SCALE.setting, foreign=0))
    assert none.bytes_per_foreign is None
    assert "lender" not in said_of(none)
