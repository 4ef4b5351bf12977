"""One session of a syncer: from opening the physical cluster to the moment something demands another session.

Order matters here: prove the cluster's identity -> put the syncer's finalizer on the binding (from now on there may be
something to clean up) -> read the physical cluster in full -> claim the mountNamespace -> let the controllers write. What
changes on the binding while they run reaches them through `Pairing`; a new Secret, secretRef or mountNamespace ends the
session, because identity has to be proved anew.

Unbinding is a session too: the controllers, told that nothing is leased any more, take back what they made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import structlog

from kubeocean.api import names
from kubeocean.api.binding import ClusterBindingSpec, parse_binding
from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.clusters.physical import ClusterIdentityChanged, PhysicalCluster, read_kubeconfig
from kubeocean.clusters.secretwatch import SecretWatch
from kubeocean.clusters.virtual import VirtualCluster
from kubeocean.domain.bindingstatus import CLUSTER_UNREACHABLE, SyncerState
from kubeocean.domain.ownership import Owner
from kubeocean.kube.errors import ConfigError, Unreachable
from kubeocean.kube.events import EventRecorder
from kubeocean.kube.meta import Json, ObjectKey, finalizers_of, is_deleting, resource_version_of, uid_of
from kubeocean.syncer.bottomup.clockwatch import watch_clock
from kubeocean.syncer.bottomup.leases import LeaseKeeper
from kubeocean.syncer.bottomup.lenderpolicies import LenderPolicyController
from kubeocean.syncer.bottomup.nodes import NodeController
from kubeocean.syncer.bottomup.policies import PolicyController
from kubeocean.syncer.bottomup.report import BindingReporter
from kubeocean.syncer.mount import claim_namespace, ensure_priority_class
from kubeocean.syncer.pairing import Pairing, SyncerOptions
from kubeocean.syncer.pods import PodController
from kubeocean.syncer.topdown.strays import StrayController
from kubeocean.syncer.unbinding import force_requested, let_go, take_everything_back

SYNC_DEADLINE = 120.0  # seconds for the first full lists of a physical cluster

log = structlog.get_logger(__name__)


class Reconnect(Exception):
    """The session's premises changed; begin another one."""


