"""Where the Authorization header comes from: `await source(refresh)`; refresh=True says the old one was refused.

Static credentials never change. A token file (the kubelet renews a mounted ServiceAccount token before it expires) is
read again every minute. Exec plugins and auth providers are left to kubernetes-asyncio, which is imported only then: on
two shared cores its import took 1.7 s and 75 MB, and production (in-cluster tokens, guarded kubeconfigs) needs neither.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from kubeocean.kube.errors import ConfigError
from kubeocean.kube.meta import Json

Authorization = Callable[[bool], Awaitable[str | None]]
TOKEN_FILE_LIFETIME = 60.0  # seconds; client-go reads as often
PLUGIN_TIMEOUT = 60.0  # seconds; a plugin may ask a cloud, not a human


async def no_authorization(refresh: bool) -> str | None:
    """Send no Authorization header: for client certificates, and for plain http on loopback."""
    return None


def static_credentials(user: Json) -> Authorization:
    """Return the source for inline credentials: a token before a password, as client-go has it."""
    if token := user.get("token"):
        header = f"Bearer {token}"
    elif user.get("username") and user.get("password"):
        header = "Basic " + base64.b64encode(f"{user['username']}:{user['password']}".encode()).decode("ascii")
    else:
        return no_authorization

    async def authorization(refresh: bool) -> str | None:
        return header

    return authorization


class TokenFile:
    """Bearer tokens out of a file that others keep fresh. An unreadable file is a ConfigError, not a crash."""

    def __init__(self, path: Path, *, source: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._source = source
        self._clock = clock
        self._header = ""
        self._read_again_at = float("-inf")

    async def __call__(self, refresh: bool) -> str | None:
        """Return the header, from a file content at most a minute old; `refresh` reads at once."""
        if refresh or self._clock() >= self._read_again_at:
            self._read()  # a kilobyte, from memory: cheaper than a thread
        return self._header

    def _read(self) -> None:
        try:
            token = self._path.read_text("ascii").strip()
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self._source}: cannot read the token file {self._path}: {error}") from None
        if not token or not token.isprintable():
            raise ConfigError(f"{self._source}: the token file {self._path} holds no token")
        self._header = f"Bearer {token}"
        self._read_again_at = self._clock() + TOKEN_FILE_LIFETIME


class Plugin:
    """Credentials by `exec` or `auth-provider` of the operator's own kubeconfig, through kubernetes-asyncio.

    They are asked for again when the server refuses them. A plugin that returns a client certificate instead of a token
    is a ConfigError: such a certificate would have to change under a live connection pool.
    """

    def __init__(self, kubeconfig: Json, *, source: str) -> None:
        self._kubeconfig = kubeconfig
        self._source = source
        self._header: str | None = None

    async def __call__(self, refresh: bool) -> str | None:
        """Return the header; runs the plugin at the first call and on `refresh`, for at most PLUGIN_TIMEOUT seconds."""
        if refresh or self._header is None:
            self._header = await self._load()
        return self._header

    async def _load(self) -> str:
        from kubernetes_asyncio.client import Configuration
        from kubernetes_asyncio.config import load_kube_config_from_dict

        configuration = Configuration()  # our own: without one the library would set its process-wide default
        try:
            async with asyncio.timeout(PLUGIN_TIMEOUT):
                await load_kube_config_from_dict(self._kubeconfig, client_configuration=configuration)
                settings = await configuration.auth_settings()
        except Exception as error:  # the library raises what it meets: assertions, KeyErrors, OSErrors
            text = str(error) or type(error).__name__
            raise ConfigError(f"{self._source}: the credential plugin failed: {text}") from error
        header = settings.get("BearerToken", {}).get("value")
        if not header:
            raise ConfigError(f"{self._source}: the credential plugin returned no token; only tokens are supported")
        return str(header)
