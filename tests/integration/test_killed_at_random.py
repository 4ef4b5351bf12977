"""A syncer is killed more than a hundred times at random moments, while Pods come and go: nobody is harmed by it.

Some of the moments lie in the start of a process, some in the work of one, and some in the middle of a burst of Pods. What
happened is read from the audit logs of both API servers. The moments follow from a seed, which is printed; another one, or
fewer kills while you work on it: KUBEOCEAN_TEST_SEED=7, KUBEOCEAN_TEST_KILLS=20. A sandbox of its own, in which nobody else
writes.
"""

import asyncio
import base64
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal

import pytest

from kubeocean.clusters.install import install_crds
from kubeocean.kube.meta import Json, annotations_of, is_deleting, name_of, namespace_of, resource_version_of, uid_of
from kubeocean.kube.resources import CONFIGMAPS, NAMESPACES, PODS, SECRETS
from kubeocean.sandbox.nodes import NodeTemplate
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.audit import AuditLog, Write, beside_leases, summary, until_quiet
from tests.integration.federation import (
    Federation,
    Lender,
    build_pod,
    discard,
    eventually,
    is_running,
    make_namespace,
    opened,
    twin_name,
)
from tests.integration.programs import Program

pytestmark = pytest.mark.timeout(900)
SEED = int(os.environ.get("KUBEOCEAN_TEST_SEED", "20261128"))
KILLS = int(os.environ.get("KUBEOCEAN_TEST_KILLS", "110"))
# As parts of the time that a start takes on this machine; seconds after the process said that it works, and after users asked
# for something meanwhile.
STARTING, WORKING, BUSY = (0.1, 1.0), (0.0, 1.2), (0.0, 0.15)
WORKS = "syncer works"
AT_MOST = 50  # Pods at a time
BURST = 6  # Pods at once
MANAGED: Json = {"kubeocean.io/managed-by": "kubeocean"}
MADE = (201, 504)  # 504 is what a server notes of a client that died; its object may be there


@pytest.fixture(scope="module")
def small(start_sandbox: Callable[..., Sandbox]) -> Sandbox:
    return start_sandbox("killed", clusters=1, nodes=NodeTemplate(count=1))


@dataclass
class Users:
    """Create Pods that need a ConfigMap, a Secret and a token, and delete some again, some at once, until told to stop."""

    federation: Federation
    lender: Lender
    namespace: str
    rng: Random
    living: dict[str, str] = field(default_factory=dict)  # uids by name
    deleted: set[str] = field(default_factory=set)
    made: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)  # set whenever they begin to ask for something

    async def come_and_go(self) -> None:
        while True:
            await asyncio.sleep(self.rng.uniform(0.3, 1.5))
            self.asked.set()
            await asyncio.gather(*(self.come_or_go() for _ in range(self.rng.randint(1, BURST))))

    async def come_or_go(self) -> None:
        if self.rng.random() < 0.4 + 0.6 * (len(self.living) >= AT_MOST) and len(self.living) > 2:
            name = self.rng.choice(sorted(self.living)[2:])  # the first two stay: what all need is never out of use
            self.deleted.add(name)
            del self.living[name]
            grace = self.rng.choice((None, 1, 5))
            await discard(self.federation.virtual, PODS, name, self.namespace, grace_seconds=grace)
        else:
            await self.create()

    async def create(self) -> None:
        self.made += 1
        name = f"pod-{self.made:04}"
        env = [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "password"}}]
        container = {"name": "main", "image": "busybox", "envFrom": env}
        pod = build_pod(name, self.namespace, self.lender, containers=[container], terminationGracePeriodSeconds=2)
        self.living[name] = uid_of(await self.federation.virtual.create(PODS, pod))

    def was_deleted(self, name: str) -> bool:
        """Tell whether an object below belongs to a Pod that was deleted, by its name."""
        return any(name.startswith(f"{pod}-") for pod in self.deleted)


@pytest.fixture
def syncers(small: Sandbox, tmp_path: Path) -> Iterator[Callable[[Lender], Program]]:
    programs: list[Program] = []

    def make(lender: Lender) -> Program:
        programs.append(Program(
            "syncer", f"--cluster-binding-name={lender.binding}", "--leader-elect=false",
            kubeconfig=small.virtual.kubeconfig, log=tmp_path / "syncer.log",
        ))
        return programs[-1]

    yield make
    for program in programs:
        program.kill()


