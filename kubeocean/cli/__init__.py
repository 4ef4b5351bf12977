"""`kubeocean`: one command per program, one file per command, no logic here."""

from __future__ import annotations

import sys

import typer

from kubeocean import __version__
from kubeocean.cli import crds, demo, manager, rbac, sandbox, syncer

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, add_completion=True,
    help="""Kubeocean joins many physical Kubernetes clusters into one virtual cluster, under leasing policies.

Try it on this machine:    kubeocean demo (from a checkout: make demo)

Install it:                kubeocean crds | kubectl apply -f -, then kubeocean manager --kubeconfig VIRTUAL
""",
)
app.command()(demo.demo)
app.command()(manager.manager)
app.command()(syncer.syncer)
app.command()(crds.crds)
app.command()(rbac.rbac)
app.add_typer(sandbox.app, name="sandbox")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run the command line."""
    # As Go's flag package reads a boolean, and so as existing Deployments write it: the bare flag means true.
    app(["--leader-elect=true" if argument == "--leader-elect" else argument for argument in sys.argv[1:]])
