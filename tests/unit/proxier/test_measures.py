"""Which source is asked for usage, and what is said when it is second best. Time is virtual."""

import asyncio
import json
from typing import cast

import pytest

from kubeocean.domain.ownership import Owner
from kubeocean.kube.client import Client, Listing
from kubeocean.kube.errors import Forbidden, KubeError, NotFound
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import Resource
from kubeocean.proxier.measures import ANSWER_WITHIN, GOOD_FOR, Measures, Told
from kubeocean.proxier.twins import Twins

pytestmark = pytest.mark.looptime
NO_TWINS = Twins(cast(Client, None), Owner("virtual", "lender"))
SUMMARY: Json = {"pods": [{"podRef": {"uid": "u1"}}, {"podRef": {}}]}
METRICS: Json = {"metadata": {"namespace": "mount", "name": "web"}}


class Physical:
    """A physical API server with one node's kubelet behind it, and metrics.k8s.io."""

    cluster = "lender"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.broken: dict[str, KubeError] = {}
        self.takes = 0.0
        self.body = json.dumps(SUMMARY).encode()

    async def raw(self, method: str, path: str, *, deadline: float) -> bytes:
        self.asked.append(path)
        await asyncio.sleep(self.takes)
        if error := self.broken.get("proxy"):
            raise error
        return self.body

    async def list(self, resource: Resource, namespace: str, *, deadline: float) -> Listing:
        self.asked.append(resource.path(namespace))
        await asyncio.sleep(self.takes)
        if error := self.broken.get("metrics"):
            raise error
        return Listing([METRICS], "")


async def tell(physical: Physical, *, node_proxy: bool) -> Told:
    return await Measures(cast(Client, physical), NO_TWINS).tell(["node-1"], "mount", node_proxy=node_proxy)


async def test_by_default_metrics_of_the_mount_namespace_are_asked_for_and_no_node() -> None:
    physical = Physical()
    told = await tell(physical, node_proxy=False)
    assert (told.source.metrics, told.source.summary, told.trouble) == ({("mount", "web"): METRICS}, None, "")
    assert physical.asked == ["/apis/metrics.k8s.io/v1beta1/namespaces/mount/pods"]


async def test_with_leave_the_node_itself_is_asked_and_nothing_else() -> None:
    physical = Physical()
    told = await tell(physical, node_proxy=True)
    assert (told.source.summary, told.source.metrics, told.trouble) == ({"u1": SUMMARY["pods"][0]}, None, "")
    assert physical.asked == ["/api/v1/nodes/node-1/proxy/stats/summary"]


async def test_a_refused_node_proxy_is_said_and_the_metrics_are_taken() -> None:
    physical = Physical()
    physical.broken["proxy"] = Forbidden("user may not get nodes/proxy")
    told = await tell(physical, node_proxy=True)
    assert told.source.metrics
    assert "user may not get nodes/proxy" in told.trouble


@pytest.mark.parametrize("body", [b"<html>", b"[]", b""])
async def test_a_node_that_answers_nonsense_is_none(body: bytes) -> None:
    physical = Physical()
    physical.body = body
    told = await tell(physical, node_proxy=True)
    assert told.source.metrics
    assert "stats/summary" in told.trouble


async def test_without_any_source_both_reasons_are_said() -> None:
    physical = Physical()
    physical.broken |= {"proxy": Forbidden("no right"), "metrics": NotFound("no such API")}
    told = await tell(physical, node_proxy=True)
    assert not told.source.known
    assert "no right" in told.trouble
    assert "no such API" in told.trouble


async def test_all_who_ask_cost_the_lender_one_question_each_ten_seconds() -> None:
    physical = Physical()
    measures = Measures(cast(Client, physical), NO_TWINS)
    for _ in range(3):
        await asyncio.gather(*(measures.tell(["node-1"], "mount", node_proxy=True) for _ in range(50)))
        await asyncio.sleep(GOOD_FOR + 0.1)
    assert len(physical.asked) == 3


async def test_a_cluster_that_hangs_delays_many_nodes_no_longer_than_one() -> None:
    physical = Physical()
    physical.takes = 3600
    measures = Measures(cast(Client, physical), NO_TWINS)
    answers = await asyncio.gather(*(measures.tell([f"node-{n}"], "mount", node_proxy=True) for n in range(100)))
    assert not any(told.source.known for told in answers)
    assert asyncio.get_running_loop().time() <= 2 * ANSWER_WITHIN + 0.1
    assert len([path for path in physical.asked if "proxy" in path]) <= 4
