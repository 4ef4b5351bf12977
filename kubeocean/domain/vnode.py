"""The virtual node we want: a physical node and its lease, told in the words of a Node object.

`build_vnode` says what the Node should be, from facts alone; `vnode_diff` turns that and the Node as it is into at
most two patches. Three things shape what is copied from the physical node:

- what the virtual cluster derives by itself is left to it (condition taints), or two writers would fight;
- what would make a controller of the virtual cluster act on a machine it does not own is left out (volume annotations);
- what would not survive a round trip through a server of another version is left out (new fields of status.nodeInfo),
  or every pass would find a difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kubeocean.api import names
from kubeocean.api.binding import ClusterBindingSpec
from kubeocean.domain import naming
from kubeocean.domain.vnode_diff import Expected, cordoned_by_us, read_expected, shown_mirrored
from kubeocean.domain.vnode_status import build_vnode_status, extra_conditions, internal_ip
from kubeocean.domain.vnode_taints import build_vnode_taints
from kubeocean.kube.meta import Json, annotations_of, labels_of, name_of, uid_of

# Annotations by which controllers steer a machine, and our own namespace, which says things about virtual nodes only.
_ANNOTATIONS_LEFT_OUT = (
    "volumes.kubernetes.io/", "csi.volume.kubernetes.io/", "node.alpha.kubernetes.io/", "kubeadm.alpha.kubernetes.io/",
    names.PREFIX,
)


@dataclass(frozen=True, slots=True)
class VnodeFacts:
    """Everything that decides what one virtual node looks like.

    `capacity` is what is leased (`Lease.capacity.resources`); `window_open` and `force_reclaim_now` pick the
    out-of-window taint; `unreachable`: no word from the physical cluster; `ready_unknown_since`: that has lasted so
    long that Ready is Unknown; `deleting`: the virtual node is being drained; `port` 0 = not served yet.
    `last_valid_policy`, `last_valid_lender_policy` (`Remembered.text()`) and `closed_at` (`Closing.text`) are notes to later
    passes, "" = none.
    `conditions` are our own, shown beside those of the physical node.
    """

    physical: Json
    existing: Json | None
    binding_name: str
    spec: ClusterBindingSpec
    capacity: dict[str, str]
    policy_name: str
    policy_details: str
    window_open: bool
    force_reclaim_now: bool
    unreachable: bool
    deleting: bool
    proxier_address: str
    port: int
    last_valid_policy: str = ""
    closed_at: str = ""
    last_valid_lender_policy: str = ""
    ready_unknown_since: datetime | None = None
    conditions: tuple[Json, ...] = ()


def build_vnode(facts: VnodeFacts) -> Json:
    """Return the Node we want, whole: to be POSTed as it is when there is none, else to be given to `diff_vnode`."""
    name = naming.vnode_name(facts.spec.cluster_id, name_of(facts.physical))
    labels, annotations = _labels(facts, name), _annotations(facts)
    taints = build_vnode_taints(
        facts.physical, default_taint=not facts.spec.disable_node_default_taint, window_open=facts.window_open,
        force_reclaim_now=facts.force_reclaim_now, unreachable=facts.unreachable, deleting=facts.deleting,
    )
    cordon = facts.deleting and _cordon_is_ours(facts.existing)
    expected = Expected(labels, annotations, taints, cordoned=cordon)
    spec: Json = {"taints": taints}
    if cordon:
        spec["unschedulable"] = True
    return {
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name, "labels": labels, "finalizers": [names.VNODE_FINALIZER],
            "annotations": {**annotations, names.EXPECTED_METADATA_ANNOTATION: expected.encode()},
        },
        "spec": spec,
        "status": build_vnode_status(
            facts.physical, name=name, capacity=facts.capacity, proxier_address=facts.proxier_address, port=facts.port,
            ready_unknown_since=facts.ready_unknown_since, own_conditions=facts.conditions,
        ),
    }


def is_vnode_of(node: Json, cluster_id: str) -> bool:
    """Tell whether a Node is a virtual node of the binding with this clusterID: only then may it be changed."""
    return cluster_of(node) == naming.label_value(cluster_id)


def cluster_of(node: Json) -> str:
    """Return the clusterID (as a label has it) of the binding whose virtual node this is, "" for any other Node.

    What we noted counts as well as the labels: somebody may have taken those off, and they are to come back.
    """
    labels = labels_of(node)
    if labels.get(names.MANAGED_BY_LABEL) != names.MANAGED_BY_VALUE or not labels.get(names.PHYSICAL_CLUSTER_ID_LABEL):
        noted = read_expected(node)
        labels = noted.labels if noted else {}
    managed = labels.get(names.MANAGED_BY_LABEL) == names.MANAGED_BY_VALUE
    return labels.get(names.PHYSICAL_CLUSTER_ID_LABEL) or "" if managed else ""


def physical_name_of(vnode: Json) -> str:
    """Return the name of the physical node a virtual one stands for, "" when it does not say."""
    recorded = annotations_of(vnode).get(names.PHYSICAL_NODE_NAME_ANNOTATION)
    return recorded or labels_of(vnode).get(names.PHYSICAL_NODE_NAME_LABEL) or ""


def physical_uid_of(vnode: Json) -> str:
    """Return the uid of the physical node a virtual one stands for; another uid means another machine: recreate it."""
    recorded = annotations_of(vnode).get(names.PHYSICAL_NODE_UID_ANNOTATION)
    return recorded or labels_of(vnode).get(names.PHYSICAL_NODE_UID_LABEL) or ""


def port_of(vnode: Json) -> int:
    """Return the port its kubelet endpoint has, 0 when it has none: it is kept across restarts.

    What we noted counts, before what the label says: that anybody may have edited.
    """
    noted = read_expected(vnode)
    text = (noted.labels if noted else labels_of(vnode)).get(names.PROXIER_PORT_LABEL) or ""
    port = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    return port if port <= 65535 else 0


def _labels(facts: VnodeFacts, name: str) -> dict[str, str]:
    cluster_id, node = naming.label_value(facts.spec.cluster_id), naming.label_value(name_of(facts.physical))
    labels = {
        **labels_of(facts.physical),
        names.CLUSTER_BINDING_LABEL: naming.label_value(facts.binding_name),
        names.PHYSICAL_CLUSTER_ID_LABEL: cluster_id,
        names.PHYSICAL_NODE_NAME_LABEL: node,
        names.PHYSICAL_NODE_UID_LABEL: naming.label_value(uid_of(facts.physical)),
        names.MANAGED_BY_LABEL: names.MANAGED_BY_VALUE,
        names.VIRTUAL_KUBELET_LABEL: names.VIRTUAL_KUBELET_VALUE,
        names.INSTANCE_TYPE_LABEL: names.INSTANCE_TYPE_VNODE,
        names.INSTANCE_TYPE_BETA_LABEL: names.INSTANCE_TYPE_VNODE,
        names.HOSTNAME_LABEL: name,
        names.NODE_TYPE_LABEL: names.NODE_TYPE_VIRTUAL,
        names.CLUSTER_ID_LABEL: cluster_id,
        names.PHYSICAL_NODE_LABEL: node,
        names.EXCLUDE_BALANCERS_LABEL: "true",
    }
    if address := internal_ip(facts.physical):
        labels[names.PHYSICAL_NODE_INNERIP_LABEL] = naming.label_value(address)
    if facts.port:
        labels[names.PROXIER_PORT_LABEL] = str(facts.port)
    # Set on the physical node because this virtual one exists: copied, it would be our own echo (and one more write).
    labels.pop(names.POLICY_APPLIED_LABEL, None)
    return labels


def _annotations(facts: VnodeFacts) -> dict[str, str]:
    annotations = {
        key: value for key, value in annotations_of(facts.physical).items() if not key.startswith(_ANNOTATIONS_LEFT_OUT)
    }
    annotations |= {
        names.PHYSICAL_NODE_NAME_ANNOTATION: name_of(facts.physical),
        names.PHYSICAL_NODE_UID_ANNOTATION: uid_of(facts.physical),
        names.POLICIES_APPLIED_ANNOTATION: facts.policy_name,
        names.POLICY_DETAILS_ANNOTATION: facts.policy_details,
    }
    notes = {
        names.LAST_VALID_POLICY_ANNOTATION: facts.last_valid_policy, names.CLOSED_AT_ANNOTATION: facts.closed_at,
        names.LAST_VALID_LENDER_POLICY_ANNOTATION: facts.last_valid_lender_policy,
        names.MIRRORED_CONDITIONS_ANNOTATION: _mirrored_conditions(facts),
    }
    return annotations | {key: value for key, value in notes.items() if value}


def _mirrored_conditions(facts: VnodeFacts) -> str:
    """Return which conditions are there because of us, "" for none beyond those every kubelet reports (they never go).

    What is no longer wanted stays noted until it is seen to be gone, or a crash before its removal would leave it for ever.
    """
    still_shown = shown_mirrored(facts.existing) if facts.existing else set()
    return ",".join(sorted(extra_conditions(facts.physical) | still_shown))


def _cordon_is_ours(existing: Json | None) -> bool:
    """Tell whether cordoning is ours to do (and to undo): not when a user has cordoned the node before us."""
    if existing is None:
        return True
    return not (existing.get("spec") or {}).get("unschedulable") or cordoned_by_us(existing)
