"""Which workload a Pod belongs to: it labels the twin, so that a lender sees what runs there."""

from __future__ import annotations

import re
from typing import Final

from kubeocean.domain.naming import label_value
from kubeocean.kube.meta import Json, labels_of, name_of

_LONGEST: Final = 63
_TEMPLATE_HASH: Final = "pod-template-hash"  # put on the Pods of a ReplicaSet by the Deployment controller only
_CUT_END: Final = re.compile(r"[-_.]+$")


def workload_of(vpod: Json, replicaset_owner: Json | None = None) -> tuple[str, str]:
    """Return (type, name) of the first owner, valid as label values, the kind in lower case; without one ("pod", name).

    A ReplicaSet stands for its Deployment: `replicaset_owner` is the ReplicaSet's own owner reference where somebody
    has looked it up, else the Deployment is told from the template hash in both names.
    """
    owners = vpod["metadata"].get("ownerReferences")
    if not owners:
        return "pod", _cut(name_of(vpod))
    kind, name = owners[0]["kind"], owners[0]["name"]
    if kind == "ReplicaSet":
        kind, name = _behind_replicaset(vpod, name, replicaset_owner)
    return _cut(kind.lower()), _cut(name)


def _behind_replicaset(vpod: Json, name: str, owner: Json | None) -> tuple[str, str]:
    if owner:
        return owner["kind"], owner["name"]
    template_hash = labels_of(vpod).get(_TEMPLATE_HASH)
    if template_hash and name.endswith(f"-{template_hash}"):
        return "Deployment", name[: -len(template_hash) - 1]
    return "ReplicaSet", name


def _cut(text: str) -> str:
    return label_value(_CUT_END.sub("", text[:_LONGEST]))
