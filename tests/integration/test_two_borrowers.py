"""Two virtual clusters lease the same node of one lender, each under rights of its own: together they never exceed it.

The second virtual cluster is a sandbox without physical clusters, with a manager of its own. The lender's scheduler has the
last word (`directScheduling` is off), so a race between the two ends with a twin that it refuses.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from kubeocean.api.resources import RESOURCELEASINGPOLICIES
from kubeocean.kube.meta import Json, annotations_of, labels_of, name_of, resource_version_of, uid_of
from kubeocean.kube.resources import NAMESPACES, NODES, PODS, PRIORITYCLASSES
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.audit import AuditLog, summary
from tests.integration.credentials import hand_in, is_failed, issue_kubeconfig
from tests.integration.federation import (
    Federation,
    Lender,
    Made,
    Pool,
    build_pod,
    condition,
    connect,
    discard,
    eventually,
    find,
    is_running,
    kinds_installed,
    make_namespace,
    opened,
    steadily,
)
from tests.integration.lending import grant
from tests.integration.programs import Program
from tests.integration.test_verify import kubeocean

LENDER = 1  # the physical cluster, into which this module installs the kind of policies
CPUS = 8
MARK, MARKED_BY = "kubeocean.io/policy-applied", "kubeocean.io/policy-applied-by"


@dataclass(frozen=True, slots=True)
class Borrower:
    """One virtual cluster, its binding to the lender's node, and a namespace that takes Pods."""

    federation: Federation
    lender: Lender
    namespace: str

    @property
    def user(self) -> str:
        return user_of(self.lender)

    async def create(self, name: str, cpu: int, *, bound: bool = False) -> Json:
        """Create a Pod; `bound`: its scheduler has decided already, on what the lease was a moment ago."""
        container = {"name": "main", "image": "busybox", "resources": {"requests": {"cpu": str(cpu)}}}
        node: Json = {"nodeName": self.lender.vnode()} if bound else {}
        pod = build_pod(name, self.namespace, self.lender, containers=[container], **node)
        return await self.federation.virtual.create(PODS, pod)

    async def run(self, name: str, cpu: int) -> Json:
        await self.create(name, cpu)
        (pod,) = await self.federation.running(self.namespace, name)
        return pod

    async def end(self, name: str) -> None:
        await discard(self.federation.virtual, PODS, name, self.namespace)

    async def pods(self) -> list[Json]:
        return (await self.federation.virtual.list(PODS, self.namespace)).items

    async def is_offered(self, cpu: int) -> None:
        """Wait until the virtual node has this much CPU."""
        async def offered() -> bool:
            allocatable = (await self.federation.virtual.get(NODES, self.lender.vnode()))["status"]["allocatable"]
            assert allocatable["cpu"] == str(cpu), allocatable
            return True

        await eventually(offered, what=f"{cpu} CPU for {self.lender.binding}")


@dataclass(frozen=True, slots=True)
class Stage:
    """What outlives a test: the second virtual cluster, the two bindings, and what was written to the lender's cluster."""

    second: Sandbox
    made: tuple[Made, Made]
    lenders: tuple[Lender, Lender]
    log: AuditLog


def user_of(lender: Lender) -> str:
    return f"borrower-{lender.cluster_id}"


@asynccontextmanager
async def federations(
    sandbox: Sandbox, second: Sandbox, made: tuple[Made, Made]
) -> AsyncIterator[tuple[Federation, Federation]]:
    """Open both virtual clusters; they share the lenders of the first sandbox."""
    async with opened(sandbox, made[0]) as first, await connect(second.virtual) as virtual:
        yield first, Federation(second, virtual, first.physical, made[1])


async def lend(federation: Federation, pool: Pool, sandbox: Sandbox) -> Lender:
    """Bind a virtual cluster to a pool with a user of its own, who has just the rights that a lender is told to grant."""
    lender = await federation.bind(pool, kubeconfig=b"soon", ready=False)
    await grant(federation, lender, user_of(lender))
    await hand_in(federation.virtual, lender, issue_kubeconfig(sandbox.physical[pool.cluster], user_of(lender)))
    await eventually(lambda: federation.is_ready(lender), within=60, what=f"{lender.binding} is Ready")
    await federation.policy(lender)
    await federation.vnodes(lender)
    return lender


