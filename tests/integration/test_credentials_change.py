"""The credentials of a binding that works: renewed, revoked, swapped for another cluster's. No Pod notices."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.kube.meta import name_of, uid_of
from kubeocean.kube.resources import NODES, PODS, SECRETS, SERVICEACCOUNTS
from tests.integration.audit import AuditLog, summary
from tests.integration.credentials import (
    event_about,
    hand_in,
    is_failed,
    issue_kubeconfig,
    kubeconfig_of,
    token_kubeconfig,
)
from tests.integration.federation import Federation, Lender, build_pod, condition, discard, eventually
from tests.integration.lending import grant
from tests.integration.programs import Program

RELOADED_WITHIN = 5.0  # seconds


@pytest.fixture
async def lender(federation: Federation) -> Lender:
    return await federation.lend(nodes=1)


async def run_pod(federation: Federation, lender: Lender, namespace: str, name: str) -> tuple[str, str]:
    """Create a Pod, and return the uids of it and its twin once it runs."""
    await federation.virtual.create(PODS, build_pod(name, namespace, lender))
    (vpod,) = await federation.running(namespace, name)
    twin = await federation.twin(lender, vpod)
    assert twin
    return uid_of(vpod), uid_of(twin)


async def uids(federation: Federation, lender: Lender, namespace: str, name: str) -> tuple[str, str]:
    vpod = await federation.virtual.get(PODS, name, namespace)
    twin = await federation.twin(lender, vpod)
    return uid_of(vpod), uid_of(twin) if twin else ""


async def test_another_user_takes_over_within_moments_and_no_pod_notices(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    before = await run_pod(federation, lender, namespace, "before")
    physical = federation.sandbox.physical[0]
    user = f"renewed-{uuid.uuid4().hex[:6]}"
    await grant(federation, lender, user)
    log = AuditLog(physical)
    await hand_in(federation.virtual, lender, issue_kubeconfig(physical, user))
    # Nothing of ours is written but for a new Pod: whoever creates its twin is the new user.
    started = datetime.now(UTC)

    async def reloaded() -> bool:
        name = f"after-{uuid.uuid4().hex[:6]}"
        await run_pod(federation, lender, namespace, name)
        created = [write for write in log.ours() if (write.verb, write.resource) == ("create", "pods")]
        assert created, "no twin was created"
        assert created[-1].user == user, f"created by {created[-1].user}"
        return True

    await eventually(reloaded, within=RELOADED_WITHIN, what="the new user works")
    assert (datetime.now(UTC) - started).total_seconds() < RELOADED_WITHIN
    assert await uids(federation, lender, namespace, "before") == before
    assert not [write for write in log.ours() if write.verb == "delete"], summary(log.ours())
    await federation.is_ready(lender)


@pytest.fixture
async def account(federation: Federation) -> AsyncIterator[str]:
    """A ServiceAccount in namespace default of the first physical cluster."""
    name = f"borrower-{uuid.uuid4().hex[:6]}"
    client = federation.physical[0]
    await client.create(SERVICEACCOUNTS, {
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "default"},
    })
    yield name
    await discard(client, SERVICEACCOUNTS, name, "default")


async def test_revoked_credentials_are_told_and_new_ones_heal(
    federation: Federation, account: str, namespace: str
) -> None:
    physical, client = federation.sandbox.physical[0], federation.physical[0]
    pool = await federation.pool()
    lender = await federation.bind(pool, ready=False)
    await grant(federation, lender, f"system:serviceaccount:default:{account}")
    await hand_in(federation.virtual, lender, await token_kubeconfig(client, physical, account, "default"))
    await eventually(lambda: federation.is_ready(lender), what="Ready with the account's token")
    await federation.policy(lender)
    await federation.vnodes(lender)
    running = await run_pod(federation, lender, namespace, "web")

    await discard(client, SERVICEACCOUNTS, account, "default")
    binding = await eventually(
        lambda: is_failed(federation.virtual, lender, "ConnectivityFailed"), within=45, what="the loss is told"
    )
    message = condition(binding, "Connected")["message"]
    assert "401" in message
    assert f"default/{lender.secret} are not accepted; renew them" in message
    await event_about(federation.virtual, lender.binding, "renew")

    await hand_in(federation.virtual, lender, kubeconfig_of(physical))
    await eventually(lambda: federation.is_ready(lender), within=RELOADED_WITHIN, what="Ready with new credentials")
    assert await uids(federation, lender, namespace, "web") == running
    await federation.vnodes(lender, within=10)


async def test_a_kubeconfig_of_another_cluster_is_never_written_with(
    federation: Federation, lender: Lender, namespace: str, manager: Program
) -> None:
    running = await run_pod(federation, lender, namespace, "web")
    mine, other = federation.sandbox.physical
    log = AuditLog(other)
    await hand_in(federation.virtual, lender, kubeconfig_of(other))
    binding = await eventually(
        lambda: is_failed(federation.virtual, lender, "ClusterIdentityChanged"), what="the other cluster is noticed"
    )
    message = condition(binding, "Ready")["message"]
    assert binding["status"]["physicalClusterUID"] in message
    assert "restore the old kubeconfig" in message
    assert f"default/{lender.secret}" in message
    await event_about(federation.virtual, lender.binding, "ClusterIdentityChanged")

    # Work that would be done there, if it did anything.
    waiting = build_pod("waiting", namespace, lender)
    await federation.virtual.create(PODS, waiting)
    manager.kill()  # a fresh start must not be fooled either
    await federation.virtual.patch(NODES, lender.vnode(), "", {"spec": {"taints": None}})
    manager.ensure()
    await eventually(lambda: is_cut_off(federation, lender), within=20, what="the new manager lets no Pods come")
    written = [write for write in log.ours() if lender.mount_namespace in (write.namespace, write.name) or write.is_lease]
    assert not written, summary(written)
    assert await uids(federation, lender, namespace, "web") == running

    await hand_in(federation.virtual, lender, kubeconfig_of(mine))
    await eventually(lambda: federation.is_ready(lender), within=RELOADED_WITHIN, what="Ready with the old kubeconfig")
    await federation.running(namespace, "waiting")
    assert await uids(federation, lender, namespace, "web") == running
    assert not [write for write in log.ours() if write.namespace == lender.mount_namespace]


async def is_cut_off(federation: Federation, lender: Lender) -> bool:
    """Tell whether the manager says that the cluster is another one, and has shut its virtual node."""
    binding = await federation.virtual.get(CLUSTERBINDINGS, lender.binding)
    assert binding["status"]["phase"] == "Failed"
    assert condition(binding, "Ready")["reason"] == condition(binding, "SyncerReady")["reason"] == "ClusterIdentityChanged"
    taints = (await federation.virtual.get(NODES, lender.vnode()))["spec"].get("taints") or ()
    return "kubeocean.io/cluster-unreachable" in {taint["key"] for taint in taints}


async def test_the_key_removed_from_the_secret_is_told_and_put_back(federation: Federation, lender: Lender) -> None:
    await hand_in(federation.virtual, lender, None)
    await eventually(lambda: is_failed(federation.virtual, lender, "ConnectivityFailed"), what="the missing key is told")
    await hand_in(federation.virtual, lender, kubeconfig_of(federation.sandbox.physical[0]))
    await eventually(lambda: federation.is_ready(lender), within=RELOADED_WITHIN, what="Ready again")


async def test_a_secret_that_is_deleted_and_made_again_is_found(federation: Federation, lender: Lender) -> None:
    old = await federation.virtual.get(SECRETS, lender.secret, "default")
    await discard(federation.virtual, SECRETS, lender.secret, "default")
    await eventually(lambda: is_failed(federation.virtual, lender, "ConnectivityFailed"), what="the missing Secret is told")
    await federation.virtual.create(SECRETS, {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name_of(old), "namespace": "default"}, "data": old["data"],
    })
    await eventually(lambda: federation.is_ready(lender), within=RELOADED_WITHIN, what="Ready again")
