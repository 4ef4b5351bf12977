"""Every label, annotation, taint, finalizer and fixed name we put on the wire: the one source of truth.

Other programs rely on these (the Go project of the same name writes the same ones); none may change.
Grouped by what they stand on; `*_LABEL`, `*_ANNOTATION`, `*_TAINT`, `*_FINALIZER` say what they are.
"""

from __future__ import annotations

from typing import Final

GROUP: Final = "cloud.tencent.com"
VERSION: Final = "v1beta1"
PREFIX: Final = "kubeocean.io/"

# --- whose is it -----------------------------------------------------------------------------------------------------
MANAGED_BY_LABEL: Final = "kubeocean.io/managed-by"
MANAGED_BY_VALUE: Final = "kubeocean"
OWNER_LABEL: Final = "kubeocean.io/owner"  # first 16 hex of sha256(virtual kube-system uid + "/" + clusterID)
OWNER_ANNOTATION: Final = "kubeocean.io/owner"  # the same, in full: "UID/CLUSTERID"
CLAIMED_BY_ANNOTATION: Final = "kubeocean.io/claimed-by"  # on a mountNamespace
CREATED_BY_US_ANNOTATION: Final = "kubeocean.io/created"  # on a mountNamespace that we made: we may remove it
CONTENT_HASH_ANNOTATION: Final = "kubeocean.io/content-hash"
EXPECTED_METADATA_ANNOTATION: Final = "kubeocean.io/expected-metadata"

# --- bindings and policies -------------------------------------------------------------------------------------------
BINDING_MANAGER_FINALIZER: Final = "kubeocean.io/clusterbinding-manager"
BINDING_SYNCER_FINALIZER: Final = "kubeocean.io/clusterbinding-syncer"
POLICY_FINALIZER: Final = "policy.kubeocean.io/finalizer"
DELETION_POLICY_ANNOTATION: Final = "kubeocean.io/deletion-policy"  # "Force", as spec.deletionPolicy
KUBECONFIG_KEY: Final = "kubeconfig"

# --- virtual nodes ---------------------------------------------------------------------------------------------------
VNODE_FINALIZER: Final = "kubeocean.io/vnode"
CLUSTER_BINDING_LABEL: Final = "kubeocean.io/cluster-binding"
PHYSICAL_CLUSTER_ID_LABEL: Final = "kubeocean.io/physical-cluster-id"
PHYSICAL_NODE_NAME_LABEL: Final = "kubeocean.io/physical-node-name"
PHYSICAL_NODE_UID_LABEL: Final = "kubeocean.io/physical-node-uid"
PHYSICAL_NODE_INNERIP_LABEL: Final = "kubeocean.io/physical-node-innerip"
PROXIER_PORT_LABEL: Final = "kubeocean.io/proxier_port"
VIRTUAL_KUBELET_LABEL: Final = "type"
VIRTUAL_KUBELET_VALUE: Final = "virtual-kubelet"
INSTANCE_TYPE_LABEL: Final = "node.kubernetes.io/instance-type"
INSTANCE_TYPE_BETA_LABEL: Final = "beta.kubernetes.io/instance-type"
INSTANCE_TYPE_VNODE: Final = "vnode"
HOSTNAME_LABEL: Final = "kubernetes.io/hostname"
NODE_TYPE_LABEL: Final = "kubeocean.io/node-type"
NODE_TYPE_VIRTUAL: Final = "virtual"
CLUSTER_ID_LABEL: Final = "kubeocean.io/cluster-id"
PHYSICAL_NODE_LABEL: Final = "kubeocean.io/physical-node"
EXCLUDE_BALANCERS_LABEL: Final = "node.kubernetes.io/exclude-from-external-load-balancers"
PHYSICAL_NODE_NAME_ANNOTATION: Final = "kubeocean.io/physical-node-name"
PHYSICAL_NODE_UID_ANNOTATION: Final = "kubeocean.io/physical-node-uid"
POLICIES_APPLIED_ANNOTATION: Final = "kubeocean.io/policies-applied"
POLICY_DETAILS_ANNOTATION: Final = "kubeocean.io/policy-details"
CLOSED_AT_ANNOTATION: Final = "kubeocean.io/closed-at"
LAST_VALID_POLICY_ANNOTATION: Final = "kubeocean.io/last-valid-policy"  # JSON {name, spec}: in force while it is invalid
LAST_VALID_LENDER_POLICY_ANNOTATION: Final = "kubeocean.io/last-valid-lender-policy"  # the same of the lender's side
MIRRORED_CONDITIONS_ANNOTATION: Final = "kubeocean.io/mirrored-conditions"  # types, with commas; not the kubelet's own
POLICY_APPLIED_LABEL: Final = "kubeocean.io/policy-applied"  # on the physical node while it is leased
POLICY_APPLIED_BY_ANNOTATION: Final = "kubeocean.io/policy-applied-by"  # beside it: the owner who may remove it
SKIPPED_INSTANCE_TYPES: Final = frozenset({"external", "vnode", "eklet"})
NODE_LEASE_NAMESPACE: Final = "kube-node-lease"

