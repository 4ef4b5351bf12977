"""`kubeocean sandbox`: real local control planes at a keystroke."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kubeocean.cli.running import plain_errors, run_to_end
from kubeocean.kube.meta import Json
from kubeocean.sandbox.assets import Assets, Missing, ensure_assets, find_assets
from kubeocean.sandbox.nodes import NodeTemplate, parse_pair, parse_taint
from kubeocean.sandbox.progress import open_progress
from kubeocean.sandbox.sandbox import Sandbox, knock
from kubeocean.sandbox.sandbox import up as start_sandbox
from kubeocean.sandbox.spec import VIRTUAL, SandboxSpec
from kubeocean.sandbox.state import sandbox_names

app = typer.Typer(
    no_args_is_help=True,
    help="""Real Kubernetes control planes on this machine, for trying, demos, tests and benchmarks.

A sandbox is one virtual cluster and some physical ones: etcd, kube-apiserver, kube-controller-manager and
kube-scheduler with throw-away certificates, and KWOK, which plays the physical clusters' nodes. No root, no containers,
nothing outside of the sandbox's own folder; only with --real-nodes there are containers, and they need root.

    kubeocean sandbox up --clusters 2 --nodes 3

    export KUBECONFIG=$(kubeocean sandbox kubeconfig virtual)

    kubeocean sandbox down
