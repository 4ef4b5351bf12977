"""An edit that cannot be read ends nothing: what a binding serves is served on, by the next process too, and can be unbound."""

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.kube.meta import uid_of
from kubeocean.kube.resources import PODS
from tests.integration.federation import Federation, Lender, build_pod, condition, eventually
from tests.integration.programs import Program


async def edit(federation: Federation, lender: Lender, zone: str) -> None:
    await federation.virtual.patch(CLUSTERBINDINGS, lender.binding, "", {"spec": {"timeZone": zone}})


async def test_a_misspelt_time_zone_takes_nothing_from_the_pods_that_run(
    federation: Federation, namespace: str, manager: Program
) -> None:
    lender = await federation.lend()
    await federation.virtual.create(PODS, build_pod("before", namespace, lender))
    (before,) = await federation.running(namespace, "before")
    await edit(federation, lender, "Europe/Berln")

    async def told() -> bool:
        ready = condition(await federation.virtual.get(CLUSTERBINDINGS, lender.binding), "Ready")
        assert (ready["status"], ready["reason"]) == ("False", "ValidationFailed"), ready
        return "'Europe/Berln' is no known time zone" in ready["message"]

    await eventually(told, what="the binding says what is wrong")
    await federation.virtual.create(PODS, build_pod("meanwhile", namespace, lender))
    await federation.running(namespace, "meanwhile")
    manager.kill()
    manager.ensure()
    await federation.virtual.create(PODS, build_pod("after", namespace, lender))
    await federation.running(namespace, "after")
    (still,) = await federation.running(namespace, "before")
    assert uid_of(still) == uid_of(before)
    await federation.vnodes(lender)
    assert await told()

    await edit(federation, lender, "Europe/Berlin")
    await eventually(lambda: federation.is_ready(lender), within=20, what="mended")
    await edit(federation, lender, "Europe/Berln")
    await eventually(told, what="it says so again")
    await federation.unbind(lender)
