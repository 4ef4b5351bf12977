"""The names of everything we create in either cluster, as functions of what it stands for.

Required of every name:

- *stable*: the same thing has the same name in every process and version; the Go project's names stay valid, so what it
  created is found again. Nothing here may change;
- *valid* for arbitrary input (DNS subdomain, DNS label or label value, as the function says), at most 63 characters;
- *no collisions*: different things have different names. `a` in namespace `b-c` is not `c-a` in `b`;
- *recognisable*: the first characters are those of the thing, for the human who reads the list.

Hence one shape: the first 30 characters, a dash, and the md5 of the whole identity (30 + 1 + 32 = 63). A name cut in
the middle may end in a dot, and `web.-5d41…` is no DNS name: trailing dots are removed. A trailing dash is legal there
and stays, since the Go project left it. Characters that no Kubernetes name has become dashes (lower case first); the
md5 still tells the originals apart.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container
from functools import lru_cache
from typing import Final

_LONGEST: Final = 63
_HEAD: Final = 30
_LABEL_VALUE: Final = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_FOREIGN_TO_DNS: Final = re.compile(r"[^-a-z0-9.]")
_LONELY_DOT: Final = re.compile(r"\.(?=[-.])|(?<=[-.])\.")  # between dots or dashes there is no DNS label
_FOREIGN_TO_LABELS: Final = re.compile(r"[^-A-Za-z0-9_.]")

_FIRST_PORT: Final = 15000
_LAST_PORT: Final = 65535
_PORTS: Final = _LAST_PORT - _FIRST_PORT + 1
_FNV_OFFSET: Final = 0x811C9DC5
_FNV_PRIME: Final = 0x01000193


class NoFreePort(LookupError):
    """Every port of the proxier's range is taken; the binding has too many virtual nodes on one address."""


def vnode_name(cluster_id: str, node: str) -> str:
    """Return the name of the virtual node that stands for physical node `node`: DNS subdomain and label value.

    >>> vnode_name("edge", "node-7")
    'vnode-edge-node-7'
    """
    name = f"vnode-{cluster_id}-{node}"
    return name if len(name) <= _LONGEST and _SUBDOMAIN.fullmatch(name) else _hashed(name, name)


def vnode_prefix(cluster_id: str) -> str:
    """Return what the names of all virtual nodes of a binding begin with; those of few others do.

    >>> vnode_prefix("edge")
    'vnode-edge-'
    """
    return f"vnode-{cluster_id}-"


@lru_cache(maxsize=2048)  # asked several times in each pass over a Pod, and hardly ever later
def physical_name(name: str, namespace: str) -> str:
    """Return the name in the mountNamespace of the twin of a Pod, ConfigMap, Secret or claim: DNS subdomain.

    >>> physical_name("web-0", "default")
    'web-0-24290f8677662cb1e27719529e14a837'
    """
    return _hashed(name, f"{namespace}/{name}")


def volume_twin_names(name: str, owner: str) -> tuple[str, str]:
    """Return the names that a PersistentVolume's twin may have: ours, and the Go project's if it was adopted."""
    return persistent_volume_name(name, owner), persistent_volume_name(name, "")


def persistent_volume_name(name: str, owner: str) -> str:
    """Return the name of a PersistentVolume's twin: DNS subdomain.

    A volume has no namespace, but its twin stands among those of other borrowers: `owner` (`Owner.annotation`) takes
    the namespace's place. The Go project left it empty; its volumes are found under `persistent_volume_name(name, "")`.
    """
    return _hashed(name, f"{owner}/{name}")


def provisioned_volume_name(cluster_id: str, claim_uid: str) -> str:
    """Return the name of the virtual volume whose data a physical claim holds: DNS subdomain, 61 characters at most."""
    return f"{cluster_id}-{claim_uid}"


def token_secret_name(pod: str, volume: str, uid: str) -> str:
    """Return the name of the Secret with the tokens of one projected volume of a virtual Pod: DNS subdomain.

    The uid keeps the tokens of a Pod apart from those of its successor under the same name.
    """
    identity = f"{pod}-{volume}-{uid}"
    return _hashed(identity, identity)


def label_value(text: str) -> str:
    """Return `text` if it is a label value, else one that stands for it (an annotation should hold the truth).

    Colons become dashes, which is all an IPv6 address needs; what is then still invalid or too long is cut and hashed.

    >>> label_value("fd00::7")
    'fd00--7'
    """
    candidate = text.replace(":", "-")
    if _LABEL_VALUE.fullmatch(candidate):
        return candidate
    head = _FOREIGN_TO_LABELS.sub("-", candidate[:_HEAD]).lstrip("-_.")
    return f"{head}-{_md5(text)}" if head else _md5(text)


def pod_hostname(pod: str) -> str:
    """Return the hostname of a Pod that sets none: its name as a DNS label, cut where a kubelet cuts it."""
    return _FOREIGN_TO_DNS.sub("-", pod.lower()).replace(".", "-")[:_LONGEST].strip("-") or "pod"


def proxier_port(vnode: str, taken: Container[int]) -> int:
    """Return the port on which the proxier serves a virtual node: FNV-1a of its name, then the next one not in `taken`.

    Stable as long as `taken` (the ports of the other nodes on the same address) is. Raises NoFreePort.
    """
    start = _fnv1a(vnode.encode())
    for step in range(_PORTS):
        port = _FIRST_PORT + (start + step) % _PORTS
        if port not in taken:
            return port
    raise NoFreePort(f"no free proxier port for {vnode}: {_FIRST_PORT}-{_LAST_PORT} are all taken; add an address")


def _hashed(name: str, identity: str) -> str:
    head = _LONELY_DOT.sub("-", _FOREIGN_TO_DNS.sub("-", name.lower()[:_HEAD])).lstrip("-.").rstrip(".")
    return f"{head}-{_md5(identity)}" if head else _md5(identity)


def _md5(text: str) -> str:
    return hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def _fnv1a(data: bytes) -> int:
    """Return the 32-bit FNV-1a hash, as Go's hash/fnv New32a."""
    value = _FNV_OFFSET
    for byte in data:
        value = (value ^ byte) * _FNV_PRIME & 0xFFFFFFFF
    return value
