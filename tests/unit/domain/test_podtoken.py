"""The Secret behind a ServiceAccount volume."""

import base64
from dataclasses import replace

import pytest

from kubeocean.api import names
from kubeocean.domain.ownership import Owner, is_ours
from kubeocean.domain.podcontext import PodContext
from kubeocean.domain.podcopy import Copier
from kubeocean.domain.poddownward import Downward
from kubeocean.domain.podtoken import TokenSecret, TokenSource, build_token_secret, map_token_volume
from kubeocean.kube.meta import Json

CONTEXT = PodContext(
    owner=Owner("virtual-uid", "edge"), cluster_id="edge", mount_namespace="lent", physical_node="node-7",
    direct_scheduling=False, allow_privileged=False, priority_class="kubeocean-default", workload=("pod", "web-0"),
)
VPOD: Json = {"metadata": {"name": "web-0", "namespace": "shop", "uid": "v-1"}, "spec": {}}
TOKEN = TokenSecret(
    "web-0-token", "kube-api-access-x", (TokenSource("token", "", 3607), TokenSource("token-1", "vault", 600)),
    ca_keys=("ca.crt",), namespace_keys=("namespace",),
)
TEXTS = {"token": "first", "token-1": "second"}


def secret(token: TokenSecret = TOKEN, texts: dict[str, str] = TEXTS) -> Json:
    return build_token_secret(token, texts, "-----BEGIN", VPOD, CONTEXT)


def test_it_holds_every_file_under_its_key() -> None:
    texts = {key: base64.b64decode(value).decode() for key, value in secret()["data"].items()}
    assert texts == {"token": "first", "token-1": "second", "ca.crt": "-----BEGIN", "namespace": "shop"}


def test_it_holds_only_what_the_volume_asked_for() -> None:
    assert set(secret(replace(TOKEN, ca_keys=(), namespace_keys=()))["data"]) == {"token", "token-1"}


def test_it_is_ours_and_names_its_pod() -> None:
    built = secret()
    annotations = built["metadata"]["annotations"]
    assert is_ours(built, CONTEXT.owner)
    assert (built["metadata"]["name"], built["metadata"]["namespace"]) == ("web-0-token", "lent")
    assert built["metadata"]["labels"][names.SERVICE_ACCOUNT_TOKEN_LABEL] == "true"
    assert annotations[names.VIRTUAL_POD_NAMESPACE_ANNOTATION] == "shop"
    assert annotations[names.VIRTUAL_POD_NAME_ANNOTATION] == "web-0"
    assert annotations[names.VIRTUAL_POD_UID_ANNOTATION] == "v-1"


def test_the_same_tokens_have_the_same_hash_and_a_new_one_another() -> None:
    def content(built: Json) -> str:
        return str(built["metadata"]["annotations"][names.CONTENT_HASH_ANNOTATION])

    assert content(secret()) == content(secret())
    assert content(secret()) != content(secret(texts=TEXTS | {"token": "renewed"}))


LABELS: Json = {"downwardAPI": {"items": [{"path": "app", "fieldRef": {"fieldPath": "metadata.labels['app']"}}]}}
EMPTY: dict[str, tuple[list[Json], list[Json]]] = {
    "alone": ([{"downwardAPI": {}}], []),
    "with a list that is empty": ([{"downwardAPI": {"items": []}}], []),
    "before one with items": ([{"downwardAPI": {}}, LABELS], [LABELS]),
    "after one with items": ([LABELS, {"downwardAPI": {}}], [LABELS]),
}


@pytest.mark.parametrize(("sources", "kept"), EMPTY.values(), ids=EMPTY.keys())
def test_a_downward_source_without_items_gives_no_file_and_hinders_no_other(sources: list[Json], kept: list[Json]) -> None:
    volume = {"name": "access", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}, *sources]}}
    mapped, token = map_token_volume(VPOD, volume, Copier("shop", Downward(VPOD, ())))
    ours = {"secret": {"name": token.name, "items": [{"key": "token", "path": "token"}]}}
    assert mapped["projected"]["sources"] == [ours, *kept]
