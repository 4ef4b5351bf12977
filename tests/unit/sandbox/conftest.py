"""A scripted `go`, so that a build takes milliseconds and fails when a test says so."""

from __future__ import annotations

import asyncio
import stat
from dataclasses import dataclass, field
from pathlib import Path

import pytest

# What the real ones do, as far as we look: `list -deps` tells packages on stdout and downloads on stderr; `build -v`
# tells each package that it compiles, and writes one file per program into the folder after -o.
_LIST = "echo 'go: downloading example.com/a v1.0.0' >&2; printf 'fmt\\nexample.com/a\\nexample.com/b\\n'"
_BUILD = """
echo example.com/a >&2
for package in $packages; do
  echo "$package" >&2
  file="$out/${package##*/}"
  printf '#!/bin/sh\\necho built\\n' > "$file"
  chmod +x "$file"
done
"""
_GO = """#!/bin/sh
echo $$ > "{log}.pid"
echo "$*" >> "{log}"
env > "{log}.env"
case "$1" in
version) {version} ;;
env) printf '{{"GOMODCACHE": "{caches}/mod", "GOCACHE": "{caches}/build"}}' ;;
list) {list_} ;;
build)
  packages=
  while shift; do case "$1" in
    -o) out=${{2%/}}; shift ;;
    -ldflags) shift ;;
    -*) ;;
    *) packages="$packages $1" ;;
  esac; [ $# -gt 0 ] || break; done
  {build} ;;
esac
"""


@dataclass
class FakeGo:
    """A `go` in a folder of its own; call `script` to change what its commands do (lines of shell)."""

    folder: Path
    caches: Path
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / "calls"
        self.folder.mkdir()
        self.script()

    def script(
        self, *, version: str = "echo go version go1.26.8 linux/amd64", list_: str = _LIST, build: str = _BUILD,
    ) -> None:
        """Write the program anew."""
        text = _GO.format(log=self.log, caches=self.caches, version=version, list_=list_, build=build)
        write_program(self.folder / "go", text)

    def calls(self, command: str = "") -> list[str]:
        """Return the command lines of the calls so far that start with `command`."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if line.startswith(command)]

    async def reaches(self, command: str) -> None:
        """Wait until a command of that name has been called."""
        async with asyncio.timeout(10):
            while not self.calls(command):
                await asyncio.sleep(0.01)

    def pid(self) -> int:
        """Return the process id of the last call."""
        return int(Path(f"{self.log}.pid").read_text())

    def environment(self) -> dict[str, str]:
        """Return the environment of the last call."""
        pairs = Path(f"{self.log}.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in pairs if "=" in line)


def write_program(path: Path, text: str) -> None:
    """Write an executable file."""
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


class Told:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.shown: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def show(self, text: str) -> None:
        self.shown.append(text)


@pytest.fixture
def go(tmp_path: Path) -> FakeGo:
    return FakeGo(tmp_path / "bin", tmp_path / "caches")


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def environ(tmp_path: Path, go: FakeGo) -> dict[str, str]:
    """The environment of a user who has the scripted `go` and an empty cache."""
    return {"PATH": f"{go.folder}:/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
