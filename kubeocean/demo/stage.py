"""Where the demo is played: a sandbox, the manager beside it, a folder to type in, and eyes on every cluster.

The manager is started as a component of the sandbox: then `kubeocean sandbox status` shows it and `kubeocean sandbox down`
ends it, whatever became of the demo that started it. The folder is below the virtual cluster's, and goes with it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import aiohttp
import orjson
import yaml

from kubeocean.demo.cast import LENDERS, VIRTUAL, manifests
from kubeocean.demo.observations import NotYet, Snapshot
from kubeocean.kube.meta import Json
from kubeocean.sandbox.assets import Assets, ensure_assets
from kubeocean.sandbox.commands import Command
from kubeocean.sandbox.kubeconfig import write_kubeconfig
from kubeocean.sandbox.processes import last_lines
from kubeocean.sandbox.progress import Progress
from kubeocean.sandbox.sandbox import Sandbox, knock, up
from kubeocean.sandbox.spec import SandboxSpec
from kubeocean.sandbox.state import ComponentInfo, NoSandbox, SandboxBusy, SandboxError, is_locked, locked
from kubeocean.sandbox.toolrun import run_tool

NAME = "demo"
_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ->")
MANAGER = "kubeocean-manager"
_KINDS = {
    VIRTUAL: "nodes,pods,clusterbindings,resourceleasingpolicies,leases",
    **{lender.context: "nodes,pods,secrets,namespaces,priorityclasses" for lender in LENDERS},
}


class Stage:
    """A running sandbox to play in."""

    def __init__(self, sandbox: Sandbox, assets: Assets) -> None:
        self.sandbox = sandbox
        self.folder = folder_in(sandbox)
        self.kubeconfig = self.folder / "kubeconfig"
        self.tools = assets.kubectl.parent
        self._environment = {
            **os.environ, "PATH": f"{self.tools}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "KUBECONFIG": str(self.kubeconfig),
            # Neither the user's own kubectl preferences nor a trace in his home.
            "KUBERC": "off", "KUBECACHEDIR": str(self.folder / "cache"),
        }

    @property
    def real(self) -> bool:
        """Whether one of the nodes is real."""
        return bool(self.sandbox.real_nodes)

    def lay_out(self) -> None:
        """Write what the commands of the story read: one kubeconfig with a context for each cluster, and the manifests."""
        self.folder.mkdir()
        clusters = [self.sandbox.virtual, *self.sandbox.physical]
        write_kubeconfig(merge_kubeconfigs([yaml.safe_load(each.kubeconfig.read_text()) for each in clusters]), self.kubeconfig)
        for name, text in manifests(real=self.real).items():
            (self.folder / name).write_text(text)

    @contextmanager
    def occupied(self) -> Iterator[None]:
        """Keep other demos from taking the stage for an abandoned one."""
        with locked(self.sandbox.virtual.folder):
            yield

    async def run(self, line: str, write: Callable[[str], None]) -> int:
        """Run a command line in the folder; `write` gets each line it writes. Return its exit code."""
        process = await asyncio.create_subprocess_exec(
            *shlex.split(line), cwd=self.folder, env=self._environment, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT,
        )
        assert process.stdout
        try:
            async for raw in process.stdout:
                write(raw.decode(errors="replace").rstrip())
            return await process.wait()
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGKILL)
                await process.wait()

    @asynccontextmanager
    async def forwarding(self, line: str, write: Callable[[str], None]) -> AsyncIterator[int]:
        """Run a `kubectl port-forward` meanwhile; gives the local port that it has chosen. Raises NotYet when it ends."""
        process = await asyncio.create_subprocess_exec(
            *shlex.split(line), cwd=self.folder, env=self._environment, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT,
        )
        assert process.stdout
        try:
            while True:
                said = (await process.stdout.readline()).decode(errors="replace").rstrip()
                if not said:
                    raise NotYet(f"`{line}` forwards", f"it has ended with exit code {await process.wait()}")
                write(said)
                if found := _FORWARDING.match(said):
                    break
            yield int(found[1])
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
            await process.wait()

    async def ask(self, url: str) -> str:
        """Return what a URL of this machine answers. Raises NotYet when there is no answer."""
        try:
            async with aiohttp.ClientSession(trust_env=False) as session, session.get(url, ssl=False) as answer:
                return await answer.text()
        except aiohttp.ClientError as error:
            raise NotYet(f"{url} answers", str(error) or type(error).__name__) from None

    async def look(self) -> Snapshot:
        """Return what is in all clusters now. Raises NotYet when one of them does not answer."""
        found = await asyncio.gather(*(self._objects(context, kinds) for context, kinds in _KINDS.items()))
        for answer in found:
            if isinstance(answer, NotYet):
                raise answer
        return Snapshot({context: answer for context, answer in zip(_KINDS, found, strict=True) if isinstance(answer, list)})

    async def _objects(self, context: str, kinds: str) -> list[Json] | NotYet:
        command = ("kubectl", "--context", context, "--request-timeout", "10s", "get", kinds, "-A", "-o", "json")
        finished = await run_tool(command, env=self._environment, cwd=self.folder)
        if finished.code:
            return NotYet(f"`{shlex.join(command)}` succeeds", "; ".join(finished.complaints[-1:]) or "it fails")
        objects: list[Json] = orjson.loads(finished.output)["items"]
        return objects

    def manager_command(self) -> tuple[str, ...]:
        """Return how the manager is started; without ports of its own, so that it never meets another one's."""
        return (
            kubeocean_program(), "manager", "--kubeconfig", str(self.sandbox.virtual.kubeconfig), "--install-crds",
            "--metrics-bind-address", "0", "--health-probe-bind-address", "0",
            *(["--virtual-api-server", self.sandbox.server_for_containers(self.sandbox.virtual)] if self.real else []),
        )

    def start_manager(self) -> None:
        """Start the manager. Raises SandboxError."""
        self.sandbox = self.sandbox.with_component(VIRTUAL, Command(MANAGER, self.manager_command(), address="", readiness=""))

    @property
    def manager(self) -> ComponentInfo | None:
        """The manager, once it is started."""
        return next((each for each in self.sandbox.virtual.components if each.name == MANAGER), None)

    def manager_tail(self, lines: int = 15) -> list[str]:
        """Return the end of the manager's log."""
        return last_lines(self.manager.log, lines) if self.manager else []

    async def close(self) -> None:
        """End all of it and remove what was written."""
        await self.sandbox.down()


