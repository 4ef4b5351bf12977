"""A Pod's ServiceAccount token works against the *virtual* API server, and dies with its Pod."""

import asyncio
import base64
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from kubeocean.kube.client import Client
from kubeocean.kube.config import ServerConfig
from kubeocean.kube.errors import Unauthorized
from kubeocean.kube.meta import Json, annotations_of, labels_of, name_of, namespace_of, parse_time, uid_of
from kubeocean.kube.resources import PODS, SECRETS, Resource
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.federation import Federation, Lender, build_pod, discard, eventually, find, for_a_module
from tests.integration.programs import Program

SELF = Resource("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", False)
WHO_AM_I: Json = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}}


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    with for_a_module(sandbox, lambda federation: federation.lend()) as lender:
        yield lender


async def token_secrets(federation: Federation, lender: Lender) -> list[Json]:
    label = "kubeocean.io/service-account-token=true"
    return (await federation.physical[0].list(SECRETS, lender.mount_namespace, label_selector=label)).items


async def run(federation: Federation, lender: Lender, namespace: str, **spec: Any) -> tuple[Json, Json, Json]:
    """Run a Pod; return it, its twin and the one token Secret."""
    await federation.virtual.create(PODS, build_pod("web", namespace, lender, **spec))
    (vpod,) = await federation.running(namespace, "web")
    twin = await federation.twin(lender, vpod)
    (secret,) = [
        each for each in await token_secrets(federation, lender)
        if annotations_of(each)["kubeocean.io/virtual-pod-uid"] == uid_of(vpod)
    ]
    assert twin is not None
    return vpod, twin, secret


def ca_of(sandbox: Sandbox) -> str:
    return (sandbox.virtual.folder / "pki" / "ca.crt").read_text()


def decoded(secret: Json) -> dict[str, str]:
    return {key: base64.b64decode(text).decode() for key, text in secret["data"].items()}


def client_with(federation: Federation, token: str) -> Client:
    """Return a client of the virtual API server that has this token and trusts its CA."""
    cluster = federation.sandbox.virtual

    async def authorization(refresh: bool) -> str:
        return f"Bearer {token}"

    tls = ssl.create_default_context(cafile=str(cluster.folder / "pki" / "ca.crt"))
    return Client(ServerConfig(cluster.server, tls, authorization=authorization), cluster="virtual by token")


async def test_a_pod_finds_token_ca_and_namespace_where_it_looks_for_them(
    federation: Federation, lender: Lender, namespace: str, sandbox: Sandbox
) -> None:
    vpod, twin, secret = await run(federation, lender, namespace)
    files = decoded(secret)
    assert set(files) == {"token", "ca.crt", "namespace"}
    assert files["namespace"] == namespace
    assert files["ca.crt"] == ca_of(sandbox)
    assert labels_of(secret)["kubeocean.io/managed-by"] == "kubeocean"
    assert annotations_of(secret)["kubeocean.io/virtual-pod-name"] == "web"
    (mount,) = twin["spec"]["containers"][0]["volumeMounts"]
    assert mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    (volume,) = [each for each in twin["spec"]["volumes"] if each["name"] == mount["name"]]
    assert name_of(secret) in str(volume)
    assert "serviceAccountToken" not in str(twin["spec"]["volumes"]), "the physical kubelet would mint a lender's token"
    assert [each["name"] for each in vpod["spec"]["containers"][0]["volumeMounts"]] == [mount["name"]]


