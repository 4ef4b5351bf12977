"""Every field a Pod's specification can have, at every depth, and what becomes of it on the physical Pod.

This is the allow-list: mapping keeps what stands here as KEEP, gives references the names of their copies where it says
RENAME, builds what stands as REWRITE, and nothing else. A field that Kubernetes invents tomorrow is in no table, so it is
dropped instead of leaked into a lender's cluster. The exception are the sources of a volume and of a variable
(`CLOSED`): leaving out an unknown source would silently make an emptyDir or an empty variable of it, so there the unknown
is refused.

The tables are data, one per type of the API and called as the API calls it, so that `podcopy` (which executes them),
documentation and tests read the same truth. `tests/integration/test_pod_fields.py` holds them against the schema of a real
API server. Volumes are in `volumefields`.
"""

from __future__ import annotations

from typing import Final

from kubeocean.domain.fieldrules import KEEP, RENAME, Rule, Table, Treatment, drop, keep, plain, refuse, rewrite
from kubeocean.domain.volumefields import PROJECTED_SOURCE, VOLUME, VOLUME_TABLES

__all__ = [
    "CLOSED", "CONTAINER", "CONTAINER_SECURITY_CONTEXT", "ENV_SOURCE", "EPHEMERAL_CONTAINER", "POD_SECURITY_CONTEXT",
    "POD_SPEC", "PROJECTED_SOURCE", "TABLES", "VOLUME", "Rule", "Table", "Treatment",
]

_BASELINE: Final = "only where the binding says allowPrivileged (Pod Security baseline)"
_WITHIN_BASELINE: Final = "within Pod Security baseline, unless the binding says allowPrivileged"
_DYNAMIC: Final = "dynamic resource allocation is decided in the virtual cluster"
_PLACED: Final = "the virtual scheduler has already honoured it"
_NOT_EPHEMERAL: Final = "the API server allows it to no ephemeral container"
_PROBE: Final = keep("Probe")

POD_SPEC: Final[Table] = {
    "activeDeadlineSeconds": KEEP,
    "affinity": rewrite("none of it; required node affinity to the physical node instead, or nothing with directScheduling"),
    "automountServiceAccountToken": rewrite("always false, else admission mounts the lender's default token"),
    "containers": rewrite("field by field", "Container"),
    "dnsConfig": rewrite("merged with the virtual cluster's DNS where that is known", "PodDNSConfig"),
    "dnsPolicy": rewrite("None + the virtual cluster's DNS where that is known"),
    "enableServiceLinks": rewrite("always false: not the lender's Services, the virtual ones come as variables"),
    "ephemeralContainers": drop("exist only through their subresource, which maps them field by field", "EphemeralContainer"),
    "hostAliases": rewrite("+ the names of the virtual API server and of mirrored Services", "HostAlias"),
    "hostIPC": keep(why=_BASELINE),
    "hostNetwork": keep(why=_BASELINE),
    "hostPID": keep(why=_BASELINE),
    "hostUsers": KEEP,
    "hostname": rewrite("the virtual Pod's name where unset"),
    "hostnameOverride": KEEP._replace(since="1.34"),
    "imagePullSecrets": keep("LocalObjectReference"),
    "initContainers": rewrite("field by field", "Container"),
    "nodeName": rewrite("the physical node with directScheduling, else the physical scheduler's business"),
    "nodeSelector": drop(_PLACED),
    "os": keep("PodOS"),
    "overhead": drop("admission fills it in from the physical RuntimeClass"),
    "preemptionPolicy": drop("admission fills it in from the binding's PriorityClass"),
    "priority": drop("admission fills it in from the binding's PriorityClass"),
    "priorityClassName": rewrite("the binding's"),
    "readinessGates": drop("evaluated by us: their conditions live on the virtual Pod"),
    "resourceClaims": refuse(_DYNAMIC),
    "resources": keep("ResourceRequirements"),
    "restartPolicy": KEEP,
    "runtimeClassName": KEEP,
    "schedulerName": drop("the physical cluster has its own"),
    "schedulingGates": drop("empty by the time a Pod is bound"),
    "securityContext": keep("PodSecurityContext", _WITHIN_BASELINE),
    "serviceAccount": drop("old name of serviceAccountName"),
    "serviceAccountName": drop("the physical default; the virtual identity travels as tokens"),
    "setHostnameAsFQDN": KEEP,
    "shareProcessNamespace": KEEP,
    "subdomain": KEEP,
    "terminationGracePeriodSeconds": KEEP,
    "tolerations": keep("Toleration"),
    "topologySpreadConstraints": drop(_PLACED),
    "volumes": rewrite("source by source", "Volume"),
    "workloadRef": drop(_PLACED)._replace(since="1.35"),
}

