"""A renewed token reaches the running container, under the path where it looked for the first one."""

from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json, annotations_of, name_of, uid_of
from kubeocean.kube.resources import PODS, SECRETS
from tests.e2e.realnode import RealFederation
from tests.integration.federation import build_pod, eventually, is_running, twin_name

TELLS = "while true; do cat /var/run/secrets/kubernetes.io/serviceaccount/token; echo; sleep 1; done"


async def test_a_container_reads_the_new_token_without_a_restart(
    real_federation: RealFederation, virtual_client: Client, physical_client: Client, virtual_namespace: str,
) -> None:
    mount = real_federation.lender.mount_namespace
    container = {"name": "main", "image": "kubeocean.test/toolbox:1", "command": ["sh", "-c", TELLS]}
    spec: Json = {"containers": [container], "terminationGracePeriodSeconds": 1}
    await virtual_client.create(PODS, build_pod("reader", virtual_namespace, real_federation.lender, **spec))

    async def runs() -> Json:
        found = await virtual_client.get(PODS, "reader", virtual_namespace)
        assert is_running(found), found.get("status")
        return found

    vpod: Json = await eventually(runs, within=30, what="the Pod runs")
    secrets = (await physical_client.list(SECRETS, mount)).items
    (secret,) = [each for each in secrets if annotations_of(each).get("kubeocean.io/virtual-pod-uid") == uid_of(vpod)]
    due: Json = {"metadata": {"annotations": {"kubeocean.io/refresh-at": "2026-01-01T00:00:00Z"}}}
    await physical_client.patch(SECRETS, name_of(secret), mount, due)

    async def read_both() -> bool:
        path = PODS.path(mount, twin_name("reader", virtual_namespace), "log")
        tokens = set((await physical_client.raw("GET", path)).decode().split())
        assert len(tokens) == 2, f"{len(tokens)} different tokens"
        return True

    await eventually(read_both, within=60, what="the new token is in the container")
    found = await runs()
    assert found["status"]["containerStatuses"][0]["restartCount"] == 0
