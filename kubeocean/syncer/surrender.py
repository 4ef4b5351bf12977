"""When a physical cluster may be given up: its binding is being deleted under deletionPolicy Force, and it is out of reach.

Out of reach is a cluster that does not answer, one to which no credentials lead any more, one that lets us in no more (401,
403), and one where we may no longer do what leaving takes: a lender who takes back the rights that he gave, all or some, does
not keep the borrower's binding. Each has to last; what a moment's failure says is not taken for the end of a cluster. Whether
it lasts is judged by what that cluster says, never by a failure of the virtual one.

Rights inside a mountNamespace that is gone are not missed: nothing of ours is in there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container

from kubeocean.clusters.permissions import READING, TAKING_BACK, find_missing
from kubeocean.clusters.physical import PhysicalCluster, exists
from kubeocean.kube.errors import ConfigError, Forbidden, KubeError, Unauthorized, Unreachable

SILENCE_TO_LET_GO = 40.0  # seconds
ASKED_EVERY = 5.0  # seconds between looks at our rights: a score of questions each
_NAMED = 3  # rights that a message names


class Surrender(Exception):
    """The physical cluster is taken for gone, and the binding's deletionPolicy allows to let go of it."""


async def why_out_of_reach(open_cluster: Callable[[], Awaitable[PhysicalCluster]], known_uid: str) -> str:
    """Ask the physical cluster, and nobody else, who it is and whether we may read what a session reads.

    Returns "" when it answers as the one it was (`known_uid`).
    """
    try:
        probe = await open_cluster()
        try:
            uid = await probe.identity.ask()
            if known_uid not in ("", uid):
                return f"another cluster answers (kube-system uid {uid}, it was {known_uid})"
            return await why_refused(probe, READING)
        finally:
            await probe.close()
    except (ConfigError, Unreachable, Unauthorized, Forbidden) as error:
        return str(error)


async def why_refused(physical: PhysicalCluster, verbs: Container[str]) -> str:
    """Return what of these verbs we must do and may not, in words; "" for nothing, or when the server does not say."""
    try:
        mounted = await exists(physical.calls, physical.mount_namespace)
        missing = await find_missing(physical.calls, physical.mount_namespace, verbs=verbs, mounted=mounted)
    except (Unauthorized, Unreachable):
        raise
    except KubeError:
        return ""  # not for us to ask
    if not missing:
        return ""
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return (
        f"we may not {', '.join(missing[:_NAMED])}{more} in the physical cluster any more; the lender can grant it again with "
        f"`kubeocean rbac --mount-namespace {physical.mount_namespace}`"
    )


class Refusal:
    """Notes since when a connected cluster lets us in no more, or no more do what leaving takes; `why` is "" while it does."""

    def __init__(self, physical: PhysicalCluster) -> None:
        self.why = ""
        self._physical, self._since = physical, 0.0  # loop time
        self._asked = asyncio.get_running_loop().time()  # most bindings are gone before the first question
        self._met, self._met_at = "", 0.0

    def note(self, refused: Forbidden) -> None:
        """Take that a call was refused: by an admission webhook maybe, of which no question about rights tells."""
        self._met, self._met_at = str(refused), asyncio.get_running_loop().time()

    async def look(self) -> None:
        """Ask, when it is time to. Silence is no refusal: probes judge that."""
        now = asyncio.get_running_loop().time()
        if now - self._asked < ASKED_EVERY:
            return
        self._asked = now
        try:
            why = await self._ask()
        except KubeError:
            return
        if why and not self.why:
            self._since = now
        self.why = why

    async def _ask(self) -> str:
        try:
            await self._physical.identity.ask()
            lately = asyncio.get_running_loop().time() - self._met_at < 2 * ASKED_EVERY
            return await why_refused(self._physical, TAKING_BACK) or (self._met if lately else "")
        except (Unauthorized, Forbidden) as error:
            return str(error)

    @property
    def lasts(self) -> bool:
        """Tell whether we have been refused for so long that it is for good."""
        return bool(self.why) and asyncio.get_running_loop().time() - self._since >= SILENCE_TO_LET_GO
