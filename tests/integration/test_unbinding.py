"""Leaving: nothing of us stays on either side, a dead cluster makes it wait and say why, and Force lets go."""

from collections.abc import AsyncIterator

import pytest

from kubeocean.api.resources import CLUSTERBINDINGS, RESOURCELEASINGPOLICIES
from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json, annotations_of, finalizers_of, is_deleting, labels_of, name_of, uid_of
from kubeocean.kube.resources import CONFIGMAPS, DEPLOYMENTS, EVENTS, NAMESPACES, NODES, PODS, SECRETS
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.credentials import issue_kubeconfig
from tests.integration.everything import COPIED, use_everything
from tests.integration.federation import (
    Federation,
    Lender,
    build_pod,
    build_pod_spec,
    discard,
    eventually,
    find,
    is_running,
    steadily,
    twin_name,
)
from tests.integration.gate import Gate
from tests.integration.lending import ROLEBINDINGS, grant, revoke
from tests.integration.programs import Program
from tests.integration.scan import find_traces
from tests.integration.test_mount_namespace import make_namespace, marks

# What is in any namespace by itself, or was put into it by `make_lenders_namespace`.
LENDERS_OWN = [
    ("namespaces", ""), ("secrets", "/his"), ("configmaps", "/kube-root-ca.crt"), ("serviceaccounts", "/default"),
]
# What bears our marks while a binding uses it.
MARKED = [("configmaps", "settings"), ("secrets", "password"), ("persistentvolumeclaims", "data"), ("pods", "web")]


async def traces(client: Client, lender: Lender) -> dict[str, str]:
    """Return what speaks of Kubeocean, but for what this test itself put there."""
    words = ("kubeocean", "cloud.tencent.com", lender.cluster_id, lender.binding, lender.mount_namespace)
    found = await find_traces(client, *words)
    mine = {f"secrets default/{lender.secret}"}
    # A proxier's request for a certificate is the manager's, and is made when that starts: maybe after the first look.
    managers = "certificatesigningrequests "
    return {name: places for name, places in found.items() if name not in mine and not name.startswith(managers)}


def deployment(namespace: str, lender: Lender) -> Json:
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "replicas": 4, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": build_pod_spec(lender, tolerations=[])},
        },
    }


async def test_unbinding_leaves_nothing_on_either_side(federation: Federation, namespace: str) -> None:
    pool = await federation.pool(nodes=2)
    lender = Lender("none", "none-at-all", "none-at-all", "none", pool)  # words that nothing holds
    before = [await traces(client, lender) for client in (federation.virtual, federation.physical[0])]
    lender = await federation.bind(pool, disableNodeDefaultTaint=True)
    policy = await federation.policy(lender, resourceLimits=[{"resource": "cpu", "percent": 90}])
    await federation.vnodes(lender)
    await federation.virtual.create(DEPLOYMENTS, deployment(namespace, lender))
    await federation.virtual.create(PODS, build_pod("bare", namespace, lender, tolerations=[]))
    root: Json = {"securityContext": {"privileged": True}}
    containers = [{"name": "main", "image": "busybox", **root}]
    await federation.virtual.create(PODS, build_pod("refused", namespace, lender, tolerations=[], containers=containers))

    async def five_run() -> bool:
        pods = (await federation.virtual.list(PODS, namespace)).items
        assert sum(map(is_running, pods)) == 5, [pod["status"] for pod in pods if not is_running(pod)]
        return True

    await eventually(five_run, within=20, what="five Pods run")
    assert f"pods {lender.mount_namespace}/" in str(await traces(federation.physical[0], lender)), "the scan is blind"
    await federation.unbind(lender)

    async def clean() -> bool:
        for client, known in zip((federation.virtual, federation.physical[0]), before, strict=True):
            found = await traces(client, lender)
            # The policy names the binding and stays: it is its author's.
            left = {name: found[name] for name in found.keys() - known.keys() - {f"resourceleasingpolicies {policy}"}}
            assert not left, f"left: {left}"
        return True

    await eventually(clean, within=30, what="no trace")  # the mountNamespace takes its time
    found = await find(federation.virtual, PODS, "bare", namespace)
    assert found is None, "an evicted bare Pod is gone"


