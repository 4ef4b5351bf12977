"""A look at the physical cluster through the credentials a binding names: does it answer, is it the one, may we work there?

The answers become the binding's conditions, so every failure here is turned into a reason and a message that says what to
mend. Nothing is written.
"""

from __future__ import annotations

from kubeocean.api.binding import ClusterBindingSpec
from kubeocean.clusters.permissions import KnownRights
from kubeocean.clusters.physical import read_kubeconfig
from kubeocean.domain.bindingstatus import (
    CLUSTER_UNREACHABLE,
    CONNECTIVITY_FAILED,
    IDENTITY_CHANGED,
    PERMISSION_DENIED,
    Connection,
)
from kubeocean.kube.client import Client
from kubeocean.kube.errors import ConfigError, Forbidden, KubeError, Unauthorized, Unreachable, UntrustedServer
from kubeocean.kube.meta import Json, uid_of
from kubeocean.kube.resources import NAMESPACES


async def check_connection(
    spec: ClusterBindingSpec, secret: Json | None, *, known_uid: str, rights: KnownRights, user_agent: str
) -> Connection:
    """Return what the physical cluster answers. `known_uid` is the one it must still have, "" at the first connect.

    `rights` is what earlier looks at this binding learnt.
    """
    reference = f"{spec.secret_ref.namespace}/{spec.secret_ref.name}"
    try:
        config = await read_kubeconfig(secret, reference=reference)
        async with Client(config, cluster=spec.cluster_id, user_agent=user_agent) as client:
            return await _look(client, spec, reference, known_uid, rights)
    except ConfigError as error:
        return Connection(CONNECTIVITY_FAILED, str(error))
    except UntrustedServer as error:
        return Connection(
            CONNECTIVITY_FAILED, f"{error}: certificate-authority-data in Secret {reference} is not the CA of this server; "
            "take the kubeconfig from the cluster again",
        )
    except Unauthorized as error:
        return Connection(CONNECTIVITY_FAILED, f"{error}: the credentials in Secret {reference} are not accepted; renew them")
    except Forbidden as error:
        return Connection(PERMISSION_DENIED, f"{error}: apply the lender's RBAC again (kubeocean rbac)")
    except KubeError as error:
        # A cluster that has answered before is away; one that never has is more likely misnamed.
        reason = CLUSTER_UNREACHABLE if known_uid and isinstance(error, Unreachable) else CONNECTIVITY_FAILED
        return Connection(reason, f"{error}: check the server address in Secret {reference} and the network to it")


async def _look(
    client: Client, spec: ClusterBindingSpec, reference: str, known_uid: str, rights: KnownRights
) -> Connection:
    version = str((await client.server_version()).get("gitVersion", ""))
    missing = await rights.find_missing(client, spec.mount_namespace)
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        return Connection(
            PERMISSION_DENIED, f"the user of Secret {reference} may not: {shown}; the lender can grant it with "
            f"`kubeocean rbac --mount-namespace {spec.mount_namespace}`", version,
        )
    uid = uid_of(await client.get(NAMESPACES, "kube-system"))
    if known_uid and uid != known_uid:
        return Connection(
            IDENTITY_CHANGED, f"Secret {reference} now leads to another cluster (kube-system uid {uid}, it was {known_uid}); "
            "nothing is written there: restore the old kubeconfig, or delete this binding and make a new one", version, uid,
        )
    return Connection(version=version, uid=uid)
