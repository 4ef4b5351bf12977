"""A stream that a proxier carries on without its manager ends with its Pod, as any other does: a real kubelet ends it."""

from kubeocean.kube.client import Client
from kubeocean.kube.meta import uid_of
from kubeocean.kube.resources import PODS
from kubeocean.sandbox.assets import Assets
from tests.e2e.realnode import RealFederation
from tests.integration.federation import build_pod, eventually, is_running
from tests.integration.kubectl import Kubectl
from tests.integration.programs import Program, runs
from tests.integration.streams import typing

CONTAINER = {"name": "main", "image": "kubeocean.test/toolbox:1", "command": ["sh", "-c", "echo begun; sleep 600"]}


async def test_a_deleted_pod_ends_the_streams_that_outlasted_a_manager(
    real_federation: RealFederation, real_manager: Program, real_assets: Assets, virtual_client: Client, virtual_namespace: str
) -> None:
    kubectl = Kubectl(real_assets, real_federation.sandbox.virtual)
    pod = build_pod(
        "web", virtual_namespace, real_federation.lender, containers=[CONTAINER], terminationGracePeriodSeconds=1
    )
    vpod = await virtual_client.create(PODS, pod)

    async def begun() -> bool:
        found = await virtual_client.get(PODS, "web", virtual_namespace)
        assert is_running(found), found.get("status")
        return "begun" in await kubectl("logs", "web", "-n", virtual_namespace)

    await eventually(begun, within=60, what="the Pod runs and is reached")
    orphan = real_manager.child("proxier")
    async with typing(kubectl, virtual_namespace, "web") as shell:
        real_manager.kill()
        real_manager.ensure()
        await shell.echoes("still there?")
        assert runs(orphan)
        await virtual_client.delete(PODS, "web", virtual_namespace, uid=uid_of(vpod))
        await shell.ended(within=40)
        await eventually(lambda: not runs(orphan), within=10, what="the orphan ends with its last stream")
