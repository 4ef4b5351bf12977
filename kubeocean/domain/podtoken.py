"""The files of a ServiceAccount volume, carried in a Secret of ours.

The virtual API server injects a projected volume into ordinary Pods: a token, `ca.crt`, the namespace. Only a kubelet
of the virtual cluster could fill it. So each projected volume with a token or the root certificate becomes one Secret
in the mountNamespace, named after Pod, volume and uid, and the twin's volume projects its keys to the same paths. The
rest of such a volume (other downward API items) stays a projection of the physical kubelet's.

Keys are fixed (`token`, `token-1` …, `ca.crt`, `namespace`), never taken from paths: a path may hold what a key may
not. Minting the tokens and renewing them is the syncer's work; here is only what they mean.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kubeocean.api import names
from kubeocean.domain.hashing import content_hash
from kubeocean.domain.naming import token_secret_name
from kubeocean.domain.podcontext import PodContext
from kubeocean.domain.poddownward import Downward
from kubeocean.kube.meta import Json, name_of, namespace_of, uid_of

CA_KEY: Final = "ca.crt"
NAMESPACE_KEY: Final = "namespace"
DEFAULT_EXPIRATION: Final = 3600  # seconds; the API server's own default for a projection that names none


@dataclass(frozen=True, slots=True)
class TokenSource:
    """One token to ask for: `key` in the Secret; `audience` "" = the API server's own; lifetime as asked for."""

    key: str
    audience: str
    expiration_seconds: int


@dataclass(frozen=True, slots=True)
class TokenSecret:
    """What the Secret behind one projected volume must hold; `ca_keys` and `namespace_keys` may be empty."""

    name: str
    volume: str
    sources: tuple[TokenSource, ...]
    ca_keys: tuple[str, ...]
    namespace_keys: tuple[str, ...]


def needs_secret(projected: Json) -> bool:
    """Tell whether a projected volume holds what only a Secret of ours can give: a token or the root certificate."""
    sources = projected.get("sources") or ()
    return any(source.get("serviceAccountToken") or source.get("configMap") for source in sources)


def map_token_volume(vpod: Json, volume: Json, downward: Downward) -> tuple[Json, TokenSecret]:
    """Return the twin's volume and the Secret it mounts, for a projected `volume` of which `needs_secret` is true."""
    name = token_secret_name(name_of(vpod), volume["name"], uid_of(vpod))
    projection = _Projection()
    for source in volume["projected"].get("sources") or ():
        projection.add(source)
    sources: list[Json] = [{"secret": {"name": name, "items": projection.items}}]
    if projection.downward:
        sources.append({"downwardAPI": {"items": downward.rewrite_items(projection.downward)}})
    projected = {key: value for key, value in volume["projected"].items() if key == "defaultMode"}
    secret = TokenSecret(
        name, volume["name"], tuple(projection.tokens),
        ca_keys=(CA_KEY,) if projection.has_ca else (),
        namespace_keys=(NAMESPACE_KEY,) if projection.has_namespace else (),
    )
    return {"name": volume["name"], "projected": projected | {"sources": sources}}, secret


class _Projection:
    """The sources of one projected volume, sorted: keys of the Secret, and what the physical kubelet can do."""

    def __init__(self) -> None:
        self.items: list[Json] = []
        self.tokens: list[TokenSource] = []
        self.downward: list[Json] = []
        self.has_ca = self.has_namespace = False

    def add(self, source: Json) -> None:
        if token := source.get("serviceAccountToken"):
            self._add_token(token)
        if config := source.get("configMap"):
            self._add_ca(config)
        if fields := source.get("downwardAPI"):
            for item in fields.get("items") or ():
                self._add_field(item)

    def _add_token(self, token: Json) -> None:
        key = f"token-{len(self.tokens)}" if self.tokens else "token"
        seconds = token.get("expirationSeconds") or DEFAULT_EXPIRATION
        self.tokens.append(TokenSource(key, token.get("audience") or "", seconds))
        self.items.append({"key": key, "path": token["path"]})

    def _add_ca(self, config: Json) -> None:
        # Without items every key becomes a file, and this ConfigMap has just the one.
        for item in config.get("items") or ({"key": CA_KEY, "path": CA_KEY},):
            if item["key"] == CA_KEY:
                self.has_ca = True
                self.items.append(dict(item))

    def _add_field(self, item: Json) -> None:
        if (item.get("fieldRef") or {}).get("fieldPath") != "metadata.namespace":
            self.downward.append(item)
            return
        self.has_namespace = True
        mode = {"mode": item["mode"]} if "mode" in item else {}
        self.items.append({"key": NAMESPACE_KEY, "path": item["path"], **mode})


def build_token_secret(
    token: TokenSecret, tokens: Mapping[str, str], ca_crt: str, vpod: Json, context: PodContext
) -> Json:
    """Return the Secret for the physical cluster; `tokens` holds the text of every `token.sources[].key`.

    The values are base64 as the API server shows them, so that a comparison with the live object compares like with
    like.
    """
    texts = {source.key: tokens[source.key] for source in token.sources}
    texts |= dict.fromkeys(token.ca_keys, ca_crt) | dict.fromkeys(token.namespace_keys, namespace_of(vpod))
    data = {key: b64encode(text.encode()).decode() for key, text in texts.items()}
    annotations = {
        **context.owner.annotations(),
        names.VIRTUAL_POD_NAMESPACE_ANNOTATION: namespace_of(vpod),
        names.VIRTUAL_POD_NAME_ANNOTATION: name_of(vpod),
        names.VIRTUAL_POD_UID_ANNOTATION: uid_of(vpod),
        names.CONTENT_HASH_ANNOTATION: content_hash(data),
    }
    labels = {
        **context.owner.labels(),
        names.SERVICE_ACCOUNT_TOKEN_LABEL: "true",
        names.VIRTUAL_NAMESPACE_LABEL: namespace_of(vpod),
    }
    metadata = {"name": token.name, "namespace": context.mount_namespace, "labels": labels, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}
