"""Marks of bindings that are gone come off, and nobody else's, and only while there is no such binding."""

from datetime import UTC, datetime
from typing import cast

import pytest

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.checks.leftovers import look_for_leftovers, take_off
from kubeocean.kube.client import Client, Listing
from kubeocean.kube.errors import Forbidden
from kubeocean.kube.meta import Json, ObjectKey, finalizers_of, labels_of
from kubeocean.kube.resources import CONFIGMAPS, NODES, SECRETS, Resource
from tests.unit.syncer.world import Server as WholeServer

KEY = ObjectKey("shop", "settings")


class Server(WholeServer):
    """Lists metadata alone as well, and not what is `hidden`."""

    hidden: Resource | None = None

    async def list(  # type: ignore[override]  # nothing of ours lists like this but what is tested here
        self, resource: Resource, namespace: str = "", *, metadata_only: bool = False
    ) -> Listing:
        if resource == self.hidden:
            raise Forbidden(f"{resource.plural} is forbidden", status=403)
        return await super().list(resource, namespace)


def binding(cluster_id: str) -> Json:
    return {"metadata": {"name": f"to-{cluster_id}"}, "spec": {"clusterID": cluster_id}}


@pytest.fixture
async def server() -> Server:
    """A virtual cluster with one binding, and an object that it and another one marked."""
    server = Server(lambda: datetime(2026, 1, 1, tzinfo=UTC))
    server.put(CLUSTERBINDINGS, binding("edge"))
    server.put(CONFIGMAPS, {"metadata": {
        "name": KEY.name, "namespace": KEY.namespace, "annotations": {"kubeocean.io/deleting-gone": "to-gone"},
        "labels": {
            "kubeocean.io/managed-by": "kubeocean",
            "kubeocean.io/synced-by-edge": "true", "kubeocean.io/synced-by-gone": "true",
        },
        "finalizers": ["his", "kubeocean.io/finalizer-edge", "kubeocean.io/finalizer-gone"],
    }})
    return server


def client(server: Server) -> Client:
    return cast(Client, server)


async def test_only_the_marks_of_who_is_gone_come_off(server: Server) -> None:
    (finding,), notes = await look_for_leftovers(client(server))
    assert not notes
    assert await take_off(client(server), finding) == (True, "the marks of gone are off")
    left = server.find(CONFIGMAPS, KEY.name, KEY.namespace)
    assert labels_of(left) == {"kubeocean.io/managed-by": "kubeocean", "kubeocean.io/synced-by-edge": "true"}
    assert finalizers_of(left) == ["his", "kubeocean.io/finalizer-edge"]
    assert await look_for_leftovers(client(server)) == ([], set())


async def test_nothing_comes_off_once_there_is_such_a_binding(server: Server) -> None:
    (finding,), _ = await look_for_leftovers(client(server))
    server.put(CLUSTERBINDINGS, binding("gone"))
    mended, done = await take_off(client(server), finding)
    assert (mended, done) == (False, "left: it carries no such mark any more")
    assert server.writes == []


async def test_nothing_comes_off_a_successor(server: Server) -> None:
    (finding,), _ = await look_for_leftovers(client(server))
    server.put(CONFIGMAPS, server.remove(CONFIGMAPS, KEY) | {"metadata": {
        "name": KEY.name, "namespace": KEY.namespace, "uid": "another", "finalizers": ["kubeocean.io/finalizer-gone"],
    }})
    assert (await take_off(client(server), finding))[0] is False
    assert server.writes == []


async def test_a_node_of_nobodys_is_told_and_not_touched(server: Server) -> None:
    server.put(NODES, {"metadata": {"name": "vnode-gone-1", "labels": {
        "kubeocean.io/managed-by": "kubeocean", "kubeocean.io/physical-cluster-id": "gone",
    }}})
    found, _ = await look_for_leftovers(client(server))
    (node,) = (each for each in found if each.about.resource == NODES)
    assert await take_off(client(server), node) == (False, "not mended by itself")


async def test_what_may_not_be_read_is_noted_and_the_rest_is_judged(server: Server) -> None:
    server.hidden = SECRETS
    found, notes = await look_for_leftovers(client(server))
    assert [each.about.resource for each in found] == [CONFIGMAPS]
    assert notes == {"leftovers among secrets are not looked for: secrets is forbidden"}
