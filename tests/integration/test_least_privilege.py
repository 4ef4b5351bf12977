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

from kubeocean.api.resources import RESOURCELEASINGPOLICIES
from kubeocean.clusters.permissions import INSTALL_RULES, PHYSICAL_RULES, VIRTUAL_SYNCER_RULES, Rule
from kubeocean.kube.client import Client, PatchType
from kubeocean.kube.meta import Json, name_of, namespace_of
from kubeocean.kube.resources import NODES, PODS, SERVICEACCOUNTS, Resource
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

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config" / "rbac"


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
    for name in ("manager.yaml", "syncer.yaml", "manager-inprocess.yaml", "manager-install-crds.yaml"):
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
    await federation.unbind(lender)

    assert ": 403" not in program.log.read_text(), [line for line in program.log.read_text().splitlines() if ": 403" in line]
    expect_within(physical, borrower, [*PHYSICAL_RULES], lender.mount_namespace)
    expect_within(virtual, user, [*VIRTUAL_SYNCER_RULES, *INSTALL_RULES], "")


async def borrow(federation: Federation, lender: Lender) -> None:
    """Have Pods with tokens run, end, and be deleted."""
    namespace = await make_namespace(federation.virtual)
    for name in ("one", "two", "three"):
        await federation.virtual.create(PODS, build_pod(name, namespace, lender))
    await federation.running(namespace, "one", "two", "three")
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
