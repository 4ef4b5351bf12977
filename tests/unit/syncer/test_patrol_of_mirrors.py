"""Somebody of us sleeps through an event: what it should have woken is found by the patrol and mended by whose it is."""

import asyncio
from collections.abc import Callable

import pytest

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.domain.naming import physical_name
from kubeocean.kube.meta import Json, ObjectKey, labels_of
from kubeocean.kube.patch import apply_merge
from kubeocean.kube.resources import ENDPOINTSLICES, NAMESPACES, NETWORKPOLICIES, NODES, SERVICES, Resource
from kubeocean.syncer.bottomup.nodes import NodeController
from kubeocean.syncer.patrol import EVERY, SETTLES
from kubeocean.syncer.topdown.netpolicies import NetworkPolicyMirror
from kubeocean.syncer.topdown.services import ServiceMirror
from tests.unit.syncer.lives import BINDING, GLANCE, Stage
from tests.unit.syncer.world import Server

pytestmark = pytest.mark.looptime
VNODE = "vnode-edge-node-1"


def begin(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Return a stage with a Service, its endpoints and a network policy, and a Pod that both are for."""
    stage = Stage(0, monkeypatch)
    stage.virtual.put(CLUSTERBINDINGS, {**BINDING, "spec": {**BINDING["spec"], "serviceNamespaces": ["ns"]}})
    stage.virtual.put(NAMESPACES, {"metadata": {"name": "ns"}})
    place = {"name": "web", "namespace": "ns"}
    stage.virtual.put(SERVICES, {"metadata": place, "spec": {"clusterIP": "10.0.0.7", "ports": [{"port": 80}]}})
    stage.virtual.put(ENDPOINTSLICES, {
        "metadata": {**place, "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.1.1"]}], "ports": [],
    })
    stage.virtual.put(NETWORKPOLICIES, {"metadata": place, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}})
    return stage


def spoil(stage: Stage, resource: Resource, patch: Json) -> None:
    found = copy_of(stage.physical, resource)
    stage.physical.put(resource, apply_merge(found, patch))


def copy_of(server: Server, resource: Resource) -> Json:
    return server.find(resource, physical_name("web", "ns"), "mount")


SPOILT: dict[str, tuple[type, str, Resource, Json]] = {
    "a Service": (ServiceMirror, "_copy_changed", SERVICES, {"spec": {"sessionAffinity": "ClientIP"}}),
    "endpoints": (ServiceMirror, "_slice_copy_changed", ENDPOINTSLICES, {"endpoints": []}),
    "a network policy": (NetworkPolicyMirror, "_copy_changed", NETWORKPOLICIES, {"spec": {"policyTypes": ["Egress"]}}),
}


def deaf(monkeypatch: pytest.MonkeyPatch, part: type, handler: str) -> None:
    monkeypatch.setattr(part, handler, lambda *_: None)


async def until_mended(agrees: Callable[[], bool]) -> None:
    await asyncio.sleep(GLANCE)
    assert not agrees(), "who was not woken did not look"
    await asyncio.sleep(EVERY + SETTLES + GLANCE)
    assert agrees()


@pytest.mark.parametrize("sentence", SPOILT)
async def test_a_copy_that_nobody_was_woken_for_is_mended(monkeypatch: pytest.MonkeyPatch, sentence: str) -> None:
    part, handler, resource, patch = SPOILT[sentence]
    stage = begin(monkeypatch)
    async with stage.life():
        await stage.user("web-0", 0.2, None)
        await stage.rest(GLANCE)
        meant = copy_of(stage.physical, resource)
    deaf(monkeypatch, part, handler)
    async with stage.life():
        await stage.rest(GLANCE)
        spoil(stage, resource, patch)
        content = "endpoints" if resource == ENDPOINTSLICES else "spec"
        await until_mended(lambda: copy_of(stage.physical, resource)[content] == meant[content])


async def test_a_virtual_node_that_nobody_was_woken_for_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = begin(monkeypatch)
    async with stage.life():
        await stage.rest(GLANCE)
    deaf(monkeypatch, NodeController, "_virtual_node_changed")
    async with stage.life():
        await stage.rest(GLANCE)
        node = stage.virtual.find(NODES, VNODE)
        stage.virtual.put(NODES, apply_merge(node, {"status": {"allocatable": {"cpu": "800"}}}))
        await until_mended(lambda: stage.virtual.find(NODES, VNODE)["status"]["allocatable"] == node["status"]["allocatable"])


async def test_where_all_agrees_two_rounds_write_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = begin(monkeypatch)
    async with stage.life():
        await stage.user("web-0", 0.2, None)
        await stage.rest(GLANCE)
        before = stage.writes()
        await asyncio.sleep(2 * EVERY + SETTLES)
        assert stage.writes() == before
    assert labels_of(copy_of(stage.physical, SERVICES)), "there was something to compare"
    assert ("nodes", ObjectKey("", VNODE)) in stage.virtual.objects