""",
)


class Output(StrEnum):
    """How a result is written."""

    TEXT = "text"
    JSON = "json"


class Storage(StrEnum):
    """How many etcds there are."""

    SHARED = "shared"
    PER_CLUSTER = "per-cluster"


Name = Annotated[str, typer.Option("--name", help="Which sandbox; several can run side by side.")]
Root = Annotated[
    Path | None,
    typer.Option(
        "--root", envvar="KUBEOCEAN_SANDBOX_ROOT", show_default="$XDG_STATE_HOME/kubeocean/sandboxes",
        help="Folder of all sandboxes.",
    ),
]


@app.command()
def up(
    name: Name = "default",
    clusters: Annotated[int, typer.Option(help="How many physical clusters there are, beside the virtual one.")] = 2,
    nodes: Annotated[int, typer.Option(help="How many nodes KWOK plays in each physical cluster.")] = 3,
    real_nodes: Annotated[
        int, typer.Option(
            help="Real kubelets with containerd, dealt out to the physical clusters in turn. Needs root and some packages.",
        ),
    ] = 0,
    node_cpu: Annotated[str, typer.Option(help="CPU of each node.")] = "8",
    node_memory: Annotated[str, typer.Option(help="Memory of each node.")] = "32Gi",
    node_pods: Annotated[int, typer.Option(help="How many Pods each node takes.")] = 110,
    node_label: Annotated[
        list[str] | None, typer.Option(help="A label of each node, KEY=VALUE. Repeatable.", show_default=False)
    ] = None,
    node_taint: Annotated[
        list[str] | None, typer.Option(help="A taint of each node, KEY=VALUE:EFFECT. Repeatable.", show_default=False)
    ] = None,
    node_resource: Annotated[
        list[str] | None,
        typer.Option(help="An extended resource of each node, like nvidia.com/gpu=4. Repeatable.", show_default=False),
    ] = None,
    etcd: Annotated[
        Storage, typer.Option(help="One etcd for all clusters (lighter), or one for each.")
    ] = Storage.SHARED,
    listen: Annotated[
        str, typer.Option(help="Address the API servers listen at. 0.0.0.0 lets everybody on the network reach them.")
    ] = "127.0.0.1",
    certificate_name: Annotated[
        list[str] | None,
        typer.Option(help="A further DNS name or address the API servers' certificates are valid for. Repeatable."),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds after which the start is given up.", min=1)] = 180.0,
    root: Root = None,
) -> None:
    """Start a sandbox and wait until all of it works.

    The servers go on running when the command has ended; `down` ends them. Ctrl-C while starting leaves nothing behind.
    When a server dies, the end of its log is shown and all logs are kept until the next `up` or `down`. Missing
    programs are built first, once (see `kubeocean sandbox assets`).

    A real node is a kubelet with containerd in namespaces and a cgroup of its own; this machine's containers, if there are
    any, are not touched. Its Pods run for real, from the images kubeocean.test/toolbox:1 and :2, which it has: there is no
    registry and no way out to the network. From this machine nodes and Pods are reached at the addresses `status` tells.
    """
    with plain_errors():
        template = NodeTemplate(
            count=nodes, cpu=node_cpu, memory=node_memory, pods=node_pods,
            labels=dict(map(parse_pair, node_label or ())),
            taints=tuple(map(parse_taint, node_taint or ())),
            extended=dict(map(parse_pair, node_resource or ())),
        )
        spec = SandboxSpec(
            name=name, clusters=clusters, nodes=template, etcd=etcd.value, listen=listen,
            certificate_names=tuple(certificate_name or ()), real_nodes=real_nodes,
        )
        sandbox = run_to_end(_up(spec, root, timeout))
    typer.echo(f"sandbox {sandbox.name!r} is running:\n")
    _print_clusters(sandbox.status())
    typer.echo(f"\nexport KUBECONFIG={sandbox.virtual.kubeconfig}")


async def _up(spec: SandboxSpec, root: Path | None, within: float) -> Sandbox:
    knock(spec, root)  # before minutes of building
    with open_progress(sys.stderr) as progress:
        assets = await ensure_assets(progress, kubelet=spec.real_nodes > 0)
        return await start_sandbox(spec, assets=assets, progress=progress, root=root, within=within)


@app.command()
def status(
    name: Name = "default",
    output: Annotated[Output, typer.Option("--output", "-o", help="text for people, json for programs.")] = Output.TEXT,
    root: Root = None,
) -> None:
    """Show what a sandbox consists of and whether it is alive. The exit code is 0 only when all of it is.

    With `--output json`: for every cluster its kubeconfig, its audit log (every write, as JSON lines) and its API
    server's address, and for every component its pid, address and log.
    """
    with plain_errors():
        sandbox = Sandbox.load(name, root=root)
    report = sandbox.status()
    if output is Output.JSON:
        typer.echo(json.dumps(report, indent=2))
    else:
        typer.echo(f"sandbox {sandbox.name!r} is {report['condition']} ({report['folder']})\n")
        _print_clusters(report)
        for death in sandbox.dead() if report["condition"] == "degraded" else ():
            typer.echo(f"\n{death}")
        if remedy := _REMEDIES.get(report["condition"]):
            typer.echo(f"\n{remedy}")
    if report["condition"] != "running":
        raise typer.Exit(1)


_REMEDIES = {
    "starting": "Another command is starting or ending it.",
    "degraded": "End it with `kubeocean sandbox down`, then start it anew.",
    "failed": "Its start failed; the logs are kept. `up` starts it anew, `down` removes it.",
    "stale": "Nothing of it runs any more (was the machine restarted?). `up` starts it anew, `down` removes it.",
}


@app.command()
def down(
    name: Name = "default",
    every: Annotated[bool, typer.Option("--all", help="Every sandbox of the folder, whatever its name.")] = False,
    root: Root = None,
) -> None:
    """End exactly the processes that `up` started and remove what it wrote.

    A process is ended only if it provably is the one that was started: a pid that was given to another program since is
    left alone. Files of yours in the sandbox's folder are left where they are.
    """
    for each in sandbox_names(root) if every else [name]:
        with plain_errors():
            left = run_to_end(Sandbox.load(each, root=root).down())
        typer.echo(f"sandbox {each!r} is gone")
        for path in left:
            typer.echo(f"left alone, not of the sandbox: {path}")


@app.command()
def kubeconfig(
    cluster: Annotated[str, typer.Argument(help="virtual, physical-1, physical-2 …")] = VIRTUAL,
    raw: Annotated[bool, typer.Option("--raw", help="Print the contents instead of the path.")] = False,
    name: Name = "default",
    root: Root = None,
) -> None:
    """Print where the kubeconfig of a cluster is, or with --raw what is in it.

    It is the administrator's, with its certificates inline: `--raw` can be put into a Secret as it is.
    """
    with plain_errors():
        path = Sandbox.load(name, root=root).cluster(cluster).kubeconfig
        typer.echo(path.read_text() if raw else path, nl=not raw)


@app.command()
def assets(
    build: Annotated[bool, typer.Option("--build/--no-build", help="Build what is missing, or only look.")] = True,
    kubelet: Annotated[bool, typer.Option("--kubelet", help="Also what only real nodes need, such as a kubelet.")] = False,
    metrics_server: Annotated[
        bool, typer.Option("--metrics-server", help="Also a metrics-server, which the tests of usage figures run.")
    ] = False,
    output: Annotated[Output, typer.Option("--output", "-o", help="text for people, json for programs.")] = Output.TEXT,
) -> None:
    """Show where the programs of a sandbox are, building those that are missing.

    Each one is looked for in $KUBEOCEAN_ASSETS, in $KUBEBUILDER_ASSETS and in the cache. What is nowhere is built from
    pinned Go modules into the cache, once; that takes some minutes.
    """
    with plain_errors():
        if build:
            found: Assets | Missing = run_to_end(_ensure(kubelet, metrics_server))
        else:
            found = find_assets(kubelet=kubelet, metrics_server=metrics_server)
    binaries = (found.found if isinstance(found, Missing) else found.binaries).values()
    if output is Output.JSON:
        typer.echo(json.dumps(
            {each.name: {"path": str(each.path), "origin": each.origin} for each in binaries}, indent=2
        ))
    else:
        for each in binaries:
            typer.echo(f"{each.name:<24} {each.path}  ({each.origin})")
    if isinstance(found, Missing):
        typer.echo(f"missing: {', '.join(found.names)}; build them with `kubeocean sandbox assets`", err=True)
        raise typer.Exit(1)


async def _ensure(kubelet: bool, metrics_server: bool) -> Assets:
    with open_progress(sys.stderr) as progress:
        return await ensure_assets(progress, kubelet=kubelet, metrics_server=metrics_server)


def _print_clusters(report: Json) -> None:
    typer.echo(f"{'COMPONENT':<36} {'PID':>8}  {'ADDRESS':<26} STATE")
    groups = [("", report["components"]), *((cluster["name"], cluster["components"]) for cluster in report["clusters"])]
    for cluster, components in groups:
        for each in components:
            title = f"{cluster}/{each['name']}" if cluster else each["name"]
            typer.echo(f"{title:<36} {each['pid']:>8}  {each['address']:<26} {'alive' if each['alive'] else 'dead'}")
    for node in report["realNodes"]:
        typer.echo(f"\n{node['name']} of {node['cluster']}: {node['address']}, Pods {node['pods']}, files {node['folder']}")
