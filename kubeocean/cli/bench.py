"""`kubeocean bench`: what federating costs, in figures that another machine can be compared by."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from kubeocean.bench.errors import BenchError
from kubeocean.bench.flight import loop_factory
from kubeocean.bench.report import print_report
from kubeocean.bench.results import Report
from kubeocean.bench.rig import RigSpec
from kubeocean.bench.run import BurstSpec, measure_burst
from kubeocean.bench.scale import ScaleSpec, measure_scale
from kubeocean.bench.scalereport import print_scale
from kubeocean.bench.scaleresults import Scale
from kubeocean.bench.scaleverdict import scale_checks, scale_ratios
from kubeocean.bench.streamreport import print_streams
from kubeocean.bench.streamresults import WAYS, Streams
from kubeocean.bench.streams import StreamsSpec, measure_streams
from kubeocean.bench.streamverdict import added, crowd_ratio, rate_ratio, stream_checks, stream_doubts
from kubeocean.bench.verdict import checks, compare, doubts
from kubeocean.kube.errors import KubeError
from kubeocean.kube.meta import Json
from kubeocean.sandbox.assets import AssetsUnavailable
from kubeocean.sandbox.progress import Progress, open_progress
from kubeocean.sandbox.spec import InvalidSpec
from kubeocean.sandbox.state import SandboxError

T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True,
    help="""Benchmarks on a sandbox of their own.

