"""What makes a Pod worth another look: a change of it, of its twin, of the node it is bound to, of its token Secrets.

Each is told as the *virtual* key, for that is what the pass works on (`syncer.pods`): a twin names it in its annotations. News
goes before what was there when we began to listen, and before what a list tells again: most of that will turn out to be as it
should be. What else a Pod needs is told by the gates and sources of `topdown.dependencies`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from kubeocean.clusters.physical import BY_VIRTUAL
from kubeocean.clusters.podsummary import PhysicalPod, VirtualPod
from kubeocean.clusters.tokensummary import TokenSecretHead
from kubeocean.clusters.virtual import BY_NODE
from kubeocean.kube.informer import Informer
from kubeocean.kube.meta import ObjectKey
from kubeocean.kube.store import Entry
from kubeocean.syncer.bottomup.lastwords import LastWords
from kubeocean.syncer.pairing import Pairing


class Enqueue(Protocol):
    """Takes a key for a pass; `low`: after all that is news."""

    def __call__(self, key: ObjectKey, *, low: bool = False) -> None:
        """Take it."""


class PodNews:
    """Calls `enqueue` with the Pods of one binding that changed, and `forget` with those that are gone.

    name_waiters: a stranger's Pod -> the virtual Pod that waits for its name, and is called when the stranger goes.
    """

    def __init__(self, pairing: Pairing, enqueue: Enqueue, forget: Callable[[ObjectKey], None]) -> None:
        self.last_words = LastWords()
        self.name_waiters: dict[ObjectKey, ObjectKey] = {}
        self._pairing, self._enqueue, self._forget = pairing, enqueue, forget
        self._attaching = False

    def attach(self) -> None:
        """Listen to the caches; what is in them already is told as well, which is how a restart adopts everything."""
        pairing = self._pairing
        self._attaching = True
        pairing.listen_to_own_pods(self._virtual_pod_changed)
        pairing.listen(pairing.virtual.nodes, self._virtual_node_changed)
        pairing.listen(pairing.physical.pods, self._physical_pod_changed)
        pairing.listen(pairing.physical.token_secrets, self._token_secret_changed)
        self._attaching = False

    def tell_all(self) -> None:
        """Tell every Pod of ours again: the binding has changed."""
        for node in self._pairing.own_vnodes():
            self._tell_pods_on(node["metadata"]["name"], low=True)

    def _virtual_pod_changed(self, old: Entry[VirtualPod] | None, new: Entry[VirtualPod] | None) -> None:
        entry = new or old
        if new is None and old:
            self._forget(old.key)
        if entry is None:
            return
        # A Pod may outlive its virtual node by a moment; what was made for it is taken away all the same.
        if self._pairing.physical_node_of(entry.summary.node) or (new is None and self._left_something(entry.key)):
            self._enqueue(entry.key, low=self._is_replayed(self._pairing.virtual.pods))

    def _is_replayed(self, informer: Informer[Any]) -> bool:
        """Tell whether what `informer` tells now is a look at what was there before, rather than news."""
        return self._attaching or informer.is_listing

    def _left_something(self, key: ObjectKey) -> bool:
        physical = self._pairing.physical
        twin = physical.pods.store.get(self._pairing.twin_key(key))
        return bool(physical.token_secrets.store.by_index(BY_VIRTUAL, str(key)) or (twin and twin.summary.ours))

    def _virtual_node_changed(self, old: Entry[str] | None, new: Entry[str] | None) -> None:
        # Pods may have been seen before the node they are bound to; afterwards the node tells them nothing new.
        if new and old is None and self._pairing.physical_node_behind(new.object()):
            self._tell_pods_on(new.key.name, low=self._is_replayed(self._pairing.virtual.nodes))

    def _tell_pods_on(self, vnode: str, *, low: bool) -> None:
        for entry in self._pairing.virtual.pods.store.by_index(BY_NODE, vnode):
            self._enqueue(entry.key, low=low)

    def _physical_pod_changed(self, old: Entry[PhysicalPod] | None, new: Entry[PhysicalPod] | None) -> None:
        # Both: somebody may have taken the annotations off that said whose twin it is.
        for virtual in {entry.summary.virtual for entry in (old, new) if entry}:
            if virtual and virtual.name:
                self._enqueue(virtual, low=self._is_replayed(self._pairing.physical.pods))
        if old and new is None:
            self.last_words.note(old)
            if waiting := self.name_waiters.pop(old.key, None):
                self._enqueue(waiting)

    def _token_secret_changed(self, _: Entry[TokenSecretHead] | None, new: Entry[TokenSecretHead] | None) -> None:
        # Only one that has outlived its Pod is news: the others were written by the pass that needed them. One from which
        # somebody took whose it is leads to no Pod.
        if new and all(new.summary.virtual):
            living = self._pairing.virtual.pods.store.get(new.summary.virtual)
            if living is None or living.uid != new.summary.uid:
                self._enqueue(new.summary.virtual, low=self._is_replayed(self._pairing.physical.token_secrets))
