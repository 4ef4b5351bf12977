"""Which workload a twin is labelled with."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.domain.workload import workload_of
from kubeocean.kube.meta import Json


def pod(*owners: tuple[str, str], name: str = "web-0", **labels: str) -> Json:
    references = [{"kind": kind, "name": owner} for kind, owner in owners]
    named = {key.replace("_", "-"): value for key, value in labels.items()}
    return {"metadata": {"name": name, "ownerReferences": references, "labels": named}}


TABLE: dict[str, tuple[Json, dict[str, Any], tuple[str, str]]] = {
    "a bare Pod is its own workload": (pod(), {}, ("pod", "web-0")),
    "a StatefulSet's Pod": (pod(("StatefulSet", "web")), {}, ("statefulset", "web")),
    "the first owner counts": (pod(("Job", "night"), ("Custom", "x")), {}, ("job", "night")),
    "a ReplicaSet is resolved to its Deployment": (
        pod(("ReplicaSet", "web-5d4f")), {"replicaset_owner": {"kind": "Deployment", "name": "web"}}, ("deployment", "web"),
    ),
    "or to whatever owns it": (
        pod(("ReplicaSet", "web-5d4f")), {"replicaset_owner": {"kind": "Rollout", "name": "web"}}, ("rollout", "web"),
    ),
    "the template hash tells the Deployment too": (
        pod(("ReplicaSet", "web-5d4f"), pod_template_hash="5d4f"), {}, ("deployment", "web"),
    ),
    "a ReplicaSet of nobody is a workload": (pod(("ReplicaSet", "web")), {}, ("replicaset", "web")),
    "long names are cut to 63": (pod(name="a" * 70), {}, ("pod", "a" * 63)),
    "a cut never ends in a dash or dot": (pod(name="a" * 61 + "-.b"), {}, ("pod", "a" * 61)),
}


@pytest.mark.parametrize("case", TABLE)
def test_workload_of(case: str) -> None:
    virtual, known, expected = TABLE[case]
    assert workload_of(virtual, **known) == expected


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=80))
def test_both_are_valid_label_values_whatever_the_owner_is_called(name: str, kind: str) -> None:
    for value in workload_of(pod((kind, name))):
        assert re.fullmatch(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", value)