VNODE_TAINT: Final = "kubeocean.io/vnode"  # NoSchedule, no value
OUT_OF_WINDOW_TAINT: Final = "kubeocean.io/out-of-time-windows"  # value "true"
CLUSTER_UNREACHABLE_TAINT: Final = "kubeocean.io/cluster-unreachable"  # value "true", NoSchedule
VNODE_DELETING_TAINT: Final = "kubeocean.io/vnode-deleting"  # value "true", NoSchedule
PHYSICAL_UNSCHEDULABLE_TAINT: Final = "kubeocean.io/physical-node-unschedulable"
UNSCHEDULABLE_TAINT: Final = "node.kubernetes.io/unschedulable"

# --- Pods and what they need -----------------------------------------------------------------------------------------
PHYSICAL_POD_NAMESPACE_ANNOTATION: Final = "kubeocean.io/physical-pod-namespace"  # these three on the virtual Pod
PHYSICAL_POD_NAME_ANNOTATION: Final = "kubeocean.io/physical-pod-name"
PHYSICAL_POD_UID_ANNOTATION: Final = "kubeocean.io/physical-pod-uid"
MAPPED_UID_ANNOTATION: Final = "kubeocean.io/mapped-uid"  # on it too: its own uid, when its twin was noted
LIFTED_METADATA_ANNOTATION: Final = "kubeocean.io/physical-pod-metadata"  # JSON: marks of what came up from the twin
VIRTUAL_POD_NAMESPACE_ANNOTATION: Final = "kubeocean.io/virtual-pod-namespace"  # these four on the physical Pod
VIRTUAL_POD_NAME_ANNOTATION: Final = "kubeocean.io/virtual-pod-name"
VIRTUAL_POD_UID_ANNOTATION: Final = "kubeocean.io/virtual-pod-uid"
VIRTUAL_NODE_NAME_ANNOTATION: Final = "kubeocean.io/virtual-node-name"
VIRTUAL_NAMESPACE_LABEL: Final = "kubeocean.io/virtual-namespace"
WORKLOAD_TYPE_LABEL: Final = "kubeocean.io/workload-type"
WORKLOAD_NAME_LABEL: Final = "kubeocean.io/workload-name"
RUNNING_DAEMONSET_ANNOTATION: Final = "kubeocean.io/running-daemonset"
SERVICE_ACCOUNT_TOKEN_LABEL: Final = "kubeocean.io/service-account-token"
TOKEN_EXPIRES_AT_ANNOTATION: Final = "kubeocean.io/expires-at"  # these two on that Secret: of the token that lives shortest
TOKEN_REFRESH_AT_ANNOTATION: Final = "kubeocean.io/refresh-at"
HOSTPORT_PLACEHOLDER_LABEL: Final = "kubeocean.io/hostport-fake-pod"
PLACEHOLDER_NAMESPACE: Final = "kubeocean-fake"
DEFAULT_PRIORITY_CLASS: Final = "kubeocean-default"
DEFAULT_PRIORITY_VALUE: Final = -10000
KUBEOCEAN_NAMESPACE: Final = "kubeocean-system"
EXCLUDED_NAMESPACES: Final = frozenset(
    {"kube-system", "kube-public", "kube-node-lease", KUBEOCEAN_NAMESPACE, PLACEHOLDER_NAMESPACE}
)
ROOT_CA_CONFIGMAP: Final = "kube-root-ca.crt"
TOKEN_MOUNT_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"

