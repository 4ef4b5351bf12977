"""A manager that leads no more, or is no more, makes room at once for the next one's proxier, and cuts nobody's stream."""

import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.kube.resources import LEASES, PODS
from kubeocean.sandbox.assets import Assets
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.federation import Federation, build_pod, condition, eventually
from tests.integration.kubectl import Kubectl
from tests.integration.programs import Program, runs
from tests.integration.streams import typing

LEASE = f"test-manager-{uuid.uuid4().hex[:6]}"
FLAGS = (
    "manager", "--leader-election-lease-duration=4s", "--leader-election-renew-deadline=3s",
    "--leader-election-retry-period=500ms", f"--leader-election-id={LEASE}",
)
PLAYED = "KWOK plays this container"


@pytest.fixture
def elected(sandbox: Sandbox, manager: Program, federation: Federation, tmp_path: Path) -> Iterator[Program]:
    """A manager that leads by a Lease; the session's own one rests meanwhile, and is there again when `federation` ends."""
    manager.stop()
    program = Program(*FLAGS, kubeconfig=sandbox.virtual.kubeconfig, log=tmp_path / "log").ensure()
    yield program
    program.kill()
    manager.ensure()


@pytest.fixture
async def kubectl(elected: Program, federation: Federation, namespace: str, assets: Assets, sandbox: Sandbox) -> Kubectl:
    """kubectl, and a Pod `web` that it reaches."""
    lender = await federation.lend(nodes=1, policy={})
    await federation.virtual.create(PODS, build_pod("web", namespace, lender))
    await federation.running(namespace, "web")

    async def served() -> bool:
        binding = await federation.virtual.get(CLUSTERBINDINGS, lender.binding)
        return bool(condition(binding, "ProxierReady").get("status") == "True")

    await eventually(served, within=20, what="the binding is served")
    return Kubectl(assets, sandbox.virtual)


async def serves_anew(kubectl: Kubectl, namespace: str) -> None:
    async def answers() -> bool:
        return PLAYED in await kubectl("logs", "web", "-n", namespace)

    await eventually(answers, within=30, what="another proxier serves the same port")


async def test_a_manager_that_loses_its_lease_lets_streams_go_on(
    federation: Federation, namespace: str, elected: Program, kubectl: Kubectl
) -> None:
    first = elected.child("proxier")
    async with typing(kubectl, namespace, "web") as shell:
        lease = await federation.virtual.get(LEASES, LEASE, "kubeocean-system")
        spec = {**lease["spec"], "holderIdentity": "a-rival", "leaseDurationSeconds": 4}
        await federation.virtual.update(LEASES, {**lease, "spec": spec})

        def another() -> bool:
            return any(pid != first for pid in elected.children("proxier"))

        await eventually(another, within=30, what="the manager leads again, with another proxier")
        await serves_anew(kubectl, namespace)
        await shell.echoes("still there?")
        assert runs(first)
        await shell.finish()
        await eventually(lambda: not runs(first), within=10, what="it ends with its last stream")
    assert elected.alive


async def test_a_killed_manager_leaves_a_proxier_that_ends_with_its_last_stream(
    namespace: str, elected: Program, kubectl: Kubectl
) -> None:
    orphan = elected.child("proxier")
    async with typing(kubectl, namespace, "web") as shell:
        elected.kill()
        elected.ensure()
        await serves_anew(kubectl, namespace)
        assert elected.child("proxier") != orphan
        await shell.echoes("still there?")
        await shell.finish()
        await eventually(lambda: not runs(orphan), within=10, what="the orphan ends")


async def test_a_manager_that_is_told_to_stop_waits_for_streams_a_while(
    namespace: str, elected: Program, kubectl: Kubectl
) -> None:
    proxier = elected.child("proxier")
    async with typing(kubectl, namespace, "web") as shell:
        elected.tell(signal.SIGTERM)

        async def is_refused() -> bool:
            try:
                await kubectl("logs", "web", "-n", namespace)
            except AssertionError as error:
                return "connection refused" in str(error)
            return False

        await eventually(is_refused, within=10, what="nobody new is let in")
        await shell.echoes("a last word")
        await shell.finish()
        await eventually(lambda: elected.exit_code == 0, within=10, what="the manager ends once nothing is open")
    assert not runs(proxier)
