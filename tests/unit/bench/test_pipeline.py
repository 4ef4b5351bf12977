import pytest

from kubeocean.bench.audit import Write
from kubeocean.bench.percentiles import Spread
from kubeocean.bench.pipeline import trace
from kubeocean.domain.naming import physical_name

TWIN = physical_name("web-0", "ns")


def write(program: str, verb: str, resource: str, at: float, *, name: str = "web-0", code: int = 200) -> Write:
    return Write(program, verb, resource, "kubeocean-bench" if name == TWIN else "ns", name, code, at - 0.001, at)


CREATED = write("kubeocean-bench", "create", "pods", 1.0)
BOUND = write("kube-scheduler", "create", "pods/binding", 1.010)
MADE = write("kubeocean-manager", "create", "pods", 1.030, name=TWIN)
RUNNING = write("kwok", "patch", "pods/status", 1.060, name=TWIN)
MIRRORED = write("kubeocean-manager", "patch", "pods/status", 1.100)


def p50(found: Spread | None) -> float:
    assert found is not None
    return found.p50


def test_every_station_of_a_pod_is_found() -> None:
    found = trace([CREATED, BOUND, MIRRORED], [MADE, RUNNING], "ns")
    assert p50(found.created_to_bound) == pytest.approx(10)
    assert p50(found.bound_to_twin) == pytest.approx(20)
    assert p50(found.twin_to_running) == pytest.approx(30)
    assert p50(found.running_to_mirrored) == pytest.approx(40)


def test_a_status_written_before_the_twin_ran_does_not_mirror() -> None:
    early = write("kubeocean-manager", "patch", "pods/status", 1.050)
    assert p50(trace([CREATED, BOUND, early, MIRRORED], [MADE, RUNNING], "ns").running_to_mirrored) == pytest.approx(40)


def test_of_several_mirrors_the_first_counts() -> None:
    late = write("kubeocean-manager", "patch", "pods/status", 2.0)
    assert p50(trace([CREATED, late, MIRRORED], [MADE, RUNNING], "ns").running_to_mirrored) == pytest.approx(40)


def test_a_refused_write_is_no_station() -> None:
    refused = write("kubeocean-manager", "create", "pods", 1.020, name=TWIN, code=500)
    assert p50(trace([CREATED, BOUND], [refused, MADE], "ns").bound_to_twin) == pytest.approx(20)


def test_pods_of_other_namespaces_and_other_hands_do_not_count() -> None:
    stranger = write("kubectl", "create", "pods", 1.015, name=TWIN)
    found = trace([CREATED, BOUND], [stranger], "ns")
    assert found.bound_to_twin is None
    assert trace([CREATED, BOUND], [MADE], "elsewhere").created_to_bound is None


def test_a_pod_that_got_stuck_shows_only_the_way_it_went() -> None:
    found = trace([CREATED, BOUND], [MADE], "ns")
    assert found.bound_to_twin is not None
    assert found.twin_to_running is None
    assert found.running_to_mirrored is None
