"""What changes after the start, on either side and on both at once, and twins that somebody else takes away.

The test plays the kubelet; API servers, schedulers and controller managers are real.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest

from kubeocean.kube.client import Client, PatchType
from kubeocean.kube.errors import Conflict
from kubeocean.kube.meta import Json, annotations_of, labels_of, name_of, namespace_of, uid_of
from kubeocean.kube.resources import JOBS, PODS, Resource
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.audit import AuditLog
from tests.integration.federation import (
    Federation,
    Lender,
    build_pod,
    build_pod_spec,
    condition,
    discard,
    eventually,
    find,
    for_a_module,
    steadily,
)
from tests.integration.kubelet import Kubelet, played, running_status
from tests.integration.programs import Program

LIMITRANGES = Resource("", "v1", "limitranges", "LimitRange", True)
SIZE = {"requests": {"cpu": "100m", "memory": "64Mi"}}
REST = 1.5  # seconds without a write that count as rest


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    with for_a_module(sandbox, lambda federation: federation.lend(played=False)) as lender:
        yield lender


@pytest.fixture
async def kubelet(federation: Federation, lender: Lender, namespace: str) -> AsyncIterator[Kubelet]:
    async with played(federation, lender, namespace) as kubelet:
        yield kubelet


async def start(federation: Federation, lender: Lender, kubelet: Kubelet, namespace: str, name: str, **spec: Any) -> Json:
    """Create a Pod, have its twin run and return the twin."""
    spec = {"containers": [{"name": "main", "image": "busybox:1", "resources": SIZE}], **spec}
    await federation.virtual.create(PODS, build_pod(
        name, namespace, lender, metadata={"labels": {"app": name}}, automountServiceAccountToken=False, **spec
    ))
    return await run_twin(federation, lender, kubelet, namespace, name)


async def run_twin(federation: Federation, lender: Lender, kubelet: Kubelet, namespace: str, name: str) -> Json:
    async def scheduled() -> Json | None:
        twin = await federation.twin(lender, {"metadata": {"name": name, "namespace": namespace}})
        assert twin is not None, "no twin"
        return twin if twin["spec"].get("nodeName") else None

    twin: Json = await eventually(scheduled, within=20, what=f"twin of {name} is scheduled")
    # Without resources in its status, an API server takes a container's node to be unable to resize it.
    containers = [{**each, "resources": SIZE} for each in running_status()["containerStatuses"]]
    await kubelet.says(twin, **{**running_status(), "containerStatuses": containers})
    await federation.running(namespace, name)
    return twin


async def edit(client: Client, pod: Json | tuple[str, str], patch: Json, *, subresource: str = "") -> Json:
    namespace, name = pod if isinstance(pod, tuple) else (namespace_of(pod), name_of(pod))
    return await client.patch(PODS, name, namespace, patch, kind=PatchType.STRATEGIC, subresource=subresource)


def sizes(cpu: str) -> Json:
    return {"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": cpu}}}]}}


DEBUG = {"name": "debug", "image": "busybox:2", "targetContainerName": "main", "env": [{"name": "WHO", "value": "me"}]}
CHANGES: dict[str, tuple[str, Json]] = {
    "image": ("", {"spec": {"containers": [{"name": "main", "image": "busybox:2"}]}}),
    "deadline": ("", {"spec": {"activeDeadlineSeconds": 600}}),
    "debug": ("ephemeralcontainers", {"spec": {"ephemeralContainers": [DEBUG]}}),
    "resize": ("resize", sizes("200m")),
    "labels": ("", {"metadata": {"labels": {"app": "other", "more": "yes"}, "annotations": {"note": "text"}}}),
}


async def test_every_change_that_kubernetes_allows_reaches_the_twin_in_few_writes_and_then_there_is_rest(
    federation: Federation, lender: Lender, namespace: str, kubelet: Kubelet, sandbox: Sandbox
) -> None:
    names = [*CHANGES, "tolerations"]
    twins = dict(zip(names, await asyncio.gather(
        *(start(federation, lender, kubelet, namespace, name) for name in names)
    ), strict=True))
    above, below = AuditLog(sandbox.virtual), AuditLog(sandbox.physical[0])
    for name, (subresource, patch) in CHANGES.items():
        await edit(federation.virtual, (namespace, name), patch, subresource=subresource)
    tolerating = await federation.virtual.get(PODS, "tolerations", namespace)
    extra = [*tolerating["spec"]["tolerations"], {"key": "example.com/gpu", "operator": "Exists"}]
    await edit(federation.virtual, (namespace, "tolerations"), {"spec": {"tolerations": extra}})

    async def arrived() -> dict[str, Json]:
        now = {name: await federation.physical[0].get(PODS, name_of(twin), namespace_of(twin)) for name, twin in twins.items()}
        specs = {name: twin["spec"] for name, twin in now.items()}
        assert specs["image"]["containers"][0]["image"] == "busybox:2"
        assert specs["deadline"]["activeDeadlineSeconds"] == 600
        assert [each["name"] for each in specs["debug"].get("ephemeralContainers") or ()] == ["debug"]
        assert specs["resize"]["containers"][0]["resources"]["requests"] == {"cpu": "200m", "memory": "64Mi"}
        assert {"key": "example.com/gpu", "operator": "Exists"} in specs["tolerations"]["tolerations"]
        assert {"app": "other", "more": "yes"}.items() <= labels_of(now["labels"]).items()
        assert annotations_of(now["labels"])["note"] == "text"
        assert labels_of(now["labels"])["kubeocean.io/managed-by"] == "kubeocean"
        return now

    now = await eventually(arrived, what="all changes are below")
    assert now["debug"]["spec"]["ephemeralContainers"][0]["targetContainerName"] == "main"
    assert {uid_of(twin) for twin in now.values()} == {uid_of(twin) for twin in twins.values()}
    # A kubelet that lacks the room says so, and that it is resized after all.
    pending = {"type": "PodResizePending", "status": "True", "reason": "Infeasible", "message": "Node didn't have enough cpu"}
    await edit(federation.physical[0], twins["resize"], {"status": {"conditions": [pending]}}, subresource="status")

    async def told(reason: str | None) -> bool:
        pod = await federation.virtual.get(PODS, "resize", namespace)
        return bool(condition(pod, "PodResizePending").get("reason") == reason)

    await eventually(lambda: told("Infeasible"), what="the resize is told to be infeasible")
    gone = {"$patch": "delete", "type": "PodResizePending"}
    await edit(federation.physical[0], twins["resize"], {"status": {"conditions": [gone]}}, subresource="status")
    await eventually(lambda: told(None), what="and no more")
    await asyncio.sleep(REST)
    # The kubelet's word may have come between the two writes of a push: then the second was a Conflict, and is repeated.
    done = [write for write in below.ours() if write.code != 409]
    written = [f"{write.verb} {write.resource}" for write in done if write.name == name_of(twins["resize"])]
    assert written == ["patch pods/resize", "patch pods"]
    for name in ("image", "deadline", "labels", "tolerations"):
        written = [str(write) for write in done if write.name == name_of(twins[name])]
        assert len(written) == 1, written
    assert {write.name for write in above.ours() if write.namespace == namespace} == {"resize"}, "only what its kubelet said"


async def test_a_resize_beyond_the_lease_waits_and_says_why(federation: Federation, namespace: str) -> None:
    """Both API servers take it, and a kubelet would look at its machine only: nobody but us knows what is leased."""
    lender = await federation.lend(played=False, policy={"resourceLimits": [{"resource": "cpu", "quantity": "2"}]})
    web, below = (namespace, "web"), federation.physical[0]
    async with played(federation, lender, namespace) as kubelet:
        twin = await start(federation, lender, kubelet, namespace, "web")

        async def asks_below() -> str:
            live = await below.get(PODS, name_of(twin), namespace_of(twin))
            return str(live["spec"]["containers"][0]["resources"]["requests"]["cpu"])

        async def updated() -> Json:
            return condition(await federation.virtual.get(PODS, *reversed(web)), "PhysicalPodUpdated")

        await edit(federation.virtual, web, sizes("3"), subresource="resize")

        async def told() -> bool:
            assert (await updated()).get("reason") == "BeyondLease", await updated()
            return "cpu: 3 requested, 2 leased" in (await updated())["message"]

        await eventually(told, what="the virtual Pod is told what it waits for")
        assert await asks_below() == "100m"
        await edit(federation.virtual, web, sizes("200m"), subresource="resize")

        async def fits() -> bool:
            return await asks_below() == "200m" and not await updated()

        await eventually(fits, what="what fits arrives at once")


async def test_what_the_physical_cluster_refuses_is_told_in_its_words_and_heals_with_the_next_change(
    federation: Federation, lender: Lender, namespace: str, kubelet: Kubelet, sandbox: Sandbox
) -> None:
    twin = await start(federation, lender, kubelet, namespace, "web")
    limit = {"type": "Container", "max": {"cpu": "1"}}
    await federation.physical[0].create(LIMITRANGES, {
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "strict", "namespace": lender.mount_namespace},
        "spec": {"limits": [limit]},
    })
    below = AuditLog(sandbox.physical[0])
    try:
        await edit(federation.virtual, (namespace, "web"), sizes("2"), subresource="resize")
        await edit(federation.virtual, (namespace, "web"), {"metadata": {"labels": {"tier": "gold"}}})

        async def refused() -> bool:
            pod = await federation.virtual.get(PODS, "web", namespace)
            updated = condition(pod, "PhysicalPodUpdated")
            assert updated.get("status") == "False", pod["status"]
            assert updated["reason"] == "PhysicalPodUpdateRefused"
            assert "cpu" in updated["message"]
            now = await federation.physical[0].get(PODS, name_of(twin), namespace_of(twin))
            return labels_of(now).get("tier") == "gold"

        await eventually(refused, what="the refusal is told, and what is not refused is done")
        await steadily(refused, during=REST, what="it stays told")
        tries = [write for write in below.ours() if write.name == name_of(twin) and write.resource == "pods/resize"]
        assert len(tries) <= 2, "asked again and again"
        # Within the limit, now that the user knows it.
        await federation.physical[0].delete(
            LIMITRANGES, "strict", lender.mount_namespace,
            uid=uid_of(await federation.physical[0].get(LIMITRANGES, "strict", lender.mount_namespace)),
        )
        await edit(federation.virtual, (namespace, "web"), sizes("500m"), subresource="resize")

        async def healed() -> bool:
            pod = await federation.virtual.get(PODS, "web", namespace)
            assert not condition(pod, "PhysicalPodUpdated"), pod["status"]["conditions"]
            now = await federation.physical[0].get(PODS, name_of(twin), namespace_of(twin))
            return bool(now["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "500m")

        await eventually(healed, what="the next change heals it")
    finally:
        await discard(federation.physical[0], LIMITRANGES, "strict", lender.mount_namespace)


CONTESTED = tuple(f"example.com/{number}" for number in range(6))
USERS = tuple(f"example.com/user-{number}" for number in range(3))  # nobody else writes these
KEYS = CONTESTED + USERS


class Writer:
    """Somebody who edits one Pod, as fast as the server takes it; `word` and `image` are what he set last.

    He writes labels and annotations; keys in `removes` he also takes off, and with `images` he changes the image, too.
    """

    def __init__(
        self, client: Client, pod: tuple[str, str], keys: tuple[str, ...], removes: tuple[str, ...], *, images: bool = False
    ) -> None:
        self._client, self._pod, self._keys, self._removes, self._images = client, pod, keys, removes, images
        self.word: dict[tuple[str, str], str | None] = {}
        self.image = ""

    async def write(self, times: int, seed: int) -> None:
        dice = random.Random(seed)
        for number in range(times):
            kind, key = dice.choice(("labels", "annotations")), dice.choice(self._keys)
            value = None if key in self._removes and dice.random() < 0.3 else f"{self._client.cluster}-{number}"
            with suppress(Conflict):
                await edit(self._client, self._pod, {"metadata": {kind: {key: value}}})
                self.word[kind, key] = value
                if self._images and number % 4 == 0:
                    image = f"busybox:{number}"
                    await edit(self._client, self._pod, {"spec": {"containers": [{"name": "main", "image": image}]}})
                    self.image = image
            await asyncio.sleep(dice.random() * 0.03)


async def keep_saying(kubelet: Kubelet, twin: Json) -> None:
    """Write status after status, as a kubelet does whose container keeps ending."""
    (container,) = running_status()["containerStatuses"]
    for count in range(15):
        await kubelet.says(twin, **{**running_status(), "containerStatuses": [{**container, "restartCount": count}]})
        await asyncio.sleep(0.05)


async def test_both_sides_written_at_once_agree_in_the_end_and_no_edit_of_the_user_is_lost(
    federation: Federation, lender: Lender, namespace: str, kubelet: Kubelet, sandbox: Sandbox
) -> None:
    pods = ["web-1", "web-2"]
    twins = await asyncio.gather(*(start(federation, lender, kubelet, namespace, name) for name in pods))
    users = [Writer(federation.virtual, (namespace, name), KEYS, USERS, images=True) for name in pods]
    tools = [
        Writer(federation.physical[0], (namespace_of(twin), name_of(twin)), CONTESTED, CONTESTED) for twin in twins
    ]
    await asyncio.gather(
        *(writer.write(40, seed) for seed, writer in enumerate((*users, *tools))),
        *(keep_saying(kubelet, twin) for twin in twins),
    )

    async def agree() -> bool:
        for name, twin, user in zip(pods, twins, users, strict=True):
            vpod = await federation.virtual.get(PODS, name, namespace)
            ppod = await federation.physical[0].get(PODS, name_of(twin), namespace_of(twin))
            for kind in ("labels", "annotations"):
                up, down = (({key: pod["metadata"][kind].get(key) for key in KEYS}) for pod in (vpod, ppod))
                assert up == down, f"{kind} of {name}: {up} above, {down} below"
                lost = {key: up[key] for key in KEYS if (kind, key) in user.word and up[key] != user.word[kind, key]}
                assert not lost, f"{kind} of {name}: {lost} instead of {user.word}"
            images = [pod["spec"]["containers"][0]["image"] for pod in (vpod, ppod)]
            assert images == [user.image] * 2, f"images of {name}: {images} instead of {user.image}"
            restarts = [pod["status"]["containerStatuses"][0]["restartCount"] for pod in (vpod, ppod)]
            assert restarts == [14, 14], f"restarts of {name}: {restarts}"
        return True

    await eventually(agree, within=20, what="both sides agree, on the user's words")
    above, below = AuditLog(sandbox.virtual), AuditLog(sandbox.physical[0])
    await steadily(agree, during=REST, what="they go on agreeing")
    ours = [write for log in (above, below) for write in log.ours() if write.name in {*pods, *map(name_of, twins)}]
    assert not ours, [str(write) for write in ours]


async def test_an_evicted_twin_and_a_job_whose_twins_are_collected_tell_the_truth(
    federation: Federation, lender: Lender, namespace: str, kubelet: Kubelet
) -> None:
    physical = federation.physical[0]
    evicted = await start(federation, lender, kubelet, namespace, "evicted")
    await federation.virtual.create(JOBS, {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job", "namespace": namespace},
        "spec": {"template": {"spec": build_pod_spec(lender, restartPolicy="Never", automountServiceAccountToken=False)}},
    })

    async def of_the_job() -> Json | None:
        pods = (await federation.virtual.list(PODS, namespace, label_selector="job-name=job")).items
        return pods[0] if pods else None

    worker = await eventually(of_the_job, what="the Job's Pod")
    twin = await run_twin(federation, lender, kubelet, namespace, name_of(worker))
    assert "batch.kubernetes.io/job-tracking" in worker["metadata"]["finalizers"]
    assert "finalizers" not in twin["metadata"]
    # It ends, and in the same moment the lender's clean-up takes it away.
    ended = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    await kubelet.says(twin, phase="Succeeded", containerStatuses=[
        {"name": "main", "image": "busybox", "imageID": "", "ready": False, "restartCount": 0, "state": ended}
    ])
    await kubelet.confirm_end(twin)
    await physical.create(PODS, {
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": name_of(evicted), "namespace": namespace_of(evicted)},
    }, subresource="eviction", name=name_of(evicted))
    await kubelet.confirm_end(evicted)

    async def told() -> bool:
        pod = await federation.virtual.get(PODS, "evicted", namespace)
        assert pod["status"]["phase"] == "Failed", pod["status"]
        assert pod["status"]["reason"] == "Evicted", pod["status"]
        assert "EvictionByEvictionAPI" in pod["status"]["message"]
        assert condition(pod, "DisruptionTarget")["status"] == "True"
        job = await federation.virtual.get(JOBS, "job", namespace)
        return bool(job["status"].get("succeeded") == 1)

    await eventually(told, within=15, what="the eviction, and the Job's success")

    async def let_go() -> Json:
        pod = await of_the_job()
        assert pod is not None
        assert not pod["metadata"].get("finalizers")
        assert await find(physical, PODS, name_of(twin), namespace_of(twin)) is None
        return pod

    worker = await eventually(let_go, what="its tracking finalizer is gone")
    assert worker["status"]["phase"] == "Succeeded"
    assert worker["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"
    await discard(federation.virtual, JOBS, "job", namespace)
