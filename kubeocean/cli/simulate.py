"""`kubeocean simulate`: what will be leased when, before anybody lives by it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_INPUT, _SHOWN = "What is simulated", "What is shown"

Files = Annotated[list[Path] | None, typer.Option(
    "--file", "-f", rich_help_panel=_INPUT,
    help="Manifests: ResourceLeasingPolicy, ClusterBinding, Node, Pod of either cluster; YAML, JSON, folders, - for stdin. "
    "Beside live clusters they replace what has the same name: what if?",
)]
LenderFiles = Annotated[list[Path] | None, typer.Option(
    "--lender-file", rich_help_panel=_INPUT, help="The same of the physical cluster: policies there are the lender's own.",
)]
Kubeconfig = Annotated[Path | None, typer.Option(
    rich_help_panel=_INPUT,
    help="Of the virtual cluster, to simulate what is there now. Without files the default is $KUBECONFIG, ~/.kube/config.",
)]
PhysicalKubeconfig = Annotated[Path | None, typer.Option(
    rich_help_panel=_INPUT, help="Of the physical cluster; left out: the Secret that the binding names.",
)]
Binding = Annotated[str, typer.Option(rich_help_panel=_INPUT, help="Name of the ClusterBinding; left out: the only one.")]
DefaultTimeZone = Annotated[str, typer.Option(
    rich_help_panel=_INPUT, envvar="KUBEOCEAN_TIME_ZONE",
    help="IANA zone of policies and bindings that name none, as the manager's --time-zone.",
)]
From = Annotated[str, typer.Option(
    "--from", rich_help_panel=_SHOWN,
    help="Begin: a date, or an RFC 3339 time (without offset: of --time-zone). Left out: now.",
)]
Days = Annotated[int, typer.Option(rich_help_panel=_SHOWN, min=1, max=31, help="How many days of the calendar.")]
Resources = Annotated[str, typer.Option("--resource", rich_help_panel=_SHOWN, help="Which ones, separated by commas.")]
TimeZone = Annotated[str, typer.Option(
    rich_help_panel=_SHOWN, help="IANA zone of table and picture. Left out: the zone of the binding, or of all policies.",
)]
Output = Annotated[list[Path] | None, typer.Option(
    "--output", "-o", rich_help_panel=_SHOWN, help="Draw the picture: a file that ends with .svg or .png; may be repeated.",
)]
Reclaim = Annotated[bool, typer.Option(
    "--reclaim", rich_help_panel=_SHOWN, help="Say which Pods would have to leave at the next closing, and in which order.",
)]


def simulate(
    file: Files = None, lender_file: LenderFiles = None, kubeconfig: Kubeconfig = None,
    physical_kubeconfig: PhysicalKubeconfig = None, binding: Binding = "", default_time_zone: DefaultTimeZone = "UTC",
    begin: From = "", days: Days = 7, resource: Resources = "cpu,memory", time_zone: TimeZone = "", output: Output = None,
    reclaim: Reclaim = False,
) -> None:
    """Show what policies lease of nodes, and when; nothing is written to any cluster.

    Example:  kubeocean simulate -f policies.yaml -f nodes.yaml -o lease.svg

    Example:  kubeocean simulate --kubeconfig virtual.kubeconfig --binding lender-a --reclaim -f changed-policy.yaml
    """
    from kubeocean.simulate.command import Request, run_simulation  # rich and the clients take a moment to load

    code = run_simulation(Request(
        files=tuple(file or ()), lender_files=tuple(lender_file or ()), kubeconfig=kubeconfig,
        physical_kubeconfig=physical_kubeconfig, binding=binding, default_time_zone=default_time_zone, begin=begin, days=days,
        resources=resource, time_zone=time_zone, outputs=tuple(output or ()), reclaim=reclaim,
    ))
    if code:
        raise typer.Exit(code)
