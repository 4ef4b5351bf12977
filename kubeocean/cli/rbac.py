"""`kubeocean rbac`: what a lender grants, printed for him to read and apply."""

from __future__ import annotations

import re
from typing import Annotated

import typer
import yaml

from kubeocean.clusters.rbac import build_node_proxy_rbac, build_physical_rbac


def _dns_label(text: str) -> str:
    if len(text) > 63 or not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", text):
        raise typer.BadParameter(f"{text!r} is no name of a namespace; write lower-case letters, digits and dashes")
    return text


def rbac(
    mount_namespace: Annotated[str, typer.Option(help="spec.mountNamespace of the ClusterBinding.", callback=_dns_label)],
    user: Annotated[str, typer.Option(help="User name in the kubeconfig that the lender hands out.")] = "kubeocean",
    node_proxy: Annotated[
        bool, typer.Option("--node-proxy", help="Also what spec.nodeProxy needs: nodes/proxy, which opens every Pod of a node.")
    ] = False,
) -> None:
    """Print the RBAC objects that let a borrower serve one binding, and nothing more.

    Example:  kubeocean rbac --mount-namespace team-a | kubectl --kubeconfig lender.kubeconfig apply -f -
    """
    objects = build_physical_rbac(user=user, mount_namespace=mount_namespace)
    if node_proxy:
        objects += build_node_proxy_rbac(user=user, mount_namespace=mount_namespace)
    typer.echo(yaml.safe_dump_all(objects, sort_keys=False), nl=False)
