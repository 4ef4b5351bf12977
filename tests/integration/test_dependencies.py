"""ConfigMaps and Secrets that Pods name: copied before they start, followed while they run, gone without a trace."""

import asyncio
import base64
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json, annotations_of, finalizers_of, labels_of, uid_of
from kubeocean.kube.resources import CONFIGMAPS, PODS, SECRETS, Resource
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.audit import AuditLog, summary
from tests.integration.federation import (
    Federation,
    Lender,
    build_pod,
    condition,
    discard,
    eventually,
    find,
    for_a_module,
    twin_name,
)
from tests.integration.programs import Program
from tests.integration.scan import find_traces

AT_ONCE = 1.0  # seconds


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    with for_a_module(sandbox, lambda federation: federation.lend(nodes=1)) as lender:
        yield lender


def build_config(name: str, namespace: str, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


def build_secret(name: str, namespace: str, kind: str = "Opaque", **data: str) -> Json:
    encoded = {key.replace("__", "."): base64.b64encode(text.encode()).decode() for key, text in data.items()}
    metadata = {"name": name, "namespace": namespace, "labels": {"app": "shop"}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "data": encoded}


def naming(name: str, namespace: str, lender: Lender, *sources: Json, **spec: Any) -> Json:
    """Return a Pod whose container takes its variables from `sources`."""
    container = {"name": "main", "image": "busybox", "envFrom": list(sources)}
    return build_pod(name, namespace, lender, containers=[container], **spec)


def config(name: str, *, optional: bool = False) -> Json:
    return {"configMapRef": {"name": name, "optional": optional}}


def secret(name: str, *, optional: bool = False) -> Json:
    return {"secretRef": {"name": name, "optional": optional}}


class Copies:
    """The physical side of one lender, as seen for one virtual namespace."""

    def __init__(self, client: Client, lender: Lender, namespace: str) -> None:
        self.client, self.mount, self.namespace = client, lender.mount_namespace, namespace

    async def find(self, resource: Resource, name: str) -> Json | None:
        return await find(self.client, resource, twin_name(name, self.namespace), self.mount)

    async def data(self, resource: Resource, name: str) -> Json | None:
        return (await self.find(resource, name) or {}).get("data")

    async def write(self, resource: Resource, name: str, patch: Json) -> None:
        await self.client.patch(resource, twin_name(name, self.namespace), self.mount, patch)


async def at_once(check: Callable[[], Any], what: str) -> float:
    """Wait for `check`, and say and return how many seconds it took; a loaded machine is given twice what is promised."""
    since = time.monotonic()
    await eventually(check, within=2 * AT_ONCE, what=what)
    took = time.monotonic() - since
    print(f"{what}: {took * 1000:.0f} ms")
    return took


async def test_what_pods_name_is_there_before_them_and_follows(
    federation: Federation, lender: Lender, namespace: str, sandbox: Sandbox
) -> None:
    virtual, copies = federation.virtual, Copies(federation.physical[0], lender, namespace)
    logs = [AuditLog(sandbox.virtual), AuditLog(sandbox.physical[0])]
    login = '{"auths":{"registry.example":{"auth":"YTpi"}}}'
    for obj in (
        build_secret("keys", namespace, word="one"), build_secret("fixed", namespace, word="x") | {"immutable": True},
        build_secret("pull", namespace, "kubernetes.io/dockerconfigjson", __dockerconfigjson=login),
    ):
        await virtual.create(SECRETS, obj)
    await virtual.create(CONFIGMAPS, build_config("settings", namespace, color="red"))
    sharers = [f"sharer-{number}" for number in range(8)]
    for name in sharers:
        await virtual.create(PODS, naming(
            name, namespace, lender, config("settings"), secret("keys"), secret("fixed"), imagePullSecrets=[{"name": "pull"}],
        ))
    await virtual.create(PODS, naming("waiter", namespace, lender, config("late"), secret("later")))
    await virtual.create(PODS, naming("easy", namespace, lender, config("wish", optional=True)))
    await federation.running(namespace, *sharers, "easy")

    assert await copies.data(CONFIGMAPS, "settings") == {"color": "red"}
    fixed, pull = await copies.find(SECRETS, "fixed"), await copies.find(SECRETS, "pull")
    assert fixed
    assert pull
    assert (fixed["immutable"], labels_of(fixed)["app"]) == (True, "shop")
    assert pull["type"] == "kubernetes.io/dockerconfigjson"
    ours = {(namespace, "settings"), (lender.mount_namespace, twin_name("settings", namespace))}
    written = Counter(
        (write.verb, write.resource) for log in logs for write in log.ours() if (write.namespace, write.name) in ours
    )
    assert written == {("patch", "configmaps"): 1, ("create", "configmaps"): 1}

    async def waits() -> bool:
        return bool(condition(await virtual.get(PODS, "waiter", namespace), "PhysicalPodCreated").get("reason") == reason)

    async def has_twin() -> bool:
        return await federation.twin(lender, await virtual.get(PODS, "waiter", namespace)) is not None

    reason = "MandatoryConfigMapNotFound"
    await eventually(waits, what="the missing ConfigMap is told")
    await virtual.create(CONFIGMAPS, build_config("late", namespace, a="1"))
    reason = "MandatorySecretNotFound"
    await at_once(waits, "the missing Secret is told")
    await virtual.create(SECRETS, build_secret("later", namespace, a="1"))
    await at_once(has_twin, "a Pod starts when what it waits for appears")
    await virtual.create(CONFIGMAPS, build_config("wish", namespace, a="1"))
    await at_once(lambda: copies.find(CONFIGMAPS, "wish"), "what was optional is carried when it appears")

    await follow(virtual, copies, namespace)

    for log in logs:
        log.restart()
    await asyncio.sleep(3)
    others = [
        write for log in logs for write in log.ours() if write.namespace in (namespace, lender.mount_namespace)
        and not write.is_lease
    ]
    assert not others, summary(others)


async def follow(virtual: Client, copies: Copies, namespace: str) -> None:
    """Change both sides, and take the virtual object away: the other side follows within a second."""
    took: list[float] = []

    async def settings_are(data: Json) -> bool:
        return bool(await copies.data(CONFIGMAPS, "settings") == data)

    await virtual.patch(CONFIGMAPS, "settings", namespace, {"data": {"color": "blue"}})
    took.append(await at_once(lambda: settings_are({"color": "blue"}), "a changed ConfigMap arrives"))
    new = build_secret("keys", namespace, word="two")["data"]
    await virtual.patch(SECRETS, "keys", namespace, {"data": new})

    async def keys_are_new() -> bool:
        return bool(await copies.data(SECRETS, "keys") == new)

    took.append(await at_once(keys_are_new, "a changed Secret arrives"))
    await copies.write(CONFIGMAPS, "settings", {"data": {"color": "theirs", "more": "1"}})
    took.append(await at_once(lambda: settings_are({"color": "blue"}), "what was edited by hand is mended"))
    await discard(copies.client, CONFIGMAPS, twin_name("settings", namespace), copies.mount)
    took.append(await at_once(lambda: settings_are({"color": "blue"}), "what was deleted by hand is there again"))

    async def gone() -> bool:
        return await find(virtual, SECRETS, "keys", namespace) is None

    await discard(virtual, SECRETS, "keys", namespace)
    took.append(await at_once(gone, "who deletes a Secret is not held up"))
    assert await copies.data(SECRETS, "keys") == new
    await virtual.create(SECRETS, build_secret("keys", namespace, word="three"))
    again = build_secret("keys", namespace, word="three")["data"]

    async def keys_are_back() -> bool:
        return bool(await copies.data(SECRETS, "keys") == again)

    took.append(await at_once(keys_are_back, "one that is made anew is taken up"))
    assert statistics.median(took) <= AT_ONCE, took


async def test_a_strangers_object_is_told_and_left_alone(federation: Federation, lender: Lender, namespace: str) -> None:
    virtual, copies = federation.virtual, Copies(federation.physical[0], lender, namespace)
    await copies.client.create(CONFIGMAPS, build_config(twin_name("app", namespace), lender.mount_namespace, theirs="1"))
    await virtual.create(CONFIGMAPS, build_config("app", namespace, ours="1"))
    await virtual.create(PODS, naming("web", namespace, lender, config("app")))

    async def told() -> bool:
        said = condition(await virtual.get(PODS, "web", namespace), "PhysicalPodCreated")
        assert said.get("reason") == "DependencyConflict", said
        assert f"{lender.mount_namespace}/{twin_name('app', namespace)}" in said["message"]
        return True

    await eventually(told, what="the conflict is told")
    assert await copies.data(CONFIGMAPS, "app") == {"theirs": "1"}
    await discard(copies.client, CONFIGMAPS, twin_name("app", namespace), lender.mount_namespace)
    await federation.running(namespace, "web")
    assert await copies.data(CONFIGMAPS, "app") == {"ours": "1"}


async def test_two_bindings_share_an_object_and_each_leaves_with_its_own_marks(
    federation: Federation, namespace: str
) -> None:
    virtual = federation.virtual
    lenders = [await federation.lend(cluster=cluster) for cluster in (0, 1)]
    untouched = [
        await virtual.create(resource, build(name, namespace, word="one"))
        for resource, build, name in ((CONFIGMAPS, build_config, "shared"), (SECRETS, build_secret, "word"))
    ]
    for number, lender in enumerate(lenders):
        await virtual.create(PODS, naming(f"web-{number}", namespace, lender, config("shared"), secret("word")))
    await federation.running(namespace, "web-0", "web-1")
    for lender, client in zip(lenders, federation.physical, strict=True):
        assert await Copies(client, lender, namespace).data(CONFIGMAPS, "shared") == {"word": "one"}
    marked = await virtual.get(CONFIGMAPS, "shared", namespace)
    for lender in lenders:
        assert labels_of(marked)[f"kubeocean.io/synced-by-{lender.cluster_id}"] == "true"
        assert f"kubeocean.io/finalizer-{lender.cluster_id}" in finalizers_of(marked)

    stays, leaves = lenders
    await federation.unbind(leaves)
    marked = await virtual.get(CONFIGMAPS, "shared", namespace)
    assert finalizers_of(marked) == [f"kubeocean.io/finalizer-{stays.cluster_id}"]
    assert labels_of(marked)["kubeocean.io/managed-by"] == "kubeocean"

    async def place_is_right() -> bool:
        annotations = annotations_of(await virtual.get(CONFIGMAPS, "shared", namespace))
        return bool(annotations.get("kubeocean.io/physical-namespace") == stays.mount_namespace)

    await eventually(place_is_right, what="the annotations name the copy that is left")
    await federation.unbind(stays)
    for before in untouched:
        resource = CONFIGMAPS if before["kind"] == "ConfigMap" else SECRETS
        left = await virtual.get(resource, before["metadata"]["name"], namespace)
        without = [{**obj["metadata"], "resourceVersion": ""} for obj in (before, left)]
        assert without[0] == without[1]
        assert uid_of(left) == uid_of(before)

    async def no_trace() -> bool:
        return not any([await find_traces(client, lender.cluster_id) for client in federation.physical for lender in lenders])

    await eventually(no_trace, within=30, what="no trace in the physical clusters")  # the mountNamespace takes its time
