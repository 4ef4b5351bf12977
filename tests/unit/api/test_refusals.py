"""refused.yaml and accepted.yaml against kubeocean.api; tests/integration/test_crds.py asks API servers the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from kubeocean.api.binding import parse_binding
from kubeocean.api.model import ApiModel, InvalidObject
from kubeocean.api.policy import parse_policy
from kubeocean.kube.meta import Json

FOLDER = Path(__file__).parent
REFUSED: dict[str, Json] = yaml.safe_load((FOLDER / "refused.yaml").read_text())
ACCEPTED: dict[str, Json] = yaml.safe_load((FOLDER / "accepted.yaml").read_text())

SMALLEST: dict[str, Json] = {
    "ClusterBinding": {
        "clusterID": "cls-1", "secretRef": {"name": "kubeconfig", "namespace": "kubeocean-system"},
        "mountNamespace": "kubeocean-worker",
    },
    "ResourceLeasingPolicy": {"cluster": "cluster-a"},
}
PARSE: dict[str, Callable[[Json], ApiModel]] = {"ClusterBinding": parse_binding, "ResourceLeasingPolicy": parse_policy}


def parse(case: Json) -> ApiModel:
    return PARSE[case["kind"]]({"spec": {**SMALLEST[case["kind"]], **case.get("set", {})}})


@pytest.mark.parametrize("sentence", REFUSED)
def test_refused(sentence: str) -> None:
    case = REFUSED[sentence]
    with pytest.raises(InvalidObject) as refusal:
        parse(case)
    (problem,) = refusal.value.problems
    assert problem.field == case["field"]
    assert (case.get("python") or case["says"]) in problem.remedy


def test_of_each_kind_enough_is_refused() -> None:
    kinds = [case["kind"] for case in REFUSED.values()]
    assert kinds.count("ResourceLeasingPolicy") >= 40
    assert kinds.count("ClusterBinding") >= 20


@pytest.mark.parametrize("sentence", ACCEPTED)
def test_accepted(sentence: str) -> None:
    parse(ACCEPTED[sentence])
