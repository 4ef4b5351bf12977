"""What a kubelet says of a twin is what users see of their Pod. The test plays the kubelet."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from kubeocean.kube.client import PatchType
from kubeocean.kube.meta import Json, annotations_of, format_time, uid_of
from kubeocean.kube.resources import NODES, PODS
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.audit import AuditLog
from tests.integration.federation import (
    Federation,
    Lender,
    build_pod,
    condition,
    eventually,
    for_a_module,
    steadily,
)
from tests.integration.kubelet import Kubelet, played, running_status
from tests.integration.programs import Program

COPIED = ("phase", "hostIP", "hostIPs", "podIP", "podIPs", "startTime", "containerStatuses")


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    with for_a_module(sandbox, lambda federation: federation.lend(played=False)) as lender:
        yield lender


@pytest.fixture
async def kubelet(federation: Federation, lender: Lender, namespace: str) -> AsyncIterator[Kubelet]:
    async with played(federation, lender, namespace) as kubelet:
        yield kubelet


async def place(federation: Federation, lender: Lender, namespace: str, name: str = "web", **spec: Any) -> Json:
    """Create a Pod and return its twin once it is scheduled."""
    vpod = await federation.virtual.create(
        PODS, build_pod(name, namespace, lender, automountServiceAccountToken=False, **spec)
    )

    async def scheduled() -> Json | None:
        twin = await federation.twin(lender, vpod)
        assert twin is not None, "no twin"
        return twin if twin["spec"].get("nodeName") else None

    twin: Json = await eventually(scheduled, within=20, what=f"twin of {name} is scheduled")
    return twin


async def mirrored(federation: Federation, namespace: str, name: str = "web", **expected: Any) -> Json:
    """Wait until the virtual Pod's status has these values, and return the Pod."""
    async def same() -> Json:
        pod = await federation.virtual.get(PODS, name, namespace)
        shown = {key: pod["status"].get(key) for key in expected}
        assert shown == expected, f"shown: {shown}"
        return pod

    pod: Json = await eventually(same, what="status of the virtual Pod")
    return pod


async def test_all_that_a_kubelet_says_is_mirrored(
    federation: Federation, lender: Lender, namespace: str, kubelet: Kubelet
) -> None:
    twin = await kubelet.runs(await place(federation, lender, namespace))
    vpod = await mirrored(federation, namespace, **{key: twin["status"][key] for key in COPIED})
    for kind in ("Ready", "ContainersReady", "Initialized", "PodReadyToStartContainers"):
        said, shown = condition(twin, kind), condition(vpod, kind)
        assert (shown["status"], shown["lastTransitionTime"]) == (said["status"], said["lastTransitionTime"]), kind
    assert annotations_of(vpod)["kubeocean.io/physical-pod-uid"] == uid_of(twin)


async def test_the_mapping_does_not_wait_for_a_silent_kubelet(
    federation: Federation, lender: Lender, namespace: str, kubelet: Kubelet
) -> None:
    twin = await place(federation, lender, namespace)

    async def mapped() -> bool:
        pod = await federation.virtual.get(PODS, "web", namespace)
        assert pod["status"]["phase"] == "Pending"
        return annotations_of(pod).get("kubeocean.io/physical-pod-uid") == uid_of(twin)

    await eventually(mapped, within=5, what="mapping annotations")


async def test_every_distinct_status_is_one_patch(
    federation: Federation, lender: Lender, namespace: str, kubelet: Kubelet, sandbox: Sandbox
) -> None:
    log = AuditLog(sandbox.virtual)
    twin = await kubelet.runs(await place(federation, lender, namespace))
    await mirrored(federation, namespace, phase="Running")
    container = running_status()["containerStatuses"][0]
    for count in (1, 2, 3):
        await kubelet.says(twin, containerStatuses=[container | {"restartCount": count}])

        async def shown(count: int = count) -> bool:
            pod = await federation.virtual.get(PODS, "web", namespace)
            return bool(pod["status"]["containerStatuses"][0]["restartCount"] == count)

        await eventually(shown, what=f"restart {count}")
    written = [write for write in log.ours() if (write.namespace, write.name) == (namespace, "web")]
    # One for the mapping if the kubelet took longer than a second for its first word.
    assert len(written) in (4, 5), [str(write) for write in written]
    assert {(write.verb, write.resource, write.code) for write in written} == {("patch", "pods/status", 200)}


