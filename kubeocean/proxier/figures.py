"""The pages about a virtual node: its Pods and what they use, as a kubelet tells them.

    /pods, /runningpods/             from the virtual cluster, whatever becomes of the physical one
    /stats/summary                   from what the physical cluster measured (`measures`), mapped by `domain.nodefigures`
    /metrics/resource                the same figures, as metrics-server reads them
    /metrics/cadvisor                the physical node's own, where we may ask it; else the few figures that are known
    /metrics                         which node this is, what runs on it, how full its claims are
    /healthz                         "ok"

A twin is found by uid as for a stream (`twins`), so nothing that a user writes on his Pod shows him figures of another.
Where figures are missing or second best the answer says why in a Warning header, which kubectl shows, and in the
first line of a text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol
from weakref import WeakKeyDictionary

from aiohttp import web

from kubeocean.domain.cpuledger import Ledger
from kubeocean.domain.figuretext import map_cadvisor, write_cadvisor_metrics, write_kubelet_metrics, write_resource_metrics
from kubeocean.domain.nodefigures import Source, build_pod_list, build_running_pods, build_summary
from kubeocean.domain.nodepods import NodePod, describe_pod
from kubeocean.domain.vnode import physical_name_of
from kubeocean.kube import codec
from kubeocean.kube.client import Client
from kubeocean.kube.clock import Clock, real_time
from kubeocean.kube.errors import KubeError, Unreachable
from kubeocean.kube.meta import Json, key_of, uid_of
from kubeocean.kube.resources import PODS
from kubeocean.proxier.kubelet import NodePage, answer_healthz
from kubeocean.proxier.measures import Measures, Told
from kubeocean.proxier.memo import Memo
from kubeocean.proxier.side import PhysicalSide
from kubeocean.proxier.twins import twin_on

PODS_GOOD_FOR: Final = 1.0  # seconds
PODS_WITHIN: Final = 4.0  # seconds
FIGURES_WITHIN: Final = 8.0  # seconds; metrics-server waits 10
_TEXT: Final = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class Behind:
    """A virtual node and what stands behind it; `side` is None while the physical cluster cannot be asked."""

    vnode: Json
    side: PhysicalSide | None
    mount_namespace: str
    node_proxy: bool


class Places(Protocol):
    """Finds what stands behind a virtual node."""

    def behind(self, vnode: str) -> Behind | None:
        """Return it; None for a node that is gone."""


@dataclass(frozen=True, slots=True)
class _Figures:
    """A Summary and where it comes from."""

    summary: Json
    pods: list[NodePod]
    told: Told
    behind: Behind


class NodeFigures:
    """Answers about virtual nodes; `virtual` is a client of the virtual cluster."""

    def __init__(self, places: Places, virtual: Client, *, clock: Clock = real_time) -> None:
        self._places, self._virtual, self._clock = places, virtual, clock
        self._pods: Memo[list[Json]] = Memo(PODS_GOOD_FOR)
        self._measures: WeakKeyDictionary[PhysicalSide, Measures] = WeakKeyDictionary()
        self._ledgers: dict[str, Ledger] = {}

    @property
    def pages(self) -> Mapping[str, NodePage]:
        """Return the pages by path."""
        return {
            "/healthz": answer_healthz,
            "/pods": self._page(self._answer_pods),
            "/runningpods": self._page(self._answer_running_pods),
            "/stats/summary": self._page(self._answer_summary),
            "/metrics": self._page(self._answer_metrics),
            "/metrics/resource": self._page(self._answer_resource),
            "/metrics/cadvisor": self._page(self._answer_cadvisor),
        }

    @staticmethod
    def _page(answer: Callable[[str], Awaitable[web.Response]]) -> NodePage:
        async def page(request: web.BaseRequest, vnode: str) -> web.StreamResponse:
            if request.method not in ("GET", "HEAD"):
                return web.Response(status=405, text="this is read with GET\n")
            return await answer(vnode)

        return page

    async def _answer_pods(self, vnode: str) -> web.Response:
        return _json(build_pod_list(await self._pods_on(vnode)))

    async def _answer_running_pods(self, vnode: str) -> web.Response:
        return _json(build_running_pods(await self._pods_on(vnode)))

    async def _answer_summary(self, vnode: str) -> web.Response:
        figures = await self._figures(vnode)
        return _json(figures.summary, figures.told.trouble)

    async def _answer_resource(self, vnode: str) -> web.Response:
        figures = await self._figures(vnode)
        known = figures.told.source.known
        return _text(write_resource_metrics(figures.summary, known=known, note=_note(figures.told)), figures.told.trouble)

    async def _answer_metrics(self, vnode: str) -> web.Response:
        figures = await self._figures(vnode)
        return _text(write_kubelet_metrics(figures.summary, note=_note(figures.told)), figures.told.trouble)

    async def _answer_cadvisor(self, vnode: str) -> web.Response:
        figures = await self._figures(vnode)
        side, told = figures.behind.side, figures.told
        if side and told.source.summary is not None:
            by_twin = {(pod.twin_namespace, pod.twin_name): pod for pod in figures.pods if pod.twin_uid}
            try:
                text = await self._measures_of(side).cadvisor(_nodes(figures.pods))
                # In a thread: parsing takes long, and somebody may be typing.
                note = "metrics/cadvisor of the physical node"
                return _text(await asyncio.to_thread(map_cadvisor, text, by_twin, note=note))
            except (KubeError, ValueError) as error:
                told = Told(told.source, told.origin, f"no metrics/cadvisor of the physical node: {error}")
        return _text(write_cadvisor_metrics(figures.summary, note=_note(told)), told.trouble)

    # --- facts

    async def _pods_on(self, vnode: str) -> list[Json]:
        """Return the Pods bound to a node, whole."""
        async def ask() -> list[Json]:
            selector = f"spec.nodeName={vnode}"
            return (await self._virtual.list(PODS, field_selector=selector, cached=True, deadline=PODS_WITHIN)).items

        return await self._pods.get(vnode, ask)

    async def _figures(self, vnode: str) -> _Figures:
        behind = self._places.behind(vnode) or Behind({"metadata": {"name": vnode}}, None, "", False)
        vpods = await self._pods_on(vnode)
        try:
            async with asyncio.timeout(FIGURES_WITHIN):
                pods, told = await self._ask(behind, vpods)
        except (KubeError, TimeoutError) as error:
            why = str(error) or f"the physical cluster has not answered within {FIGURES_WITHIN:.0f} s"
            pods, told = [describe_pod(pod, None) for pod in vpods], Told(Source(), "no source", why)
        # No await from here on: of two requests, each goes on from what the other has left.
        ledger = self._ledgers.get(vnode, Ledger())
        summary, ledger = build_summary(behind.vnode, pods, told.source, ledger, self._clock())
        self._remember(vnode, ledger)
        return _Figures(summary, pods, told, behind)

    async def _ask(self, behind: Behind, vpods: list[Json]) -> tuple[list[NodePod], Told]:
        """Return these Pods with their twins, and what those use. Raises a KubeError."""
        side = behind.side
        if side is None:
            raise Unreachable("the physical cluster does not answer")
        measures = self._measures_of(side)
        twins = await measures.twins_on(physical_name_of(behind.vnode))
        pods = [describe_pod(pod, twin_on(twins, key_of(pod), uid_of(pod))) for pod in vpods]
        told = await measures.tell(_nodes(pods), behind.mount_namespace, node_proxy=behind.node_proxy)
        return pods, told

    def _remember(self, vnode: str, ledger: Ledger) -> None:
        if vnode not in self._ledgers:
            self._ledgers = {name: kept for name, kept in self._ledgers.items() if self._places.behind(name)}
        self._ledgers[vnode] = ledger

    def _measures_of(self, side: PhysicalSide) -> Measures:
        if side not in self._measures:
            self._measures[side] = Measures(side.calls, side.twins)
        return self._measures[side]


def _nodes(pods: list[NodePod]) -> list[str]:
    """Return the physical nodes on which twins of these Pods are: nobody else's need be asked."""
    return sorted({pod.twin_node for pod in pods if pod.twin_node})


def _note(told: Told) -> str:
    return f"{told.origin}; {told.trouble}" if told.trouble else told.origin


def _json(answer: Json, trouble: str = "") -> web.Response:
    return web.Response(body=codec.encode(answer), content_type="application/json", headers=_warning(trouble))


def _text(answer: str, trouble: str = "") -> web.Response:
    return web.Response(body=answer.encode(), headers={**_TEXT, **_warning(trouble)})


def _warning(trouble: str) -> dict[str, str]:
    """Return the header in which Kubernetes clients look for warnings (RFC 7234, code 299)."""
    words = "".join(letter if " " <= letter <= "~" else "?" for letter in trouble[:500])
    quoted = words.replace("\\", "\\\\").replace('"', '\\"')
    return {"Warning": f'299 - "{quoted}"'} if trouble else {}
