"""`kubeocean simulate` on live clusters: it says of the present what is there, and of a changed policy what would happen."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from kubeocean.api.resources import RESOURCELEASINGPOLICIES
from kubeocean.domain.forecast import Fate
from kubeocean.domain.simulation import Stage
from kubeocean.kube.meta import name_of
from kubeocean.kube.quantity import Quantity
from kubeocean.kube.resources import PODS
from kubeocean.simulate.command import Request, read_schedule, run_simulation
from kubeocean.simulate.eviction import forecast_evictions
from tests.integration.federation import Federation, build_pod

HALF = [{"resource": "cpu", "percent": 50}, {"resource": "memory", "quantity": "4Gi"}]


async def test_what_is_told_of_now_is_what_the_virtual_nodes_show(federation: Federation) -> None:
    lender = await federation.lend(nodes=2, policy={"resourceLimits": HALF})
    request = Request(kubeconfig=federation.sandbox.virtual.kubeconfig, binding=lender.binding)
    schedule, _ = await asyncio.to_thread(read_schedule, request, datetime.now(UTC))
    leased = {name_of(lease.node): lease.segments[0].leased for lease in schedule.nodes if lease.segments[0].leased}
    assert sorted(leased) == sorted(lender.pool.nodes)
    for vnode in await federation.vnodes(lender):
        shown = {name: Quantity.parse(text) for name, text in vnode["status"]["allocatable"].items()}
        assert leased[name_of(vnode).removeprefix(f"vnode-{lender.cluster_id}-")] == shown
    assert {segment.stage for lease in schedule.nodes for segment in lease.segments} <= {Stage.OPEN, Stage.NOT_LEASED}


async def test_a_changed_policy_in_a_file_says_who_would_have_to_leave(
    federation: Federation, namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lender = await federation.lend(policy={"resourceLimits": HALF})
    policies = (await federation.virtual.list(RESOURCELEASINGPOLICIES)).items
    policy = next(each for each in policies if each["spec"]["cluster"] == lender.binding)
    await federation.virtual.create(PODS, build_pod("victim", namespace, lender))
    await federation.running(namespace, "victim")
    changed = tmp_path / "changed.yaml"
    changed.write_text(yaml.safe_dump({
        "apiVersion": RESOURCELEASINGPOLICIES.api_version, "kind": "ResourceLeasingPolicy",
        "metadata": {"name": name_of(policy)},
        "spec": {
            "cluster": lender.binding, "forceReclaim": True, "gracefulReclaimPeriodSeconds": 60,
            "timeWindows": [{"start": "09:00", "end": "16:59"}],
        },
    }))
    request = Request(
        kubeconfig=federation.sandbox.virtual.kubeconfig, physical_kubeconfig=federation.sandbox.physical[0].kubeconfig,
        binding=lender.binding, files=(changed,), begin="2030-01-07T12:00", days=1, reclaim=True,
    )
    now = datetime.now(UTC)
    schedule, _ = await asyncio.to_thread(read_schedule, request, now)
    (node,) = forecast_evictions(schedule.world, schedule.week, now=now)
    assert node.vnode == lender.vnode()
    assert [(str(each.pod.key), each.fate, each.when) for each in node.forecast.departures] == [
        (f"{namespace}/victim", Fate.EVICTED, datetime(2030, 1, 7, 17, 1, tzinfo=UTC))]
    assert await asyncio.to_thread(run_simulation, request) == 0
    assert f"{namespace}/victim" in capsys.readouterr().out


async def test_a_binding_that_is_not_there_is_one_line_and_exit_code_2(
    federation: Federation, capsys: pytest.CaptureFixture[str]
) -> None:
    await federation.bind(await federation.pool())
    request = Request(kubeconfig=federation.sandbox.virtual.kubeconfig, binding="nowhere")
    assert await asyncio.to_thread(run_simulation, request) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --binding nowhere: no ClusterBinding has this name; choose one of ")
    assert error.count("\n") == 1
