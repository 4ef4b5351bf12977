"""When a physical cluster may be given up: its binding is being deleted under deletionPolicy Force, and it is out of reach.

Out of reach is a cluster that does not answer, one to which no credentials lead any more, and one that lets us in no more
(401, 403): a lender who takes back the rights that he gave does not keep the borrower's binding. Each has to last; what a
moment's failure says is not taken for the end of a cluster. Whether it lasts is judged by what that cluster says, never by a
failure of the virtual one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kubeocean.clusters.physical import PhysicalCluster
from kubeocean.kube.errors import ConfigError, Forbidden, KubeError, Unauthorized, Unreachable

SILENCE_TO_LET_GO = 40.0  # seconds


class Surrender(Exception):
    """The physical cluster is taken for gone, and the binding's deletionPolicy allows to let go of it."""


async def why_out_of_reach(open_cluster: Callable[[], Awaitable[PhysicalCluster]], known_uid: str) -> str:
    """Ask the physical cluster, and nobody else, who it is; returns "" when it answers as the one it was (`known_uid`)."""
    try:
        probe = await open_cluster()
        try:
            uid = await probe.identity.ask()
        finally:
            await probe.close()
    except (ConfigError, Unreachable, Unauthorized, Forbidden) as error:
        return str(error)
    return "" if known_uid in ("", uid) else f"another cluster answers (kube-system uid {uid}, it was {known_uid})"


class Refusal:
    """Notes since when a connected cluster lets us in no more."""

    def __init__(self, physical: PhysicalCluster) -> None:
        self._physical, self._since = physical, 0.0  # loop time, 0.0 for not at all

    async def lasting(self) -> str:
        """Ask; return why it refuses us once that has lasted, else "". Silence is no refusal: probes judge that."""
        now = asyncio.get_running_loop().time()
        try:
            await self._physical.identity.ask()
        except (Unauthorized, Forbidden) as error:
            self._since = self._since or now
            return str(error) if now - self._since >= SILENCE_TO_LET_GO else ""
        except KubeError:
            return ""
        self._since = 0.0
        return ""
