"""Kubeconfig files with everything inline, so that one file can be handed to any program or put into a Secret."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import yaml

from kubeocean.kube.meta import Json
from kubeocean.sandbox.pki import KeyPair


def build_kubeconfig(cluster: str, server: str, authority: bytes, user: str, pair: KeyPair) -> Json:
    """Return a kubeconfig with one context, called `cluster`, for the user of client certificate `pair`."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": cluster,
        "clusters": [{
            "name": cluster, "cluster": {"server": server, "certificate-authority-data": _inline(authority)},
        }],
        "users": [{
            "name": user,
            "user": {"client-certificate-data": _inline(pair.certificate), "client-key-data": _inline(pair.key)},
        }],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
    }


def write_kubeconfig(kubeconfig: Json, path: Path) -> None:
    """Write the file so that only its owner can read it: it holds a key."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        yaml.safe_dump(kubeconfig, file, sort_keys=False)


def _inline(pem: bytes) -> str:
    return base64.b64encode(pem).decode()
