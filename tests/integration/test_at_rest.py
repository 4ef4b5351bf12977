"""At rest nothing is written but Leases and nothing is read but probes: over two minutes, with 500 Pods, by the audit logs.

A sandbox of its own, whose audit logs hold reads too. Shorter while you work on it: KUBEOCEAN_TEST_REST=30.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kubeocean.api import names
from kubeocean.kube.resources import CONFIGMAPS, NETWORKPOLICIES, PODS, SECRETS, SERVICES
from kubeocean.sandbox.nodes import NodeTemplate
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.audit import AuditLog, Write, beside_leases, summary, until_quiet
from tests.integration.federation import (
    Federation,
    Lender,
    build_pod,
    eventually,
    find,
    is_running,
    make_namespace,
    opened,
    twin_name,
)
from tests.integration.programs import Program
from tests.integration.scan import find_left

PODS_AT_REST = 500
NODES = 10
PODS_SERVED = 5
SERVED = {"app": "resting"}
ORPHANS = "kubeocean_syncer_orphans_total{"
REST = float(os.environ.get("KUBEOCEAN_TEST_REST", "120"))  # seconds
# How we learn whether a cluster is (still) the one we know, and whether we may do there what we need.
PROBES = ("get namespaces/kube-system", "create selfsubjectrulesreviews/")
# The manager looks at each binding twice a minute; that the lender has no policies is looked at once a minute.
PROBED_EVERY = (30.0, 60.0)  # seconds
SHORTEST_WATCH = 240.0  # seconds


pytestmark = pytest.mark.timeout(420)  # seconds: it rests for a while


@pytest.fixture(scope="module")
def wide(start_sandbox: Callable[..., Sandbox]) -> Sandbox:
    return start_sandbox("rest", clusters=1, nodes=NodeTemplate(count=1), audit_reads=True)


@pytest.fixture
def program(wide: Sandbox, tmp_path: Path) -> Iterator[Program]:
    program = Program("manager", "--install-crds", kubeconfig=wide.virtual.kubeconfig, log=tmp_path / "log")
    program.ensure()
    yield program
    program.stop()


def named(request: Write) -> str:
    return f"{request.verb} {request.resource}/{request.name}"


async def test_at_rest_only_leases_are_written_and_only_probes_read(wide: Sandbox, program: Program) -> None:
    async with opened(wide) as federation:
        namespace = await make_namespace(federation.virtual)
        lender = await federation.lend(nodes=NODES, serviceNamespaces=[namespace])
        await serve_some(federation, namespace)
        settings = {"metadata": {"name": "settings", "namespace": namespace}, "data": {"color": "red"}}
        await federation.virtual.create(CONFIGMAPS, {"apiVersion": "v1", "kind": "ConfigMap", **settings})
        password = {"metadata": {"name": "password", "namespace": namespace}, "stringData": {"password": "sesame"}}
        await federation.virtual.create(SECRETS, {"apiVersion": "v1", "kind": "Secret", **password})
        env = [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "password"}}]
        logs = [AuditLog(cluster) for cluster in (wide.virtual, *wide.physical)]
        for number in range(PODS_AT_REST):
            served = {"labels": SERVED} if number < PODS_SERVED else {}
            pod = build_pod(
                f"resting-{number}", namespace, lender, metadata=served, automountServiceAccountToken=number % 2 == 0
            )
            pod["spec"]["containers"][0]["envFrom"] = env
            await federation.virtual.create(PODS, pod)

        async def all_run() -> bool:
            pods = (await federation.virtual.list(PODS, namespace)).items
            return sum(map(is_running, pods)) == PODS_AT_REST

        await eventually(all_run, within=180, what="all Pods run")
        await until_quiet(*logs, within=60)
        copies = [write for write in logs[1].ours() if write.resource == "configmaps"]
        assert summary(copies) == {"create configmaps 201": 1}, "what many Pods share is carried once"
        await settle(logs)

        for log in logs:
            log.restart()
        await asyncio.sleep(REST)
        program.ensure()
        written = beside_leases(*logs)
        assert not written, summary(written)
        reads = Counter(f"{log.name}: {named(read)}" for log in logs for read in log.our_reads())
        print(f"reads in {REST:.0f} s: {dict(reads)}")
        assert not [read for read in reads if not read.endswith(PROBES)], reads
        looks = sum(1 + REST / every for every in PROBED_EVERY)
        assert all(count <= looks for count in reads.values()), reads
        watches = Counter(f"{log.name}: {watch.resource}" for log in logs for watch in log.our_watches())
        print(f"watches renewed in {REST:.0f} s: {dict(watches)}")
        assert all(count <= 4 * (1 + REST / SHORTEST_WATCH) for count in watches.values()), watches

        assert ORPHANS not in program.scrape(), "the patrol went round and found what was not"
        await follow_the_hash(federation, logs[1], namespace, lender.mount_namespace)
        await settle(logs)
        await start_again(program, logs)
        await federation.unbind(lender, within=120)
        program.stop()
        await assert_nothing_is_left(federation, lender)


async def assert_nothing_is_left(federation: Federation, lender: Lender) -> None:
    """Search both clusters whole, which have had no other binding, for all that ever spoke of Kubeocean."""
    ours = names.KUBEOCEAN_NAMESPACE
    # What is a manager's and not a binding's, and what people wrote themselves.
    expected = [
        {f"namespaces {ours}", f"leases {ours}/kubeocean-manager", f"configmaps {ours}/kube-root-ca.crt",
         f"serviceaccounts {ours}/default", f"secrets default/{lender.secret}", "apiservices v1beta1.cloud.tencent.com"},
        set(),
    ]

    async def clean() -> bool:
        for client, allowed in zip((federation.virtual, federation.physical[0]), expected, strict=True):
            words = ("kubeocean", "cloud.tencent.com", lender.cluster_id, lender.mount_namespace)
            kinds = ("resourceleasingpolicies", "certificatesigningrequests")
            left = await find_left(client, *words, names=allowed, kinds=kinds)
            assert not left, f"left in {client.cluster}: {left}"
        return True

    await eventually(clean, within=60, what="no trace")


async def serve_some(federation: Federation, namespace: str) -> None:
    """Have some of the Pods behind a Service and a network policy, so that there are mirrors for the patrol to compare."""
    metadata = {"name": "resting", "namespace": namespace}
    await federation.virtual.create(SERVICES, {
        "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": SERVED, "ports": [{"port": 80}]},
    })
    await federation.virtual.create(NETWORKPOLICIES, {
        "apiVersion": NETWORKPOLICIES.api_version, "kind": "NetworkPolicy", "metadata": metadata,
        "spec": {"podSelector": {"matchLabels": SERVED}, "ingress": [{}]},
    })


async def settle(logs: list[AuditLog]) -> None:
    """Wait until nothing of the burst is still being looked at: reads end last."""
    async def no_reads() -> bool:
        for log in logs:
            log.restart()
        await asyncio.sleep(5)
        return not [read for log in logs for read in log.our_reads() if not named(read).endswith(PROBES)]

    await eventually(no_reads, within=30, what="nothing is read any more")


async def start_again(program: Program, logs: list[AuditLog]) -> None:
    """See that a start over all of that, --install-crds and leader election included, writes nothing but what it must."""
    program.stop()
    for log in logs:
        log.restart()
    program.ensure()
    await asyncio.sleep(10)
    written = beside_leases(*logs, starts=1)
    assert not written, f"needless: {summary(written)}"
    assert [write for log in logs for write in log.ours() if write.resource == "leases"], "it leads"


async def follow_the_hash(federation: Federation, below: AuditLog, namespace: str, mount: str) -> None:
    """See that a copy is written when what it means changes, and not when something else of the original does."""
    below.restart()
    virtual, physical = federation.virtual, federation.physical[0]
    carried = ((CONFIGMAPS, "settings"), (SECRETS, "password"), (SERVICES, "resting"), (NETWORKPOLICIES, "resting"))
    for resource, name in carried:
        await virtual.patch(resource, name, namespace, {"metadata": {"annotations": {"seen-by": "somebody"}}})
    await asyncio.sleep(3)
    assert not beside_leases(below), summary(below.ours())
    await virtual.patch(CONFIGMAPS, "settings", namespace, {"data": {"color": "blue"}})

    async def arrived() -> bool:
        copy = await find(physical, CONFIGMAPS, twin_name("settings", namespace), mount)
        return copy is not None and copy["data"] == {"color": "blue"}

    await eventually(arrived, what="the change arrives")
    await until_quiet(below, during=2)
    changes = beside_leases(below)
    assert [write.resource for write in changes] == ["configmaps"], summary(changes)
