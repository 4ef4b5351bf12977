"""Which objects of the Go project become ours: the table is the specification."""

from typing import Any

import pytest

from kubeocean.api import names
from kubeocean.domain.adoption import (
    build_adoption,
    build_pod_adoption,
    is_unowned,
    may_adopt_copy,
    may_adopt_pod,
    may_adopt_volume,
)
from kubeocean.domain.naming import persistent_volume_name
from kubeocean.domain.ownership import Owner, is_ours
from kubeocean.domain.podchange import is_pushed
from kubeocean.domain.podpush import lacks_nothing
from kubeocean.kube.meta import Json
from kubeocean.kube.patch import apply_merge

OWNER, SOMEBODY = Owner("virtual-uid", "edge"), Owner("another", "edge")
MANAGED = {names.MANAGED_BY_LABEL: names.MANAGED_BY_VALUE}
CLAIMED = {
    names.VIRTUAL_POD_NAMESPACE_ANNOTATION: "shop", names.VIRTUAL_POD_NAME_ANNOTATION: "web",
    names.VIRTUAL_POD_UID_ANNOTATION: "v-1",
}


def vpod(recorded: str = "p-1") -> Json:
    noted = {names.PHYSICAL_POD_UID_ANNOTATION: recorded} if recorded else {}
    return {
        "metadata": {"name": "web", "namespace": "shop", "uid": "v-1", "labels": {"app": "web"}, "annotations": noted},
        "spec": {"containers": [{"name": "main", "image": "busybox"}]},
    }


def twin(labels: dict[str, str] = MANAGED, **annotations: str) -> Json:
    told = {**CLAIMED, **{getattr(names, key): value for key, value in annotations.items()}}
    metadata = {"name": "web-x", "namespace": "lent", "uid": "p-1", "resourceVersion": "7", "labels": labels}
    return {"metadata": metadata | {"annotations": told}, "spec": {}}


TABLE: dict[str, tuple[Json, Json, bool]] = {
    "claimed from both sides": (twin(), vpod(), True),
    "a Pod that had no time to note its twin": (twin(), vpod(recorded=""), True),
    "a Pod that noted another twin": (twin(), vpod(recorded="p-0"), False),
    "a predecessor's": (twin(VIRTUAL_POD_UID_ANNOTATION="v-0"), vpod(), False),
    "another cluster's Pod of that name": (twin(VIRTUAL_POD_UID_ANNOTATION="elsewhere"), vpod(), False),
    "another name": (twin(VIRTUAL_POD_NAME_ANNOTATION="db"), vpod(), False),
    "another namespace": (twin(VIRTUAL_POD_NAMESPACE_ANNOTATION="dev"), vpod(), False),
    "a stranger's": (twin({"app": "theirs"}), vpod(), False),
    "ours already": (twin(OWNER.labels()), vpod(), False),
    "another borrower's": (twin(SOMEBODY.labels()), vpod(), False),
    "another borrower's, whose label was taken off": (twin(OWNER_ANNOTATION=SOMEBODY.annotation), vpod(), False),
}


@pytest.mark.parametrize("case", TABLE)
def test_which_pods_are_adopted(case: str) -> None:
    physical, virtual, adopted = TABLE[case]
    assert may_adopt_pod(physical, virtual) is adopted


def test_an_adopted_twin_is_ours_and_nothing_is_pushed_to_it() -> None:
    physical, virtual = twin({**MANAGED, "app": "web"}), vpod()
    patch = build_pod_adoption(virtual, physical, OWNER)
    assert patch["metadata"]["uid"] == "p-1"
    assert patch["metadata"]["resourceVersion"] == "7"
    assert set(patch) == {"metadata"}
    adopted = apply_merge(physical, patch)
    assert is_ours(adopted, OWNER)
    assert is_pushed(virtual, adopted)
    assert lacks_nothing(virtual, adopted), "one write is enough"
    assert adopted["metadata"]["labels"][names.VIRTUAL_NAMESPACE_LABEL] == "shop", "network policies select it by that"
    assert not is_unowned(adopted)


