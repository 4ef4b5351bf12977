"""`kubeocean rbac`: what a lender grants, printed for him to read and apply."""

from __future__ import annotations

from typing import Annotated

import typer
import yaml

from kubeocean.clusters.rbac import build_physical_rbac


def rbac(
    mount_namespace: Annotated[str, typer.Option(help="spec.mountNamespace of the ClusterBinding.")],
    user: Annotated[str, typer.Option(help="User name in the kubeconfig that the lender hands out.")] = "kubeocean",
) -> None:
    """Print the RBAC objects that let a borrower serve one binding, and nothing more.

    Example:  kubeocean rbac --mount-namespace team-a | kubectl --kubeconfig lender.kubeconfig apply -f -
    """
    typer.echo(yaml.safe_dump_all(build_physical_rbac(user=user, mount_namespace=mount_namespace), sort_keys=False), nl=False)
