"""A second binding with the same clusterID is told so, and the first one never notices."""

import json

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.kube.meta import uid_of
from kubeocean.kube.resources import PODS
from tests.integration.audit import AuditLog
from tests.integration.credentials import described, event_about, is_failed
from tests.integration.federation import Federation, build_pod, condition, eventually
from tests.integration.test_verify import kubeocean


async def test_the_second_is_refused_without_harm_to_the_first_and_served_when_that_is_gone(federation: Federation) -> None:
    first = await federation.lend()

    async def settled() -> bool:
        binding = await federation.virtual.get(CLUSTERBINDINGS, first.binding)
        return bool(binding["status"].get("nodes") == 1) and condition(binding, "ProxierReady")["status"] == "True"

    await eventually(settled, within=20, what="the first has counted its node, and its proxier serves it")
    before = described(await federation.virtual.get(CLUSTERBINDINGS, first.binding))
    virtual, physical = (AuditLog(cluster) for cluster in (federation.sandbox.virtual, federation.sandbox.physical[0]))
    second = await federation.bind(await federation.pool(), ready=False, clusterID=first.cluster_id)
    binding = await eventually(lambda: is_failed(federation.virtual, second, "ValidationFailed"), what="the second is refused")
    message = condition(binding, "Ready")["message"]
    assert f"spec.clusterID '{first.cluster_id}' is already used by ClusterBinding '{first.binding}'" in message
    assert "with a clusterID of its own" in message
    await event_about(federation.virtual, second.binding, "ValidationFailed")
    assert not binding["metadata"].get("finalizers")
    assert described(await federation.virtual.get(CLUSTERBINDINGS, first.binding)) == before
    assert not [write for write in virtual.ours() if write.name == first.binding]
    assert not [write for write in physical.ours() if write.namespace == second.mount_namespace]

    await federation.unbind(first)
    await eventually(lambda: federation.is_ready(second), what="the second is served once the clusterID is free")


async def test_of_two_made_in_the_same_second_the_one_that_works_goes_on_working(federation: Federation) -> None:
    # Timestamps have whole seconds: names decide then, unless one of them was connected already.
    first = await federation.bind(await federation.pool())
    second = await federation.bind(await federation.pool(), ready=False, clusterID=first.cluster_id)
    await eventually(lambda: is_failed(federation.virtual, second, "ValidationFailed"), what="the second is refused")
    await federation.is_ready(first)


async def test_repairing_the_second_takes_nothing_of_the_first_for_lost(federation: Federation, namespace: str) -> None:
    first = await federation.lend()
    made = await federation.virtual.create(PODS, build_pod("web", namespace, first))

    async def runs() -> bool:
        pod = await federation.virtual.get(PODS, "web", namespace)
        assert uid_of(pod) == uid_of(made)
        return bool(pod["status"].get("phase") == "Running")

    await eventually(runs, what="the Pod of the first runs")
    second = await federation.bind(await federation.pool(), ready=False, clusterID=first.cluster_id)
    await eventually(lambda: is_failed(federation.virtual, second, "ValidationFailed"), what="the second is refused")
    done = kubeocean(federation, "verify", f"--binding={second.binding}", "--repair", "--output=json", "--settle=0")
    assert done.returncode == 2, done.stdout
    (told,) = json.loads(done.stdout)["bindings"]
    assert f"already used by ClusterBinding {first.binding!r}" in told["error"]
    assert await runs()
