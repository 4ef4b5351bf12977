"""RBAC objects out of the tables in `permissions`: what a lender grants, and what our own programs need. Pure.

A borrower's grant is named after his mountNamespace where it is cluster-wide, so that several borrowers can be granted in
one physical cluster without one taking the other's away.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubeocean.api import names
from kubeocean.clusters.permissions import INSTALL_RULES, NODE_PROXY_RULES, PHYSICAL_RULES, VIRTUAL_RULES, Rule
from kubeocean.kube.meta import Json

_GROUP = "rbac.authorization.k8s.io"
BORROWER = "kubeocean-borrower"


def build_rules(rules: Iterable[Rule]) -> list[Json]:
    """Return the `rules:` of a Role or ClusterRole."""
    return [
        {"apiGroups": [rule.group], "resources": [rule.resource], "verbs": list(rule.verbs)}
        | ({"resourceNames": [rule.only]} if rule.only else {})
        for rule in rules
    ]


def build_physical_rbac(*, user: str, mount_namespace: str) -> list[Json]:
    """Return everything a lender applies so that `user` may serve one binding, and nothing more."""
    subject = {"kind": "User", "name": user, "apiGroup": _GROUP}
    everywhere = build_rules(rule for rule in PHYSICAL_RULES if not rule.mounted)
    mounted = build_rules(rule for rule in PHYSICAL_RULES if rule.mounted)
    return [
        _namespace(mount_namespace),
        _role("ClusterRole", BORROWER, everywhere),
        _binding("ClusterRoleBinding", f"{BORROWER}-{mount_namespace}", ("ClusterRole", BORROWER), subject),
        _role("Role", BORROWER, mounted, mount_namespace),
        _binding("RoleBinding", BORROWER, ("Role", BORROWER), subject, mount_namespace),
    ]


def build_node_proxy_rbac(*, user: str, mount_namespace: str) -> list[Json]:
    """Return what a lender applies besides for a binding with spec.nodeProxy; see NODE_PROXY_RULES for what that opens."""
    role = f"{BORROWER}-node-proxy"
    subject = {"kind": "User", "name": user, "apiGroup": _GROUP}
    return [
        _role("ClusterRole", role, build_rules(NODE_PROXY_RULES)),
        _binding("ClusterRoleBinding", f"{role}-{mount_namespace}", ("ClusterRole", role), subject),
    ]


def build_program_rbac(program: str) -> list[Json]:
    """Return what `kubeocean manager` (with --launcher none), `syncer` or `proxier` needs, for an account of its own."""
    role = f"kubeocean-{program}"
    account = {"name": role, "namespace": names.KUBEOCEAN_NAMESPACE}
    return [
        _namespace(names.KUBEOCEAN_NAMESPACE),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        _role("ClusterRole", role, build_rules(VIRTUAL_RULES[program])),
        _binding("ClusterRoleBinding", role, ("ClusterRole", role), {"kind": "ServiceAccount", **account}),
    ]


def build_inprocess_rbac() -> list[Json]:
    """Return what `kubeocean manager --launcher inprocess` needs besides: its syncers and proxier use the manager's account."""
    manager = {"kind": "ServiceAccount", "name": "kubeocean-manager", "namespace": names.KUBEOCEAN_NAMESPACE}
    return [
        _binding("ClusterRoleBinding", "kubeocean-manager-inprocess", ("ClusterRole", "kubeocean-syncer"), manager),
        _binding("ClusterRoleBinding", "kubeocean-manager-inprocess-proxier", ("ClusterRole", "kubeocean-proxier"), manager),
    ]


def build_installer_rbac() -> list[Json]:
    """Return what `kubeocean manager --install-crds` needs besides."""
    manager = {"kind": "ServiceAccount", "name": "kubeocean-manager", "namespace": names.KUBEOCEAN_NAMESPACE}
    role = "kubeocean-installer"
    return [
        _role("ClusterRole", role, build_rules(INSTALL_RULES)),
        _binding("ClusterRoleBinding", role, ("ClusterRole", role), manager),
    ]


def _namespace(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _role(kind: str, name: str, rules: list[Json], namespace: str = "") -> Json:
    return {"apiVersion": f"{_GROUP}/v1", "kind": kind, "metadata": _metadata(name, namespace), "rules": rules}


def _binding(kind: str, name: str, role: tuple[str, str], subject: Json, namespace: str = "") -> Json:
    role_kind, role_name = role
    return {
        "apiVersion": f"{_GROUP}/v1", "kind": kind, "metadata": _metadata(name, namespace), "subjects": [subject],
        "roleRef": {"apiGroup": _GROUP, "kind": role_kind, "name": role_name},
    }


def _metadata(name: str, namespace: str) -> Json:
    return {"name": name, "namespace": namespace} if namespace else {"name": name}
