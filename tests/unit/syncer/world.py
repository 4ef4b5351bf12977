"""Both clusters of a pairing in memory: writes come back through the informers, as they would through a watch.

    world = World()                                    # one leased node, "node-1", under policy "rlp"
    world.policy(timeWindows=[...])                    # create or edit the policy
    async with world.leading() as leader: ...          # the node controllers of one process; at its end it is as if killed
    world.vnode, world.events, world.writes            # what there is to see

Time is the running loop's (`looptime`); the wall clock shows `World.start` plus that plus `world.stepped`.
"""

import asyncio
import copy
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from kubeocean.api.binding import ClusterBindingSpec, SecretReference
from kubeocean.api.resources import RESOURCELEASINGPOLICIES
from kubeocean.clusters.health import Reachability
from kubeocean.clusters.identity import Identity
from kubeocean.clusters.physical import PhysicalCluster
from kubeocean.clusters.virtual import VirtualCluster
from kubeocean.domain.lender import Standing
from kubeocean.domain.ownership import Owner
from kubeocean.kube.client import Client, Listing, PatchType
from kubeocean.kube.config import ServerConfig
from kubeocean.kube.errors import AlreadyExists, Conflict, Forbidden, NotFound, TooManyRequests
from kubeocean.kube.events import EventRecorder
from kubeocean.kube.informer import Informer
from kubeocean.kube.meta import Json, ObjectKey, format_time, key_of, labels_of, uid_of
from kubeocean.kube.patch import apply_merge
from kubeocean.kube.resources import CSINODES, NAMESPACES, NODES, PODS, SELFSUBJECTACCESSREVIEWS, Resource
from kubeocean.syncer.bottomup.clockwatch import watch_clock
from kubeocean.syncer.bottomup.leases import LeaseKeeper
from kubeocean.syncer.bottomup.nodes import NodeController
from kubeocean.syncer.bottomup.silence import watch_silence
from kubeocean.syncer.pairing import Pairing, SyncerOptions
from tests.unit.syncer.watching import Watcher, Watches, selects

WATCH_DELAY = 0.005  # seconds from a write to its event
SPEC = ClusterBindingSpec(cluster_id="edge", secret_ref=SecretReference(name="s", namespace="n"), mount_namespace="mount")


