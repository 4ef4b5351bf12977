"""What virtual nodes tell about themselves: Pods and usage, under virtual names, out of the lender's metrics.k8s.io.

A CRD plays metrics.k8s.io in the physical cluster, so that its real API server answers, and its RBAC decides. The borrower
is a user with the rights that `kubeocean rbac` prints.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.kube.client import PatchType
from kubeocean.kube.errors import NotFound
from kubeocean.kube.meta import Json, name_of, uid_of
from kubeocean.kube.resources import CUSTOMRESOURCEDEFINITIONS, PODS, Resource
from kubeocean.sandbox.assets import Assets
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.credentials import issue_kubeconfig
from tests.integration.federation import Federation, Lender, build_pod, eventually, for_a_module
from tests.integration.gate import Gate
from tests.integration.kubectl import Kubectl
from tests.integration.lending import grant
from tests.integration.metricsserver import metrics_server
from tests.integration.nodepages import Page, read_page
from tests.integration.programs import Program
from tests.scrape.metricsserver import Scrape, cores, read_resource_metrics

PODMETRICS = Resource("metrics.k8s.io", "v1beta1", "pods", "PodMetrics", True)
REMEMBERED = 10.0  # seconds that the proxier believes an answer of metrics.k8s.io


@pytest.fixture(scope="module")
def metrics_api(sandbox: Sandbox) -> Iterator[None]:
    """metrics.k8s.io in the first physical cluster, served and empty."""
    async def serve(federation: Federation) -> None:
        client = federation.physical[0]
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        federation.made.physical.append((0, CUSTOMRESOURCEDEFINITIONS, "pods.metrics.k8s.io", ""))
        await client.create(CUSTOMRESOURCEDEFINITIONS, {
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "pods.metrics.k8s.io", "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}},
            "spec": {
                "group": "metrics.k8s.io", "scope": "Namespaced", "names": {"plural": "pods", "kind": "PodMetrics"},
                "versions": [{"name": "v1beta1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
            },
        })

        async def served() -> bool:
            with suppress(NotFound):
                return b'"pods"' in await client.raw("GET", "/apis/metrics.k8s.io/v1beta1")
            return False

        await eventually(served, within=20, what="metrics.k8s.io is served")

    with for_a_module(sandbox, serve):
        yield


@pytest.fixture
async def gate(sandbox: Sandbox) -> AsyncIterator[Gate]:
    """A door in front of the second physical cluster. Ask for it before `federation`, which leaves through it."""
    async with Gate(sandbox.physical[1]) as opened:
        yield opened


@dataclass
class Borrowed:
    """A Pod on a virtual node, and what its proxier says."""

    federation: Federation
    lender: Lender
    vpod: Json
    measured: int = 0  # seconds; when a measurement was last made

    async def page(self, path: str) -> Page:
        return await read_page(self.federation.sandbox.virtual, self.federation.virtual, self.lender.vnode(), path)

    async def scrape(self) -> Scrape:
        page = await self.page("/metrics/resource")
        assert page.status == 200, page
        return read_resource_metrics(page.text)

    async def measure(self, name: str, *, cpu: str, memory: str, container: str = "main") -> float:
        """Write PodMetrics for a Pod of the mountNamespace, as of now; returns when that was.

        Times of Kubernetes' API are whole seconds, and two measurements never have the same.
        """
        self.measured = max(int(time.time()), self.measured + 1)
        now = datetime.fromtimestamp(self.measured, UTC)
        obj = {
            "apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics",
            "metadata": {"name": name, "namespace": self.lender.mount_namespace},
            "timestamp": now.isoformat().replace("+00:00", "Z"), "window": "10s",
            "containers": [{"name": container, "usage": {"cpu": cpu, "memory": memory}}],
        }
        client = self.federation.physical[self.lender.pool.cluster]
        await client.patch(
            PODMETRICS, name, self.lender.mount_namespace, obj, kind=PatchType.APPLY, field_manager="test", force=True
        )
        return now.timestamp()


async def borrow(federation: Federation, namespace: str, **spec: object) -> Borrowed:
    """Lend a node to a user with the least rights, and run a Pod on it."""
    user = f"borrower-{uuid.uuid4().hex[:6]}"
    pool = await federation.pool(nodes=1)
    kubeconfig = issue_kubeconfig(federation.sandbox.physical[0], user)
    lender = await federation.bind(pool, kubeconfig=kubeconfig, ready=False, **spec)
    await grant(federation, lender, user)
    return await run_pod(federation, lender, namespace)


async def run_pod(federation: Federation, lender: Lender, namespace: str) -> Borrowed:
    await eventually(lambda: federation.is_ready(lender), within=40, what="the binding is Ready")
    await federation.policy(lender)
    await federation.vnodes(lender)
    await federation.virtual.create(PODS, build_pod("web", namespace, lender))
    (vpod,) = await federation.running(namespace, "web")
    borrowed = Borrowed(federation, lender, vpod)

    async def served() -> bool:
        page = await borrowed.page("/healthz")
        assert page.text == "ok", page
        return True

    await eventually(served, within=30, what="the proxier serves the virtual node")
    return borrowed


async def test_metrics_server_reads_usage_from_rates_and_sees_only_our_pods(
    federation: Federation, namespace: str, manager: Program, metrics_api: None
) -> None:
    borrowed = await borrow(federation, namespace)
    twin = await federation.twin(borrowed.lender, borrowed.vpod)
    assert twin
    await borrowed.measure("lenders-own", cpu="7", memory="64Gi")
    began = await borrowed.measure(name_of(twin), cpu="250m", memory="100Mi")

    async def told() -> Scrape:
        scrape = await borrowed.scrape()
        assert scrape.pods, "no figures yet"
        return scrape

    first = await eventually(told, within=REMEMBERED + 10, what="the Pod's figures are told")
    assert first.pods.keys() == {(namespace, "web")}
    app = first.pods[namespace, "web"]["main"]
    assert app.memory == 100 * 2**20
    assert app.time == pytest.approx(began, abs=0.002), "a sample has the time of its measurement, in milliseconds"
    assert first.node.memory == app.memory, "the node uses what its Pods use"

    later = await borrowed.measure(name_of(twin), cpu="1500m", memory="200Mi")

    async def newer() -> Scrape:
        scrape = await borrowed.scrape()
        assert scrape.pods[namespace, "web"]["main"].time > app.time, "the same figures"
        return scrape

    second = await eventually(newer, within=REMEMBERED + 10, what="newer figures are told")
    assert later > began
    for before, after in ((app, second.pods[namespace, "web"]["main"]), (first.node, second.node)):
        assert cores(before, after) == pytest.approx(1.5, rel=0.01)

    summary = (await borrowed.page("/stats/summary")).json
    assert summary["node"]["nodeName"] == borrowed.lender.vnode()
    assert [pod["podRef"] for pod in summary["pods"]] == [
        {"name": "web", "namespace": namespace, "uid": uid_of(borrowed.vpod)}
    ]
    for path in ("/stats/summary", "/metrics/resource", "/metrics/cadvisor", "/metrics"):
        page = await borrowed.page(path)
        assert (page.status, page.warning) == (200, ""), page
        for secret in ("lenders-own", name_of(twin), uid_of(twin), borrowed.lender.mount_namespace):
            assert secret not in page.text, f"{path} tells {secret}"


async def test_kubectl_top_through_a_real_metrics_server_shows_our_pods_and_nothing_else(
    federation: Federation, namespace: str, manager: Program, metrics_api: None, sandbox: Sandbox, assets: Assets,
    tmp_path: Path,
) -> None:
    if assets.metrics_server is None:
        pytest.skip("no metrics-server: build it once with `kubeocean sandbox assets --metrics-server`")
    borrowed, kubectl = await borrow(federation, namespace), Kubectl(assets, sandbox.virtual)
    vnode, twin = borrowed.lender.vnode(), await federation.twin(borrowed.lender, borrowed.vpod)
    assert twin

    async def measured_every_second() -> None:
        while True:
            await borrowed.measure("lenders-own", cpu="7", memory="64Gi")
            await borrowed.measure(name_of(twin), cpu="250m", memory="100Mi")
            await asyncio.sleep(1)

    async def shown(*args: str) -> list[list[str]]:
        """Return what `kubectl top` prints, in words."""
        return [line.split() for line in (await kubectl("top", *args, "--no-headers")).splitlines()]

    async def both_shown() -> bool:
        return bool(await shown("pod", "-n", namespace) and await shown("node", vnode))

    async with metrics_server(assets.metrics_server, sandbox.virtual, federation.virtual, tmp_path):
        measuring = asyncio.create_task(measured_every_second())
        try:
            await eventually(both_shown, within=60, what="metrics-server has two samples of everything")
            assert await shown("pod", "-n", namespace, "--containers") == [["web", "main", "250m", "100Mi"]]
            # What percentage that is, is of the lease: 8 CPU, 32Gi.
            assert await shown("node", vnode) == [[vnode, "250m", "3%", "100Mi", "0%"]]
            everything = await kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1/pods")
            told = [each["metadata"]["name"] for each in json.loads(everything)["items"]]
            assert told == ["web"], "Pods of the lender, or names of twins"
            scrape = await borrowed.scrape()
            assert scrape.node
            assert scrape.node.memory == scrape.pods[namespace, "web"]["main"].memory == 100 * 2**20
        finally:
            measuring.cancel()


async def test_the_pods_of_a_node_are_told_as_a_kubelet_does(
    federation: Federation, namespace: str, manager: Program
) -> None:
    borrowed = await borrow(federation, namespace)
    pods = (await borrowed.page("/pods")).json
    assert pods["kind"] == "PodList"
    assert [(uid_of(pod), pod["spec"]["nodeName"]) for pod in pods["items"]] == [
        (uid_of(borrowed.vpod), borrowed.lender.vnode())
    ]
    running = (await borrowed.page("/runningpods/")).json["items"]
    assert [(name_of(pod), uid_of(pod)) for pod in running] == [("web", uid_of(borrowed.vpod))]
    page = await read_page(
        federation.sandbox.virtual, federation.virtual, borrowed.lender.vnode(), "/pods", method="POST"
    )
    assert page.status == 405


async def test_a_node_proxy_that_is_not_granted_is_said_and_the_metrics_api_asked(
    federation: Federation, namespace: str, manager: Program, metrics_api: None
) -> None:
    borrowed = await borrow(federation, namespace, nodeProxy=True)
    twin = await federation.twin(borrowed.lender, borrowed.vpod)
    assert twin
    await borrowed.measure(name_of(twin), cpu="250m", memory="100Mi")

    async def told() -> Page:
        page = await borrowed.page("/metrics/resource")
        assert read_resource_metrics(page.text).pods, page
        return page

    page = await eventually(told, within=REMEMBERED + 10, what="figures of metrics.k8s.io are told")
    assert "stats/summary" in page.warning, page.warning
    assert "forbidden" in page.warning.lower(), page.warning
    live = await federation.virtual.get(CLUSTERBINDINGS, borrowed.lender.binding)
    assert live["spec"]["nodeProxy"] is True


async def test_without_the_physical_cluster_what_is_known_is_told_at_once(
    gate: Gate, federation: Federation, namespace: str, manager: Program
) -> None:
    pool = await federation.pool(nodes=1, cluster=1)
    lender = await federation.bind(pool, kubeconfig=gate.kubeconfig(), ready=False)
    borrowed = await run_pod(federation, lender, namespace)
    assert "metrics.k8s.io" in (await borrowed.page("/stats/summary")).warning, "there is none in this cluster"
    await gate.close()
    try:
        await tells_what_is_known(borrowed)
    finally:
        await gate.open()


async def tells_what_is_known(borrowed: Borrowed) -> None:
    async def cut_off() -> Page:
        page = await borrowed.page("/stats/summary")
        assert page.seconds < 10, "metrics-server would have given up"
        assert "the physical cluster does not answer" in page.warning, page.warning
        return page

    page = await eventually(cut_off, within=40, what="the proxier knows that the cluster is gone")
    (pod,) = page.json["pods"]
    assert pod["podRef"]["uid"] == uid_of(borrowed.vpod)
    assert [each["name"] for each in pod["containers"]] == ["main"]
    assert "cpu" not in page.json["node"]
    resource, pods = await borrowed.page("/metrics/resource"), await borrowed.page("/pods")
    assert max(resource.seconds, pods.seconds) < 2
    assert "resource_scrape_error 1.0" in resource.text
    assert read_resource_metrics(resource.text) == Scrape()
    assert [uid_of(each) for each in pods.json["items"]] == [uid_of(borrowed.vpod)]
