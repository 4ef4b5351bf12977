"""When a CRD that is there already is left alone."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from kubeocean.api.crd import crds
from kubeocean.clusters.install import build_marked, is_installed
from kubeocean.kube.meta import Json

HASH = "kubeocean.io/content-hash"


def served(crd: Json) -> Json:
    """Return a CRD as an API server shows it: with its defaults."""
    live = copy.deepcopy(crd)
    live["metadata"] |= {"uid": "u-1", "resourceVersion": "7"}
    live["spec"]["conversion"] = {"strategy": "None"}
    live["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
    return live


def schema(crd: Json) -> Json:
    found: Json = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def change(edit: Callable[[Json], Any]) -> Json:
    live = served(build_marked(crds()[0]))
    edit(live)
    return live


TABLE: dict[str, tuple[Json | None, bool]] = {
    "it is not there": (None, False),
    "as we applied it": (change(lambda _: None), True),
    "applied by others, who note no hash": (change(lambda crd: crd["metadata"].pop("annotations")), False),
    "of an earlier version of ours": (change(lambda crd: crd["metadata"]["annotations"].update({HASH: "earlier"})), False),
    "somebody added a field": (change(lambda crd: schema(crd)["properties"].update({"theirs": {"type": "string"}})), True),
    "somebody took a field out": (change(lambda crd: schema(crd)["properties"].pop("clusterID")), False),
    "somebody loosened a rule": (change(lambda crd: schema(crd)["required"].pop()), False),
    "somebody stopped serving it": (change(lambda crd: crd["spec"]["versions"][0].update({"served": False})), False),
    "somebody took its status subresource": (change(lambda crd: crd["spec"]["versions"][0]["subresources"].clear()), False),
}


@pytest.mark.parametrize("case", TABLE)
def test_what_counts_as_installed(case: str) -> None:
    live, installed = TABLE[case]
    assert is_installed(live, build_marked(crds()[0])) is installed


def test_the_mark_says_what_the_spec_means() -> None:
    first, second = map(build_marked, crds())
    assert first["metadata"]["annotations"][HASH] != second["metadata"]["annotations"][HASH]
    assert build_marked(crds()[0]) == first
    assert "annotations" not in crds()[0]["metadata"], "what is printed for others carries no mark"
