"""When tokens are renewed, and what of a Secret is written then."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.domain.tokenlife import (
    MintedToken,
    TokenLife,
    diff_token_secret,
    plan_life,
    read_life,
    read_minted,
    texts_of,
)
from kubeocean.kube.meta import Json
from kubeocean.kube.patch import apply_merge

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = 3600


@pytest.mark.parametrize(("sentence", "seconds", "random", "refreshed"), [
    ("the shortest there is, at 80 %", [600], 0.0, 480),
    ("up to a twentieth of its life earlier", [600], 1.0, 450),
    ("an hour's", [HOUR], 0.0, 2880),
    ("the shortest of several counts", [HOUR, 600, 7200], 0.0, 480),
    ("never later than after a day", [365 * 24 * HOUR], 0.0, 24 * HOUR),
    ("nor much earlier then", [365 * 24 * HOUR], 1.0, 24 * HOUR - 72 * 60),
])
def test_when(sentence: str, seconds: list[int], random: float, refreshed: int) -> None:
    life = plan_life([MintedToken("t", each) for each in seconds], NOON, random)
    assert life is not None
    assert life.refresh_at == NOON + timedelta(seconds=refreshed), sentence
    assert life.expires_at == NOON + timedelta(seconds=min(seconds))


@given(st.lists(st.integers(600, 10**8), min_size=1), st.floats(0, 1, exclude_max=True))
def test_always_in_the_last_third_and_before_the_end(seconds: list[int], random: float) -> None:
    life = plan_life([MintedToken("t", each) for each in seconds], NOON, random)
    assert life is not None
    whole = min(timedelta(seconds=min(seconds)), timedelta(hours=30))
    assert NOON + whole * 0.74 <= life.refresh_at <= life.tell_at < life.expires_at
    assert life.refresh_at <= NOON + timedelta(hours=24)


def test_a_secret_without_tokens_has_no_life() -> None:
    assert plan_life([], NOON, 0.5) is None


def test_what_is_written_is_read_again() -> None:
    life = TokenLife(NOON + timedelta(hours=1), NOON + timedelta(minutes=48))
    assert read_life({"metadata": {"annotations": life.annotations()}}) == life


@pytest.mark.parametrize("annotations", [{}, {"kubeocean.io/expires-at": "soon", "kubeocean.io/refresh-at": "sooner"}])
def test_what_cannot_be_read_is_unknown(annotations: dict[str, str]) -> None:
    assert read_life({"metadata": {"annotations": annotations}}) is None


def test_the_server_says_how_long_a_token_lives() -> None:
    status = {"token": "t", "expirationTimestamp": "2026-01-01T13:00:00Z"}
    assert read_minted({"spec": {"expirationSeconds": 1800}, "status": status}, 3607) == MintedToken("t", 1800)
    assert read_minted({"status": status}, 3607) == MintedToken("t", 3607)


def secret(*, hashed: str = "h", **data: str) -> Json:
    encoded = {key.replace("_", "."): base64.b64encode(text.encode()).decode() for key, text in data.items()}
    metadata = {"uid": "u", "resourceVersion": "7", "labels": {"a": "b"}, "annotations": {"hash": hashed}}
    return {"metadata": metadata, "data": encoded}


def test_a_secret_that_is_well_is_not_written() -> None:
    assert diff_token_secret(secret(token="t"), secret(token="t")) is None


def test_only_what_differs_is_written_and_what_nobody_put_there_goes() -> None:
    live = secret(token="old", ca_crt="CA", stranger="x")
    wanted = secret(token="new", ca_crt="CA", hashed="h2")
    patch = diff_token_secret(live, wanted)
    assert patch is not None
    assert set(patch["data"]) == {"token", "stranger"}
    assert patch["metadata"] == {"uid": "u", "resourceVersion": "7", "annotations": {"hash": "h2"}}
    assert apply_merge(live, patch)["data"] == wanted["data"]


def test_texts_come_back_as_they_went_in() -> None:
    assert texts_of(secret(token="t", other="o"), ["token"]) == {"token": "t"}
    with pytest.raises(KeyError):
        texts_of(secret(token="t"), ["token-1"])
