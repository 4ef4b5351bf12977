"""The namespace that a lender sets aside: claimed before anything is written into it, given back as it was."""

import uuid

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.kube.meta import Json, is_deleting, uid_of
from kubeocean.kube.resources import CONFIGMAPS, NAMESPACES, PODS, PRIORITYCLASSES, SECRETS
from tests.integration.audit import AuditLog, summary
from tests.integration.credentials import event_about, is_failed
from tests.integration.federation import Federation, build_pod, condition, discard, eventually, find

CLAIMED_BY = "kubeocean.io/claimed-by"


async def make_namespace(federation: Federation, name: str, **metadata: Json) -> Json:
    """Create a namespace in the first physical cluster, as its lender would."""
    federation.made.physical.append((0, NAMESPACES, name, ""))
    return await federation.physical[0].create(NAMESPACES, {
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, **metadata},
    })


def marks(obj: Json) -> dict[str, object]:
    """Return what somebody put on an object; `kubernetes.io/metadata.name`, of a namespace, is the server's own."""
    metadata = obj["metadata"]
    labels = {key: text for key, text in (metadata.get("labels") or {}).items() if key != "kubernetes.io/metadata.name"}
    return {"labels": labels, "annotations": metadata.get("annotations") or {}, "finalizers": metadata.get("finalizers") or []}


async def test_a_namespace_that_another_claims_is_not_touched(federation: Federation) -> None:
    name, somebody = f"taken-{uuid.uuid4().hex[:6]}", "7f9c2b6e-another-virtual-cluster/c9"
    before = await make_namespace(federation, name, annotations={CLAIMED_BY: somebody})
    log = AuditLog(federation.sandbox.physical[0])
    lender = await federation.bind(await federation.pool(), ready=False, mountNamespace=name)
    await federation.policy(lender)
    binding = await eventually(lambda: is_failed(federation.virtual, lender, "NamespaceClaimed"), what="the claim is told")
    message = condition(binding, "Ready")["message"]
    assert name in message
    assert somebody in message
    assert "choose another spec.mountNamespace" in message
    assert condition(binding, "Connected")["status"] == "True"
    assert condition(binding, "SyncerReady")["reason"] == "NamespaceClaimed"
    await event_about(federation.virtual, lender.binding, "NamespaceClaimed")
    assert await federation.physical[0].get(NAMESPACES, name) == before
    written = [write for write in log.ours() if name in (write.namespace, write.name)]
    assert not written, summary(written)

    # The other borrower leaves: nobody has to do anything here.
    await federation.physical[0].patch(NAMESPACES, name, "", {"metadata": {"annotations": {CLAIMED_BY: None}}})
    await eventually(lambda: federation.is_ready(lender), within=35, what="Ready once the claim is gone")
    await federation.vnodes(lender)


async def test_two_bindings_cannot_share_a_namespace(federation: Federation) -> None:
    first = await federation.lend()
    second = await federation.bind(await federation.pool(), ready=False, mountNamespace=first.mount_namespace)
    binding = await eventually(lambda: is_failed(federation.virtual, second, "NamespaceClaimed"), what="the claim is told")
    assert f"/{first.cluster_id}" in condition(binding, "Ready")["message"]
    await federation.is_ready(first)
    await federation.unbind(second)
    claim = (await federation.physical[0].get(NAMESPACES, first.mount_namespace))["metadata"]["annotations"][CLAIMED_BY]
    assert claim.endswith(f"/{first.cluster_id}")
    await federation.is_ready(first)


async def test_the_lenders_own_namespace_is_only_claimed_and_given_back_as_it_was(
    federation: Federation, namespace: str
) -> None:
    client, name = federation.physical[0], f"own-{uuid.uuid4().hex[:6]}"
    before = marks(await make_namespace(federation, name, labels={"team": "a"}, annotations={"cost-centre": "42"}))
    await client.create(CONFIGMAPS, {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs", "namespace": name}, "data": {"a": "b"},
    })
    lender = await federation.bind(await federation.pool(), mountNamespace=name)
    await federation.policy(lender)
    await federation.vnodes(lender)
    await federation.virtual.create(PODS, build_pod("web", namespace, lender))
    await federation.running(namespace, "web")
    claimed = marks(await client.get(NAMESPACES, name))
    assert claimed["labels"] == before["labels"]
    assert claimed["finalizers"] == before["finalizers"]
    assert claimed["annotations"] != before["annotations"]

    await federation.unbind(lender)
    after = await client.get(NAMESPACES, name)
    assert "deletionTimestamp" not in after["metadata"]
    assert marks(after) == before
    assert not (await client.list(PODS, name)).items
    assert not (await client.list(SECRETS, name)).items
    assert await find(client, CONFIGMAPS, "theirs", name)


