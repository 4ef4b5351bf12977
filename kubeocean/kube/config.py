"""How to reach one API server: out of a guarded kubeconfig, the operator's own files, or the Pod we run in.

Every way ends in a `ServerConfig`; what differs is which fields are allowed on the way. Nothing here touches the
process-wide default of kubernetes-asyncio: many clusters live in one process.
"""

from __future__ import annotations

import asyncio
import base64
import os
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext, SSLError

from kubeocean.kube.credentials import Authorization, Plugin, TokenFile, no_authorization, static_credentials
from kubeocean.kube.errors import ConfigError
from kubeocean.kube.kubeconfig import (
    Selection,
    check_supported,
    guard_kubeconfig,
    inline_bytes,
    parse_kubeconfig,
    select,
    server_of,
)
from kubeocean.kube.meta import Json
from kubeocean.kube.tls import build_ssl_context

__all__ = ["ServerConfig", "config_from_file", "config_from_kubeconfig", "guard_kubeconfig"]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_FILES_OF_CLUSTER = {"certificate-authority": "certificate-authority-data"}
_FILES_OF_USER = {"client-certificate": "client-certificate-data", "client-key": "client-key-data"}


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One API server and how to prove who we are.

    server: URL without a trailing slash, perhaps with a path. ssl: None for plain http. namespace: the context's own.
    authorization: gives the value of the Authorization header (None: no header); called with True when the old one was
    refused. tls_server_name: the name the server's certificate is for when it is not the URL's ("" = the URL's).
    """

    server: str
    ssl: SSLContext | None = None
    namespace: str = "default"
    authorization: Authorization = no_authorization
    tls_server_name: str = ""


async def config_from_kubeconfig(data: Json, *, source: str, strict: bool = False) -> ServerConfig:
    """Return the config of a kubeconfig that `guard_kubeconfig` let pass.

    Only inline fields are looked at, so even an unguarded one can neither run a command nor read a file. `strict` keeps
    VERIFY_X509_STRICT (see `tls`). Raises ConfigError when certificates or key are unusable.
    """
    chosen = select(data, source=source)
    return _build(chosen, static_credentials(chosen.user), source=source, strict=strict)


async def config_from_file(path: str | None, *, context: str | None = None, strict: bool = False) -> ServerConfig:
    """Return the config of the operator's own kubeconfig, which may name files and run plugins.

    path None: $KUBECONFIG (one file or a list), else ~/.kube/config, else the ServiceAccount of the Pod we run in.
    `context` None: current-context. Raises ConfigError, naming file, field and remedy.
    """
    paths = _existing_paths(path)
    if not paths:
        return _config_in_cluster(strict=strict)
    source = os.pathsep.join(map(str, paths))
    data = await asyncio.to_thread(_read_merged, paths)
    chosen = select(data, source=source, context=context)
    if objection := check_supported(chosen):
        raise ConfigError(f"{source}: {objection}")
    await asyncio.to_thread(_read_named_files, chosen, source)
    return _build(chosen, _credentials_of(chosen, source), source=source, strict=strict)


def _config_in_cluster(*, strict: bool) -> ServerConfig:
    """Return the config of the Pod we run in, from its environment and mounted ServiceAccount."""
    folder = SERVICE_ACCOUNT
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise ConfigError("no kubeconfig and not in a cluster; set --kubeconfig or $KUBECONFIG")
    source = f"ServiceAccount at {folder}"
    try:
        ca, namespace = (folder / "ca.crt").read_bytes(), (folder / "namespace").read_text("ascii").strip()
        context = build_ssl_context(ca=ca, strict=strict)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise ConfigError(f"{source}: {error}; is automountServiceAccountToken off?") from None
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return ServerConfig(server, context, namespace or "default", TokenFile(folder / "token", source=source))


def _read_named_files(chosen: Selection, source: str) -> None:
    """Put the content of named files where inline data would stand (which wins, as in kubectl). Changes `chosen`."""
    for values, at, files in (
        (chosen.cluster, chosen.cluster_at, _FILES_OF_CLUSTER), (chosen.user, chosen.user_at, _FILES_OF_USER),
    ):
        for field, data_field in files.items():
            if values.get(field) and not values.get(data_field):
                try:
                    values[data_field] = base64.b64encode(Path(values[field]).read_bytes()).decode("ascii")
                except OSError as error:
                    raise ConfigError(f"{source}: {at}.{field}: {error}") from None


def _build(chosen: Selection, authorization: Authorization, *, source: str, strict: bool) -> ServerConfig:
    server = server_of(chosen, source=source)
    context: SSLContext | None = None
    if server.startswith("https:"):
        try:
            context = build_ssl_context(
                ca=inline_bytes(chosen.cluster, "certificate-authority-data", at=chosen.cluster_at, source=source),
                certificate=inline_bytes(chosen.user, "client-certificate-data", at=chosen.user_at, source=source),
                key=inline_bytes(chosen.user, "client-key-data", at=chosen.user_at, source=source),
                strict=strict, verify=not chosen.cluster.get("insecure-skip-tls-verify"),
            )
        except (SSLError, ValueError) as error:
            raise ConfigError(
                f"{source}: certificate-authority-data, client-certificate-data or client-key-data cannot be used: "
                f"{getattr(error, 'reason', None) or 'no PEM'}; "
                "the key must be unencrypted PEM and belong to the certificate"
            ) from None
    return ServerConfig(
        server, context, str(chosen.context.get("namespace") or "default"), authorization,
        str(chosen.cluster.get("tls-server-name") or ""),
    )


def _credentials_of(chosen: Selection, source: str) -> Authorization:
    """Return what kubectl would use: a token file wins over a token."""
    user = chosen.user
    if user.get("exec") or user.get("auth-provider"):
        # The library sees the plugin and nothing else: certificates it saw would stay in files of its own until exit.
        plugin = {field: user[field] for field in ("exec", "auth-provider") if user.get(field)}
        return Plugin({
            "current-context": "current", "contexts": [{"name": "current", "context": {"cluster": "it", "user": "me"}}],
            "clusters": [{"name": "it", "cluster": {"server": chosen.cluster.get("server")}}],
            "users": [{"name": "me", "user": plugin}],
        }, source=source)
    if user.get("tokenFile"):
        return TokenFile(Path(user["tokenFile"]), source=source)
    return static_credentials(user)


def _existing_paths(path: str | None) -> list[Path]:
    """Return the kubeconfig files to be read; none means: use the Pod's ServiceAccount."""
    asked = path or os.environ.get("KUBECONFIG")
    if not asked:
        default = Path("~/.kube/config").expanduser()
        return [default] if default.is_file() else []
    wanted = [asked] if path else asked.split(os.pathsep)
    found = [file for file in (Path(part).expanduser() for part in wanted if part) if file.is_file()]
    if not found:
        raise ConfigError(f"no kubeconfig at {asked}; correct --kubeconfig or $KUBECONFIG")
    return found


def _read_merged(paths: list[Path]) -> Json:
    """Merge as kubectl does: the first file to say something wins, and paths are relative to the file they stand in."""
    merged: Json = {"clusters": [], "contexts": [], "users": []}
    for path in paths:
        data = _read(path)
        merged.setdefault("current-context", data.get("current-context"))
        if not merged["current-context"]:
            del merged["current-context"]
        for section in ("clusters", "contexts", "users"):
            known = {entry.get("name") for entry in merged[section]}
            merged[section] += [entry for entry in data.get(section) or () if entry.get("name") not in known]
    return merged


def _read(path: Path) -> Json:
    try:
        data = parse_kubeconfig(path.read_bytes(), source=str(path))
    except OSError as error:
        raise ConfigError(f"cannot read the kubeconfig {path}: {error.strerror}") from None
    for section, field, files in (("clusters", "cluster", _FILES_OF_CLUSTER), ("users", "user", _FILES_OF_USER)):
        entries = data.get(section) or []
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ConfigError(f"{path}: {section} is no list of entries with name and {field}")
        for entry in entries:
            if isinstance(values := entry.get(field), dict):
                _make_absolute(values, (*files, "tokenFile"), path.parent)
    return data


def _make_absolute(values: Json, fields: tuple[str, ...], base: Path) -> None:
    for field in fields:
        if values.get(field):
            values[field] = str(base / Path(str(values[field])).expanduser())
