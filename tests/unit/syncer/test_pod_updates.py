"""Later changes on their way down, and what twins say while they go: passes over two clusters in memory."""

import asyncio
from typing import Any

import pytest

from kubeocean.api import names
from kubeocean.kube.client import PatchType
from kubeocean.kube.errors import Invalid
from kubeocean.kube.meta import Json, annotations_of, format_time, labels_of
from kubeocean.kube.patch import apply_merge
from kubeocean.kube.resources import PODS, Resource
from kubeocean.syncer.bottomup.evictions import NodePods
from tests.unit.syncer.test_pod_proofs import Case
from tests.unit.syncer.world import WATCH_DELAY, Server, World

pytestmark = pytest.mark.looptime


class Running(Case):
    """A Pod whose twin runs."""

    @property
    def server(self) -> Server:
        return self.world.physical_server

    async def settle(self) -> None:
        for _ in range(6):
            await self.run()

    def edit(self, patch: Json) -> None:
        """Edit the virtual Pod, as its user."""
        self.world.virtual_server.put(PODS, apply_merge(present(self.vpod()), patch))

    def says(self, **status: Any) -> None:
        """Write the status of the twin, as its kubelet."""
        self.server.put(PODS, apply_merge(present(self.twin()), {"status": status}))

    async def twin_goes(self) -> None:
        """Remove the twin in the moment after what was said of it, before anybody has had a look."""
        await asyncio.sleep(WATCH_DELAY / 5)
        self.server.remove(PODS, self.twin_key)
        await asyncio.sleep(0.1)

    def condition(self, kind: str) -> Json | None:
        conditions = present(self.vpod())["status"].get("conditions") or ()
        return next((each for each in conditions if each["type"] == kind), None)


def present(pod: Json | None) -> Json:
    assert pod is not None
    return pod


class Stubborn:
    """A physical server that will not have some field changed, or some subresource used."""

    def __init__(self, server: Server, field: str) -> None:
        self._patch, self.field, self.asked = server.patch, field, 0
        server.patch = self.patch  # type: ignore[method-assign]

    async def patch(
        self, resource: Resource, name: str, namespace: str, patch: Json, *, kind: PatchType = PatchType.MERGE,
        subresource: str = "", dry_run: bool = False, metadata_only: bool = False,
    ) -> Json:
        if self.field in (*patch.get("spec", ()), subresource) and self.field:
            self.asked += 1
            raise Invalid("not here, says the lender", status=422, reason="Invalid")
        return await self._patch(
            resource, name, namespace, patch, kind=kind, subresource=subresource, dry_run=dry_run, metadata_only=metadata_only
        )


@pytest.fixture
async def case() -> Running:
    world = World()
    async with world.leading() as nodes:
        await asyncio.sleep(0.2)
        leases = nodes.pairing.leases
    world.pod("web")
    made = Running(world)
    made.pods.pairing.leases = leases
    made.pods.attach()
    await asyncio.sleep(0.1)
    await made.run()
    made.says(phase="Running", hostIP="10.0.0.1")
    await asyncio.sleep(0.1)
    await made.settle()
    made.server.writes.clear()
    world.virtual_server.writes.clear()
    return made


CPU = {"containers": [{"name": "main", "resources": {"requests": {"cpu": "2"}}}]}


