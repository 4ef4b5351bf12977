"""What the tables in kubeocean/clusters/permissions.py grant is enough, on both sides, and nothing outside them is tried.

One main job is done with the least rights: a manager that may do in the virtual cluster what config/rbac says, with a
lender's user who may do what `kubeocean rbac` prints. Every write is then looked up in the tables.
"""

import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from kubeocean.api.resources import CLUSTERBINDINGS, RESOURCELEASINGPOLICIES
from kubeocean.clusters.permissions import INSTALL_RULES, PHYSICAL_RULES, VIRTUAL_PROXIER_RULES, VIRTUAL_SYNCER_RULES, Rule
from kubeocean.kube.client import Client, PatchType
from kubeocean.kube.meta import Json, labels_of, name_of, namespace_of
from kubeocean.kube.resources import (
    CONFIGMAPS,
    ENDPOINTSLICES,
    NETWORKPOLICIES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    SECRETS,
    SERVICEACCOUNTS,
    SERVICES,
    Resource,
)
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.audit import AuditLog, Write, summary
from tests.integration.credentials import event_about, hand_in, is_failed, issue_kubeconfig
from tests.integration.federation import (
    Federation,
    Lender,
    build_pod,
    condition,
    discard,
    eventually,
    find,
    make_namespace,
)
from tests.integration.lending import CLUSTERROLEBINDINGS, RESOURCES, ROLES, grant
from tests.integration.programs import Program
from tests.integration.storage import build_claim, build_volume, make_class, mounting, provisioner

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config" / "rbac"
AROUND = (SERVICES, ENDPOINTSLICES, NETWORKPOLICIES, PERSISTENTVOLUMECLAIMS)


@pytest.fixture
async def limited(
    sandbox: Sandbox, virtual_client: Client, manager: Program, tmp_path: Path
) -> AsyncIterator[tuple[Program, str]]:
    """A manager whose user has the rights of config/rbac, in place of the session's; and the name of that user."""
    user = f"manager-{uuid.uuid4().hex[:6]}"
    manager.stop()
    applied = [await install(virtual_client, obj, user) for obj in config_objects()]
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes(issue_kubeconfig(sandbox.virtual, user))
    program = Program(
        "manager", "--install-crds", "--leader-election-lease-duration=4s", "--leader-election-renew-deadline=3s",
        "--leader-election-retry-period=1s", kubeconfig=kubeconfig, log=tmp_path / "log",
    )
    program.ensure()
    yield program, user
    program.stop()
    for resource, name in applied:
        if resource is CLUSTERROLEBINDINGS:
            await discard(virtual_client, resource, name)
    manager.ensure()


def config_objects() -> Iterator[Json]:
    for name in ("manager.yaml", "syncer.yaml", "proxier.yaml", "manager-inprocess.yaml", "manager-install-crds.yaml"):
        yield from yaml.safe_load_all((CONFIG / name).read_text())


async def install(client: Client, obj: Json, user: str) -> tuple[Resource, str]:
    """Apply one object of config/rbac; where it binds the manager's ServiceAccount, it binds `user` instead."""
    resource = {**RESOURCES, "ServiceAccount": SERVICEACCOUNTS}[obj["kind"]]
    if obj["kind"] == "ClusterRoleBinding" and obj["subjects"][0]["name"] == "kubeocean-manager":
        obj["subjects"] = [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}]
    await client.patch(
        resource, name_of(obj), namespace_of(obj), obj, kind=PatchType.APPLY, field_manager="test", force=True
    )
    return resource, name_of(obj)


async def test_the_main_job_is_done_with_the_least_rights_on_both_sides(
    federation: Federation, limited: tuple[Program, str]
) -> None:
    program, user = limited
    virtual, physical = (AuditLog(cluster) for cluster in (federation.sandbox.virtual, federation.sandbox.physical[0]))
    borrower = f"borrower-{uuid.uuid4().hex[:6]}"
    lender = await federation.bind(await federation.pool(nodes=2), kubeconfig=b"soon", ready=False)
    await grant(federation, lender, borrower)
    await hand_in(federation.virtual, lender, issue_kubeconfig(federation.sandbox.physical[0], borrower))
    await eventually(lambda: federation.is_ready(lender), within=30, what="Ready with a borrower's rights")
    policy = await federation.policy(lender, resourceLimits=[{"resource": "cpu", "percent": 50}])
    await federation.vnodes(lender)
    await borrow(federation, lender)
    await discard(federation.virtual, RESOURCELEASINGPOLICIES, policy)
    await eventually(lambda: no_vnodes(federation, lender), within=30, what="virtual nodes are drained without a policy")
    for resource in AROUND:
        assert (await federation.physical[0].list(resource, lender.mount_namespace)).items, f"no {resource.plural} to take back"
    await federation.unbind(lender)
    for resource in AROUND:
        left = (await federation.physical[0].list(resource, lender.mount_namespace)).items
        assert not left, f"left: {[name_of(obj) for obj in left]}"

    assert ": 403" not in program.log.read_text(), [line for line in program.log.read_text().splitlines() if ": 403" in line]
    expect_within(physical, borrower, [*PHYSICAL_RULES], lender.mount_namespace)
    expect_within(virtual, user, [*VIRTUAL_SYNCER_RULES, *VIRTUAL_PROXIER_RULES, *INSTALL_RULES], "")


