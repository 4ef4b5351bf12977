"""How a command that ends by itself is run: signals clean up, and what a user can mend is one clear line."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import typer

from kubeocean.kube.errors import KubeError
from kubeocean.sandbox.assets import AssetsUnavailable
from kubeocean.sandbox.nodes import InvalidNode
from kubeocean.sandbox.spec import InvalidSpec
from kubeocean.sandbox.state import SandboxError

_T = TypeVar("_T")


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what a user can do something about into one clear line and exit code 1."""
    with failing_with(1):
        yield


@contextmanager
def failing_with(code: int) -> Iterator[None]:
    """Turn what a user can do something about into one clear line and that exit code."""
    try:
        yield
    except (SandboxError, AssetsUnavailable, InvalidSpec, InvalidNode, KubeError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(code) from None
    except OSError as error:  # a full disk, a folder that may not be written: the system's words are the clear ones
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(code) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        typer.echo("interrupted", err=True)
        raise typer.Exit(130) from None


def run_to_end(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end; SIGTERM cancels it as Ctrl-C does, so that both clean up."""

    async def cancellable() -> _T:
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    return asyncio.run(cancellable())