class Server:
    """An API server as far as our passes use one: uid, resourceVersion and finalizers count. Stands in for a Client."""

    def __init__(self, now: Callable[[], datetime], cluster: str = "virtual") -> None:
        self.cluster = cluster
        self.objects: dict[tuple[str, ObjectKey], Json] = {}
        self.informers: dict[str, Informer[Any]] = {}
        self.shows_bound_only = False  # of Pods, as the syncer's watch of virtual ones asks for
        self.watchers: list[Watcher] = []  # of informers that make their own watches: told at once, see `watching`
        self.writes: list[str] = []
        self.forbidden: set[str] = set()  # "delete secrets" and the like
        self.blocked: set[str] = set()  # names of Pods that a disruption budget holds back
        self.evictions: list[tuple[float, str]] = []  # loop time, name: as asked, granted or not
        self.grace = 0.0  # seconds a Pod takes to go
        self.ends_pods = True  # False: a Pod that is deleted stays until somebody asks again, with grace 0
        self._born: Counter[tuple[str, ObjectKey]] = Counter()  # how often there was an object of that name
        self.minted = 0  # tokens of ServiceAccounts
        self.token_seconds = 0  # how long they live; 0 = as long as was asked for
        self.mint_fails: Exception | None = None
        self.changed = asyncio.Event()
        self._now, self._version = now, 0

    def serve(self, resource: Resource, informer: Informer[Any]) -> None:
        """Let an informer watch a resource."""
        self.informers[resource.plural] = informer

    def put(self, resource: Resource, obj: Json) -> Json:
        """Store an object as the server would, and tell who watches."""
        self._version += 1
        key = key_of(obj)
        before = self.objects.get((resource.plural, key))
        if before is None:
            self._born[resource.plural, key] += 1
        again = f"-{born}" if (born := self._born[resource.plural, key]) > 1 else ""
        metadata = {
            "uid": f"uid-{resource.plural}-{key.name}{again}", "creationTimestamp": format_time(self._now()), **obj["metadata"],
            "resourceVersion": str(self._version),
        }
        stored = {"apiVersion": resource.api_version, "kind": resource.kind, **copy.deepcopy(obj), "metadata": metadata}
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers") and resource != PODS:
            return self.remove(resource, key)
        self.objects[resource.plural, key] = stored
        if before is None or before != stored:
            self._tell(resource, stored, gone=False)
        return copy.deepcopy(stored)

    def remove(self, resource: Resource, key: ObjectKey) -> Json:
        self._version += 1
        gone = self.objects.pop((resource.plural, key))
        gone["metadata"]["resourceVersion"] = str(self._version)
        self._tell(resource, gone, gone=True)
        return gone

    def _tell(self, resource: Resource, obj: Json, *, gone: bool) -> None:
        self.changed.set()
        for watcher in self.watchers:
            watcher(resource, copy.deepcopy(obj), gone)
        if self.shows_bound_only and resource == PODS and not obj["spec"].get("nodeName"):
            return
        if informer := self.informers.get(resource.plural):
            act, event = informer.delete if gone else informer.put, copy.deepcopy(obj)
            asyncio.get_running_loop().call_later(WATCH_DELAY, act, event)

    def find(self, resource: Resource, name: str, namespace: str = "") -> Json:
        found = self.objects.get((resource.plural, ObjectKey(namespace, name)))
        if found is None:
            raise NotFound(f"no {name}", status=404, reason="NotFound", details={"name": name})
        return found

    def admit(self, verb: str, plural: str) -> None:
        if f"{verb} {plural}" in self.forbidden:
            raise Forbidden(f"{self.cluster}: may not {verb} {plural}", cluster=self.cluster, status=403)

    # --- what a Client does ------------------------------------------------------------------------------------------
    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json:
        self.admit("get", resource.plural)
        return copy.deepcopy(self.find(resource, name, namespace))

    async def list(self, resource: Resource, namespace: str = "", *, label_selector: str = "") -> Listing:
        self.admit("list", resource.plural)
        found = [
            copy.deepcopy(obj) for (plural, key), obj in self.objects.items()
            if plural == resource.plural and namespace in ("", key.namespace) and selects(label_selector, labels_of(obj))
        ]
        return Listing(found, str(self._version))

    async def create(
        self, resource: Resource, obj: Json, *, subresource: str = "", name: str = "", namespace: str = "",
        metadata_only: bool = False,
    ) -> Json:
        if subresource == "eviction":
            return await self._evict(obj)
        if subresource == "token":
            return self._mint(obj["spec"])
        if resource == SELFSUBJECTACCESSREVIEWS:
            asked = obj["spec"]["resourceAttributes"]
            return {"status": {"allowed": f"{asked['verb']} {asked['resource']}" not in self.forbidden}}
        self.admit("create", resource.plural)
        self.writes.append(f"create {resource.plural}")
        key = key_of(obj)
        if resource == PODS:
            self.find(NAMESPACES, key.namespace)
        if (resource.plural, key) in self.objects:
            raise AlreadyExists(f"{key} is there", status=409, reason="AlreadyExists")
        return _shown(self.put(resource, obj), metadata_only)

    def _mint(self, wanted: Json) -> Json:
        if self.mint_fails:
            raise self.mint_fails
        self.minted += 1
        seconds = self.token_seconds or wanted["expirationSeconds"]
        expires = format_time(self._now() + timedelta(seconds=seconds))
        token = f"token-{self.minted} for {','.join(wanted['audiences'])}"
        return {"spec": {**wanted, "expirationSeconds": seconds}, "status": {"token": token, "expirationTimestamp": expires}}

    async def _evict(self, eviction: Json) -> Json:
        key = key_of(eviction)
        self.evictions.append((asyncio.get_running_loop().time(), key.name))
        pod = self.find(PODS, key.name, key.namespace)
        assert eviction["deleteOptions"]["preconditions"]["uid"] == pod["metadata"]["uid"]
        if key.name in self.blocked:
            raise TooManyRequests("its budget says no", status=429, details={"causes": [{"reason": "DisruptionBudget"}]})
        await self.delete(PODS, key.name, key.namespace, uid=pod["metadata"]["uid"])
        return {"kind": "Status", "status": "Success"}

    async def patch(
        self, resource: Resource, name: str, namespace: str, patch: Json, *, kind: PatchType = PatchType.MERGE,
        subresource: str = "", dry_run: bool = False, metadata_only: bool = False,
    ) -> Json:
        self.admit("patch", resource.plural)
        if not dry_run:
            self.writes.append(f"patch {'/'.join(filter(None, (resource.plural, subresource)))}")
        found = self.find(resource, name, namespace)
        for precondition in ("uid", "resourceVersion"):
            wanted = (patch.get("metadata") or {}).get(precondition)
            if wanted is not None and wanted != found["metadata"][precondition]:
                raise Conflict(f"{precondition} of {name}", status=409, reason="Conflict")
        conditions = (patch.get("status") or {}).get("conditions") if kind is PatchType.STRATEGIC else None
        merged = apply_merge(found, patch)
        if conditions is not None:
            by_type = {each["type"]: each for each in (found.get("status") or {}).get("conditions") or ()}
            for each in conditions:
                by_type[each["type"]] = {**by_type.get(each["type"], {}), **each}
                if each.get("$patch") == "delete":
                    del by_type[each["type"]]
            merged["status"] = {**merged["status"], "conditions": list(by_type.values())}
        if kind is PatchType.STRATEGIC and "spec" in patch:
            merged["spec"] = {**merged["spec"], **merge_containers(found["spec"], patch["spec"])}
        for directive in (merged.get("status") or {}).get("addresses") or ():
            directive.pop("$patch", None)
        if addresses := (merged.get("status") or {}).get("addresses"):
            merged["status"] = {**merged["status"], "addresses": [each for each in addresses if each]}
        return _shown(merged if dry_run else self.put(resource, merged), metadata_only)

    async def delete(
        self, resource: Resource, name: str, namespace: str = "", *, uid: str, resource_version: str = "",
        grace_seconds: int | None = None, metadata_only: bool = False,
    ) -> Json:
        return _shown(self._delete(resource, name, namespace, uid, resource_version, grace_seconds), metadata_only)

    def _delete(
        self, resource: Resource, name: str, namespace: str, uid: str, resource_version: str, grace_seconds: int | None
    ) -> Json:
        self.admit("delete", resource.plural)
        self.writes.append(f"delete {resource.plural}")
        found = self.find(resource, name, namespace)
        if found["metadata"]["uid"] != uid or resource_version not in ("", found["metadata"]["resourceVersion"]):
            raise Conflict(f"uid of {name}", status=409)
        if resource == PODS and grace_seconds == 0:
            ended = self.force(key_of(found))
            return ended if ended["metadata"].get("finalizers") else self.remove(resource, key_of(found))
        if found["metadata"].get("deletionTimestamp"):
            return copy.deepcopy(found)
        if resource == PODS:
            if self.ends_pods:
                asyncio.get_running_loop().call_later(self.grace, self._gone, key_of(found), found["metadata"]["uid"])
            return self.put(resource, apply_merge(found, self._deletion(30 if grace_seconds is None else grace_seconds)))
        return self.put(resource, apply_merge(found, {"metadata": {"deletionTimestamp": format_time(self._now())}}))

    def force(self, key: ObjectKey) -> Json:
        """Do the first of the two writes by which an API server deletes a Pod with grace 0; it may die before the second."""
        return self.put(PODS, apply_merge(self.objects["pods", key], self._deletion(0)))

    def _deletion(self, grace: int) -> Json:
        ends = format_time(self._now() + timedelta(seconds=grace))
        return {"metadata": {"deletionTimestamp": ends, "deletionGracePeriodSeconds": grace}}

    def _gone(self, key: ObjectKey, uid: str) -> None:
        found = self.objects.get(("pods", key))
        if found and found["metadata"]["uid"] == uid:
            self.remove(PODS, key)


