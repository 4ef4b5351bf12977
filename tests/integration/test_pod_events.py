"""`kubectl describe pod` tells the truth: what a physical kubelet says, and what the physical side refuses.

The test plays the kubelet: it writes the Events that KWOK does not.
"""

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from kubeocean.kube.meta import Json, format_micro_time, format_time, name_of, namespace_of, uid_of
from kubeocean.kube.resources import EVENTS, NAMESPACES, PODS, Resource
from kubeocean.sandbox.assets import Assets
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.audit import AuditLog, summary, until_quiet
from tests.integration.credentials import event_about, hand_in, issue_kubeconfig
from tests.integration.federation import (
    Federation,
    Lender,
    build_pod,
    condition,
    discard,
    eventually,
    for_a_module,
    steadily,
    twin_name,
)
from tests.integration.kubectl import Kubectl
from tests.integration.lending import grant
from tests.integration.programs import Program

QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota", True)


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    with for_a_module(sandbox, lambda federation: federation.lend()) as lender:
        yield lender


async def say(federation: Federation, twin: Json, reason: str, message: str, *, kind: str = "Warning", **more: Any) -> Json:
    """Write an Event about a twin, as a kubelet does."""
    now = format_time(datetime.now(UTC))
    return await federation.physical[0].create(EVENTS, {
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": f"{name_of(twin)}.{uuid.uuid4().hex[:16]}", "namespace": namespace_of(twin)},
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "namespace": namespace_of(twin), "name": name_of(twin), "uid": uid_of(twin),
            "fieldPath": "spec.containers{main}",
        },
        "type": kind, "reason": reason, "message": message, "count": 1, "firstTimestamp": now, "lastTimestamp": now,
        "source": {"component": "kubelet", "host": "node-1"}, "reportingComponent": "kubelet", "reportingInstance": "node-1",
        **more,
    })


async def heard(federation: Federation, name: str, namespace: str) -> dict[str, Json]:
    """Return the Events about a virtual Pod by reason; none of them may be there twice."""
    events = (await federation.virtual.list(EVENTS, namespace, field_selector=f"involvedObject.name={name}")).items
    by_reason = {event["reason"]: event for event in events}
    assert len(by_reason) == len(events), [event["reason"] for event in events]
    return by_reason


async def test_what_kubelets_say_is_described_once_and_a_restart_adds_nothing(
    federation: Federation, lender: Lender, namespace: str, manager: Program, sandbox: Sandbox, assets: Assets
) -> None:
    await federation.virtual.create(PODS, build_pod("web", namespace, lender))
    (vpod,) = await federation.running(namespace, "web")
    twin = await federation.twin(lender, vpod)
    assert twin is not None
    own = f"{name_of(twin)}_{lender.mount_namespace}({uid_of(twin)})"
    backoff = await say(federation, twin, "BackOff", f"Back-off restarting failed container main in pod {own}")
    await say(federation, twin, "Pulled", "Container image already present", kind="Normal")
    now = format_micro_time(datetime.now(UTC))
    await say(
        federation, twin, "FailedScheduling", "0/1 nodes are available", source={}, reportingComponent="default-scheduler",
        reportingInstance="scheduler-1", eventTime=now, action="Scheduling", count=None, firstTimestamp=None,
        lastTimestamp=None, series={"count": 2, "lastObservedTime": now},
    )
    expected = {"Scheduled", "BackOff", "Pulled", "FailedScheduling"}

    async def all_told() -> dict[str, Json]:
        said = await heard(federation, "web", namespace)
        assert set(said) == expected, f"heard {set(said)}"
        return said

    said: dict[str, Json] = await eventually(all_told, what="all are told, and that it is scheduled by our own scheduler only")
    assert said["BackOff"]["message"] == f"Back-off restarting failed container main in pod web_{namespace}({uid_of(vpod)})"
    assert said["BackOff"]["involvedObject"]["uid"] == uid_of(vpod)
    assert said["FailedScheduling"]["series"]["count"] == 2
    described = await Kubectl(assets, sandbox.virtual)("describe", "pod", "web", "-n", namespace)
    table = described.partition("\nEvents:")[2]
    assert f"{lender.binding}: 0/1 nodes are available" in table, described
    assert "kubelet" in table
    assert twin_name("web", namespace) not in table

    patch = {"count": 7, "lastTimestamp": format_time(datetime.now(UTC))}
    await federation.physical[0].patch(EVENTS, name_of(backoff), namespace_of(backoff), patch)
    logs = [AuditLog(cluster) for cluster in (sandbox.virtual, *sandbox.physical)]
    await until_quiet(*logs, during=1)
    manager.kill()
    for log in logs:
        log.restart()
    manager.ensure()

    async def counted_up() -> bool:  # at once: who starts anew has not written lately
        return bool((await heard(federation, "web", namespace))["BackOff"]["count"] == 7)

    await eventually(counted_up, within=30, what="the new one tells the repeat")
    await asyncio.sleep(2)
    about_events = [write for write in logs[0].ours() if write.resource == "events"]
    assert [(write.verb, write.code) for write in about_events] == [("patch", 200)], summary(about_events)


