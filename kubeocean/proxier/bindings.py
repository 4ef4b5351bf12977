"""One binding as the proxier serves it: from its Secret to a connected physical cluster, again and again.

A new kubeconfig, or a cluster that has been silent for a while, begins a new connection; the streams of the old one are cut
when its cluster is dead, and go on when only the credentials changed. As with the syncer, the cluster must prove that it is
the one the binding was first joined to, before anybody's stream is led there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from kubeocean.api.binding import ClusterBindingSpec
from kubeocean.clusters.physical import read_kubeconfig
from kubeocean.clusters.secretwatch import SecretWatch
from kubeocean.domain.ownership import Owner
from kubeocean.kube.backoff import Backoff
from kubeocean.kube.cancellation import heed_cancellation
from kubeocean.kube.causes import first_cause
from kubeocean.kube.client import Client
from kubeocean.kube.errors import KubeError, Unreachable
from kubeocean.proxier.sessions import Sessions
from kubeocean.proxier.side import PhysicalSide

PROBE_EVERY: Final = 2.0  # seconds
PATIENCE: Final = 3  # missed probes in a row until a cluster counts as dead
CONNECTING: Final = "connecting to the physical cluster"  # the trouble of one that nobody has looked at yet
_BACKOFF: Final = Backoff(base=1.0, cap=60.0)

log = structlog.get_logger(__name__)


class _Renewed(Exception):
    """The Secret changed."""


class ServedBinding:
    """Keeps `side` connected; it is None, and `trouble` says why, while it is not."""

    def __init__(
        self, name: str, spec: ClusterBindingSpec, virtual: Client, virtual_uid: str, sessions: Sessions, *,
        known_uid: Callable[[], str], user_agent: str,
    ) -> None:
        self.name, self.spec = name, spec
        self.side: PhysicalSide | None = None
        self.trouble = CONNECTING
        self._owner = Owner(virtual_uid, spec.cluster_id)
        self._sessions, self._known_uid, self._user_agent = sessions, known_uid, user_agent
        self._renewed = asyncio.Event()
        self._secret = SecretWatch(
            virtual, namespace=spec.secret_ref.namespace, name=spec.secret_ref.name, on_change=self._renewed.set
        )

    async def run(self) -> None:
        """Stay connected until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._secret.run(), name=f"secret of {self.name}")
            failures = 0
            while True:
                try:
                    await self._connected()
                except _Renewed:
                    failures = 0
                except (KubeError, TimeoutError) as error:
                    failures = 1 if self.trouble == "" else failures + 1
                    self.trouble = str(error) or "no answer in time"
                    log.warning("physical cluster not connected", binding=self.name, error=self.trouble)
                    await self._pause(_BACKOFF.delay(failures))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._renewed.wait()
        except TimeoutError:
            return

    async def _connected(self) -> None:
        self._renewed.clear()
        config = await read_kubeconfig(await self._secret.read(), reference=self._secret.reference)
        side = PhysicalSide(
            config, self._owner, binding=self.name, known_uid=self._known_uid(), user_agent=self._user_agent
        )
        try:
            await side.prove_identity()
            await side.prove_access(self.spec.mount_namespace)
            await side.learn_namespaces(self.spec.mount_namespace)
            await self._serve(side)
        except BaseExceptionGroup as group:
            heed_cancellation()
            raise first_cause(group) from group
        finally:
            self.side = None
            await side.close()

    async def _serve(self, side: PhysicalSide) -> None:
        async with asyncio.TaskGroup() as tasks:
            self.side, self.trouble = side, ""
            log.info("physical cluster connected", binding=self.name)
            tasks.create_task(self._until_dead(side), name=f"probe of {self.name}")
            await self._renewed.wait()
            raise _Renewed

    async def _until_dead(self, side: PhysicalSide) -> None:
        await side.until_dead(PROBE_EVERY, PATIENCE)
        cut = self._sessions.cut(self.name)
        raise Unreachable(f"{self.name}: the cluster does not answer; {cut} streams were closed", cluster=self.name)
