"""`kubeocean verify` on real API servers: it finds what is wrong on either side, mends what may be mended, and nothing else.

The manager is killed before anything is put out of order, so that nobody else mends it.
"""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.kube.client import PatchType
from kubeocean.kube.meta import Json, annotations_of, finalizers_of, labels_of, name_of, uid_of
from kubeocean.kube.resources import (
    CONFIGMAPS,
    CSINODES,
    ENDPOINTSLICES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    SECRETS,
    SERVICES,
)
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.credentials import issue_kubeconfig
from tests.integration.everything import use_everything
from tests.integration.federation import Federation, Lender, build_pod, discard, eventually, find, twin_name
from tests.integration.lending import grant
from tests.integration.programs import Program
from tests.integration.test_crashes import store_directly

pytestmark = pytest.mark.timeout(240)


def kubeocean(federation: Federation, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a command as an operator would, with nothing but the kubeconfig of the virtual cluster."""
    program = Path(sys.executable).with_name("kubeocean")
    given = [*args, f"--kubeconfig={federation.sandbox.virtual.kubeconfig}"]
    return subprocess.run([program, *given], capture_output=True, text=True, check=False, timeout=90)


def verify(federation: Federation, lender: Lender, *args: str) -> tuple[int, list[dict[str, Any]]]:
    """Return exit code and findings, without those that only say that no syncer runs."""
    done = kubeocean(federation, "verify", f"--binding={lender.binding}", "--output=json", "--settle=1", *args)
    assert done.returncode in (0, 1), done.stderr
    (binding,) = json.loads(done.stdout)["bindings"]
    assert binding["looked"], binding
    # A lender without our kinds answers 403, not 404, to somebody who has no right on them.
    assert all("resourceleasingpolicies" in each for each in binding["notes"]), binding["notes"]
    return done.returncode, [each for each in binding["findings"] if each["kind"] != "NoHeartbeat"]


def told(findings: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {(each["kind"], each["reason"], each["object"]["name"]) for each in findings}


async def quiet(federation: Federation, lender: Lender) -> None:
    async def agrees() -> bool:
        _, findings = verify(federation, lender)
        assert not findings, findings
        return True

    await eventually(agrees, within=30, what="both sides agree")


def stranger(twin: Json, name: str, **annotations: str) -> Json:
    """Return a Pod with the labels and notes of `twin`, as somebody who copies its manifest would make it."""
    metadata = {
        "name": name, "namespace": twin["metadata"]["namespace"], "labels": labels_of(twin),
        "annotations": {**annotations_of(twin), **annotations},
    }
    spec = {"containers": [{"name": "main", "image": "busybox"}], "nodeName": twin["spec"]["nodeName"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


async def test_it_finds_what_is_wrong_on_either_side_mends_it_and_then_finds_nothing(
    federation: Federation, namespace: str, manager: Program
) -> None:
    virtual, physical = federation.virtual, federation.physical[0]
    lender = await use_everything(federation, namespace)
    mount = lender.mount_namespace
    web = await virtual.get(PODS, "web", namespace)
    twin = await federation.twin(lender, web)
    assert twin
    foreign = stranger(twin, "foreign")
    foreign["metadata"]["labels"] = {**labels_of(twin), "kubeocean.io/owner": "0123456789abcdef"}
    foreign["metadata"]["annotations"] = {}
    await physical.create(PODS, foreign)  # another borrower's, in our very namespace
    await quiet(federation, lender)
    manager.kill()
    await quiet(federation, lender)

    # An orphan, with our labels and a virtual Pod that never was; a copy of a twin's manifest.
    gone = {"kubeocean.io/virtual-pod-name": "gone", "kubeocean.io/virtual-pod-uid": "0-0"}
    orphan = await physical.create(PODS, stranger(twin, twin_name("gone", namespace), **gone))
    await physical.create(PODS, stranger(twin, "second"))
    # A twin that is lost.
    other = await virtual.get(PODS, "other", namespace)
    await discard(physical, PODS, twin_name("other", namespace), mount, grace_seconds=0)
    # A status that is behind.
    status = {"status": {"podIP": "10.9.9.9", "podIPs": [{"$patch": "replace"}, {"ip": "10.9.9.9"}]}}
    await virtual.patch(PODS, "web", namespace, status, kind=PatchType.STRATEGIC, subresource="status")
    # Copies: one changed, one gone, one that nobody needs.
    settings, password = twin_name("settings", namespace), twin_name("password", namespace)
    await physical.patch(CONFIGMAPS, settings, mount, {"data": {"colour": "red"}})
    await discard(physical, SECRETS, password, mount)
    left = copy.deepcopy(await physical.get(CONFIGMAPS, settings, mount))
    left["metadata"] = {
        "name": twin_name("nobodys", namespace), "namespace": mount, "labels": labels_of(left),
        "annotations": {**annotations_of(left), "kubeocean.io/virtual-name": "nobodys"},
    }
    await physical.create(CONFIGMAPS, left)
    # Marks: one too many, one missing.
    finalizer, synced = f"kubeocean.io/finalizer-{lender.cluster_id}", f"kubeocean.io/synced-by-{lender.cluster_id}"
    await virtual.create(CONFIGMAPS, {
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "marked", "namespace": namespace, "finalizers": [finalizer], "labels": {synced: "true"}},
    })
    await virtual.patch(CONFIGMAPS, "settings", namespace, {"metadata": {"finalizers": None}})
    # Mirrors: a Service that was changed, a slice that is gone.
    service = twin_name("web", namespace)
    await physical.patch(SERVICES, service, mount, {"spec": {"sessionAffinity": "ClientIP"}})
    (endpoints,) = (await physical.list(ENDPOINTSLICES, mount)).items
    await discard(physical, ENDPOINTSLICES, name_of(endpoints), mount)
    # A token Secret of a Pod that is over, a CSINode and a label of a node that is no more.
    tokens = await physical.list(SECRETS, mount, label_selector="kubeocean.io/service-account-token=true")
    token = copy.deepcopy(tokens.items[0])
    token["metadata"] = {
        "name": "token-of-the-dead", "namespace": mount, "labels": labels_of(token),
        "annotations": {**annotations_of(token), "kubeocean.io/virtual-pod-uid": "0-0"},
    }
    await physical.create(SECRETS, token)
    csinode = copy.deepcopy(await virtual.get(CSINODES, lender.vnode()))
    name = f"vnode-{lender.cluster_id}-gone"
    csinode["metadata"] = {"name": name, "labels": labels_of(csinode), "annotations": annotations_of(csinode)}
    await virtual.create(CSINODES, csinode)
    lent = await physical.get(NODES, lender.pool.nodes[0])
    label, by = "kubeocean.io/policy-applied", "kubeocean.io/policy-applied-by"
    idle = await federation.pool()
    note = {"labels": {label: labels_of(lent)[label]}, "annotations": {by: annotations_of(lent)[by]}}
    await physical.patch(NODES, idle.nodes[0], "", {"metadata": note})

    code, findings = verify(federation, lender)
    expected = {
        ("OrphanTwin", "NoVirtualPod", name_of(orphan)), ("SecondTwin", "NotItsName", "second"),
        ("LostTwin", "PhysicalPodLost", "other"), ("StatusBehind", "NotMirrored", "web"),
        ("DriftedCopy", "ChangedBelow", settings), ("MissingCopy", "CopyIsGone", password),
        ("OrphanCopy", "NotInUse", twin_name("nobodys", namespace)), ("StaleMark", "NotInUse", "marked"),
        ("MissingMark", "Incomplete", "settings"), ("DriftedMirror", "Differs", service),
        ("MissingMirror", "NoCopy", name_of(endpoints)), ("LeftoverToken", "PodIsOver", "token-of-the-dead"),
        ("OrphanCSINode", "NoVirtualNode", name), ("StaleNodeLabel", "NotLeased", idle.nodes[0]),
    }
    assert told(findings) == expected
    assert code == 1
    assert all(each["cause"] and each["remedy"] and each["repairable"] for each in findings)

    _, repaired = verify(federation, lender, "--repair")
    assert told(repaired) == expected
    assert all(each["repaired"] for each in repaired), [each for each in repaired if not each["repaired"]]

    # What follows from it: the token of the Pod that was lost, the slices that told of a wrong address for a while.
    async def nothing_follows() -> bool:
        _, rest = verify(federation, lender, "--repair")
        assert not rest, rest
        return True

    await eventually(nothing_follows, within=30, what="nothing is left to mend")
    assert verify(federation, lender)[1] == []
    assert await find(physical, PODS, name_of(orphan), mount) is None
    assert await find(physical, PODS, "second", mount) is None
    assert await find(physical, PODS, "foreign", mount), "a foreign Pod is never touched"
    lost = await virtual.get(PODS, "other", namespace)
    assert (uid_of(lost), lost["status"]["phase"], lost["status"]["reason"]) == (uid_of(other), "Failed", "PhysicalPodLost")
    assert (await physical.get(CONFIGMAPS, settings, mount))["data"] == {"colour": "blue"}
    assert (await physical.get(SECRETS, password, mount))["data"]
    marked = await virtual.get(CONFIGMAPS, "marked", namespace)
    assert not finalizers_of(marked), "it can be deleted again"
    assert not [key for key in labels_of(marked) if "kubeocean" in key]
    assert finalizers_of(await virtual.get(CONFIGMAPS, "settings", namespace)) == [finalizer]
    assert (await physical.get(SERVICES, service, mount))["spec"]["sessionAffinity"] == "None"
    assert uid_of(await virtual.get(PODS, "web", namespace)) == uid_of(web), "what is in order stays"
    assert uid_of(await physical.get(PODS, name_of(twin), mount)) == uid_of(twin)
    claim = await physical.get(PERSISTENTVOLUMECLAIMS, twin_name("data", namespace), mount)
    assert claim["status"]["phase"] == "Bound"
    await discard(physical, PODS, "foreign", mount, grace_seconds=0)


async def test_a_person_reads_a_table_and_a_program_the_exit_code(federation: Federation, namespace: str) -> None:
    """A mark that nobody needs: beside a syncer at work, which would wait a minute before it took it back."""
    lender = await federation.lend()
    asked = ("verify", f"--binding={lender.binding}", "--settle=1")
    finalizer, synced = f"kubeocean.io/finalizer-{lender.cluster_id}", f"kubeocean.io/synced-by-{lender.cluster_id}"
    metadata = {"name": "marked", "namespace": namespace, "finalizers": [finalizer], "labels": {synced: "true"}}
    await federation.virtual.create(CONFIGMAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})

    found = kubeocean(federation, *asked)
    assert found.returncode == 1, found.stdout + found.stderr
    heads, first, *_ = found.stdout.splitlines()[1:]
    assert heads.split() == ["FINDING", "OBJECT", "CAUSE", "REMEDY"]
    assert first.startswith("StaleMark")
    for text in (f"ClusterBinding {lender.binding}: 1 finding (1 virtual node", "(NotInUse)", "--repair: ", "mend 1 of 1"):
        assert text in found.stdout, found.stdout
    assert "virtual ConfigMap" in found.stdout
    told = kubeocean(federation, *asked, "--output=json")
    assert (told.returncode, json.loads(told.stdout)["clean"]) == (1, False)

    mended = kubeocean(federation, *asked, "--repair")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert "1 StaleMark; 1 mended, 0 left" in mended.stdout
    assert "DONE" in mended.stdout
    assert not finalizers_of(await federation.virtual.get(CONFIGMAPS, "marked", namespace))
    clean = kubeocean(federation, *asked, "--output=json")
    assert (clean.returncode, json.loads(clean.stdout)["clean"]) == (0, True)


async def test_a_cluster_that_cannot_be_looked_at_is_no_clean_one(federation: Federation, namespace: str) -> None:
    lender = await federation.lend()
    done = kubeocean(federation, "verify", f"--binding={lender.binding}", "--settle=0.5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "both sides agree" in done.stdout
    secret = await federation.virtual.get(SECRETS, lender.secret, "default")
    await federation.virtual.patch(SECRETS, lender.secret, "default", {"data": {"kubeconfig": "bm9uZQ=="}})
    try:
        done = kubeocean(federation, "verify", f"--binding={lender.binding}", "--settle=0.5")
        assert done.returncode == 2, done.stdout
        assert f"could not look: Secret default/{lender.secret}" in done.stdout
    finally:
        await federation.virtual.patch(SECRETS, lender.secret, "default", {"data": secret["data"]})
    done = kubeocean(federation, "verify", "--binding=nobody")
    assert done.returncode == 2
    assert "no ClusterBinding has this name" in done.stderr


async def test_a_binding_that_is_refused_as_a_duplicate_is_not_looked_at_and_the_older_ones_pods_are_not_lost(
    federation: Federation, namespace: str
) -> None:
    """An older binding with a Pod, and a newer one with the same clusterID that leads into another physical cluster."""
    virtual = federation.virtual
    lender = await federation.lend()
    await virtual.create(PODS, build_pod("web", namespace, lender))
    (web,) = await federation.running(namespace, "web")
    older = await virtual.get(CLUSTERBINDINGS, lender.binding)
    other = await federation.bind(await federation.pool(cluster=1), ready=False)
    secret = (await virtual.get(CLUSTERBINDINGS, other.binding))["spec"]["secretRef"]
    newer = f"{lender.binding}-again"
    await virtual.create(CLUSTERBINDINGS, {
        "apiVersion": CLUSTERBINDINGS.api_version, "kind": CLUSTERBINDINGS.kind, "metadata": {"name": newer},
        "spec": {**older["spec"], "secretRef": secret, "mountNamespace": other.mount_namespace},
    })
    try:
        done = kubeocean(federation, "verify", f"--binding={newer}", "--repair", "--output=json", "--settle=0.5")
        assert done.returncode == 2, done.stdout
        (told_of,) = json.loads(done.stdout)["bindings"]
        assert not told_of["findings"]
        assert newer in told_of["error"]
        assert f"older ClusterBinding {lender.binding}" in told_of["error"]
        assert verify(federation, lender, "--repair") == (0, [])
        live = await virtual.get(PODS, "web", namespace)
        assert (uid_of(live), live["status"]["phase"]) == (uid_of(web), "Running")
        explained = kubeocean(federation, "explain", "pod", f"{namespace}/web", "--output=json")
        assert json.loads(explained.stdout)["binding"] == lender.binding
    finally:
        await discard(virtual, CLUSTERBINDINGS, newer)


async def test_what_is_in_flight_is_no_finding(federation: Federation, namespace: str) -> None:
    lender = await federation.lend(nodes=2)
    for number in range(30):
        await federation.virtual.create(PODS, build_pod(f"web-{number}", namespace, lender))
        if number % 10 == 5:
            code, findings = verify(federation, lender)
            assert (code, findings) == (0, [])


async def test_what_a_lender_grants_by_kubeocean_rbac_is_enough_to_look_and_to_mend(
    federation: Federation, namespace: str, manager: Program
) -> None:
    user = f"borrower-{namespace}"
    pool = await federation.pool()
    lender = await federation.bind(pool, kubeconfig=issue_kubeconfig(federation.sandbox.physical[0], user), ready=False)
    await grant(federation, lender, user)
    await federation.policy(lender)
    await federation.vnodes(lender, within=60)
    await federation.virtual.create(PODS, build_pod("web", namespace, lender))
    (web,) = await federation.running(namespace, "web")
    await quiet(federation, lender)
    manager.kill()
    twin = await federation.twin(lender, web)
    assert twin
    await federation.physical[0].create(PODS, stranger(twin, "second"))
    _, repaired = verify(federation, lender, "--repair")
    assert [(each["kind"], each["repaired"]) for each in repaired] == [("SecondTwin", True)], repaired

    async def gone() -> bool:
        return await find(federation.physical[0], PODS, "second", lender.mount_namespace) is None

    await eventually(gone, within=40, what="the second twin ends")


async def test_pods_that_should_be_gone_are_told_and_released(
    federation: Federation, namespace: str, manager: Program, sandbox: Sandbox
) -> None:
    """One whose twin is gone, one whose twin lives, and one whose virtual node is gone; all were to go long ago."""
    virtual, physical = federation.virtual, federation.physical[0]
    lender = await federation.lend()
    names = ("stuck", "ending")
    for name in names:
        await virtual.create(PODS, build_pod(name, namespace, lender))
    pods = await federation.running(namespace, *names)
    await quiet(federation, lender)
    manager.kill()
    homeless = build_pod("homeless", namespace, lender, nodeName=f"vnode-{lender.cluster_id}-gone", nodeSelector={})
    for pod in (*pods, await virtual.create(PODS, homeless)):
        pod["metadata"] |= {"deletionTimestamp": "2026-01-01T12:00:00Z", "deletionGracePeriodSeconds": 30}
        await store_directly(sandbox, pod)
    await discard(physical, PODS, twin_name("stuck", namespace), lender.mount_namespace, grace_seconds=0)

    async def told_of_it() -> bool:
        _, findings = verify(federation, lender)
        stuck = told([each for each in findings if each["kind"] == "StuckPod"])
        assert stuck == {("StuckPod", "NotReleased", "stuck"), ("StuckPod", "NoVirtualNode", "homeless")}, findings
        return True

    await eventually(told_of_it, within=20, what="both are told")
    _, repaired = verify(federation, lender, "--repair")
    assert all(each["repaired"] for each in repaired if each["kind"] == "StuckPod"), repaired
    for name in ("stuck", "homeless"):
        assert await find(virtual, PODS, name, namespace) is None, name
    assert await find(virtual, PODS, "ending", namespace), "its twin lives"
    manager.ensure()

    async def ended() -> bool:
        return await find(virtual, PODS, "ending", namespace) is None

    await eventually(ended, within=45, what="the syncer ends the one whose twin lived")


async def test_marks_of_a_binding_that_there_is_not_are_told_and_come_off(federation: Federation, namespace: str) -> None:
    gone, virtual = f"g{namespace[-6:]}", federation.virtual
    lender = await federation.lend()
    own = f"kubeocean.io/finalizer-{lender.cluster_id}"
    await virtual.create(CONFIGMAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": "abandoned", "namespace": namespace, "labels": {f"kubeocean.io/synced-by-{gone}": "true"},
        "finalizers": [f"kubeocean.io/finalizer-{gone}", own],
    }})

    def left(*args: str) -> list[dict[str, Any]]:
        done = kubeocean(federation, "verify", "--output=json", "--settle=0.5", *args)
        assert done.returncode in (0, 1), done.stderr
        found = json.loads(done.stdout)["goneBindings"]["findings"]
        return [each for each in found if each["object"]["namespace"] == namespace]

    (finding,) = left()
    assert (finding["kind"], finding["reason"], finding["object"]["name"]) == ("StaleMark", "NoSuchBinding", "abandoned")
    assert gone in finding["cause"]
    (finding,) = left("--repair")
    assert finding["repaired"], finding
    assert not left()
    marked = await virtual.get(CONFIGMAPS, "abandoned", namespace)
    assert not [key for key in labels_of(marked) if gone in key]
    assert f"kubeocean.io/finalizer-{gone}" not in finalizers_of(marked)
    await virtual.patch(CONFIGMAPS, "abandoned", namespace, {"metadata": {"finalizers": None}})
