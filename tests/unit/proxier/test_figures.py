"""The pages about a virtual node, with a physical cluster that answers, refuses, or is not there."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from kubeocean.api import names
from kubeocean.domain.naming import physical_name
from kubeocean.kube.client import Client, Listing
from kubeocean.kube.errors import Forbidden, KubeError, Unreachable
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import Resource
from kubeocean.proxier.figures import Behind, NodeFigures
from kubeocean.proxier.side import PhysicalSide
from kubeocean.proxier.twins import NodeTwins
from tests.scrape.metricsserver import read_resource_metrics

pytestmark = pytest.mark.looptime
STARTED = "2026-01-01T10:00:00Z"
RUNNING = {"phase": "Running", "containerStatuses": [
    {"name": "app", "containerID": "containerd://1", "state": {"running": {"startedAt": STARTED}}},
]}
VPOD: Json = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "team", "name": "web", "uid": "virtual-uid"},
    "spec": {"nodeName": "vnode-1", "containers": [{"name": "app"}]}, "status": RUNNING,
}
TWIN: Json = {
    "metadata": {"namespace": "mount", "name": "web-5d41", "uid": "twin-uid"}, "spec": {"nodeName": "node-1"},
    "status": RUNNING,
}
CADVISOR = b"""# TYPE container_threads gauge
container_threads{container="app",namespace="mount",pod="web-5d41"} 3 1767268800000
container_threads{container="app",namespace="mount",pod="others"} 4 1767268800000
"""
SUMMARY = b"""{"pods": [{"podRef": {"uid": "twin-uid"}, "containers": [{"name": "app",
  "cpu": {"time": "2026-01-01T12:00:00Z", "usageNanoCores": 1, "usageCoreNanoSeconds": 9000000000},
  "memory": {"time": "2026-01-01T12:00:00Z", "workingSetBytes": 4096}}]}]}"""


class Virtual:
    """The virtual API server."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def list(self, resource: Resource, *, field_selector: str, cached: bool, deadline: float) -> Listing:
        self.asked.append(f"{resource.plural} {field_selector}")
        return Listing([VPOD], "")


@dataclass
class Physical:
    """The physical API server. `pages`: what its node's kubelet answers; `usage`: cores in use, by time."""

    cluster: str = "lender"
    pages: dict[str, bytes | KubeError] = field(default_factory=dict)
    time: str = "2026-01-01T12:00:00Z"
    cpu: str = "500m"

    async def raw(self, method: str, path: str, *, deadline: float) -> bytes:
        answer = self.pages.get(path.partition("/proxy/")[2], Forbidden("no nodes/proxy for you"))
        if isinstance(answer, KubeError):
            raise answer
        return answer

    async def list(self, resource: Resource, namespace: str, *, deadline: float) -> Listing:
        containers = [{"name": "app", "usage": {"cpu": self.cpu, "memory": "4Ki"}}]
        metadata = {"namespace": namespace, "name": "web-5d41"}
        return Listing([{"metadata": metadata, "timestamp": self.time, "window": "10s", "containers": containers}], "")


class Twins:
    """Those on node-1; `refused`: the physical cluster says no instead."""

    refused: KubeError | None = None

    async def on(self, node: str) -> NodeTwins:
        if self.refused:
            raise self.refused
        return {(physical_name("web", "team"), "virtual-uid"): TWIN} if node == "node-1" else {}


class Side:
    def __init__(self, physical: Physical, twins: Twins) -> None:
        self.calls, self.twins = physical, twins


@dataclass
class World:
    """A virtual node `vnode-1`, and what stands behind it."""

    physical: Physical = field(default_factory=Physical)
    virtual: Virtual = field(default_factory=Virtual)
    twins: Twins = field(default_factory=Twins)
    node_proxy: bool = False

    def __post_init__(self) -> None:
        self.side: PhysicalSide | None = cast(PhysicalSide, Side(self.physical, self.twins))
        self.figures = NodeFigures(self, cast(Client, self.virtual))

    def behind(self, vnode: str) -> Behind | None:
        metadata = {"name": vnode, "labels": {names.PHYSICAL_NODE_NAME_LABEL: "node-1"}}
        node = {"metadata": metadata, "status": {"allocatable": {"memory": "1Gi"}}}
        return Behind(node, self.side, "mount", self.node_proxy) if vnode == "vnode-1" else None

    async def ask(self, path: str, *, vnode: str = "vnode-1", method: str = "GET") -> web.Response:
        answer = await self.figures.pages[path](make_mocked_request(method, path), vnode)
        assert isinstance(answer, web.Response)
        return answer

    async def read(self, path: str, **options: Any) -> str:
        answer = await self.ask(path, **options)
        assert answer.status == 200
        return str(answer.text)


