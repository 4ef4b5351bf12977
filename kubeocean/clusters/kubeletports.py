"""The kubelet port of a virtual node: one per node and proxier address, the same after every restart.

The number follows from the node's name; where two names meet on one number, the later one takes the next. A port once noted
on a virtual node stays. Nodes that are new at the same moment do not see each other in the cache yet, so what was handed out
is remembered until it is seen. Two *processes* can still hand out one port twice: when that shows, the younger node gives
way, and everybody who cares is woken. So they are when the proxier cannot open a port, because something else on its machine
has it: the node gets the next one. That is done a few times only: whoever has all the ports of a node follows it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Final

from kubeocean.domain.naming import proxier_port
from kubeocean.domain.vnode import port_of
from kubeocean.domain.vnode_status import internal_ip
from kubeocean.kube.meta import Json
from kubeocean.kube.store import Entry

Endpoint = tuple[str, int]  # proxier address, port
MOST_BARRED: Final = 3  # ports of one virtual node; two proxiers for one binding would chase each other through all


class KubeletPorts:
    """Which virtual node is served where, in the whole virtual cluster: all bindings count."""

    def __init__(self) -> None:
        self._at: dict[str, Endpoint] = {}  # by virtual node, as the cache shows it
        self._holders: defaultdict[Endpoint, dict[str, str]] = defaultdict(dict)  # virtual node -> when it was created
        self._handed_out: dict[str, Endpoint] = {}  # not seen yet
        self._barred: dict[Endpoint, str] = {}  # not to be had, and by which virtual node
        self._subscribers: list[Callable[[str], None]] = []

    def bar(self, vnode: str, endpoint: Endpoint) -> None:
        """Let `vnode`, which cannot be served at `endpoint`, have another one; nobody else gets this one either."""
        if endpoint in self._barred or list(self._barred.values()).count(vnode) >= MOST_BARRED:
            return
        self._barred[endpoint] = vnode
        if self._handed_out.get(vnode) == endpoint:
            del self._handed_out[vnode]
        for subscriber in list(self._subscribers):
            subscriber(vnode)

    def subscribe(self, on_clash: Callable[[str], None]) -> None:
        """Call `on_clash`, on the loop, with the name of every virtual node whose port is not (only) its own."""
        self._subscribers.append(on_clash)

    def unsubscribe(self, on_clash: Callable[[str], None]) -> None:
        """Stop calling `on_clash`."""
        self._subscribers.remove(on_clash)

    def node_changed(self, old: Entry[str] | None, new: Entry[str] | None) -> None:
        """Follow the cache of virtual nodes."""
        entry = new or old
        if entry is None:
            return
        name, node = entry.key.name, new.object() if new else None
        endpoint = (internal_ip(node), port_of(node)) if node else ("", 0)
        self._leave(name)
        if node is None or not endpoint[1]:
            return
        self._at[name] = endpoint
        self._holders[endpoint][name] = node["metadata"].get("creationTimestamp") or ""
        if self._handed_out.get(name) == endpoint:
            del self._handed_out[name]
        if len(self._holders[endpoint]) > 1:
            for holder in list(self._holders[endpoint]):
                for subscriber in list(self._subscribers):
                    subscriber(holder)

    def _leave(self, name: str) -> None:
        before = self._at.pop(name, None)
        if before is not None:
            del self._holders[before][name]
            if not self._holders[before]:
                del self._holders[before]

    def choose(self, vnode: str, address: str, existing: Json | None) -> int:
        """Return the port at which virtual node `vnode` is (to be) served on `address`. Raises NoFreePort."""
        port = port_of(existing) if existing else 0
        if port and (address, port) not in self._barred and not self._is_anothers(vnode, (address, port)):
            return port
        promised = self._handed_out.get(vnode)
        if promised is None or promised[0] != address:
            endpoints = (*self._holders, *self._handed_out.values(), *self._barred)
            promised = (address, proxier_port(vnode, {port for at, port in endpoints if at == address}))
            self._handed_out[vnode] = promised
        return promised[1]

    def _is_anothers(self, vnode: str, endpoint: Endpoint) -> bool:
        """Tell whether somebody else has the better right to an endpoint: who is there already, of two there the older."""
        holders = self._holders.get(endpoint, {})
        others = [(created, name) for name, created in holders.items() if name != vnode]
        return bool(others) and (vnode not in holders or min(others) < (holders[vnode], vnode))