async def test_a_namespace_we_made_goes_unless_somebody_has_put_something_into_it(federation: Federation) -> None:
    client = federation.physical[0]
    empty, used = await federation.lend(), await federation.lend()
    await client.create(SECRETS, {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "theirs", "namespace": used.mount_namespace},
    })
    await federation.unbind(empty)
    await federation.unbind(used)

    ours = await find(client, NAMESPACES, empty.mount_namespace)
    assert ours is None or is_deleting(ours)
    assert await find(client, SECRETS, "theirs", used.mount_namespace)
    assert CLAIMED_BY not in ((await client.get(NAMESPACES, used.mount_namespace))["metadata"].get("annotations") or {})
    await discard(client, NAMESPACES, used.mount_namespace)


async def test_a_namespace_that_is_being_deleted_is_waited_for(federation: Federation) -> None:
    client, name = federation.physical[0], f"ending-{uuid.uuid4().hex[:6]}"
    await make_namespace(federation, name)
    held = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": "held", "namespace": name, "finalizers": ["tests.kubeocean/held"],
    }}
    await client.create(CONFIGMAPS, held)
    await discard(client, NAMESPACES, name)
    lender = await federation.bind(await federation.pool(), ready=False, mountNamespace=name)
    binding = await eventually(lambda: is_failed(federation.virtual, lender, "NamespaceTerminating"), what="its end is told")
    assert f"namespace {name} is being deleted" in condition(binding, "Ready")["message"]
    await client.patch(CONFIGMAPS, "held", name, {"metadata": {"finalizers": None}})
    await eventually(lambda: federation.is_ready(lender), within=45, what="Ready once the namespace could be made anew")


async def test_the_priority_class_is_there_while_somebody_borrows(federation: Federation) -> None:
    await federation.lend()
    made = await federation.physical[0].get(PRIORITYCLASSES, "kubeocean-default")
    assert (made["value"], made["preemptionPolicy"], made.get("globalDefault", False)) == (-10000, "Never", False)


async def test_another_mount_namespace_is_refused_while_pods_run_in_the_old_one(federation: Federation, namespace: str) -> None:
    lender = await federation.lend()
    new = f"{lender.mount_namespace}-new"
    federation.made.physical.append((0, NAMESPACES, new, ""))
    await federation.virtual.create(PODS, build_pod("web", namespace, lender))
    before = await federation.running(namespace, "web")

    async def move(name: str) -> None:
        await federation.virtual.patch(CLUSTERBINDINGS, lender.binding, "", {"spec": {"mountNamespace": name}})

    await move(new)
    binding = await eventually(lambda: is_failed(federation.virtual, lender, "MountNamespaceInUse"), what="the move is refused")
    message = condition(binding, "Ready")["message"]
    assert f"namespace {lender.mount_namespace} holds Pods of this binding" in message
    assert f"set spec.mountNamespace back to {lender.mount_namespace}" in message
    assert await find(federation.physical[0], NAMESPACES, new) is None

    await move(lender.mount_namespace)
    await eventually(lambda: federation.is_ready(lender), what="Ready in the old namespace")
    after = await federation.running(namespace, "web")
    assert [uid_of(pod) for pod in after] == [uid_of(pod) for pod in before]
    assert len(await federation.twins(lender)) == 1

    await discard(federation.virtual, PODS, "web", namespace, grace_seconds=1)

    async def empty() -> bool:
        return not await federation.twins(lender)

    await eventually(empty, what="no Pod is left")
    await move(new)
    await eventually(lambda: claims(federation, new), what="the new namespace is claimed")
    await eventually(lambda: federation.is_ready(lender), what="Ready in the new namespace")
    old = await find(federation.physical[0], NAMESPACES, lender.mount_namespace)
    assert old is None or is_deleting(old)


async def claims(federation: Federation, name: str) -> bool:
    found = await find(federation.physical[0], NAMESPACES, name)
    return bool(found and CLAIMED_BY in (found["metadata"].get("annotations") or {}))
