"""When a new manager is steady, told from its metrics; and what is said of a restart."""

from dataclasses import replace

import pytest
from rich.console import Console

from kubeocean.bench.audit import WriteCount
from kubeocean.bench.report import print_scale
from kubeocean.bench.restart import Restart, is_steady
from kubeocean.bench.results import Floor, Lap
from kubeocean.bench.scale import Scale
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


@pytest.mark.parametrize("case", STEADY)
def test_a_manager_of_a_hundred_pods_is_steady_or_not_when(case: str) -> None:
    metrics, steady = STEADY[case]
    assert is_steady(metrics, 100) is steady


def test_the_report_names_what_a_restart_wrote_and_deleted_and_what_pods_cost() -> None:
    writes = [
        WriteCount("virtual", "kubeocean-manager", "patch", "pods/status", 3, 0, 1.0),
        WriteCount("physical", "kubeocean-manager", "delete", "pods", 2, 0, 1.0),
    ]
    restart = Restart(leading=1.0, steady=2.0, cpu_seconds=None, writes=writes)
    scale = Scale(
        pods=1024, foreign=512, nodes=10, clusters=2, token=False, load_before=0.1,
        floor=Floor(Lap(6.0, 7.0), []), burst_seconds=9.0, rest_seconds=5.0,
        writes_at_rest=[], cpu_at_rest=0.5, restart=restart, rolling=restart, memory_empty=2**19, memory_foreign=2**20,
        memory_after_burst=None, memory_after_restart=17 * 2**20, delete_seconds=7.0,
    )
    console = Console(record=True, width=140)
    print_scale(scale, console)
    text = console.export_text()
    assert "3 × virtual patch pods/status, 2 × physical delete pods" in text
    assert restart.deletes == 2
    assert "16.0 KiB" in text
    assert "beside 512 of the lenders'" in text
    assert "1.0 KiB" in text
    assert "1.50× floor" in text
    assert "10.0 % of a core" in text
    assert scale_as_json(scale)["bytes_per_foreign"] == 1024
    none = replace(scale, foreign=0)
    assert none.bytes_per_foreign is None
    print_scale(none, console)
    assert "lender" not in console.export_text()