async def test_all_that_changes_goes_through_its_own_door_and_then_nothing_is_written(case: Running) -> None:
    case.edit({"metadata": {"labels": {"tier": "gold"}}, "spec": {
        **CPU, "activeDeadlineSeconds": 60, "ephemeralContainers": [{"name": "debug", "image": "busybox"}],
    }})
    await asyncio.sleep(0.1)
    await case.settle()
    twin = present(case.twin())
    assert case.server.writes == ["patch pods/ephemeralcontainers", "patch pods/resize", "patch pods"]
    assert twin["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "2"}}
    assert [each["name"] for each in twin["spec"]["ephemeralContainers"]] == ["debug"]
    assert twin["spec"]["activeDeadlineSeconds"] == 60
    assert labels_of(twin)["tier"] == "gold"
    assert case.world.virtual_server.writes == []


async def test_a_refusal_is_told_once_tried_ever_more_rarely_and_ends_with_the_next_change(case: Running) -> None:
    lender = Stubborn(case.server, "resize")
    case.edit({"metadata": {"labels": {"tier": "gold"}}, "spec": CPU})
    await asyncio.sleep(0.1)
    await case.settle()
    assert labels_of(present(case.twin()))["tier"] == "gold", "what is not refused goes down"
    told = present(case.condition(names.PHYSICAL_POD_UPDATED))
    assert (told["status"], told["reason"], told["message"]) == (
        "False", "PhysicalPodUpdateRefused", "not here, says the lender",
    )
    assert case.world.heard_by("web") == ["PhysicalPodUpdateRefused"]
    assert lender.asked == 1
    case.says(phase="Running", message="still well")
    await asyncio.sleep(0.1)
    await case.settle()
    assert present(case.vpod())["status"]["message"] == "still well", "and the status goes up all the while"
    assert lender.asked == 1, "other news are no reason to ask again"
    await asyncio.sleep(600)
    await case.settle()
    assert lender.asked == 2
    assert len(case.server.writes) == 1, "only the label"
    case.edit({"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "1"}}}]}})
    await asyncio.sleep(0.1)
    await case.settle()
    assert case.condition(names.PHYSICAL_POD_UPDATED) is None
    assert lender.asked == 2
    assert case.world.heard_by("web") == ["PhysicalPodUpdateRefused"]


async def test_a_resize_beyond_the_lease_waits_here_until_there_is_room(case: Running) -> None:
    """The machine has 8 CPUs and would take it; the lender lends fewer, and is not even asked."""
    async with case.world.leading() as nodes:
        case.pods.pairing.leases = nodes.pairing.leases
        case.world.policy(resourceLimits=[{"resource": "cpu", "quantity": "3"}])
        case.world.pod("other", cpu="1500m")
        case.says(containerStatuses=[{"name": "main", "resources": {"requests": {"cpu": "1"}}}])
        await asyncio.sleep(0.2)
        case.edit({"metadata": {"labels": {"tier": "gold"}}, "spec": CPU})
        await asyncio.sleep(0.1)
        await case.settle()
        assert case.server.writes == ["patch pods"], "the label"
        told = present(case.condition(names.PHYSICAL_POD_UPDATED))
        assert (told["status"], told["reason"]) == ("False", "BeyondLease")
        assert "cpu: 3500m requested, 3 leased" in told["message"]
        assert case.world.heard_by("web") == ["BeyondLease"]
        others = NodePods(case.pods.pairing).of(present(case.vpod())["spec"]["nodeName"])
        assert {pod.key.name: str(pod.requests["cpu"]) for pod in others} == {"web": "1", "other": "1500m"}, "as it runs"
        await asyncio.sleep(300)
        await case.settle()
        assert case.server.writes == ["patch pods"]
        case.world.policy(resourceLimits=[{"resource": "cpu", "quantity": "4"}])
        await asyncio.sleep(11)
        await case.settle()
        assert present(case.twin())["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "2"}}
        assert case.condition(names.PHYSICAL_POD_UPDATED) is None
        case.world.policy(resourceLimits=[{"resource": "cpu", "quantity": "1"}])
        await asyncio.sleep(0.2)
        case.edit({"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "1900m"}}}]}})
        await asyncio.sleep(0.1)
        await case.settle()
        less = present(case.twin())["spec"]["containers"][0]["resources"]
        assert less == {"requests": {"cpu": "1900m"}}, "to give back is always welcome"


async def test_a_change_of_the_spec_that_is_refused_does_not_hold_back_a_label(case: Running) -> None:
    lender = Stubborn(case.server, "activeDeadlineSeconds")
    case.edit({"metadata": {"labels": {"tier": "gold"}}, "spec": {"activeDeadlineSeconds": 60}})
    await asyncio.sleep(0.1)
    await case.settle()
    assert labels_of(present(case.twin()))["tier"] == "gold"
    assert present(case.condition(names.PHYSICAL_POD_UPDATED))["message"] == "not here, says the lender"
    lender.field = ""
    await asyncio.sleep(11)
    await case.settle()
    assert present(case.twin())["spec"]["activeDeadlineSeconds"] == 60
    assert case.condition(names.PHYSICAL_POD_UPDATED) is None


async def test_who_keeps_changing_the_users_label_below_gets_a_slow_answer(case: Running) -> None:
    case.edit({"metadata": {"labels": {"tier": "gold"}}})
    await asyncio.sleep(0.1)
    await case.settle()
    case.server.writes.clear()
    for _ in range(20):
        case.server.put(PODS, apply_merge(present(case.twin()), {"metadata": {"labels": {"tier": "lead"}}}))
        await asyncio.sleep(0.1)
        await case.settle()
    assert len(case.server.writes) == 4, "of 20 in 14 s: at once, after 1 s, 2 s and 4 s more"
    assert labels_of(present(case.vpod())) == {"tier": "gold"}
    await asyncio.sleep(10)
    await case.settle()
    assert labels_of(present(case.twin()))["tier"] == "gold"


async def test_what_others_put_on_the_twin_comes_up_with_the_status_in_one_write(case: Running) -> None:
    case.server.put(PODS, apply_merge(present(case.twin()), {
        "metadata": {"annotations": {"cni/address": "10.1.2.3"}}, "status": {"podIP": "10.1.2.3"},
    }))
    await asyncio.sleep(0.1)
    await case.settle()
    vpod = present(case.vpod())
    assert (annotations_of(vpod)["cni/address"], vpod["status"]["podIP"]) == ("10.1.2.3", "10.1.2.3")
    assert case.world.virtual_server.writes == ["patch pods/status"]
    assert case.server.writes == []


async def test_a_twin_that_ended_and_went_in_one_moment_was_not_lost(case: Running) -> None:
    case.says(phase="Succeeded")
    await case.twin_goes()
    await case.settle()
    assert present(case.vpod())["status"]["phase"] == "Succeeded"


async def test_an_evicted_twin_says_who_took_it(case: Running) -> None:
    case.says(conditions=[{
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
        "lastTransitionTime": format_time(case.world.now()),
    }])
    await case.twin_goes()
    await case.settle()
    status = present(case.vpod())["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "Evicted")
    assert "EvictionByEvictionAPI: Eviction API: evicting" in status["message"]
    assert present(case.condition("DisruptionTarget"))["status"] == "True"


async def test_what_a_job_waits_for_is_told_before_its_pod_is_released(case: Running) -> None:
    case.edit({"metadata": {
        "finalizers": ["batch.kubernetes.io/job-tracking"], "deletionGracePeriodSeconds": 30,
        "deletionTimestamp": format_time(case.world.now()),
    }})
    case.says(phase="Succeeded")
    await case.twin_goes()
    await case.settle()
    assert present(case.vpod())["status"]["phase"] == "Succeeded", "not Failed, as for one whose end nobody saw"
