"""What a Pod cannot start without: the gate before its twin, and who keeps what behind the gate.

A Pod names ConfigMaps, Secrets and claims (`domain.podrefs`). For each kind there is one *source*, which copies what is in use
to the physical cluster and collects what no longer is. Before a twin is created every reference is put to its source, which
answers from its caches: ready, or blocked. Whatever a source lacks for a "ready" it sets out to get by that very question, and
it queues the Pods that wait (`waiting_pods`) when the answer may have changed; so nobody polls, and a burst of Pods that share
one ConfigMap costs one copy.

Who is in use is never counted, but looked up: the cache of virtual Pods is indexed by what they name, so a restart knows at
once what the process before it knew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from kubeocean.clusters.podsummary import VirtualPod
from kubeocean.clusters.virtual import BY_REFERENCE
from kubeocean.domain.eligibility import check_eligible
from kubeocean.domain.podmap import check_pod
from kubeocean.domain.podrefs import Reference, references_of, references_of_container
from kubeocean.kube.controller import Controller
from kubeocean.kube.meta import Json, ObjectKey, namespace_of
from kubeocean.kube.store import Entry
from kubeocean.syncer.pairing import Pairing


class Blocked(NamedTuple):
    """Why a twin may not be created yet: the reason of an Event and a message, or "" when something is under way."""

    reason: str = ""
    message: str = ""


class DependencySource(Protocol):
    """Keeps the physical side of some kinds of reference."""

    @property
    def controller(self) -> Controller[ObjectKey]:
        """Whose passes do its work."""

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds it answers for, as `Reference.kind` has them."""

    @property
    def name(self) -> str:
        """What its task is called."""

    async def run(self) -> None:
        """Keep its caches and do its work until cancelled; until the caches are full it answers every check with Blocked()."""

    def check(self, reference: Reference, vpod: Json) -> Blocked | None:
        """Tell whether the twin of `vpod` may be created as far as `reference` goes (None = it may); no I/O."""

    def suspects(self) -> Iterator[ObjectKey | None]:
        """Yield the virtual objects of which its caches show that the two sides disagree; most are merely in flight.

        Yields None for each thing that was looked at and is in order: whoever asks may rest, however many they are.
        """

    def reconsider(self, key: ObjectKey, /) -> None:
        """Look at a virtual object again."""

    async def take_back(self) -> None:
        """Return when nothing it ever made or marked is left on either side; the Pods are gone already."""


class Gate(Protocol):
    """Keeps what must be in place around a Pod although no field of it says so: Services to reach, policies that guard it."""

    @property
    def controller(self) -> Controller[ObjectKey]:
        """Whose passes do its work."""

    @property
    def name(self) -> str:
        """What its task is called."""

    def attach(self) -> None:
        """Listen to the shared caches; called once, before anything is checked."""

    async def run(self) -> None:
        """Keep its own caches and do its work until cancelled."""

    def check(self, vpod: Json) -> Blocked | None:
        """Tell whether the twin of `vpod` may be created (None = it may); no I/O. What it waits for wakes it."""

    def spec_changed(self) -> None:
        """Take notice that the binding's spec is another."""

    def suspects(self) -> Iterator[ObjectKey | None]:
        """Yield the virtual objects of which its caches show that their copies differ, and None as DependencySource does."""

    def reconsider(self, key: ObjectKey, /) -> None:
        """Look at a virtual object again."""

    async def take_back(self) -> None:
        """Return when nothing it ever made is left in the physical cluster; the Pods are gone already."""


class Dependencies:
    """All sources of one binding, and the gates that every Pod passes."""

    def __init__(self, sources: Sequence[DependencySource], gates: Sequence[Gate] = ()) -> None:
        self.sources, self.gates = sources, gates
        self._by_kind = {kind: source for source in sources for kind in source.kinds}

    @property
    def controllers(self) -> list[Controller[ObjectKey]]:
        """Those of all sources and gates."""
        return [*(source.controller for source in self.sources), *(gate.controller for gate in self.gates)]

    def check(self, vpod: Json) -> Blocked | None:
        """Put every reference to its source and ask every gate, so that all set out at once; return what to say of a block."""
        blocked = [answer for reference in references_of(vpod) if (answer := self._check(reference, vpod))]
        blocked += [answer for gate in self.gates if (answer := gate.check(vpod))]
        return _foremost(blocked)

    def check_container(self, vpod: Json, container: Json) -> Blocked | None:
        """Put the references of one container, which is added to a running Pod, to their sources."""
        references = references_of_container(container, container["name"])
        return _foremost([answer for reference in references if (answer := self._check(reference, vpod))])

    def _check(self, reference: Reference, vpod: Json) -> Blocked | None:
        source = self._by_kind.get(reference.kind)
        if source is None:
            return Blocked("DependencyNotSupported", f"needs {reference}, which is not carried to physical clusters")
        return source.check(reference, vpod)

    async def take_back(self) -> None:
        """Return when no source and no gate has left anything on either side."""
        for source in self.sources:
            await source.take_back()
        for gate in self.gates:
            await gate.take_back()


def _foremost(blocked: list[Blocked]) -> Blocked | None:
    return next((answer for answer in blocked if answer.reason), blocked[0] if blocked else None)


def reference_index(reference: Reference, vpod: Json) -> str:
    """Return the value of index BY_REFERENCE under which `vpod` stands for `reference`."""
    return f"{reference.kind}/{namespace_of(vpod)}/{reference.name}"


def pods_in_need(pairing: Pairing, kind: str, key: ObjectKey) -> Iterator[ObjectKey]:
    """Yield the virtual Pods that run or may run on this binding's nodes and name an object: empty = it is not in use."""
    for entry in pairing.virtual.pods.store.by_index(BY_REFERENCE, f"{kind}/{key.namespace}/{key.name}"):
        if may_run(pairing, entry):
            yield entry.key


def may_run(pairing: Pairing, entry: Entry[VirtualPod]) -> bool:
    """Tell whether a virtual Pod has a twin here that may still need something, or may get one.

    A Pod that is refused needs nothing: what it names is not to leave the virtual cluster. One that has a twin needs all of
    it, even while our cache has lost its node.
    """
    if entry.summary.finished:
        return False
    twin = pairing.twin_of(entry.key)
    if twin is not None and twin.summary.ours and twin.summary.virtual_uid == entry.uid:
        return True
    if not pairing.physical_node_of(entry.summary.node):
        return False
    vpod, spec = entry.object(), pairing.spec
    refused = check_eligible(vpod, running_daemonsets=spec.running_daemonset_by_default)
    return not (refused or check_pod(vpod, allow_privileged=spec.allow_privileged))


def waiting_pods(pairing: Pairing, kind: str, key: ObjectKey) -> Iterable[ObjectKey]:
    """Return those of `pods_in_need` that have no twin yet."""
    return [pod for pod in pods_in_need(pairing, kind, key) if pairing.twin_of(pod) is None]
