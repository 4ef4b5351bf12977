"""What real nodes need of this machine outside of the sandbox's folder: made here, and unmade by the sandbox's token alone."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from kubeocean.sandbox.realnode import cgroups
from kubeocean.sandbox.realnode.network import (
    MOST_NETWORKS,
    Network,
    NodePlace,
    build_claim,
    build_cut,
    build_place,
    build_removal,
    build_switch,
    build_uplink,
    free_indexes,
    namespace_path,
)
from kubeocean.sandbox.realnode.node import RealNode, cgroup_prefix
from kubeocean.sandbox.state import SandboxError
from kubeocean.sandbox.toolrun import run_tool

_PATIENCE = 20.0  # seconds a command that asks the kernel for something may take


def new_token() -> str:
    """Return what the names of a new sandbox's namespaces and cgroups hold, the same for no other."""
    return os.urandom(4).hex()


def claim_network(token: str) -> Network:
    """Make a network of the sandbox's own, at addresses that this machine has no other use for. Raises SandboxError."""
    run_all(build_switch(token))
    routes = json.loads(run(("ip", "-json", "-4", "route", "show", "table", "all")))
    free = free_indexes(each["dst"] for each in routes if each["dst"] != "default")
    random.shuffle(free)  # two that start at once hardly meet
    for index in free:
        network = Network(index, token)
        if _claim(network):
            run_all(build_uplink(network))
            return network
    raise SandboxError(
        f"none of the {MOST_NETWORKS} networks 10.89.0.0/24 to 10.89.255.0/24 (with Pods in 10.192.0.0/12) is free: other"
        " sandboxes have them, or this machine's own routes lead there"
    )


def _claim(network: Network) -> bool:
    finished = _run(build_claim(network))
    if finished.returncode and "File exists" not in finished.stderr:
        raise SandboxError(_told(finished))
    return finished.returncode == 0


async def make_place(place: NodePlace, count: int) -> None:
    """Make the network namespace of one of `count` nodes; cancelling it leaves no command behind. Raises SandboxError."""
    # Forwarding within the namespace: a node is the router of its Pods, this machine need not be anybody's.
    forwarding = "echo 1 > /proc/sys/net/ipv4/ip_forward"
    for command in (
        *build_place(place, count), ("nsenter", f"--net={namespace_path(place.namespace)}", "/bin/sh", "-ec", forwarding),
    ):
        await run_async(command)


def make_cgroup(node: RealNode) -> list[Path]:
    """Make the node's cgroup; return the cgroups that its daemons are to join. Raises SandboxError."""
    try:
        return cgroups.make(node.cgroup)
    except OSError as error:
        raise SandboxError(f"the cgroup of {node.name} cannot be made: {error}") from None


def remove(token: str) -> None:
    """End every process of the sandbox's real nodes and remove their cgroups and namespaces. Raises SandboxError."""
    cgroups.end(cgroup_prefix(token))
    _run(build_cut(token))
    run_all(build_removal(token, sorted(path.name for path in Path("/run/netns").glob("kubeocean-*"))))


def run_all(commands: Iterable[Sequence[str]]) -> None:
    """Run commands one after the other. Raises SandboxError with what the first one that failed said."""
    for command in commands:
        run(command)


def run(command: Sequence[str]) -> str:
    """Run a command and return its output. Raises SandboxError with what it said when it fails."""
    finished = _run(command)
    if finished.returncode:
        raise SandboxError(_told(finished))
    return finished.stdout


async def run_async(command: Sequence[str]) -> None:
    """Run a command to its end, at most for some seconds. Raises SandboxError with what it said when it fails."""
    try:
        async with asyncio.timeout(_PATIENCE):
            finished = await run_tool(command, env=_environment())
    except TimeoutError:
        raise SandboxError(f"`{shlex.join(command)}` does not end within {_PATIENCE:.0f} s") from None
    if finished.code:
        raise SandboxError(f"`{shlex.join(command)}` failed: {'; '.join(finished.complaints) or f'exit code {finished.code}'}")


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=_PATIENCE,
            env=_environment(),
        )
    except subprocess.TimeoutExpired:
        raise SandboxError(f"`{shlex.join(command)}` does not end within {_PATIENCE:.0f} s") from None


def _environment() -> dict[str, str]:
    return {"PATH": os.pathsep.join(("/usr/sbin", "/sbin", os.environ.get("PATH", os.defpath))), "LC_ALL": "C"}


def _told(finished: subprocess.CompletedProcess[str]) -> str:
    return f"`{shlex.join(finished.args)}` failed: {finished.stderr.strip() or f'exit code {finished.returncode}'}"
