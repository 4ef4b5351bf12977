"""`kubeocean demo`: the product in half a minute, on real control planes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kubeocean.cli.running import plain_errors, run_to_end
from kubeocean.cli.sandbox import Root
from kubeocean.demo.play import run_demo

Keep = Annotated[bool, typer.Option("--keep", help="Leave everything running at the end, and say how to look around.")]


def demo(keep: Keep = False, root: Root = None) -> None:
    """Show on this machine what Kubeocean does: bind two clusters, lease, deploy, delete, unbind.

    Starts a sandbox called demo, runs real kubectl commands and checks after each step that it really happened. The exit
    code is 0 only when every step was observed. A demo that was left running by --keep is ended first.
    """
    with plain_errors():
        observed = run_to_end(run_demo(sys.stdout, keep=keep, root=root))
    if not observed:
        raise typer.Exit(1)
