"""One Pod, one twin, told apart by uid: namesakes, orphans, lost twins and twins that are collected after their work."""

import uuid
from collections.abc import Iterator

import pytest

from kubeocean.kube.meta import Json, annotations_of, is_deleting, labels_of, name_of, namespace_of, uid_of
from kubeocean.kube.resources import DEPLOYMENTS, PODS, Resource
from kubeocean.sandbox.sandbox import Sandbox
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
    is_running,
    steadily,
    twin_name,
)
from tests.integration.programs import Program

STATEFULSETS = Resource("apps", "v1", "statefulsets", "StatefulSet", True)
LABELS = {"app": "web"}


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    with for_a_module(sandbox, lambda federation: federation.lend(nodes=2)) as lender:
        yield lender


def workload(kind: str, namespace: str, lender: Lender, **spec: object) -> Json:
    return {
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": LABELS}, **spec,
            "template": {"metadata": {"labels": LABELS}, "spec": build_pod_spec(lender)},
        },
    }


async def run(federation: Federation, lender: Lender, pod: Json) -> tuple[Json, Json]:
    await federation.virtual.create(PODS, pod)
    (vpod,) = await federation.running(namespace_of(pod), name_of(pod))
    twin = await federation.twin(lender, vpod)
    assert twin is not None
    return vpod, twin


