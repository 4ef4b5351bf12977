"""What is wrong beside the Pods: copies, marks, claims, mirrors, nodes. A healthy binding, spoilt in one place at a time."""

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from kubeocean.api import names
from kubeocean.api.binding import ClusterBindingSpec
from kubeocean.api.resources import RESOURCELEASINGPOLICIES
from kubeocean.domain.depmap import build_copy
from kubeocean.domain.findings import Finding, Kind
from kubeocean.domain.hostports import build_placeholder, host_ports
from kubeocean.domain.mirrors import Change, Create
from kubeocean.domain.naming import physical_name
from kubeocean.domain.netpolicymap import map_policy
from kubeocean.domain.ownership import build_namespace
from kubeocean.domain.servicemap import map_service, map_slice
from kubeocean.domain.verification import Snapshot, verify
from kubeocean.domain.volumemap import VolumeContext, map_volume
from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.kube.resources import (
    CONFIGMAPS,
    CSINODES,
    ENDPOINTSLICES,
    LEASES,
    NAMESPACES,
    NETWORKPOLICIES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    PRIORITYCLASSES,
    SECRETS,
    SERVICES,
    Resource,
)
from tests.unit.domain.test_podfindings import NODE, OWNER, VNODE, made_by_the_go_project, pair

NOW = datetime(2026, 1, 1, 12, 5, tzinfo=UTC)
CLUSTER = {names.MANAGED_BY_LABEL: "kubeocean", names.PHYSICAL_CLUSTER_ID_LABEL: "edge"}
MARKS = {"labels": {names.MANAGED_BY_LABEL: "kubeocean", "kubeocean.io/synced-by-edge": "true"}, "finalizers": [
    "kubeocean.io/finalizer-edge",
]}


def marked(name: str, kind: str, **more: Json) -> Json:
    place = {names.PHYSICAL_NAME_ANNOTATION: physical_name(name, "shop"), names.PHYSICAL_NAMESPACE_ANNOTATION: "lent"}
    metadata = {"name": name, "namespace": "shop", "uid": f"u-{name}", "annotations": place, **copy.deepcopy(MARKS)}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **more}


def of_ours(obj: Json) -> Json:
    """Return an object as the physical server gives it back."""
    return {**obj, "metadata": {"uid": f"p-{obj['metadata']['name']}", "resourceVersion": "7", **obj["metadata"]}}


