"""Whether a binding is looked at, and where: what its syncer serves is what counts."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Self, cast

import pytest

from kubeocean.api import names
from kubeocean.api.zone import UNKNOWN_ZONE
from kubeocean.checks import opening
from kubeocean.checks.opening import open_sides, read_spec
from kubeocean.domain.ownership import Owner, build_namespace
from kubeocean.kube.client import Client
from kubeocean.kube.errors import ConfigError
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import NAMESPACES, PERSISTENTVOLUMECLAIMS, PODS, Resource
from tests.unit.syncer.world import Server

OWNER = Owner("uid-namespaces-kube-system", "edge")
SPEC: Json = {"clusterID": "edge", "secretRef": {"name": "s", "namespace": "s"}, "mountNamespace": "now"}


class Cluster(Server):
    """A cluster that is opened like a Client."""

    def __init__(self) -> None:
        super().__init__(lambda: datetime(2026, 1, 1, tzinfo=UTC))
        self.put(NAMESPACES, {"metadata": {"name": "kube-system"}})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


def binding(name: str, day: int, *, spec: Json = SPEC, finalizers: tuple[str, ...] = (), uid: str = "") -> Json:
    created = f"2026-01-{day:02}T00:00:00Z"
    status = {"physicalClusterUID": uid} if uid else {}
    metadata = {"name": name, "uid": f"u-{name}", "creationTimestamp": created, "finalizers": list(finalizers)}
    return {"metadata": metadata, "spec": spec, "status": status}


@pytest.fixture
async def opened(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Return the physical cluster that every kubeconfig leads to."""
    cluster = Cluster()

    async def any_kubeconfig(*_: object, **__: object) -> None:
        pass

    monkeypatch.setattr(opening, "read_kubeconfig", any_kubeconfig)
    monkeypatch.setattr(opening, "Client", cast(Callable[..., Client], lambda *_, **__: cluster))
    return cluster


async def looked_into(of: Json, bindings: list[Json]) -> str:
    async with open_sides(cast(Client, Cluster()), of, bindings) as sides:
        return sides.mount_namespace


async def test_a_binding_whose_clusterid_an_older_one_has_is_refused_and_the_older_one_is_opened(opened: Cluster) -> None:
    older, newer = binding("zebra", 1), binding("ant", 2)
    with pytest.raises(ConfigError) as refused:
        await looked_into(newer, [newer, older])
    for text in ("ClusterBinding ant", "older ClusterBinding zebra", "'edge'", "delete ant"):
        assert text in str(refused.value)
    assert await looked_into(older, [newer, older]) == "now"


async def test_of_two_of_one_age_the_one_that_was_connected_is_opened(opened: Cluster) -> None:
    first, second = binding("b", 1, uid="uid-namespaces-kube-system"), binding("a", 1)
    with pytest.raises(ConfigError, match="older ClusterBinding b"):
        await looked_into(second, [first, second])
    assert await looked_into(first, [first, second]) == "now"


HOLDS: dict[str, tuple[dict[str, list[Resource]], str]] = {
    "the spec's, where nothing is claimed yet": ({}, "now"),
    "the spec's, when an earlier one is claimed still and empty": ({"before": []}, "now"),
    "an earlier one that Pods live in": ({"before": [PODS]}, "before"),
    "an earlier one that holds claims only": ({"before": [PERSISTENTVOLUMECLAIMS]}, "before"),
    "of several that are claimed the one with Pods": ({"first": [], "now": [], "second": [PODS]}, "second"),
}


@pytest.mark.parametrize(("claimed", "expected"), HOLDS.values(), ids=HOLDS)
async def test_looked_into_is_the_namespace_that_the_syncer_serves(
    opened: Cluster, claimed: dict[str, list[Resource]], expected: str
) -> None:
    for namespace, resources in claimed.items():
        opened.put(NAMESPACES, build_namespace(namespace, OWNER))
        for resource in resources:
            opened.put(resource, {"metadata": {
                "name": "twin", "namespace": namespace, "labels": OWNER.labels(), "annotations": OWNER.annotations(),
            }})
    of = binding("b", 1)
    assert await looked_into(of, [of]) == expected


def test_a_binding_that_is_served_on_with_an_unknown_zone_is_read_as_its_syncer_reads_it() -> None:
    edited: dict[str, Any] = {"spec": {**SPEC, "timeZone": "Mars"}}
    served = binding("b", 1, finalizers=(names.BINDING_SYNCER_FINALIZER,), **edited)
    assert read_spec(served).time_zone == UNKNOWN_ZONE
    with pytest.raises(ConfigError, match="is not valid"):
        read_spec(binding("b", 1, **edited))
    with pytest.raises(ConfigError, match="is not valid"):
        read_spec({**served, "spec": {**SPEC, "mountNamespace": "Not valid!"}})
