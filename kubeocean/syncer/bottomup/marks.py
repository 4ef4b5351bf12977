"""The label `policy-applied` on a leased physical node: how a lender sees, with plain kubectl, which of his nodes are lent.

Several borrowers may lease the same node, the label is one: it is set when absent, and removed or changed only by the owner
recorded in the annotation beside it.
"""

from __future__ import annotations

import asyncio

import structlog

from kubeocean.api import names
from kubeocean.domain.naming import label_value
from kubeocean.kube.errors import KubeError, NotFound, NotLeading
from kubeocean.kube.meta import Json, annotations_of, labels_of, name_of, resource_version_of, revision, uid_of
from kubeocean.kube.resources import NODES
from kubeocean.syncer.pairing import Pairing

SEEN_WITHIN = 10.0  # seconds; a cache that is later than that is asked what it has all the same

log = structlog.get_logger(__name__)


class Marks:
    """Marks the physical nodes of one binding.

    A node comes back marked through its watch, a moment later. Nobody waits for that, so what was written is remembered
    meanwhile, and no pass in between writes it again.
    """

    def __init__(self, pairing: Pairing) -> None:
        self._pairing = pairing
        self._written: dict[str, tuple[Json, float]] = {}  # by the node's uid: as our last write left it, and until when

    async def mark_leased(self, physical: Json, policy: str) -> bool:
        """Label `physical` with the policy it is leased under, unless another borrower has. False: try again."""
        owner = self._pairing.owner.annotation
        shown, recorded = _shown(self._newest(physical))
        if shown == label_value(policy) or (shown is not None and recorded != owner):
            return True
        return await self._patch(physical, label_value(policy), owner)

    async def unmark(self, physical: Json) -> bool:
        """Take the label off `physical`, if it is this owner's. False: try again."""
        recorded = _shown(self._newest(physical))[1]
        return recorded != self._pairing.owner.annotation or await self._patch(physical, None, None)

    def _newest(self, physical: Json) -> Json:
        written, until = self._written.get(uid_of(physical), (physical, 0.0))
        is_news = revision(resource_version_of(written)) > revision(resource_version_of(physical))
        if is_news and asyncio.get_running_loop().time() < until:
            return written
        self._written.pop(uid_of(physical), None)
        return physical

    async def _patch(self, physical: Json, label: str | None, owner: str | None) -> bool:
        # By uid, because a kubelet writes to its node all the time. Of two borrowers who find the label absent at the same
        # moment the later one stays: label and annotation travel together, and the other one then sees that it is marked.
        patch: Json = {"metadata": {
            "uid": uid_of(physical), "labels": {names.POLICY_APPLIED_LABEL: label},
            "annotations": {names.POLICY_APPLIED_BY_ANNOTATION: owner},
        }}
        try:
            written = await self._pairing.physical.calls.patch(NODES, name_of(physical), "", patch, metadata_only=True)
        except NotFound:
            return True
        except NotLeading:
            raise
        except KubeError as error:
            # A mark is for people to see; that it cannot be written must not keep a window from closing in time.
            log.info("mark not written", node=name_of(physical), binding=self._pairing.binding_name, error=str(error))
            return False
        self._written[uid_of(physical)] = written, asyncio.get_running_loop().time() + SEEN_WITHIN
        return True


def is_marked(physical: Json, owner_annotation: str) -> bool:
    """Tell whether `physical` carries this owner's mark."""
    return _shown(physical)[1] == owner_annotation


def _shown(physical: Json) -> tuple[str | None, str | None]:
    return labels_of(physical).get(names.POLICY_APPLIED_LABEL), annotations_of(physical).get(names.POLICY_APPLIED_BY_ANNOTATION)