async def borrow(federation: Federation, lender: Lender) -> None:
    """Have Pods with tokens run, end, and be deleted, with a Service and a network policy around them."""
    namespace = await make_namespace(federation.virtual)
    await surround(federation, lender, namespace)
    await store(federation, lender, namespace)
    named = {"metadata": {"name": "named", "namespace": namespace}}
    await federation.virtual.create(CONFIGMAPS, {"apiVersion": "v1", "kind": "ConfigMap", **named})
    await federation.virtual.create(SECRETS, {"apiVersion": "v1", "kind": "Secret", **named})
    names_them: list[Json] = [{"configMapRef": {"name": "named"}}, {"secretRef": {"name": "named"}}]
    names_them.append({"configMapRef": {"name": "missing", "optional": True}})
    for name in ("one", "two", "three"):
        containers = [{"name": "main", "image": "busybox", "envFrom": names_them}]
        await federation.virtual.create(PODS, build_pod(name, namespace, lender, containers=containers))
    await federation.running(namespace, "one", "two", "three")
    await change(federation, lender, namespace, "three")
    await discard(federation.virtual, PODS, "one", namespace, grace_seconds=1)
    twin = next(twin for twin in await federation.twins(lender) if name_of(twin).startswith("two-"))
    await discard(federation.physical[0], PODS, name_of(twin), lender.mount_namespace, grace_seconds=0)

    async def ended() -> bool:
        gone = await find(federation.virtual, PODS, "one", namespace) is None
        lost = (await federation.virtual.get(PODS, "two", namespace))["status"]["phase"] == "Failed"
        assert gone, "the deleted Pod is there"
        assert lost, "the lost Pod is not told"
        return True

    await eventually(ended, within=20, what="Pods end")


async def change(federation: Federation, lender: Lender, namespace: str, name: str) -> None:
    """Have a label and an ephemeral container reach a running Pod's twin."""
    debug = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox"}]}}
    for patch, subresource in (({"metadata": {"labels": {"more": "yes"}}}, ""), (debug, "ephemeralcontainers")):
        await federation.virtual.patch(PODS, name, namespace, patch, kind=PatchType.STRATEGIC, subresource=subresource)

    async def changed() -> bool:
        twin = await federation.twin(lender, {"metadata": {"name": name, "namespace": namespace}})
        assert twin is not None
        return "more" in labels_of(twin) and "ephemeralContainers" in twin["spec"]

    await eventually(changed, what="changes reach the twin")


async def surround(federation: Federation, lender: Lender, namespace: str) -> None:
    """Have Services of a namespace mirrored, and a policy there that asks for the namespaces of the virtual cluster."""
    await federation.virtual.patch(CLUSTERBINDINGS, lender.binding, "", {"spec": {"serviceNamespaces": [namespace]}})
    metadata = {"name": "around", "namespace": namespace}
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    await federation.virtual.create(SERVICES, {
        "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]},
    })
    await federation.virtual.create(NETWORKPOLICIES, {
        "apiVersion": NETWORKPOLICIES.api_version, "kind": "NetworkPolicy", "metadata": metadata,
        "spec": {"podSelector": {}, "ingress": [{"from": [peer]}]},
    })

    async def mirrored() -> bool:
        found = await federation.physical[0].list(SERVICES, lender.mount_namespace)
        return len(found.items) == 1

    await eventually(mirrored, what="the Service is mirrored")


