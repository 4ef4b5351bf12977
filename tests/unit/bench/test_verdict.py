from dataclasses import replace

import pytest

from kubeocean.bench.results import Floor, Lap, Report, Variant
from kubeocean.bench.verdict import Check, checks, compare, doubts, lap_cpu, life_writes

PODS = 100


def found(variant: Variant) -> dict[str, Check]:
    return {check.what: check for check in checks(variant, PODS)}


def federated(variant: Variant, **changed: object) -> Variant:
    return replace(variant, federated=replace(variant.federated, **changed))  # type: ignore[arg-type]  # by field name


def test_ratios_compare_within_one_run(report: Report) -> None:
    ratios = compare(report.variants[0])
    assert (ratios.create, ratios.delete) == (1.25, 1.5)
    assert (ratios.floor_create, ratios.floor_delete) == (2.0, 2.0)


def test_the_floor_is_midway_between_the_one_before_and_the_one_after(variant: Variant) -> None:
    slower = replace(variant, floor_after=Floor(Lap(6.0, 4.0), []))
    ratios = compare(slower)
    assert (ratios.create, ratios.delete) == (1.0, 1.0)
    assert (ratios.floor_create, ratios.floor_delete) == (2.0, 2.0), "direct was measured beside the floor before"


def test_the_cpu_of_a_lap_is_compared_with_that_of_one_round(variant: Variant) -> None:
    assert lap_cpu(variant.federated) == 3.0
    assert compare(variant).cpu == 4.0  # two rounds of the floor took 1.5 s


def test_without_cpu_times_there_is_no_ratio(variant: Variant) -> None:
    unknown = replace(variant.baseline.floor_phase, cpu={"etcd": 0.0})
    assert compare(replace(variant, baseline=replace(variant.baseline, floor_phase=unknown))).cpu == 0.0


def test_what_the_rig_itself_takes_stands_beside(variant: Variant) -> None:
    ratios = compare(variant)
    assert (ratios.ceiling_create, ratios.ceiling_delete) == (1.25, 1.25)
    assert (ratios.create_beside_ceiling, ratios.delete_beside_ceiling) == (1.0, 1.2)


def test_a_limit_may_be_reached(variant: Variant) -> None:
    burst, delete = found(variant)["burst, federated / floor"], found(variant)["delete, federated / floor"]
    assert (burst.keeps_now, burst.keeps_final) == (True, True)
    assert (delete.keeps_now, delete.keeps_final) == (True, False)


def test_beyond_this_versions_limit_is_over(variant: Variant) -> None:
    burst = found(federated(variant, lap=Lap(6.01, 2.0)))["burst, federated / floor"]
    assert not burst.keeps_now


def test_writes_are_those_of_a_whole_life_without_leases(variant: Variant) -> None:
    assert life_writes(variant.federated, "virtual", PODS) == 2.0
    assert life_writes(variant.federated, "physical", PODS) == 2.0


LIMITS = {
    "writes in a Pod's life, virtual": (3, 4),
    "writes in a Pod's life, physical": (2, 4),
    "quiet, bound → twin, p50": (8, 15),
    "quiet, bound → twin, p99": (25, 50),
    "quiet, running → mirrored, p50": (7, 7),
}


@pytest.mark.parametrize(("what", "limits"), LIMITS.items())
def test_a_token_has_limits_of_its_own(report: Report, what: str, limits: tuple[float, float]) -> None:
    assert tuple(found(variant)[what].final for variant in report.variants) == limits


def test_memory_may_grow_with_pods(variant: Variant) -> None:
    assert found(variant)["manager's memory, peak"].final == pytest.approx(90 + 100 / 64)


def test_what_was_not_measured_is_not_judged(variant: Variant) -> None:
    bare = found(federated(variant, quiet=None, memory=None))
    assert [what for what in bare if "quiet" in what or "memory" in what] == []


def test_a_good_run_raises_no_doubts(report: Report) -> None:
    assert doubts(report) == []


def test_doubts_name_what_disturbed_a_run(report: Report) -> None:
    slow = replace(report.variants[0], baseline=replace(report.variants[0].baseline, direct=Lap(1.8, 1.0)))
    setting = replace(report.setting, load=1.5, profiled=True)
    busy, profiled, bad = doubts(replace(report, setting=setting, variants=[slow]))
    assert "load 1.5 on 2 cores" in busy
    assert "profiler" in profiled
    assert "without token is 2.22× direct" in bad


@pytest.mark.parametrize("after", [Lap(4.81, 2.0), Lap(3.33, 2.0)])
def test_a_pace_that_changed_under_the_run_is_a_doubt(report: Report, after: Lap) -> None:
    drifted = replace(report.variants[0], floor_after=Floor(after, []))
    (doubt,) = doubts(replace(report, variants=[drifted]))
    assert f"creating the floor's Pods without token took 4.00 s before and {after.create:.2f} s after" in doubt
