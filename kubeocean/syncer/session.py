"""One session of a syncer: from opening the physical cluster to the moment something demands another session.

Order matters here: prove the cluster's identity -> put the syncer's finalizer on the binding (from now on there may be
something to clean up) -> read the physical cluster in full -> claim the mountNamespace -> let the controllers write. What
changes on the binding while they run reaches them through `Pairing`; a new Secret, secretRef or mountNamespace, or another
binding of that name, ends the session, because identity has to be proved anew.

Unbinding is a session too: the controllers, told that nothing is leased any more, take back what they made. Only under
deletionPolicy Force, and when the physical cluster has been out of reach for a while, is it let go of instead (`surrender`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import structlog

from kubeocean.api import names
from kubeocean.api.binding import ClusterBindingSpec, SecretReference, parse_binding, parse_served_binding
from kubeocean.api.model import InvalidObject, Problem
from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.clusters.identity import ClusterIdentityChanged
from kubeocean.clusters.mountuse import holds_twins, namespace_in_use
from kubeocean.clusters.physical import PhysicalCluster, read_kubeconfig
from kubeocean.clusters.secretwatch import SecretWatch
from kubeocean.clusters.virtual import OutOfView, VirtualCluster
from kubeocean.domain.bindingstatus import CLUSTER_UNREACHABLE, PERMISSION_DENIED, SyncerState, find_duplicate
from kubeocean.domain.ownership import Owner
from kubeocean.kube.cancellation import heed_cancellation
from kubeocean.kube.causes import first_cause
from kubeocean.kube.errors import Conflict, Forbidden
from kubeocean.kube.events import EventRecorder
from kubeocean.kube.meta import Json, ObjectKey, finalizers_of, is_deleting, resource_version_of, uid_of
from kubeocean.syncer.mount import (
    MOUNT_NAMESPACE_IN_USE,
    claim_namespace,
    describe_use,
    ensure_priority_class,
    leave_earlier_namespaces,
)
from kubeocean.syncer.pairing import Pairing, SyncerOptions
from kubeocean.syncer.parts import Parts
from kubeocean.syncer.surrender import SILENCE_TO_LET_GO, Refusal, Surrender, why_out_of_reach
from kubeocean.syncer.unbinding import force_requested, let_go, take_everything_back

WRITE_ATTEMPTS = 5  # at a binding that others write to as well
SYNC_DEADLINE = 120.0  # seconds for the first full lists of a physical cluster
LOOK_AGAIN = 2.0  # seconds between looks for what no event tells
CLAIMS_AGAIN = 30.0  # the same, where each look is a call and nothing is urgent
UNBINDING = "unbinding: taking back virtual nodes and Pods"

log = structlog.get_logger(__name__)


class Reconnect(Exception):
    """The session's premises changed; begin another one."""


