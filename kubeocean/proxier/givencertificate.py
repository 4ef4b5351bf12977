"""A serving certificate that somebody else provides, in a Secret of the virtual cluster (cert-manager writes such).

The Secret is watched: what is new in it is shown from the next handshake on. What is unusable is refused with a word in the
log, and the one before goes on being shown; nothing but TLS is ever spoken.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog

from kubeocean.clusters.secretwatch import SecretWatch
from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json
from kubeocean.proxier.certificate import ShownCertificate

AGAIN: Final = 10.0  # seconds until a Secret that cannot be read is looked at again
_KEYS: Final = ("tls.crt", "tls.key")

log = structlog.get_logger(__name__)


class GivenCertificate(ShownCertificate):
    """The certificate in Secret `namespace/name`, of type kubernetes.io/tls."""

    def __init__(
        self, client: Client, *, namespace: str, name: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        super().__init__(clock)
        self._changed = asyncio.Event()
        self._secret = SecretWatch(client, namespace=namespace, name=name, on_change=self._changed.set)

    async def run(self) -> None:
        """Follow the Secret until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._secret.run(), name=f"secret {self._secret.reference}")
            while True:
                self._changed.clear()
                try:
                    self.show(*_pair(await self._secret.read()))
                except (ValueError, TimeoutError) as error:
                    why = str(error) or "the virtual cluster does not answer"
                    self._why = f"Secret {self._secret.reference}: {why}"
                    log.warning("no new serving certificate", error=self._why)
                await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(AGAIN if self._why else None):
                await self._changed.wait()
        except TimeoutError:
            return


def _pair(secret: Json | None) -> tuple[bytes, bytes]:
    if secret is None:
        raise ValueError("there is none; make one of type kubernetes.io/tls")
    data = secret.get("data") or {}
    try:
        certificate, key = (base64.b64decode(data[each], validate=True) for each in _KEYS)
    except KeyError as error:
        raise ValueError(f"it has no key {error}; it must be of type kubernetes.io/tls") from error
    except binascii.Error as error:
        raise ValueError("its data is not base64") from error
    return certificate, key
