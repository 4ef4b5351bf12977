"""Grace is the user's: it travels to the twin, may be shortened, and a Pod is gone only when its containers are."""

from collections.abc import AsyncIterator, Iterator

import pytest

from kubeocean.kube.meta import Json, is_deleting, name_of, uid_of
from kubeocean.kube.resources import PODS
from kubeocean.sandbox.assets import Assets
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.federation import (
    Federation,
    Lender,
    build_pod,
    discard,
    eventually,
    find,
    for_a_module,
    steadily,
)
from tests.integration.kubectl import Kubectl
from tests.integration.kubelet import Kubelet
from tests.integration.programs import Program


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    with for_a_module(sandbox, lambda federation: federation.lend(played=False)) as lender:
        yield lender


@pytest.fixture
def kubectl(sandbox: Sandbox, assets: Assets) -> Kubectl:
    return Kubectl(assets, sandbox.virtual)


@pytest.fixture
async def kubelet(federation: Federation, lender: Lender) -> Kubelet:
    kubelet = Kubelet(federation.physical[0], lender)
    await kubelet.heartbeat()
    return kubelet


@pytest.fixture
async def twin(federation: Federation, lender: Lender, namespace: str, kubelet: Kubelet) -> AsyncIterator[Json]:
    """The running twin of Pod `web`, whose own grace is 30 s."""
    vpod = await federation.virtual.create(
        PODS, build_pod("web", namespace, lender, automountServiceAccountToken=False)
    )

    async def scheduled() -> Json | None:
        twin = await federation.twin(lender, vpod)
        return twin if twin and twin["spec"].get("nodeName") else None

    twin = await kubelet.runs(await eventually(scheduled, within=20, what="twin is scheduled"))
    await federation.running(namespace, "web")
    yield twin
    await discard(federation.virtual, PODS, "web", namespace, grace_seconds=0)
    await discard(federation.physical[0], PODS, name_of(twin), lender.mount_namespace, grace_seconds=0)


async def ending(federation: Federation, twin: Json, *, least: int, most: int) -> Json:
    """Wait until the twin is being deleted with a grace within these bounds, and return it."""
    async def deleting() -> Json:
        found = await find(federation.physical[0], PODS, name_of(twin), twin["metadata"]["namespace"])
        assert found is not None, "the twin is gone before its kubelet said so"
        assert is_deleting(found), "no deletion of the twin"
        grace = found["metadata"]["deletionGracePeriodSeconds"]
        assert least <= grace <= most, f"the twin's grace is {grace}"
        return found

    found: Json = await eventually(deleting, what="the twin is being deleted")
    return found


async def gone(federation: Federation, namespace: str, *, within: float = 10) -> None:
    async def no_more() -> bool:
        return await find(federation.virtual, PODS, "web", namespace) is None

    await eventually(no_more, within=within, what="the virtual Pod is gone")


@pytest.mark.parametrize(("flags", "least", "most"), [
    ((), 26, 30), (("--grace-period=9",), 5, 9), (("--grace-period=100",), 96, 100), (("--now",), 1, 1),
], ids=("the Pod's own", "shorter", "longer", "now"))
async def test_the_twin_gets_the_grace_of_kubectl_delete(
    federation: Federation, namespace: str, kubectl: Kubectl, kubelet: Kubelet, twin: Json,
    flags: tuple[str, ...], least: int, most: int,
) -> None:
    await kubectl("delete", "pod", "web", f"--namespace={namespace}", "--wait=false", *flags)
    await ending(federation, twin, least=least, most=most)

    async def waits() -> bool:
        return await find(federation.virtual, PODS, "web", namespace) is not None

    await steadily(waits, during=0.5, what="the virtual Pod waits for its containers")
    await kubelet.confirm_end(twin)
    await gone(federation, namespace)


async def test_what_happens_during_the_grace_is_still_mirrored(
    federation: Federation, namespace: str, kubectl: Kubectl, kubelet: Kubelet, twin: Json
) -> None:
    await kubectl("delete", "pod", "web", f"--namespace={namespace}", "--wait=false")
    await ending(federation, twin, least=1, most=30)
    await kubelet.says(twin, message="closing the shop")

    async def told() -> bool:
        pod = await federation.virtual.get(PODS, "web", namespace)
        return bool(pod["status"].get("message") == "closing the shop")

    await eventually(told, what="a status during the grace")
    await kubelet.confirm_end(twin)
    await gone(federation, namespace)


async def test_a_shortened_grace_reaches_the_twin(
    federation: Federation, namespace: str, kubectl: Kubectl, kubelet: Kubelet, twin: Json
) -> None:
    await kubectl("delete", "pod", "web", f"--namespace={namespace}", "--wait=false", "--grace-period=60")
    await ending(federation, twin, least=55, most=60)
    await kubectl("delete", "pod", "web", f"--namespace={namespace}", "--wait=false", "--grace-period=5")
    await ending(federation, twin, least=1, most=5)
    await kubelet.confirm_end(twin)
    await gone(federation, namespace)


async def test_force_removes_the_pod_at_once_and_its_twin_with_one_second_of_grace(
    federation: Federation, namespace: str, kubectl: Kubectl, kubelet: Kubelet, twin: Json
) -> None:
    await kubectl("delete", "pod", "web", f"--namespace={namespace}", "--force", "--grace-period=0", "--wait=false")
    await gone(federation, namespace, within=3)
    found = await ending(federation, twin, least=1, most=1)
    assert uid_of(found) == uid_of(twin)
    await kubelet.confirm_end(twin)


async def test_a_pod_deleted_before_it_ever_ran_is_gone_with_its_twin(
    federation: Federation, lender: Lender, namespace: str, kubelet: Kubelet
) -> None:
    vpod = await federation.virtual.create(PODS, build_pod("web", namespace, lender))
    await discard(federation.virtual, PODS, "web", namespace)

    async def nothing() -> bool:
        twin = await federation.twin(lender, vpod)
        if twin is not None and is_deleting(twin):
            await kubelet.confirm_end(twin)
        assert await find(federation.virtual, PODS, "web", namespace) is None, "virtual Pod"
        assert twin is None, "twin"
        return True

    await eventually(nothing, within=20, what="both are gone")
