"""What Pod Security baseline forbids, one Pod each; and what it does not."""

from typing import Any

import pytest

from kubeocean.domain.podsecurity import check_baseline
from kubeocean.kube.meta import Json


def pod(container: Json | None = None, annotations: dict[str, str] | None = None, **spec: Any) -> Json:
    return {
        "metadata": {"name": "p", "annotations": annotations or {}},
        "spec": {"containers": [{"name": "app", **(container or {})}], **spec},
    }


def context(**fields: Any) -> Json:
    return pod({"securityContext": fields})


AA = "container.apparmor.security.beta.kubernetes.io/app"
FORBIDDEN: dict[str, tuple[Json, str]] = {
    "the host's network": (pod(hostNetwork=True), "spec.hostNetwork=true"),
    "the host's processes": (pod(hostPID=True), "spec.hostPID=true"),
    "the host's IPC": (pod(hostIPC=True), "spec.hostIPC=true"),
    "the host's files": (pod(volumes=[{"name": "a", "hostPath": {"path": "/"}}]), "spec.volumes[0].hostPath"),
    "privileged": (context(privileged=True), "spec.containers[0].securityContext.privileged=true"),
    "privileged init containers": (
        pod(initContainers=[{"name": "i", "securityContext": {"privileged": True}}]),
        "spec.initContainers[0].securityContext.privileged=true",
    ),
    "more capabilities": (context(capabilities={"add": ["NET_RAW"]}), "capabilities.add=NET_RAW"),
    "all capabilities": (context(capabilities={"add": ["ALL"]}), "capabilities.add=ALL"),
    "an unmasked /proc": (context(procMount="Unmasked"), "procMount=Unmasked"),
    "no seccomp": (context(seccompProfile={"type": "Unconfined"}), "seccompProfile.type=Unconfined"),
    "no seccomp for the whole Pod": (
        pod(securityContext={"seccompProfile": {"type": "Unconfined"}}), "spec.securityContext.seccompProfile.type=Unconfined",
    ),
    "no AppArmor": (context(appArmorProfile={"type": "Unconfined"}), "appArmorProfile.type=Unconfined"),
    "no AppArmor, the old way": (pod(annotations={AA: "unconfined"}), f"metadata.annotations[{AA}]=unconfined"),
    "a strange SELinux type": (context(seLinuxOptions={"type": "spc_t"}), "seLinuxOptions.type=spc_t"),
    "an SELinux user": (context(seLinuxOptions={"user": "u"}), "seLinuxOptions.user=u"),
    "an SELinux role": (context(seLinuxOptions={"role": "r"}), "seLinuxOptions.role=r"),
    "a Windows host process": (context(windowsOptions={"hostProcess": True}), "windowsOptions.hostProcess=true"),
    "an unsafe sysctl": (
        pod(securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}), "sysctls=kernel.msgmax",
    ),
    "a probe of another host": (pod({"readinessProbe": {"tcpSocket": {"host": "10.0.0.1"}}}), "readinessProbe.tcpSocket.host"),
    "a hook to another host": (pod({"lifecycle": {"preStop": {"httpGet": {"host": "x"}}}}), "lifecycle.preStop.httpGet.host"),
}


@pytest.mark.parametrize("case", FORBIDDEN)
def test_forbidden(case: str) -> None:
    virtual, field = FORBIDDEN[case]
    refusal = check_baseline(virtual)
    assert refusal
    assert refusal.reason == "PodSecurityViolation"
    assert field in refusal.message
    assert "allowPrivileged" in refusal.message


ALLOWED: dict[str, Json] = {
    "nothing special": pod(),
    "host ports": pod({"ports": [{"containerPort": 80, "hostPort": 80}]}),
    "capabilities of the default set": context(capabilities={"add": ["NET_BIND_SERVICE", "CHOWN"], "drop": ["ALL"]}),
    "root": context(runAsUser=0, allowPrivilegeEscalation=True),
    "the default /proc": context(procMount="Default"),
    "the runtime's profiles": context(seccompProfile={"type": "RuntimeDefault"}, appArmorProfile={"type": "Localhost"}),
    "an AppArmor profile, the old way": pod(annotations={AA: "localhost/mine"}),
    "a container's SELinux type": context(seLinuxOptions={"type": "container_t", "level": "s0"}),
    "a safe sysctl": pod(securityContext={"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}),
    "a probe of itself": pod({"livenessProbe": {"httpGet": {"port": 80, "host": ""}}}),
    "explicit refusals": pod(hostNetwork=False, hostPID=False, hostIPC=False),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_allowed(case: str) -> None:
    assert check_baseline(ALLOWED[case]) is None
