"""What gets no twin says why, on the Pod and in an Event, and never resists its deletion."""

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from kubeocean.kube.meta import Json, name_of
from kubeocean.kube.resources import EVENTS, PODS, Resource
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
)
from tests.integration.programs import Program

DAEMONSETS = Resource("apps", "v1", "daemonsets", "DaemonSet", True)
PRIVILEGED: Json = {
    "containers": [{"name": "main", "image": "busybox", "securityContext": {"privileged": True}}],
    "volumes": [{"name": "root", "hostPath": {"path": "/"}}],
}


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    with for_a_module(sandbox, lambda federation: federation.lend()) as lender:
        yield lender


@pytest.fixture(scope="module")
def trusting(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    """A binding that lets privileged Pods and DaemonSets in."""
    async def lend(federation: Federation) -> Lender:
        return await federation.lend(cluster=1, allowPrivileged=True, runningDaemonsetByDefault=True)

    with for_a_module(sandbox, lend) as lender:
        yield lender


@pytest.fixture
async def system_pod(federation: Federation) -> AsyncIterator[str]:
    """The name of a Pod of kube-system, removed in the end."""
    name = f"test-{uuid.uuid4().hex[:6]}"
    yield name
    await discard(federation.virtual, PODS, name, "kube-system", grace_seconds=0)


async def refused(federation: Federation, lender: Lender, name: str, namespace: str) -> Json:
    """Wait until the Pod says why it has no twin, there and in an Event; return the condition."""
    async def told() -> Json:
        said = condition(await federation.virtual.get(PODS, name, namespace), "PhysicalPodCreated")
        assert said.get("status") == "False", f"condition PhysicalPodCreated is {said}"
        events = (await federation.virtual.list(EVENTS, namespace, field_selector=f"involvedObject.name={name}")).items
        assert said["reason"] in {event["reason"] for event in events}, f"Events: {[each['reason'] for each in events]}"
        return said

    said: Json = await eventually(told, within=15, what=f"{name} says why it does not run")
    vpod = await federation.virtual.get(PODS, name, namespace)
    assert await federation.twin(lender, vpod) is None
    return said


async def goes_at_once(federation: Federation, name: str, namespace: str) -> None:
    """Delete a Pod as users do, with its 30 s of grace; it must not take them."""
    await discard(federation.virtual, PODS, name, namespace)

    async def gone() -> bool:
        return await find(federation.virtual, PODS, name, namespace) is None

    await eventually(gone, within=3, what=f"{name} is gone")


async def test_a_pod_of_an_excluded_namespace(federation: Federation, lender: Lender, system_pod: str) -> None:
    await federation.virtual.create(PODS, build_pod(system_pod, "kube-system", lender))
    said = await refused(federation, lender, system_pod, "kube-system")
    assert said["reason"] == "NamespaceExcluded"
    await goes_at_once(federation, system_pod, "kube-system")


async def test_a_pod_that_could_harm_the_lender(federation: Federation, lender: Lender, namespace: str) -> None:
    await federation.virtual.create(PODS, build_pod("root", namespace, lender, **PRIVILEGED))
    said = await refused(federation, lender, "root", namespace)
    assert said["reason"] == "PodSecurityViolation"
    for part in ("privileged", "hostPath", "allowPrivileged"):
        assert part in said["message"]
    await goes_at_once(federation, "root", namespace)


async def test_the_same_pod_runs_where_the_binding_allows_it(
    federation: Federation, trusting: Lender, namespace: str
) -> None:
    await federation.virtual.create(PODS, build_pod("root", namespace, trusting, **PRIVILEGED))
    (vpod,) = await federation.running(namespace, "root")
    twin = await federation.twin(trusting, vpod)
    assert twin is not None
    assert twin["spec"]["containers"][0]["securityContext"] == {"privileged": True}


def uses(kind: str) -> Json:
    container: Json = {"name": "main", "image": "busybox"}
    match kind:
        case "ConfigMap":
            return {"containers": [container | {"envFrom": [{"configMapRef": {"name": "settings"}}]}]}
        case "Secret":
            return {"containers": [container], "volumes": [{"name": "v", "secret": {"secretName": "settings"}}]}
        case _:
            claim = {"persistentVolumeClaim": {"claimName": "settings"}}
            return {"containers": [container], "volumes": [{"name": "v", **claim}]}


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
async def test_a_pod_that_needs_what_is_not_carried_over(
    federation: Federation, lender: Lender, namespace: str, kind: str
) -> None:
    await federation.virtual.create(PODS, build_pod("needy", namespace, lender, **uses(kind)))
    said = await refused(federation, lender, "needy", namespace)
    assert kind in said["message"]
    assert "settings" in said["message"]
    await goes_at_once(federation, "needy", namespace)


def daemonset(namespace: str, lender: Lender, annotations: dict[str, str]) -> Json:
    labels = {"app": "agent"}
    return {
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent", "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": build_pod_spec(lender)},
        },
    }


async def the_only_pod(federation: Federation, namespace: str) -> str:
    async def there() -> str:
        pods = (await federation.virtual.list(PODS, namespace)).items
        return name_of(pods[0]) if pods else ""

    return str(await eventually(there, what="a Pod of the DaemonSet"))


async def test_a_daemonsets_pod_unless_its_annotation_says_otherwise(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    await federation.virtual.create(DAEMONSETS, daemonset(namespace, lender, {}))
    name = await the_only_pod(federation, namespace)
    said = await refused(federation, lender, name, namespace)
    assert said["reason"] == "DaemonSetNotAllowed"
    assert "kubeocean.io/running-daemonset" in said["message"]
    annotation: Any = {"metadata": {"annotations": {"kubeocean.io/running-daemonset": "true"}}}
    await federation.virtual.patch(DAEMONSETS, "agent", namespace, {"spec": {"template": annotation}})

    async def replaced() -> bool:
        return await the_only_pod(federation, namespace) != name

    await eventually(replaced, within=15, what="the DaemonSet replaces its refused Pod")
    await federation.running(namespace, await the_only_pod(federation, namespace))


async def test_daemonsets_run_where_the_binding_says_so(
    federation: Federation, trusting: Lender, namespace: str
) -> None:
    await federation.virtual.create(DAEMONSETS, daemonset(namespace, trusting, {}))
    await federation.running(namespace, await the_only_pod(federation, namespace))
