"""What we remember of a Secret with ServiceAccount tokens: whose it is and how it fares, never what is in it."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from kubeocean.api import names
from kubeocean.domain.hashing import content_hash
from kubeocean.domain.ownership import Owner, is_ours
from kubeocean.domain.podpair import virtual_key_of
from kubeocean.domain.rootca import CA_KEY
from kubeocean.domain.tokenlife import TokenLife, read_life
from kubeocean.kube.meta import Json, ObjectKey, annotations_of

_SAID: Final = (names.CONTENT_HASH_ANNOTATION, names.TOKEN_EXPIRES_AT_ANNOTATION, names.TOKEN_REFRESH_AT_ANNOTATION)


@dataclass(frozen=True, slots=True)
class TokenSecretHead:
    """`uid` is the virtual Pod's. `life` is None when it is unknown; `ca` stands for the root certificate, None without.

    `altered` is "" while it holds what we put into it, else a digest of what it holds and says in its place.
    """

    virtual: ObjectKey
    uid: str
    life: TokenLife | None
    tokens: bool
    ca: int | None
    altered: str

    def needs_tokens(self, now: datetime) -> bool:
        """Tell whether its tokens are to be asked for anew: they are due, were tampered with, or of unknown age."""
        return bool(self.altered) or (self.tokens and (self.life is None or self.life.refresh_at <= now))

    def due_in(self, now: datetime, ca: int | None) -> float | None:
        """Return in how many seconds it is to be written anew (0: now); None = never. `ca` stands for the present one."""
        if self.needs_tokens(now) or (self.ca is not None and ca is not None and self.ca != ca):
            return 0.0
        return (self.life.refresh_at - now).total_seconds() if self.tokens and self.life else None

    def as_meant(self, written: Written | None) -> TokenSecretHead:
        """Return the head of what we meant if this is what a server made of it when it stored our last write; else itself.

        An admission webhook of the lender may add to what we write, or take from it. To write it again changes nothing.
        """
        if written is None or self.altered != written.altered or not self.altered:
            return self
        return replace(self, altered="", life=written.life, tokens=written.life is not None, ca=written.ca)


@dataclass(frozen=True, slots=True)
class Written:
    """Our last write of a token Secret: the mark of what was stored in answer, and what was meant.

    `life` is None for one without tokens, `ca` for one without a root certificate.
    """

    altered: str
    life: TokenLife | None
    ca: int | None


def note_written(wanted: Json, stored: Json) -> Written:
    """Return what is remembered of a write: `stored` is what a server answered to `wanted`."""
    meant = _summarise(wanted)
    return Written(_summarise(stored).altered, meant.life, meant.ca)


def ca_mark(configmap: Json | None) -> int | None:
    """Return what stands for the certificate in a root CA ConfigMap, within this process; None when there is none."""
    text = ((configmap or {}).get("data") or {}).get(CA_KEY)
    return None if text is None else hash(b64encode(text.encode()).decode())


def trim_token_secret(secret: Json, owner: Owner) -> Json | None:
    """Return a token Secret of ours as its informer keeps it: names and head."""
    if not is_ours(secret, owner):
        return None
    metadata = {key: secret["metadata"].get(key) for key in ("name", "namespace", "uid", "resourceVersion")}
    return {"metadata": metadata, "head": _summarise(secret)}


def token_secret_head(trimmed: Json) -> TokenSecretHead:
    """Return the head of what `trim_token_secret` left."""
    head: TokenSecretHead = trimmed["head"]
    return head


def _summarise(secret: Json) -> TokenSecretHead:
    annotations, data = annotations_of(secret), secret.get("data") or {}
    life = read_life(secret)
    # The keys of one that was adopted are not ours; its life says that it holds tokens.
    tokens = life is not None or any(key.startswith("token") for key in data)
    said = {name: annotations.get(name) for name in _SAID}
    intact = said[names.CONTENT_HASH_ANNOTATION] == content_hash(data) and (life is not None or not tokens)
    return TokenSecretHead(
        virtual_key_of(secret), annotations.get(names.VIRTUAL_POD_UID_ANNOTATION, ""), life, tokens=tokens,
        ca=hash(data[CA_KEY]) if CA_KEY in data else None,
        altered="" if intact else content_hash({"data": data, "said": said}),
    )