async def test_a_syncer_killed_at_random_harms_nobody(small: Sandbox, syncers: Callable[[Lender], Program]) -> None:
    print(f"seed {SEED}, {KILLS} kills")
    async with opened(small) as federation:
        await install_crds(federation.virtual)
        namespace = await make_namespace(federation.virtual)
        lender = await federation.bind(await federation.pool(nodes=2), ready=False)
        await federation.policy(lender)
        strangers = await place_strangers(federation, lender, namespace)
        above, below = AuditLog(small.virtual), AuditLog(small.physical[0])
        syncer = syncers(lender)
        start = await start_working(syncer)
        born = {name_of(vnode): uid_of(vnode) for vnode in await federation.vnodes(lender)}
        users = Users(federation, lender, namespace, Random(SEED + 1))
        await users.create()
        await users.create()
        coming_and_going = asyncio.create_task(users.come_and_go())
        await kill_again_and_again(syncer, Random(SEED), users.asked, start)
        coming_and_going.cancel()
        with suppress(asyncio.CancelledError):
            await coming_and_going
        await start_working(syncer)

        await assert_both_sides_agree(federation, users)
        await until_quiet(above, below)
        print(f"{len(users.living)} Pods live, {len(users.deleted)} are gone")
        print(f"above: {summary(above.ours())}\nbelow: {summary(below.ours())}")
        assert_no_node_was_made_twice(above.writes(), born)
        assert born == {name_of(vnode): uid_of(vnode) for vnode in await federation.vnodes(lender)}
        assert_each_twin_was_made_once(below.writes(), users)
        assert_pods_were_spared(above.writes(), users)
        await assert_strangers_were_left_alone(federation, strangers)
        assert_only_the_binding_was_served(above.ours(), below.ours(), users)

        syncer.kill()
        for log in (above, below):
            log.restart()
        await start_working(syncer)
        await asyncio.sleep(5)
        written = beside_leases(above, below)
        assert {write.name for write in above.ours() if write.is_lease} >= born.keys(), "it did work"
        assert not written, f"needless: {', '.join(map(str, written))}"


# --- what happens ----------------------------------------------------------------------------------------------------
async def place_strangers(federation: Federation, lender: Lender, namespace: str) -> list[tuple[Literal["v", "p"], Json]]:
    """Put what is nobody's or another's where the syncer works; return it as it is then."""
    physical, virtual, mount = federation.physical[0], federation.virtual, lender.mount_namespace
    await physical.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": mount}})
    metadata = {"namespace": mount, "labels": {**MANAGED, "kubeocean.io/owner": "0123456789abcdef"}}
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "name": "anothers"},
        "spec": {
            "containers": [{"name": "main", "image": "busybox"}], "nodeName": lender.pool.nodes[0],
            "automountServiceAccountToken": False,
        },
    }
    await physical.create(PODS, pod)

    async def runs() -> Json | None:
        stored = await physical.get(PODS, "anothers", mount)
        return stored if is_running(stored) else None

    stranger: Json = await eventually(runs, within=20, what="the other borrower's Pod runs")
    config = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"colour": "red"}}
    unowned = await physical.create(CONFIGMAPS, {
        **config, "metadata": {"name": twin_name("unused", namespace), "namespace": mount, "labels": MANAGED},
    })
    unused = await virtual.create(CONFIGMAPS, {**config, "metadata": {"name": "unused", "namespace": namespace}})
    await virtual.create(CONFIGMAPS, {**config, "metadata": {"name": "settings", "namespace": namespace}})
    await virtual.create(SECRETS, {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "password", "namespace": namespace},
        "data": {"password": base64.b64encode(b"sesame").decode()},
    })
    return [("p", stranger), ("p", unowned), ("v", unused)]


async def start_working(syncer: Program) -> float:
    """Return once it works, with the seconds that took."""
    mark = syncer.mark()
    syncer.start()
    return await works(syncer, mark)


async def works(syncer: Program, mark: int) -> float:
    began = asyncio.get_running_loop().time()

    def said() -> bool:
        assert syncer.alive, f"it ended by itself with {syncer.exit_code}:\n{syncer.tail(mark)}"
        return syncer.has_said(WORKS, mark)

    await eventually(said, within=30, what="the syncer works")
    return asyncio.get_running_loop().time() - began


async def kill_again_and_again(syncer: Program, rng: Random, asked: asyncio.Event, start: float) -> None:
    """Kill the running syncer and all its successors; the last one is left to the caller to start.

    `start` is how long a start took; from each one that is awaited we learn how long it takes now.
    """
    reached: Counter[bool] = Counter()
    mark = 0
    for _ in range(KILLS):
        kind = rng.choices((STARTING, WORKING, BUSY), (4, 2, 4))[0]
        pause = rng.uniform(*kind)
        if kind is STARTING:
            pause *= start
        elif reached:  # the first one works already
            start = await works(syncer, mark)
        if kind is BUSY:
            asked.clear()
            await asked.wait()
        await asyncio.sleep(pause)
        assert syncer.alive, f"it ended by itself with {syncer.exit_code}:\n{syncer.tail(mark)}"
        reached[syncer.has_said(WORKS, mark)] += 1
        syncer.kill()
        mark = syncer.mark()
        syncer.start()
    syncer.kill()
    print(f"killed at work {reached[True]} times, at the start {reached[False]} times")
    assert min(reached[True], reached[False]) >= KILLS // 5, "the moments do not fall where they should"


