"""What a test lends and borrows: physical nodes, a binding to them, policies. Everything is undone afterwards.

Only two physical clusters exist, so every binding gets nodes of its own in one of them (a `Pool`, told apart by a label),
a clusterID and a mountNamespace of its own. Tests never see each other.

    pool = await federation.pool(nodes=2)           # KWOK plays them; played=False: the test plays the kubelet
    lender = await federation.bind(pool)            # Secret + ClusterBinding, awaited until Ready
    await federation.policy(lender, resourceLimits=[...])
    await federation.vnodes(lender)                 # awaited until they take Pods
or all of it: lender = await federation.lend(nodes=2, policy={...}, directScheduling=True)
"""

import asyncio
import base64
import hashlib
import inspect
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kubeocean.api.crd import crds
from kubeocean.api.resources import CLUSTERBINDINGS, RESOURCELEASINGPOLICIES
from kubeocean.clusters.install import install_crds
from kubeocean.kube.client import Client
from kubeocean.kube.config import config_from_file
from kubeocean.kube.errors import Conflict, NotFound
from kubeocean.kube.meta import Json, annotations_of, name_of, namespace_of, uid_of
from kubeocean.kube.resources import (
    CUSTOMRESOURCEDEFINITIONS,
    EVENTS,
    NAMESPACES,
    NODES,
    PODS,
    SECRETS,
    SERVICEACCOUNTS,
    Resource,
)
from kubeocean.sandbox.nodes import NodeTemplate, build_node, is_ready
from kubeocean.sandbox.sandbox import Sandbox
from kubeocean.sandbox.state import ClusterHandle

T = TypeVar("T")
EVERY = 0.05  # seconds between two looks
POOL = "tests/pool"  # label of the nodes of one pool
TOLERATES_VNODES: list[Json] = [{"key": "kubeocean.io/vnode", "operator": "Exists"}]


@dataclass(frozen=True, slots=True)
class Pool:
    """Nodes of physical cluster `cluster` (0 or 1) that belong to one test or module."""

    cluster: int
    name: str
    nodes: tuple[str, ...]

    @property
    def selector(self) -> Json:
        return {"nodeSelectorTerms": [{"matchExpressions": [{"key": POOL, "operator": "In", "values": [self.name]}]}]}


@dataclass(frozen=True, slots=True)
class Lender:
    """One binding and what belongs to it."""

    binding: str
    cluster_id: str
    mount_namespace: str
    secret: str
    pool: Pool

    def vnode(self, number: int = 0) -> str:
        """Return the name that the contract gives to the virtual node of the pool's node `number`."""
        return f"vnode-{self.cluster_id}-{self.pool.nodes[number]}"

    @property
    def vnodes(self) -> list[str]:
        return [self.vnode(number) for number in range(len(self.pool.nodes))]


@dataclass(slots=True)
class Made:
    """What is to be undone; outlives the event loop it was made in."""

    lenders: list[Lender] = field(default_factory=list)
    virtual: list[tuple[Resource, str, str]] = field(default_factory=list)
    physical: list[tuple[int, Resource, str, str]] = field(default_factory=list)


