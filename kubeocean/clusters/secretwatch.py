"""Watches the one Secret a binding names: a kubeconfig is reloaded within moments, and no other Secret is ever cached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kubeocean.kube.client import Client
from kubeocean.kube.informer import Informer
from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.kube.resources import SECRETS
from kubeocean.kube.store import Entry


class SecretWatch:
    """Follows Secret `namespace/name`; `on_change` is called, in the event loop, after each change of what was read first."""

    def __init__(self, client: Client, *, namespace: str, name: str, on_change: Callable[[], None]) -> None:
        self._key = ObjectKey(namespace, name)
        self._informer: Informer[None] = Informer(
            client, SECRETS, namespace=namespace, field_selector=f"metadata.name={name}", summarise=lambda _: None,
            name=f"secret {namespace}/{name}",
        )
        self._on_change = on_change
        self._task: asyncio.Task[None] | None = None
        self._informer.add_handler(self._changed)

    def _changed(self, old: Entry[None] | None, new: Entry[None] | None) -> None:
        before, after = old.object().get("data") if old else None, new.object().get("data") if new else None
        if before != after and self._informer.has_synced:
            self._on_change()

    @property
    def reference(self) -> str:
        """Return namespace/name, for messages."""
        return str(self._key)

    async def run(self) -> None:
        """Watch until cancelled."""
        await self._informer.run()

    def start(self) -> None:
        """Run in the background until `stop`: for a watch that outlives whoever reads it."""
        self._task = asyncio.create_task(self.run(), name=f"watch of secret {self._key}")

    def stop(self) -> None:
        """End what `start` began."""
        if self._task:
            self._task.cancel()

    @property
    def running(self) -> bool:
        """Tell whether what `start` began is still going on."""
        return self._task is not None and not self._task.done()

    async def lasting(self) -> None:
        """Return when what `start` began has ended, raising what ended it; that this wait is cancelled does not end it."""
        if self._task:
            await asyncio.shield(self._task)

    async def read(self, *, within: float = 10.0) -> Json | None:
        """Return the Secret as last seen, None when it does not exist. Raises TimeoutError if it cannot be learnt in time."""
        async with asyncio.timeout(within):
            await self._informer.wait_synced()
        return self._informer.store.object(self._key)
