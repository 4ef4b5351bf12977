"""The manager is killed in the middle of its work: the next one adopts what is there, no more and no less."""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Awaitable, Iterable, Iterator
from typing import TypeVar

import aiohttp
import pytest

from kubeocean.kube.meta import Json, annotations_of, is_deleting, labels_of, name_of, namespace_of, uid_of
from kubeocean.kube.resources import PODS, SECRETS
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.audit import AuditLog, beside_leases, summary, until_quiet
from tests.integration.everything import use_everything
from tests.integration.federation import Federation, Lender, build_pod, discard, eventually, find, for_a_module, is_running
from tests.integration.programs import Program

T = TypeVar("T")
OWNER = "kubeocean.io/owner"
BURST = 100
IN_FLIGHT = 32  # Pods that the manager works on at once
NAMES = [f"burst-{number}" for number in range(BURST)]


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    with for_a_module(sandbox, lambda federation: federation.lend(nodes=2)) as lender:
        yield lender


async def gather(work: Iterable[Awaitable[T]], *, at_once: int = 16) -> None:
    gate = asyncio.Semaphore(at_once)

    async def one(each: Awaitable[T]) -> None:
        async with gate:
            await each

    await asyncio.gather(*map(one, work))


async def all_run(federation: Federation, namespace: str) -> list[Json]:
    async def running() -> list[Json]:
        pods = (await federation.virtual.list(PODS, namespace)).items
        phases = Counter(pod["status"].get("phase") for pod in pods)
        assert sum(map(is_running, pods)) == BURST, f"{dict(phases)}"
        return pods

    pods: list[Json] = await eventually(running, within=60, what=f"{BURST} Pods run")
    return pods


async def token_secrets(federation: Federation, lender: Lender) -> int:
    label = "kubeocean.io/service-account-token=true"
    return len((await federation.physical[0].list(SECRETS, lender.mount_namespace, label_selector=label)).items)


async def kill_midway(manager: Program, federation: Federation, lender: Lender, namespace: str) -> None:
    """Kill the manager while some twins of the namespace live and others do not."""
    async def midway() -> bool:
        alive = sum(is_ours(twin, namespace) and not is_deleting(twin) for twin in await federation.twins(lender))
        assert 10 <= alive <= BURST - 10, f"{alive} twins"
        return True

    await eventually(midway, within=30, what="in the middle of it")
    manager.kill()


async def test_a_restart_at_rest_writes_leases_and_nothing_else(
    federation: Federation, lender: Lender, namespace: str, manager: Program, sandbox: Sandbox
) -> None:
    await gather(federation.virtual.create(PODS, build_pod(name, namespace, lender)) for name in NAMES[:10])
    await federation.running(namespace, *NAMES[:10])
    logs = [AuditLog(cluster) for cluster in (sandbox.virtual, *sandbox.physical)]
    await until_quiet(*logs)
    await assert_a_restart_writes_nothing(lender, manager, logs)


async def test_a_restart_over_a_binding_that_uses_everything_writes_nothing_either(
    federation: Federation, namespace: str, manager: Program, sandbox: Sandbox
) -> None:
    everything = await use_everything(federation, namespace)
    logs = [AuditLog(cluster) for cluster in (sandbox.virtual, *sandbox.physical)]
    await until_quiet(*logs)
    await assert_a_restart_writes_nothing(everything, manager, logs)


async def assert_a_restart_writes_nothing(lender: Lender, manager: Program, logs: list[AuditLog]) -> None:
    """Kill the manager; the next one may renew Leases, of the first log's cluster, and write nothing else about anything."""
    manager.kill()
    for log in logs:
        log.restart()
    manager.ensure()

    async def leads_again() -> bool:
        renewed = {write.name for write in logs[0].ours() if write.is_lease}
        return renewed >= set(lender.vnodes)

    await eventually(leads_again, within=30, what="the new one renews the Leases")
    await asyncio.sleep(4)  # whatever else it means to write, it has looked at everything by then
    written = beside_leases(*logs, starts=1)
    assert not written, f"needless: {', '.join(map(str, written))}"


async def test_a_burst_survives_a_killed_manager_without_duplicates_orphans_or_needless_writes(
    federation: Federation, lender: Lender, namespace: str, manager: Program, sandbox: Sandbox
) -> None:
    virtual, physical = AuditLog(sandbox.virtual), AuditLog(sandbox.physical[0])
    creating = asyncio.create_task(
        gather(federation.virtual.create(PODS, build_pod(name, namespace, lender)) for name in NAMES)
    )
    await kill_midway(manager, federation, lender, namespace)
    await creating
    manager.ensure()
    pods = await all_run(federation, namespace)
    twins = {
        annotations_of(twin)["kubeocean.io/virtual-pod-uid"]: uid_of(twin) for twin in await federation.twins(lender)
        if is_ours(twin, namespace)
    }
    assert twins == {uid_of(pod): annotations_of(pod)["kubeocean.io/physical-pod-uid"] for pod in pods}
    await until_quiet(virtual, physical)
    assert await token_secrets(federation, lender) == len(await federation.twins(lender))
    below = [
        write for write in physical.ours()
        if write.namespace == lender.mount_namespace and "burst-" in write.name and write.verb != "delete"
    ]
    # 504 is what the server notes for a client that died; its object may be there, and is then found by the next one.
    assert {(write.verb, write.code) for write in below} <= {("create", 201), ("create", 409), ("create", 504)}, summary(below)
    made = Counter((write.resource, write.name) for write in below if write.code == 201)
    assert set(made.values()) == {1}, f"made twice: {made.most_common(3)}"
    assert len([write for write in below if write.code == 409]) <= 2 * IN_FLIGHT, summary(below)
    status = Counter(
        write.name for write in virtual.ours() if write.resource == "pods/status" and write.namespace == namespace
    )
    # Running; on a busy machine the mapping before it; and once more what the killed one had begun.
    assert max(status.values()) <= 3, f"written again and again: {status.most_common(3)}"
    touched = [write for write in virtual.ours() if write.resource == "pods" and write.namespace == namespace]
    assert not touched, f"Pods were written or deleted: {summary(touched)}"


