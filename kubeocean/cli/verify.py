"""`kubeocean verify`: do both sides of every binding agree?"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from kubeocean.cli.options import Kubeconfig

Binding = Annotated[str, typer.Option(help="Name of the ClusterBinding; left out: all of them.")]
Repair = Annotated[bool, typer.Option(
    "--repair",
    help="Mend what may be mended safely, and say what was done. Foreign objects are never touched, nothing is deleted without "
    "live proof that it is ours and that what it stands for is gone.",
)]
Settle = Annotated[float, typer.Option(
    min=0, max=600, help="Seconds between the two looks: what lasts as long is no longer merely in flight.",
)]
TimeZone = Annotated[str, typer.Option(
    envvar="KUBEOCEAN_TIME_ZONE", help="IANA zone of policies and bindings that name none, as the manager's --time-zone.",
)]


WIDE = 160  # columns, when nobody's terminal limits them


class Output(StrEnum):
    """How it is told."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="For people, or for programs.")]


def verify(
    kubeconfig: Kubeconfig = None, binding: Binding = "", output: OutputOption = Output.TABLE, repair: Repair = False,
    settle: Settle = 3.0, time_zone: TimeZone = "UTC",
) -> None:
    """Compare both sides of bindings, live, and tell what is wrong, how it comes about and what to do.

    Needed is a kubeconfig of the virtual cluster that may read everything there; the physical ones come from the Secrets that
    the bindings name. The syncers need not run. Each side is read twice, a moment apart, so what is merely in flight is not
    told.

    Looked at: virtual Pods and their twins, token Secrets, copies of ConfigMaps and Secrets, claims and volumes, mirrored
    Services and network policies, our marks and finalizers, virtual nodes and their leases and heartbeats, CSINodes, host port
    placeholders, labels on physical nodes, the mountNamespace; and, unless one binding is named, what bindings left that are
    gone.

    Exit code 0: both sides agree, 1: something is wrong (with --repair: something is left), 2: it was not possible to look.

    Example:  kubeocean verify --kubeconfig virtual.kubeconfig

    Example:  kubeocean verify --binding cluster-a --repair

    Example:  kubeocean verify -o json | jq '.bindings[].findings[] | {kind, object, cause}'
    """
    import json  # with rich and the clients, it takes a moment to load

    from rich.console import Console

    from kubeocean.api.zone import is_zone
    from kubeocean.checks.verifying import Request, exit_code, run_verify
    from kubeocean.checks.verifyreport import as_json, print_verdicts
    from kubeocean.cli.running import failing_with, run_to_end

    if not is_zone(time_zone):
        raise typer.BadParameter(
            f"{time_zone!r} is no known time zone; write an IANA zone such as Europe/Berlin or UTC", param_hint="--time-zone"
        )
    request = Request(kubeconfig, binding, repair, settle, time_zone)
    errors = Console(stderr=True, soft_wrap=True)
    with failing_with(2):
        verdicts = run_to_end(run_verify(request, lambda text: errors.print(text, style="dim") if errors.is_terminal else None))
    if output is Output.JSON:
        typer.echo(json.dumps(as_json(verdicts), indent=2))
    else:
        console = Console()
        print_verdicts(console if console.is_terminal else Console(width=WIDE), verdicts)
    if code := exit_code(verdicts):
        raise typer.Exit(code)
