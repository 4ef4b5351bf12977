"""What the Pod Security Standards' *baseline* profile forbids, as a chain of small checks.

Source of the rules: Kubernetes, "Pod Security Standards", baseline, as enforced by the admission plugin of 1.35. One
exception, by contract: hostPorts are allowed (placeholder Pods keep the virtual scheduler honest about them).
Ephemeral containers are looked at on their own, because they come later, to a Pod that was allowed to run without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kubeocean.domain.refusal import Refusal
from kubeocean.kube.meta import Json, annotations_of

_CAPABILITIES: Final = frozenset({
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
})
_SYSCTLS: Final = frozenset({
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem",
})
_SELINUX_TYPES: Final = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
_PROFILES: Final = frozenset({"RuntimeDefault", "Localhost"})
_APPARMOR_ANNOTATION: Final = "container.apparmor.security.beta.kubernetes.io/"


def check_baseline(vpod: Json) -> Refusal | None:
    """Return a refusal that names every field of `vpod` the baseline profile forbids; None when there is none."""
    return _refusal(_violations(vpod))


def check_ephemeral_baseline(container: Json, where: str) -> Refusal | None:
    """Return the same of an ephemeral container whose field path is `where`."""
    return _refusal(_container(container, where))


def _refusal(found: Iterator[str]) -> Refusal | None:
    violations = list(found)
    if not violations:
        return None
    return Refusal(
        "PodSecurityViolation",
        f"forbidden by Pod Security baseline: {'; '.join(violations)}. Change the Pod, or set "
        "spec.allowPrivileged on the ClusterBinding",
    )


def _violations(vpod: Json) -> Iterator[str]:
    spec = vpod["spec"]
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"spec.{field}=true"
    for index, volume in enumerate(spec.get("volumes") or ()):
        if "hostPath" in volume:
            yield f"spec.volumes[{index}].hostPath"
    if context := spec.get("securityContext"):
        yield from _any_context(context, "spec.securityContext")
        yield from _sysctls(context)
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(kind) or ()):
            yield from _container(container, f"spec.{kind}[{index}]")
    yield from _apparmor_annotations(vpod)


def _container(container: Json, where: str) -> Iterator[str]:
    if context := container.get("securityContext"):
        yield from _any_context(context, f"{where}.securityContext")
        yield from _container_context(context, f"{where}.securityContext")
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if handler := container.get(probe):
            yield from _handler(handler, f"{where}.{probe}")
    if lifecycle := container.get("lifecycle"):
        for hook in ("postStart", "preStop"):
            if handler := lifecycle.get(hook):
                yield from _handler(handler, f"{where}.lifecycle.{hook}")


def _handler(handler: Json, where: str) -> Iterator[str]:
    # Forbidden since 1.34: a kubelet asking another host on a Pod's behalf is a way around network policies.
    for action in ("httpGet", "tcpSocket"):
        if (handler.get(action) or {}).get("host"):
            yield f"{where}.{action}.host"


def _container_context(context: Json, where: str) -> Iterator[str]:
    if context.get("privileged"):
        yield f"{where}.privileged=true"
    if (mount := context.get("procMount")) and mount != "Default":
        yield f"{where}.procMount={mount}"
    added = (context.get("capabilities") or {}).get("add") or ()
    if forbidden := sorted(set(added) - _CAPABILITIES):
        yield f"{where}.capabilities.add={','.join(forbidden)}"


def _any_context(context: Json, where: str) -> Iterator[str]:
    """Yield what both kinds of security context may violate."""
    for profile in ("seccompProfile", "appArmorProfile"):
        if (kind := (context.get(profile) or {}).get("type")) and kind not in _PROFILES:
            yield f"{where}.{profile}.type={kind}"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{where}.windowsOptions.hostProcess=true"
    if selinux := context.get("seLinuxOptions"):
        yield from _selinux(selinux, f"{where}.seLinuxOptions")


def _selinux(options: Json, where: str) -> Iterator[str]:
    if (options.get("type") or "") not in _SELINUX_TYPES:
        yield f"{where}.type={options['type']}"
    for field in ("user", "role"):
        if options.get(field):
            yield f"{where}.{field}={options[field]}"


def _sysctls(context: Json) -> Iterator[str]:
    if forbidden := sorted({sysctl["name"] for sysctl in context.get("sysctls") or ()} - _SYSCTLS):
        yield f"spec.securityContext.sysctls={','.join(forbidden)}"


def _apparmor_annotations(vpod: Json) -> Iterator[str]:
    for key, value in annotations_of(vpod).items():
        if key.startswith(_APPARMOR_ANNOTATION) and not _apparmor_allowed(value):
            yield f"metadata.annotations[{key}]={value}"


def _apparmor_allowed(profile: str) -> bool:
    return profile in ("", "runtime/default") or profile.startswith("localhost/")