@pytest.fixture(scope="module")
def installed(sandbox: Sandbox) -> Iterator[None]:
    """The kind of policies in the lender's cluster, for as long as this module runs."""
    with kinds_installed(sandbox.physical[LENDER]):
        yield


@pytest.fixture(scope="module")
def stage(
    sandbox: Sandbox, manager: Program, installed: None, start_sandbox: Callable[..., Sandbox],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    """Two virtual clusters with a binding each to the same node of 8 CPU."""
    second, log, made = start_sandbox("borrower", clusters=0), AuditLog(sandbox.physical[LENDER]), (Made(), Made())
    program = Program(
        "manager", "--install-crds", "--leader-elect=false", kubeconfig=second.virtual.kubeconfig,
        log=tmp_path_factory.mktemp("second-manager") / "log",
    )
    program.ensure()

    async def begin() -> tuple[Lender, Lender]:
        async with federations(sandbox, second, made) as (one, other):
            pool = await one.pool(cluster=LENDER, cpu=str(CPUS))
            return await lend(one, pool, sandbox), await lend(other, pool, sandbox)

    async def end() -> None:
        async with federations(sandbox, second, made) as (one, other):
            await other.undo()
            await one.undo()

    try:
        yield Stage(second, made, asyncio.run(begin()), log)
    finally:
        asyncio.run(end())
        program.stop()


@pytest.fixture
async def borrowers(sandbox: Sandbox, stage: Stage) -> AsyncIterator[tuple[Borrower, Borrower]]:
    async with federations(sandbox, stage.second, stage.made) as (one, other):
        namespaces = [await make_namespace(each.virtual) for each in (one, other)]
        yield Borrower(one, stage.lenders[0], namespaces[0]), Borrower(other, stage.lenders[1], namespaces[1])
        for federation, namespace in zip((one, other), namespaces, strict=True):
            await discard(federation.virtual, NAMESPACES, namespace)
        await eventually(lambda: nobody_runs(one, stage.lenders), within=45, what="the node is empty again")


async def nobody_runs(federation: Federation, lenders: tuple[Lender, Lender]) -> bool:
    left = [name_of(twin) for lender in lenders for twin in await federation.twins(lender)]
    assert not left, f"twins {left}"
    return True


async def taken(federation: Federation, pool: Pool) -> int:
    """Return how much CPU the Pods on the lender's node ask for."""
    pods = (await federation.physical[pool.cluster].list(PODS, field_selector=f"spec.nodeName={pool.nodes[0]}")).items
    containers = [each for pod in pods for each in pod["spec"]["containers"]]
    return sum(int(each["resources"]["requests"]["cpu"]) for each in containers)


async def test_what_one_runs_shrinks_the_others_lease_and_not_its_own(borrowers: tuple[Borrower, Borrower]) -> None:
    one, other = borrowers
    await one.run("web", 3)
    await other.is_offered(CPUS - 3)
    await one.is_offered(CPUS)
    await other.run("web", 2)
    await one.is_offered(CPUS - 2)
    await other.is_offered(CPUS - 3)
    await one.end("web")
    await other.is_offered(CPUS)


async def test_a_race_is_lost_to_the_physical_scheduler_and_told(borrowers: tuple[Borrower, Borrower]) -> None:
    one, other = borrowers
    winner = await one.run("winner", 5)
    late = await other.create("late", 5, bound=True)

    async def told() -> bool:
        said = condition(await other.federation.virtual.get(PODS, "late", other.namespace), "PhysicalPodScheduled")
        assert said.get("status") == "False", said
        assert other.lender.binding in said["message"]
        assert "Insufficient cpu" in said["message"], said
        return True

    await eventually(told, within=30, what="the late one is told why it waits")
    await other.is_offered(CPUS - 5)
    await one.is_offered(CPUS)
    refused = await other.federation.twin(other.lender, late)
    assert refused is not None
    assert not refused["spec"].get("nodeName")
    (still,) = await one.federation.running(one.namespace, "winner")
    recorded = "kubeocean.io/physical-pod-uid"
    assert annotations_of(still)[recorded] == annotations_of(winner)[recorded]

    await one.end("winner")
    await other.federation.running(other.namespace, "late")
    await one.is_offered(CPUS - 5)


async def test_of_two_that_come_at_once_the_lender_takes_one_and_the_other_is_told(
    borrowers: tuple[Borrower, Borrower]
) -> None:
    """Neither lease can have known of the other's Pod: both virtual nodes offer all there is."""
    for borrower in borrowers:
        await borrower.is_offered(CPUS)
    await asyncio.gather(*(borrower.create("web", 5, bound=True) for borrower in borrowers))

    async def decided() -> tuple[Borrower, Borrower]:
        pods = [await borrower.federation.virtual.get(PODS, "web", borrower.namespace) for borrower in borrowers]
        refused = [condition(pod, "PhysicalPodScheduled").get("status") == "False" for pod in pods]
        assert sorted(refused) == [False, True], pods
        assert is_running(pods[refused.index(False)]), pods
        return borrowers[refused.index(False)], borrowers[refused.index(True)]

    taken_in, refused = await eventually(decided, within=30, what="one runs and one is refused")
    said = condition(await refused.federation.virtual.get(PODS, "web", refused.namespace), "PhysicalPodScheduled")
    assert refused.lender.binding in said["message"]
    assert "Insufficient cpu" in said["message"]
    await refused.is_offered(CPUS - 5)
    await taken_in.is_offered(CPUS)


async def test_bursts_of_both_at_once_fill_the_node_and_never_exceed_it(borrowers: tuple[Borrower, Borrower]) -> None:
    federation, pool = borrowers[0].federation, borrowers[0].lender.pool

    async def within_the_node() -> bool:
        return await taken(federation, pool) <= CPUS

    async def full() -> bool:
        pods = [pod for borrower in borrowers for pod in await borrower.pods()]
        running = sum(map(is_running, pods))
        assert running == CPUS, f"{running} of {len(pods)} run"
        # Those that do not were told: by their own scheduler, or by the lender's.
        silent = [
            name_of(pod) for pod in pods
            if not is_running(pod) and not {"False"} & {condition(pod, each).get("status") for each in (
                "PodScheduled", "PhysicalPodScheduled",
            )}
        ]
        assert not silent, f"nobody told {silent}"
        return True

    burst = [borrower.create(f"web-{number}", 1) for number in range(CPUS) for borrower in borrowers]
    watching = asyncio.create_task(steadily(within_the_node, during=15, what="the node bears what runs on it"))
    await asyncio.gather(*burst)
    await eventually(full, within=45, what="the node is full")
    await watching
    assert await taken(federation, pool) == CPUS


async def test_the_lenders_policy_has_an_entry_of_each(borrowers: tuple[Borrower, Borrower]) -> None:
    client, name = borrowers[0].federation.physical[LENDER], f"lenders-{uuid.uuid4().hex[:6]}"
    uids = [uid_of(await each.federation.virtual.get(NAMESPACES, "kube-system")) for each in borrowers]
    await client.create(RESOURCELEASINGPOLICIES, {
        "apiVersion": RESOURCELEASINGPOLICIES.api_version, "kind": "ResourceLeasingPolicy", "metadata": {"name": name},
        "spec": {
            "cluster": "*", "nodeSelector": borrowers[0].lender.pool.selector,
            "resourceLimits": [{"resource": "cpu", "quantity": 6}],
        },
    })

    async def told() -> bool:
        status = (await client.get(RESOURCELEASINGPOLICIES, name)).get("status") or {}
        entries = status.get("borrowers") or []
        said = {(each["virtualClusterUID"], each["clusterID"], each["nodes"], each["leased"]["cpu"]) for each in entries}
        assert said == {(uid, each.lender.cluster_id, 1, "6") for uid, each in zip(uids, borrowers, strict=True)}, status
        return True

    async def version() -> str:
        return resource_version_of(await client.get(RESOURCELEASINGPOLICIES, name))

    try:
        await eventually(told, within=20, what="both entries")
        for borrower in borrowers:
            await borrower.is_offered(6)
        before = await version()

        async def at_rest() -> bool:
            return await version() == before

        await steadily(at_rest, during=4, what="they do not write over each other")
        await told()
    finally:
        await discard(client, RESOURCELEASINGPOLICIES, name)
    for borrower in borrowers:
        await borrower.is_offered(CPUS)


async def test_the_others_namespace_is_refused(borrowers: tuple[Borrower, Borrower], sandbox: Sandbox) -> None:
    one, other = borrowers
    client, claimed = one.federation.physical[LENDER], one.lender.mount_namespace
    before = await client.get(NAMESPACES, claimed)
    greedy = await other.federation.bind(
        one.lender.pool, kubeconfig=sandbox.physical[LENDER].kubeconfig.read_bytes(), ready=False, mountNamespace=claimed
    )
    binding = await eventually(
        lambda: is_failed(other.federation.virtual, greedy, "NamespaceClaimed"), within=30, what="the claim is told"
    )
    assert annotations_of(before)["kubeocean.io/claimed-by"] in condition(binding, "Ready")["message"]
    await other.federation.unbind(greedy)
    assert await client.get(NAMESPACES, claimed) == before


async def test_when_one_leaves_the_other_goes_on_and_marks_the_node(
    borrowers: tuple[Borrower, Borrower], sandbox: Sandbox
) -> None:
    one, other = (borrower.federation for borrower in borrowers)
    pool = await one.pool(cluster=LENDER, cpu=str(CPUS))
    leaves, stays = await lend(one, pool, sandbox), await lend(other, pool, sandbox)
    staying = Borrower(other, stays, borrowers[1].namespace)
    pod = await staying.run("stays", 1)
    twin = await other.twin(stays, pod)
    client = one.physical[LENDER]
    assert twin is not None
    assert annotations_of(await client.get(NODES, pool.nodes[0]))[MARKED_BY].endswith(f"/{leaves.cluster_id}")
    await one.unbind(leaves)

    async def marked() -> bool:
        node = await client.get(NODES, pool.nodes[0])
        assert annotations_of(node).get(MARKED_BY, "").endswith(f"/{stays.cluster_id}"), annotations_of(node)
        return MARK in labels_of(node)

    await eventually(marked, what="the one that stays marks the node")
    after = await other.twin(stays, pod)
    assert after is not None
    assert (uid_of(after), is_running(after)) == (uid_of(twin), True)
    assert "deletionTimestamp" not in (await client.get(NAMESPACES, stays.mount_namespace))["metadata"]
    assert await find(client, PRIORITYCLASSES, "kubeocean-default"), "it goes with the last of them"


async def test_neither_touched_what_is_the_others(borrowers: tuple[Borrower, Borrower], stage: Stage) -> None:
    """Judges all that was written since both came: by this module's other tests too, as many of them as were run."""
    one, other = borrowers
    for borrower in borrowers:
        await borrower.run("web", 1)
    writes = [write for write in stage.log.writes() if write.code < 300]
    for borrower, foreign in ((one, other), (other, one)):
        mine = [write for write in writes if write.user == borrower.user]
        assert {"pods", "secrets"} <= {write.resource for write in mine}
        strayed = [write for write in mine if write.namespace == foreign.lender.mount_namespace]
        strayed += [write for write in mine if write.resource == "namespaces" and write.name == foreign.lender.mount_namespace]
        assert not strayed, summary(strayed)
        # What the other has there is no finding of ours either.
        assert kubeocean(borrower.federation, "verify", f"--binding={borrower.lender.binding}").returncode == 0
    # The label of a node that both lease is written once, by whoever came first.
    node = one.lender.pool.nodes[0]
    marks = [write.user for write in writes if (write.verb, write.resource, write.name) == ("patch", "nodes", node)]
    assert [user for user in marks if user in (one.user, other.user)] == [one.user]
