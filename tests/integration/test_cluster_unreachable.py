"""A physical cluster stops answering, and comes back: nothing new goes there meanwhile, nothing is lost, nobody else notices.

A sandbox of its own: the API server of one of its clusters is stopped in mid-sentence (SIGSTOP), which to everybody else is
a network that swallows packets.
"""

import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.kube.meta import Json, parse_time, uid_of
from kubeocean.kube.resources import LEASES, NODES, PODS
from kubeocean.sandbox.assets import Assets
from kubeocean.sandbox.nodes import NodeTemplate
from kubeocean.sandbox.sandbox import Sandbox, up
from kubeocean.sandbox.spec import SandboxSpec
from tests.integration.audit import AuditLog, summary
from tests.integration.conftest import ROOT, run
from tests.integration.credentials import event_about
from tests.integration.federation import (
    Federation,
    Lender,
    Made,
    build_pod,
    condition,
    eventually,
    make_namespace,
    opened,
    steadily,
)
from tests.integration.programs import Program

UNREACHABLE = {"key": "kubeocean.io/cluster-unreachable", "value": "true", "effect": "NoSchedule"}
KNOWN_WITHIN = 15.0  # seconds
UNKNOWN_WITHIN = 42.0  # seconds: 40 from its last answer, and some for the writes


@pytest.fixture(scope="module")
def apart(assets: Assets) -> Iterator[Sandbox]:
    """A sandbox whose servers may be stopped."""
    started = run(up(SandboxSpec(name=f"apart-{os.getpid()}", nodes=NodeTemplate(count=0)), assets=assets, root=ROOT))
    yield started
    run(started.down())
    with suppress(OSError):  # the session's sandbox may lie there too
        ROOT.rmdir()


