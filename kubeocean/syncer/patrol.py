"""Walks over both sides now and then, and has looked at what disagrees although no event told anybody.

Controllers are woken by changes. Should one ever be missed, by them or by us, nobody would look again: an orphan would run on,
a lost twin would wait for ever. So every couple of minutes all Pods, copies, mirrors and virtual nodes are compared, with the
questions of `kubeocean verify` (`domain.podfindings`) or those of their controllers, and from the caches alone. Nothing is
written here: what disagrees twice, some seconds apart, and is thus not merely in flight, is queued for the controller whose it
is, which decides anew and proves before it acts; Pods behind those to which something happens now. It is counted and told once;
a fault that lasts is no news in the next round.

It takes its time: after a few milliseconds of work it lets others have the loop. 10,000 Pods cost about a second, spread over
several.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple, NoReturn, TypeVar

import structlog

from kubeocean.clusters.podsummary import PhysicalPod
from kubeocean.clusters.virtual import BY_NODE
from kubeocean.domain.findings import Kind
from kubeocean.domain.naming import physical_name
from kubeocean.domain.podfindings import Claims, PodScene, check_twin, check_vpod
from kubeocean.kube.meta import ObjectKey, name_of
from kubeocean.kube.store import Entry
from kubeocean.syncer import metrics
from kubeocean.syncer.bottomup.nodes import NodeController
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.pods import PodController
from kubeocean.syncer.topdown.dependencies import DependencySource, Gate
from kubeocean.syncer.topdown.strays import StrayController

EVERY = 120.0  # seconds between rounds
SETTLES = 10.0  # seconds after which what disagreed is looked at again
SLICE, PAUSE = 0.005, 0.02  # seconds of work, and of rest after it
_COPY, _MIRROR, _NODE = "Copy", "Mirror", "VirtualNode"

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Suspect(NamedTuple):
    """What disagrees: `key` is the virtual Pod's (or object's), `place` the twin's where only that is known."""

    kind: str  # a findings.Kind; _COPY or _MIRROR with the name of its source for a reason; _NODE, with a physical node's key
    reason: str
    key: ObjectKey
    place: ObjectKey | None = None