class Federation:
    """Makes pools, bindings and policies. `virtual` and `physical` are clients with an administrator's rights."""

    def __init__(self, sandbox: Sandbox, virtual: Client, physical: list[Client], made: Made) -> None:
        self.sandbox, self.virtual, self.physical, self.made = sandbox, virtual, physical, made

    # --- making ------------------------------------------------------------------------------------------------------
    async def pool(
        self, *, nodes: int = 1, cluster: int = 0, played: bool = True, labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None, taints: Sequence[Json] = (), cpu: str = "8", memory: str = "32Gi",
        pods: int = 110, extended: dict[str, str] | None = None,
    ) -> Pool:
        """Add nodes to a physical cluster. With `played` KWOK runs their Pods; else nobody does, and they are Ready for
        some 50 s unless the test renews them."""
        name = f"pool-{uuid.uuid4().hex[:6]}"
        pool = Pool(cluster, name, tuple(f"{name}-{number}" for number in range(1, nodes + 1)))
        for node in pool.nodes:
            await self.add_node(
                pool, node, played=played, labels=labels, annotations=annotations, taints=taints, cpu=cpu, memory=memory,
                pods=pods, extended=extended,
            )

        async def ready() -> bool:
            found = [await self.physical[cluster].get(NODES, node) for node in pool.nodes]
            return all(map(is_ready, found))

        await eventually(ready, within=30, what=f"physical nodes of {name} are ready")
        return pool

    async def add_node(
        self, pool: Pool, name: str, *, played: bool = True, labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None, taints: Sequence[Json] = (), cpu: str = "8", memory: str = "32Gi",
        pods: int = 110, extended: dict[str, str] | None = None,
    ) -> Json:
        template = NodeTemplate(
            cpu=cpu, memory=memory, pods=pods, labels={POOL: pool.name, **(labels or {})}, taints=tuple(taints),
            extended=extended or {},
        )
        node = build_node(name, template, address="127.0.0.1", port=self._kubelet_port(pool.cluster))
        if not played:
            node["metadata"]["annotations"] = {}
            node["status"]["conditions"] = [{"type": "Ready", "status": "True", "reason": "Test", "message": "by a test"}]
        node["metadata"]["annotations"].update(annotations or {})
        self.made.physical.append((pool.cluster, NODES, name, ""))
        return await self.physical[pool.cluster].create(NODES, node)

    def _kubelet_port(self, cluster: int) -> int:
        """Return where KWOK answers for the nodes of a physical cluster."""
        kwok = next(each for each in self.sandbox.physical[cluster].components if each.name == "kwok")
        return int(kwok.address.rpartition(":")[2])

    async def bind(
        self, pool: Pool, *, kubeconfig: bytes | None = None, ready: bool = True, **spec: Any
    ) -> Lender:
        """Create Secret and ClusterBinding; with `ready`, wait until it is. `spec` adds to or replaces spec fields."""
        tag = uuid.uuid4().hex[:6]
        mount = str(spec.get("mountNamespace") or f"mount-{tag}")
        lender = Lender(f"lender-{tag}", f"c{tag}", mount, f"kubeconfig-{tag}", pool)
        data = kubeconfig if kubeconfig is not None else self.sandbox.physical[pool.cluster].kubeconfig.read_bytes()
        self.made.lenders.append(lender)
        await self.create(SECRETS, {
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": lender.secret, "namespace": "default"},
            "data": {"kubeconfig": base64.b64encode(data).decode()},
        })
        await self.virtual.create(CLUSTERBINDINGS, {
            "apiVersion": CLUSTERBINDINGS.api_version, "kind": "ClusterBinding", "metadata": {"name": lender.binding},
            "spec": {
                "clusterID": lender.cluster_id, "secretRef": {"name": lender.secret, "namespace": "default"},
                "mountNamespace": lender.mount_namespace, "nodeSelector": pool.selector, **spec,
            },
        })
        if ready:
            await eventually(lambda: self.is_ready(lender), within=30, what=f"binding {lender.binding} is Ready")
        return lender

    async def policy(self, lender: Lender, *, name: str = "", **spec: Any) -> str:
        """Create a ResourceLeasingPolicy for the binding and return its name; without `spec` all is leased, always."""
        name = name or f"policy-{uuid.uuid4().hex[:6]}"
        await self.create(RESOURCELEASINGPOLICIES, {
            "apiVersion": RESOURCELEASINGPOLICIES.api_version, "kind": "ResourceLeasingPolicy", "metadata": {"name": name},
            "spec": {"cluster": lender.binding, **spec},
        })
        return name

    async def lend(
        self, *, nodes: int = 1, cluster: int = 0, played: bool = True, policy: Json | None = None, **spec: Any
    ) -> Lender:
        """Make a pool, a binding to it and a policy, and wait until its virtual nodes take Pods."""
        pool = await self.pool(nodes=nodes, cluster=cluster, played=played)
        lender = await self.bind(pool, **spec)
        await self.policy(lender, **(policy or {}))
        await self.vnodes(lender)
        return lender

    async def create(self, resource: Resource, obj: Json) -> Json:
        """Create an object of the virtual cluster that is removed in the end."""
        self.made.virtual.append((resource, name_of(obj), namespace_of(obj)))
        return await self.virtual.create(resource, obj)

    # --- looking -----------------------------------------------------------------------------------------------------
    async def is_ready(self, lender: Lender) -> bool:
        status = (await self.virtual.get(CLUSTERBINDINGS, lender.binding)).get("status") or {}
        assert status.get("phase") == "Ready", f"status is {status}"
        return True

    async def vnodes(self, lender: Lender, *, within: float = 30) -> list[Json]:
        """Return the binding's virtual nodes, once there is one per node of the pool and all of them take Pods."""
        async def all_ready() -> list[Json]:
            found = [await find(self.virtual, NODES, name) for name in lender.vnodes]
            missing = [name for name, node in zip(lender.vnodes, found, strict=True) if node is None]
            assert not missing, f"missing: {missing}"
            nodes = [node for node in found if node]
            waiting = {name_of(node): node["spec"].get("taints") for node in nodes if not is_ready(node)}
            assert not waiting, f"not ready: {waiting}"
            return nodes

        nodes: list[Json] = await eventually(all_ready, within=within, what=f"virtual nodes of {lender.binding}")
        return nodes

    async def twin(self, lender: Lender, vpod: Json) -> Json | None:
        """Return the twin of a virtual Pod, None when it has none."""
        name = twin_name(name_of(vpod), namespace_of(vpod))
        return await find(self.physical[lender.pool.cluster], PODS, name, lender.mount_namespace)

    async def twins(self, lender: Lender) -> list[Json]:
        return (await self.physical[lender.pool.cluster].list(PODS, lender.mount_namespace)).items

    async def running(self, namespace: str, *names: str, within: float = 30) -> list[Json]:
        """Return the virtual Pods of these names once all are Running and Ready."""
        async def all_running() -> list[Json]:
            pods = [await self.virtual.get(PODS, name, namespace) for name in names]
            others = {name_of(pod): pod.get("status") for pod in pods if not is_running(pod)}
            assert not others, f"not running: {others}"
            return pods

        try:
            pods: list[Json] = await eventually(all_running, within=within, what=f"Pods {', '.join(names)} run")
        except AssertionError as error:
            stories = [await self._story(pod) for pod in (await self.virtual.list(PODS, namespace)).items]
            raise AssertionError("\n".join([str(error), *map(str, stories)])) from None
        return pods

    async def _story(self, vpod: Json) -> Json:
        """Return what may tell why a virtual Pod does not run: what it says, what its twin says, and its Events."""
        selector = f"involvedObject.name={name_of(vpod)}"
        twins = [
            (twin["spec"].get("nodeName"), twin.get("status")) for cluster in self.physical
            for twin in (await cluster.list(PODS)).items
            if annotations_of(twin).get("kubeocean.io/virtual-pod-uid") == uid_of(vpod)
        ]
        events = (await self.virtual.list(EVENTS, namespace_of(vpod), field_selector=selector)).items
        return {
            "name": name_of(vpod), "node": vpod["spec"].get("nodeName"), "status": vpod.get("status"), "twins": twins,
            "events": [f"{event['reason']}: {event['message']}" for event in events],
        }

    # --- undoing -----------------------------------------------------------------------------------------------------
    async def unbind(self, lender: Lender, *, within: float = 45) -> None:
        """Delete the binding and wait until it is gone."""
        await discard(self.virtual, CLUSTERBINDINGS, lender.binding)

        async def gone() -> bool:
            binding = await find(self.virtual, CLUSTERBINDINGS, lender.binding)
            assert binding is None, f"finalizers {binding['metadata'].get('finalizers')}, status {binding.get('status')}"
            return True

        await eventually(gone, within=within, what=f"binding {lender.binding} is gone")
        if lender in self.made.lenders:
            self.made.lenders.remove(lender)

    async def undo(self) -> None:
        """Remove everything that was made here, bindings first and through their own way out."""
        try:
            for lender in self.made.lenders:
                await discard(self.virtual, CLUSTERBINDINGS, lender.binding)
            for lender in list(self.made.lenders):
                await self.unbind(lender)
        finally:
            for resource, name, namespace in reversed(self.made.virtual):
                await discard(self.virtual, resource, name, namespace)
            for cluster, resource, name, namespace in self.made.physical:
                await discard(self.physical[cluster], resource, name, namespace)


