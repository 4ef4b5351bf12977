"""`kubeocean proxier`: the kubelet API of virtual nodes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kubeocean.cli.options import process_command, seconds, start
from kubeocean.runtime_proxier import run_proxier
from kubeocean.settings import ProxierSettings


@process_command
def proxier(
    process: dict[str, Any],
    cluster_binding_name: Annotated[str, typer.Option(help="The ClusterBinding to serve; left out: every one.")] = "",
    bind_address: Annotated[
        str, typer.Option(help="Where the nodes' ports are opened, such as 0.0.0.0; left out: the virtual nodes' address.")
    ] = "",
    tls_secret: Annotated[
        str, typer.Option(
            metavar="NAMESPACE/NAME", help="A Secret (kubernetes.io/tls) of the virtual cluster to serve with; left out: a "
            "certificate that the cluster issues.",
        )
    ] = "",
    max_streams_per_caller: Annotated[int, typer.Option(help="kube-apiserver is one caller, for all users.")] = 2000,
    max_streams_per_cluster: Annotated[int, typer.Option(help="How many streams one physical cluster gets.")] = 4000,
    supervised: Annotated[
        bool, typer.Option("--supervised", hidden=True, help="Started by a manager: serve until it lets go, tell how we fare.")
    ] = False,
    linger: Annotated[
        str, typer.Option(hidden=True, help="With --supervised: how long open streams may go on without the manager.")
    ] = "1h",
) -> None:
    """Answer for virtual nodes as a kubelet does: kubectl logs, exec, attach, port-forward, cp and top.

    Run as many replicas as you like behind the address that the virtual nodes have.

    Example:  kubeocean proxier --kubeconfig virtual.kubeconfig --cluster-binding-name lender-a
    """
    start(
        lambda: ProxierSettings(
            **process, cluster_binding_name=cluster_binding_name, bind_address=bind_address, supervised=supervised,
            tls_secret=tls_secret, max_streams_per_caller=max_streams_per_caller,
            max_streams_per_cluster=max_streams_per_cluster, linger=seconds(linger, flag="--linger"),
        ), run_proxier,
        # Measured with 0.23: when the far end closes without a TLS farewell while reading is paused, uvloop drops up to 256 KiB
        # that it has received already. asyncio's own loop does not, and a tunnel may lose nothing.
        uvloop=False,
    )
