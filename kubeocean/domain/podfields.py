"""Every field of PodSpec, Container, Volume and the security contexts, and what becomes of it on the physical Pod.

This is the allow-list: mapping keeps what stands here as KEEP, builds what stands as REWRITE, and nothing else. A field
that Kubernetes invents tomorrow is in no table, so it is dropped instead of leaked into a lender's cluster. The one
exception are the sources of a volume and of an environment variable: leaving out an unknown source would silently make
an emptyDir or an empty variable of it, so there the unknown is refused.

The tables are data so that documentation and tests read the same truth as the code (Kubernetes 1.35 fields).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Treatment(StrEnum):
    """What mapping does with a field."""

    KEEP = "keep"
    REWRITE = "rewrite"
    DROP = "drop"
    REFUSE = "refuse"


class Rule(NamedTuple):
    """One row: the treatment, and why it is not simply kept ("" for KEEP without a condition)."""

    treatment: Treatment
    why: str = ""


_KEEP: Final = Rule(Treatment.KEEP)
_LATER: Final = "refers to another object of the virtual cluster; mirroring those comes with a later version"
_REMOVED: Final = "Kubernetes has removed this volume plugin"
_BASELINE: Final = "only where the binding says allowPrivileged (Pod Security baseline)"


def _rewrite(why: str) -> Rule:
    return Rule(Treatment.REWRITE, why)


def _drop(why: str) -> Rule:
    return Rule(Treatment.DROP, why)


def _refuse(why: str) -> Rule:
    return Rule(Treatment.REFUSE, why)


POD_SPEC: Final[dict[str, Rule]] = {
    "activeDeadlineSeconds": _KEEP,
    "affinity": _rewrite("required node affinity to the physical node; none with directScheduling"),
    "automountServiceAccountToken": _rewrite("always false, else admission mounts the lender's default token"),
    "containers": _rewrite("field by field"),
    "dnsConfig": _rewrite("merged with the virtual cluster's DNS where that is known"),
    "dnsPolicy": _rewrite("None + the virtual cluster's DNS where that is known"),
    "enableServiceLinks": _rewrite("always false: the lender's Services are not the user's"),
    "ephemeralContainers": _drop("exist only through their subresource"),
    "hostAliases": _rewrite("+ the names of the virtual API server"),
    "hostIPC": Rule(Treatment.KEEP, _BASELINE),
    "hostNetwork": Rule(Treatment.KEEP, _BASELINE),
    "hostPID": Rule(Treatment.KEEP, _BASELINE),
    "hostUsers": _KEEP,
    "hostname": _rewrite("the virtual Pod's name where unset"),
    "hostnameOverride": _KEEP,
    "imagePullSecrets": _refuse(_LATER),
    "initContainers": _rewrite("field by field"),
    "nodeName": _rewrite("the physical node with directScheduling, else the physical scheduler's business"),
    "nodeSelector": _drop("the virtual scheduler has already honoured it"),
    "os": _KEEP,
    "overhead": _drop("admission fills it in from the physical RuntimeClass"),
    "preemptionPolicy": _drop("admission fills it in from the binding's PriorityClass"),
    "priority": _drop("admission fills it in from the binding's PriorityClass"),
    "priorityClassName": _rewrite("the binding's"),
    "readinessGates": _drop("evaluated by us: their conditions live on the virtual Pod"),
    "resourceClaims": _refuse("dynamic resource allocation is decided in the virtual cluster"),
    "resources": _KEEP,
    "restartPolicy": _KEEP,
    "runtimeClassName": _KEEP,
    "schedulerName": _drop("the physical cluster has its own"),
    "schedulingGates": _drop("empty by the time a Pod is bound"),
    "securityContext": _rewrite("field by field"),
    "serviceAccount": _drop("old name of serviceAccountName"),
    "serviceAccountName": _drop("the physical default; the virtual identity travels as tokens"),
    "setHostnameAsFQDN": _KEEP,
    "shareProcessNamespace": _KEEP,
    "subdomain": _KEEP,
    "terminationGracePeriodSeconds": _KEEP,
    "tolerations": _KEEP,
    "topologySpreadConstraints": _drop("the virtual scheduler has already honoured them"),
    "volumes": _rewrite("source by source"),
    "workloadRef": _drop("the virtual scheduler has already honoured it"),
}

CONTAINER: Final[dict[str, Rule]] = {
    "args": _KEEP,
    "command": _KEEP,
    "env": _rewrite("+ the virtual API server's address and HOSTNAME; downward API references read the virtual values"),
    "envFrom": _refuse(_LATER),
    "image": _KEEP,
    "imagePullPolicy": _KEEP,
    "lifecycle": _KEEP,
    "livenessProbe": _KEEP,
    "name": _KEEP,
    "ports": _KEEP,
    "readinessProbe": _KEEP,
    "resizePolicy": _KEEP,
    "resources": _KEEP,
    "restartPolicy": _KEEP,
    "restartPolicyRules": _KEEP,
    "securityContext": _rewrite("field by field"),
    "startupProbe": _KEEP,
    "stdin": _KEEP,
    "stdinOnce": _KEEP,
    "terminationMessagePath": _KEEP,
    "terminationMessagePolicy": _KEEP,
    "tty": _KEEP,
    "volumeDevices": _KEEP,
    "volumeMounts": _KEEP,
    "workingDir": _KEEP,
}

VOLUME: Final[dict[str, Rule]] = {
    "awsElasticBlockStore": _KEEP,
    "azureDisk": _KEEP,
    "azureFile": _refuse(_LATER),
    "cephfs": _refuse(_REMOVED),
    "cinder": Rule(Treatment.KEEP, "without a secretRef"),
    "configMap": _refuse(_LATER),
    "csi": Rule(Treatment.KEEP, "without a nodePublishSecretRef"),
    "downwardAPI": _rewrite("references read the virtual values"),
    "emptyDir": _KEEP,
    "ephemeral": _refuse(_LATER),
    "fc": _KEEP,
    "flexVolume": Rule(Treatment.KEEP, "without a secretRef"),
    "flocker": _refuse(_REMOVED),
    "gcePersistentDisk": _KEEP,
    "gitRepo": _refuse("Kubernetes has disabled this volume plugin, it ran code as root on the node"),
    "glusterfs": _refuse(_REMOVED),
    "hostPath": Rule(Treatment.KEEP, _BASELINE),
    "image": _KEEP,
    "iscsi": Rule(Treatment.KEEP, "without a secretRef"),
    "nfs": _KEEP,
    "persistentVolumeClaim": _refuse(_LATER),
    "photonPersistentDisk": _refuse(_REMOVED),
    "portworxVolume": _KEEP,
    "projected": _rewrite("tokens, root certificate and namespace come out of one Secret of ours per volume"),
    "quobyte": _refuse(_REMOVED),
    "rbd": _refuse(_REMOVED),
    "scaleIO": _refuse(_REMOVED),
    "secret": _refuse(_LATER),
    "storageos": _refuse(_REMOVED),
    "vsphereVolume": _KEEP,
}

PROJECTED_SOURCE: Final[dict[str, Rule]] = {
    "clusterTrustBundle": _refuse(_LATER),
    "configMap": _rewrite("kube-root-ca.crt only, as a key of our Secret; others are refused for now"),
    "downwardAPI": _rewrite("references read the virtual values"),
    "podCertificate": _refuse("its signers are in the virtual cluster, its kubelet is not"),
    "secret": _refuse(_LATER),
    "serviceAccountToken": _rewrite("a key of our Secret"),
}

ENV_SOURCE: Final[dict[str, Rule]] = {
    "configMapKeyRef": _refuse(_LATER),
    "fieldRef": _rewrite("references read the virtual values"),
    "fileKeyRef": _KEEP,
    "resourceFieldRef": _KEEP,
    "secretKeyRef": _refuse(_LATER),
}

POD_SECURITY_CONTEXT: Final = frozenset({
    "appArmorProfile", "fsGroup", "fsGroupChangePolicy", "runAsGroup", "runAsNonRoot", "runAsUser",
    "seLinuxChangePolicy", "seLinuxOptions", "seccompProfile", "supplementalGroups", "supplementalGroupsPolicy",
    "sysctls", "windowsOptions",
})
CONTAINER_SECURITY_CONTEXT: Final = frozenset({
    "allowPrivilegeEscalation", "appArmorProfile", "capabilities", "privileged", "procMount", "readOnlyRootFilesystem",
    "runAsGroup", "runAsNonRoot", "runAsUser", "seLinuxOptions", "seccompProfile", "windowsOptions",
})


def kept(table: dict[str, Rule]) -> frozenset[str]:
    """Return the fields of `table` that travel unchanged."""
    return frozenset(field for field, rule in table.items() if rule.treatment is Treatment.KEEP)


KEPT_POD_SPEC: Final = kept(POD_SPEC)
KEPT_CONTAINER: Final = kept(CONTAINER)
