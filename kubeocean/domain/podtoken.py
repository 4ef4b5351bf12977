"""The files of a ServiceAccount volume, carried in a Secret of ours.

The virtual API server injects a projected volume into ordinary Pods: a token, `ca.crt`, the namespace. Only a kubelet
of the virtual cluster could fill it. So each projected volume with a token or the root certificate becomes one Secret
in the mountNamespace, named after Pod, volume and uid, and the twin's volume projects its keys to the same paths. The
rest of such a volume stays a projection of the physical kubelet's, in its place: of two sources that write one file a
kubelet lets the later win. A plain volume of the ConfigMap `kube-root-ca.crt` becomes such a Secret too; that ConfigMap is
never copied, for in the mountNamespace there is one of that name already: the lender's.

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
from kubeocean.domain.podcopy import Copier
from kubeocean.domain.podrefs import is_root_ca
from kubeocean.domain.rootca import CA_KEY
from kubeocean.kube.meta import Json, name_of, namespace_of, uid_of

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
    return any("serviceAccountToken" in source or is_root_ca(source.get("configMap")) for source in sources)


def map_root_ca_volume(vpod: Json, volume: Json, copier: Copier) -> tuple[Json, TokenSecret] | None:
    """Return the twin's volume and the Secret it mounts for a plain volume of kube-root-ca.crt; None for another volume."""
    if not is_root_ca(volume.get("configMap")):
        return None
    name = token_secret_name(name_of(vpod), volume["name"], uid_of(vpod))
    copied = copier.copy(volume["configMap"], "ConfigMapVolumeSource")
    source = {"secretName": name} | {key: copied[key] for key in ("defaultMode", "optional") if key in copied}
    if items := copied.get("items"):
        source["items"] = items
    return {"name": volume["name"], "secret": source}, TokenSecret(name, volume["name"], (), (CA_KEY,), ())


def map_token_volume(vpod: Json, volume: Json, copier: Copier) -> tuple[Json, TokenSecret]:
    """Return the twin's volume and the Secret it mounts, for a projected `volume` of which `needs_secret` is true."""
    name = token_secret_name(name_of(vpod), volume["name"], uid_of(vpod))
    projection = _Projection(name, token_mode(vpod["spec"]), copier)
    for source in volume["projected"].get("sources") or ():
        projection.add(source)
    projected = copier.copy(volume["projected"], "ProjectedVolumeSource")
    secret = TokenSecret(
        name, volume["name"], tuple(projection.tokens),
        ca_keys=(CA_KEY,) if projection.has_ca else (),
        namespace_keys=(NAMESPACE_KEY,) if projection.has_namespace else (),
    )
    return {"name": volume["name"], "projected": projected | {"sources": projection.sources}}, secret


def token_mode(spec: Json) -> int | None:
    """Return the mode of a token's file on the twin; None = the volume's own defaultMode.

    A kubelet (pkg/volume/projected, FsUserFrom) writes tokens with 0600 if the Pod has an fsGroup, to which it then opens
    them, or if all containers run as the same user, who then owns them. Otherwise it takes the defaultMode. The files of a
    Secret belong to root, so that user must be let in by the mode: 0644. No other user of the Pod is there to read it, and on
    the node the folders above it are root's alone.
    """
    pod = spec.get("securityContext") or {}
    if pod.get("fsGroup") is not None:
        return 0o600
    users = {
        (container.get("securityContext") or {}).get("runAsUser", pod.get("runAsUser"))
        for kind in ("initContainers", "containers") for container in spec.get(kind) or ()
    }
    if len(users) != 1 or None in users:
        return None
    return 0o644 if users.pop() else 0o600


class _Projection:
    """The sources of one projected volume, in their order: keys of the Secret, and what the physical kubelet can do."""

    def __init__(self, secret: str, mode: int | None, copier: Copier) -> None:
        self.sources: list[Json] = []
        self.tokens: list[TokenSource] = []
        self.has_ca = self.has_namespace = False
        self._secret = secret
        self._mode = {} if mode is None else {"mode": mode}
        self._copier = copier

    def add(self, source: Json) -> None:
        if token := source.get("serviceAccountToken"):
            self._add_token(token)
        elif is_root_ca(source.get("configMap")):
            self._add_ca(source["configMap"])
        elif (fields := source.get("downwardAPI")) is not None:  # one without items is valid, and gives no file
            for item in fields.get("items") or ():
                self._add_field(item)
        else:
            self.sources.append(self._copier.copy(source, "VolumeProjection"))

    def _add_token(self, token: Json) -> None:
        key = f"token-{len(self.tokens)}" if self.tokens else "token"
        seconds = token.get("expirationSeconds") or DEFAULT_EXPIRATION
        self.tokens.append(TokenSource(key, token.get("audience") or "", seconds))
        self._project({"key": key, "path": token["path"], **self._mode})

    def _add_ca(self, config: Json) -> None:
        # Without items every key becomes a file, and this ConfigMap has just the one.
        for item in self._copier.copy_all(config.get("items") or [{"key": CA_KEY, "path": CA_KEY}], "KeyToPath"):
            if item["key"] == CA_KEY:
                self.has_ca = True
                self._project(item)

    def _add_field(self, item: Json) -> None:
        if (item.get("fieldRef") or {}).get("fieldPath") == "metadata.namespace":
            self.has_namespace = True
            mode = {"mode": item["mode"]} if "mode" in item else {}
            self._project({"key": NAMESPACE_KEY, "path": item["path"], **mode})
        else:
            self._open("downwardAPI", {}).append(self._copier.copy(item, "DownwardAPIVolumeFile"))

    def _project(self, item: Json) -> None:
        self._open("secret", {"name": self._secret}).append(item)

    def _open(self, kind: str, source: Json) -> list[Json]:
        """Return the items of the last source if it is of this kind and ours, else of a new one."""
        last = self.sources[-1].get(kind) if self.sources else None
        if last is None or last.get("name") != source.get("name"):
            last = source | {"items": []}
            self.sources.append({kind: last})
        items: list[Json] = last["items"]
        return items


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
