"""How often we write: the budgets of design.md §12, counted in the audit logs of both API servers."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from kubeocean.kube.resources import PODS
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.audit import AuditLog, summary, until_quiet
from tests.integration.federation import Federation, Lender, build_pod, discard, eventually, find, for_a_module
from tests.integration.programs import Program

PODS_LIVED = 12
REST = 20.0  # seconds


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    with for_a_module(sandbox, lambda federation: federation.lend(nodes=2)) as lender:
        yield lender


@pytest.fixture(scope="module")
def direct(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    async def lend(federation: Federation) -> Lender:
        return await federation.lend(nodes=1, directScheduling=True)

    with for_a_module(sandbox, lend) as lender:
        yield lender


@pytest.mark.parametrize(("token", "virtual_budget", "physical_budget"), [(False, 3, 2), (True, 4, 4)])
@pytest.mark.parametrize("scheduled", ["by the physical scheduler", "directly"])
async def test_a_pods_life_costs_few_writes(
    federation: Federation, lender: Lender, direct: Lender, namespace: str, sandbox: Sandbox,
    token: bool, virtual_budget: int, physical_budget: int, scheduled: str,
) -> None:
    lender = direct if scheduled == "directly" else lender
    virtual, physical = AuditLog(sandbox.virtual), AuditLog(sandbox.physical[0])
    names = [f"pod-{number}" for number in range(PODS_LIVED)]
    for name in names:
        await federation.virtual.create(PODS, build_pod(name, namespace, lender, automountServiceAccountToken=token))
    await federation.running(namespace, *names)
    for name in names:
        await discard(federation.virtual, PODS, name, namespace)

    async def gone() -> bool:
        return not any([await find(federation.virtual, PODS, name, namespace) for name in names])

    await eventually(gone, within=20, what="all Pods are gone")
    await until_quiet(virtual, physical, during=1)
    above = [write for write in virtual.ours() if write.namespace == namespace]
    below = [write for write in physical.ours() if write.namespace == lender.mount_namespace]
    assert len(above) <= virtual_budget * PODS_LIVED, summary(above)
    assert len(below) <= physical_budget * PODS_LIVED, summary(below)
    for writes, budget in ((above, virtual_budget), (below, physical_budget)):
        name, most = Counter(write.name for write in writes if write.resource.startswith("pods")).most_common(1)[0]
        assert most <= budget, f"{name}: {summary(write for write in writes if write.name == name)}"


async def test_at_rest_only_leases_are_written(
    federation: Federation, lender: Lender, namespace: str, sandbox: Sandbox
) -> None:
    names = [f"resting-{number}" for number in range(10)]
    for name in names:
        await federation.virtual.create(PODS, build_pod(name, namespace, lender))
    await federation.running(namespace, *names)
    logs = [AuditLog(cluster) for cluster in (sandbox.virtual, *sandbox.physical)]
    await until_quiet(*logs)
    for log in logs:
        log.restart()
    await asyncio.sleep(REST)
    written = [write for log in logs for write in log.ours()]
    others = [write for write in written if not write.is_lease]
    assert not others, summary(others)
    renewed = Counter(write.name for write in written if write.name in lender.vnodes)
    assert set(renewed) == set(lender.vnodes)
    assert set(renewed.values()) <= {1, 2, 3}, f"every 10 s: {renewed}"