class Patrol:
    """Compares both sides of one binding from time to time."""

    def __init__(
        self, pairing: Pairing, pods: PodController, strays: StrayController, nodes: NodeController
    ) -> None:
        self._pairing, self._pods, self._strays, self._nodes = pairing, pods, strays, nodes
        self.name = f"patrol of {pairing.binding_name}"
        self._told: set[Suspect] = set()

    async def run(self) -> NoReturn:
        """Go on patrol until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            if self._has_sight():
                await self.round()

    def _has_sight(self) -> bool:
        """Tell whether caches are true: not while the physical cluster is silent, and not in the turmoil of leaving."""
        return self._pairing.physical.reachability.reachable and not self._pairing.unbinding

    async def round(self) -> set[Suspect]:
        """Compare both sides; have looked at what disagrees for longer than it takes to settle, and return it."""
        first = await self._compare()
        if not first:
            self._told.clear()
            return set()
        await asyncio.sleep(SETTLES)
        lasting = first & await self._compare() if self._has_sight() else set()
        for suspect in lasting:
            self._have_looked_at(suspect)
            if suspect not in self._told:
                metrics.orphans_total.labels(self._pairing.binding_name, suspect.kind).inc()
                log.warning(
                    "both sides disagree", binding=self._pairing.binding_name, kind=suspect.kind, reason=suspect.reason,
                    virtual=str(suspect.key), physical=str(suspect.place or ""),
                )
        self._told = lasting
        return lasting

    # --- comparing ---------------------------------------------------------------------------------------------------
    async def _compare(self) -> set[Suspect]:
        scene = PodScene(
            self._pairing.owner, self._pairing.physical.mount_namespace, self._pairing.physical_node_of,
            self._pairing.spec.running_daemonset_by_default, self._pairing.real_time(),
        )
        found: set[Suspect] = set()
        async for key in _unhurried(self._bound()):
            found |= self._look_at_vpod(key, scene)
        async for entry in _unhurried(self._pairing.physical.pods.store.entries()):
            if entry.summary.ours:
                found |= self._look_at_twin(entry, scene)
        async for token in _unhurried(self._pairing.physical.token_secrets.store.entries()):
            head = token.summary
            living = self._pairing.virtual.pods.store.get(head.virtual)
            if living is None or living.uid != head.uid:
                found.add(Suspect(Kind.LEFTOVER_TOKEN, "PodIsOver", head.virtual, token.key))
        for kind, source in self._keepers():
            async for key in _unhurried(source.suspects()):
                found.add(Suspect(kind, source.name, key))
        async for node, differs in _unhurried(self._nodes.suspects()):
            found.add(Suspect(_NODE, differs, ObjectKey("", node)))
        return found

    def _keepers(self) -> list[tuple[str, DependencySource | Gate]]:
        dependencies = self._pods.dependencies
        return [*((_COPY, source) for source in dependencies.sources), *((_MIRROR, gate) for gate in dependencies.gates)]

    def _bound(self) -> list[ObjectKey]:
        pods = self._pairing.virtual.pods.store
        return [entry.key for vnode in self._pairing.own_vnodes() for entry in pods.by_index(BY_NODE, name_of(vnode))]

    def _look_at_vpod(self, key: ObjectKey, scene: PodScene) -> set[Suspect]:
        vpod, twin = self._pairing.virtual.pods.store.object(key), self._pairing.twin_of(key)
        if vpod is None:
            return set()
        ppod = twin.object() if twin else None
        told = ppod is not None and self._pods.unsaid.knows(key, vpod, ppod)
        finding = check_vpod(vpod, ppod, scene, told=told)
        return {Suspect(finding.kind, finding.reason, key)} if finding else set()

    def _look_at_twin(self, entry: Entry[PhysicalPod], scene: PodScene) -> set[Suspect]:
        virtual = entry.summary.virtual or ObjectKey("", "")
        vpod = self._pairing.virtual.pods.store.get(virtual)
        is_its_twin = vpod and vpod.uid == entry.summary.virtual_uid and entry.key == self._pairing.twin_key(virtual)
        if vpod and is_its_twin and scene.physical_node_of(vpod.summary.node):
            return set()  # nearly all of them; nothing need be decoded for that
        finding = check_twin(entry.object(), vpod.object() if vpod else None, Claims(), scene)
        return {Suspect(finding.kind, finding.reason, virtual, entry.key)} if finding else set()

    # --- having it looked at -----------------------------------------------------------------------------------------
    def _have_looked_at(self, suspect: Suspect) -> None:
        if suspect.kind in (_COPY, _MIRROR):
            next(source for _, source in self._keepers() if source.name == suspect.reason).reconsider(suspect.key)
        elif suspect.kind == _NODE:
            self._nodes.controller.enqueue(suspect.key.name)
        elif suspect.place and suspect.kind != Kind.LEFTOVER_TOKEN and not _is_twin_name(suspect.place, suspect.key):
            self._strays.look_again()
        else:
            self._pods.controller.enqueue(suspect.key, low=True)


def _is_twin_name(place: ObjectKey, virtual: ObjectKey) -> bool:
    return all(virtual) and physical_name(virtual.name, virtual.namespace) == place.name


async def _unhurried(things: Iterable[T | None]) -> AsyncIterator[T]:
    """Yield each of `things` but None, with a rest whenever the work, on those too, has taken a slice of time."""
    now = asyncio.get_running_loop().time
    begun = now()
    for thing in things:
        if thing is not None:
            yield thing
        if now() - begun > SLICE:
            await asyncio.sleep(PAUSE)
            begun = now()