# --- what it led to --------------------------------------------------------------------------------------------------
async def assert_both_sides_agree(federation: Federation, users: Users) -> None:
    async def agree() -> bool:
        pods = (await federation.virtual.list(PODS, users.namespace)).items
        assert {name_of(pod): uid_of(pod) for pod in pods} == users.living
        waiting = {name_of(pod): pod.get("status") for pod in pods if not is_running(pod)}
        assert not waiting, f"not running: {waiting}"
        recorded = {uid_of(pod): annotations_of(pod).get("kubeocean.io/physical-pod-uid") for pod in pods}
        assert recorded == {
            annotations_of(twin)["kubeocean.io/virtual-pod-uid"]: uid_of(twin) for twin in await own_twins(federation, users)
        }
        label = "kubeocean.io/service-account-token=true"
        tokens = (await federation.physical[0].list(SECRETS, users.lender.mount_namespace, label_selector=label)).items
        assert sorted(annotations_of(token)["kubeocean.io/virtual-pod-uid"] for token in tokens) == sorted(recorded)
        return True

    await eventually(agree, within=60, what="both sides agree")


async def own_twins(federation: Federation, users: Users) -> list[Json]:
    twins = [twin for twin in await federation.twins(users.lender) if name_of(twin) != "anothers"]
    assert not any(map(is_deleting, twins))
    return twins


def assert_no_node_was_made_twice(above: list[Write], born: dict[str, str]) -> None:
    nodes = [write for write in above if write.resource == "nodes" and write.name in born]
    made = Counter(write.name for write in nodes if write.verb == "create" and write.code == 201)
    assert made == dict.fromkeys(born, 1), made
    assert not [write for write in nodes if write.verb == "delete"], "a virtual node was deleted"


def assert_each_twin_was_made_once(below: list[Write], users: Users) -> None:
    mount, names = users.lender.mount_namespace, {twin_name(pod, users.namespace) for pod in users.living}
    in_mount = [write for write in below if write.namespace == mount]
    ours = [write for write in in_mount if write.agent.startswith("kubeocean-syncer")]
    ended = {write.name for write in in_mount if write.verb == "delete" and not users.was_deleted(write.name)}
    assert not ended, f"what living Pods need was deleted: {ended}"
    made = Counter((write.resource, write.name) for write in in_mount if write.verb == "create" and write.code in MADE)
    stored = Counter((write.resource, write.name) for write in in_mount if write.verb == "create" and write.code == 201)
    assert max(stored.values()) == 1, f"made twice: {stored.most_common(3)}"
    assert {name for resource, name in made if resource == "pods"} >= names, "who made the others?"
    touched = [write for write in ours if write.resource == "pods" and write.verb not in ("create", "delete")]
    assert not touched, f"twins were changed: {summary(touched)}"
    refused = [write for write in ours if write.code >= 400 and write.code not in (404, 409, 504)]
    assert not refused, summary(refused)


def assert_pods_were_spared(above: list[Write], users: Users) -> None:
    """Nobody but their user deletes a Pod; each is written to as often as it has something to tell, and by the killed again."""
    pods = [write for write in above if write.namespace == users.namespace and write.agent.startswith("kubeocean-syncer")]
    ended = {write.name for write in pods if write.verb == "delete" and write.resource == "pods"}
    assert ended <= users.deleted, f"living Pods were deleted: {ended - users.deleted}"
    told = Counter(write.name for write in pods if write.resource == "pods/status" and write.name in users.living)
    assert max(told.values()) <= 4, f"written again and again: {told.most_common(3)}"
    marks = Counter(write.name for write in pods if write.resource in ("configmaps", "secrets"))
    assert marks.keys() == {"settings", "password"}, marks
    assert max(marks.values()) <= 2, f"marked again and again: {marks}"


async def assert_strangers_were_left_alone(federation: Federation, strangers: list[tuple[Literal["v", "p"], Json]]) -> None:
    for side, obj in strangers:
        client = federation.virtual if side == "v" else federation.physical[0]
        resource = {"Pod": PODS, "ConfigMap": CONFIGMAPS}[obj["kind"]]
        now = await client.get(resource, name_of(obj), namespace_of(obj))
        assert resource_version_of(now) == resource_version_of(obj), f"{obj['kind']} {name_of(obj)} was written to"


def assert_only_the_binding_was_served(above: list[Write], below: list[Write], users: Users) -> None:
    lender = users.lender
    cluster_wide = {("nodes", node) for node in lender.pool.nodes}
    cluster_wide |= {("namespaces", lender.mount_namespace), ("priorityclasses", "kubeocean-default")}
    elsewhere = [
        write for write in below if write.namespace != lender.mount_namespace
        and (write.resource.partition("/")[0], write.name) not in cluster_wide
    ]
    assert not elsewhere, f"below: {', '.join(map(str, elsewhere))}"
    wide = {"nodes": lender.vnodes, "clusterbindings": [lender.binding]}
    elsewhere = [
        write for write in above if write.namespace not in (users.namespace, "kube-node-lease") and write.resource != "events"
        and not write.resource.startswith("resourceleasingpolicies")
        and write.name not in wide.get(write.resource.partition("/")[0], [])
    ]
    assert not elsewhere, f"above: {', '.join(map(str, elsewhere))}"