@pytest.mark.parametrize("whose", ["ours", "the lender's"])
async def test_unbinding_leaves_nothing_of_a_binding_that_has_used_everything(
    federation: Federation, namespace: str, whose: str
) -> None:
    """With a mountNamespace that stays, too: in one that goes, everything goes."""
    physical, given = federation.physical[0], {}
    if whose != "ours":
        given = {"mountNamespace": await make_lenders_namespace(federation, f"lenders-{namespace}")}
    nobody = Lender("none", "none-at-all", "none-at-all", "none", await federation.pool())  # words that nothing holds
    before = [await traces(client, nobody) for client in (federation.virtual, physical)]
    lender = await use_everything(federation, namespace, **given)
    used = [await traces(client, lender) for client in (federation.virtual, physical)]
    await assert_sees_everything(federation, lender, namespace, *used)
    await federation.unbind(lender)

    async def clean() -> bool:
        for client, known in zip((federation.virtual, physical), before, strict=True):
            found = await traces(client, lender)
            left = {name: found[name] for name in found.keys() - known.keys() if name not in allowed}
            assert not left, f"left: {left}"
        return True

    # The policy names the binding and stays: it is its author's.
    policies = (await federation.virtual.list(RESOURCELEASINGPOLICIES)).items
    policies = [policy for policy in policies if policy["spec"]["cluster"] == lender.binding]
    allowed = {f"resourceleasingpolicies {name_of(policy)}" for policy in policies}
    if whose != "ours":  # it is called so, and so is what else of his is in there
        allowed |= {f"{kind} {lender.mount_namespace}{name}" for kind, name in LENDERS_OWN}
    await eventually(clean, within=30, what="no trace")  # the mountNamespace takes its time
    assert policies
    assert "kubeocean" not in str([marks(policy) for policy in policies])
    if whose != "ours":
        assert "kubeocean" not in str(marks(await physical.get(NAMESPACES, lender.mount_namespace)))
    for resource, name in COPIED:
        kept = await federation.virtual.get(resource, name, namespace)
        assert not is_deleting(kept), f"the user's own {resource.kind} stays, and stays as it was"
        assert not [item for item in finalizers_of(kept) if "kubeocean" in item]


