"""What is remembered about a sandbox, in `sandbox.json` in its folder: enough for any later command to find and end it.

The file is replaced at once (written beside, renamed) after every process that was started, so that a crash at any line
leaves a record of all there is to end. A lock on the folder itself keeps two commands from working on one sandbox; it
dies with its holder and leaves no file behind.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from kubeocean.sandbox import processes
from kubeocean.sandbox.realnode.network import Network
from kubeocean.sandbox.spec import VIRTUAL, SandboxSpec, check_name

FORMAT = 1  # of sandbox.json
Phase = Literal["starting", "running", "failed"]


class SandboxError(Exception):
    """A sandbox cannot do what was asked; the message is one for the user and names the remedy."""


class NoSandbox(SandboxError):
    """There is no sandbox of that name."""


class SandboxBusy(SandboxError):
    """Another command works on this sandbox at this moment."""


@dataclass(frozen=True, slots=True)
class ComponentInfo:
    """One server of a sandbox: `address` is its URL, `birth` proves that `pid` is still the same process."""

    name: str
    pid: int
    birth: str
    address: str
    log: Path

    @property
    def alive(self) -> bool:
        """Tell whether this very process still runs."""
        return processes.is_alive(self)


@dataclass(frozen=True, slots=True)
class ClusterHandle:
    """One cluster; `server` is its API server's URL, `kubeconfig` its administrator's, with everything inline."""

    name: str
    folder: Path
    server: str
    kubeconfig: Path
    audit_log: Path
    components: tuple[ComponentInfo, ...] = ()

    @property
    def role(self) -> Literal["virtual", "physical"]:
        """Return which side of Kubeocean the cluster plays."""
        return "virtual" if self.name == VIRTUAL else "physical"

    def component(self, name: str) -> ComponentInfo:
        """Return the component called `name`, such as kube-apiserver. Raises KeyError."""
        return {each.name: each for each in self.components}[name]


@dataclass(frozen=True, slots=True)
class Record:
    """What sandbox.json holds; `components` are those that no single cluster owns (the shared etcd).

    With real nodes there is a `token`, by which everything is found that they have outside of the folder, and a `network`.
    """

    format: int
    phase: Phase
    spec: SandboxSpec
    ports: tuple[int, ...] = ()
    clusters: tuple[ClusterHandle, ...] = ()
    components: tuple[ComponentInfo, ...] = ()
    token: str = ""
    network: Network | None = None

    @property
    def all_components(self) -> list[tuple[str, ComponentInfo]]:
        """Return every component with the name of its cluster, "" for a shared one."""
        owned = [(cluster.name, each) for cluster in self.clusters for each in cluster.components]
        return [*(("", each) for each in self.components), *owned]

    def with_component(self, cluster: str, component: ComponentInfo) -> Record:
        """Return the record with one more component; `cluster` is "" for a shared one."""
        if not cluster:
            return replace(self, components=(*self.components, component))
        return replace(self, clusters=tuple(
            replace(each, components=(*each.components, component)) if each.name == cluster else each
            for each in self.clusters
        ))


_RECORD = TypeAdapter(Record)


def default_root() -> Path:
    """Return the folder of all sandboxes, by the XDG base directory rules."""
    configured = Path(os.environ.get("XDG_STATE_HOME", ""))
    state = configured if configured.is_absolute() else Path.home() / ".local" / "state"
    return state / "kubeocean" / "sandboxes"


def folder_of(name: str, root: Path | None = None) -> Path:
    """Return the folder of the sandbox `name`, which need not exist. Raises InvalidSpec for an impossible name."""
    check_name(name)
    return (root or default_root()).absolute() / name


def sandbox_names(root: Path | None = None) -> list[str]:
    """Return the names of all sandboxes in `root`, in order."""
    return sorted(path.parent.name for path in (root or default_root()).glob("*/sandbox.json"))


def read_record(folder: Path) -> Record:
    """Return what is remembered. Raises NoSandbox; SandboxError when the file is not one of ours."""
    path = folder / "sandbox.json"
    try:
        record = _RECORD.validate_json(path.read_bytes())
    except FileNotFoundError:
        raise NoSandbox(
            f"there is no sandbox {folder.name!r} (looked in {folder.parent}); start it with"
            f" `kubeocean sandbox up --name {folder.name}`"
        ) from None
    except ValidationError as error:
        raise SandboxError(
            f"{path} is damaged ({error.error_count()} problems); end its processes and remove the folder by hand"
        ) from None
    if record.format != FORMAT:
        raise SandboxError(f"{path} is of another Kubeocean (format {record.format}); end it with that one")
    return record


def write_record(folder: Path, record: Record) -> None:
    """Replace what is remembered, at once."""
    fresh = folder / "sandbox.json.new"
    fresh.write_bytes(_RECORD.dump_json(record, indent=2))
    fresh.replace(folder / "sandbox.json")


def taken_ports(root: Path) -> set[int]:
    """Return the ports that other sandboxes of `root` have chosen, whether they listen at this moment or not."""
    taken: set[int] = set()
    for path in root.glob("*/sandbox.json"):
        try:
            taken.update(read_record(path.parent).ports)
        except SandboxError:
            continue  # a broken neighbour is its owner's trouble
    return taken


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the sandbox's folder for ourselves. Raises SandboxBusy at once when somebody else does; NoSandbox."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        raise NoSandbox(f"there is no sandbox {folder.name!r} (looked in {folder.parent})") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SandboxBusy(f"another command works on sandbox {folder.name!r}; wait for it or end it") from None
        # Between our open and our lock a `down` may have removed the folder: then we hold a ghost.
        if not folder.exists() or os.fstat(handle).st_ino != folder.stat().st_ino:
            raise SandboxBusy(f"sandbox {folder.name!r} has just been removed; try again")
        yield
    finally:
        os.close(handle)


def is_locked(folder: Path) -> bool:
    """Tell whether a command works on this sandbox at this moment."""
    try:
        with locked(folder):
            return False
    except SandboxBusy:
        return True
    except NoSandbox:
        return False
