"""The files of one cluster, written before anything of it is started: certificates, kubeconfigs and settings."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from kubeocean.sandbox.commands import LOOPBACK, Files, build_audit_policy
from kubeocean.sandbox.kubeconfig import build_kubeconfig, write_kubeconfig
from kubeocean.sandbox.kwok import POD_LOG, build_kwok_config
from kubeocean.sandbox.pki import Authority, new_signing_key, write_pair
from kubeocean.sandbox.realnode.node import RealNode, server_for_containers

# Who the components are, as Kubernetes' own bootstrap RBAC knows them. KWOK plays kubelets and the Pods' lives on them;
# there is no role for that, so it is an administrator.
_CLIENTS = {
    "kube-controller-manager": ("system:kube-controller-manager", ()),
    "kube-scheduler": ("system:kube-scheduler", ()),
    "kwok": ("kwok", ("system:masters",)),
}
_ADMIN, _ADMIN_GROUPS = "kubeocean-sandbox-admin", ("system:masters",)


def prepare_files(
    files: Files, *, cluster: str, server: str, server_names: Sequence[str], number: int, kubelet_port: int | None,
    nodes: Sequence[RealNode] = (), audit_reads: bool = False,
) -> None:
    """Write all that the components of `cluster` read; `number` tells the clusters of a sandbox apart.

    Its real `nodes` get credentials of the cluster's authority. `audit_reads`: the audit log holds reads, too.
    """
    for folder in (files.folder, files.pki, files.logs):
        folder.mkdir(mode=0o700)
    authority = Authority.create(f"{cluster}-ca")
    _write_certificates(files, authority, cluster, server_names)
    admin = authority.issue(_ADMIN, organizations=_ADMIN_GROUPS)
    write_pair(admin, files.pki, "admin")
    ca = authority.pair.certificate
    write_kubeconfig(build_kubeconfig(cluster, server, ca, _ADMIN, admin), files.kubeconfig)
    for component, (user, groups) in _CLIENTS.items():
        pair = authority.issue(user, organizations=groups)
        write_kubeconfig(build_kubeconfig(cluster, server, ca, user, pair), files.kubeconfig_of(component))
    files.audit_policy.write_text(build_audit_policy(reads=audit_reads))
    if kubelet_port:
        files.pod_log.write_text(POD_LOG)
        config = build_kwok_config(pod_network=100 + number, pod_log=files.pod_log, port=kubelet_port)
        files.kwok_config.write_text(config)
    for node in nodes:
        _prepare_node(node, authority, server)


def _prepare_node(node: RealNode, authority: Authority, server: str) -> None:
    node.folder.mkdir(mode=0o700)
    write_pair(authority.issue(node.name, names=(node.name, node.place.address)), node.folder, node.certificate.name)
    client = authority.issue(f"system:node:{node.name}", organizations=("system:nodes",))
    reached = f"https://{server_for_containers(node.place.network, server)}"
    ca = authority.pair.certificate
    write_kubeconfig(build_kubeconfig(node.cluster, reached, ca, f"system:node:{node.name}", client), node.kubeconfig)


def client_context(files: Files) -> ssl.SSLContext:
    """Return the TLS settings of the administrator, good for every component of the cluster."""
    context = ssl.create_default_context(cafile=str(files.pki / "ca.crt"))
    context.load_cert_chain(files.pki / "admin.crt", files.pki / "admin.key")
    return context


def _write_certificates(files: Files, authority: Authority, cluster: str, server_names: Sequence[str]) -> None:
    # An authority of its own: whoever holds a certificate of this one may act as any user.
    front = Authority.create(f"{cluster}-front-proxy-ca")
    for name, pair in {
        "ca": authority.pair,
        "tokens": new_signing_key(),
        "server": authority.issue("kube-apiserver", names=server_names),
        "component": authority.issue("component", names=("localhost", LOOPBACK)),
        "kubelet-client": authority.issue("kube-apiserver-kubelet-client", organizations=("system:masters",)),
        "front-proxy-ca": front.pair,
        "front-proxy": front.issue("front-proxy"),
    }.items():
        write_pair(pair, files.pki, name)