async def test_a_killed_manager_finishes_deleting(
    federation: Federation, lender: Lender, namespace: str, manager: Program
) -> None:
    await gather(federation.virtual.create(PODS, build_pod(name, namespace, lender)) for name in NAMES)
    await all_run(federation, namespace)
    deleting = asyncio.create_task(gather(discard(federation.virtual, PODS, name, namespace) for name in NAMES))
    await kill_midway(manager, federation, lender, namespace)
    await deleting
    manager.ensure()

    async def gone() -> bool:
        pods = (await federation.virtual.list(PODS, namespace)).items
        twins = [twin for twin in await federation.twins(lender) if is_ours(twin, namespace)]
        assert (len(pods), len(twins)) == (0, 0), f"{len(pods)} Pods and {len(twins)} twins are left"
        return True

    await eventually(gone, within=45, what="all is gone on both sides")

    async def tokens_gone() -> bool:
        left = await token_secrets(federation, lender)
        twins = len(await federation.twins(lender))
        assert left <= twins, f"{left} token Secrets for {twins} twins"
        return True

    await eventually(tokens_gone, within=15, what="token Secrets go with their Pods")


async def test_a_release_that_was_cut_between_the_servers_two_writes_is_ended(
    federation: Federation, lender: Lender, namespace: str, manager: Program, sandbox: Sandbox
) -> None:
    """What a manager killed at the worst moment leaves: grace 0 written, the Pod not removed, its twin gone."""
    await federation.virtual.create(PODS, build_pod("web", namespace, lender))
    (pod,) = await federation.running(namespace, "web")
    twin = await federation.twin(lender, pod)
    assert twin is not None
    manager.kill()
    client = federation.physical[0]
    await client.delete(PODS, name_of(twin), lender.mount_namespace, uid=uid_of(twin), grace_seconds=0)
    pod["metadata"] |= {"deletionTimestamp": pod["metadata"]["creationTimestamp"], "deletionGracePeriodSeconds": 0}
    await store_directly(sandbox, pod)

    async def is_left_by_half() -> bool:
        left = await federation.virtual.get(PODS, "web", namespace)
        return is_deleting(left) and left["metadata"]["deletionGracePeriodSeconds"] == 0

    await eventually(is_left_by_half, what="the API server shows it")
    manager.ensure()

    async def gone() -> bool:
        return await find(federation.virtual, PODS, "web", namespace) is None

    await eventually(gone, within=20, what="the Pod is gone")


async def test_a_twin_of_the_go_project_is_adopted_without_a_restart_and_a_second_run_writes_nothing(
    federation: Federation, lender: Lender, namespace: str, manager: Program, sandbox: Sandbox
) -> None:
    await federation.virtual.create(PODS, build_pod("web", namespace, lender))
    (pod,) = await federation.running(namespace, "web")
    before = await federation.twin(lender, pod)
    assert before is not None
    logs = [AuditLog(cluster) for cluster in (sandbox.virtual, *sandbox.physical)]
    await until_quiet(*logs)
    manager.kill()
    # What tells its form from ours: no owner, no hash, a note of its own kind.
    annotations = {OWNER: None, "kubeocean.io/content-hash": None, "kubeocean.io/expected-metadata": "bm90IG91cnM="}
    unowned = {"metadata": {"labels": {OWNER: None}, "annotations": annotations}}
    await federation.physical[0].patch(PODS, name_of(before), lender.mount_namespace, unowned)
    for log in logs:
        log.restart()
    manager.ensure()

    async def adopted() -> Json:
        twin = await federation.twin(lender, pod)
        assert twin is not None
        assert labels_of(twin).get(OWNER) == labels_of(before)[OWNER], labels_of(twin)
        return twin

    twin = await eventually(adopted, within=30, what="the twin has its owner again")
    assert (uid_of(twin), twin["status"]) == (uid_of(before), before["status"])
    await until_quiet(*logs)
    written = [write for log in logs for write in log.ours() if write.resource.startswith("pods")]
    assert [write.name for write in written] == [name_of(before)], f"needless: {summary(written)}"
    await assert_a_restart_writes_nothing(lender, manager, logs)


async def store_directly(sandbox: Sandbox, pod: Json) -> None:
    """Put a Pod into the etcd of the virtual cluster, as no client of the API server can."""
    storage = {each.name: each for each in (*sandbox.record.components, *sandbox.virtual.components)}["etcd"]
    key = f"/{sandbox.virtual.name}/pods/{namespace_of(pod)}/{name_of(pod)}"
    metadata = {field: value for field, value in pod["metadata"].items() if field != "resourceVersion"}
    stored = json.dumps({"apiVersion": "v1", "kind": "Pod", **pod, "metadata": metadata})
    pair = {name: base64.b64encode(text.encode()).decode() for name, text in (("key", key), ("value", stored))}
    async with aiohttp.ClientSession() as session, session.post(f"{storage.address}/v3/kv/put", json=pair) as answer:
        assert answer.status == 200, await answer.text()


def is_ours(twin: Json, namespace: str) -> bool:
    return bool(annotations_of(twin)["kubeocean.io/virtual-pod-namespace"] == namespace)
