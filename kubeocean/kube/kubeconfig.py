"""May this kubeconfig be used? The guard for credentials that somebody else wrote.

A kubeconfig is a small program: `exec` runs a command, `tokenFile` and `certificate-authority` read our files,
`proxy-url` shows our traffic to a stranger. One out of a Secret may therefore hold inline credentials and nothing else.
The guard reads the bytes with limits (size, nesting, no YAML aliases), follows current-context to one cluster and one
user, and asks about each field in turn; the first objection is raised as ConfigError, which names the field and the
remedy and never quotes a value (names apart). What it returns holds that one context and nothing else, so what was not
looked at cannot be used.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

import yaml

from kubeocean.kube.errors import ConfigError
from kubeocean.kube.meta import Json

MAX_BYTES = 2**20
MAX_DEPTH = 20  # a kubeconfig is 5 deep
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # C where PyYAML was built with libyaml: 10 times faster


class Selection(NamedTuple):
    """What current-context chose; `where` prefixes are for messages, e.g. clusters[prod].cluster."""

    context: Json
    cluster: Json
    user: Json
    cluster_at: str
    user_at: str


def guard_kubeconfig(raw: bytes | str, *, source: str) -> Json:
    """Return a kubeconfig that is safe to use, reduced to its current context; raise ConfigError for any other.

    `source` says in messages where it came from, e.g. "Secret kubeocean-system/east".
    """
    data = parse_kubeconfig(raw, source=source)
    chosen = select(data, source=source)
    for check in _CHECKS:
        if objection := check(chosen):
            raise ConfigError(f"{source}: {objection}")
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": "current",
        "contexts": [{"name": "current", "context": chosen.context | {"cluster": "cluster", "user": "user"}}],
        "clusters": [{"name": "cluster", "cluster": chosen.cluster}],
        "users": [{"name": "user", "user": chosen.user}],
    }


def parse_kubeconfig(raw: bytes | str, *, source: str) -> Json:
    """Return the kubeconfig as a dict; raise ConfigError when it is too large, no YAML, or YAML meant to hurt."""
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{source}: larger than 1 MiB; a kubeconfig holds one cluster and one user")
    try:
        _refuse_bombs(raw, source)
        data = yaml.load(raw, Loader=_Loader)
    except yaml.YAMLError as error:
        # `from None`: the error's text quotes the line it stumbled over, which may be a token.
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ConfigError(f"{source}: is no valid YAML{place}; paste the kubeconfig unchanged") from None
    except (ValueError, TypeError, RecursionError, OverflowError):
        raise ConfigError(f"{source}: holds a value that YAML cannot read; paste the kubeconfig unchanged") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: is no kubeconfig; expected a mapping with clusters, contexts and users")
    return data


def select(data: Json, *, source: str, context: str | None = None) -> Selection:
    """Follow `context` (None: current-context) to its cluster and user; raise ConfigError where the thread breaks."""
    name = data.get("current-context") if context is None else context
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{source}: current-context is missing; set it to the name of one of contexts")
    chosen = _named(data, "contexts", "context", name, f"current-context {name!r}", source)
    parts = []
    for section, field in (("clusters", "cluster"), ("users", "user")):
        target = chosen.get(field)
        if not isinstance(target, str) or not target:
            raise ConfigError(f"{source}: contexts[{name}].context.{field} is missing; name one of {section}")
        parts.append((_named(data, section, field, target, f"contexts[{name}].context.{field}", source), target))
    (cluster, cluster_name), (user, user_name) = parts
    return Selection(chosen, cluster, user, f"clusters[{cluster_name}].cluster", f"users[{user_name}].user")


def server_of(chosen: Selection, *, source: str) -> str:
    """Return the server URL without a trailing slash; raise ConfigError when it is none."""
    if objection := _check_server(chosen):
        raise ConfigError(f"{source}: {objection}")
    return str(chosen.cluster["server"]).rstrip("/")


def inline_bytes(values: Json, field: str, *, at: str, source: str) -> bytes | None:
    """Return the base64 content of `field`, None when it is not set; raise ConfigError when it is no base64."""
    text = values.get(field)
    if not text:
        return None
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (AttributeError, ValueError, binascii.Error):
        raise ConfigError(f"{source}: {at}.{field} is no base64; paste the value as kubectl wrote it") from None


def is_loopback(host: str) -> bool:
    """Tell whether `host` can only be this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refuse_bombs(raw: bytes | str, source: str) -> None:
    """Look at YAML's events, before any object is built: aliases multiply (a "billion laughs"), nesting exhausts."""
    depth = 0
    for event in yaml.parse(raw, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{source}: uses a YAML alias (*name); write the value out where it is needed")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ConfigError(f"{source}: is nested more than {MAX_DEPTH} levels deep; this is no kubeconfig")


def _named(data: Json, section: str, field: str, name: str, wanted_by: str, source: str) -> Json:
    entries = data.get(section)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{source}: {section} is missing or no list; expected entries of name and {field}")
    found = [entry.get(field) for entry in entries if entry.get("name") == name]
    if not found:
        raise ConfigError(f"{source}: {wanted_by} dangles, {section} has no {name!r}; add it or correct the name")
    if len(found) > 1:
        raise ConfigError(f"{source}: {section} has {name!r} more than once; keep one")
    if not isinstance(found[0], dict):
        raise ConfigError(f"{source}: {section}[{name}].{field} is missing or no mapping")
    return found[0]


def _check_server(chosen: Selection) -> str | None:
    server, at = chosen.cluster.get("server"), chosen.cluster_at
    if not isinstance(server, str) or not server:
        return f"{at}.server is missing; set it to the https URL of the API server"
    try:
        url = urlsplit(server)
        valid = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        valid = False
    if not valid or not server.isascii() or not server.isprintable() or " " in server:
        return f"{at}.server is no URL; write it as https://HOST:PORT"
    return _check_url_parts(url, at)


def _check_url_parts(url: SplitResult, at: str) -> str | None:
    if "@" in url.netloc:
        return f"{at}.server contains credentials; move them to users"
    if url.query or url.fragment:
        return f"{at}.server has a query or fragment; write it as https://HOST:PORT"
    return None


def _check_https(chosen: Selection) -> str | None:
    url = urlsplit(chosen.cluster["server"])
    if url.scheme != "https" and not is_loopback(url.hostname or ""):
        return f"{chosen.cluster_at}.server is not https; credentials would travel unencrypted, write https://HOST:PORT"
    return None


def _check_verification(chosen: Selection) -> str | None:
    if chosen.cluster.get("insecure-skip-tls-verify"):
        return (
            f"{chosen.cluster_at}.insecure-skip-tls-verify is refused, anybody could pose as the cluster; "
            "remove it and set certificate-authority-data (and tls-server-name if the certificate has another name)"
        )
    return None


_INLINE_DATA = "run `kubectl config view --raw --flatten` and paste its output, which has the content inline"
_STATIC_TOKEN = "create a ServiceAccount in that cluster and set its token as users[].user.token"

_REFUSED_OF_CLUSTER = {"certificate-authority": f"names a file of this machine; {_INLINE_DATA}"}
_REFUSED_OF_USER = {
    "exec": f"would run a command here; {_STATIC_TOKEN}",
    "auth-provider": f"needs a plugin; {_STATIC_TOKEN}",
    "tokenFile": "names a file of this machine; set its content as users[].user.token",
    "client-certificate": f"names a file of this machine; {_INLINE_DATA}",
    "client-key": f"names a file of this machine; {_INLINE_DATA}",
}
# Refused even in the operator's own file: leaving them out silently would mean other rights, or another way.
_UNSUPPORTED_OF_CLUSTER = {"proxy-url": "is not supported; the API server must be reachable directly"}
_UNSUPPORTED_OF_USER = dict.fromkeys(
    ("as", "as-uid", "as-groups", "as-user-extra"), "is not supported; use credentials of that user"
)


def check_supported(chosen: Selection) -> str | None:
    """Return the objection to a field that no kubeconfig of ours may have, None when there is none."""
    return (
        _first_set(chosen.cluster, chosen.cluster_at, _UNSUPPORTED_OF_CLUSTER)
        or _first_set(chosen.user, chosen.user_at, _UNSUPPORTED_OF_USER)
    )


def _check_inline(chosen: Selection) -> str | None:
    return (
        _first_set(chosen.cluster, chosen.cluster_at, _REFUSED_OF_CLUSTER)
        or _first_set(chosen.user, chosen.user_at, _REFUSED_OF_USER)
    )


def _first_set(values: Json, at: str, refused: dict[str, str]) -> str | None:
    return next((f"{at}.{field} {why}" for field, why in refused.items() if values.get(field)), None)


def _check_types(chosen: Selection) -> str | None:
    for values, at, fields in (
        (chosen.context, "context", ("namespace",)),
        (chosen.cluster, chosen.cluster_at, ("certificate-authority-data", "tls-server-name")),
        (chosen.user, chosen.user_at, ("token", "username", "password", "client-certificate-data", "client-key-data")),
    ):
        for field in fields:
            if not isinstance(values.get(field), str | None):
                return f"{at}.{field} is no text; put it in quotes"
    return None


def _check_credentials(chosen: Selection) -> str | None:
    user, at = chosen.user, chosen.user_at
    certificate, key = user.get("client-certificate-data"), user.get("client-key-data")
    if bool(certificate) != bool(key):
        return f"{at} has only one of client-certificate-data and client-key-data; set both"
    token = user.get("token") or ""
    if not (token.isascii() and token.isprintable()):
        return f"{at}.token contains a line break or a character no token has; paste it on one line"
    if not (token or certificate or (user.get("username") and user.get("password"))):
        return f"{at} has no credentials; set token, or client-certificate-data and client-key-data"
    return None


# Asked in this order: an operator first learns what is forbidden, then what is missing.
_CHECKS: tuple[Callable[[Selection], str | None], ...] = (
    _check_inline, check_supported, _check_verification, _check_server, _check_https, _check_types, _check_credentials,
)
