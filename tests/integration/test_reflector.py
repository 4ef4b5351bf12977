"""List and watch against a real API server: what the unit tests script must be what it really does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kubeocean.kube.client import Client
from kubeocean.kube.errors import Unreachable
from kubeocean.kube.informer import Informer
from kubeocean.kube.listwatch import Phase, Timing
from kubeocean.kube.meta import Json, ObjectKey, revision, uid_of
from kubeocean.kube.resources import CONFIGMAPS

Eventually = Callable[..., Awaitable[Any]]


def config_map(namespace: str, name: str, **labels: str) -> Json:
    return {
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"},
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
    }


def data_of(obj: Json) -> str:
    return str((obj.get("data") or {}).get("a"))


def informer(client: Client, namespace: str, *, label_selector: str = "mine=true", silence: float = 100.0) -> Informer[str]:
    return Informer(
        client, CONFIGMAPS, namespace=namespace, label_selector=label_selector, summarise=data_of, keep_raw=True,
        timing=Timing(silence=silence, silences=2),
    )


@asynccontextmanager
async def running(target: Informer[str]) -> AsyncIterator[Informer[str]]:
    task = asyncio.create_task(target.run())
    try:
        async with asyncio.timeout(20):
            await target.wait_synced()
        yield target
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def names(target: Informer[str]) -> list[str]:
    return sorted(entry.key.name for entry in target.store.entries())


async def seen(target: Informer[str], written: Json) -> None:
    """Wait until the informer has passed a write."""
    passed = asyncio.Event()
    target.when_passed(revision(written["metadata"]["resourceVersion"]), passed.set)
    async with asyncio.timeout(10):
        await passed.wait()


async def test_the_store_follows_creation_change_and_deletion(virtual_client: Client, namespace: str) -> None:
    first = await virtual_client.create(CONFIGMAPS, config_map(namespace, "first", mine="true"))
    async with running(informer(virtual_client, namespace, label_selector="")) as target:
        assert "first" in names(target)
        second = await virtual_client.create(CONFIGMAPS, config_map(namespace, "second", mine="true"))
        await seen(target, second)
        assert "second" in names(target)
        await seen(target, await virtual_client.patch(CONFIGMAPS, "first", namespace, {"data": {"a": "2"}}))
        entry = target.store.get(ObjectKey(namespace, "first"))
        assert entry is not None
        assert entry.summary == "2"
        assert "managedFields" not in entry.object()["metadata"]

        gone = asyncio.Event()
        target.when_dropped(uid_of(first), gone.set)
        await virtual_client.delete(CONFIGMAPS, "first", namespace, uid=uid_of(first))
        async with asyncio.timeout(10):
            await gone.wait()
        assert target.was_deleted(uid_of(first))


async def test_leaving_the_selection_is_no_deletion(virtual_client: Client, namespace: str) -> None:
    created = await virtual_client.create(CONFIGMAPS, config_map(namespace, "one", mine="true"))
    async with running(informer(virtual_client, namespace)) as target:
        assert names(target) == ["one"]
        left = await virtual_client.patch(CONFIGMAPS, "one", namespace, {"metadata": {"labels": {"mine": None}}})
        await seen(target, left)
        assert names(target) == []
        assert not target.was_deleted(uid_of(created))


@pytest.mark.parametrize("position", ["1", "999999999999"], ids=["too old", "of the future, as after a restore"])
async def test_a_place_that_is_lost_is_found_again_with_all_that_happened(
    virtual_client: Client, namespace: str, position: str, eventually: Eventually
) -> None:
    old = await virtual_client.create(CONFIGMAPS, config_map(namespace, "old", mine="true"))
    target = informer(virtual_client, namespace, silence=5.0)
    async with running(target):
        assert names(target) == ["old"]
    await virtual_client.create(CONFIGMAPS, config_map(namespace, "new", mine="true"))
    await virtual_client.delete(CONFIGMAPS, "old", namespace, uid=uid_of(old))
    target._reflector.machine.position = position
    async with running(target):
        await eventually(lambda: names(target) == ["new"], within=20, what="the store shows what happened meanwhile")
    assert not target.was_deleted(uid_of(old))


async def test_pages_tell_the_same_as_a_stream(virtual_client: Client, namespace: str) -> None:
    for number in range(5):
        await virtual_client.create(CONFIGMAPS, config_map(namespace, f"m{number}", mine="true"))
    paged = informer(virtual_client, namespace)
    paged._reflector.machine.phase = Phase.PAGED_LIST
    async with running(paged), running(informer(virtual_client, namespace)) as streamed:
        assert {e.key: e.object() for e in paged.store.entries()} == {e.key: e.object() for e in streamed.store.entries()}
        assert len(paged.store) == 5
        assert not streamed._reflector.machine._pages  # 1.34 has streaming lists
        await seen(paged, await virtual_client.create(CONFIGMAPS, config_map(namespace, "later", mine="true")))
        assert "later" in names(paged)


async def test_a_server_that_cannot_be_reached_shows_as_failures(eventually: Eventually, virtual_client: Client) -> None:
    target = informer(virtual_client, "default")
    await virtual_client.close()
    task = asyncio.create_task(target.run())
    await eventually(lambda: target.consecutive_failures > 1, what="failures are counted")
    task.cancel()
    assert isinstance(target.last_error, Unreachable)
    assert not target.has_synced
