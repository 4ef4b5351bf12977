"""One run of `kubeocean verify`: look twice at both sides of every binding, tell what lasts, mend it if asked to.

    look ── a moment ── look ──► findings of both ──► (--repair) look ──► what is still so is mended, one by one

What was done is told whatever comes after it: a failure in the middle is told of the finding that it hit, and the rest is left.

Exit code 0: both sides agree (or do again), 1: something is wrong, 2: somewhere it was not possible to look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from kubeocean.checks.futile import without_futile
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
    """What is to be said of one binding; `error` says why it could not be looked at (to the end), "" when it was.

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
            verdicts.append(await _verify_leftovers(virtual, request))
        return verdicts


async def _verify_leftovers(virtual: Client, request: Request) -> Verdict:
    try:
        before, notes = await look_for_leftovers(virtual)
        await asyncio.sleep(request.settle if before else 0.0)
        after, more = await look_for_leftovers(virtual)
    except KubeError as error:
        return Verdict("", error=str(error))
    told = tuple(Told(finding) for finding in lasting(before, after))
    if request.repair:
        told = await _mend_each(told, partial(take_off, virtual))
    return Verdict("", told, tuple(sorted(notes | more)))


async def _verify_binding(virtual: Client, binding: Json, bindings: list[Json], request: Request) -> Verdict:
    try:
        async with open_sides(virtual, binding, bindings) as sides:
            return await _compare(sides, request)
    except KubeError as error:
        return Verdict(name_of(binding), error=str(error))


async def _compare(sides: Sides, request: Request) -> Verdict:
    look_now = partial(look, sides, time_zone=request.time_zone)
    first = await look_now()
    await asyncio.sleep(request.settle)
    second = await look_now()
    found = await without_futile(sides, lasting(verify(first.snapshot), verify(second.snapshot)))
    verdict = Verdict(
        sides.binding, tuple(map(Told, found)), _noted(first, second), pods=second.snapshot.count_pods(),
        nodes=len(second.snapshot.own_vnodes()),
    )
    return await _mend(sides, verdict, look_now) if request.repair and found else verdict


def _noted(*looks: Look) -> tuple[str, ...]:
    return tuple(sorted({note for each in looks for note in each.notes}))


async def _mend(sides: Sides, verdict: Verdict, look_now: Callable[[], Awaitable[Look]]) -> Verdict:
    """Mend what a third look finds still. What it could not judge is not mended, although it is not found."""
    try:
        third = await look_now()
    except KubeError as error:
        left = tuple(replace(each, done="left: the look before the repair failed") for each in verdict.told)
        return replace(verdict, told=left, error=str(error))
    still = {finding.identity: finding for finding in verify(third.snapshot)}
    unread = sorted(set(third.notes) - set(verdict.notes))

    async def mend(finding: Finding) -> tuple[bool, str]:
        if fresh := still.get(finding.identity):
            return await repair(sides, fresh)
        return (False, f"left: not judged again: {'; '.join(unread)}") if unread else (True, "gone by itself")

    return replace(verdict, told=await _mend_each(verdict.told, mend), notes=tuple(sorted({*verdict.notes, *unread})))


async def _mend_each(told: Sequence[Told], mend: Callable[[Finding], Awaitable[tuple[bool, str]]]) -> tuple[Told, ...]:
    """Mend one after the other. When a cluster fails to answer, or is another one, the rest is left, and all is told."""
    tried: list[Told] = []
    failed = ""
    for each in told:
        mended, done = False, f"left: not tried after that failure: {failed}"
        if not failed:
            try:
                mended, done = await mend(each.finding)
            except KubeError as error:
                failed = str(error)
                done = f"left: whether it is mended is unknown, look again: {failed}"
        tried.append(replace(each, mended=mended, done=done))
    return tuple(tried)