CONTAINER: Final[Table] = {
    "args": KEEP,
    "command": KEEP,
    "env": rewrite("+ the virtual API server's address, the virtual namespace's Services and HOSTNAME", "EnvVar"),
    "envFrom": keep("EnvFromSource"),
    "image": KEEP,
    "imagePullPolicy": KEEP,
    "lifecycle": keep("Lifecycle"),
    "livenessProbe": _PROBE,
    "name": KEEP,
    "ports": keep("ContainerPort"),
    "readinessProbe": _PROBE,
    "resizePolicy": keep("ContainerResizePolicy"),
    "resources": keep("ResourceRequirements"),
    "restartPolicy": KEEP,
    "restartPolicyRules": keep("ContainerRestartRule")._replace(since="1.34"),
    "securityContext": keep("SecurityContext", _WITHIN_BASELINE),
    "startupProbe": _PROBE,
    "stdin": KEEP,
    "stdinOnce": KEEP,
    "terminationMessagePath": KEEP,
    "terminationMessagePolicy": KEEP,
    "tty": KEEP,
    "volumeDevices": keep("VolumeDevice"),
    "volumeMounts": keep("VolumeMount"),
    "workingDir": KEEP,
}

EPHEMERAL_CONTAINER: Final[Table] = CONTAINER | {"targetContainerName": KEEP} | dict.fromkeys(
    ("lifecycle", "livenessProbe", "ports", "readinessProbe", "resizePolicy", "resources", "restartPolicy", "startupProbe"),
    drop(_NOT_EPHEMERAL),
) | {"restartPolicyRules": drop(_NOT_EPHEMERAL)._replace(since="1.34")}

ENV_SOURCE: Final[Table] = {
    "configMapKeyRef": keep("ConfigMapKeySelector", "kube-root-ca.crt is refused: beside the twin that is the lender's"),
    "fieldRef": keep("ObjectFieldSelector", "reads the virtual values"),
    "fileKeyRef": keep("FileKeySelector")._replace(since="1.34"),
    "resourceFieldRef": keep("ResourceFieldSelector", "a limit that is not set reads as the physical node's whole capacity"),
    "secretKeyRef": keep("SecretKeySelector"),
}

POD_SECURITY_CONTEXT: Final[Table] = plain(
    "fsGroup fsGroupChangePolicy runAsGroup runAsNonRoot runAsUser seLinuxChangePolicy supplementalGroups "
    "supplementalGroupsPolicy",
    appArmorProfile=keep("AppArmorProfile"), seLinuxOptions=keep("SELinuxOptions"), seccompProfile=keep("SeccompProfile"),
    sysctls=keep("Sysctl"), windowsOptions=keep("WindowsSecurityContextOptions"),
)
CONTAINER_SECURITY_CONTEXT: Final[Table] = plain(
    "allowPrivilegeEscalation privileged procMount readOnlyRootFilesystem runAsGroup runAsNonRoot runAsUser",
    appArmorProfile=keep("AppArmorProfile"), capabilities=keep("Capabilities"), seLinuxOptions=keep("SELinuxOptions"),
    seccompProfile=keep("SeccompProfile"), windowsOptions=keep("WindowsSecurityContextOptions"),
)