def healthy() -> Snapshot:
    """Return both sides of a binding that uses everything, in agreement."""
    vpod, twin = pair()
    vpod["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "password"}}]
    vpod["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    settings, password = marked("settings", "ConfigMap", data={"a": "b"}), marked("password", "Secret", data={"c": "ZA=="})
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeName": "disk"}
    claim = marked("data", "PersistentVolumeClaim", spec=spec)
    volume: Json = {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "disk", "uid": "u-disk", **copy.deepcopy(MARKS)},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "nfs": {"server": "s", "path": "/"},
            "claimRef": {"namespace": "shop", "name": "data"},
        },
    }
    forged = map_volume(claim, volume, VolumeContext(OWNER, "lent", lambda _: NODE))  # type: ignore[arg-type]  # asks nothing here
    service = {"metadata": {"name": "web", "namespace": "shop", "uid": "u-web"}, "spec": {"ports": [{"port": 80}]}}
    endpoints: Json = {
        "metadata": {"name": "web-1", "namespace": "shop", "uid": "u-web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.1.1.1"], "nodeName": VNODE}], "ports": [],
    }
    guard = {"metadata": {"name": "guard", "namespace": "shop", "uid": "u-guard"}, "spec": {"podSelector": {}}}
    vnode = {
        "metadata": {"name": VNODE, "uid": "n", "labels": CLUSTER, "annotations": {names.PHYSICAL_NODE_NAME_ANNOTATION: NODE}},
        "spec": {}, "status": {"allocatable": {"cpu": "4"}},
    }
    by = {names.POLICY_APPLIED_BY_ANNOTATION: OWNER.annotation}
    applied = {"labels": {names.POLICY_APPLIED_LABEL: "rlp"}, "annotations": by}
    node = {"metadata": {"name": NODE, "uid": "m", **applied}, "spec": {}, "status": {"allocatable": {"cpu": "8"}}}
    foreign: Json = {
        "metadata": {"name": "web", "namespace": "his", "uid": "f"}, "status": {"phase": "Running"},
        "spec": {"nodeName": NODE, "containers": [{"name": "a", "ports": [{"containerPort": 80, "hostPort": 80}]}]},
    }
    policy: Json = {"metadata": {"name": "rlp", "uid": "r", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {
        "cluster": "b", "resourceLimits": [{"resource": "cpu", "percent": 50}],
    }}
    lease = {"metadata": {"name": VNODE, "namespace": "kube-node-lease"}, "spec": {"renewTime": "2026-01-01T12:04:55.000000Z"}}
    parsed = ClusterBindingSpec.model_validate({
        "clusterID": "edge", "secretRef": {"name": "s", "namespace": "s"}, "mountNamespace": "lent",
        "serviceNamespaces": ["shop"],
    })
    virtual = {
        PODS: [vpod, of_ours(build_placeholder(VNODE, host_ports(foreign), "edge"))], NODES: [vnode],
        RESOURCELEASINGPOLICIES: [policy], CONFIGMAPS: [settings], SECRETS: [password], PERSISTENTVOLUMECLAIMS: [claim],
        PERSISTENTVOLUMES: [volume], SERVICES: [service], ENDPOINTSLICES: [endpoints], NETWORKPOLICIES: [guard],
        NAMESPACES: [{"metadata": {"name": "shop"}}], LEASES: [lease],
        CSINODES: [{"metadata": {"name": VNODE, "uid": "c", "labels": CLUSTER}, "spec": {}}],
    }
    physical = {
        PODS: [of_ours(twin), foreign], NODES: [node], NAMESPACES: [build_namespace("lent", OWNER)],
        PRIORITYCLASSES: [{"metadata": {"name": names.DEFAULT_PRIORITY_CLASS}}], RESOURCELEASINGPOLICIES: [],
        CONFIGMAPS: [of_ours(build_copy(settings, OWNER, "lent"))], SECRETS: [of_ours(build_copy(password, OWNER, "lent"))],
        PERSISTENTVOLUMECLAIMS: [of_ours(forged.claim)], PERSISTENTVOLUMES: [of_ours(forged.volume)],  # type: ignore[union-attr]
        SERVICES: [of_ours(map_service(service, OWNER, "lent"))],
        ENDPOINTSLICES: [of_ours(map_slice(endpoints, OWNER, "lent", {VNODE: NODE}.get))],
        NETWORKPOLICIES: [of_ours(map_policy(guard, OWNER, "lent", {}))],
    }
    held = {CONFIGMAPS: [settings], SECRETS: [password]}
    return Snapshot("b", parsed, OWNER, "lent", NOW, virtual, physical, held)


def found(snapshot: Snapshot) -> set[tuple[Kind, str]]:
    """Return what is found, but for the drift of a twin that was not forged with what its Pod came to name."""
    return {(each.kind, each.reason) for each in verify(snapshot) if each.kind is not Kind.TWIN_DRIFT}


def test_in_agreement_nothing_is_found() -> None:
    assert found(healthy()) == set()


Spoil = Callable[[dict[Resource, list[Json]], dict[Resource, list[Json]]], None]


def clear(resource: Resource) -> Spoil:
    return lambda _, physical: physical[resource].clear()


def clear_above(resource: Resource) -> Spoil:
    return lambda virtual, _: virtual[resource].clear()


def change_below(resource: Resource, **fields: object) -> Spoil:
    return lambda _, physical: physical[resource][0].update(fields)


def unused(virtual: dict[Resource, list[Json]], physical: dict[Resource, list[Json]]) -> None:
    """Leave a mark on what nobody uses and has no copy."""
    virtual[CONFIGMAPS].append(marked("idle", "ConfigMap"))


def half_marked(virtual: dict[Resource, list[Json]], _: dict[Resource, list[Json]]) -> None:
    del virtual[CONFIGMAPS][0]["metadata"]["finalizers"]


def strange_copy(_: dict[Resource, list[Json]], physical: dict[Resource, list[Json]]) -> None:
    labels = OWNER.labels()
    physical[SECRETS].append({"kind": "Secret", "metadata": {"name": "x", "namespace": "lent", "uid": "x", "labels": labels}})


def another_claim(virtual: dict[Resource, list[Json]], _: dict[Resource, list[Json]]) -> None:
    virtual[PERSISTENTVOLUMECLAIMS][0]["metadata"]["uid"] = "another"


def more_than_leased(virtual: dict[Resource, list[Json]], _: dict[Resource, list[Json]]) -> None:
    virtual[NODES][0]["status"]["allocatable"]["cpu"] = "6"


def old_heartbeat(virtual: dict[Resource, list[Json]], _: dict[Resource, list[Json]]) -> None:
    virtual[LEASES][0]["spec"]["renewTime"] = "2026-01-01T12:00:00.000000Z"


def another_port(_: dict[Resource, list[Json]], physical: dict[Resource, list[Json]]) -> None:
    physical[PODS][1]["spec"]["containers"][0]["ports"][0]["hostPort"] = 443


def no_vnode(virtual: dict[Resource, list[Json]], physical: dict[Resource, list[Json]]) -> None:
    virtual[NODES].clear()
    virtual[PODS] = [pod for pod in virtual[PODS] if pod["metadata"]["namespace"] == names.PLACEHOLDER_NAMESPACE]
    physical[PODS] = physical[PODS][1:]
    for resource in (CONFIGMAPS, SECRETS, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, SERVICES, ENDPOINTSLICES, NETWORKPOLICIES):
        virtual[resource], physical[resource] = [], []


def taken(_: dict[Resource, list[Json]], physical: dict[Resource, list[Json]]) -> None:
    physical[NAMESPACES][0]["metadata"]["annotations"][names.CLAIMED_BY_ANNOTATION] = "somebody/else"


SPOILT: dict[str, tuple[Spoil, set[tuple[Kind, str]]]] = {
    "a copy was changed below": (change_below(CONFIGMAPS, data={"a": "x"}), {(Kind.DRIFTED_COPY, "ChangedBelow")}),
    "a copy is gone": (clear(SECRETS), {(Kind.MISSING_COPY, "CopyIsGone")}),
    "a mark stands for nothing": (unused, {(Kind.STALE_MARK, "NotInUse")}),
    "a mark is missing": (half_marked, {(Kind.MISSING_MARK, "Incomplete")}),
    "a copy does not say of what": (strange_copy, {(Kind.ORPHAN_COPY, "Stray")}),
    "another claim has the name": (another_claim, {(Kind.ORPHAN_CLAIM, "ClaimIsGone"), (Kind.ORPHAN_VOLUME, "ClaimIsGone")}),
    "a Service was changed below": (change_below(SERVICES, spec={"ports": []}), {(Kind.DRIFTED_MIRROR, "Differs")}),
    "a slice is gone": (clear(ENDPOINTSLICES), {(Kind.MISSING_MIRROR, "NoCopy")}),
    "a Service is gone above": (clear_above(SERVICES), {(Kind.ORPHAN_MIRROR, "NotMirrored")}),
    "a policy is gone above": (clear_above(NETWORKPOLICIES), {(Kind.ORPHAN_MIRROR, "NotMirrored")}),
    "a policy has no copy": (clear(NETWORKPOLICIES), {(Kind.MISSING_MIRROR, "NoCopy")}),
    "more is offered than leased": (more_than_leased, {(Kind.BEYOND_LEASE, "TellsMore")}),
    "nothing is leased any more": (clear_above(RESOURCELEASINGPOLICIES), {(Kind.BEYOND_LEASE, "NotLeased")}),
    "the machine is gone": (clear(NODES), {(Kind.ORPHAN_NODE, "NoPhysicalNode")}),
    "the heart has stopped": (old_heartbeat, {(Kind.HEARTBEAT, "LeaseExpired")}),
    "there is no Lease": (clear_above(LEASES), {(Kind.HEARTBEAT, "NoLease")}),
    "host ports are others": (another_port, {(Kind.PLACEHOLDER_DRIFT, "OtherPorts")}),
    "the virtual node is gone": (no_vnode, {
        (Kind.STALE_NODE_LABEL, "NotLeased"), (Kind.ORPHAN_CSINODE, "NoVirtualNode"),
        (Kind.ORPHAN_PLACEHOLDER, "NoVirtualNode"),
    }),
    "the namespace is another's": (taken, {(Kind.NAMESPACE, "NamespaceClaimed")}),
    "the PriorityClass is gone": (clear(PRIORITYCLASSES), {(Kind.PRIORITY_CLASS, "NotFound")}),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_is_wrong_is_found_and_nothing_else(case: str) -> None:
    spoil, expected = SPOILT[case]
    snapshot = healthy()
    virtual, physical = copy.deepcopy(dict(snapshot.virtual)), copy.deepcopy(dict(snapshot.physical))
    spoil(virtual, physical)  # type: ignore[arg-type]  # they are lists
    assert found(replace(snapshot, virtual=virtual, physical=physical)) == expected


@pytest.mark.parametrize("resource", [CONFIGMAPS, SECRETS, PERSISTENTVOLUMES, SERVICES, NETWORKPOLICIES, PRIORITYCLASSES])
def test_what_was_not_read_is_not_judged(resource: Resource) -> None:
    snapshot = healthy()
    above = {kind: objects for kind, objects in snapshot.virtual.items() if kind != resource}
    below = {kind: objects for kind, objects in snapshot.physical.items() if kind != resource}
    assert found(replace(snapshot, virtual=above)) == found(replace(snapshot, physical=below)) == set()


def test_without_the_volumes_no_copy_of_a_secret_is_left_over() -> None:
    """The driver of one may read it: it would be deleted although a volume cannot be mounted without."""
    snapshot = healthy()
    key = of_ours(build_copy(marked("key", "Secret", data={"k": "ZA=="}), OWNER, "lent"))
    physical = {**snapshot.physical, SECRETS: [*snapshot.physical[SECRETS], key]}
    assert (Kind.ORPHAN_COPY, "NotInUse") in found(replace(snapshot, physical=physical))
    del physical[PERSISTENTVOLUMES]
    assert found(replace(snapshot, physical=physical)) == set()
    physical[SECRETS] = []
    assert found(replace(snapshot, physical=physical)) == {(Kind.MISSING_COPY, "CopyIsGone")}, "the rest is judged"


def test_a_foreign_object_is_never_found() -> None:
    snapshot = healthy()
    physical = copy.deepcopy(dict(snapshot.physical))
    for resource in (PODS, CONFIGMAPS, SECRETS, SERVICES, NETWORKPOLICIES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES):
        alien = copy.deepcopy(physical[resource][0])
        alien["metadata"] |= {"name": f"{alien['metadata']['name']}-2", "uid": "alien"}
        alien["metadata"]["labels"][names.OWNER_LABEL] = "0123456789abcdef"
        physical[resource] = [*physical[resource], alien]
    assert found(replace(snapshot, physical=physical)) == set()


def test_a_twin_that_is_to_be_adopted_takes_nothing_from_its_own_node() -> None:
    snapshot = healthy()
    physical = copy.deepcopy(dict(snapshot.physical))
    vpod, twin = snapshot.virtual[PODS][0], physical[PODS][0]
    twin["spec"] |= {"nodeName": NODE}
    container = twin["spec"]["containers"][0]
    container |= {"ports": [{"containerPort": 1, "hostPort": 1234}], "resources": {"requests": {"cpu": "2"}}}
    made_by_the_go_project(vpod, twin)
    assert found(replace(snapshot, physical=physical)) == set()
    twin["metadata"]["annotations"][names.VIRTUAL_POD_UID_ANNOTATION] = "another"
    assert {reason for _, reason in found(replace(snapshot, physical=physical))} >= {"TellsMore", "OtherPorts"}


def test_data_is_never_mended_away() -> None:
    snapshot = healthy()
    physical = copy.deepcopy(dict(snapshot.physical))
    physical[PERSISTENTVOLUMECLAIMS][0]["metadata"]["labels"][names.PROVISIONED_LABEL] = "true"
    findings = verify(replace(snapshot, virtual={**snapshot.virtual, PERSISTENTVOLUMECLAIMS: []}, physical=physical))
    claim = next(finding for finding in findings if finding.kind is Kind.ORPHAN_CLAIM)
    assert not claim.repairable
    assert "data" in claim.remedy


@pytest.mark.parametrize("twin", ["none", "its own"])
def test_a_pod_that_is_refused_needs_nothing_unless_it_runs(twin: str) -> None:
    snapshot = healthy()
    virtual, physical = copy.deepcopy(dict(snapshot.virtual)), copy.deepcopy(dict(snapshot.physical))
    virtual[PODS][0]["spec"]["hostNetwork"] = True
    if twin == "none":
        virtual[PODS][0]["metadata"]["annotations"] = {}
        physical[PODS] = physical[PODS][1:]
    physical[NETWORKPOLICIES] = []
    missing = (Kind.MISSING_MIRROR, "NoCopy") in found(replace(snapshot, virtual=virtual, physical=physical))
    assert missing is (twin == "its own")


def test_a_copy_that_the_driver_of_a_volume_reads_stays_when_its_original_is_gone() -> None:
    snapshot = healthy()
    physical = copy.deepcopy(dict(snapshot.physical))
    key = of_ours(build_copy(marked("key", "Secret", data={"k": "ZA=="}), OWNER, "lent"))
    read = {"driver": "d", "volumeHandle": "h", "nodeStageSecretRef": {"name": key["metadata"]["name"], "namespace": "lent"}}
    physical[SECRETS] = [*physical[SECRETS], key]
    assert (Kind.ORPHAN_COPY, "NotInUse") in found(replace(snapshot, physical=physical))
    del physical[PERSISTENTVOLUMES][0]["spec"]["nfs"]
    physical[PERSISTENTVOLUMES][0]["spec"]["csi"] = read
    assert Kind.ORPHAN_COPY not in {kind for kind, _ in found(replace(snapshot, physical=physical))}


LEAVING = {"deletionTimestamp": "2026-01-01T12:00:00Z", "finalizers": ["somebody/s"]}


@pytest.mark.parametrize("copies", ["as they were", "changed", "without annotations", "gone"])
@pytest.mark.parametrize("resource", [SERVICES, ENDPOINTSLICES, NETWORKPOLICIES])
def test_a_mirror_stays_as_long_as_its_original_which_may_be_about_to_go(resource: Resource, copies: str) -> None:
    snapshot = healthy()
    virtual, physical = copy.deepcopy(dict(snapshot.virtual)), copy.deepcopy(dict(snapshot.physical))
    virtual[resource][0]["metadata"] |= LEAVING
    match copies:
        case "changed":
            physical[resource][0] |= {"spec": {"podSelector": {}, "ports": []}, "endpoints": []}
        case "without annotations":
            physical[resource][0]["metadata"]["annotations"] = {}
        case "gone":
            physical[resource] = []
    assert found(replace(snapshot, virtual=virtual, physical=physical)) == set()


def step_of(findings: list[Finding], kind: Kind) -> object:
    return next(finding.step for finding in findings if finding.kind is kind)


def test_a_mirror_is_mended_by_what_the_syncer_would_write() -> None:
    snapshot = healthy()
    physical = {**snapshot.physical, ENDPOINTSLICES: []}
    assert isinstance(step_of(verify(replace(snapshot, physical=physical)), Kind.MISSING_MIRROR), Create)
    changed = copy.deepcopy(dict(snapshot.physical))
    changed[SERVICES][0]["spec"]["sessionAffinity"] = "ClientIP"
    step = step_of(verify(replace(snapshot, physical=changed)), Kind.DRIFTED_MIRROR)
    assert isinstance(step, Change)
    assert step.patch["metadata"]["resourceVersion"] == "7"
    assert ObjectKey("lent", step.name) == ObjectKey("lent", physical_name("web", "shop"))