def copy_of(name: str = "app", labels: dict[str, str] = MANAGED, **metadata: Any) -> Json:
    annotations = {names.VIRTUAL_NAMESPACE_ANNOTATION: "shop", names.VIRTUAL_NAME_ANNOTATION: name}
    return {"kind": "ConfigMap", "metadata": {"name": "app-x", "labels": labels, "annotations": annotations, **metadata}}


@pytest.mark.parametrize(("copy", "adopted"), [
    (copy_of(), True),
    (copy_of("other"), False),
    (copy_of(labels={}), False),
    (copy_of(labels=SOMEBODY.labels()), False),
    (copy_of(deletionTimestamp="2026-01-01T12:00:00Z"), False),
], ids=["the copy of this object", "of another", "a stranger's", "another borrower's", "on its way out"])
def test_which_copies_are_adopted(copy: Json, adopted: bool) -> None:
    assert may_adopt_copy(copy, copy_of(labels=OWNER.labels())) is adopted


THEIRS = persistent_volume_name("disk", "")
CLAIM: Json = {
    "metadata": {"name": "data-x", "namespace": "lent", "uid": "c-1"}, "spec": {"volumeName": THEIRS},
    "status": {"phase": "Bound"},
}
DESIRED: Json = {
    "metadata": {"name": "ours", "labels": OWNER.labels(), "annotations": {
        **OWNER.annotations(), names.VIRTUAL_NAME_ANNOTATION: "disk",
    }},
    "spec": {"csi": {"driver": "d", "volumeHandle": "h", "nodeStageSecretRef": {"name": "ours", "namespace": "lent"}}},
}


def disk(name: str = THEIRS, claim: str = "c-1", labels: dict[str, str] = MANAGED, told: str = "disk", **source: Any) -> Json:
    metadata = {"name": name, "uid": "d-1", "resourceVersion": "7", "labels": labels}
    spec = {"csi": {"driver": "d", "volumeHandle": "h", **source}, "claimRef": {"uid": claim}}
    return {"metadata": metadata | {"annotations": {names.VIRTUAL_NAME_ANNOTATION: told} if told else {}}, "spec": spec}


VOLUMES: dict[str, tuple[Json, Json, bool]] = {
    "the same storage, bound to this claim": (disk(), CLAIM, True),
    "its name alone tells": (disk(told=""), CLAIM, True),
    "its Secret is another": (disk(nodeStageSecretRef={"name": "theirs", "namespace": "lent"}), CLAIM, True),
    "ours since an adoption that was cut short": (disk(labels=OWNER.labels()), CLAIM, True),
    "other storage": (disk(volumeHandle="another"), CLAIM, False),
    "other storage of the same driver's": (disk(volumeAttributes={"share": "b"}), CLAIM, False),
    "it says that it is another's": (disk(told="disk-2"), CLAIM, False),
    "another name": (disk(name="disk-of-a-lender"), CLAIM, False),
    "reserved for another claim": (disk(claim="c-0"), CLAIM, False),
    "a stranger's": (disk(labels={"app": "theirs"}), CLAIM, False),
    "another borrower's": (disk(labels=SOMEBODY.labels()), CLAIM, False),
    "the claim is not bound": (disk(), {**CLAIM, "status": {"phase": "Pending"}}, False),
    "the claim is bound to another volume": (disk(), {**CLAIM, "spec": {"volumeName": "other"}}, False),
    "on its way out": (
        {**disk(), "metadata": {**disk()["metadata"], "deletionTimestamp": "2026-01-01T12:00:00Z"}}, CLAIM, False,
    ),
}


@pytest.mark.parametrize("case", VOLUMES)
def test_which_volumes_are_adopted(case: str) -> None:
    volume, claim, adopted = VOLUMES[case]
    assert may_adopt_volume(volume, claim, DESIRED, OWNER) is adopted


def test_an_adopted_volume_is_ours_and_keeps_its_name_and_storage() -> None:
    patch = build_adoption(disk(), DESIRED)
    assert (patch["metadata"]["uid"], patch["metadata"]["resourceVersion"]) == ("d-1", "7")
    adopted = apply_merge(disk(), patch)
    assert is_ours(adopted, OWNER)
    assert (adopted["metadata"]["name"], adopted["spec"]) == (THEIRS, disk()["spec"])
