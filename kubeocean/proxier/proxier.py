"""The proxier: answers the kubelet API for the virtual nodes of one binding, or of all.

Start: which cluster is this -> who may call (the client CA of the virtual cluster) and under which certificate we answer ->
a cache of virtual nodes -> one listener per virtual node. From then on it follows the bindings and the nodes. Every
replica serves; it holds no lease and writes nothing but its certificate request, so a change of leader among the syncers
does not touch a stream. On a stop it closes its ports first and lets open streams finish for a while; for a long while when it
only makes room for another one (`leave`).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from kubeocean.api import names
from kubeocean.api.binding import ClusterBindingSpec, parse_served_binding
from kubeocean.api.model import InvalidObject
from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.clusters.identity import Identity
from kubeocean.clusters.permissions import CLIENT_CA_CONFIGMAP
from kubeocean.domain.bindingstatus import find_duplicate
from kubeocean.domain.proxierstate import PROXIER_FAILED, ProxierReport, ProxierState
from kubeocean.domain.vnode import cluster_of, is_vnode_of, port_of
from kubeocean.kube.client import Client
from kubeocean.kube.config import ServerConfig
from kubeocean.kube.informer import Informer
from kubeocean.kube.loopback import VNODE_LOOPBACK
from kubeocean.kube.meta import Json, ObjectKey, name_of
from kubeocean.kube.resources import CONFIGMAPS, NODES
from kubeocean.kube.store import Entry
from kubeocean.proxier.bindings import CONNECTING, ServedBinding
from kubeocean.proxier.callers import Gate
from kubeocean.proxier.certificate import ServingCertificate, ShownCertificate
from kubeocean.proxier.figures import Behind, NodeFigures
from kubeocean.proxier.givencertificate import GivenCertificate
from kubeocean.proxier.kubelet import KubeletApi
from kubeocean.proxier.listeners import Listeners
from kubeocean.proxier.sessions import Limits, Sessions
from kubeocean.proxier.side import PhysicalSide

CLIENT_CA: Final = ObjectKey("kube-system", CLIENT_CA_CONFIGMAP)
CLIENT_CA_KEY: Final = "client-ca-file"
GATHER: Final = 0.05  # seconds in which changes of nodes are gathered before listeners follow
PORT_AGAIN: Final = 2.0  # seconds until a port that somebody else holds is tried again
DRAIN_WITHIN: Final = 15.0  # seconds that open streams get when the process is told to stop
LINGER: Final = 3600.0  # seconds that they get when another one serves instead
LOOK_EVERY: Final = 0.5  # seconds between looks, while lingering, for a stream that is still open

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ProxierOptions:
    """`binding` "" = every binding; `address` is that of the virtual nodes; ports are opened at `bind_address`.

    tls_secret: namespace and name of a Secret with the serving certificate; None: the virtual cluster issues one.
    linger: seconds that streams may go on after `Proxier.leave`.
    """

    binding: str = ""
    address: str = VNODE_LOOPBACK
    bind_address: str = VNODE_LOOPBACK
    tls_secret: tuple[str, str] | None = None
    limits: Limits = field(default_factory=Limits)
    linger: float = LINGER


class Proxier:
    """Serves until cancelled, or until it has left."""

    def __init__(self, config: ServerConfig, options: ProxierOptions, *, user_agent: str) -> None:
        self._options, self._user_agent = options, user_agent
        self._calls = Client(config, cluster="virtual", user_agent=user_agent)
        self._watches = Client(config, cluster="virtual", user_agent=user_agent)
        self._nodes: Informer[str] = Informer(
            self._watches, NODES, label_selector=f"{names.VIRTUAL_KUBELET_LABEL}={names.VIRTUAL_KUBELET_VALUE}",
            summarise=cluster_of, name="proxier-virtual-nodes",
        )
        selector = f"metadata.name={options.binding}" if options.binding else ""
        self._bindings: Informer[None] = Informer(
            self._watches, CLUSTERBINDINGS, field_selector=selector, summarise=lambda _: None, name="proxier-bindings"
        )
        self._ca: Informer[None] = Informer(
            self._watches, CONFIGMAPS, namespace=CLIENT_CA.namespace, field_selector=f"metadata.name={CLIENT_CA.name}",
            summarise=lambda _: None, name="client-ca",
        )
        self._sessions = Sessions(options.limits)
        pages = NodeFigures(self, self._calls).pages
        api = KubeletApi(self, self._calls, Gate(self._calls), self._sessions, pages)
        self._listeners = Listeners(api.handle, address=options.bind_address)
        self._certificate = self._make_certificate()
        self._served: dict[str, tuple[ServedBinding, asyncio.Task[None]]] = {}
        self._changed = asyncio.Event()
        self._leaving = self._lingers = False
        self._met_at_start: frozenset[str] | None = None  # bindings; None before any node is served
        self._uid = ""

    def _make_certificate(self) -> ShownCertificate:
        options = self._options
        if options.tls_secret:
            namespace, secret = options.tls_secret
            return GivenCertificate(self._watches, namespace=namespace, name=secret)
        name = f"kubeocean-proxier-{options.binding}" if options.binding else "kubeocean-proxier"
        return ServingCertificate(self._calls, name=name, address=options.address)

    def trouble(self) -> str | None:
        """Return what keeps this process from serving, None when nothing does."""
        return self._own_trouble() or self._starting() or next(iter(self._listeners.troubles.values()), None)

    def _own_trouble(self) -> str:
        if self._certificate.trouble:
            return f"certificate: {self._certificate.trouble}"
        synced = all(each.has_synced for each in (self._bindings, self._nodes, self._ca))
        return "" if synced else "reading the virtual cluster"

    def _starting(self) -> str:
        """Return what a replica that has just started still has to try, or whoever it takes over from leaves users with 503.

        A binding that comes later does not count: it must not take the others' replicas out of service.
        """
        if self._met_at_start is None:
            return "opening the ports of the virtual nodes"
        untried = [name for name in self._met_at_start if name in self._served and self._served[name][0].trouble == CONNECTING]
        return f"{CONNECTING} of {', '.join(sorted(untried))}" if untried else ""

    def report(self) -> ProxierReport:
        """Return how the process and each of its bindings fares."""
        served = {name: self._state_of(served) for name, (served, _) in self._served.items()}
        return ProxierReport(self._own_trouble(), served, self._listeners.blocked)

    def _state_of(self, served: ServedBinding) -> ProxierState:
        if served.trouble:
            return ProxierState(False, served.trouble, "" if served.trouble == CONNECTING else PROXIER_FAILED)
        for vnode, trouble in self._listeners.troubles.items():
            node = self._nodes.store.object(ObjectKey("", vnode))
            if node and is_vnode_of(node, served.spec.cluster_id):
                return ProxierState(False, f"{vnode}: {trouble}", PROXIER_FAILED)
        return ProxierState(True, f"kubectl logs, exec, attach and port-forward are answered at {self._options.address}")

    def side_of(self, vnode: str) -> PhysicalSide | None:
        """Return the physical cluster behind a virtual node; None while it cannot be asked."""
        node = self._nodes.store.object(ObjectKey("", vnode))
        for served, _ in self._served.values():
            if node and is_vnode_of(node, served.spec.cluster_id):
                return served.side
        return None

    def behind(self, vnode: str) -> Behind | None:
        """Return what figures of a virtual node are made from; None for a node that is gone."""
        node = self._nodes.store.object(ObjectKey("", vnode))
        if node is None:
            return None
        for name, (served, _) in self._served.items():
            if is_vnode_of(node, served.spec.cluster_id):
                # As the binding is now: a changed spec.nodeProxy begins no new connection.
                spec = _spec_of(self._bindings.store.object(ObjectKey("", name)) or {}) or served.spec
                return Behind(node, served.side, spec.mount_namespace, spec.node_proxy)
        return Behind(node, None, "", node_proxy=False)

    def leave(self) -> bool:
        """Close the ports for good, for whoever serves next; `run` ends with the last stream, or when that takes too long.

        Returns False, and changes nothing, when nobody has been served yet.
        """
        if self._met_at_start is None:
            return False
        self._leaving = True
        self._changed.set()
        return True

    @property
    def lingers(self) -> bool:
        """Tell whether the ports are closed for good."""
        return self._lingers

    async def run(self) -> None:
        """Serve until cancelled; then close the ports, and the streams that do not end by themselves in time.

        Returns after `leave` once no stream is left.
        """
        self._uid = await Identity(self._calls).ask()
        try:
            async with asyncio.TaskGroup() as tasks:
                background = self._start_background(tasks)
                for synced in (self._bindings, self._nodes, self._ca):
                    await synced.wait_synced()
                while self._certificate.expires is None:
                    await asyncio.sleep(GATHER)
                try:
                    await self._follow(tasks)
                    await self._linger(tasks)
                finally:  # caches and connections still live, so that what is being read is read to its end
                    await self._stop_listening()
                    await self._sessions.drain(DRAIN_WITHIN)
                for task in (*background, *(task for _, task in self._served.values())):
                    task.cancel()
        finally:
            await self._stop()

    def _start_background(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        for informer in (self._bindings, self._nodes, self._ca):
            informer.add_handler(self._look)
        watches = [
            tasks.create_task(informer.run(), name=f"informer {informer.name}")
            for informer in (self._bindings, self._nodes, self._ca)
        ]
        return [*watches, tasks.create_task(self._certificate.run(), name="serving certificate")]

    def _look(self, _: object, __: object) -> None:
        self._changed.set()

    async def _follow(self, tasks: asyncio.TaskGroup) -> None:
        trusted = ""
        while not self._leaving:
            self._changed.clear()
            ca = str((self._ca.store.object(CLIENT_CA) or {}).get("data", {}).get(CLIENT_CA_KEY, ""))
            if ca != trusted:
                trusted = ca
                await self._listeners.stop_listening()  # a context cannot unlearn a CA: new ones for all
                self._certificate.trust(ca)
            self._follow_bindings(tasks)
            await self._listeners.serve(dict(self._ports()), self._certificate.context)
            if self._met_at_start is None:
                self._met_at_start = frozenset(self._served)
            with suppress(TimeoutError):
                async with asyncio.timeout(PORT_AGAIN if self._listeners.troubles else None):
                    await self._changed.wait()
            await asyncio.sleep(GATHER)

    async def _linger(self, tasks: asyncio.TaskGroup) -> None:
        """Return when the last stream has ended, or after `linger` seconds.

        Whoever deletes a Pod ends its streams, whoever reads them no longer too. Those of a binding that goes, or whose cluster
        dies, are still cut by us.
        """
        await self._stop_listening()
        log.info("serves no more", streams=len(self._sessions), within=self._options.linger)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._options.linger):
                while len(self._sessions):
                    self._follow_bindings(tasks)
                    await asyncio.sleep(LOOK_EVERY)

    async def _stop_listening(self) -> None:
        await self._listeners.stop_listening()
        self._lingers = True

    def _follow_bindings(self, tasks: asyncio.TaskGroup) -> None:
        wanted = _without_duplicates(self._bindings.store.entries())
        for name in [name for name, (served, _) in self._served.items() if not self._is_as_served(wanted.get(name), served)]:
            self._served.pop(name)[1].cancel()
            if name not in wanted:
                self._sessions.cut(name)
        for name, entry in wanted.items():
            if name not in self._served and (served := self._make(entry.object())):
                self._served[name] = served, tasks.create_task(served.run(), name=f"binding {name}")

    def _is_as_served(self, entry: Entry[None] | None, served: ServedBinding) -> bool:
        spec = _spec_of(entry.object()) if entry else None
        return spec is not None and _connects(spec) == _connects(served.spec)

    def _make(self, binding: Json) -> ServedBinding | None:
        spec, name = _spec_of(binding), name_of(binding)
        if spec is None:
            return None

        def known_uid() -> str:
            live = self._bindings.store.object(ObjectKey("", name)) or {}
            return str((live.get("status") or {}).get("physicalClusterUID") or "")

        return ServedBinding(
            name, spec, self._watches, self._uid, self._sessions, known_uid=known_uid, user_agent=self._user_agent
        )

    def _ports(self) -> Iterator[tuple[str, int]]:
        served = {entry.spec.cluster_id for entry, _ in self._served.values()}
        for entry in self._nodes.store.entries():
            node = entry.object()
            if any(is_vnode_of(node, cluster_id) for cluster_id in served):
                yield entry.key.name, port_of(node)

    async def _stop(self) -> None:
        await self._listeners.close()
        await self._calls.close()
        await self._watches.close()


def _without_duplicates(entries: Iterable[Entry[None]]) -> dict[str, Entry[None]]:
    """Return by name those that are served: of two with one clusterID the first, as the manager decides it.

    Else whoever may create a binding could have the streams of another one led into a cluster of his own.
    """
    bindings = [(entry, entry.object()) for entry in entries]
    rivals: defaultdict[str, list[Json]] = defaultdict(list)
    for _, binding in bindings:
        rivals[(binding.get("spec") or {}).get("clusterID") or ""].append(binding)
    return {
        entry.key.name: entry for entry, binding in bindings
        if not find_duplicate(binding, rivals[(binding.get("spec") or {}).get("clusterID") or ""])
    }


def _connects(spec: ClusterBindingSpec) -> tuple[object, ...]:
    """Return what a connection depends on."""
    return spec.cluster_id, spec.secret_ref, spec.mount_namespace


def _spec_of(binding: Json) -> ClusterBindingSpec | None:
    try:
        return parse_served_binding(binding)
    except InvalidObject:
        return None