def _shown(answer: Json, metadata_only: bool) -> Json:
    """Return what a server answers to one who wants no more than metadata: of a Status all the same."""
    if not metadata_only or answer.get("kind") == "Status":
        return answer
    return {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": answer["metadata"]}


def merge_containers(spec: Json, patch: Json) -> Json:
    """Return the lists of containers in a strategic merge patch, merged by name."""
    merged: Json = {}
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        if kind in patch:
            by_name = {each["name"]: each for each in spec.get(kind) or ()}
            for each in patch[kind]:
                by_name[each["name"]] = apply_merge(by_name.get(each["name"], {}), each)
            merged[kind] = list(by_name.values())
    return merged


class World:
    """A virtual and a physical cluster with one node, and the wall clock."""

    start = datetime(2026, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)  # a Thursday

    def __init__(self) -> None:
        self.stepped = timedelta()
        self.events: list[tuple[str, str, str]] = []  # kind of the object, its name, reason
        self.virtual_server, self.physical_server = Server(self.now), Server(self.now, "lender")
        self.virtual = self._open_virtual()
        self.physical = self._open_physical()
        self.add_node("node-1")
        self.policy()

    def now(self) -> datetime:
        """Return what the wall clock shows."""
        return self.start + self.stepped + timedelta(seconds=asyncio.get_running_loop().time())

    def _open_virtual(self) -> VirtualCluster:
        cluster = VirtualCluster(ServerConfig("https://virtual.invalid"), user_agent="test")
        cluster.calls, cluster.watches = cast(Client, self.virtual_server), cast(Client, Watches(self.virtual_server))
        cluster.identity = Identity(cluster.calls)
        cluster.identity.uid = uid_of(self.virtual_server.put(NAMESPACES, {"metadata": {"name": "kube-system"}}))
        self.virtual_server.serve(NODES, cluster.nodes)
        self.virtual_server.serve(PODS, cluster.pods)
        self.virtual_server.shows_bound_only = True
        self.virtual_server.serve(CSINODES, cluster.csi_nodes)
        self.virtual_server.serve(RESOURCELEASINGPOLICIES, cluster.policies)
        return cluster

    def _open_physical(self) -> PhysicalCluster:
        cluster = PhysicalCluster(
            ServerConfig("https://physical.invalid"), binding="lender", owner=Owner("virtual-uid", "edge"),
            mount_namespace="mount", user_agent="test",
        )
        cluster.watches = cast(Client, Watches(self.physical_server))
        cluster.calls, cluster.lender.standing = cast(Client, self.physical_server), Standing.ABSENT
        cluster.identity = Identity(cluster.calls)
        cluster.identity.uid = uid_of(self.physical_server.put(NAMESPACES, {"metadata": {"name": "kube-system"}}))
        self.physical_server.serve(NODES, cluster.nodes)
        self.physical_server.serve(PODS, cluster.pods)
        self.physical_server.serve(CSINODES, cluster.csi_nodes)
        self.reachability = cluster.reachability = Reachability(steady=asyncio.get_running_loop().time)
        return cluster

    # --- what others do ----------------------------------------------------------------------------------------------
    def add_node(self, name: str, cpu: str = "8") -> None:
        self.physical_server.put(NODES, {
            "metadata": {"name": name}, "spec": {}, "status": {"allocatable": {"cpu": cpu, "pods": "110"}, "conditions": []},
        })

    def policy(self, **spec: Any) -> None:
        """Create policy `rlp` for the binding, or replace its spec."""
        created = {"creationTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["policy.kubeocean.io/finalizer"]}
        obj = {"metadata": {"name": "rlp", **created}, "spec": {"cluster": "lender", **spec}}
        self.virtual_server.put(RESOURCELEASINGPOLICIES, obj)

    def pod(self, name: str, *, node: str = "node-1", cpu: str = "1", **spec: Any) -> None:
        """Create a Pod that is bound to a virtual node."""
        container = {"name": "main", "resources": {"requests": {"cpu": cpu}}}
        self.virtual_server.put(PODS, {
            "metadata": {"name": name, "namespace": "ns"},
            "spec": {"nodeName": f"vnode-edge-{node}", "containers": [container], **spec}, "status": {"phase": "Running"},
        })

    # --- what there is to see ----------------------------------------------------------------------------------------
    @property
    def writes(self) -> list[str]:
        return self.virtual_server.writes

    def vnode(self, node: str = "node-1") -> Json:
        return self.virtual_server.find(NODES, f"vnode-edge-{node}")

    def effects(self, node: str = "node-1") -> list[str]:
        """Return the effects of the out-of-window taint."""
        taints = self.vnode(node)["spec"].get("taints") or []
        return [each["effect"] for each in taints if each["key"] == "kubeocean.io/out-of-time-windows"]

    def condition(self, kind: str, node: str = "node-1") -> str:
        """Return the status of a condition of a virtual node, "" when it has none."""
        conditions = (self.vnode(node).get("status") or {}).get("conditions") or ()
        return next((str(each["status"]) for each in conditions if each["type"] == kind), "")

    def pods(self) -> list[str]:
        """Return the names of the Pods that are there and were not asked to leave."""
        found = (pod for (plural, _), pod in self.virtual_server.objects.items() if plural == "pods")
        return sorted(pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"])

    def reasons(self, kind: str) -> list[str]:
        """Return the reasons of all Events on objects of a kind, in order."""
        return [reason for regarding, _, reason in self.events if regarding == kind]

    def heard_by(self, pod: str) -> list[str]:
        return [reason for kind, name, reason in self.events if (kind, name) == ("Pod", pod)]

    # --- the process -------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def leading(self, *also: Callable[[Pairing], Coroutine[Any, Any, None]]) -> AsyncIterator[NodeController]:
        """Run the node controllers, and `also`, until the end of the context; then they are gone, with their memory."""
        pairing = Pairing(
            "lender", "binding-uid", SPEC, self.physical.owner, self.virtual, self.physical, cast(EventRecorder, self),
            SyncerOptions(), clock=self.now, real_time=self.now,
        )
        nodes = NodeController(pairing, LeaseKeeper(pairing))
        nodes.attach()
        clock = watch_clock(self.now, nodes.enqueue_all, steady=asyncio.get_running_loop().time)
        silence = watch_silence(pairing, nodes.enqueue_all)
        more = (part(pairing) for part in also)
        work = (nodes.controller.run(), nodes.reclaim.controller.run(), clock, silence, *more)
        tasks = [asyncio.create_task(each) for each in work]
        try:
            await asyncio.sleep(0.1)
            yield nodes
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            pairing.stop_listening()

    def event(self, regarding: Json, kind: str, reason: str, message: str) -> None:
        """Record an Event: the world is its own recorder."""
        named = regarding.get("metadata", regarding)
        assert kind in ("Normal", "Warning")
        assert message
        self.events.append((regarding["kind"], named["name"], reason))


@asynccontextmanager
async def meanwhile(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have somebody at work until the end of the context."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