@pytest.fixture(scope="module")
def served(apart: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    log = tmp_path_factory.mktemp("apart") / "log"
    program = Program("manager", "--install-crds", "--leader-elect=false", kubeconfig=apart.virtual.kubeconfig, log=log)
    program.ensure()
    yield program
    program.stop()


@pytest.fixture
async def federation(apart: Sandbox, served: Program) -> AsyncIterator[Federation]:
    made = Made()
    async with opened(apart, made) as federation:
        yield federation
        await federation.undo()


@contextmanager
def stopped(sandbox: Sandbox, cluster: int) -> Iterator[None]:
    """Have the API server of a physical cluster answer nobody."""
    pid = sandbox.physical[cluster].component("kube-apiserver").pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def is_cut_off(federation: Federation, lender: Lender) -> Json:
    """Return the binding once it and its virtual nodes say that the cluster does not answer."""
    binding = await federation.virtual.get(CLUSTERBINDINGS, lender.binding)
    connected = condition(binding, "Connected")
    assert (connected["status"], connected["reason"]) == ("False", "ClusterUnreachable"), f"Connected is {connected}"
    assert binding["status"]["phase"] == "Failed"
    for name in lender.vnodes:
        taints = (await federation.virtual.get(NODES, name))["spec"].get("taints") or []
        assert UNREACHABLE in taints, f"taints of {name} are {taints}"
    return binding


async def test_it_is_known_within_15_s_and_undone_on_return_and_no_pod_is_lost(
    federation: Federation, apart: Sandbox
) -> None:
    cut, other = await federation.lend(cluster=0), await federation.lend(cluster=1)
    namespace = await make_namespace(federation.virtual)
    for name, lender in (("cut", cut), ("other", other)):
        await federation.virtual.create(PODS, build_pod(name, namespace, lender))
    before = await federation.running(namespace, "cut", "other")
    (taints,) = [node["spec"]["taints"] for node in await federation.vnodes(cut)]
    bystander = await federation.virtual.get(CLUSTERBINDINGS, other.binding)
    log = AuditLog(apart.physical[0])

    with stopped(apart, 0):
        since = time.monotonic()
        binding = await eventually(lambda: is_cut_off(federation, cut), within=KNOWN_WITHIN, what="the cluster is cut off")
        assert time.monotonic() - since < KNOWN_WITHIN
        assert condition(binding, "Ready")["reason"] == "ClusterUnreachable"
        assert condition(binding, "Connected")["message"]
        await event_about(federation.virtual, cut.binding, "ClusterUnreachable")
        # Longer than the manager's own look takes to fail: the reason stays the same, and names the remedy.
        told = await eventually(lambda: names_the_secret(federation, cut), within=20, what="the manager's own look")
        assert condition(told, "Connected")["reason"] == "ClusterUnreachable"
        # What is asked of it now waits, and what others do goes on.
        await federation.virtual.create(PODS, build_pod("late", namespace, cut))
        await federation.virtual.create(PODS, build_pod("elsewhere", namespace, other))
        await federation.running(namespace, "elsewhere")
        assert "nodeName" not in (await federation.virtual.get(PODS, "late", namespace))["spec"]
        await is_cut_off(federation, cut)

    async def undone() -> bool:
        await federation.is_ready(cut)
        (node,) = await federation.vnodes(cut)
        assert node["spec"]["taints"] == taints
        return True

    await eventually(undone, within=20, what="all is as before")
    await federation.running(namespace, "late")
    after = await federation.running(namespace, "cut", "other")
    assert [uid_of(pod) for pod in after] == [uid_of(pod) for pod in before]
    deleted = [write for write in log.ours() if write.verb == "delete"]
    assert not deleted, summary(deleted)
    unmoved = await federation.virtual.get(CLUSTERBINDINGS, other.binding)
    assert unmoved["status"]["conditions"] == bystander["status"]["conditions"]


async def names_the_secret(federation: Federation, lender: Lender) -> Json:
    binding = await is_cut_off(federation, lender)
    message = condition(binding, "Connected")["message"]
    assert f"default/{lender.secret}" in message, message
    return binding


async def test_a_manager_that_starts_while_the_cluster_is_away_serves_the_others_and_heals_later(
    federation: Federation, apart: Sandbox, served: Program, tmp_path: Path
) -> None:
    cut, other = await federation.lend(cluster=0), await federation.lend(cluster=1)
    namespace = await make_namespace(federation.virtual)
    await federation.virtual.create(PODS, build_pod("cut", namespace, cut))
    before = await federation.running(namespace, "cut")
    served.kill()
    with stopped(apart, 0):
        served.ensure()
        await federation.virtual.create(PODS, build_pod("other", namespace, other))
        await federation.running(namespace, "other")

        await eventually(lambda: is_cut_off(federation, cut), within=45, what="the cluster that is away is told and cut off")
    await eventually(lambda: federation.is_ready(cut), within=20, what="Ready again")
    await federation.vnodes(cut)
    after = await federation.running(namespace, "cut")
    assert [uid_of(pod) for pod in after] == [uid_of(pod) for pod in before]


async def test_after_40_s_of_silence_its_nodes_are_unknown_and_its_pods_out_of_service_until_it_is_back(
    federation: Federation, apart: Sandbox
) -> None:
    lender = await federation.lend()
    namespace = await make_namespace(federation.virtual)
    await federation.virtual.create(PODS, build_pod("web", namespace, lender))
    (before,) = await federation.running(namespace, "web")
    virtual, physical = AuditLog(apart.virtual), AuditLog(apart.physical[0])

    async def unknown() -> bool:
        ready = condition(await federation.virtual.get(NODES, lender.vnode()), "Ready")
        assert (ready["status"], ready["reason"]) == ("Unknown", "ClusterUnreachable"), ready
        pod = condition(await federation.virtual.get(PODS, "web", namespace), "Ready")
        assert (pod["status"], pod["reason"]) == ("False", "NodeLost"), pod
        return True

    with stopped(apart, 0):
        await eventually(unknown, within=UNKNOWN_WITHIN, what="it is told that nobody knows")
        lease = await federation.virtual.get(LEASES, lender.vnode(), "kube-node-lease")
        silent = datetime.now(UTC) - parse_time(lease["spec"]["renewTime"])
        assert silent.total_seconds() > 20, f"its lease was renewed {silent} ago"
        virtual.restart()
        await steadily(unknown, during=5, what="it stays so")
        assert not [write for write in virtual.ours() if not write.is_lease], summary(virtual.ours())

    async def known() -> bool:
        (pod,) = await federation.running(namespace, "web")
        assert uid_of(pod) == uid_of(before)
        ready = condition((await federation.vnodes(lender))[0], "Ready")
        assert ready["status"] == "True", ready
        return True

    await eventually(known, within=20, what="all is as before")
    assert not [write for write in physical.ours() if write.verb == "delete"], summary(physical.ours())
