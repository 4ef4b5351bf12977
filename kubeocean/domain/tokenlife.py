"""How long the tokens of one Secret are good, and when they are asked for anew.

A kubelet renews a token once 80 % of its life or 24 hours are over (pkg/kubelet/token/token_manager.go, requiresRefresh); so do
we, up to a twentieth of its life earlier, at random, for Pods that started together would come back together for ever.
How long a token lives is the server's word, not the Pod's: it may give less or more. Both instants stand on the Secret, so a
restart or another leader knows what the process before it knew. The tokens of one Secret are renewed together: it is written
as a whole, and then once.

Life is counted from our own clock, which is also the one that finds it over: the two API servers' clocks do not come into it.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from kubeocean.api import names
from kubeocean.kube.meta import Json, annotations_of, format_time, labels_of, parse_time, resource_version_of, uid_of

REFRESH_AT: Final = 0.8  # of its life
JITTER: Final = 0.05  # of its life
LONGEST: Final = timedelta(hours=24)
LONGEST_SILENCE: Final = timedelta(hours=1)  # after which a renewal that fails is told, however long the token still lives


@dataclass(frozen=True, slots=True)
class MintedToken:
    """A token as the API server gave it, and for how long."""

    text: str
    seconds: int


@dataclass(frozen=True, slots=True)
class TokenLife:
    """Of the tokens in one Secret: when the first of them expires, and when they are to be renewed."""

    expires_at: datetime
    refresh_at: datetime

    @property
    def tell_at(self) -> datetime:
        """Return from when on somebody should hear that renewing them does not succeed."""
        return self.refresh_at + min((self.expires_at - self.refresh_at) / 2, LONGEST_SILENCE)

    def annotations(self) -> dict[str, str]:
        """Return how it is written on the Secret."""
        return {
            names.TOKEN_EXPIRES_AT_ANNOTATION: format_time(self.expires_at),
            names.TOKEN_REFRESH_AT_ANNOTATION: format_time(self.refresh_at),
        }


def read_minted(answer: Json, asked_for: int) -> MintedToken:
    """Return what a TokenRequest was answered with; the server says how long it really gave, `asked_for` is in seconds."""
    return MintedToken(str(answer["status"]["token"]), (answer.get("spec") or {}).get("expirationSeconds") or asked_for)


def plan_life(tokens: Iterable[MintedToken], now: datetime, random: float) -> TokenLife | None:
    """Return the life of tokens minted `now`; None without tokens. `random` is from 0 up to 1."""
    shortest = min((timedelta(seconds=token.seconds) for token in tokens), default=None)
    if shortest is None:
        return None
    wait = min(shortest * REFRESH_AT, LONGEST)
    return TokenLife(now + shortest, now + wait - min(shortest, LONGEST) * JITTER * random)


def read_life(secret: Json) -> TokenLife | None:
    """Return what is written on a Secret; None when nothing is, or nothing that can be read."""
    written = annotations_of(secret)
    try:
        return TokenLife(
            parse_time(written[names.TOKEN_EXPIRES_AT_ANNOTATION]), parse_time(written[names.TOKEN_REFRESH_AT_ANNOTATION])
        )
    except (KeyError, ValueError):
        return None


def texts_of(secret: Json, keys: Iterable[str]) -> dict[str, str]:
    """Return what a Secret holds under `keys`. Raises KeyError or ValueError when that is not all there."""
    return {key: b64decode(secret["data"][key], validate=True).decode() for key in keys}


def diff_token_secret(live: Json, wanted: Json) -> Json | None:
    """Return the merge patch that makes a live token Secret what it should be; None when it is."""
    mine, theirs = live.get("data") or {}, wanted["data"]
    data = {key: theirs.get(key) for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)}
    labels = _missing(labels_of(wanted), labels_of(live))
    annotations = _missing(annotations_of(wanted), annotations_of(live))
    if not (data or labels or annotations):
        return None
    metadata: Json = {"uid": uid_of(live), "resourceVersion": resource_version_of(live)}
    if labels:
        metadata["labels"] = labels
    if annotations:
        metadata["annotations"] = annotations
    return {"metadata": metadata, **({"data": data} if data else {})}


def _missing(wanted: dict[str, str], live: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in wanted.items() if live.get(key) != value}
