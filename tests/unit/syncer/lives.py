"""Lives of one syncer between two clusters in memory: each a real session with caches of its own; the clusters outlive them.

    stage = Stage(seed)                              # two nodes, a policy, a binding; users who come and go as the seed says
    async with stage.life(Doom(17, "after")) as life:
        await life.over                              # it dies with its 17th call; what was on its way elsewhere is lost
    async with stage.life():
        await stage.rest()                           # nobody has written anything but Leases for a while

A call may be cut *before* it arrives, or *after* it was done and before the answer is heard. A Pod's deletion with grace 0
may also be cut *between* the two writes that an API server makes of it; then only those are counted.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Literal, cast

import pytest

from kubeocean.api.binding import ClusterBindingSpec
from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.clusters.health import Reachability
from kubeocean.clusters.physical import PhysicalCluster
from kubeocean.clusters.virtual import VirtualCluster
from kubeocean.domain.ownership import Owner
from kubeocean.kube.config import ServerConfig
from kubeocean.kube.events import EventRecorder
from kubeocean.kube.meta import Json, ObjectKey, key_of, uid_of
from kubeocean.kube.patch import apply_merge
from kubeocean.kube.resources import CONFIGMAPS, PODS, SECRETS, Resource
from kubeocean.syncer import parts
from kubeocean.syncer import session as sessions
from kubeocean.syncer.bottomup.clockwatch import watch_clock
from kubeocean.syncer.pairing import Pairing, SyncerOptions
from kubeocean.syncer.session import Session
from kubeocean.syncer.syncer import Syncer
from tests.unit.syncer.watching import Watches
from tests.unit.syncer.world import Server, World

LATENCY = 0.002  # seconds a call takes in each direction, so that calls of several passes overlap
STARTS_IN = 0.03  # seconds until the lender's kubelet says that a Pod runs
COLLECTED = 65.0  # seconds after which what nobody needs any more is gone
GLANCE = 20.0  # seconds in which a syncer has looked at all there is, and renewed its Leases twice
PATIENCE = 300.0  # seconds
PODS_MADE = 5
NODE_NAMES = ("node-1", "node-2")
TOKEN: Json = {"name": "access", "projected": {"sources": [
    {"serviceAccountToken": {"path": "token", "expirationSeconds": 100_000}},
    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
]}}
BINDING: Json = {
    "metadata": {"name": "lender", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {
        "clusterID": "edge", "secretRef": {"name": "s", "namespace": "n"}, "mountNamespace": "mount", "directScheduling": True,
    },
}


@dataclass(frozen=True, slots=True)
class Doom:
    """With which of its calls, from 1 on, a syncer dies, and how far that call has come."""

    call: int
    when: Literal["before", "between", "after"]


class Life:
    """One process; `over` is awaited until it has died."""

    def __init__(self, doom: Doom | None) -> None:
        self._doom, self._calls = doom, 0
        self._died = asyncio.Event()

    @property
    def over(self) -> Coroutine[Any, Any, Literal[True]]:
        return self._died.wait()

    async def send(self, server: Server, verb: str, *given: Any, **named: Any) -> Any:
        forces = verb == "delete" and given[0] == PODS and named.get("grace_seconds") == 0
        how = self._ends_with_this(forces=forces)
        await self._travel()
        if how == "between":
            server.force(ObjectKey(given[2], given[1]))
        if how in ("before", "between"):
            await self._die()
        try:
            answer = await getattr(server, verb)(*given, **named)
        finally:
            if how == "after":
                await self._die()
        await self._travel()
        return answer

    def _ends_with_this(self, *, forces: bool) -> str:
        if self._doom is None or (self._doom.when == "between" and not forces):
            return ""
        self._calls += 1
        return self._doom.when if self._calls == self._doom.call else ""

    async def _travel(self) -> None:
        await asyncio.sleep(LATENCY)
        if self._died.is_set():
            await asyncio.Event().wait()

    async def _die(self) -> None:
        self._died.set()
        await asyncio.Event().wait()


class Calls:
    """The Client of one life."""

    cluster = "in memory"

    def __init__(self, server: Server, life: Life) -> None:
        self._server, self._life = server, life

    def __getattr__(self, verb: str) -> Callable[..., Awaitable[Any]]:
        return partial(self._life.send, self._server, verb)

    async def close(self) -> None:
        """Nothing is open."""


class LenderWatches(Watches):
    """Watches of a lender who has no policies and always answers, also when he is asked who he is."""

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json:
        assert isinstance(self.server, Server)
        return await self.server.get(resource, name, namespace)

    async def raw(self, _: str, path: str, **__: object) -> bytes:
        return b'{"kind": "APIGroupList", "groups": []}' if path == "/apis" else b"ok"


class Stage:
    """Two clusters, a binding between them, and everybody but the syncer."""

    def __init__(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self._rng = World(), Random(seed)
        self.virtual, self.physical = self.world.virtual_server, self.world.physical_server
        self.owner = Owner(self.world.virtual.uid, BINDING["spec"]["clusterID"])
        for server in (self.virtual, self.physical):
            server.informers.clear()  # the world's own: every life has its own
        self.virtual.ends_pods = False  # the syncer is these Pods' kubelet
        self.physical.grace = 0.05
        self.made: dict[str, str] = {}  # twins ever created: their uids, and those of the virtual Pods they were made for
        self.ended: dict[str, str] = {}  # the same of those that went
        self.physical.watchers.append(self._physical_changed)
        self.deleted: set[str] = set()  # uids of virtual Pods that users deleted
        self._prepare()
        for module in ("virtual", "physical"):
            monkeypatch.setattr(f"kubeocean.clusters.{module}.Client", self._client)
        monkeypatch.setattr(sessions, "Pairing", partial(Pairing, real_time=self.world.now))
        monkeypatch.setattr(parts, "watch_clock", partial(watch_clock, steady=asyncio.get_running_loop().time))
        monkeypatch.setattr(Session, "_open", lambda _, spec, *__: self._open_physical(spec))
        self._life = Life(None)

    def _prepare(self) -> None:
        self.world.add_node("node-2")
        self.virtual.put(CLUSTERBINDINGS, BINDING)
        self.virtual.put(SECRETS, {"metadata": {"name": "s", "namespace": "n"}, "data": {"kubeconfig": "a"}})
        self.virtual.put(CONFIGMAPS, {
            "metadata": {"name": "kube-root-ca.crt", "namespace": "ns"}, "data": {"ca.crt": "the root"},
        })
        self.virtual.put(CONFIGMAPS, {"metadata": {"name": "app", "namespace": "ns"}, "data": {"a": "1"}})
        self.foreign = self.physical.put(PODS, {
            "metadata": {"name": "theirs", "namespace": "default"}, "status": {"phase": "Running"},
            "spec": {"nodeName": "node-1", "containers": [{"name": "main", "resources": {"requests": {"cpu": "1"}}}]},
        })

    # --- the lender --------------------------------------------------------------------------------------------------
    def _physical_changed(self, resource: Resource, pod: Json, gone: bool) -> None:
        if resource != PODS or pod["metadata"]["namespace"] != "mount":
            return
        if gone:
            self.ended[uid_of(pod)] = uid_of_virtual(pod)
        elif uid_of(pod) not in self.made:
            self.made[uid_of(pod)] = uid_of_virtual(pod)
            if not pod.get("status"):
                asyncio.get_running_loop().call_later(STARTS_IN, self._start, key_of(pod), uid_of(pod))

    def _start(self, key: ObjectKey, uid: str) -> None:
        pod = self.physical.objects.get(("pods", key))
        if pod is None or uid_of(pod) != uid:
            return
        now = pod["metadata"]["creationTimestamp"]
        state = {"running": {"startedAt": now}}
        conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": now}]
        statuses = [{"name": "main", "ready": True, "restartCount": 0, "image": "i", "imageID": "", "state": state}]
        status = {"phase": "Running", "startTime": now, "conditions": conditions, "containerStatuses": statuses}
        self.physical.put(PODS, apply_merge(pod, {"status": status}))

    # --- the borrower's users ----------------------------------------------------------------------------------------
    async def users(self) -> None:
        """Create PODS_MADE Pods and delete some again, now and then by force, each at a time of its own."""
        await asyncio.sleep(0.2)
        async with asyncio.TaskGroup() as tasks:
            for number in range(PODS_MADE):
                wait, lifetime = self._rng.uniform(0, 0.5), self._rng.choice((None, None, 0.02, 0.2, 0.4))
                tasks.create_task(self.user(f"web-{number}", wait, lifetime, force=self._rng.random() < 0.2))

    async def user(self, name: str, wait: float, lifetime: float | None, *, force: bool = False) -> None:
        """Create a Pod after `wait` seconds, and delete it after another `lifetime`."""
        await asyncio.sleep(wait)
        reference = [{"configMapRef": {"name": "app"}}] if self._rng.random() < 0.5 else []
        container = {"name": "main", "image": "i", "envFrom": reference}
        node = self._rng.choice(NODE_NAMES)
        self.world.pod(name, node=node, containers=[container], volumes=[TOKEN])
        pod = self.virtual.find(PODS, name, "ns")
        self.virtual.put(PODS, {**pod, "status": {"phase": "Pending"}})
        if lifetime is not None:
            await asyncio.sleep(lifetime)
            self.deleted.add(uid_of(pod))
            await self.virtual.delete(PODS, name, "ns", uid=uid_of(pod), grace_seconds=0 if force else 2)

    # --- the syncer --------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def life(self, doom: Doom | None = None) -> AsyncIterator[Life]:
        """Run a syncer until the end of the context; then it is gone, with its memory and all that was on its way."""
        self._life = life = Life(doom)
        virtual = self._open_virtual()
        syncer = Syncer(
            "lender", virtual, cast(EventRecorder, self.world), SyncerOptions(clock=self.world.now), guard=lambda: None,
            user_agent="test",
        )
        tasks = [asyncio.create_task(virtual.run(syncing=True)), asyncio.create_task(self._serve(virtual, syncer))]
        try:
            yield life
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, virtual: VirtualCluster, syncer: Syncer) -> None:
        await virtual.wait_synced(syncing=True)
        await syncer.run()

    def _client(self, config: ServerConfig, *, cluster: str, **given: Any) -> Calls | Watches:
        """Stand in for the constructor of Client: those for calls are the ones with a guard."""
        server, watches = (self.virtual, Watches) if cluster == "virtual" else (self.physical, LenderWatches)
        return Calls(server, self._life) if "guard" in given else watches(server)

    def _open_virtual(self) -> VirtualCluster:
        cluster = VirtualCluster(ServerConfig("https://virtual.invalid"), user_agent="test")
        cluster.identity.uid = self.world.virtual.uid
        return cluster

    async def _open_physical(self, spec: ClusterBindingSpec) -> PhysicalCluster:
        steady = asyncio.get_running_loop().time
        cluster = PhysicalCluster(
            ServerConfig("https://physical.invalid"), binding="lender", owner=self.owner,
            mount_namespace=spec.mount_namespace, user_agent="test",
        )
        cluster.reachability = Reachability(steady=steady)
        return cluster

    async def rest(self, quiet: float = COLLECTED) -> None:
        """Return once nothing but Leases was written for `quiet` seconds."""
        now = asyncio.get_running_loop().time
        seen, since, give_up = -1, now(), now() + PATIENCE
        while now() - since < quiet:
            if len(written := self.writes()) != seen:
                seen, since = len(written), now()
            assert now() < give_up, f"never at rest: {written[-5:]}"
            await asyncio.sleep(1.0)

    def writes(self) -> list[str]:
        """Return all writes so far but those of Leases."""
        return [write for server in (self.virtual, self.physical) for write in server.writes if "leases" not in write]


def uid_of_virtual(twin: Json) -> str:
    return str(twin["metadata"]["annotations"]["kubeocean.io/virtual-pod-uid"])