@contextmanager
def for_a_module(sandbox: Sandbox, build: Callable[[Federation], Awaitable[T]]) -> Iterator[T]:
    """Make something that many tests use, in an event loop of its own; undone at the end. For module-scoped fixtures.

        @pytest.fixture(scope="module")
        def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
            with for_a_module(sandbox, lambda federation: federation.lend(nodes=2)) as lender:
                yield lender
    """
    made = Made()

    async def within(work: Callable[[Federation], Awaitable[Any]]) -> Any:
        async with opened(sandbox, made) as federation:
            return await work(federation)

    try:
        yield asyncio.run(within(build))
    finally:
        asyncio.run(within(Federation.undo))


@asynccontextmanager
async def opened(sandbox: Sandbox, made: Made | None = None) -> AsyncIterator[Federation]:
    """Open clients of all clusters; nothing is undone at the end."""
    async with AsyncExitStack() as stack:
        virtual, *physical = [
            await stack.enter_async_context(await connect(cluster)) for cluster in (sandbox.virtual, *sandbox.physical)
        ]
        yield Federation(sandbox, virtual, physical, made or Made())


async def connect(cluster: ClusterHandle) -> Client:
    return Client(await config_from_file(str(cluster.kubeconfig)), cluster=cluster.name, user_agent="kubeocean-tests")


