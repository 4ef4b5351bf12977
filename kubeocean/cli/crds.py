"""`kubeocean crds`: the CustomResourceDefinitions this version works with."""

from __future__ import annotations

import typer

from kubeocean.api.crd import render_yaml


def crds() -> None:
    """Print the CustomResourceDefinitions: kubeocean crds | kubectl apply -f -."""
    typer.echo(render_yaml(), nl=False)
