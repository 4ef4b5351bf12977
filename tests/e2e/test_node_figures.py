"""Figures of a virtual node from a real kubelet, through the node proxy that the lender has granted."""

import time

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.kube.client import Client
from kubeocean.kube.meta import name_of, uid_of
from kubeocean.kube.resources import PODS
from tests.e2e.realnode import RealFederation
from tests.integration.federation import build_pod, eventually, find, is_running, twin_name
from tests.integration.nodepages import Page, read_page
from tests.scrape.metricsserver import Scrape, cores, read_resource_metrics

IMAGE = "kubeocean.test/toolbox:1"
BUSY = ["sh", "-c", "while true; do :; done"]


async def test_a_real_kubelets_figures_are_told_of_our_pods_only_and_metrics_server_reads_them(
    real_federation: RealFederation, virtual_client: Client, physical_client: Client, virtual_namespace: str,
    physical_namespace: str,
) -> None:
    lender = real_federation.lender
    await virtual_client.patch(CLUSTERBINDINGS, lender.binding, "", {"spec": {"nodeProxy": True}})
    container = {
        "name": "busy", "image": IMAGE, "command": BUSY,
        "resources": {"limits": {"cpu": "200m", "memory": "64Mi"}, "requests": {"cpu": "50m", "memory": "16Mi"}},
    }
    await physical_client.create(PODS, {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lenders-own", "namespace": physical_namespace},
        "spec": {"nodeName": real_federation.node, "containers": [{**container, "command": ["sleep", "600"]}]},
    })
    vpod = await virtual_client.create(PODS, build_pod("busy", virtual_namespace, lender, containers=[container]))

    async def page(path: str) -> Page:
        return await read_page(real_federation.sandbox.virtual, virtual_client, real_federation.vnode, path)

    async def runs() -> bool:
        found = await virtual_client.get(PODS, "busy", virtual_namespace)
        assert is_running(found), found.get("status")
        return True

    await eventually(runs, within=60, what="the Pod runs")
    twin = await find(physical_client, PODS, twin_name("busy", virtual_namespace), lender.mount_namespace)
    assert twin

    async def scrape(after: float = 0.0) -> Scrape:
        answer = await page("/metrics/resource")
        read = read_resource_metrics(answer.text)
        assert (virtual_namespace, "busy") in read.pods, answer
        assert read.node is not None
        told = read.pods[virtual_namespace, "busy"]["busy"]
        # A sample of the very moment of the start is, to metrics-server, one from before a restart.
        assert told.time > max(after, told.start), "no newer figures"
        return read

    first: Scrape = await eventually(scrape, within=60, what="figures of the Pod are told")
    app = first.pods[virtual_namespace, "busy"]["busy"]
    assert app.start <= app.time <= time.time() + 1
    second: Scrape = await eventually(lambda: scrape(app.time), within=60, what="newer figures are told")
    usage = cores(app, second.pods[virtual_namespace, "busy"]["busy"])
    assert usage is not None
    assert 0.02 < usage < 0.4, "a busy loop under a limit of 200m"
    assert first.node is not None
    assert second.node is not None
    assert cores(first.node, second.node) is not None

    summary = (await page("/stats/summary")).json
    (told,) = [each for each in summary["pods"] if each["podRef"]["namespace"] == virtual_namespace]
    assert told["podRef"] == {"name": "busy", "namespace": virtual_namespace, "uid": uid_of(vpod)}
    (busy,) = told["containers"]
    assert busy["memory"]["workingSetBytes"] < 64 * 2**20
    cadvisor = await page("/metrics/cadvisor")
    assert f'namespace="{virtual_namespace}",pod="busy"' in cadvisor.text
    assert "container_memory_rss" in cadvisor.text, "the kubelet's own page, which tells more than we could"
    for path in ("/stats/summary", "/metrics/resource", "/metrics/cadvisor", "/metrics"):
        answer = await page(path)
        assert (answer.status, answer.warning) == (200, ""), (path, answer.warning)
        for secret in ("lenders-own", name_of(twin), uid_of(twin), uid_of(twin).replace("-", "_"), lender.mount_namespace):
            assert secret not in answer.text, f"{path} tells {secret}"
    await virtual_client.delete(PODS, "busy", virtual_namespace, uid=uid_of(vpod), grace_seconds=0)
