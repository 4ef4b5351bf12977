"""What a server does not keep is no finding; what it would keep, and what it does not let us try, is."""

import copy
from typing import Any

import pytest

from kubeocean.checks.futile import without_futile
from kubeocean.domain.findings import Finding, Kind, Mend, Side, ref_to
from kubeocean.domain.mirrors import Change
from kubeocean.domain.podfindings import check_vpod
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import CONFIGMAPS, NETWORKPOLICIES, PODS, SERVICES, Resource
from tests.unit.checks.test_repairing import SCENE, Clusters
from tests.unit.syncer.world import Server


@pytest.fixture
async def clusters() -> Clusters:
    return Clusters()


def forget(server: Server, monkeypatch: pytest.MonkeyPatch, part: str, field: str) -> None:
    """Make the server one that does not know a field."""
    patch = server.patch

    async def dropping(resource: Resource, name: str, namespace: str, wanted: Json, **named: Any) -> Json:
        wanted = copy.deepcopy(wanted)
        wanted.get(part, {}).pop(field, None)
        return {**await patch(resource, name, namespace, wanted, **named), "metadata": {
            **server.find(resource, name, namespace)["metadata"], "resourceVersion": "x", "managedFields": [{}],
        }}

    monkeypatch.setattr(server, "patch", dropping)


def behind(clusters: Clusters, **status: str) -> Finding:
    twin = clusters.twin
    clusters.twin = clusters.physical.put(PODS, {**twin, "status": {**(twin.get("status") or {}), **status}})
    finding = check_vpod(clusters.vpod, clusters.twin, SCENE)
    assert finding
    assert finding.kind is Kind.STATUS_BEHIND
    return finding


async def test_a_status_that_lacks_only_what_the_server_drops_is_not_behind(
    clusters: Clusters, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = behind(clusters, hostIP="10.0.0.1")
    forget(clusters.virtual, monkeypatch, "status", "hostIP")
    assert await without_futile(clusters.sides, [finding]) == []
    assert clusters.writes == []


async def test_a_status_that_lacks_more_than_that_is_behind(clusters: Clusters, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = behind(clusters, hostIP="10.0.0.1", message="it runs")
    forget(clusters.virtual, monkeypatch, "status", "hostIP")
    assert await without_futile(clusters.sides, [finding]) == [finding]
    assert clusters.writes == []


def changed_mirror(clusters: Clusters, resource: Resource = SERVICES) -> Finding:
    mirror = clusters.physical.put(resource, {"metadata": {"name": "web", "namespace": "lent"}, "spec": {"ports": []}})
    step = Change("web", {
        "metadata": {"resourceVersion": mirror["metadata"]["resourceVersion"]}, "spec": {"trafficDistribution": "PreferClose"},
    }, {})
    about = ref_to(Side.PHYSICAL, resource, mirror)
    return Finding(Kind.DRIFTED_MIRROR, "Differs", about, "c", "r", Mend.STEP, step=step)


async def test_a_mirror_that_lacks_only_what_the_server_drops_is_in_order(
    clusters: Clusters, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = changed_mirror(clusters)
    assert await without_futile(clusters.sides, [finding]) == [finding]
    forget(clusters.physical, monkeypatch, "spec", "trafficDistribution")
    assert await without_futile(clusters.sides, [finding]) == []
    assert clusters.writes == []


async def test_what_may_not_be_tried_or_has_changed_meanwhile_stays_a_finding(
    clusters: Clusters, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = changed_mirror(clusters)
    forget(clusters.physical, monkeypatch, "spec", "trafficDistribution")
    clusters.physical.forbidden.add("patch services")
    assert await without_futile(clusters.sides, [finding]) == [finding]
    clusters.physical.forbidden.clear()
    clusters.physical.put(SERVICES, {"metadata": {"name": "web", "namespace": "lent"}, "spec": {"ports": [{"port": 80}]}})
    assert await without_futile(clusters.sides, [finding]) == [finding]


async def test_what_is_mended_in_another_way_is_not_tried(clusters: Clusters) -> None:
    about = ref_to(Side.PHYSICAL, CONFIGMAPS, {"metadata": {"name": "c", "namespace": "lent", "uid": "u"}})
    finding = Finding(Kind.ORPHAN_COPY, "NotInUse", about, "c", "r", Mend.DELETE)
    assert await without_futile(clusters.sides, [finding]) == [finding]


async def test_a_network_policy_that_a_webhook_rewrites_is_told(clusters: Clusters, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = changed_mirror(clusters, NETWORKPOLICIES)
    forget(clusters.physical, monkeypatch, "spec", "trafficDistribution")
    assert await without_futile(clusters.sides, [finding]) == [finding]
    assert clusters.writes == []