async def test_a_counter_goes_on_from_one_request_to_the_next() -> None:
    world = World()
    first = read_resource_metrics(await world.read("/metrics/resource"))
    await asyncio.sleep(11)
    world.physical.time, world.physical.cpu = "2026-01-01T12:01:00Z", "2"
    second = read_resource_metrics(await world.read("/metrics/resource"))
    assert (first.pods["team", "web"]["app"].cpu, second.pods["team", "web"]["app"].cpu) == (5.0, 125.0)
    assert first.node is not None
    assert second.node is not None
    assert second.node.cpu - first.node.cpu == pytest.approx(120.0)


async def test_without_leave_no_node_is_asked_and_nothing_is_wrong_with_that() -> None:
    world = World(Physical(pages={"stats/summary": SUMMARY, "metrics/cadvisor": CADVISOR}))
    answer = await world.ask("/metrics/cadvisor")
    assert "Warning" not in answer.headers
    assert "container_threads" not in str(answer.text)
    assert 'container_memory_working_set_bytes{container="app",namespace="team",pod="web"} 4096.0' in str(answer.text)


async def test_with_leave_the_nodes_own_cadvisor_is_told_about_our_pods() -> None:
    world = World(Physical(pages={"stats/summary": SUMMARY, "metrics/cadvisor": CADVISOR}), node_proxy=True)
    lines = [line for line in (await world.read("/metrics/cadvisor")).splitlines() if not line.startswith("#")]
    assert lines == ['container_threads{container="app",namespace="team",pod="web"} 3.0 1767268800000']


@pytest.mark.parametrize("broken", [Unreachable("node-1 is gone"), b'container_threads{namespace="mount" 3'])
async def test_a_cadvisor_that_fails_leaves_what_the_summary_says(broken: bytes | KubeError) -> None:
    world = World(Physical(pages={"stats/summary": SUMMARY, "metrics/cadvisor": broken}), node_proxy=True)
    answer = await world.ask("/metrics/cadvisor")
    assert "metrics/cadvisor of the physical node" in answer.headers["Warning"]
    assert 'container_cpu_usage_seconds_total{container="app",namespace="team",pod="web"} 9.0' in str(answer.text)


async def test_a_physical_cluster_that_is_gone_is_said_in_a_warning_that_breaks_no_header() -> None:
    world = World()
    world.side = None
    answer = await world.ask("/stats/summary")
    assert answer.headers["Warning"] == '299 - "the physical cluster does not answer"'
    world = World(Physical(pages={"stats/summary": Unreachable('a "quoted" line\r\nX-Forged: \u00e9')}), node_proxy=True)
    warning = (await world.ask("/stats/summary")).headers["Warning"]
    assert warning.endswith(r'a \"quoted\" line??X-Forged: ?"'), warning


async def test_without_leave_to_list_twins_the_node_has_pods_no_usage_and_a_warning() -> None:
    world = World()
    world.twins.refused = Forbidden("pods is forbidden: no list for you")
    assert '"virtual-uid"' in await world.read("/pods")
    assert "no list for you" in (await world.ask("/stats/summary")).headers["Warning"]
    assert "resource_scrape_error 1.0" in await world.read("/metrics/resource")


async def test_a_node_that_is_gone_has_pods_as_long_as_the_virtual_cluster_says_so_and_no_usage() -> None:
    world = World()
    assert '"virtual-uid"' in await world.read("/pods", vnode="vnode-gone")
    assert world.virtual.asked == ["pods spec.nodeName=vnode-gone"]
    assert "resource_scrape_error 1.0" in await world.read("/metrics/resource", vnode="vnode-gone")


async def test_pages_are_for_reading() -> None:
    world = World()
    for path in set(world.figures.pages) - {"/healthz"}:
        assert (await world.ask(path, method="POST")).status == 405
        assert (await world.ask(path, method="HEAD")).status == 200
