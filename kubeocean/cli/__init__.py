"""`kubeocean`: one command per program, one file per command, no logic here.

Commands are imported when they are called: a syncer that runs for months need not hold the sandbox's and the benchmark's
code in memory, and `kubeocean version` need not wait for them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from kubeocean import __version__

# In the order --help shows them: name -> the function or Typer in the module of that name that is the command.
_COMMANDS = {
    "demo": "demo", "manager": "manager", "syncer": "syncer", "proxier": "proxier", "simulate": "simulate", "verify": "verify",
    "explain": "app", "crds": "crds",
    "rbac": "rbac",
    "sandbox": "app", "bench": "app",
}


class _LazyCommands(TyperGroup):
    """Knows every command by name and imports it when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names, in the order of --help."""
        return [*_COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return one command, None when there is none of that name."""
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        found = getattr(import_module(f"kubeocean.cli.{cmd_name}"), _COMMANDS[cmd_name])
        if not isinstance(found, typer.Typer):
            single = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
            single.command(cmd_name)(found)
            found = single
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=_LazyCommands, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=True,
    help="""Kubeocean joins many physical Kubernetes clusters into one virtual cluster, under leasing policies.

Try it on this machine:    kubeocean demo (from a checkout: make demo)

Install it:                kubeocean crds | kubectl apply -f -, then kubeocean manager --kubeconfig VIRTUAL
""",
)


@app.callback()
def _root() -> None:
    """Make `version` a command of a group, whatever else there is."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run the command line."""
    # As Go's flag package reads a boolean, and so as existing Deployments write it: the bare flag means true.
    app(["--leader-elect=true" if argument == "--leader-elect" else argument for argument in sys.argv[1:]])
