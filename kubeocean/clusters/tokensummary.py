"""What we remember of a Secret with ServiceAccount tokens: whose it is and how it fares, never what is in it."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime

from kubeocean.api import names
from kubeocean.domain.hashing import content_hash
from kubeocean.domain.ownership import Owner, is_ours
from kubeocean.domain.podpair import virtual_key_of
from kubeocean.domain.rootca import CA_KEY
from kubeocean.domain.tokenlife import TokenLife, read_life
from kubeocean.kube.meta import Json, ObjectKey, annotations_of


@dataclass(frozen=True, slots=True)
class TokenSecretHead:
    """`uid` is the virtual Pod's. `life` is None when it is unknown; `ca` stands for the root certificate, None without.

    `altered`: what stands for its content when that is not what was meant, "" when it is. An admission webhook may have made it
    of what we wrote; who has seen the answer to that write passes it as `stored`.
    """

    virtual: ObjectKey
    uid: str
    life: TokenLife | None
    tokens: bool
    ca: int | None
    altered: str

    def needs_tokens(self, now: datetime, stored: str = "") -> bool:
        """Tell whether its tokens are to be asked for anew: they are due, were tampered with, or of unknown age."""
        return self.altered not in ("", stored) or (self.tokens and (self.life is None or self.life.refresh_at <= now))

    def due_in(self, now: datetime, ca: int | None, stored: str = "") -> float | None:
        """Return in how many seconds it is to be written anew (0: now); None = never. `ca` stands for the present one."""
        if self.needs_tokens(now, stored) or (self.ca is not None and ca is not None and self.ca != ca):
            return 0.0
        return (self.life.refresh_at - now).total_seconds() if self.tokens and self.life else None


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
    life, content = read_life(secret), content_hash(data)
    # The keys of one that was adopted are not ours; its life says that it holds tokens.
    return TokenSecretHead(
        virtual_key_of(secret), annotations.get(names.VIRTUAL_POD_UID_ANNOTATION, ""), life,
        tokens=life is not None or any(key.startswith("token") for key in data),
        ca=hash(data[CA_KEY]) if CA_KEY in data else None,
        altered="" if annotations.get(names.CONTENT_HASH_ANNOTATION) == content else content,
    )
