"""What was left in the virtual cluster by bindings that are gone: marks and objects of a clusterID which no binding has.

A binding takes everything back before it goes. It cannot where somebody took its finalizer off, or put a backup of marked
objects into a cluster; then a finalizer of nobody's holds up deletions, and a node of nobody's takes Pods that nobody runs.
Marks are only marks, and may be taken off. A virtual node is more than that, and is left to people.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from kubeocean.api import names
from kubeocean.domain.findings import Finding, Kind, Mend, Side, ref_to
from kubeocean.domain.naming import label_value
from kubeocean.domain.ownership import is_managed
from kubeocean.kube.meta import Json, annotations_of, finalizers_of, is_deleting, labels_of, name_of, namespace_of
from kubeocean.kube.resources import (
    CONFIGMAPS,
    CSINODES,
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    SECRETS,
    Resource,
)

MARKED = (CONFIGMAPS, SECRETS, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES)
NO_SUCH_BINDING = "NoSuchBinding"
_OF_NODES = {NODES: Kind.ORPHAN_NODE, CSINODES: Kind.ORPHAN_CSINODE, PODS: Kind.ORPHAN_PLACEHOLDER}
LOOKED_AT = (*MARKED, *_OF_NODES)


def ids_marked(obj: Json) -> set[str]:
    """Return the clusterIDs of the bindings whose marks are on a virtual object."""
    marks = ((labels_of(obj), names.SYNCED_BY_LABEL_PREFIX), (finalizers_of(obj), names.DEPENDENCY_FINALIZER_PREFIX))
    more = ((annotations_of(obj), names.DELETING_ANNOTATION_PREFIX),)
    return {key.removeprefix(prefix) for keys, prefix in (*marks, *more) for key in keys if key.startswith(prefix)}


def check_abandoned(virtual: Mapping[Resource, Sequence[Json]], cluster_ids: frozenset[str]) -> Iterator[Finding]:
    """Yield what carries a clusterID that is not in `cluster_ids`. Of Pods, `virtual` holds the placeholders'."""
    for resource in MARKED:
        for obj in virtual.get(resource, ()):
            if unknown := sorted(ids_marked(obj) - cluster_ids):
                yield _marked(resource, obj, unknown)
    known = {label_value(each) for each in cluster_ids}
    for resource, kind in _OF_NODES.items():
        for obj in virtual.get(resource, ()):
            cluster_id = labels_of(obj).get(names.PHYSICAL_CLUSTER_ID_LABEL, "")
            if is_managed(obj) and cluster_id and cluster_id not in known and not (resource == PODS and is_deleting(obj)):
                yield _left(resource, kind, obj, cluster_id)


def _marked(resource: Resource, obj: Json, unknown: list[str]) -> Finding:
    cause = (
        f"it carries marks of clusterID {', '.join(unknown)}, which no ClusterBinding has: a binding went without its syncer; "
        "a finalizer among them holds up its deletion"
    )
    remedy = "take them off with kubectl edit; or make the binding again, and delete it while its syncer runs"
    return Finding(Kind.STALE_MARK, NO_SUCH_BINDING, ref_to(Side.VIRTUAL, resource, obj), cause, remedy, Mend.UNMARK)


def _left(resource: Resource, kind: Kind, obj: Json, cluster_id: str) -> Finding:
    cause = f"it was made for a binding with clusterID {cluster_id}, and there is none: a binding went without its syncer"
    remedy = f"{_delete_command(resource, obj)}; or make the binding again, and delete it while its syncer runs"
    return Finding(kind, NO_SUCH_BINDING, ref_to(Side.VIRTUAL, resource, obj), cause, remedy)


def _delete_command(resource: Resource, obj: Json) -> str:
    """Return what to type; one finalizer more than ours is somebody's who has something to do yet."""
    what = f"{resource.kind.lower()} {name_of(obj)}" + (f" -n {namespace_of(obj)}" if namespace_of(obj) else "")
    command = f"kubectl delete {what}"
    if names.VNODE_FINALIZER not in finalizers_of(obj):
        return command
    command = f"{command} --wait=false"
    if finalizers_of(obj) == [names.VNODE_FINALIZER]:
        return f"""{command} && kubectl patch {what} --type=merge -p '{{"metadata":{{"finalizers":null}}}}'"""
    return f"{command}, then take finalizer {names.VNODE_FINALIZER} off with kubectl edit {what}"


def check_lent(
    nodes: Iterable[Json], namespaces: Iterable[Json], virtual_cluster_uid: str, cluster_ids: frozenset[str]
) -> Iterator[Finding]:
    """Yield the physical nodes and namespaces that are noted as those of a binding of this virtual cluster that is gone."""
    noted = ((NODES, nodes, names.POLICY_APPLIED_BY_ANNOTATION), (NAMESPACES, namespaces, names.CLAIMED_BY_ANNOTATION))
    for resource, objects, annotation in noted:
        for obj in objects:
            uid, _, cluster_id = annotations_of(obj).get(annotation, "").partition("/")
            if uid == virtual_cluster_uid and cluster_id not in cluster_ids and not is_deleting(obj):
                cause = f"{annotation} names a binding of this virtual cluster with clusterID {cluster_id}, and there is none"
                remedy = (
                    f"the lender can, once nothing of that binding is left there: kubectl annotate {resource.kind.lower()} "
                    f"{name_of(obj)} {annotation}-"
                )
                yield Finding(Kind.STALE_MARK, NO_SUCH_BINDING, ref_to(Side.PHYSICAL, resource, obj), cause, remedy)
