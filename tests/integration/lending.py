"""What a lender does on his side: grant rights, own namespaces."""

from kubeocean.clusters.rbac import build_physical_rbac
from kubeocean.kube.client import Client, PatchType
from kubeocean.kube.meta import Json, name_of, namespace_of
from kubeocean.kube.resources import NAMESPACES, Resource
from tests.integration.federation import Federation, Lender, discard

GROUP = "rbac.authorization.k8s.io"
CLUSTERROLES = Resource(GROUP, "v1", "clusterroles", "ClusterRole", False)
CLUSTERROLEBINDINGS = Resource(GROUP, "v1", "clusterrolebindings", "ClusterRoleBinding", False)
ROLES = Resource(GROUP, "v1", "roles", "Role", True)
ROLEBINDINGS = Resource(GROUP, "v1", "rolebindings", "RoleBinding", True)
RESOURCES = {resource.kind: resource for resource in (NAMESPACES, CLUSTERROLES, CLUSTERROLEBINDINGS, ROLES, ROLEBINDINGS)}


async def grant(
    federation: Federation, lender: Lender, user: str, *, without: tuple[str, str, str] | None = None
) -> None:
    """Apply what `kubeocean rbac --mount-namespace M --user U` prints, as the lender would; undone with the test.

    `without` (kind of role, resource, verb) leaves one right out. The cluster-wide role is this binding's own here, so
    that tests do not meet in it.
    """
    for obj in build_physical_rbac(user=user, mount_namespace=lender.mount_namespace):
        if obj["kind"] == "ClusterRole":
            obj["metadata"]["name"] = f"borrower-{lender.cluster_id}"
        if obj["kind"] == "ClusterRoleBinding":
            obj["roleRef"]["name"] = f"borrower-{lender.cluster_id}"
        if without and obj["kind"] == without[0]:
            take_away(obj, *without[1:])
        await apply(federation.physical[lender.pool.cluster], obj)
        if "namespace" not in obj["metadata"]:  # the rest is inside
            federation.made.physical.append((lender.pool.cluster, RESOURCES[obj["kind"]], name_of(obj), ""))


async def revoke(federation: Federation, lender: Lender, user: str) -> None:
    """Take back all that was granted: nobody is bound to the roles any more."""
    for obj in build_physical_rbac(user=user, mount_namespace=lender.mount_namespace):
        if obj["kind"] in ("ClusterRoleBinding", "RoleBinding"):
            await discard(federation.physical[lender.pool.cluster], RESOURCES[obj["kind"]], name_of(obj), namespace_of(obj))


def take_away(role: Json, resource: str, verb: str) -> None:
    """Take one verb on a resource from a role, in place."""
    for rule in role["rules"]:
        if rule["resources"] == [resource]:
            rule["verbs"] = [each for each in rule["verbs"] if each != verb]
    role["rules"] = [rule for rule in role["rules"] if rule["verbs"]]


async def apply(client: Client, obj: Json) -> Json:
    """Server-side apply one of the RBAC kinds or a Namespace."""
    resource = RESOURCES[obj["kind"]]
    return await client.patch(
        resource, name_of(obj), namespace_of(obj), obj, kind=PatchType.APPLY, field_manager="lender", force=True
    )