Absolute times belong to one machine at one moment. So every run measures its own yardsticks first, and what counts are
ratios: *direct*, the same Pods sent straight to one API server; *floor*, the writes no federation can avoid; and *ceiling*, the
same writes on this rig with its scheduler and KWOK at work: what it would show for a federation that costs nothing.
""",
)


class Output(StrEnum):
    """How the report is written."""

    TEXT = "text"
    JSON = "json"


Root = Annotated[
    Path | None,
    typer.Option(
        envvar="KUBEOCEAN_SANDBOX_ROOT", show_default="$XDG_STATE_HOME/kubeocean/sandboxes",
        help="Folder of all sandboxes.",
    ),
]


@app.command()
def burst(
    pods: Annotated[int, typer.Option(help="How many Pods are created at once.", min=1)] = 500,
    nodes: Annotated[int, typer.Option(help="How many nodes KWOK plays, in all physical clusters together.", min=1)] = 50,
    clusters: Annotated[int, typer.Option(help="How many physical clusters there are.", min=1)] = 2,
    token: Annotated[
        bool | None,
        typer.Option("--token/--no-token", help="With the ServiceAccount token that most Pods have, or without; else both."),
    ] = None,
    direct_scheduling: Annotated[bool, typer.Option(help="The bindings' spec.directScheduling.")] = True,
    quiet_seconds: Annotated[float, typer.Option(help="How long ten Pods a second come; 0: leave that out.", min=0)] = 20.0,
    profile: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Profile the manager during the bursts (cProfile, CPU time) into this file."),
    ] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="text for people, json for programs.")] = Output.TEXT,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the sandbox running.")] = False,
    sandbox: Annotated[str, typer.Option(help="Use this running sandbox; --nodes and --clusters are what it has.")] = "",
    root: Root = None,
) -> None:
    """Measure a burst of Pods: direct, floor, ceiling, federated and the floor once more, in one run.

    After the federated bursts a quiet time for latencies, and from the API servers' audit logs who wrote how often. Takes some
    minutes; the exit code is 0 whenever there are figures, good or bad.

    Example:  kubeocean bench burst --pods 500 --nodes 50 --no-token
    """
    spec = BurstSpec(
        pods=pods, tokens=(False, True) if token is None else (token,), direct_scheduling=direct_scheduling,
        quiet_seconds=quiet_seconds, profile=profile.absolute() if profile else None,
        rig=RigSpec(clusters=clusters, nodes=nodes, reuse=sandbox, keep=keep, root=root),
    )
    with _plain_errors(), asyncio.Runner(loop_factory=loop_factory()) as runner:
        report = runner.run(_measure(lambda progress: measure_burst(spec, progress)))
    if output is Output.JSON:
        typer.echo(json.dumps(as_json(report), indent=2, ensure_ascii=False))
    else:
        print_report(report, Console(width=None if sys.stdout.isatty() else 140))


@app.command()
def scale(
    pods: Annotated[int, typer.Option(help="How many Pods are created and stay.", min=1)] = 5000,
    foreign: Annotated[int, typer.Option(help="How many Pods of the lenders' run in the physical clusters.", min=0)] = 0,
    nodes: Annotated[int, typer.Option(help="How many nodes KWOK plays, in all physical clusters together.", min=1)] = 100,
    clusters: Annotated[int, typer.Option(help="How many physical clusters there are.", min=1)] = 2,
    token: Annotated[
        bool, typer.Option("--token/--no-token", help="With the ServiceAccount token that most Pods have, or without.")
    ] = False,
    rest_seconds: Annotated[float, typer.Option(help="How long nothing happens before the restart.", min=0)] = 60.0,
    output: Annotated[Output, typer.Option("--output", "-o", help="text for people, json for programs.")] = Output.TEXT,
    root: Root = None,
) -> None:
    """Measure many Pods that stay: their burst, what they cost at rest, and a restart of the manager over them.

    A restart is to write nothing beside Leases and to delete nothing. Takes some minutes, for thousands of Pods many; the exit
    code is 0 whenever there are figures, good or bad.

    Example:  kubeocean bench scale --pods 1000 --nodes 20 --rest-seconds 30
    """
    spec = ScaleSpec(pods, foreign, token, rest_seconds, RigSpec(clusters=clusters, nodes=nodes, root=root))
    with _plain_errors(), asyncio.Runner(loop_factory=loop_factory()) as runner:
        figures = runner.run(_measure(lambda progress: measure_scale(spec, progress)))
    if output is Output.JSON:
        typer.echo(json.dumps(scale_as_json(figures), indent=2))
    else:
        print_scale(figures, Console(width=None if sys.stdout.isatty() else 140))


@app.command()
def streams(
    keystrokes: Annotated[int, typer.Option(help="How many keys are pressed, on each way.", min=1)] = 2000,
    megabytes: Annotated[float, typer.Option(help="How much is carried, in each direction and on each way.", min=0.001)] = 256,
    sessions: Annotated[int, typer.Option(help="How many idle sessions are opened.", min=1)] = 1000,
    parallel: Annotated[int, typer.Option(help="How many commands begin at once.", min=1)] = 200,
    output: Annotated[Output, typer.Option("--output", "-o", help="text for people, json for programs.")] = Output.TEXT,
    root: Root = None,
) -> None:
    """Measure kubectl exec on a virtual node against the same straight to the physical API server.

    The echo of a keystroke, throughput, what an idle session costs the proxier, and many commands at once. Takes some minutes;
    the exit code is 0 whenever there are figures, good or bad.

    Example:  kubeocean bench streams --megabytes 64 --sessions 100
    """
    spec = StreamsSpec(keystrokes, megabytes, sessions, parallel, RigSpec(clusters=1, nodes=1, root=root))
    with _plain_errors(), asyncio.Runner() as runner:
        figures = runner.run(_measure(lambda progress: measure_streams(spec, progress)))
    if output is Output.JSON:
        typer.echo(json.dumps(streams_as_json(figures), indent=2))
    else:
        print_streams(figures, Console(width=None if sys.stdout.isatty() else 140))


async def _measure(work: Callable[[Progress], Awaitable[T]]) -> T:
    task = asyncio.current_task()
    assert task is not None, "runs in a loop"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # cleans up as after Ctrl-C
    with open_progress(sys.stderr) as progress:
        return await work(progress)


def as_json(report: Report) -> Json:
    """Return every figure, with what follows from them."""
    pods = report.setting.pods
    variants = [
        asdict(variant) | {
            "ratios": asdict(compare(variant)),
            "checks": [
                asdict(check) | {"keeps_now": check.keeps_now, "keeps_final": check.keeps_final}
                for check in checks(variant, pods)
            ],
        }
        for variant in report.variants
    ]
    return asdict(report) | {"variants": variants, "doubts": doubts(report)}


def scale_as_json(figures: Scale) -> Json:
    """Return the figures, and what follows from them."""
    return asdict(figures) | {
        "ratios": scale_ratios(figures),
        "bytes_per_pair": figures.bytes_per_pair, "bytes_per_foreign": figures.bytes_per_foreign,
        "checks": [asdict(check) | {"keeps_final": check.keeps_final} for check in scale_checks(figures)],
    }


def streams_as_json(figures: Streams) -> Json:
    """Return every figure, with what follows from them."""
    return asdict(figures) | {
        "bytes_per_session": figures.idle.bytes_per_session,
        "added_ms": {way: dict(zip(("p50", "p99"), added(figures.keystrokes, way), strict=True)) for way in WAYS},
        "ratios": {
            name: {way: rate_ratio(rates, way) for way in WAYS}
            for name, rates in (("output", figures.output), ("input", figures.input))
        } | {"crowd": crowd_ratio(figures.crowd)},
        "checks": [asdict(check) | {"keeps_final": check.keeps_final} for check in stream_checks(figures)],
        "doubts": stream_doubts(figures),
    }


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn what a user can do something about into one clear line and exit code 1."""
    try:
        yield
    except (BenchError, SandboxError, AssetsUnavailable, InvalidSpec, KubeError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        typer.echo("interrupted", err=True)
        raise typer.Exit(130) from None
