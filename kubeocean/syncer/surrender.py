"""When a physical cluster may be given up: its binding is being deleted under deletionPolicy Force, and it is out of reach.

Out of reach is a cluster that does not answer, one to which no credentials lead any more, one that lets us in no more (401,
403), and one where we may no longer do what leaving takes: a lender who takes back the rights that he gave, all or some, does
not keep the borrower's binding. Each has to last; what a moment's failure says is not taken for the end of a cluster. Whether
it lasts is judged by what that cluster says, never by a failure of the virtual one.

Rights inside a mountNamespace that is gone are not missed: nothing of ours is in there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kubeocean.clusters.mountuse import namespace_in_use
from kubeocean.clusters.permissions import Rule, find_missing
from kubeocean.clusters.physical import PhysicalCluster, exists
from kubeocean.kube.errors import ConfigError, Forbidden, KubeError, Unauthorized, Unreachable

SILENCE_TO_LET_GO = 40.0  # seconds
ASKED_EVERY = 8.0  # seconds between looks at our rights: a score of questions each
_NAMED = 3  # rights that a message names


class Surrender(Exception):
    """The physical cluster is taken for gone, and the binding's deletionPolicy allows to let go of it."""


def reads(verb: str, _: Rule) -> bool:
    """Tell whether a session cannot begin without."""
    return verb in ("list", "watch")


def moves_pods(verb: str, rule: Rule) -> bool:
    """Tell whether Pods cannot leave a virtual node without."""
    return verb != "create" and (rule.resource == "pods" or (rule.resource == "nodes" and verb != "patch"))


def takes_back(verb: str, rule: Rule) -> bool:
    """Tell whether something of this binding would stay without; the PriorityClass is nobody's in particular."""
    return verb != "create" and rule.resource != "priorityclasses"


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
            probe.serve_namespace(await namespace_in_use(probe.calls, probe.mount_namespace, probe.owner))
            return await _why_refused_if_known(probe)
        finally:
            await probe.close()
    except (ConfigError, Unreachable, Unauthorized, Forbidden) as error:
        return str(error)


async def _why_refused_if_known(probe: PhysicalCluster) -> str:
    try:
        return await why_refused(probe, reads)
    except (Unreachable, Unauthorized):
        raise
    except KubeError:
        return ""  # it answers; the session will see


async def why_refused(physical: PhysicalCluster, wanted: Callable[[str, Rule], bool]) -> str:
    """Return what of it is missing, in words; "" for nothing. Raises KubeError when the server does not say."""
    mounted = await exists(physical.calls, physical.mount_namespace)
    missing = await find_missing(
        physical.calls, physical.mount_namespace, lambda verb, rule: wanted(verb, rule) and (mounted or not rule.mounted)
    )
    if not missing:
        return ""
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return (
        f"we may not {', '.join(missing[:_NAMED])}{more} in the physical cluster any more; the lender can grant it again with "
        f"`kubeocean rbac --mount-namespace {physical.mount_namespace}`"
    )


class Refusal:
    """Notes since when a connected cluster lets us in no more, or no more do what leaving takes; `why` is "" while it does.

    `pods_leave` tells whether Pods are still leaving. As long as they may, and can, nothing else is called a refusal: to let
    go would have them run on both sides.
    """

    def __init__(self, physical: PhysicalCluster, pods_leave: Callable[[], bool]) -> None:
        self.why = ""
        self._physical, self._pods_leave = physical, pods_leave
        self._since = self._heard = 0.0  # loop time: of the first, and of the latest refusal in a row
        self._asked = asyncio.get_running_loop().time()  # most bindings are gone before the first question
        self._met, self._met_at = "", 0.0

    def note(self, refused: Forbidden) -> None:
        """Take that a call was refused: by an admission webhook maybe, of which no question about rights tells."""
        self._met, self._met_at = str(refused), asyncio.get_running_loop().time()

    async def look(self) -> None:
        """Ask, when it is time to. Silence is no refusal, and neither is a failure: probes judge those."""
        now = asyncio.get_running_loop().time()
        if now - self._asked < ASKED_EVERY:
            return
        self._asked = now
        try:
            why = await self._ask()
        except KubeError:
            return
        if why:
            self._since = self._since if self.why and self._is_fresh else now
            self._heard = now
        self.why = why

    async def _ask(self) -> str:
        try:
            await self._physical.identity.ask()
            if self._pods_leave():
                return await why_refused(self._physical, moves_pods)
            lately = asyncio.get_running_loop().time() - self._met_at < 2 * ASKED_EVERY
            return await why_refused(self._physical, takes_back) or (self._met if lately else "")
        except (Unauthorized, Forbidden) as error:
            return str(error)

    @property
    def _is_fresh(self) -> bool:
        return asyncio.get_running_loop().time() - self._heard < 2 * ASKED_EVERY

    @property
    def lasts(self) -> bool:
        """Tell whether we are refused, and have been for so long that it is for good."""
        return bool(self.why) and self._is_fresh and asyncio.get_running_loop().time() - self._since >= SILENCE_TO_LET_GO