async def test_a_statefulset_pod_made_anew_gets_a_twin_of_its_own(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    await federation.virtual.create(STATEFULSETS, workload("StatefulSet", namespace, lender, replicas=1, serviceName="web"))

    async def runs() -> Json | None:
        pod = await find(federation.virtual, PODS, "web-0", namespace)
        return pod if pod and is_running(pod) else None

    seen: list[tuple[str, str]] = []
    for grace in (0, None, 0):  # by force: the namesake is born while the old twin still lives
        vpod = await eventually(runs, within=20, what="web-0 runs")
        twin = await federation.twin(lender, vpod)
        assert twin is not None
        assert annotations_of(twin)["kubeocean.io/virtual-pod-uid"] == uid_of(vpod)
        assert annotations_of(vpod)["kubeocean.io/physical-pod-uid"] == uid_of(twin)
        seen.append((uid_of(vpod), uid_of(twin)))
        await discard(federation.virtual, PODS, "web-0", namespace, grace_seconds=grace)

        async def replaced(old: str = uid_of(vpod)) -> bool:
            pod = await find(federation.virtual, PODS, "web-0", namespace)
            return pod is not None and uid_of(pod) != old

        await eventually(replaced, within=20, what="the StatefulSet makes a namesake")
    vpod = await eventually(runs, within=20, what="the last web-0 runs")
    twin = await federation.twin(lender, vpod)
    assert twin is not None
    assert annotations_of(twin)["kubeocean.io/virtual-pod-uid"] == uid_of(vpod)
    assert len({uid for pair in seen for uid in pair}) == 6
    assert [name_of(each) for each in await federation.twins(lender)].count(name_of(twin)) == 1


async def test_a_twin_deleted_by_hand_means_lost_and_the_deployment_replaces_it(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    await federation.virtual.create(DEPLOYMENTS, workload("Deployment", namespace, lender, replicas=2))

    async def two_run() -> list[Json]:
        running = [pod for pod in (await federation.virtual.list(PODS, namespace)).items if is_running(pod)]
        assert len(running) == 2, f"{len(running)} run"
        return running

    victim, other = await eventually(two_run, within=20, what="two replicas run")
    twin = await federation.twin(lender, victim)
    assert twin is not None
    await discard(federation.physical[0], PODS, name_of(twin), lender.mount_namespace)

    async def lost() -> Json:
        pod = await federation.virtual.get(PODS, name_of(victim), namespace)
        assert pod["status"]["phase"] == "Failed", pod["status"]
        return pod

    pod = await eventually(lost, what="the Pod has failed")
    assert pod["status"]["reason"] == "PhysicalPodLost"
    assert pod["status"]["message"]
    assert condition(pod, "Ready")["status"] == "False"
    assert "running" not in str(pod["status"]["containerStatuses"]), "no container is said to run"
    names = {name_of(each) for each in await eventually(two_run, within=20, what="two replicas run again")}
    assert name_of(other) in names
    assert name_of(victim) not in names

    async def no_second_twin() -> bool:
        return await federation.twin(lender, victim) is None

    await steadily(no_second_twin, during=0.5, what="a lost Pod gets no second twin")


async def test_a_succeeded_pod_stays_succeeded_when_its_twin_is_collected(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    vpod, twin = await run(federation, lender, build_pod("job", namespace, lender, restartPolicy="Never"))
    await federation.physical[0].patch(
        PODS, name_of(twin), lender.mount_namespace, {"status": {"phase": "Succeeded"}}, subresource="status"
    )

    async def succeeded() -> bool:
        pod = await federation.virtual.get(PODS, "job", namespace)
        assert pod["status"]["phase"] == "Succeeded", pod["status"]
        return uid_of(pod) == uid_of(vpod)

    await eventually(succeeded, what="the Pod has succeeded")
    await discard(federation.physical[0], PODS, name_of(twin), lender.mount_namespace)

    async def collected() -> bool:
        return await federation.twin(lender, vpod) is None

    await eventually(collected, what="the twin is collected")
    await steadily(succeeded, during=1, what="Succeeded")
    await discard(federation.virtual, PODS, "job", namespace)

    async def gone() -> bool:
        return await find(federation.virtual, PODS, "job", namespace) is None

    await eventually(gone, what="and it can be deleted")


def like(twin: Json, name: str, annotations: dict[str, str]) -> Json:
    """Return a Pod that carries our labels, as a twin that nobody claims."""
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": namespace_of(twin), "labels": labels_of(twin), "annotations": annotations,
        },
        "spec": {"nodeName": twin["spec"]["nodeName"], "containers": [{"name": "main", "image": "busybox"}]},
    }


async def test_twins_that_no_virtual_pod_claims_are_removed_and_nobody_elses(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    vpod, twin = await run(federation, lender, build_pod("web", namespace, lender))
    mine = {key: text for key, text in annotations_of(twin).items() if key.startswith("kubeocean.io/")}
    suffix = uuid.uuid4().hex[:6]
    orphan = like(twin, twin_name(f"gone-{suffix}", namespace), mine | {
        "kubeocean.io/virtual-pod-name": f"gone-{suffix}", "kubeocean.io/virtual-pod-uid": str(uuid.uuid4()),
    })
    impostor = like(twin, f"impostor-{suffix}", mine)  # claims the uid, has not the name
    blank = like(twin, f"blank-{suffix}", {})
    foreign = like(twin, f"foreign-{suffix}", mine)
    foreign["metadata"]["labels"] = {"kubeocean.io/managed-by": "kubeocean", "kubeocean.io/owner": "0123456789abcdef"}
    for pod in (orphan, impostor, blank, foreign):
        await federation.physical[0].create(PODS, pod)

    async def removed() -> bool:
        left = {name_of(pod) for pod in await federation.twins(lender) if not is_deleting(pod)}
        unclaimed = left & {name_of(pod) for pod in (orphan, impostor, blank)}
        assert not unclaimed, f"still there: {unclaimed}"
        return True

    try:
        await eventually(removed, within=15, what="orphans are removed")
        left = {name_of(pod) for pod in await federation.twins(lender)}
        assert name_of(foreign) in left, "another owner's Pod was removed"
        now = await federation.twin(lender, vpod)
        assert now is not None
        assert uid_of(now) == uid_of(twin), "the true twin was removed"
    finally:
        for pod in (orphan, impostor, blank, foreign):
            await discard(federation.physical[0], PODS, name_of(pod), lender.mount_namespace)


async def test_a_stranger_under_the_twins_name_is_left_alone_and_the_pod_says_why(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    name = twin_name("web", namespace)
    stranger = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": lender.mount_namespace},
        "spec": {"nodeName": lender.pool.nodes[0], "containers": [{"name": "main", "image": "busybox"}]},
    }
    created = await federation.physical[0].create(PODS, stranger)
    await federation.virtual.create(PODS, build_pod("web", namespace, lender))

    async def told() -> bool:
        pod = await federation.virtual.get(PODS, "web", namespace)
        assert condition(pod, "PhysicalPodCreated").get("reason") == "NameTaken", pod["status"]
        return name in condition(pod, "PhysicalPodCreated")["message"]

    await eventually(told, what="the Pod says who has its name")
    now = await federation.physical[0].get(PODS, name, lender.mount_namespace)
    assert uid_of(now) == uid_of(created)
    assert not is_deleting(now)
    await discard(federation.physical[0], PODS, name, lender.mount_namespace)
    await federation.running(namespace, "web")