async def store(federation: Federation, lender: Lender, namespace: str) -> None:
    """Have a claim carried with a Pod of its own, another one provisioned, and that one deleted again."""
    tag, virtual = uuid.uuid4().hex[:6], federation.virtual
    await make_class(federation, f"once-{tag}", mode="Immediate")
    nfs = {"server": "nfs.test.example", "path": "/"}
    await federation.create(PERSISTENTVOLUMES, build_volume(f"net-{tag}", "net", namespace, nfs=nfs))
    await virtual.create(PERSISTENTVOLUMECLAIMS, build_claim("net", namespace, volumeName=f"net-{tag}"))
    await virtual.create(PODS, build_pod("net", namespace, lender, **mounting("net")))
    named = {"kubeocean.io/cluster-binding": lender.binding}
    made = build_claim("made", namespace, storage_class=f"once-{tag}", annotations=named)
    await virtual.create(PERSISTENTVOLUMECLAIMS, made)

    async def bound() -> bool:
        claim = await virtual.get(PERSISTENTVOLUMECLAIMS, "made", namespace)
        return bool(claim["status"]["phase"] == "Bound")

    async def gone() -> bool:
        return await find(virtual, PERSISTENTVOLUMECLAIMS, "made", namespace) is None

    async with provisioner(federation.physical[0], f"once-{tag}", refuse=set()):
        await eventually(bound, within=20, what="a claim is provisioned")
        await federation.running(namespace, "net")
        await discard(virtual, PERSISTENTVOLUMECLAIMS, "made", namespace)
        await eventually(gone, within=20, what="the provisioned claim is gone")


async def no_vnodes(federation: Federation, lender: Lender) -> bool:
    left = [name for name in lender.vnodes if await find(federation.virtual, NODES, name)]
    assert not left, f"left: {left}"
    return True


def expect_within(log: AuditLog, user: str, rules: Sequence[Rule], mount_namespace: str) -> None:
    """Every write of that user was allowed, and is in the table."""
    written = [write for write in log.writes() if write.user == user]
    assert written
    assert not [str(write) for write in written if write.code in (401, 403)]
    outside = [write for write in written if not any(permits(rule, write, mount_namespace) for rule in rules)]
    assert not outside, summary(outside)


def permits(rule: Rule, write: Write, mount_namespace: str) -> bool:
    if (rule.resource, True) != (write.resource, write.verb in rule.verbs):
        return False
    if rule.mounted and write.namespace != mount_namespace:
        return False
    return rule.only in ("", write.name)


@dataclass(frozen=True, slots=True)
class Lack:
    """One right that is taken away, and how the binding names it."""

    kind: str
    resource: str
    verb: str
    named: str


LACKS = {
    "watch nodes": Lack("ClusterRole", "nodes", "watch", "watch nodes"),
    "create Pods": Lack("Role", "pods", "create", "create pods in namespace {mount}"),
    "read token Secrets": Lack("Role", "secrets", "list", "list secrets in namespace {mount}"),
    "claim the namespace": Lack("Role", "namespaces", "patch", "patch namespaces/{mount}"),
}


@pytest.mark.parametrize("sentence", LACKS)
async def test_one_missing_right_is_named_with_the_remedy(federation: Federation, sentence: str) -> None:
    lack, borrower = LACKS[sentence], f"borrower-{uuid.uuid4().hex[:6]}"
    lender = await federation.bind(await federation.pool(), kubeconfig=b"soon", ready=False)
    await grant(federation, lender, borrower, without=(lack.kind, lack.resource, lack.verb))
    await hand_in(federation.virtual, lender, issue_kubeconfig(federation.sandbox.physical[0], borrower))
    binding = await eventually(lambda: is_failed(federation.virtual, lender, "PermissionDenied"), what="the lack is told")
    message = condition(binding, "Connected")["message"]
    named = lack.named.format(mount=lender.mount_namespace)
    assert message == (
        f"the user of Secret default/{lender.secret} may not: {named}; the lender can grant it with "
        f"`kubeocean rbac --mount-namespace {lender.mount_namespace}`"
    )
    await event_about(federation.virtual, lender.binding, message)
    assert not await federation.twins(lender)

    await grant(federation, lender, borrower)
    await eventually(lambda: federation.is_ready(lender), within=20, what="Ready once it is granted")


async def test_rights_that_are_taken_back_are_told_while_it_runs(federation: Federation) -> None:
    borrower = f"borrower-{uuid.uuid4().hex[:6]}"
    lender = await federation.bind(await federation.pool(), kubeconfig=b"soon", ready=False)
    await grant(federation, lender, borrower)
    await hand_in(federation.virtual, lender, issue_kubeconfig(federation.sandbox.physical[0], borrower))
    await eventually(lambda: federation.is_ready(lender), what="Ready with a borrower's rights")
    await discard(federation.physical[0], ROLES, "kubeocean-borrower", lender.mount_namespace)
    binding = await eventually(
        lambda: is_failed(federation.virtual, lender, "PermissionDenied"), within=40, what="the loss is told"
    )
    assert "create pods in namespace" in condition(binding, "Connected")["message"]
    await grant(federation, lender, borrower)
    await eventually(lambda: federation.is_ready(lender), within=20, what="Ready once it is granted again")
