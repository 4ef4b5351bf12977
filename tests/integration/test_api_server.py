"""The client, the elector and the event recorder against a real API server: what no fake can promise."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime

import pytest

from kubeocean.kube import codec
from kubeocean.kube.answers import proves_absence
from kubeocean.kube.client import Client, PatchType
from kubeocean.kube.errors import AlreadyExists, ApiError, Conflict, Gone, Invalid, NotFound
from kubeocean.kube.events import EventRecorder
from kubeocean.kube.leader import LeaderConfig, LeaderElector
from kubeocean.kube.meta import Json, name_of, uid_of
from kubeocean.kube.resources import CONFIGMAPS, EVENTS, LEASES, Resource
from tests.integration.federation import find

NO_SUCH_KIND = Resource("nobody.example", "v1", "things", "Thing", True)


def configmap(namespace: str, name: str = "", **data: str) -> Json:
    name = name or f"c-{uuid.uuid4().hex[:8]}"
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


async def test_an_object_lives_its_life(virtual_client: Client, namespace: str) -> None:
    made = await virtual_client.create(CONFIGMAPS, configmap(namespace, a="1"))
    assert "managedFields" not in made["metadata"]
    replaced = await virtual_client.update(CONFIGMAPS, made | {"data": {"a": "2"}})
    merged = await virtual_client.patch(CONFIGMAPS, name_of(made), namespace, {"data": {"b": "3"}})
    assert (replaced["data"], merged["data"]) == ({"a": "2"}, {"a": "2", "b": "3"})
    await virtual_client.delete(CONFIGMAPS, name_of(made), namespace, uid=uid_of(made))
    with pytest.raises(NotFound) as caught:
        await virtual_client.get(CONFIGMAPS, name_of(made), namespace)
    assert proves_absence(caught.value)


async def test_a_kind_that_is_not_installed_proves_nothing_about_an_object(virtual_client: Client) -> None:
    with pytest.raises(NotFound) as caught:
        await virtual_client.get(NO_SUCH_KIND, "x", "default")
    assert not proves_absence(caught.value)


async def test_every_kind_of_patch_is_understood(virtual_client: Client, namespace: str) -> None:
    made = await virtual_client.create(CONFIGMAPS, configmap(namespace, a="1"))
    where = (CONFIGMAPS, name_of(made), namespace)
    await virtual_client.patch(*where, [{"op": "add", "path": "/data/json", "value": "x"}], kind=PatchType.JSON)
    await virtual_client.patch(*where, {"data": {"strategic": "x"}}, kind=PatchType.STRATEGIC)
    applied = configmap(namespace, name_of(made), apply="x", a="2")
    with pytest.raises(Conflict):
        await virtual_client.patch(*where, applied, kind=PatchType.APPLY, field_manager="test")
    got = await virtual_client.patch(*where, applied, kind=PatchType.APPLY, field_manager="test", force=True)
    assert got["data"] == {"a": "2", "json": "x", "strategic": "x", "apply": "x"}


async def test_preconditions_hold(virtual_client: Client, namespace: str) -> None:
    made = await virtual_client.create(CONFIGMAPS, configmap(namespace))
    with pytest.raises(AlreadyExists):
        await virtual_client.create(CONFIGMAPS, configmap(namespace, name_of(made)))
    stale = {"metadata": {"resourceVersion": "1"}, "data": {"a": "1"}}
    with pytest.raises(Conflict):
        await virtual_client.patch(CONFIGMAPS, name_of(made), namespace, stale)
    with pytest.raises(Conflict):
        await virtual_client.delete(CONFIGMAPS, name_of(made), namespace, uid=str(uuid.uuid4()))
    with pytest.raises(Conflict):
        await virtual_client.delete(
            CONFIGMAPS, name_of(made), namespace, uid=uid_of(made), resource_version="1"
        )
    with pytest.raises(Invalid, match=r"metadata\.name"):
        await virtual_client.create(CONFIGMAPS, configmap(namespace, "Not_A_Name"))


async def test_a_dry_run_leaves_nothing(virtual_client: Client, namespace: str) -> None:
    made = await virtual_client.create(CONFIGMAPS, configmap(namespace), dry_run=True)
    with pytest.raises(NotFound):
        await virtual_client.get(CONFIGMAPS, name_of(made), namespace)


async def test_a_list_is_whole_whatever_the_size_of_a_page(virtual_client: Client, namespace: str) -> None:
    made = {name_of(await virtual_client.create(CONFIGMAPS, configmap(namespace))) for _ in range(7)}
    listing = await virtual_client.list(CONFIGMAPS, namespace, limit=2)
    assert {name_of(item) for item in listing.items} >= made
    assert {(item["apiVersion"], item["kind"]) for item in listing.items} == {("v1", "ConfigMap")}
    assert int(listing.resource_version) > 0


async def test_a_watch_from_a_listing_misses_nothing(virtual_client: Client, namespace: str) -> None:
    listing = await virtual_client.list(CONFIGMAPS, namespace)
    made = await virtual_client.create(CONFIGMAPS, configmap(namespace))
    params = {"watch": "true", "resourceVersion": listing.resource_version}
    async with virtual_client.stream(CONFIGMAPS.path(namespace), params) as chunks, asyncio.timeout(10):
        line = b""
        async for chunk in chunks:
            line += chunk
            if line.endswith(b"\n"):
                break
    event = codec.decode(line.splitlines()[0])
    assert (event["type"], name_of(event["object"])) == ("ADDED", name_of(made))


async def test_a_watch_from_the_distant_past_says_that_it_is_gone(virtual_client: Client, namespace: str) -> None:
    # The server answers 200 and an ERROR event, or 410 at once: both must be recognisable.
    try:
        path, params = CONFIGMAPS.path(namespace), {"watch": "true", "resourceVersion": "1", "timeoutSeconds": "1"}
        async with virtual_client.stream(path, params) as chunks, asyncio.timeout(10):
            body = b"".join([chunk async for chunk in chunks])
    except Gone:
        return
    assert not body or codec.decode(body.splitlines()[0])["type"] in ("ERROR", "ADDED")


async def test_version_and_readiness_are_told(virtual_client: Client) -> None:
    assert (await virtual_client.server_version())["gitVersion"].startswith("v1.")
    assert await virtual_client.raw("GET", "/readyz") == b"ok"
    with pytest.raises(ApiError):
        await virtual_client.raw("GET", "/no/such/path")


async def test_the_server_takes_our_events_and_counts(virtual_client: Client, namespace: str) -> None:
    made = await virtual_client.create(CONFIGMAPS, configmap(namespace))
    recorder = EventRecorder(virtual_client, component="kubeocean-test", clock=lambda: datetime.now(UTC))
    task = asyncio.create_task(recorder.run())
    for _ in range(2):
        recorder.event(made, "Warning", "Tested", "x" * 5000)
        recorder.event({"kind": "Node", "apiVersion": "v1", "name": namespace}, "Normal", "Tested", namespace)
        await asyncio.sleep(0.5)
    task.cancel()
    found = [
        *(await virtual_client.list(EVENTS, namespace)).items,
        *(await virtual_client.list(EVENTS, "default", field_selector=f"involvedObject.name={namespace}")).items,
    ]
    assert [(event["involvedObject"]["kind"], event["count"]) for event in found] == [("ConfigMap", 2), ("Node", 2)]


async def test_leadership_passes_on_at_once_when_it_is_released_and_ends_with_its_work(
    virtual_client: Client, namespace: str
) -> None:
    led: list[str] = []

    def elector(identity: str) -> LeaderElector:
        config = LeaderConfig(
            namespace, "test", identity, lease_duration=3.0, renew_deadline=2.0, retry_period=0.1
        )
        return LeaderElector(virtual_client, config)

    async def lead(identity: str, seconds: float) -> None:
        led.append(identity)
        await asyncio.sleep(seconds)

    async with asyncio.timeout(10):
        first = asyncio.create_task(elector("first").run(lambda: lead("first", 60)))
        await asyncio.sleep(0.3)
        second = asyncio.create_task(elector("second").run(lambda: lead("second", 1)))
        await asyncio.sleep(0.3)
        assert led == ["first"]
        first.cancel()
        await asyncio.sleep(0.5)
        lease = await virtual_client.get(LEASES, "test", namespace)
        await second
    assert led == ["first", "second"]
    assert (lease["spec"]["holderIdentity"], lease["spec"]["leaseTransitions"]) == ("second", 1)
    assert await find(virtual_client, LEASES, "test", namespace) is None, "work that is done leaves no lease"