class Finished(Exception):
    """The binding is unbound, or gone: nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Surrounding:
    """What a session is given by its syncer: `changed` is set when the binding or its Secret changed.

    `secret_of` returns a running watch; it outlives the session.
    """

    binding_name: str
    virtual: VirtualCluster
    events: EventRecorder
    options: SyncerOptions
    guard: Callable[[], None]
    user_agent: str
    changed: asyncio.Event
    secret_of: Callable[[SecretReference], SecretWatch]
    tell: Callable[[SyncerState], None]


class Session:
    """Serves one binding with one set of credentials. `run` never returns: it raises Finished, Reconnect or what failed."""

    def __init__(self, given: Surrounding) -> None:
        self._given, self._name = given, given.binding_name
        self._virtual = given.virtual

    async def run(self) -> NoReturn:
        """Serve the binding until something ends the session."""
        self._given.changed.clear()  # before anything is read: what changes from here on is for `_follow` or the next session
        binding = self._binding()
        served = names.BINDING_SYNCER_FINALIZER in finalizers_of(binding)
        spec = parse_served_binding(binding) if served else parse_binding(binding)
        if is_deleting(binding) and not served:
            raise Finished
        if not self._virtual.shows(spec.cluster_id):
            raise OutOfView(self._name, spec.cluster_id)
        self._refuse_duplicate(binding)
        secret = self._given.secret_of(spec.secret_ref)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(secret.lasting(), name=f"secret of {self._name}")
                await self._serve(spec, secret)
        except* Surrender as why:
            heed_cancellation()
            await let_go(self._virtual, self._binding(), self._given.events, why=str(first_cause(why)))
            raise Finished from None
        raise AssertionError("a session does not return")

    def _refuse_duplicate(self, binding: Json) -> None:
        """Raise InvalidObject when an older binding has this clusterID: its virtual nodes and twins would look like ours."""
        others = [entry.object() for entry in self._virtual.bindings.store.entries()]
        if other := find_duplicate(binding, others):
            raise InvalidObject([Problem(
                "spec.clusterID", f"is already used by ClusterBinding {other!r}: delete this binding and create it again with "
                "a clusterID of its own",
            )])

    def _binding(self) -> Json:
        binding = self._virtual.bindings.store.object(ObjectKey("", self._name))
        if binding is None:
            raise Finished
        return binding

    def _spec(self, known: ClusterBindingSpec) -> ClusterBindingSpec:
        """Return the spec as it is now; `known` while it cannot be read, as the binding's condition tells meanwhile."""
        try:
            return parse_served_binding(self._binding())
        except InvalidObject:
            return known

    async def _serve(self, spec: ClusterBindingSpec, secret: SecretWatch) -> NoReturn:
        binding_uid = uid_of(self._binding())
        if is_deleting(self._binding()):
            await self._surrender_if_gone(spec, secret, binding_uid)
        data = await secret.read()
        physical = await self._open(spec, secret.reference, data)
        try:
            await self._prove_identity(physical)
            await self._hold_binding()
            physical.serve_namespace(await namespace_in_use(physical.calls, spec.mount_namespace, physical.owner))
            pairing = Pairing(
                self._name, binding_uid, spec, physical.owner, self._virtual, physical, self._given.events,
                self._given.options, clock=self._given.options.clock,
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
        uid = await physical.identity.ask()

        def remember(binding: Json) -> Json | None:
            known = (binding.get("status") or {}).get("physicalClusterUID") or ""
            if known and known != uid:
                raise ClusterIdentityChanged(
                    f"the kubeconfig leads to another cluster (kube-system uid {uid}, it was {known}); nothing is written "
                    "there: restore the old kubeconfig, or delete this binding and make a new one", cluster=self._name,
                )
            return None if known else {"status": {"physicalClusterUID": uid}}

        await self._patch_binding(remember, subresource="status")
        physical.identity.uid = uid

    async def _hold_binding(self) -> None:
        def hold(binding: Json) -> Json | None:
            finalizers = finalizers_of(binding)
            if names.BINDING_SYNCER_FINALIZER in finalizers or is_deleting(binding):
                return None
            return {"metadata": {"finalizers": [*finalizers, names.BINDING_SYNCER_FINALIZER]}}

        await self._patch_binding(hold)

    async def _patch_binding(self, change: Callable[[Json], Json | None], *, subresource: str = "") -> None:
        """Apply what `change` makes of the binding as it is now, None for nothing.

        The manager writes to it in the same moments, so a conflict is no trouble but a reason to look again.
        """
        for attempt in range(1, WRITE_ATTEMPTS + 1):
            binding = await self._virtual.calls.get(CLUSTERBINDINGS, self._name)
            patch = change(binding)
            if patch is None:
                return
            patch["metadata"] = {**patch.get("metadata", {}), "resourceVersion": resource_version_of(binding)}
            try:
                await self._virtual.calls.patch(CLUSTERBINDINGS, self._name, "", patch, subresource=subresource)
                return
            except Conflict:
                if attempt == WRITE_ATTEMPTS:
                    raise

    async def _synchronise(self, pairing: Pairing, secret: SecretWatch, data: Json | None) -> None:
        self._given.tell(SyncerState(False, "reading the physical cluster"))
        physical = pairing.physical
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(physical.run(), name=f"informers of {self._name}")
            async with asyncio.timeout(SYNC_DEADLINE):
                await physical.wait_synced()
            await leave_earlier_namespaces(physical.calls, physical.mount_namespace, pairing.owner)
            if not is_deleting(self._binding()):
                await claim_namespace(physical.calls, physical.mount_namespace, pairing.owner)
                await ensure_priority_class(physical.calls)
            try:
                await self._work(pairing, secret, data, tasks)
            finally:
                pairing.stop_listening()

    async def _work(self, pairing: Pairing, secret: SecretWatch, data: Json | None, tasks: asyncio.TaskGroup) -> NoReturn:
        pairing.unbinding = is_deleting(self._binding())
        parts = Parts(pairing)
        pairing.physical.reachability.subscribe(lambda reachable: self._reachability_changed(pairing, parts, reachable))
        parts.start(tasks)
        if pairing.physical.mount_namespace != pairing.spec.mount_namespace:
            tasks.create_task(_move_when_empty(pairing), name=f"move of {self._name}")
        self._tell_working(pairing, f"synchronising with kube-system uid {pairing.physical.identity.uid}")
        log.info("syncer works", binding=self._name, nodes=len(pairing.physical.nodes.store))
        await self._follow(pairing, secret, data, parts)

    def _tell_working(self, pairing: Pairing, message: str) -> None:
        served = pairing.physical.mount_namespace
        if served != pairing.spec.mount_namespace and not pairing.unbinding:
            self._given.tell(SyncerState(False, describe_use(served), MOUNT_NAMESPACE_IN_USE))
        else:
            self._given.tell(SyncerState(True, message))

    def _reachability_changed(self, pairing: Pairing, parts: Parts, reachable: bool) -> None:
        parts.reachability_changed(reachable)
        if reachable:
            self._tell_working(pairing, "the physical cluster answers again")
        else:
            message = "the physical cluster does not answer; its nodes take no new Pods"
            self._given.tell(SyncerState(False, message, CLUSTER_UNREACHABLE))

    async def _follow(self, pairing: Pairing, secret: SecretWatch, data: Json | None, parts: Parts) -> NoReturn:
        """Carry changes of the binding to the controllers, until one demands a new session or it is deleted."""
        while True:
            await self._check_premises(pairing.binding_uid, pairing.spec, secret, data)
            if (spec := self._spec(pairing.spec)) != pairing.spec:
                pairing.spec = spec
                parts.spec_changed()
            if is_deleting(self._binding()):
                await self._unbind(pairing, secret, data, parts)
            await self._given.changed.wait()
            self._given.changed.clear()

    async def _check_premises(
        self, binding_uid: str, spec: ClusterBindingSpec, secret: SecretWatch, data: Json | None
    ) -> None:
        """Raise Reconnect when the binding is not what the session began with. A Secret that went with it is no reason."""
        binding, credentials = self._binding(), _credentials(await secret.read())
        renewed = credentials != _credentials(data) and not (credentials is None and is_deleting(binding))
        if renewed or _premises(uid_of(binding), self._spec(spec)) != _premises(binding_uid, spec):
            log.info("syncer reconnects", binding=self._name)
            raise Reconnect

    async def _unbind(self, pairing: Pairing, secret: SecretWatch, data: Json | None, parts: Parts) -> NoReturn:
        pairing.unbinding = True
        parts.nodes.enqueue_all()
        self._given.tell(SyncerState(True, UNBINDING))
        async with asyncio.TaskGroup() as tasks:
            refusal = Refusal(pairing.physical, lambda: bool(pairing.own_vnodes()))
            surrender = self._watch_for_surrender(pairing, secret, data, refusal)
            tasks.create_task(surrender, name=f"surrender of {self._name}")
            while True:
                try:
                    await take_everything_back(pairing, parts.nodes, parts.pods.dependencies)
                    raise Finished
                except Forbidden as refused:
                    if refused.cluster != pairing.physical.name:
                        raise
                    refusal.note(refused)  # what may be done goes on all the same
                    await asyncio.sleep(LOOK_AGAIN)

    async def _watch_for_surrender(
        self, pairing: Pairing, secret: SecretWatch, data: Json | None, refusal: Refusal
    ) -> NoReturn:
        """While unbinding, begin anew when the premises changed, and give up when Force meets a cluster long out of reach."""
        reachability = pairing.physical.reachability
        while True:
            await asyncio.sleep(1.0)
            await self._check_premises(pairing.binding_uid, pairing.spec, secret, data)
            if reachability.reachable:
                await refusal.look()
                self._tell_unbinding(pairing, refusal)
            if not force_requested(self._binding()):
                continue
            if reachability.silent_for >= SILENCE_TO_LET_GO:
                raise Surrender(reachability.last_error)
            if reachability.reachable and refusal.lasts:
                raise Surrender(refusal.why)

    def _tell_unbinding(self, pairing: Pairing, refusal: Refusal) -> None:
        if refusal.why:
            self._given.tell(SyncerState(False, refusal.why, PERMISSION_DENIED))
        else:
            self._given.tell(SyncerState(True, f"unbinding {pairing.obstacle}" if pairing.obstacle else UNBINDING))

    async def _surrender_if_gone(self, spec: ClusterBindingSpec, secret: SecretWatch, binding_uid: str) -> None:
        """Return when the cluster answers, or Force is not asked for; raise Surrender when it was silent all the time."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + SILENCE_TO_LET_GO
        while force_requested(self._binding()):
            data = await secret.read()
            await self._check_premises(binding_uid, spec, secret, data)
            known = (self._binding().get("status") or {}).get("physicalClusterUID") or ""
            if not (why := await why_out_of_reach(partial(self._open, spec, secret.reference, data), known)):
                return
            if loop.time() >= give_up_at:
                raise Surrender(why)
            message = f"{why}; let go of when that has lasted for {SILENCE_TO_LET_GO:.0f} s"
            self._given.tell(SyncerState(False, message, CLUSTER_UNREACHABLE))
            await asyncio.sleep(LOOK_AGAIN)


async def _move_when_empty(pairing: Pairing) -> NoReturn:
    """Begin anew when the last twin has left a mountNamespace that the spec no longer names."""
    served, pods = pairing.physical.mount_namespace, pairing.physical.pods.store
    while True:
        await asyncio.sleep(LOOK_AGAIN)
        in_use = any(entry.summary.ours and entry.key.namespace == served for entry in pods.entries())
        if in_use or pairing.unbinding:
            continue
        if not await holds_twins(pairing.physical.calls, served, pairing.owner):
            raise Reconnect
        await asyncio.sleep(CLAIMS_AGAIN)


def _premises(binding_uid: str, spec: ClusterBindingSpec) -> tuple[str, str, SecretReference, str]:
    """Return what a session is built on: another binding of the same name is another binding."""
    return binding_uid, spec.cluster_id, spec.secret_ref, spec.mount_namespace


def _credentials(secret: Json | None) -> object:
    return (secret.get("data") or {}).get(names.KUBECONFIG_KEY) if secret else None