class Finished(Exception):
    """The binding is unbound, or gone: nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Surrounding:
    """What a session is given by its syncer: `changed` is set when the binding or its Secret changed."""

    binding_name: str
    virtual: VirtualCluster
    events: EventRecorder
    options: SyncerOptions
    guard: Callable[[], None]
    user_agent: str
    changed: asyncio.Event
    tell: Callable[[SyncerState], None]


class Session:
    """Serves one binding with one set of credentials. `run` never returns: it raises Finished, Reconnect or what failed."""

    def __init__(self, given: Surrounding) -> None:
        self._given, self._name = given, given.binding_name
        self._virtual = given.virtual

    async def run(self) -> NoReturn:
        """Serve the binding until something ends the session."""
        binding = self._binding()
        spec = parse_binding(binding)
        if is_deleting(binding) and names.BINDING_SYNCER_FINALIZER not in finalizers_of(binding):
            raise Finished
        secret = SecretWatch(
            self._virtual.watches, namespace=spec.secret_ref.namespace, name=spec.secret_ref.name,
            on_change=self._given.changed.set,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(secret.run(), name=f"secret of {self._name}")
            tasks.create_task(self._serve(spec, secret), name=f"session of {self._name}")
        raise AssertionError("neither of the two tasks returns")

    def _binding(self) -> Json:
        binding = self._virtual.bindings.store.object(ObjectKey("", self._name))
        if binding is None:
            raise Finished
        return binding

    async def _serve(self, spec: ClusterBindingSpec, secret: SecretWatch) -> NoReturn:
        if is_deleting(self._binding()) and force_requested(self._binding()):
            await self._let_go_if_gone(spec, secret)
        data = await secret.read()
        self._given.changed.clear()
        physical = await self._open(spec, secret.reference, data)
        try:
            await self._prove_identity(physical)
            await self._hold_binding()
            pairing = Pairing(
                self._name, uid_of(self._binding()), spec, physical.owner, self._virtual, physical, self._given.events,
                self._given.options,
            )
            physical.lender.read_before = pairing.remembers_lender
            await self._synchronise(pairing, secret, data)
        finally:
            await physical.close()
        raise Reconnect

    async def _open(self, spec: ClusterBindingSpec, reference: str, data: Json | None) -> PhysicalCluster:
        given = self._given
        return PhysicalCluster(
            await read_kubeconfig(data, reference=reference), binding=self._name,
            owner=Owner(self._virtual.uid, spec.cluster_id), mount_namespace=spec.mount_namespace,
            user_agent=given.user_agent, guard=given.guard, qps=given.options.physical_qps, burst=given.options.physical_burst,
        )

    async def _prove_identity(self, physical: PhysicalCluster) -> None:
        uid, binding = await physical.identify(), self._binding()
        known = (binding.get("status") or {}).get("physicalClusterUID") or ""
        if known and known != uid:
            raise ClusterIdentityChanged(
                f"the kubeconfig leads to another cluster (kube-system uid {uid}, it was {known}); nothing is written there: "
                "restore the old kubeconfig, or delete this binding and make a new one", cluster=self._name,
            )
        physical.uid = uid
        if not known:
            patch = {"metadata": {"resourceVersion": resource_version_of(binding)}, "status": {"physicalClusterUID": uid}}
            await self._virtual.calls.patch(CLUSTERBINDINGS, self._name, "", patch, subresource="status")

    async def _hold_binding(self) -> None:
        binding = await self._virtual.calls.get(CLUSTERBINDINGS, self._name)
        finalizers = finalizers_of(binding)
        if names.BINDING_SYNCER_FINALIZER in finalizers or is_deleting(binding):
            return
        patch = {"metadata": {
            "resourceVersion": resource_version_of(binding), "finalizers": [*finalizers, names.BINDING_SYNCER_FINALIZER],
        }}
        await self._virtual.calls.patch(CLUSTERBINDINGS, self._name, "", patch)

    async def _synchronise(self, pairing: Pairing, secret: SecretWatch, data: Json | None) -> None:
        self._given.tell(SyncerState(False, "reading the physical cluster"))
        physical = pairing.physical
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(physical.run(), name=f"informers of {self._name}")
            async with asyncio.timeout(SYNC_DEADLINE):
                await physical.wait_synced()
            if not is_deleting(self._binding()):
                await claim_namespace(physical.calls, physical.mount_namespace, pairing.owner)
                await ensure_priority_class(physical.calls)
            try:
                await self._work(pairing, secret, data, tasks)
            finally:
                pairing.stop_listening()

    async def _work(self, pairing: Pairing, secret: SecretWatch, data: Json | None, tasks: asyncio.TaskGroup) -> NoReturn:
        leases = LeaseKeeper(pairing)
        pods, policies, lenders = PodController(pairing), PolicyController(pairing), LenderPolicyController(pairing)
        nodes = NodeController(pairing, leases, policies.lease_changed, lenders.lease_changed)
        pairing.unbinding = is_deleting(self._binding())
        pairing.physical.reachability.subscribe(lambda reachable: self._reachability_changed(nodes, reachable))
        strays = StrayController(pairing, pods.controller.enqueue)
        for part in (nodes, pods, policies, lenders, strays):
            part.attach()
            tasks.create_task(part.controller.run(), name=part.controller.name)
        tasks.create_task(nodes.reclaim.controller.run(), name=nodes.reclaim.controller.name)
        clock = watch_clock(pairing.clock, lambda: _look_again(pairing, nodes, policies, lenders))
        tasks.create_task(clock, name=f"clock of {self._name}")
        tasks.create_task(leases.run(), name=f"leases of {self._name}")
        tasks.create_task(BindingReporter(pairing).run(), name=f"report of {self._name}")
        self._given.tell(SyncerState(True, f"synchronising with kube-system uid {pairing.physical.uid}"))
        log.info("syncer works", binding=self._name, nodes=len(pairing.physical.nodes.store))
        await self._follow(pairing, secret, data, nodes, pods)

    def _reachability_changed(self, nodes: NodeController, reachable: bool) -> None:
        nodes.enqueue_all()
        if reachable:
            self._given.tell(SyncerState(True, "the physical cluster answers again"))
        else:
            message = "the physical cluster does not answer; its nodes take no new Pods"
            self._given.tell(SyncerState(False, message, CLUSTER_UNREACHABLE))

    async def _follow(
        self, pairing: Pairing, secret: SecretWatch, data: Json | None, nodes: NodeController, pods: PodController
    ) -> NoReturn:
        """Carry changes of the binding to the controllers, until one demands a new session or it is deleted."""
        while True:
            if is_deleting(self._binding()):
                await self._unbind(pairing, secret, data, nodes)
            await self._given.changed.wait()
            self._given.changed.clear()
            spec = parse_binding(self._binding())
            premises = (pairing.spec.secret_ref, pairing.spec.mount_namespace)
            if (spec.secret_ref, spec.mount_namespace) != premises or _credentials(await secret.read()) != _credentials(data):
                log.info("syncer reconnects", binding=self._name)
                raise Reconnect
            if spec != pairing.spec:
                pairing.spec = spec
                nodes.enqueue_all()
                pods.enqueue_all()

    async def _unbind(self, pairing: Pairing, secret: SecretWatch, data: Json | None, nodes: NodeController) -> NoReturn:
        pairing.unbinding = True
        nodes.enqueue_all()
        self._given.tell(SyncerState(True, "unbinding: taking back virtual nodes and Pods"))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_for_surrender(pairing, secret, data), name=f"surrender of {self._name}")
            await take_everything_back(pairing, nodes)
            raise Finished

    async def _watch_for_surrender(self, pairing: Pairing, secret: SecretWatch, data: Json | None) -> NoReturn:
        """While unbinding, begin anew when the credentials changed, or when Force meets a cluster out of reach."""
        while True:
            await asyncio.sleep(1.0)
            forced = force_requested(self._binding()) and not pairing.physical.reachability.reachable
            if forced or _credentials(await secret.read()) != _credentials(data):
                raise Reconnect

    async def _let_go_if_gone(self, spec: ClusterBindingSpec, secret: SecretWatch) -> None:
        """Under deletionPolicy Force: when the cluster cannot be reached, clean the virtual side alone and be done."""
        try:
            probe = await self._open(spec, secret.reference, await secret.read())
            try:
                await self._prove_identity(probe)
            finally:
                await probe.close()
        except (ConfigError, Unreachable, ClusterIdentityChanged) as error:
            await let_go(self._virtual, self._binding(), self._given.events, why=str(error))
            raise Finished from None


def _credentials(secret: Json | None) -> object:
    return (secret.get("data") or {}).get(names.KUBECONFIG_KEY) if secret else None


def _look_again(
    pairing: Pairing, nodes: NodeController, policies: PolicyController, lenders: LenderPolicyController
) -> None:
    """Decide everything anew that depends on the time."""
    nodes.enqueue_all()
    for entry in pairing.virtual.policies.store.entries():
        policies.controller.enqueue(entry.key.name)
    for entry in pairing.physical.lender.entries():
        lenders.controller.enqueue(entry.key.name)
