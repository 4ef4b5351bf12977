"""What a physical cluster measured, asked of its API server: by default metrics.k8s.io, with leave the nodes' kubelets.

`/api/v1/nodes/{node}/proxy/...` is exact and tells everything, but the right to it (`nodes/proxy`) also opens every Pod of
the node. So it is used only where the binding says `nodeProxy: true` and the lender has granted it; where it fails,
metrics.k8s.io is asked, and the answer says so. Each question is put at most once in `GOOD_FOR` seconds for all who ask, a
few at a time per cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import quote

from kubeocean.domain.nodefigures import Source
from kubeocean.kube import codec
from kubeocean.kube.client import Client
from kubeocean.kube.errors import KubeError, Unreachable
from kubeocean.kube.meta import Json, key_of
from kubeocean.kube.resources import Resource
from kubeocean.proxier.memo import Memo
from kubeocean.proxier.twins import NodeTwins, Twins

GOOD_FOR: Final = 10.0  # seconds
ANSWER_WITHIN: Final = 4.0  # seconds; metrics-server waits 10 for us, and several questions may follow one another
_AT_ONCE: Final = 4

PODMETRICS: Final = Resource("metrics.k8s.io", "v1beta1", "pods", "PodMetrics", True)


@dataclass(frozen=True, slots=True)
class Told:
    """What is known, where it comes from, and what was wrong on the way ("" = nothing)."""

    source: Source
    origin: str
    trouble: str = ""


class Measures:
    """Asks one physical cluster; `calls` is its client, `twins` are those in it."""

    def __init__(self, calls: Client, twins: Twins) -> None:
        self._calls, self._twins = calls, twins
        self._summaries: Memo[Json] = Memo(GOOD_FOR)
        self._cadvisor: Memo[str] = Memo(GOOD_FOR)
        self._metrics: Memo[dict[tuple[str, str], Json]] = Memo(GOOD_FOR)
        self._node_twins: Memo[NodeTwins] = Memo(GOOD_FOR)
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def twins_on(self, node: str) -> NodeTwins:
        """Return the twins on a physical node. Raises KubeError."""
        if not node:  # would select those that are on none
            raise Unreachable("the virtual node does not say which physical one it stands for", cluster=self._calls.cluster)
        return await self._node_twins.get(node, partial(self._ask_twins, node))

    async def tell(self, nodes: Iterable[str], namespace: str, *, node_proxy: bool) -> Told:
        """Return what was measured of the Pods of `namespace` on `nodes`."""
        trouble = ""
        if node_proxy:
            try:
                return Told(Source(summary=await self._summaries_of(nodes)), "stats/summary of the physical node")
            except KubeError as error:
                trouble = f"no stats/summary of the physical node: {error}"
        try:
            metrics = await self._metrics.get(namespace, partial(self._ask_metrics, namespace))
        except KubeError as error:
            return Told(Source(), "no source", "; ".join(filter(None, (trouble, f"no metrics.k8s.io: {error}"))))
        return Told(Source(metrics=metrics), "metrics.k8s.io of the physical cluster", trouble)

    async def cadvisor(self, nodes: Iterable[str]) -> str:
        """Return /metrics/cadvisor of physical nodes. Raises KubeError."""
        texts = [await self._cadvisor.get(node, partial(self._ask_cadvisor, node)) for node in nodes]
        return "\n".join(texts)

    async def _summaries_of(self, nodes: Iterable[str]) -> dict[str, Json]:
        found: dict[str, Json] = {}
        for node in nodes:
            summary = await self._summaries.get(node, partial(self._ask_summary, node))
            found |= {(each.get("podRef") or {}).get("uid") or "": each for each in summary.get("pods") or ()}
        found.pop("", None)
        return found

    async def _ask_summary(self, node: str) -> Json:
        body = await self._ask_node(node, "stats/summary")
        try:
            return codec.decode(body)
        except ValueError as error:
            raise Unreachable(f"stats/summary of node {node} is no JSON object", cluster=self._calls.cluster) from error

    async def _ask_cadvisor(self, node: str) -> str:
        return (await self._ask_node(node, "metrics/cadvisor")).decode("utf-8", "replace")

    async def _ask_node(self, node: str, path: str) -> bytes:
        async with self._turn(f"{path} of node {node}"):
            return await self._calls.raw("GET", f"/api/v1/nodes/{quote(node, safe='')}/proxy/{path}", deadline=ANSWER_WITHIN)

    async def _ask_twins(self, node: str) -> NodeTwins:
        async with self._turn(f"Pods on node {node}"):
            return await self._twins.on(node)

    async def _ask_metrics(self, namespace: str) -> dict[tuple[str, str], Json]:
        async with self._turn("metrics.k8s.io"):
            found = await self._calls.list(PODMETRICS, namespace, deadline=ANSWER_WITHIN)
        return {(key.namespace, key.name): each for each in found.items for key in (key_of(each),)}

    @asynccontextmanager
    async def _turn(self, what: str) -> AsyncIterator[None]:
        """Wait for a turn and have it, both within the deadline: many nodes of a cluster that hangs wait no longer than one."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN), self._turns:
                yield
        except TimeoutError as error:
            raise Unreachable(f"{what}: no answer in time", cluster=self._calls.cluster) from error
