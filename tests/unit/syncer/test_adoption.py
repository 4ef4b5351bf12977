"""A syncer that takes over from the Go project: what a virtual object claims becomes ours as it runs, all else stays.

What that project leaves on both sides is in `adoption/*.yaml`.
"""

import asyncio
import copy
from collections import Counter
from pathlib import Path

import pytest
import yaml

from kubeocean.api import names
from kubeocean.domain.naming import persistent_volume_name, physical_name
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, labels_of, uid_of
from kubeocean.kube.resources import (
    CONFIGMAPS,
    CSINODES,
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    SECRETS,
)
from kubeocean.syncer.topdown.objectkeeper import GRACE
from tests.unit.syncer.lives import GLANCE, Stage
from tests.unit.syncer.world import Server

pytestmark = pytest.mark.looptime
FIXTURES = Path(__file__).with_name("adoption")
RESOURCES = {resource.kind: resource for resource in (
    CONFIGMAPS, CSINODES, NAMESPACES, NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, SECRETS,
)}
OWNER = "kubeocean.io/owner"


def begin(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Return both clusters with the fixtures in them; no fixture itself, for the clock of a test starts anew after those."""
    stage = Stage(0, monkeypatch)
    for server, name in ((stage.virtual, "virtual"), (stage.physical, "physical")):
        for obj in yaml.safe_load((FIXTURES / f"{name}.yaml").read_text()):
            server.put(RESOURCES[obj["kind"]], obj)
    return stage


def below(server: Server, kind: str, name: str) -> Json:
    return copy.deepcopy(server.objects[kind, ObjectKey("mount", physical_name(name, "ns"))])


def pv(server: Server, name: str) -> Json:
    return copy.deepcopy(server.find(PERSISTENTVOLUMES, persistent_volume_name(f"pv-{name}", "")))


def secret(stage: Stage, name: str) -> Json:
    return copy.deepcopy(stage.physical.find(SECRETS, name, "mount"))


async def take_over(stage: Stage) -> None:
    async with stage.life():
        await stage.rest(GLANCE)


async def take_over_and_delete(stage: Stage) -> None:
    async with stage.life():
        await stage.rest(GLANCE)
        await stage.virtual.delete(PODS, "web", "ns", uid="uid-of-web", grace_seconds=2)
        await stage.rest(GLANCE)


async def test_a_twin_that_its_pod_claims_is_adopted_as_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = begin(monkeypatch)
    before = below(stage.physical, "pods", "web")
    await take_over(stage)
    after = below(stage.physical, "pods", "web")
    assert labels_of(after) == labels_of(before) | stage.owner.labels() | {names.VIRTUAL_NAMESPACE_LABEL: "ns"}
    assert annotations_of(after)[OWNER] == stage.owner.annotation
    assert (uid_of(after), after["spec"], after["status"]) == (uid_of(before), before["spec"], before["status"])
    vpod = stage.virtual.find(PODS, "web", "ns")
    assert vpod["status"]["phase"] == "Running"
    assert annotations_of(vpod)["kubeocean.io/physical-pod-uid"] == uid_of(before)


@pytest.mark.parametrize(("kind", "name"), [("pods", "other"), ("pods", "gone"), ("configmaps", "unused")])
async def test_what_nobody_claims_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, kind: str, name: str) -> None:
    stage = begin(monkeypatch)
    before = below(stage.physical, kind, name)
    await take_over(stage)
    assert below(stage.physical, kind, name) == before


async def test_the_copy_of_a_configmap_in_use_is_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = begin(monkeypatch)
    before, original = below(stage.physical, "configmaps", "app"), stage.virtual.find(CONFIGMAPS, "app", "ns")
    marked = copy.deepcopy(original)
    await take_over(stage)
    after = below(stage.physical, "configmaps", "app")
    assert (uid_of(after), after["data"]) == (uid_of(before), before["data"])
    assert labels_of(after)["kubeocean.io/owner"] == stage.owner.label
    assert stage.virtual.find(CONFIGMAPS, "app", "ns") == marked, "it was marked already"


async def test_the_root_certificate_loses_the_mark_that_would_hold_it_up_and_its_copy_stays_for_the_twin(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = begin(monkeypatch)
    copy_before = below(stage.physical, "configmaps", "kube-root-ca.crt")
    async with stage.life():
        await stage.rest(GRACE + GLANCE)
        metadata = stage.virtual.find(CONFIGMAPS, "kube-root-ca.crt", "ns")["metadata"]
        assert not metadata["finalizers"]
        assert not [key for kept in ("labels", "annotations") for key in metadata[kept] if "kubeocean" in key]
        assert below(stage.physical, "configmaps", "kube-root-ca.crt") == copy_before


async def test_a_claim_and_its_volume_are_adopted_under_the_names_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = begin(monkeypatch)
    physical, kind = stage.physical, "persistentvolumeclaims"
    before, marked = below(physical, kind, "data"), copy.deepcopy(stage.virtual.find(PERSISTENTVOLUMECLAIMS, "data", "ns"))
    volume_before, volume_marked = pv(physical, "data"), copy.deepcopy(stage.virtual.find(PERSISTENTVOLUMES, "pv-data"))
    await take_over(stage)
    after, volume = below(physical, kind, "data"), pv(physical, "data")
    for old, new in ((before, after), (volume_before, volume)):
        assert uid_of(new) == uid_of(old)
        assert labels_of(new) == labels_of(old) | stage.owner.labels()
    assert after["spec"] == before["spec"]
    assert volume["spec"] == volume_before["spec"] | {"persistentVolumeReclaimPolicy": "Retain"}
    assert stage.virtual.find(PERSISTENTVOLUMECLAIMS, "data", "ns") == marked, "it was marked already"
    assert stage.virtual.find(PERSISTENTVOLUMES, "pv-data") == volume_marked


async def test_a_claim_bound_to_other_storage_is_left_alone_and_its_pod_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = begin(monkeypatch)
    before = below(stage.physical, "persistentvolumeclaims", "theirs"), pv(stage.physical, "theirs")
    await take_over(stage)
    assert (below(stage.physical, "persistentvolumeclaims", "theirs"), pv(stage.physical, "theirs")) == before
    conditions = {each["type"]: each for each in stage.virtual.find(PODS, "waiting", "ns")["status"]["conditions"]}
    assert conditions["PhysicalPodCreated"]["reason"] == "PhysicalClaimTaken"
    assert "not ours; the lender has to remove it" in conditions["PhysicalPodCreated"]["message"]


async def test_a_claim_that_was_adopted_goes_with_its_virtual_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = begin(monkeypatch)
    async with stage.life():
        await stage.rest(GLANCE)
        await stage.virtual.delete(PODS, "web", "ns", uid="uid-of-web", grace_seconds=2)
        await stage.virtual.delete(PERSISTENTVOLUMECLAIMS, "data", "ns", uid="uid-of-data")
        await stage.rest(GLANCE)
    left = [key.name for server in (stage.virtual, stage.physical) for (_, key) in server.objects]
    assert not [name for name in left if name.startswith("data")]
    assert "pv-data-59511dec624fad40a0603e176bd52fbd" not in left
    assert not stage.virtual.find(PERSISTENTVOLUMES, "pv-data")["metadata"]["finalizers"]


async def test_the_token_secret_that_a_twin_mounts_is_adopted_and_renewed_under_its_own_keys(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = begin(monkeypatch)
    async with stage.life():
        await stage.rest(GLANCE)
        first = secret(stage, "web-token-of-go")
        await asyncio.sleep(3607)
        second = secret(stage, "web-token-of-go")
    assert uid_of(first) == uid_of(second) == "token-of-web"
    assert labels_of(first)[OWNER] == stage.owner.label
    assert list(first["data"]) == list(second["data"]) == ["sa-token"], "the twin projects this key, and no certificate"
    assert len({"b2xk", first["data"]["sa-token"], second["data"]["sa-token"]}) == 3
    assert [write for write in stage.physical.writes if "secrets" in write] == ["patch secrets"] * 2


async def test_a_token_secret_of_an_adopted_pod_goes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = begin(monkeypatch)
    await take_over_and_delete(stage)
    assert ("secrets", ObjectKey("mount", "web-token-of-go")) not in stage.physical.objects


async def test_a_token_secret_that_no_twin_of_ours_mounts_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = begin(monkeypatch)
    before = secret(stage, "other-token-of-go")
    await take_over(stage)
    assert secret(stage, "other-token-of-go") == before


async def test_the_virtual_node_is_kept_with_its_port_and_what_users_added(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = begin(monkeypatch)
    await take_over(stage)
    vnode = stage.world.vnode()
    assert uid_of(vnode) == "vnode-of-go"
    assert labels_of(vnode)["kubeocean.io/proxier_port"] == "23456"
    assert labels_of(vnode)["team"] == "users-own"
    assert "deletionTimestamp" not in vnode["metadata"]


async def test_what_a_twin_takes_that_is_to_be_adopted_is_not_taken_from_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = begin(monkeypatch)
    await take_over(stage)
    leased = stage.world.vnode()["status"]["allocatable"]
    assert (leased["cpu"], leased["pods"]) == ("7", "107"), "8 but what theirs takes; three twins that nobody claims are theirs"
    assert stage.virtual.writes.count("patch nodes/status") == 1, "it was right at first"
    assert "create pods" not in stage.virtual.writes, "a placeholder of the host port that the Pod itself has"


async def test_its_csinode_is_kept_and_written_once_when_the_node_is_as_it_will_be(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = begin(monkeypatch)
    await take_over(stage)
    csinode = stage.virtual.find(CSINODES, "vnode-edge-node-1")
    assert uid_of(csinode) == "csinode-of-go"
    assert labels_of(csinode) == labels_of(stage.world.vnode())
    assert stage.virtual.writes.count("patch csinodes") == 1


async def test_nothing_is_deleted_and_no_twin_made(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = begin(monkeypatch)
    await take_over(stage)
    made = ("create pods", "create configmaps", "create secrets", "create persistentvolumes")
    assert [write for write in stage.writes() if write.startswith("delete") or write in made] == []
    assert stage.ended == {}


async def test_the_second_life_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = begin(monkeypatch)
    await take_over(stage)
    before = Counter(stage.writes())
    await take_over(stage)
    assert Counter(stage.writes()) - before == Counter()


async def test_an_adopted_pod_is_deleted_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = begin(monkeypatch)
    await take_over_and_delete(stage)
    assert ("pods", ObjectKey("ns", "web")) not in stage.virtual.objects
    assert stage.ended == {"twin-of-web": "uid-of-web"}
