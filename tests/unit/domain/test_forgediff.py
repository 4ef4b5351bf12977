"""What explains a twin: every change has its reason, and nothing of a Pod is passed over."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given

from kubeocean.domain.forgediff import Fate, FieldChange, diff_forged
from kubeocean.domain.podmap import ForgedPod, build_physical_pod
from kubeocean.kube.meta import Json
from tests.forge import pairs
from tests.forge.drawn import pods


def explain(pod: Json) -> dict[str, FieldChange]:
    forged = build_physical_pod(pod, replace(pairs.CONTEXT, allow_privileged=True))
    return {each.path: each for each in diff_forged(pod, forged.pod)} if isinstance(forged, ForgedPod) else {}


@given(pods())
def test_every_field_of_any_pod_is_met_and_every_change_explained(pod: Json) -> None:
    told = explain(pod)
    fields = [field for field, value in pod["spec"].items() if value]  # of an empty list there is nothing to tell
    for field in fields if told else ():
        assert any(path == f"spec.{field}" or path.startswith((f"spec.{field}.", f"spec.{field}[")) for path in told), field
    assert all(each.why for each in told.values() if each.fate is not Fate.KEPT)


def test_an_empty_field_is_met_as_well() -> None:
    pod = pairs.read(next(case for case in pairs.INPUTS if "a-minimal-pod" in case.name))["pod"]
    pod["spec"]["securityContext"] = {"seLinuxOptions": {}}
    assert explain(pod)["spec.securityContext.seLinuxOptions"].fate is Fate.KEPT


@pytest.mark.parametrize("case", pairs.INPUTS, ids=pairs.title)
def test_what_is_kept_is_the_same_and_what_is_dropped_is_not_there(case: Path) -> None:
    for each in explain(pairs.read(case)["pod"]).values():
        assert each.fate is not Fate.KEPT or each.before == each.after
        assert each.fate is not Fate.ADDED or each.before is None
        assert each.fate not in (Fate.RENAMED, Fate.REWRITTEN) or each.before != each.after


def test_reasons_are_those_of_the_tables() -> None:
    pod = pairs.read(next(case for case in pairs.INPUTS if "a-minimal-pod" in case.name))["pod"]
    pod["spec"] |= {"nodeSelector": {"disk": "ssd"}, "fromTheFuture": 1}
    pod["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "settings"}}]
    pod["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "j"}]
    told = explain(pod)
    assert (told["spec.nodeSelector"].fate, told["spec.nodeSelector"].why) == (
        Fate.DROPPED, "the virtual scheduler has already honoured it",
    )
    assert told["spec.fromTheFuture"].fate is Fate.DROPPED
    assert told["spec.containers[app].envFrom[0].configMapRef.name"].fate is Fate.RENAMED
    assert told["spec.containers[app].image"].fate is Fate.KEPT
    assert told["metadata.ownerReferences"].fate is Fate.DROPPED
    assert told["spec.automountServiceAccountToken"].fate is Fate.ADDED
