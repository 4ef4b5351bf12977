"""Open streams, and what happens to those who carry them: a syncer, the proxier, a physical cluster.

A sandbox of its own, since its physical clusters are frozen and killed; syncers and proxier are programs of their own.
"""

import asyncio
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from kubeocean.kube.loopback import VNODE_LOOPBACK
from kubeocean.kube.resources import LEASES, PODS
from kubeocean.sandbox.assets import Assets
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.federation import Lender, build_pod, connect, eventually, find, make_namespace, opened
from tests.integration.kubectl import Kubectl
from tests.integration.nodepages import kubelet_port
from tests.integration.programs import Program
from tests.integration.streams import forwarding, typing

FAST_ELECTION = (
    "--leader-election-lease-duration=4s", "--leader-election-renew-deadline=3s", "--leader-election-retry-period=500ms",
)


@dataclass(frozen=True)
class Stage:
    """Three bindings, one to each physical cluster, with a Pod `web-N` each; the first one has two syncers."""

    kubectl: Kubectl
    sandbox: Sandbox
    namespace: str
    lenders: list[Lender]
    syncers: list[Program]
    proxier: Program

    async def leader(self) -> Program | None:
        """Return which of the first binding's two syncers acts."""
        async with await connect(self.sandbox.virtual) as client:
            lease = await find(client, LEASES, f"kubeocean-syncer-{self.lenders[0].binding}", "kubeocean-system")
        holder = str(((lease or {}).get("spec") or {}).get("holderIdentity") or "")
        return next((each for each in self.syncers[:2] if each.alive and f"_{each.pid}_" in holder), None)

    async def is_open(self, number: int) -> bool:
        """Tell whether the port of a virtual node takes connections."""
        async with await connect(self.sandbox.virtual) as client:
            port = await kubelet_port(client, self.lenders[number].vnode())
        with suppress(ConnectionError):
            _, writer = await asyncio.open_connection(VNODE_LOOPBACK, port)
            writer.close()
            return True
        return False

    def holds(self) -> dict[str, float]:
        """Return what the proxier has in its hands at this moment."""
        text = self.proxier.scrape()
        sums = {
            name: sum(map(float, re.findall(rf"^kubeocean_proxier_{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)))
            for name in ("sessions", "tasks")
        }
        return sums | {"files": len(os.listdir(f"/proc/{self.proxier.pid}/fd"))}

    async def lets_go(self, before: dict[str, float]) -> None:
        """Wait until the proxier holds no more than it did; of connections a few stay pooled for a while."""
        def nothing_left() -> bool:
            now = self.holds()
            assert now["sessions"] == before["sessions"], now
            assert now["tasks"] <= before["tasks"] + 2, f"{now}, before {before}"
            assert now["files"] <= before["files"] + 4, f"{now}, before {before}"
            return True

        await eventually(nothing_left, within=40, what="the proxier has let go of everything")


@pytest.fixture(scope="module")
def stage(
    start_sandbox: Callable[..., Sandbox], assets: Assets, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    sandbox, folder = start_sandbox("streams", clusters=3), tmp_path_factory.mktemp("streams")
    programs: list[Program] = []

    def start(*args: str) -> Program:
        log = folder / f"{len(programs)}-{args[0]}.log"
        programs.append(Program(*args, kubeconfig=sandbox.virtual.kubeconfig, log=log).start())
        return programs[-1]

    try:
        start("manager", "--install-crds", "--launcher=none", "--leader-elect=false").wait_ready()
        proxier = start("proxier")
        namespace, lenders = asyncio.run(lend(sandbox))
        flags = [f"--cluster-binding-name={each.binding}" for each in lenders]
        syncers = [
            start("syncer", flags[0], *FAST_ELECTION), start("syncer", flags[0], *FAST_ELECTION),
            *(start("syncer", flag, "--leader-elect=false") for flag in flags[1:]),
        ]
        asyncio.run(run_pods(sandbox, namespace, lenders))
        proxier.wait_ready()
        yield Stage(Kubectl(assets, sandbox.virtual), sandbox, namespace, lenders, syncers, proxier)
    finally:
        for program in programs:
            program.kill()


async def lend(sandbox: Sandbox) -> tuple[str, list[Lender]]:
    async with opened(sandbox) as federation:
        lenders = [
            await federation.bind(await federation.pool(cluster=cluster), ready=False)
            for cluster in range(len(sandbox.physical))
        ]
        for lender in lenders:
            await federation.policy(lender)
        return await make_namespace(federation.virtual), lenders


async def run_pods(sandbox: Sandbox, namespace: str, lenders: list[Lender]) -> None:
    async with opened(sandbox) as federation:
        for number, lender in enumerate(lenders):
            await federation.vnodes(lender, within=60)
            await federation.virtual.create(PODS, build_pod(f"web-{number}", namespace, lender))
        await federation.running(namespace, *(f"web-{number}" for number in range(len(lenders))))


async def test_a_change_of_the_leading_syncer_touches_no_stream(stage: Stage) -> None:
    first = await eventually(stage.leader, within=20, what="one of the syncers leads")
    async with (
        typing(stage.kubectl, stage.namespace, "web-0") as shell,
        forwarding(stage.kubectl, stage.namespace, "web-0") as forward,
    ):
        first.kill()
        await eventually(stage.leader, within=20, what="the other one leads")
        await shell.echoes("still there?")
        await forward.answers()
        await shell.finish()


async def test_a_proxier_that_is_told_to_stop_closes_its_ports_at_once_and_lets_what_is_open_finish(stage: Stage) -> None:
    async with typing(stage.kubectl, stage.namespace, "web-0") as shell:
        stage.proxier.tell(signal.SIGTERM)

        async def is_closed() -> bool:
            return not await stage.is_open(0)

        await eventually(is_closed, within=3, what="nobody new is let in")
        await shell.echoes("a last word")
        assert stage.proxier.alive
        await shell.finish()
        await eventually(lambda: stage.proxier.exit_code == 0, within=5, what="it ends once nothing is open")
    stage.proxier.ensure()


# How, and within how many seconds its streams are cut (docs/kubectl.md).
CLUSTER_ENDS = {"a cluster that freezes": (1, signal.SIGSTOP, 20), "a cluster that dies": (2, signal.SIGKILL, 5)}


@pytest.mark.parametrize("case", CLUSTER_ENDS)
async def test_the_streams_of_a_cluster_that_is_gone_are_cut_soon_and_leave_nothing_behind(case: str, stage: Stage) -> None:
    number, how, within = CLUSTER_ENDS[case]
    pod, api_server = f"web-{number}", stage.sandbox.physical[number].component("kube-apiserver")
    await stage.kubectl("logs", pod, "-n", stage.namespace)
    before = stage.holds()
    async with (
        typing(stage.kubectl, stage.namespace, "web-0") as other,
        typing(stage.kubectl, stage.namespace, pod) as shell,
        forwarding(stage.kubectl, stage.namespace, pod, spdy=True) as forward,
    ):
        assert stage.holds()["sessions"] == before["sessions"] + 3
        os.kill(api_server.pid, how)
        try:
            await asyncio.gather(shell.ended(within=within), forward.ended(within=within))
            await other.echoes("the other cluster's go on")
            await other.finish()
            await stage.lets_go(before)
        finally:
            if how == signal.SIGSTOP:
                os.kill(api_server.pid, signal.SIGCONT)
