"""`kubectl describe pod` says of a Pod on a virtual node what it says of the same Pod in the cluster of its kubelet."""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json, name_of, uid_of
from kubeocean.kube.resources import CONFIGMAPS, EVENTS, PODS
from kubeocean.sandbox.assets import Assets
from tests.e2e.realnode import RealFederation
from tests.integration.audit import AuditLog, summary, until_quiet
from tests.integration.federation import discard, eventually
from tests.integration.kubectl import Kubectl

Describe = Callable[[str], Awaitable[str]]
Row = tuple[str, str, str, str]
LATE = "failed to sync"  # a kubelet waits a second for its own caches; which of two like Pods meets that is chance
IMAGE = "kubeocean.test/toolbox:1"
SLEEPS = {"name": "main", "image": IMAGE, "command": ["sleep", "600"]}
PROBE = {"exec": {"command": ["cat", "/tmp/healthy"]}, "periodSeconds": 1}
CRASHES = {**SLEEPS, "command": ["sh", "-c", "exit 3"]}
WRONG_KEY: Json = {"configMap": {"name": "settings", "items": [{"key": "nowhere", "path": "x"}]}}
NOT_ROOT = {"securityContext": {"runAsNonRoot": True, "runAsUser": 0}}

# Name: its spec, and the reasons a kubelet is sure to give.
PODS_IN_TROUBLE: dict[str, tuple[Json, set[str]]] = {
    "healthy": ({"containers": [SLEEPS]}, {"Pulled", "Created", "Started"}),
    "unhealthy": ({"containers": [{**SLEEPS, "readinessProbe": PROBE}]}, {"Pulled", "Created", "Started", "Unhealthy"}),
    "imageless": ({"containers": [{**SLEEPS, "image": "kubeocean.test/none:1"}]}, {"Failed", "BackOff"}),
    "mountless": (
        {"containers": [{**SLEEPS, "volumeMounts": [{"name": "cfg", "mountPath": "/cfg"}]}],
         "volumes": [{"name": "cfg", **WRONG_KEY}]},
        {"FailedMount"},
    ),
    "crashing": ({"containers": [CRASHES]}, {"Pulled", "Created", "Started", "BackOff"}),
    "forbidden": ({"containers": [{**SLEEPS, **NOT_ROOT}]}, {"Failed"}),
}


async def reasons(client: Client, name: str, namespace: str) -> Counter[str]:
    events = (await client.list(EVENTS, namespace, field_selector=f"involvedObject.name={name}")).items
    return Counter(event["reason"] for event in events)


async def create_all(client: Client, namespace: str) -> None:
    """Create the Pods, where whoever schedules finds a node for them."""
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": namespace}}
    await client.create(CONFIGMAPS, {**settings, "data": {"key": "value"}})
    for name, (spec, _) in PODS_IN_TROUBLE.items():
        metadata = {"name": name, "namespace": namespace}
        pod: Json = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {
            **spec, "tolerations": [{"operator": "Exists"}], "terminationGracePeriodSeconds": 1,
        }}
        await client.create(PODS, pod)


async def all_said(client: Client, namespace: str) -> bool:
    for name, (_, expected) in PODS_IN_TROUBLE.items():
        said = await reasons(client, name, namespace)
        assert set(said) >= expected, f"{name}: {set(said)} lacks {expected - set(said)}"
    return True


def table(events: str) -> list[Row]:
    """Return type, reason, component and message of each line under Events, without what differs between two runs."""
    lines = [re.split(r"\s{2,}", line.strip(), maxsplit=4) for line in events.splitlines()[3:]]
    rows = [(line[0], line[1], line[3], line[4]) for line in lines if len(line) == 5]
    return sorted({(kind, reason, who, _anonymous(text)) for kind, reason, who, text in rows if reason != "Scheduled"})


def _anonymous(text: str) -> str:
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID", text)
    return re.sub(r"test-[0-9a-f]{10}", "NAMESPACE", re.sub(r"\b[0-9.]+(ms|s)\b", "TIME", text))


async def test_events_read_as_if_the_pod_were_beside_its_kubelet(
    real_federation: RealFederation, virtual_client: Client, physical_client: Client, virtual_namespace: str,
    physical_namespace: str, real_assets: Assets,
) -> None:
    sandbox, mount = real_federation.sandbox, real_federation.lender.mount_namespace
    logs = AuditLog(sandbox.virtual), AuditLog(sandbox.physical[0])
    sides = ((virtual_client, virtual_namespace), (physical_client, physical_namespace))
    await asyncio.gather(*(create_all(*side) for side in sides))
    await asyncio.gather(*(eventually(partial(all_said, *side), within=60, what=side[1]) for side in sides))
    described = [
        partial(Kubectl(real_assets, cluster), "describe", "pod", "-n", namespace)
        for cluster, namespace in ((sandbox.virtual, virtual_namespace), (sandbox.physical[0], physical_namespace))
    ]
    for name, (_, sure) in PODS_IN_TROUBLE.items():
        here: str = await eventually(partial(described_alike, name, sure, *described), within=30, what=f"alike: {name}")
        twin = await the_twin(physical_client, mount, name, virtual_namespace)
        describe_twin = partial(Kubectl(real_assets, sandbox.physical[0]), "describe", "pod", name_of(twin), "-n", mount)
        await eventually(partial(told_what_was_late, name, described[0], describe_twin), within=30, what=f"late: {name}")
        assert name_of(twin) not in here
        assert uid_of(twin) not in here
    for client, namespace in sides:
        for name in PODS_IN_TROUBLE:
            await discard(client, PODS, name, namespace)
    await until_quiet(*logs, during=2)
    expect_few_writes(*logs, virtual_namespace, mount)


async def described_alike(name: str, sure: set[str], virtual: Describe, physical: Describe) -> str:
    """Return what is said under Events in the virtual cluster, once both sides say the same."""
    here, there = [events_of(await describe(name)) for describe in (virtual, physical)]
    mine, theirs = [[row for row in table(lines) if row[1] in sure and LATE not in row[3]] for lines in (here, there)]
    assert mine == theirs, f"virtual: {mine}, physical: {theirs}"
    return here


async def told_what_was_late(name: str, virtual: Describe, twin: Callable[[], Awaitable[str]]) -> bool:
    """What a Pod beside cannot be compared for by chance is what the twin itself was told."""
    mine, its = [late(events_of(text)) for text in (await virtual(name), await twin())]
    assert mine == its, f"virtual: {mine}, twin: {its}"
    return True


def events_of(described: str) -> str:
    return described.partition("\nEvents:")[2]


def late(events: str) -> list[Row]:
    return [row for row in table(events) if LATE in row[3]]


async def the_twin(client: Client, mount: str, name: str, namespace: str) -> Json:
    twins = (await client.list(PODS, mount)).items
    return next(
        twin for twin in twins
        if twin["metadata"]["annotations"]["kubeocean.io/virtual-pod-name"] == name
        and twin["metadata"]["annotations"]["kubeocean.io/virtual-pod-namespace"] == namespace
    )


def expect_few_writes(virtual: AuditLog, physical: AuditLog, namespace: str, mount: str) -> None:
    """At most one write of ours per write of an Event below, and nobody is told more often than he says it."""
    above = [write for write in virtual.ours() if write.resource == "events" and write.namespace == namespace]
    below = [write for write in physical.writes() if write.resource == "events" and write.namespace == mount]
    assert 0 < len(above) <= len(below), f"{summary(above)} for {summary(below)}"
