"""Somebody in the physical cluster undoes whatever we write there: he is answered ever more rarely, and mended in the end."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import pytest

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.kube.client import Client
from kubeocean.kube.errors import ApiError
from kubeocean.kube.meta import Json, annotations_of, name_of, uid_of
from kubeocean.kube.resources import CONFIGMAPS, NETWORKPOLICIES, PODS, SECRETS, SERVICES, Resource
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.audit import AuditLog
from tests.integration.federation import Federation, Lender, build_pod, eventually, find, for_a_module, twin_name
from tests.integration.programs import Program

FIGHT = 15.0  # seconds
MEND = 20.0  # seconds: the pause that such a fight has come to is 8


class Target(NamedTuple):
    """An object of ours in the physical cluster, and by which merge patch somebody undoes it; None = he deletes it."""

    resource: Resource
    name: str
    undo: Json | None


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    with for_a_module(sandbox, lambda federation: federation.lend(nodes=1)) as lender:
        yield lender


@pytest.fixture
async def targets(federation: Federation, lender: Lender, namespace: str) -> list[Target]:
    """What stands in the physical cluster for one Pod and all that it needs."""
    virtual = federation.virtual
    for name in ("settings", "deleted"):
        await virtual.create(CONFIGMAPS, build(CONFIGMAPS, name, namespace, data={"color": "red"}))
    ports = {"ports": [{"port": 80}], "selector": {"app": "shop"}}
    await virtual.create(SERVICES, build(SERVICES, "shop", namespace, spec=ports))
    policy = {"podSelector": {}, "policyTypes": ["Ingress"]}
    await virtual.create(NETWORKPOLICIES, build(NETWORKPOLICIES, "closed", namespace, spec=policy))
    await virtual.patch(CLUSTERBINDINGS, lender.binding, "", {"spec": {"serviceNamespaces": [namespace]}})
    container = {
        "name": "main", "image": "busybox",
        "envFrom": [{"configMapRef": {"name": "settings"}}, {"configMapRef": {"name": "deleted"}}],
    }
    await virtual.create(PODS, build_pod("web", namespace, lender, containers=[container]))
    (vpod,) = await federation.running(namespace, "web")
    found = [
        Target(CONFIGMAPS, twin_name("settings", namespace), {"data": {"color": "theirs", "theirs": "1"}}),
        Target(CONFIGMAPS, twin_name("deleted", namespace), None),
        Target(SERVICES, twin_name("shop", namespace), {"spec": {"sessionAffinity": "ClientIP"}}),
        Target(NETWORKPOLICIES, twin_name("closed", namespace), {"spec": {"ingress": [{}]}}),
        Target(SECRETS, await token_secret(federation.physical[0], lender, uid_of(vpod)), {"data": {"token": "c3Rvbg=="}}),
    ]

    async def all_there() -> bool:
        for target in found:
            assert await find(federation.physical[0], target.resource, target.name, lender.mount_namespace), target
        return True

    await eventually(all_there, what="all that stands for the Pod")
    return found


def build(resource: Resource, name: str, namespace: str, **fields: Json) -> Json:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **fields}


async def token_secret(physical: Client, lender: Lender, uid: str) -> str:
    label = "kubeocean.io/service-account-token=true"
    secrets = (await physical.list(SECRETS, lender.mount_namespace, label_selector=label)).items
    return next(name_of(each) for each in secrets if annotations_of(each)["kubeocean.io/virtual-pod-uid"] == uid)


async def undo(physical: Client, lender: Lender, target: Target) -> None:
    """Undo what we write of an object, as soon as we do. A patch that changes nothing is no event to anybody."""
    while True:
        with suppress(ApiError):
            if target.undo:
                await physical.patch(target.resource, target.name, lender.mount_namespace, target.undo)
            elif there := await find(physical, target.resource, target.name, lender.mount_namespace):
                await physical.delete(target.resource, target.name, lender.mount_namespace, uid=uid_of(there))
        await asyncio.sleep(0.05)


@asynccontextmanager
async def fighting(physical: Client, lender: Lender, targets: list[Target]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(undo(physical, lender, target)) for target in targets]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_undoes_what_we_write_gets_few_answers_and_all_is_right_once_he_stops(
    federation: Federation, lender: Lender, targets: list[Target], namespace: str, sandbox: Sandbox
) -> None:
    physical, mount = federation.physical[0], lender.mount_namespace
    above, below = AuditLog(sandbox.virtual), AuditLog(sandbox.physical[0])
    async with fighting(physical, lender, targets):
        await asyncio.sleep(FIGHT)
        ours = Counter((write.resource, write.name) for write in below.ours())
        minted = [write for write in above.ours() if write.resource == "serviceaccounts/token" and write.namespace == namespace]
    print(f"{FIGHT:g} s: {dict(ours)}; {len(minted)} tokens")
    for target in targets:
        assert 2 <= ours[target.resource.plural, target.name] <= 8, target  # at once, and after 1, 2, 4 and 8 s
    assert 2 <= len(minted) <= 8

    async def all_is_right() -> bool:
        config, deleted, service, policy, secret = [
            await find(physical, target.resource, target.name, mount) or {} for target in targets
        ]
        assert [config.get("data"), deleted.get("data")] == [{"color": "red"}] * 2
        assert service.get("spec", {}).get("sessionAffinity") == "None"
        assert "ingress" not in policy.get("spec", {"ingress": None})
        return bool(secret["data"]["token"] != "c3Rvbg==")

    await eventually(all_is_right, within=MEND, what="all is mended")
