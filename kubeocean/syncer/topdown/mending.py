"""Puts the place where twins live back in order when it was taken from under us while we work.

A lender, or another borrower who leaves, may delete the mountNamespace or the shared PriorityClass; every twin is refused
from then on. Refusals lead here, at most once a minute: both are claimed and made again as at the start of a session.
"""

from __future__ import annotations

from time import monotonic

import structlog

from kubeocean.kube.errors import KubeError, NotLeading
from kubeocean.syncer.mount import claim_namespace, ensure_priority_class
from kubeocean.syncer.pairing import Pairing

AT_MOST_EVERY = 60.0  # seconds

log = structlog.get_logger(__name__)


class MountMender:
    """Re-makes mountNamespace and PriorityClass of one binding."""

    def __init__(self, pairing: Pairing) -> None:
        self._pairing = pairing
        self._next = 0.0  # monotonic

    async def mend(self) -> None:
        """Make both exist again. What cannot be mended is logged: the refusal that led here is told on the Pod."""
        if monotonic() < self._next:
            return
        self._next = monotonic() + AT_MOST_EVERY
        physical = self._pairing.physical
        try:
            await claim_namespace(physical.calls, physical.mount_namespace, physical.owner)
            await ensure_priority_class(physical.calls)
        except NotLeading:
            raise
        except KubeError as error:
            log.warning("mountNamespace cannot be mended", binding=self._pairing.binding_name, error=str(error))