async def test_a_lender_who_lets_nobody_read_events_lends_all_the_same(
    federation: Federation, namespace: str
) -> None:
    borrower = f"borrower-{uuid.uuid4().hex[:6]}"
    lender = await federation.bind(await federation.pool(), kubeconfig=b"soon", ready=False)
    await grant(federation, lender, borrower, without=("Role", "events", "watch"))
    await hand_in(federation.virtual, lender, issue_kubeconfig(federation.sandbox.physical[0], borrower))
    await eventually(lambda: federation.is_ready(lender), within=30, what="Ready without that right")
    said = await event_about(federation.virtual, lender.binding, "EventsNotMirrored")
    assert f"kubeocean rbac --mount-namespace {lender.mount_namespace}" in said["message"]
    await federation.policy(lender)
    await federation.vnodes(lender)
    await federation.virtual.create(PODS, build_pod("web", namespace, lender))
    (vpod,) = await federation.running(namespace, "web")
    twin = await federation.twin(lender, vpod)
    assert twin is not None
    await say(federation, twin, "BackOff", "Back-off")
    await grant(federation, lender, borrower)

    async def told() -> bool:
        return "BackOff" in await heard(federation, "web", namespace)

    await eventually(told, within=40, what="told once it is granted")


async def test_what_the_lenders_admission_refuses_is_said_in_its_words_and_runs_once_it_may(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    physical, mount = federation.physical[0], lender.mount_namespace
    enforce = "pod-security.kubernetes.io/enforce"
    await physical.patch(NAMESPACES, mount, "", {"metadata": {"labels": {enforce: "restricted"}}})
    await federation.virtual.create(PODS, build_pod("web", namespace, lender))

    async def says(text: str) -> Json:
        said = condition(await federation.virtual.get(PODS, "web", namespace), "PhysicalPodCreated")
        assert text in said.get("message", ""), f"condition is {said}"
        assert (said["status"], said["reason"]) == ("False", "PhysicalPodRefused")
        assert said["message"].startswith(f"{lender.binding}: ")
        return said

    try:
        await eventually(lambda: says('violates PodSecurity "restricted:latest"'), what="Pod security is told")
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": mount}}
        await physical.create(QUOTAS, {**quota, "spec": {"hard": {"pods": "0"}}})
    finally:
        await physical.patch(NAMESPACES, mount, "", {"metadata": {"labels": {enforce: None}}})
    try:
        await eventually(lambda: says("exceeded quota: none"), within=20, what="the quota is told")
        assert "PhysicalPodRefused" in {
            event["reason"] for event in (await federation.virtual.list(EVENTS, namespace)).items
        }
    finally:
        await discard(physical, QUOTAS, "none", mount)
    (vpod,) = await federation.running(namespace, "web", within=35)

    async def healed() -> bool:
        return not condition(await federation.virtual.get(PODS, "web", namespace), "PhysicalPodCreated")

    await eventually(healed, what="no trace of it")
    await steadily(healed, during=1, what="no trace of it")
    assert await federation.twin(lender, vpod) is not None
