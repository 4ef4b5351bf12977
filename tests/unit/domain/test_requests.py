"""What a Pod takes, told case by case as the scheduler would reckon it."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.domain.requests import pod_requests, sum_requests
from kubeocean.kube.meta import Json
from kubeocean.kube.quantity import Quantity


def container(name: str = "app", *, sidecar: bool = False, **requests: str) -> Json:
    made: Json = {"name": name, "resources": {"requests": requests}}
    return {**made, "restartPolicy": "Always"} if sidecar else made


def pod(*containers: Json, init: tuple[Json, ...] = (), status: Json | None = None, **spec: object) -> Json:
    return {"spec": {"containers": list(containers), "initContainers": list(init), **spec}, "status": status or {}}


def running(name: str = "app", *, allocated: str, actual: str) -> Json:
    resources = {"requests": {"cpu": actual}}
    return {"name": name, "allocatedResources": {"cpu": allocated}, "resources": resources}


def pending_resize(reason: str) -> Json:
    return {"type": "PodResizePending", "status": "True", "reason": reason}


GPU: Json = {"name": "app", "resources": {"requests": {"nvidia.com/gpu": "1"}}}

CASES: dict[str, tuple[Json, dict[str, str]]] = {
    "containers add up": (
        pod(container("a", cpu="1", memory="1Gi"), container("b", cpu="500m")), {"cpu": "1500m", "memory": "1Gi"}),
    "a container without requests takes nothing but its place": (pod({"name": "app"}), {}),
    "init containers run one after the other: the largest counts": (
        pod(container(cpu="1"), init=(container("i", cpu="3"), container("j", cpu="2"))), {"cpu": "3"}),
    "a small init container hides behind the app": (
        pod(container(cpu="2"), init=(container("i", cpu="1"),)), {"cpu": "2"}),
    "a sidecar runs beside the app": (
        pod(container(cpu="1"), init=(container("proxy", sidecar=True, cpu="1"),)), {"cpu": "2"}),
    "an init container runs beside the sidecars before it": (
        pod(container(cpu="1"), init=(container("s", sidecar=True, cpu="2"), container("i", cpu="5"))), {"cpu": "7"}),
    "but not beside those after it": (
        pod(container(cpu="1"), init=(container("i", cpu="5"), container("s", sidecar=True, cpu="2"))), {"cpu": "5"}),
    "overhead comes on top": (
        pod(container(cpu="1"), overhead={"cpu": "250m", "memory": "1Mi"}), {"cpu": "1250m", "memory": "1Mi"}),
    "Pod-level requests take the place of the sum": (
        pod(container(cpu="1", memory="1Gi"), resources={"requests": {"cpu": "5"}}, overhead={"cpu": "1"}),
        {"cpu": "6", "memory": "1Gi"}),
    "Pod-level requests know no extended resources": (
        pod(GPU, resources={"requests": {"nvidia.com/gpu": "9", "hugepages-2Mi": "4Mi"}}),
        {"nvidia.com/gpu": "1", "hugepages-2Mi": "4Mi"}),
    "a resize up counts as soon as it is asked for": (
        pod(container(cpu="4"), status={"containerStatuses": [running(allocated="2", actual="1")]}), {"cpu": "4"}),
    "a resize down counts when it has happened": (
        pod(container(cpu="1"), status={"containerStatuses": [running(allocated="1", actual="3")]}), {"cpu": "3"}),
    "what is allocated but not in effect yet counts": (
        pod(container(cpu="1"), status={"containerStatuses": [running(allocated="2", actual="1")]}), {"cpu": "2"}),
    "an infeasible resize counts by what is in effect": (
        pod(container(cpu="64"), status={
            "containerStatuses": [running(allocated="2", actual="2")], "conditions": [pending_resize("Infeasible")]}),
        {"cpu": "2"}),
    "a deferred resize still counts as asked": (
        pod(container(cpu="64"), status={
            "containerStatuses": [running(allocated="2", actual="2")], "conditions": [pending_resize("Deferred")]}),
        {"cpu": "64"}),
    "an older server says infeasible in a field": (
        pod(container(cpu="64"), status={
            "containerStatuses": [running(allocated="2", actual="2")], "resize": "Infeasible"}),
        {"cpu": "2"}),
    "a sidecar can be resized too": (
        pod(container(cpu="1"), init=(container("s", sidecar=True, cpu="1"),), status={
            "initContainerStatuses": [running("s", allocated="3", actual="3")]}),
        {"cpu": "4"}),
    "a status without resources changes nothing": (
        pod(container(cpu="1"), status={"containerStatuses": [{"name": "app", "allocatedResources": {"cpu": "9"}}]}),
        {"cpu": "1"}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_pod_takes(case: str) -> None:
    given_pod, expected = CASES[case]
    before = copy.deepcopy(given_pod)
    assert pod_requests(given_pod) == {name: Quantity.parse(text) for name, text in {**expected, "pods": "1"}.items()}
    assert given_pod == before


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_finished_pod_gives_everything_back_at_once(phase: str) -> None:
    assert pod_requests(pod(container(cpu="4"), status={"phase": phase})) == {}


def test_a_sum_counts_pods_and_names_every_resource() -> None:
    total = sum_requests([pod_requests(pod(container(cpu="1"))), pod_requests(pod(container(memory="1Gi"))), {}])
    assert {name: str(quantity) for name, quantity in total.items()} == {"cpu": "1", "memory": "1Gi", "pods": "2"}


AMOUNTS = st.integers(0, 64).map(str)
CONTAINERS = st.lists(st.tuples(st.booleans(), AMOUNTS), max_size=5)


@given(CONTAINERS, CONTAINERS)
def test_a_pod_takes_what_its_busiest_moment_takes(
    app: list[tuple[bool, str]], init: list[tuple[bool, str]]
) -> None:
    made = pod(
        *(container(f"a{i}", cpu=cpu) for i, (_, cpu) in enumerate(app)),
        init=tuple(container(f"i{i}", sidecar=sidecar, cpu=cpu) for i, (sidecar, cpu) in enumerate(init)),
    )
    sidecars, moments = 0, []
    for sidecar, cpu in init:
        moments.append(sidecars + int(cpu))
        sidecars += int(cpu) if sidecar else 0
    moments.append(sidecars + sum(int(cpu) for _, cpu in app))
    assert pod_requests(made).get("cpu", Quantity(0)) == Quantity.parse(str(max(moments)))