async def make_lenders_namespace(federation: Federation, name: str) -> str:
    """Have a namespace that the lender made, with something of his in it."""
    await make_namespace(federation, name, labels={"team": "lender"})
    metadata = {"name": "his", "namespace": name}
    await federation.physical[0].create(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    return name


async def assert_sees_everything(
    federation: Federation, lender: Lender, namespace: str, above: dict[str, str], below: dict[str, str]
) -> None:
    """See that the scan is not blind for anything that `use_everything` brings about."""
    for kind, name in MARKED:
        assert f"{kind} {namespace}/{name}" in above
    for resource, name in COPIED:
        assert f"{resource.plural} {lender.mount_namespace}/{twin_name(name, namespace)}" in below
    vnode, mount = lender.vnode(), lender.mount_namespace
    assert {f"nodes {vnode}", f"leases kube-node-lease/{vnode}", f"csinodes {vnode}"} <= above.keys()
    assert {f"nodes {lender.pool.nodes[0]}", f"namespaces {mount}", "priorityclasses kubeocean-default"} <= below.keys()
    for kind, found in (
        ("pods kubeocean-fake/", above), ("persistentvolumes ", above), ("persistentvolumes ", below),
        (f"endpointslices {mount}/", below), (f"secrets {mount}/web-", below),
    ):
        assert any(name.startswith(kind) for name in found), f"the scan is blind for {kind}"


async def test_a_mount_namespace_that_was_the_lenders_stays_with_what_is_his(
    federation: Federation, namespace: str
) -> None:
    client, name = federation.physical[0], await make_lenders_namespace(federation, f"lenders-{namespace}")
    made = await client.get(NAMESPACES, name)
    lender = await federation.lend(mountNamespace=name)
    await federation.virtual.create(PODS, build_pod("web", namespace, lender))
    await federation.running(namespace, "web")
    await federation.unbind(lender)
    after = await client.get(NAMESPACES, name)
    assert uid_of(after) == uid_of(made)
    assert not is_deleting(after)
    assert "kubeocean" not in str(marks(after))
    assert await find(client, SECRETS, "his", name)
    assert (await client.list(PODS, name)).items == []


@pytest.fixture
async def gate(sandbox: Sandbox) -> AsyncIterator[Gate]:
    async with Gate(sandbox.physical[1]) as gate:
        yield gate


async def test_a_binding_whose_cluster_is_gone_waits_and_says_why_until_force_releases_it(
    federation: Federation, namespace: str, gate: Gate
) -> None:
    pool = await federation.pool(cluster=1)
    lender = await federation.bind(pool, kubeconfig=gate.kubeconfig())
    await federation.policy(lender)
    await federation.vnodes(lender)
    metadata = {"name": "settings", "namespace": namespace}
    await federation.virtual.create(CONFIGMAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    containers = [{"name": "main", "image": "busybox", "envFrom": [{"configMapRef": {"name": "settings"}}]}]
    await federation.virtual.create(PODS, build_pod("web", namespace, lender, containers=containers))
    (vpod,) = await federation.running(namespace, "web")
    assert finalizers_of(await federation.virtual.get(CONFIGMAPS, "settings", namespace))
    await gate.close()
    try:
        await discard(federation.virtual, CLUSTERBINDINGS, lender.binding)

        async def told() -> bool:
            binding = await federation.virtual.get(CLUSTERBINDINGS, lender.binding)
            status = binding["status"]
            said = " ".join([status.get("lastError", ""), *(each["message"] for each in status["conditions"])])
            assert "waits" in said or "cannot be reached" in said or "does not answer" in said or "refused" in said, said
            assert "Force" in said, f"the way out is not named: {said}"
            return True

        await eventually(told, within=30, what="the binding says why it stays")

        async def still_there() -> bool:
            return await find(federation.virtual, CLUSTERBINDINGS, lender.binding) is not None

        await steadily(still_there, during=2, what="the binding waits")
        await federation.virtual.patch(CLUSTERBINDINGS, lender.binding, "", {"spec": {"deletionPolicy": "Force"}})
        await federation.unbind(lender, within=60)  # 40 s of silence are asked for
        assert await find(federation.virtual, NODES, lender.vnode()) is None, "virtual node"
        assert await find(federation.virtual, PODS, "web", namespace) is None, "virtual Pod"
        used = await federation.virtual.get(CONFIGMAPS, "settings", namespace)
        assert not [*finalizers_of(used), *labels_of(used), *annotations_of(used)], "marks"
        events = (await federation.virtual.list(EVENTS, "default")).items
        left = [event for event in events if event["involvedObject"]["name"] == lender.binding]
        assert any(event["reason"] == "LeftBehind" and lender.mount_namespace in event["message"] for event in left)
        assert await federation.twin(lender, vpod) is not None, "released, not cleaned"
    finally:
        await gate.open()
        for pod in (await federation.physical[1].list(PODS, lender.mount_namespace)).items:
            await discard(federation.physical[1], PODS, name_of(pod), lender.mount_namespace)
        await discard(federation.physical[1], NAMESPACES, lender.mount_namespace)


async def test_force_lets_go_of_a_lender_who_has_taken_his_rights_back(
    federation: Federation, namespace: str, sandbox: Sandbox
) -> None:
    user, client = f"borrower-{namespace}", federation.physical[1]
    credentials = issue_kubeconfig(sandbox.physical[1], user)
    lender = await federation.bind(await federation.pool(cluster=1), kubeconfig=credentials, ready=False)
    await grant(federation, lender, user)
    await federation.policy(lender)
    await federation.vnodes(lender, within=60)
    await federation.virtual.create(PODS, build_pod("web", namespace, lender))
    (vpod,) = await federation.running(namespace, "web")
    await revoke(federation, lender, user)
    await federation.virtual.patch(CLUSTERBINDINGS, lender.binding, "", {"spec": {"deletionPolicy": "Force"}})
    await federation.unbind(lender, within=90)  # 40 s of refusals are asked for
    assert await find(federation.virtual, NODES, lender.vnode()) is None, "virtual node"
    assert await find(federation.virtual, PODS, "web", namespace) is None, "virtual Pod"
    twin = await federation.twin(lender, vpod)
    assert twin is not None, "nothing can be cleaned where nothing may be done"
    await discard(client, PODS, name_of(twin), lender.mount_namespace)
    await discard(client, NAMESPACES, lender.mount_namespace)


async def use_with_little_rights(federation: Federation, namespace: str, sandbox: Sandbox) -> Lender:
    """Lend under the rights that `kubeocean rbac` prints, and have a Pod run there that takes a ConfigMap along."""
    user = f"borrower-{namespace}"
    credentials = issue_kubeconfig(sandbox.physical[1], user)
    lender = await federation.bind(await federation.pool(cluster=1), kubeconfig=credentials, ready=False)
    await grant(federation, lender, user)
    await federation.policy(lender)
    await federation.vnodes(lender, within=60)
    metadata = {"name": "settings", "namespace": namespace}
    await federation.virtual.create(CONFIGMAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    containers = [{"name": "main", "image": "busybox", "envFrom": [{"configMapRef": {"name": "settings"}}]}]
    await federation.virtual.create(PODS, build_pod("web", namespace, lender, containers=containers))
    await federation.running(namespace, "web")
    return lender


async def assert_no_marks(federation: Federation, lender: Lender, namespace: str) -> None:
    """See that nothing in the virtual cluster speaks of the binding."""
    assert await find(federation.virtual, NODES, lender.vnode()) is None, "virtual node"
    assert await find(federation.virtual, PODS, "web", namespace) is None, "virtual Pod"
    used = await federation.virtual.get(CONFIGMAPS, "settings", namespace)
    assert not [*finalizers_of(used), *labels_of(used), *annotations_of(used)], "marks"


async def test_a_lender_who_deletes_the_mount_namespace_and_all_rights_in_it_keeps_no_binding(
    federation: Federation, namespace: str, sandbox: Sandbox, manager: Program
) -> None:
    """Without Force: a namespace that is proved gone holds nothing of ours. After a restart, too, which reads it anew."""
    lender = await use_with_little_rights(federation, namespace, sandbox)
    physical = federation.physical[1]
    manager.stop()
    await discard(physical, NAMESPACES, lender.mount_namespace)

    async def gone() -> bool:
        return await find(physical, NAMESPACES, lender.mount_namespace) is None

    await eventually(gone, within=60, what="the mountNamespace is gone")
    manager.ensure()

    async def told() -> bool:
        status = (await federation.virtual.get(CLUSTERBINDINGS, lender.binding))["status"]
        said = " ".join([status.get("lastError", ""), *(each["message"] for each in status["conditions"])])
        assert lender.mount_namespace in said, said
        assert "kubeocean rbac" in said, f"no remedy is named: {said}"
        return True

    await eventually(told, within=40, what="the binding says what is missing")
    await federation.unbind(lender, within=40)
    await assert_no_marks(federation, lender, namespace)
    node = await physical.get(NODES, lender.pool.nodes[0])
    assert "policy-applied" not in str(marks(node))


async def test_a_role_that_is_taken_away_is_named_and_force_lets_go(
    federation: Federation, namespace: str, sandbox: Sandbox
) -> None:
    lender = await use_with_little_rights(federation, namespace, sandbox)
    physical = federation.physical[1]
    await discard(physical, ROLEBINDINGS, "kubeocean-borrower", lender.mount_namespace)
    await discard(federation.virtual, CLUSTERBINDINGS, lender.binding)

    async def told() -> bool:
        status = (await federation.virtual.get(CLUSTERBINDINGS, lender.binding))["status"]
        said = " ".join([status.get("lastError", ""), *(each["message"] for each in status["conditions"])])
        assert f"in namespace {lender.mount_namespace}" in said, said
        assert "kubeocean rbac" in said, f"no remedy is named: {said}"
        assert "Force" in said, f"the way out is not named: {said}"
        return True

    await eventually(told, within=40, what="the binding says why it stays")
    await federation.virtual.patch(CLUSTERBINDINGS, lender.binding, "", {"spec": {"deletionPolicy": "Force"}})
    await federation.unbind(lender, within=90)  # 40 s of refusals are asked for
    await assert_no_marks(federation, lender, namespace)
    events = (await federation.virtual.list(EVENTS, "default")).items
    left = [event for event in events if event["involvedObject"]["name"] == lender.binding]
    assert any(event["reason"] == "LeftBehind" and "may not" in event["message"] for event in left)
    await discard(physical, NAMESPACES, lender.mount_namespace)
