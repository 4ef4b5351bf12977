"""The demo from curtain to curtain.

    assets (built once) -> sandbox -> for each step: tell it, run its commands, look until it is observed
      -> all observed: exit code 0; one is not: what was expected, what was seen, the end of the manager's log, exit code 1
      -> everything is ended and removed, unless it is to be kept

Nothing is believed because a command succeeded: `kubectl apply` is content long before a Pod runs. Interrupted (Ctrl-C), the
demo leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from kubeocean.demo.cast import APP, SLICE
from kubeocean.demo.narrator import Narrator
from kubeocean.demo.observations import NotYet
from kubeocean.demo.stage import NAME, Stage, kubeocean_program, set_stage
from kubeocean.demo.story import Act, Forward, Hear, Observe, Run, StartManager, Step, build_story

EVERY = 0.3  # seconds between two looks


class NotObserved(NotYet):
    """Nor will it be: a step did not happen as told."""


async def run_demo(
    stream: TextIO, *, keep: bool = False, root: Path | None = None, steps: Sequence[Step] = ()
) -> bool:
    """Play the demo and tell it to `stream`; return whether every step was observed. `keep` leaves everything running.

    Without `steps` it is the whole story, with a real container where this machine can have one.

    Raises SandboxError or AssetsUnavailable when there is no stage to play on.
    """
    narrator = Narrator(stream)
    narrator.headline("Kubeocean: many physical clusters, one virtual cluster")
    narrator.say(
        "First a sandbox: real control planes of one virtual and two physical clusters. KWOK plays their nodes; one is real"
        " where this machine can have one."
    )
    with narrator.progress() as progress:
        stage = await set_stage(progress, root)
    kept = False
    try:
        with stage.occupied():
            observed = await play(stage, steps or build_story(real=stage.real), narrator)
        if keep:
            _tell_what_is_kept(stage, narrator)
            kept = True
    finally:
        if not kept:
            await stage.close()
            narrator.say("\nEverything is ended and removed.")
    if not observed and not kept:
        narrator.say("To look around in what is not as it should be: make demo KEEP=1")
    return observed


async def play(stage: Stage, steps: Sequence[Step], narrator: Narrator) -> bool:
    """Play `steps` one after the other; return whether all of them were observed. The first one that is not ends the play."""
    started = time.monotonic()
    stage.lay_out()
    _tell_where_to_type(stage, narrator)
    for number, step in enumerate(steps, start=1):
        narrator.headline(f"── {number}/{len(steps)}  {step.title} ──")
        narrator.say(step.says)
        try:
            for act in step.acts:
                await _perform(act, stage, narrator)
        except NotObserved as problem:
            _tell_failure(step, problem, stage, narrator)
            return False
    narrator.headline(f"All {len(steps)} steps were observed in {time.monotonic() - started:.0f} s.")
    return True


async def _perform(act: Act, stage: Stage, narrator: Narrator) -> None:
    match act:
        case Run():
            await _run(act, stage, narrator)
        case Hear():
            await _hear(act, stage, narrator)
        case Forward():
            await _forward(act, stage, narrator)
        case StartManager():
            narrator.command(f"{shlex.join(stage.manager_command())} &")
            stage.start_manager()
        case Observe():
            await _observe(act, stage, narrator)


async def _run(act: Run, stage: Stage, narrator: Narrator) -> None:
    narrator.command(act.line)
    try:
        async with asyncio.timeout(act.within):
            code = await stage.run(act.line, narrator.output)
    except TimeoutError:
        raise NotObserved(f"the command ends within {act.within:g} s", "it did not") from None
    if code:
        raise NotObserved("the command succeeds", f"exit code {code}")


async def _hear(act: Hear, stage: Stage, narrator: Narrator) -> None:
    narrator.command(act.line)
    started = time.monotonic()
    while True:
        heard: list[str] = []
        try:
            async with asyncio.timeout(act.within):
                code = await stage.run(act.line, heard.append)
        except TimeoutError:
            raise NotObserved(f"the command ends within {act.within:g} s", "it did not") from None
        if code == 0 and any(act.part in line for line in heard):
            break
        if time.monotonic() - started > act.within:
            raise NotObserved(f"{act.part!r} in its output, within {act.within:g} s", "; ".join(heard) or f"exit code {code}")
        await asyncio.sleep(EVERY)
    for line in heard:
        narrator.output(line)
    narrator.observed(act.what, time.monotonic() - started)


async def _forward(act: Forward, stage: Stage, narrator: Narrator) -> None:
    narrator.command(f"{act.line} &")
    started = time.monotonic()
    heard: list[str] = []
    try:
        async with asyncio.timeout(act.within), stage.forwarding(act.line, heard.append) as port:
            for line in heard:
                narrator.output(line)
            url = f"{act.scheme}://127.0.0.1:{port}{act.path}"
            answer = await stage.ask(url)
    except NotYet as problem:
        raise NotObserved(problem.expected, "; ".join([problem.seen, *heard])) from None
    except TimeoutError:
        raise NotObserved(f"an answer through the forwarded port within {act.within:g} s", "; ".join(heard) or "none") from None
    if act.part not in answer:
        raise NotObserved(f"{url} answers {act.part!r}", repr(answer))
    narrator.observed(f"{url} leads there and answers: {answer.strip()}", time.monotonic() - started)


async def _observe(act: Observe, stage: Stage, narrator: Narrator) -> None:
    started = time.monotonic()
    with narrator.waiting() as tell:
        what = await _look_until_seen(act, stage, tell)
    narrator.observed(what, time.monotonic() - started)


async def _look_until_seen(act: Observe, stage: Stage, tell: Callable[[str], None]) -> str:
    give_up = time.monotonic() + act.within
    while True:
        try:
            return act.observation(await stage.look())
        except NotYet as problem:
            if stage.manager and not stage.manager.alive:
                raise NotObserved(problem.expected, f"{problem.seen}; and the manager has died") from None
            if time.monotonic() > give_up:
                raise NotObserved(f"{problem.expected}, within {act.within:g} s", problem.seen) from None
            tell(f"{problem.expected} (now: {problem.seen})")
        await asyncio.sleep(EVERY)


def _tell_where_to_type(stage: Stage, narrator: Narrator) -> None:
    narrator.say("\nAll commands are real and run here; contexts: virtual (current), physical-1, physical-2.")
    narrator.command(f"cd {stage.folder}")
    narrator.command(f"export PATH={stage.tools}:$PATH KUBECONFIG=$PWD/{stage.kubeconfig.name}")


def _tell_failure(step: Step, problem: NotObserved, stage: Stage, narrator: Narrator) -> None:
    narrator.failed(f"{step.title}: not observed")
    narrator.say(f"  expected: {problem.expected}")
    narrator.say(f"  seen:     {problem.seen}")
    if stage.manager:
        narrator.say("  the end of the manager's log:")
        for line in stage.manager_tail() or ["(empty)"]:
            narrator.say(f"    {line}")


def _tell_what_is_kept(stage: Stage, narrator: Narrator) -> None:
    narrator.headline("Left running. Look around:")
    _tell_where_to_type(stage, narrator)
    narrator.say("\nEach cluster's own kubeconfig, and the manager's log:")
    for cluster in (stage.sandbox.virtual, *stage.sandbox.physical):
        narrator.say(f"  {cluster.name:<10}  {cluster.kubeconfig}")
    if stage.manager:
        narrator.say(f"  {'manager':<10}  {stage.manager.log}")
    narrator.say("\nPlay it again by hand, then end it:")
    narrator.command(f"kubectl apply -f {SLICE.binding}.yaml && kubectl wait --for=condition=Ready cb/{SLICE.binding}")
    narrator.command(f"kubectl apply -f {APP}.yaml && kubectl get pods -o wide --watch")
    narrator.command(f"{_typed(kubeocean_program())} sandbox down --name {NAME}")


def _typed(program: str) -> str:
    """Return `program` as somebody in the current folder would type it."""
    near = os.path.relpath(program)
    return program if near.startswith(os.pardir) else near
