"""The benchmark measures all it promises. How fast anything was is no test's business; how often we wrote is."""

import sys
from pathlib import Path

import pytest

from kubeocean.bench.results import Federated, Report, Variant
from kubeocean.bench.rig import RigSpec
from kubeocean.bench.run import BurstSpec, measure_burst
from kubeocean.bench.verdict import checks, compare
from kubeocean.sandbox.assets import Assets
from kubeocean.sandbox.progress import LineProgress

PODS, NODES = 20, 4


@pytest.mark.timeout(400)
async def test_a_small_burst_gives_every_figure_and_leaves_nothing_behind(assets: Assets, tmp_path: Path) -> None:
    said: list[str] = []
    rig = RigSpec(clusters=2, nodes=NODES, root=tmp_path)
    spec = BurstSpec(pods=PODS, quiet_seconds=1.0, profile=tmp_path / "profile", rig=rig)
    report = await measure_burst(spec, LineProgress(said.append))
    assert (report.setting.nodes, report.setting.clusters) == (NODES, 2)
    assert [variant.token for variant in report.variants] == [False, True]
    assert report.hotspots
    for variant in report.variants:
        assert_complete(variant)
        assert_writes_within_budget(variant)
    assert_the_floor_is_ours_alone(report)
    assert_the_ceiling_has_the_rigs_part(report)
    assert names_in(tmp_path) == ["profile"]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_complete(variant: Variant) -> None:
    ratios, federated = compare(variant), variant.federated
    assert min(ratios.create, ratios.delete, ratios.floor_create, ratios.floor_delete) > 0
    assert len(variant.baseline.floor.rounds) == len(variant.floor_after.rounds) == 3
    assert len(variant.baseline.ceiling.rounds) == 3
    assert_every_station(federated)
    assert federated.quiet is not None
    observed = federated.quiet.observed
    assert observed.bound_to_twin is not None
    assert observed.running_to_mirrored is not None
    if sys.platform == "linux":
        assert federated.memory is not None
        assert federated.memory.peak >= federated.memory.before > 0
        assert federated.manager_cpu_per_pod
        assert federated.create_phase.cpu["manager"] > 0


def assert_every_station(federated: Federated) -> None:
    assert federated.quiet is not None
    for pipeline, pods in ((federated.pipeline, PODS), (federated.quiet.pipeline, 10)):
        for spread in (
            pipeline.created_to_bound, pipeline.bound_to_twin, pipeline.twin_to_running, pipeline.running_to_mirrored,
        ):
            assert spread is not None
            assert spread.count == pods


def assert_writes_within_budget(variant: Variant) -> None:
    writes = [check for check in checks(variant, PODS) if check.unit == "writes"]
    assert len(writes) == 2
    over = [f"{check.what}: {check.value} > {check.now}" for check in writes if not check.keeps_now]
    phases = (variant.federated.create_phase, variant.federated.delete_phase)
    ours = [f"{each.count} × {each.side} {each.verb} {each.resource}, {each.failed} refused"
            for phase in phases for each in phase.writes if each.ours]
    assert not over, (over, ours)


def assert_the_floor_is_ours_alone(report: Report) -> None:
    """Nobody else may touch the floor's Pods, or it would be no floor; and of each write there is exactly one."""
    for variant in report.variants:
        pods = [each for each in variant.baseline.floor_phase.writes if each.resource.startswith("pods")]
        assert {each.program for each in pods} == {"kubeocean-bench"}
        assert {(each.side, each.verb, each.resource, each.count // 3 // PODS, each.failed) for each in pods} == {
            ("virtual", "create", "pods", 1, 0), ("virtual", "create", "pods/binding", 1, 0),
            ("virtual", "patch", "pods/status", 1, 0), ("virtual", "delete", "pods", 2, 0),
            ("physical", "create", "pods", 1, 0), ("physical", "patch", "pods/status", 1, 0),
            ("physical", "delete", "pods", 2, 0),
        }


def assert_the_ceiling_has_the_rigs_part(report: Report) -> None:
    """The writes of a federated lap, with the bench in Kubeocean's place."""
    for variant in report.variants:
        made = {
            (each.program, each.side, each.verb, each.resource): each.count // 3 // PODS
            for each in variant.baseline.ceiling_phase.writes
        }
        expected = {
            ("kube-scheduler", "virtual", "create", "pods/binding"): 1, ("kube-scheduler", "virtual", "create", "events"): 1,
            ("kubeocean-bench", "virtual", "create", "pods"): 1, ("kubeocean-bench", "virtual", "patch", "pods/status"): 1,
            ("kubeocean-bench", "virtual", "delete", "pods"): 2, ("kubeocean-bench", "physical", "create", "pods"): 1,
            ("kubeocean-bench", "physical", "delete", "pods"): 1, ("kwok", "physical", "patch", "pods/status"): 1,
        }
        with_token = {
            ("kubeocean-bench", "virtual", "create", "serviceaccounts/token"): 1,
            ("kubeocean-bench", "physical", "create", "secrets"): 1, ("kubeocean-bench", "physical", "delete", "secrets"): 1,
        }
        assert {key: made.get(key) for key in expected} == expected
        assert {key: made.get(key, 0) for key in with_token} == {key: int(variant.token) for key in with_token}
