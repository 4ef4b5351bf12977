"""One run of `kubeocean verify`: look twice at both sides of every binding, tell what lasts, mend it if asked to.

    look ── a moment ── look ──► findings of both ──► (--repair) look ──► what is still so is mended, one by one

Exit code 0: both sides agree (or do again), 1: something is wrong, 2: somewhere it was not possible to look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from kubeocean.checks.leftovers import look_for_leftovers, take_off
from kubeocean.checks.looking import Look, look
from kubeocean.checks.opening import Sides, choose_bindings, open_sides, open_virtual, read_bindings
from kubeocean.checks.repairing import repair
from kubeocean.domain.findings import Finding, lasting
from kubeocean.domain.verification import verify
from kubeocean.kube.client import Client
from kubeocean.kube.errors import KubeError
from kubeocean.kube.meta import Json, name_of

CLEAN, FOUND, NOT_LOOKED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Told:
    """A finding, and with --repair what became of it."""

    finding: Finding
    mended: bool = False
    done: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said of one binding; `error` says why it could not be looked at, "" when it was.

    `binding` "" stands for those that are gone, and left something.
    """

    binding: str
    told: tuple[Told, ...] = ()
    notes: tuple[str, ...] = ()
    error: str = ""
    pods: int = 0
    nodes: int = 0

    @property
    def left(self) -> int:
        """Return how many findings are not mended."""
        return sum(not each.mended for each in self.told)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked: `settle` is the time between two looks in seconds, `binding` "" means all."""

    kubeconfig: Path | None = None
    binding: str = ""
    repair: bool = False
    settle: float = 3.0
    time_zone: str = "UTC"


def exit_code(verdicts: list[Verdict]) -> int:
    """Return what a run with these verdicts ends with."""
    if any(verdict.error for verdict in verdicts):
        return NOT_LOOKED
    return FOUND if any(verdict.left for verdict in verdicts) else CLEAN


async def run_verify(request: Request, progress: Callable[[str], None] = lambda _: None) -> list[Verdict]:
    """Return a verdict for each binding. Raises KubeError when the virtual cluster cannot be asked for them."""
    async with open_virtual(request.kubeconfig) as virtual:
        verdicts = []
        bindings = await read_bindings(virtual)
        for binding in choose_bindings(bindings, request.binding):
            progress(f"looking at both sides of {name_of(binding)}, twice")
            verdicts.append(await _verify_binding(virtual, binding, bindings, request))
        if not request.binding:
            progress("looking for what bindings left that are gone, twice")
            left = await _verify_leftovers(virtual, request)
            verdicts += [left] if left.told or left.notes or left.error else []
        return verdicts


async def _verify_leftovers(virtual: Client, request: Request) -> Verdict:
    try:
        before, _ = await look_for_leftovers(virtual)
        await asyncio.sleep(request.settle if before else 0.0)
        after, notes = await look_for_leftovers(virtual)
    except KubeError as error:
        return Verdict("", error=str(error))
    told = [Told(finding) for finding in lasting(before, after)]
    if request.repair:
        done = [await take_off(virtual, each.finding) for each in told]
        told = [replace(each, mended=mended, done=words) for each, (mended, words) in zip(told, done, strict=True)]
    return Verdict("", tuple(told), tuple(sorted(notes)))


async def _verify_binding(virtual: Client, binding: Json, bindings: list[Json], request: Request) -> Verdict:
    try:
        async with open_sides(virtual, binding, bindings) as sides:
            return await _compare(sides, request)
    except KubeError as error:
        return Verdict(name_of(binding), error=str(error))


async def _compare(sides: Sides, request: Request) -> Verdict:
    look_now = partial(look, sides, time_zone=request.time_zone)
    before = verify((await look_now()).snapshot)
    await asyncio.sleep(request.settle)
    second = await look_now()
    found = lasting(before, verify(second.snapshot))
    verdict = Verdict(
        sides.binding, tuple(Told(finding) for finding in found), second.notes, pods=second.snapshot.count_pods(),
        nodes=len(second.snapshot.own_vnodes()),
    )
    if not (request.repair and found):
        return verdict
    try:
        return await mend(sides, verdict, await look_now())
    except KubeError as error:
        return replace(verdict, notes=(*verdict.notes, f"nothing was mended: {error}"))


async def mend(sides: Sides, verdict: Verdict, third: Look) -> Verdict:
    """Mend what a third look finds still. Whatever fails on the way, what was done before is told."""
    still = {finding.identity: finding for finding in verify(third.snapshot)}
    unseen = set(third.notes) - set(verdict.notes)
    told, trouble = [], ""
    for each in verdict.told:
        if (finding := still.get(each.finding.identity)) is None:
            gone = (False, "left: it could not be judged again, see the notes") if unseen else (True, "gone by itself")
            told.append(replace(each, mended=gone[0], done=gone[1]))
            continue
        mended, done = (False, f"left: {trouble}") if trouble else (False, "")
        if not trouble:
            try:
                mended, done = await repair(sides, finding)
            except KubeError as error:  # not about this object: the cluster is another one, or silent
                trouble = str(error)
                done = f"left: {trouble}"
        told.append(replace(each, mended=mended, done=done))
    return replace(verdict, told=tuple(told), notes=tuple(sorted({*verdict.notes, *third.notes})))
