"""The label `policy-applied` on a leased physical node: how a lender sees, with plain kubectl, which of his nodes are lent.

Several borrowers may lease the same node, the label is one: it is set when absent, and removed or changed only by the owner
recorded in the annotation beside it.
"""

from __future__ import annotations

import structlog

from kubeocean.api import names
from kubeocean.domain.naming import label_value
from kubeocean.kube.errors import KubeError, NotFound, NotLeading
from kubeocean.kube.meta import Json, annotations_of, labels_of, name_of, uid_of
from kubeocean.kube.resources import NODES
from kubeocean.syncer.pairing import Pairing

log = structlog.get_logger(__name__)


async def mark_leased(pairing: Pairing, physical: Json, policy: str) -> bool:
    """Label `physical` with the policy it is leased under, unless another borrower has. False: try again."""
    shown, recorded = _shown(physical)
    if shown == label_value(policy) or (shown is not None and recorded != pairing.owner.annotation):
        return True
    return await _patch(pairing, physical, label_value(policy), pairing.owner.annotation)


async def unmark(pairing: Pairing, physical: Json) -> bool:
    """Take the label off `physical`, if it is this owner's. False: try again."""
    return _shown(physical)[1] != pairing.owner.annotation or await _patch(pairing, physical, None, None)


def is_marked(physical: Json, owner_annotation: str) -> bool:
    """Tell whether `physical` carries this owner's mark."""
    return _shown(physical)[1] == owner_annotation


def _shown(physical: Json) -> tuple[str | None, str | None]:
    return labels_of(physical).get(names.POLICY_APPLIED_LABEL), annotations_of(physical).get(names.POLICY_APPLIED_BY_ANNOTATION)


async def _patch(pairing: Pairing, physical: Json, label: str | None, owner: str | None) -> bool:
    # By uid, because a kubelet writes to its node all the time. Of two borrowers who find the label absent at the same moment
    # the later one stays: label and annotation travel together, and the other one then sees that it is marked.
    patch: Json = {"metadata": {
        "uid": uid_of(physical), "labels": {names.POLICY_APPLIED_LABEL: label},
        "annotations": {names.POLICY_APPLIED_BY_ANNOTATION: owner},
    }}
    try:
        await pairing.physical.calls.patch(NODES, name_of(physical), "", patch)
    except NotFound:
        return True
    except NotLeading:
        raise
    except KubeError as error:
        # A mark is for people to see; that it cannot be written must not keep a window from closing in time.
        log.info("mark not written", node=name_of(physical), binding=pairing.binding_name, error=str(error))
        return False
    return True