async def eventually(check: Callable[[], Any], *, within: float = 10.0, what: str = "") -> Any:
    """Wait until a check, plain or async, returns something true without an AssertionError; return what it returned."""
    give_up = time.monotonic() + within
    while True:
        problem = "it stayed false"
        try:
            answer = check()
            if inspect.isawaitable(answer):
                answer = await answer
            if answer:
                return answer
        except AssertionError as error:
            problem = str(error)
        if time.monotonic() > give_up:
            raise AssertionError(f"{what or 'check'}: not within {within:g} s: {problem}")
        await asyncio.sleep(EVERY)


async def steadily(check: Callable[[], Any], *, during: float, what: str) -> None:
    """Fail as soon as a check, plain or async, is not true at some moment of the next `during` seconds."""
    end = time.monotonic() + during
    while time.monotonic() < end:
        answer = check()
        if inspect.isawaitable(answer):
            answer = await answer
        assert answer, f"{what}: no more"
        await asyncio.sleep(EVERY)


async def find(client: Client, resource: Resource, name: str, namespace: str = "") -> Json | None:
    """Return the object, None when there is none."""
    try:
        return await client.get(resource, name, namespace)
    except NotFound:
        return None


async def discard(
    client: Client, resource: Resource, name: str, namespace: str = "", *, grace_seconds: int | None = None
) -> None:
    """Ask for the deletion of an object, if it is there."""
    if obj := await find(client, resource, name, namespace):
        with suppress(NotFound, Conflict):
            await client.delete(resource, name, namespace, uid=uid_of(obj), grace_seconds=grace_seconds)


async def make_namespace(client: Client) -> str:
    """Create a namespace that takes Pods and return its name."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    await until_it_takes_pods(client, name)
    return name


async def until_it_takes_pods(client: Client, namespace: str) -> None:
    """Return once a new namespace has what every Pod needs."""
    async def takes_pods() -> bool:
        return "default" in map(name_of, (await client.list(SERVICEACCOUNTS, namespace)).items)

    await eventually(takes_pods, within=30, what=f"ServiceAccount default of {namespace}")


def twin_name(name: str, namespace: str) -> str:
    """Return the name that the contract gives to a twin (for names whose first 30 characters end in a letter or digit)."""
    return f"{name[:30]}-{hashlib.md5(f'{namespace}/{name}'.encode()).hexdigest()}"


def is_running(pod: Json) -> bool:
    status = pod.get("status") or {}
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ())
    return status.get("phase") == "Running" and ready


@contextmanager
def kinds_installed(cluster: ClusterHandle) -> Iterator[None]:
    """Have our kinds in a lender's cluster, where they need not be, for as long as the context lasts."""
    async def change(*, install: bool) -> None:
        async with await connect(cluster) as client:
            if install:
                await install_crds(client)
            else:
                for crd in crds():
                    await discard(client, CUSTOMRESOURCEDEFINITIONS, name_of(crd))

    asyncio.run(change(install=True))
    yield
    asyncio.run(change(install=False))


def condition(obj: Json, kind: str) -> Json:
    """Return a condition of `obj`, {} when it has none of this type."""
    for each in (obj.get("status") or {}).get("conditions") or ():
        if each["type"] == kind:
            return dict(each)
    return {}


def build_pod(name: str, namespace: str, lender: Lender, *, metadata: Json | None = None, **spec: Any) -> Json:
    """Return a Pod that the virtual scheduler places on one of the lender's virtual nodes."""
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, **(metadata or {})},
        "spec": build_pod_spec(lender, **spec),
    }


def build_pod_spec(lender: Lender, **spec: Any) -> Json:
    return {
        "containers": [{"name": "main", "image": "busybox"}], "tolerations": TOLERATES_VNODES,
        "nodeSelector": {POOL: lender.pool.name}, **spec,
    }
