"""Under which name and keys a running twin has the files of a token volume."""

from dataclasses import replace

import pytest

from kubeocean.api import names
from kubeocean.domain.ownership import Owner
from kubeocean.domain.podtoken import TokenSecret, TokenSource
from kubeocean.domain.tokenadoption import as_mounted, may_adopt_token_secret
from kubeocean.kube.meta import Json

TOKEN = TokenSecret(
    "ours", "access", (TokenSource("token", "", 3600), TokenSource("token-1", "vault", 600)), ("ca.crt",), ("namespace",),
)
ITEMS: list[Json] = [
    {"key": "token", "path": "token"}, {"key": "token-1", "path": "vault/token"}, {"key": "ca.crt", "path": "ca.crt"},
    {"key": "namespace", "path": "namespace"},
]


def pod(*sources: Json) -> Json:
    return {"spec": {"volumes": [{"name": "other"}, {"name": "access", "projected": {"sources": list(sources)}}]}}


def secret(name: str, **paths: str) -> Json:
    """Return a projection of a Secret; `paths` are path=key, __ standing for / and _ for . in a path."""
    items = [{"key": key, "path": path.replace("__", "/").replace("_", ".")} for path, key in paths.items()]
    return {"secret": {"name": name, "items": items}}


FORGED = pod({"secret": {"name": "ours", "items": ITEMS}})


def test_a_twin_that_we_forged_has_it_as_we_mean_it() -> None:
    assert as_mounted(TOKEN, FORGED, FORGED) == TOKEN


def test_another_name_and_other_keys_are_kept() -> None:
    twin = pod(secret("theirs", token="a", vault__token="b", ca_crt="c", namespace="d"))
    assert as_mounted(TOKEN, FORGED, twin) == TokenSecret(
        "theirs", "access", (TokenSource("a", "", 3600), TokenSource("b", "vault", 600)), ("c",), ("d",),
    )


def test_what_comes_from_elsewhere_is_left_out() -> None:
    twin = pod(secret("theirs", token="token"), {"configMap": {"name": "root-ca"}}, {"downwardAPI": {"items": []}})
    assert as_mounted(TOKEN, FORGED, twin) == TokenSecret("theirs", "access", (TokenSource("token", "", 3600),), (), ())


def test_without_items_every_key_is_a_file() -> None:
    plain = replace(TOKEN, sources=TOKEN.sources[:1])
    forged = pod({"secret": {"name": "ours", "items": [ITEMS[0], *ITEMS[2:]]}})
    assert as_mounted(plain, forged, pod({"secret": {"name": "theirs"}})) == replace(plain, name="theirs")
    root_ca = TokenSecret("ours", "access", (), ("ca.crt",), ())
    whole = {"spec": {"volumes": [{"name": "access", "secret": {"secretName": "ours"}}]}}
    assert as_mounted(root_ca, whole, whole) == root_ca


@pytest.mark.parametrize("twin", [
    pod(), {"spec": {}}, pod(secret("one", token="a"), secret("two", ca_crt="b")), pod(secret("theirs", token="a", more="b")),
], ids=["nothing of it", "no such volume", "two Secrets", "a file that is none of ours"])
def test_what_cannot_be_told_is_not_taken(twin: Json) -> None:
    assert as_mounted(TOKEN, FORGED, twin) is None


VPOD: Json = {"metadata": {"name": "web", "namespace": "shop", "uid": "v-1"}}
MARKED = {names.MANAGED_BY_LABEL: names.MANAGED_BY_VALUE, names.SERVICE_ACCOUNT_TOKEN_LABEL: "true"}


def live(labels: dict[str, str] = MARKED, uid: str = "", **metadata: str) -> Json:
    annotations = {names.VIRTUAL_POD_UID_ANNOTATION: uid} if uid else {}
    return {"metadata": {"name": "theirs", "labels": labels, "annotations": annotations, **metadata}}


@pytest.mark.parametrize(("secret", "adopted"), [
    (live(), True),
    (live(uid="v-1"), True),
    (live(uid="v-0"), False),
    (live({names.MANAGED_BY_LABEL: names.MANAGED_BY_VALUE}), False),
    (live({"app": "his"}), False),
    (live({**MARKED, **Owner("another", "edge").labels()}), False),
    (live(deletionTimestamp="2026-01-01T12:00:00Z"), False),
], ids=["nobody's", "this Pod's", "another Pod's", "no tokens", "a stranger's", "another borrower's", "on its way out"])
def test_which_secrets_are_adopted(secret: Json, adopted: bool) -> None:
    assert may_adopt_token_secret(secret, VPOD) is adopted
