"""`kubeocean explain`: why is this as it is?"""

from __future__ import annotations

from typing import Annotated

import typer

from kubeocean.cli.options import Kubeconfig
from kubeocean.cli.verify import WIDE, Output, OutputOption

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False,
    help="Tell why something is as it is, across both clusters; nothing is written.",
)


@app.callback()
def _root() -> None:
    """Make `pod` a command of a group, whatever else there will be."""


def _pod_key(text: str) -> str:
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise typer.BadParameter(f"{text!r} names no Pod; write NAMESPACE/NAME, such as default/web-0")
    return text


@app.command()
def pod(
    key: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME", help="A Pod of the virtual cluster.", callback=_pod_key)],
    kubeconfig: Kubeconfig = None, output: OutputOption = Output.TABLE,
) -> None:
    """Tell the life of a Pod across both clusters, what it waits for, and what the forge made of it.

    The timeline joins what both API servers and the kubelet wrote: created, scheduled, its dependencies, twin created, mapped,
    twin scheduled, started, ready, each with the seconds since the step before; clocks that contradict each other are told. A
    Pod that waits is told what for: the scheduler, a claim, the syncer, an image, an init container. Last comes every field
    that is not on the twin as it is on the virtual Pod, with the reason; before there is a twin, what would be.

    What may not be read is told, and never called absent. Exit code 0, or 2 when there is no such Pod or the virtual cluster
    cannot be asked.

    Example:  kubeocean explain pod default/web-0

    Example:  kubeocean explain pod default/web-0 -o json | jq '.timeline[] | {what, at, secondsAfterTheLast}'
    """
    import json  # with rich and the clients, it takes a moment to load

    from rich.console import Console

    from kubeocean.checks.explaining import explain_pod
    from kubeocean.checks.explainreport import as_json, print_explanation
    from kubeocean.cli.running import failing_with, run_to_end

    namespace, name = key.split("/", 1)
    with failing_with(2):
        explanation = run_to_end(explain_pod(kubeconfig, namespace, name))
    if output is Output.JSON:
        typer.echo(json.dumps(as_json(explanation), indent=2))
    else:
        console = Console()
        print_explanation(console if console.is_terminal else Console(width=WIDE), explanation)
