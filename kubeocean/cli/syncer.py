"""`kubeocean syncer`: serve one ClusterBinding, apart from the manager."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kubeocean.cli.options import process_command, start
from kubeocean.runtime import run_syncer
from kubeocean.settings import SyncerSettings


@process_command
def syncer(
    process: dict[str, Any],
    cluster_binding_name: Annotated[str, typer.Option(help="The ClusterBinding to serve.")],
) -> None:
    """Synchronise one physical cluster with the virtual one, until its binding is deleted.

    Needs no manager to be up. Run two or three with the same flags, and one of them works.

    Example:  kubeocean syncer --kubeconfig virtual.kubeconfig --cluster-binding-name lender-a
    """
    start(lambda: SyncerSettings(**process, cluster_binding_name=cluster_binding_name), run_syncer)