TABLES: Final[dict[str, Table]] = {
    "PodSpec": POD_SPEC,
    "Container": CONTAINER,
    "EphemeralContainer": EPHEMERAL_CONTAINER,
    "EnvVarSource": ENV_SOURCE,
    **VOLUME_TABLES,
    "PodSecurityContext": POD_SECURITY_CONTEXT,
    "SecurityContext": CONTAINER_SECURITY_CONTEXT,
    "AppArmorProfile": plain("localhostProfile type"),
    "Capabilities": plain("add drop"),
    "ConfigMapEnvSource": plain("optional", name=RENAME),
    "ConfigMapKeySelector": plain("key optional", name=RENAME),
    "ContainerPort": plain("containerPort hostIP hostPort name protocol"),
    "ContainerResizePolicy": plain("resourceName restartPolicy"),
    "ContainerRestartRule": plain("action", exitCodes=keep("ContainerRestartRuleOnExitCodes")),
    "ContainerRestartRuleOnExitCodes": plain("operator values"),
    "EnvFromSource": plain(
        "prefix", configMapRef=keep("ConfigMapEnvSource", "kube-root-ca.crt is refused, as for a single variable"),
        secretRef=keep("SecretEnvSource"),
    ),
    "EnvVar": plain("name value", valueFrom=keep("EnvVarSource")),
    "ExecAction": plain("command"),
    "FileKeySelector": plain("key optional path volumeName"),
    "GRPCAction": plain("port service"),
    "HTTPGetAction": plain("path port scheme", host=keep(why=_BASELINE), httpHeaders=keep("HTTPHeader")),
    "HTTPHeader": plain("name value"),
    "HostAlias": plain("hostnames ip"),
    "Lifecycle": plain("stopSignal", postStart=keep("LifecycleHandler"), preStop=keep("LifecycleHandler")),
    "LifecycleHandler": {
        "exec": keep("ExecAction"), "httpGet": keep("HTTPGetAction"), "sleep": keep("SleepAction"),
        "tcpSocket": keep("TCPSocketAction"),
    },
    "LocalObjectReference": {"name": RENAME},
    "ObjectFieldSelector": plain("apiVersion", fieldPath=rewrite("to an annotation of ours where the virtual value differs")),
    "PodDNSConfig": plain("nameservers searches", options=keep("PodDNSConfigOption")),
    "PodDNSConfigOption": plain("name value"),
    "PodOS": plain("name"),
    "Probe": plain(
        "failureThreshold initialDelaySeconds periodSeconds successThreshold terminationGracePeriodSeconds timeoutSeconds",
        exec=keep("ExecAction"), grpc=keep("GRPCAction"), httpGet=keep("HTTPGetAction"), tcpSocket=keep("TCPSocketAction"),
    ),
    "ResourceFieldSelector": plain("containerName divisor resource"),
    "ResourceRequirements": plain("limits requests", claims=refuse(_DYNAMIC)),
    "SELinuxOptions": plain("level role type user"),
    "SeccompProfile": plain("localhostProfile type"),
    "SecretEnvSource": plain("optional", name=RENAME),
    "SecretKeySelector": plain("key optional", name=RENAME),
    "SleepAction": plain("seconds"),
    "Sysctl": plain("name value"),
    "TCPSocketAction": plain("port", host=keep(why=_BASELINE)),
    "Toleration": plain("effect key operator tolerationSeconds value"),
    "VolumeDevice": plain("devicePath name"),
    "VolumeMount": plain("mountPath mountPropagation name readOnly recursiveReadOnly subPath subPathExpr"),
    "WindowsSecurityContextOptions": plain("gmsaCredentialSpec gmsaCredentialSpecName hostProcess runAsUserName"),
}

# Tables of alternatives: an unknown field there is not dropped, it gets the Pod refused.
CLOSED: Final = frozenset({"Volume", "VolumeProjection", "EnvVarSource", "EnvFromSource", "LifecycleHandler"})