async def set_stage(progress: Progress, root: Path | None = None) -> Stage:
    """Start the demo's sandbox, after ending one that a former demo left; with a real node where there can be one.

    Raises SandboxError, AssetsUnavailable.
    """
    await _clear_stage(progress, root)
    spec = SandboxSpec(NAME, real_nodes=1)
    try:
        knock(spec, root)
        assets = await ensure_assets(progress, kubelet=True)
        return Stage(await up(spec, assets=assets, progress=progress, root=root), assets)
    except SandboxError as error:
        # Root and packages are no promise: a container may be refused what they take.
        progress.say(f"No Pod will run in a real container, KWOK plays them all: {error}")
    assets = await ensure_assets(progress)
    return Stage(await up(replace(spec, real_nodes=0), assets=assets, progress=progress, root=root), assets)


async def _clear_stage(progress: Progress, root: Path | None) -> None:
    try:
        former = Sandbox.load(NAME, root=root)
    except NoSandbox:
        return
    if former.condition not in ("running", "degraded"):
        return  # `up` clears away what is dead and says so
    if is_locked(former.virtual.folder):
        raise SandboxBusy("another demo is being played on this machine; wait until it ends, or end it with Ctrl-C")
    if not folder_in(former).exists():
        raise SandboxError(
            f"sandbox {NAME!r} is there and no demo has made it; end it with `kubeocean sandbox down --name {NAME}`"
        )
    progress.say("ending the demo that was left running")
    await former.down()


def folder_in(sandbox: Sandbox) -> Path:
    """Return the folder of the demo, which also tells a demo's sandbox from somebody else's of that name."""
    return sandbox.virtual.folder / "demo"


def merge_kubeconfigs(kubeconfigs: list[Json]) -> Json:
    """Return one kubeconfig with the contexts of all; the first one's is current."""
    merged: Json = {
        "apiVersion": "v1", "kind": "Config", "current-context": kubeconfigs[0]["current-context"],
        "clusters": [], "users": [], "contexts": [],
    }
    for each in kubeconfigs:
        name = each["current-context"]  # also for the user: the sandbox calls every administrator the same
        merged["clusters"].append({"name": name, "cluster": each["clusters"][0]["cluster"]})
        merged["users"].append({"name": name, "user": each["users"][0]["user"]})
        merged["contexts"].append({"name": name, "context": {"cluster": name, "user": name}})
    return merged


def kubeocean_program() -> str:
    """Return the path of the `kubeocean` that belongs to this Python, whatever $PATH finds."""
    return str(Path(sys.executable).with_name("kubeocean"))
