"""Builds programs from the pinned Go modules beside this file into the cache.

Per Go module, one after the other (all cores are busy with one): fetch what its packages need, which also tells how
many packages there are; compile and link everything that is wanted of it with one `go build`, into a staging folder
beside the final names; push each file to the disk and rename it. A build that was killed leaves a staging folder, which
the next one removes, and Go's own cache, thanks to which the next one goes on where this one stopped.

The caller holds the lock: only one build at a time works on a folder.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kubeocean.sandbox.build_failures import explain
from kubeocean.sandbox.diskspace import MIB, Need, find_shortage, size_up_to
from kubeocean.sandbox.gotool import AssetsUnavailable, Go, Version, obtain_go, parse_version
from kubeocean.sandbox.progress import Progress, duration
from kubeocean.sandbox.toolrun import Finished
from kubeocean.sandbox.versions import ASSET_VERSION, MODULES, SOURCES, GoModule, Program

# Rough sizes of everything, from a build with empty caches. What the two caches already hold is taken off, whatever it
# is of: a check that is a little too kind is caught by Go itself, one that is too strict keeps somebody from working.
_MODULE_CACHE, _BUILD_CACHE, _PROGRAMS = 800 * MIB, 3800 * MIB, 1000 * MIB
_STAGING = ".build-"


@dataclass(frozen=True, slots=True)
class Job:
    """What is wanted of one Go module."""

    module: GoModule
    programs: tuple[Program, ...]

    @property
    def names(self) -> str:
        """The programs as a person lists them."""
        return ", ".join(name for program in self.programs for name in program.names)


def plan_jobs(names: Collection[str]) -> tuple[Job, ...]:
    """Return what has to be built so that every one of `names` is there."""
    jobs = (Job(module, tuple(program for program in module.programs if set(program.names) & set(names)))
            for module in MODULES)
    return tuple(job for job in jobs if job.programs)


async def build_programs(
    names: Collection[str], folder: Path, root: Path, progress: Progress, environ: Mapping[str, str],
) -> None:
    """Build the programs `names` into `folder`. A Go of ours is kept below `root`.

    Raises AssetsUnavailable, and OSError when `folder` cannot be written.
    """
    started, jobs = time.monotonic(), plan_jobs(names)
    _prepare(folder)
    go = await obtain_go(_oldest_go(jobs), root / "go", progress, environ)
    await _check_space(go, folder)
    patience = "it takes minutes, on two cores about eight for everything" if any(job.module.pins for job in jobs) else (
        "it takes seconds"
    )
    progress.say(f"Building {', '.join(job.names for job in jobs)} ({ASSET_VERSION}) into {folder}, once; {patience}")
    for number, job in enumerate(jobs, 1):
        await _build(go, _Steps(job, f"[{number}/{len(jobs)}]", started, progress), folder)
        progress.say(f"{job.names}: ready after {duration(time.monotonic() - started)}")
    if go.home:
        progress.say(f"{go.home} (Go, its modules, its build cache) may be deleted; kept, it makes a next build fast")


def _prepare(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for left_over in folder.glob(f"{_STAGING}*"):
        shutil.rmtree(left_over, ignore_errors=True)


def _oldest_go(jobs: Collection[Job]) -> Version:
    return max(go_line((SOURCES / job.module.folder / "go.mod").read_text()) for job in jobs)


def go_line(go_mod: str) -> Version:
    """Return the oldest Go that a go.mod allows."""
    return next(version for line in go_mod.splitlines() if line.startswith("go ") and (version := parse_version(line)))


async def _check_space(go: Go, folder: Path) -> None:
    answer = await go.run("env", "-json", "GOMODCACHE", "GOCACHE")
    if answer.code:
        raise AssetsUnavailable(explain(answer.complaints, "asking Go for its folders"))
    where = json.loads(answer.output)
    modules, compiled = Path(where["GOMODCACHE"]), Path(where["GOCACHE"])
    shortage = find_shortage((
        Need(modules, _MODULE_CACHE - size_up_to(modules, _MODULE_CACHE)),
        Need(compiled, _BUILD_CACHE - size_up_to(compiled, _BUILD_CACHE)),
        Need(folder, _PROGRAMS),
    ))
    if shortage:
        raise AssetsUnavailable(f"too little disk space to build: {shortage}; make room, or move the caches with "
                                "$XDG_CACHE_HOME, $GOCACHE and $GOMODCACHE")


async def _build(go: Go, steps: _Steps, folder: Path) -> None:
    job = steps.job
    source, packages = SOURCES / job.module.folder, tuple(program.package for program in job.programs)
    how = ("-trimpath", "-ldflags", job.module.ldflags)
    with _staging(folder) as (stage, scratch):
        listed = await go.run("list", "-deps", *packages, cwd=source, scratch=scratch,
                              heard=steps.hear_fetch, pulse=steps.show_fetch)
        _must_work(listed, job, "fetching the Go modules")
        steps.total = len(listed.output.splitlines())
        built = await go.run("build", "-v", *how, "-o", f"{stage}{os.sep}", *packages, cwd=source, scratch=scratch,
                             heard=steps.hear_build, pulse=steps.show_build)
        _must_work(built, job, "compiling")
        for program in job.programs:
            install(stage, program, folder)


def _must_work(finished: Finished, job: Job, doing: str) -> None:
    if finished.code:
        raise AssetsUnavailable(explain(finished.complaints, f"{doing} for {job.names}"))


@contextmanager
def _staging(folder: Path) -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory(prefix=_STAGING, dir=folder, ignore_cleanup_errors=True) as name:
        stage, scratch = Path(name, "programs"), Path(name, "scratch")
        stage.mkdir()
        scratch.mkdir()
        yield stage, scratch


def install(stage: Path, program: Program, folder: Path) -> None:
    """Move one linked file from `stage` into `folder` and link its names to it; each name changes in one step."""
    built = stage / program.file
    with built.open("rb") as file:
        os.fsync(file.fileno())  # a rename may reach the disk before the data does
    os.replace(built, folder / program.file)
    for name in program.names:
        if name != program.file:
            (stage / name).symlink_to(program.file)
            os.replace(stage / name, folder / name)


class _Steps:
    """Turns what Go says into a line of progress: which programs, which step, how far, how long."""

    def __init__(self, job: Job, which: str, started: float, progress: Progress) -> None:
        self.job = job
        self._which, self._started, self._progress = which, started, progress
        self._mains = {program.package for program in job.programs}
        self._fetched = self._compiled = 0
        self.total = 0

    def hear_fetch(self, line: str) -> bool:
        """`go: downloading PATH VERSION`, once per module."""
        fetched = line.startswith("go: downloading ")
        self._fetched += fetched
        return fetched

    def hear_build(self, line: str) -> bool:
        """With -v: the import path of each package that is compiled now; cached ones are not told."""
        if not line or " " in line or line.startswith("#"):
            return self.hear_fetch(line)
        self._compiled += 1
        self._mains.discard(line)
        return True

    def show_fetch(self) -> None:
        self._show(f"fetching Go modules, {self._fetched} so far" if self._fetched else "looking at the Go modules")

    def show_build(self) -> None:
        if self._mains:
            self._show(f"compiling and linking, {self._compiled} of at most {self.total} packages")
        else:
            self._show(f"linking ({self._compiled} packages compiled)")

    def _show(self, step: str) -> None:
        self._progress.show(f"{self._which} {self.job.names}: {step}, {duration(time.monotonic() - self._started)}")