# --- what Pods need: in the virtual cluster while it is in use, and its copy in the physical one ------------------------
SYNCED_BY_LABEL_PREFIX: Final = "kubeocean.io/synced-by-"  # + clusterID, value "true": on what that binding uses
DEPENDENCY_FINALIZER_PREFIX: Final = "kubeocean.io/finalizer-"  # + clusterID
DELETING_ANNOTATION_PREFIX: Final = "kubeocean.io/deleting-"  # + clusterID: left by the Go project when it unbinds
PHYSICAL_NAME_ANNOTATION: Final = "kubeocean.io/physical-name"  # these two on the virtual object
PHYSICAL_NAMESPACE_ANNOTATION: Final = "kubeocean.io/physical-namespace"
VIRTUAL_NAME_ANNOTATION: Final = "kubeocean.io/virtual-name"  # these two on the physical copy
VIRTUAL_NAMESPACE_ANNOTATION: Final = "kubeocean.io/virtual-namespace"
VIRTUAL_UID_ANNOTATION: Final = "kubeocean.io/virtual-uid"  # on copies that follow their original: Services, policies
VIRTUAL_SERVICE_ANNOTATION: Final = "kubeocean.io/virtual-service"  # on a mirrored EndpointSlice: its Service's virtual name

# --- claims and volumes ------------------------------------------------------------------------------------------------
BINDING_OF_CLAIM_ANNOTATION: Final = "kubeocean.io/cluster-binding"  # a user's word on a claim: which binding provisions it
VOLUME_DRIVER: Final = "claims.kubeocean.io"  # of a virtual volume whose data a physical claim holds; also our provisioner
PROVISIONED_LABEL: Final = "kubeocean.io/provisioned"  # value "true": a physical claim that holds data of its own
BOUND_BY_ANNOTATION: Final = "kubeocean.io/volume-uid"  # on a physical claim: the volume it was shown; see domain.volumemap
SELECTED_NODE_ANNOTATION: Final = "kubeocean.io/selected-node"  # on that claim: the physical node we asked for
USED_BY_PV_LABEL: Final = "kubeocean.io/used-by-pv"  # value "true": a Secret that the driver of a physical volume reads
VIRTUAL_CLAIM_NAMESPACE_ANNOTATION: Final = "kubeocean.io/virtual-claim-namespace"  # these three on a physical volume
VIRTUAL_CLAIM_NAME_ANNOTATION: Final = "kubeocean.io/virtual-claim-name"
VIRTUAL_CLAIM_UID_ANNOTATION: Final = "kubeocean.io/virtual-claim-uid"

# --- conditions and reasons ------------------------------------------------------------------------------------------
PHYSICAL_POD_CREATED: Final = "PhysicalPodCreated"
PHYSICAL_POD_SCHEDULED: Final = "PhysicalPodScheduled"
PHYSICAL_POD_UPDATED: Final = "PhysicalPodUpdated"
PHYSICAL_POD_LOST: Final = "PhysicalPodLost"
LEASE_ENDING: Final = "LeaseEnding"  # on a virtual node: its window is about to shut
LEASE_EXCEEDED: Final = "LeaseExceeded"  # on a virtual node: more runs there than is leased

# --- on a physical Pod only when its downward API asks for what would differ there -------------------------------------
VIRTUAL_SERVICE_ACCOUNT_ANNOTATION: Final = "kubeocean.io/virtual-service-account-name"
VIRTUAL_LABELS_ANNOTATION: Final = "kubeocean.io/virtual-labels"  # all of them, written as a kubelet writes the file
VIRTUAL_LABEL_ANNOTATION_PREFIX: Final = "kubeocean.io/virtual-label."  # + the name of one label that ours hides
VIRTUAL_ANNOTATIONS_ANNOTATION: Final = "kubeocean.io/virtual-annotations"  # all of them, likewise
VIRTUAL_ANNOTATION_PREFIX: Final = "kubeocean.io/virtual-annotation."  # + the name of one annotation that ours hides
