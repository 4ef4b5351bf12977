"""The mountNamespace: what keeps it alive, and which one is served when the spec names another."""

from typing import cast

import pytest

from kubeocean.clusters.mountuse import namespace_in_use
from kubeocean.domain.ownership import Owner, build_namespace
from kubeocean.kube.client import Client, Listing
from kubeocean.kube.errors import Conflict, Forbidden
from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.kube.resources import (
    CONFIGMAPS,
    CRONJOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    JOBS,
    NAMESPACES,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    SECRETS,
    SERVICES,
    STATEFULSETS,
    Resource,
)
from kubeocean.syncer.mount import delete_ours, leave_earlier_namespaces, release_namespace
from tests.unit.syncer.world import Server, World

pytestmark = pytest.mark.looptime
OWNER = Owner("virtual-uid", "edge")
CLAIMED_BY = "kubeocean.io/claimed-by"


class Lender(Server):
    """A physical cluster in which some kinds may not be looked at."""

    def __init__(self) -> None:
        super().__init__(World().now)
        self.hidden: set[str] = set()
        self.claim("mount")

    @property
    def client(self) -> Client:
        return cast(Client, self)

    def claim(self, name: str) -> None:
        self.put(NAMESPACES, build_namespace(name, OWNER))
        self.put(CONFIGMAPS, {"metadata": {"name": "kube-root-ca.crt", "namespace": name}})

    async def list(self, resource: Resource, namespace: str = "", *, label_selector: str = "") -> Listing:
        if resource.plural in self.hidden:
            raise Forbidden(f"list {resource.plural}", status=403)
        return await super().list(resource, namespace, label_selector=label_selector)

    def add_ours(self, resource: Resource, name: str, namespace: str) -> None:
        self.put(resource, {
            "metadata": {"name": name, "namespace": namespace, "labels": OWNER.labels(), "annotations": OWNER.annotations()},
        })

    def namespace(self, name: str = "mount") -> Json | None:
        return self.objects.get(("namespaces", ObjectKey("", name)))


@pytest.fixture
async def lender() -> Lender:
    return Lender()


async def test_an_empty_namespace_that_we_made_is_deleted(lender: Lender) -> None:
    await release_namespace(lender.client, "mount", OWNER)
    namespace = lender.namespace()
    assert namespace is None or "deletionTimestamp" in namespace["metadata"]


LENDERS_OWN = (
    PODS, SECRETS, CONFIGMAPS, PERSISTENTVOLUMECLAIMS, SERVICES, DEPLOYMENTS, STATEFULSETS, DAEMONSETS, JOBS, CRONJOBS,
)


@pytest.mark.parametrize("resource", LENDERS_OWN, ids=lambda resource: resource.plural)
async def test_what_the_lender_put_into_a_namespace_we_made_keeps_it(resource: Resource, lender: Lender) -> None:
    lender.put(resource, {"metadata": {"name": "theirs", "namespace": "mount"}})
    await release_namespace(lender.client, "mount", OWNER)
    namespace = lender.namespace()
    assert namespace is not None
    assert "deletionTimestamp" not in namespace["metadata"]
    assert "kubeocean" not in str(namespace["metadata"].get("annotations", {}))


async def test_what_we_may_not_look_at_keeps_it_too(lender: Lender) -> None:
    lender.hidden.add("persistentvolumeclaims")
    await release_namespace(lender.client, "mount", OWNER)
    namespace = lender.namespace()
    assert namespace is not None
    assert "deletionTimestamp" not in namespace["metadata"]
    assert CLAIMED_BY not in (namespace["metadata"].get("annotations") or {})


async def test_a_namespace_that_changed_since_we_looked_is_not_deleted(lender: Lender) -> None:
    look = lender.list

    async def look_slowly(resource: Resource, namespace: str = "", *, label_selector: str = "") -> Listing:
        found = await look(resource, namespace, label_selector=label_selector)
        if resource == CRONJOBS:
            lender.put(NAMESPACES, {**build_namespace("mount", OWNER), "spec": {"finalizers": ["kubernetes"]}})
        return found

    lender.list = look_slowly  # type: ignore[method-assign]  # somebody comes between look and deletion
    with pytest.raises(Conflict):
        await release_namespace(lender.client, "mount", OWNER)
    assert lender.namespace() is not None


async def test_the_namespace_with_twins_in_it_is_served_until_they_are_gone(lender: Lender) -> None:
    assert await namespace_in_use(lender.client, "other", OWNER) == "other"
    lender.add_ours(PODS, "twin", "mount")
    assert await namespace_in_use(lender.client, "other", OWNER) == "mount"
    await leave_earlier_namespaces(lender.client, "other", OWNER)
    namespace = lender.namespace()
    assert namespace is not None
    assert CLAIMED_BY in namespace["metadata"]["annotations"]


async def test_an_earlier_namespace_is_left_without_our_secrets(lender: Lender) -> None:
    lender.add_ours(SECRETS, "token", "mount")
    lender.put(SECRETS, {"metadata": {"name": "theirs", "namespace": "mount"}})
    await leave_earlier_namespaces(lender.client, "other", OWNER)
    assert [key.name for plural, key in lender.objects if plural == "secrets"] == ["theirs"]
    namespace = lender.namespace()
    assert namespace is not None
    assert CLAIMED_BY not in (namespace["metadata"].get("annotations") or {})


async def test_rights_that_were_taken_back_do_not_keep_us_from_moving(lender: Lender) -> None:
    lender.hidden.add("secrets")
    await leave_earlier_namespaces(lender.client, "other", OWNER)


async def test_what_is_terminating_is_not_asked_to_go_again(lender: Lender) -> None:
    lender.grace = 60.0
    lender.add_ours(PODS, "twin", "mount")
    assert await delete_ours(lender.client, PODS, "mount", OWNER)
    assert await delete_ours(lender.client, PODS, "mount", OWNER)
    assert lender.writes.count("delete pods") == 1
