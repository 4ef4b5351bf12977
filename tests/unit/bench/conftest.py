"""A report with figures that are easy to calculate with."""

from copy import deepcopy
from dataclasses import replace

import pytest

from kubeocean.bench.audit import WriteCount
from kubeocean.bench.percentiles import Spread
from kubeocean.bench.pipeline import Pipeline
from kubeocean.bench.results import (
    Baseline,
    Federated,
    Floor,
    Hotspot,
    Lap,
    Memory,
    Observed,
    Phase,
    Quiet,
    Report,
    Setting,
    Variant,
)

PODS = 100
CREATE = Phase([
    WriteCount("virtual", "kubeocean-manager", "patch", "pods/status", PODS, 0, 2.0),
    WriteCount("physical", "kubeocean-manager", "create", "pods", PODS, 0, 3.0),
    WriteCount("virtual", "kube-scheduler", "create", "pods/binding", PODS, 0, 3.0),
    WriteCount("virtual", "kubeocean-manager", "patch", "leases", 50, 0, 1.0),
], {"manager": 1.0, "etcd": 0.5})
DELETE = Phase([
    WriteCount("virtual", "kubeocean-manager", "delete", "pods", PODS, 0, 2.0),
    WriteCount("physical", "kubeocean-manager", "delete", "pods", PODS, 0, 2.0),
], {"manager": 1.0, "etcd": 0.5})
LATENCY = Spread(10, 5.0, 20.0, 30.0)
PIPELINE = Pipeline(LATENCY, LATENCY, LATENCY, LATENCY)


@pytest.fixture
def variant() -> Variant:
    """Direct 2 and 1 s, floor 4 and 2 s, ceiling 5 and 2.5 s, federated 5 and 3 s; then the same floor again."""
    floor = Floor(Lap(4.0, 2.0), [Lap(4.0, 2.5), Lap(4.5, 2.0)])
    baseline = Baseline(Lap(2.0, 1.0), DELETE, floor, CREATE, Floor(Lap(5.0, 2.5), [Lap(5.0, 2.5)]), CREATE)
    memory = Memory(60 * 2**20, 80 * 2**20, 70 * 2**20)
    quiet = Quiet(PIPELINE, Observed(LATENCY, LATENCY), CREATE)
    federated = Federated(Lap(5.0, 3.0), [Lap(5.0, 3.0)], PIPELINE, CREATE, DELETE, memory, 0.004, quiet)
    return deepcopy(Variant(False, baseline, federated, floor))  # a test may change its own


@pytest.fixture
def report(variant: Variant) -> Report:
    """One run with token and without."""
    with_token = replace(variant, token=True)
    setting = Setting(PODS, 10, 2, "inprocess", True, 2, 0.1, "3.11.7", False)
    return Report(setting, [variant, with_token], [Hotspot("orjson.loads", 10, 0.2, 0.3)])
