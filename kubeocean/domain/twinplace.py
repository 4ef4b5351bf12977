"""Whether a physical Pod is where a twin belongs: only then its virtual Pod accounts for what it takes.

A twin is in the mountNamespace, under the name that follows from its virtual Pod's. A lender may copy a manifest of ours, with
all labels and annotations, to any other place. For such a copy no virtual Pod stands, so the virtual scheduler knows nothing
of it: what it takes of a node shrinks the lease, as any foreign Pod does.
"""

from __future__ import annotations

from kubeocean.api import names
from kubeocean.domain.naming import physical_name
from kubeocean.domain.ownership import Owner, is_ours
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, name_of, namespace_of


def made_for(pod: Json) -> ObjectKey:
    """Return the virtual Pod that a physical one says to be made for, with "" for what it does not say."""
    told = annotations_of(pod)
    return ObjectKey(told.get(names.VIRTUAL_POD_NAMESPACE_ANNOTATION, ""), told.get(names.VIRTUAL_POD_NAME_ANNOTATION, ""))


def is_twin_in_place(pod: Json, owner: Owner, mount_namespace: str) -> bool:
    """Tell whether a Pod of ours is where the twin of the virtual Pod it names belongs."""
    if namespace_of(pod) != mount_namespace or not is_ours(pod, owner):
        return False
    virtual = made_for(pod)
    return bool(virtual.name and virtual.namespace) and name_of(pod) == physical_name(virtual.name, virtual.namespace)
