"""One workload, one way, from its namespace to what was seen: applied, watched, played, looked into, judged, removed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from kubeocean.kube.meta import Json, name_of, namespace_of
from kubeocean.kube.resources import NAMESPACES
from tests.e2e.cluster import sentence
from tests.e2e.judgement import shortfalls
from tests.e2e.run import PATIENCE, Play, Run, Way
from tests.e2e.sight import canonical_names, check_mirrored, normaliser, read_log, status_of
from tests.e2e.workload import Workload

SETTLING: Final = 10.0  # seconds


@dataclass(slots=True)
class Outcome:
    """What was `seen`, ready to be compared; `problems` are what went wrong in this run, `story` what may tell why."""

    seen: Json = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    story: str = ""
    seconds: float = 0.0


def namespace_of_run(workload: Workload, tag: str) -> str:
    """Return the namespace's name, the same both ways: containers may see it."""
    return f"e2e-{workload.name}-{tag}"


async def perform(workload: Workload, way: Way, tag: str, play: Play | None) -> Outcome:
    """Run a workload one way; never raises but when cancelled."""
    run = Run(workload, way, namespace_of_run(workload, tag))
    outcome, loop = Outcome(), asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(2 * PATIENCE):
            await way.cluster.make_namespace(run.namespace)
            await way.cluster.apply(run.namespace, workload.objects(way.variables))
            if workload.expect.ends != "Play":
                await run.reaches(workload.expect.ends, pods=run.expected_pods)
            observed = await play(run) if play else {}
            outcome.seen, outcome.problems = await _look_again(run, observed)
            await run.tells(workload.expect.tells)
            if way.cluster is not way.physical:
                await run.until(lambda: _mirrored(run), "the virtual Pods say what their twins say", within=15)
    except Exception as error:  # one workload's failure is told by its own test
        outcome.problems.append(f"{type(error).__name__}: {error}")
    finally:
        if outcome.problems:
            outcome.story = await _story(run)
        outcome.seconds = loop.time() - began
        await _remove(run)
    return outcome


async def _remove(run: Run) -> None:
    """Ask for the deletion of the namespace; Pods that would take their time are asked again, to be quick."""
    cluster = run.way.cluster
    await cluster.remove(await cluster.client.get(NAMESPACES, run.namespace))
    for pod in run.pods:
        if (pod.get("status") or {}).get("phase") in ("Pending", "Running"):
            await cluster.remove({**pod, "apiVersion": "v1", "kind": "Pod"}, grace_seconds=1)


async def _look_again(run: Run, observed: Json) -> tuple[Json, list[str]]:
    """Return what is to be compared and what falls short of the expectation; a container may need a moment to speak."""
    give_up = asyncio.get_running_loop().time() + SETTLING
    while True:
        raw, seen = await _look(run, observed)
        problems = list(shortfalls(run.workload.expect, raw))
        if not problems or asyncio.get_running_loop().time() > give_up:
            return seen, problems
        await asyncio.sleep(0.5)


async def _look(run: Run, observed: Json) -> tuple[Json, Json]:
    """Return what is seen right now, as it is and ready to be compared."""
    pods, called = run.pods, canonical_names(run.pods)
    raw: Json = {"pods": {}, "observed": observed}
    instead: dict[str, str] = dict.fromkeys(run.way.nodes, "<node>")
    for pod in pods:
        twin = run.way.twin_of(pod)
        status = status_of(pod)
        for name, container in status["containers"].items():
            log = await run.log(name, pod)
            container.update(read_log(log))
        raw["pods"][called[name_of(pod)]] = status
        instead[name_of(pod)] = called[name_of(pod)]
        instead |= {str(twin["spec"].get("nodeName")): "<node>"} if twin else {}
    return raw, normaliser(instead)(raw)


def _mirrored(run: Run) -> bool:
    for pod in run.pods:
        if twin := run.way.twin_of(pod):
            check_mirrored(pod, twin)
    return True


async def _story(run: Run) -> str:
    """Return all that may tell why a run failed: conditions, container states, logs, Events of both clusters."""
    lines = [f"{run.workload.name}, {run.way.name}, namespace {run.namespace}"]
    try:
        for pod in run.pods:
            lines.append(f"Pod {name_of(pod)}: {status_of(pod)}")
            if twin := run.way.twin_of(pod):
                for each in [*twin["spec"].get("initContainers", ()), *twin["spec"]["containers"]]:
                    log = await run.way.physical.log(twin, each["name"], or_why=True)
                    lines.append(f"  log of {each['name']}: {log[-1500:] or '(nothing)'}")
                if run.way.cluster is not run.way.physical:
                    lines.append(f"  twin: {status_of(twin)}")
                    events = await run.way.physical.list_events(namespace_of(twin), name=name_of(twin))
                    lines += [f"  {sentence(event)}" for event in events]
        lines += map(sentence, await run.way.cluster.list_events(run.namespace))
    except Exception as error:  # the first failure is what counts
        lines.append(f"(no more could be found out: {error})")
    return "\n".join(lines)