async def test_a_changed_address_does_not_become_two(
    federation: Federation, lender: Lender, namespace: str, kubelet: Kubelet
) -> None:
    twin = await kubelet.runs(await place(federation, lender, namespace))
    await mirrored(federation, namespace, podIPs=[{"ip": "10.1.2.3"}])
    await kubelet.says(twin, podIP="10.9.9.9", podIPs=[{"ip": "10.9.9.9"}])
    await mirrored(federation, namespace, podIP="10.9.9.9", podIPs=[{"ip": "10.9.9.9"}])


async def test_conditions_of_others_survive_and_readiness_gates_count(
    federation: Federation, lender: Lender, namespace: str, kubelet: Kubelet
) -> None:
    gate = "example.com/warm"
    twin = await place(federation, lender, namespace, readinessGates=[{"conditionType": gate}])
    assert "readinessGates" not in twin["spec"], "nobody there would open it"
    await kubelet.runs(twin)
    vpod = await mirrored(federation, namespace, phase="Running")
    assert condition(vpod, "Ready")["status"] == "False"
    assert condition(vpod, "Ready")["reason"] == "ReadinessGatesNotReady"
    opened = {"type": gate, "status": "True", "lastTransitionTime": format_time(datetime.now(UTC))}
    other = {"type": "example.com/other", "status": "False", "reason": "Kept", "message": "by its owner"}
    await federation.virtual.patch(
        PODS, "web", namespace, {"status": {"conditions": [opened, other]}}, kind=PatchType.STRATEGIC, subresource="status"
    )

    async def ready() -> bool:
        pod = await federation.virtual.get(PODS, "web", namespace)
        return bool(condition(pod, "Ready")["status"] == "True")

    await eventually(ready, what="Ready once the gate is open")
    await kubelet.says(twin, message="something new")
    vpod = await mirrored(federation, namespace, message="something new")
    assert condition(vpod, gate)["status"] == "True"
    assert condition(vpod, "example.com/other")["reason"] == "Kept"
    assert condition(vpod, "PodScheduled")["status"] == "True"


async def test_an_end_is_final_whatever_the_twin_says_later(
    federation: Federation, lender: Lender, namespace: str, kubelet: Kubelet
) -> None:
    twin = await place(federation, lender, namespace, restartPolicy="Never")
    await kubelet.runs(twin)
    await mirrored(federation, namespace, phase="Running")
    await kubelet.says(twin, phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    await mirrored(
        federation, namespace, phase="Failed", reason="Evicted", message="The node was low on resource: memory."
    )
    await kubelet.says(twin, phase="Running", reason=None, message=None)

    async def still_failed() -> bool:
        return bool((await federation.virtual.get(PODS, "web", namespace))["status"]["phase"] == "Failed")

    await steadily(still_failed, during=1, what="Failed")


async def test_a_sick_node_is_seen_as_sick_while_its_lease_goes_on(
    federation: Federation, lender: Lender, kubelet: Kubelet
) -> None:
    async def says(status: str, reason: str) -> None:
        now = format_time(datetime.now(UTC))
        ready = {
            "type": "Ready", "status": status, "reason": reason, "message": "by a test", "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        await federation.physical[0].patch(
            NODES, lender.pool.nodes[0], "", {"status": {"conditions": [ready]}}, kind=PatchType.STRATEGIC,
            subresource="status",
        )

    async def shown(status: str, reason: str, tainted: bool) -> bool:
        vnode = await federation.virtual.get(NODES, lender.vnode())
        ready = condition(vnode, "Ready")
        assert (ready["status"], ready["reason"]) == (status, reason), ready
        # Put there by the virtual cluster's own node controller, never copied by us.
        taints = [taint["key"] for taint in vnode["spec"].get("taints") or ()]
        assert ("node.kubernetes.io/not-ready" in taints) is tainted, taints
        return True

    await says("False", "RuntimeDown")
    await eventually(lambda: shown("False", "RuntimeDown", True), what="virtual node is not ready")
    await says("True", "Test")
    await eventually(lambda: shown("True", "Test", False), what="virtual node is ready again")
