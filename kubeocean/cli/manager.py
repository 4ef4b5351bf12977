"""`kubeocean manager`: serve every ClusterBinding of a virtual cluster."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from kubeocean.cli.options import process_command, seconds, start
from kubeocean.runtime import run_manager
from kubeocean.settings import ManagerSettings


class LauncherKind(StrEnum):
    """Who starts the syncers and the proxier."""

    INPROCESS = "inprocess"
    NONE = "none"


_LAUNCHER = (
    "inprocess: syncers are tasks of this process, a child process is the proxier of all; none: others run `kubeocean syncer` "
    "and `kubeocean proxier` for each binding."
)


@process_command
def manager(
    process: dict[str, Any],
    launcher: Annotated[LauncherKind, typer.Option(help=_LAUNCHER)] = LauncherKind.INPROCESS,
    install_crds: Annotated[bool, typer.Option("--install-crds", help="Apply the CustomResourceDefinitions first.")] = False,
    proxier_bind_address: Annotated[
        str, typer.Option(help="Where the proxier opens the virtual nodes' ports; left out: at the virtual nodes' address.")
    ] = "",
    proxier_linger: Annotated[
        str, typer.Option(help="How long open streams may go on when another manager leads, or this one has died, such as 1h."),
    ] = "1h",
) -> None:
    """Serve every ClusterBinding: validate it, connect its cluster, run its syncer and proxier, keep its conditions true.

    Example:  kubeocean manager --kubeconfig virtual.kubeconfig --install-crds
    """
    start(
        lambda: ManagerSettings(
            **process, launcher=launcher.value, install_crds=install_crds, proxier_bind_address=proxier_bind_address,
            proxier_linger=seconds(proxier_linger, flag="--proxier-linger"),
        ), run_manager,
    )