async def test_the_token_authenticates_as_the_virtual_service_account(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    vpod, _, secret = await run(federation, lender, namespace)
    async with client_with(federation, decoded(secret)["token"]) as client:
        user = (await client.create(SELF, WHO_AM_I))["status"]["userInfo"]
    assert user["username"] == f"system:serviceaccount:{namespace}:default"
    assert user["extra"]["authentication.kubernetes.io/pod-uid"] == [uid_of(vpod)]


async def test_the_token_dies_with_its_pod_and_its_secret_goes(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    _, _, secret = await run(federation, lender, namespace)
    await discard(federation.virtual, PODS, "web", namespace)

    async def collected() -> bool:
        left = [name_of(each) for each in await token_secrets(federation, lender)]
        assert name_of(secret) not in left, f"left: {left}"
        return True

    await eventually(collected, what="the token Secret is removed")
    async with client_with(federation, decoded(secret)["token"]) as client:
        async def refused() -> bool:
            try:
                await client.create(SELF, WHO_AM_I)
            except Unauthorized:
                return True
            return False

        await eventually(refused, within=15, what="the token is refused")  # the server caches its answer for 10 s


async def test_audience_and_life_of_a_token_are_what_the_pod_asked_for(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    source = {"serviceAccountToken": {"path": "vault", "audience": "vault.example.com", "expirationSeconds": 1200}}
    _, _, secret = await run(
        federation, lender, namespace, automountServiceAccountToken=False,
        volumes=[{"name": "vault", "projected": {"sources": [source]}}],
        containers=[{"name": "main", "image": "busybox", "volumeMounts": [{"name": "vault", "mountPath": "/vault"}]}],
    )
    (token,) = decoded(secret).values()
    payload = token.split(".")[1]
    claims = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()
    assert '"aud":["vault.example.com"]' in claims
    async with client_with(federation, token) as client:
        with pytest.raises(Unauthorized):
            await client.create(SELF, WHO_AM_I)


async def who_has(federation: Federation, token: str) -> Json:
    async with client_with(federation, token) as client:
        user: Json = (await client.create(SELF, WHO_AM_I))["status"]["userInfo"]
    return user


async def test_a_token_that_is_due_is_renewed_and_a_secret_that_is_gone_is_made_again(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    vpod, _, secret = await run(federation, lender, namespace)
    physical, place = federation.physical[0], (name_of(secret), namespace_of(secret))
    first = decoded(secret)
    age = parse_time(annotations_of(secret)["kubeocean.io/expires-at"]) - parse_time(secret["metadata"]["creationTimestamp"])
    assert 3600 <= age.total_seconds() <= 3620, "as long as the server said"
    await asyncio.sleep(1)  # a token of the same second would be the same
    due = {"metadata": {"annotations": {"kubeocean.io/refresh-at": "2026-01-01T00:00:00Z"}}}
    await physical.patch(SECRETS, *place, due)

    async def renewed() -> Json:
        live = await physical.get(SECRETS, *place)
        assert decoded(live)["token"] != first["token"], "the token is the old one"
        return live

    second: Json = await eventually(renewed, what="a new token")
    assert annotations_of(second)["kubeocean.io/expires-at"] > annotations_of(secret)["kubeocean.io/expires-at"]
    left = parse_time(annotations_of(second)["kubeocean.io/refresh-at"]) - parse_time(secret["metadata"]["creationTimestamp"])
    assert 0.75 * 3607 <= left.total_seconds() <= 0.8 * 3607 + 30
    assert {**decoded(second), "token": ""} == {**first, "token": ""}
    for token in (first["token"], decoded(second)["token"]):
        user = await who_has(federation, token)
        assert user["extra"]["authentication.kubernetes.io/pod-uid"] == [uid_of(vpod)]

    await discard(physical, SECRETS, *place)

    async def made_again() -> Json | None:
        live = await find(physical, SECRETS, *place)
        return live if live and uid_of(live) != uid_of(secret) else None

    third: Json = await eventually(made_again, what="the Secret is made again")
    assert set(decoded(third)) == set(first)
    assert (await who_has(federation, decoded(third)["token"]))["username"].endswith(f":{namespace}:default")


async def test_a_pod_that_wants_no_token_gets_none(federation: Federation, lender: Lender, namespace: str) -> None:
    await federation.virtual.create(PODS, build_pod("bare", namespace, lender, automountServiceAccountToken=False))
    (vpod,) = await federation.running(namespace, "bare")
    twin = await federation.twin(lender, vpod)
    assert twin is not None
    assert not twin["spec"].get("volumes")
    owners = [annotations_of(each)["kubeocean.io/virtual-pod-uid"] for each in await token_secrets(federation, lender)]
    assert uid_of(vpod) not in owners
