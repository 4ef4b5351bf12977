"""What happens to a workload while it runs, step by step and the same both ways; named after the workload.

A play returns what it observed, which is compared as well. It asks what its author wants to be true of any cluster, so
that a failure directly means that the play is wrong.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Final

from kubeocean.kube.client import PatchType
from kubeocean.kube.meta import Json, format_time, name_of, namespace_of, parse_time, uid_of
from kubeocean.kube.resources import CONFIGMAPS, DEPLOYMENTS, JOBS, PODS, SECRETS, Resource
from tests.e2e.cluster import eventually
from tests.e2e.run import PATIENCE, Play, Run
from tests.e2e.sight import has_reached

LATE: Final = 5.0  # seconds
_PRINTS: Final = 0.5  # seconds; `toolbox last` prints every 0.1, on a busy machine later
PLAYS: Final[dict[str, Play]] = {}


def play(function: Play) -> Play:
    PLAYS[function.__name__.replace("_", "-")] = function
    return function


# --- updates arriving -----------------------------------------------------------------------------------------------
@play
async def configmap_update(run: Run) -> Json:
    await run.says('"before"')
    await patch(run, CONFIGMAPS, "motd", {"data": {"text": "second", "gone": None, "new": "here"}})
    await patch(run, SECRETS, "password", {"stringData": {"text": "second"}})
    await run.reaches("Succeeded")
    return {}


@play
async def downward_volume(run: Run) -> Json:
    await run.says('"before"')
    await patch(run, PODS, "self", {"metadata": {"labels": {"phase": "two"}, "annotations": {"note": "2"}}})
    await run.reaches("Succeeded")
    return {}


@play
async def optional_later(run: Run) -> Json:
    await run.says('"before"')
    await run.way.cluster.apply(run.namespace, later())
    await run.reaches("Succeeded")
    return {}


@play
async def mandatory_later(run: Run) -> Json:
    await run.until(lambda: run.pod()["spec"].get("nodeName"), "it has a node")
    await run.way.cluster.apply(run.namespace, later())
    await run.reaches("Succeeded")
    return {}


def later() -> list[Json]:
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "later"}, "data": {"text": "there"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "later"}, "stringData": {"text": "hidden"}},
    ]


# --- life and death -------------------------------------------------------------------------------------------------
@play
async def probe_readiness(run: Run) -> Json:
    await run.reaches("Ready")
    started = parse_time(container(run)["state"]["running"]["startedAt"])
    ready = next(each for each in run.pod()["status"]["conditions"] if each["type"] == "Ready")
    unready = parse_time(ready["lastTransitionTime"]) - started
    assert unready.total_seconds() >= 3, f"the probe fails for 4 s, yet after {unready} it was ready"  # in whole seconds
    return {}


@play
async def hooks(run: Run) -> Json:
    await run.says("post-start")
    return await deleted(run)


@play
async def stop_sleep(run: Run) -> Json:
    await run.says("started")
    began = time.monotonic()
    said = await deleted(run)
    assert time.monotonic() - began >= 2, "preStop takes 2 s"
    return said


@play
async def grace(run: Run) -> Json:
    await run.says("waiting")
    await check_lived_on(run, None, 4)
    return {}


@play
async def grace_of_deletion(run: Run) -> Json:
    await run.says("waiting")
    await check_lived_on(run, 3, 3)
    return {}


@play
async def deleted_young(run: Run) -> Json:
    await run.until(lambda: "running" in container(run, "first")["state"], "the init container runs")
    await delete(run)
    return {}


@play
async def deleted_by_force(run: Run) -> Json:
    await run.says("waiting")
    twin = run.way.twin_of(run.pod())
    assert twin
    await delete(run, 0)
    await run.way.physical.until(
        lambda: not run.way.physical.pod(namespace_of(twin), name_of(twin)), within=30, what=lambda: "its containers are gone",
    )
    return {}


@play
async def restart_always(run: Run) -> Json:
    return {"restarts": container(run)["restartCount"]}


async def deleted(run: Run) -> Json:
    """Delete the Pod; return what its container still said."""
    heard = asyncio.create_task(run.follow())
    await delete(run)
    return await heard


async def delete(run: Run, grace_seconds: int | None = None) -> None:
    pod = run.pod()
    await run.way.cluster.remove({**pod, "apiVersion": "v1", "kind": "Pod"}, grace_seconds=grace_seconds)
    await run.until(lambda: not run.pods, "the Pod is gone")


async def check_lived_on(run: Run, grace_seconds: int | None, expected: int) -> None:
    """Delete the Pod with this grace; check for how many seconds its process lives on.

    Not a moment less than the grace, which begins when deletion is asked for (but for what passes between two lines it
    prints); and no more of them after SIGTERM, though how long a busy machine takes to kill is not ours to judge.
    """
    heard = asyncio.create_task(run.follow())
    asked = time.time()
    await delete(run, grace_seconds)
    lines = [line.split()[1:] for line in (await heard)["prints"] if line.startswith("alive")]
    after_sigterm, lived_on = int(lines[-1][0]) / 1000, int(lines[-1][1]) / 1000 - asked
    seconds = f"{lived_on:.1f} s, {after_sigterm:.1f} s of them after SIGTERM, grace {expected} s"
    print(f"{run.workload.name}, {run.way.name}: {seconds}")
    assert expected - _PRINTS < lived_on, seconds
    assert after_sigterm <= expected + LATE, seconds


# --- controllers ----------------------------------------------------------------------------------------------------
@play
async def job(run: Run) -> Json:
    return await finished(run, "Complete")


@play
async def job_indexed(run: Run) -> Json:
    return await finished(run, "Complete")


@play
async def job_fails(run: Run) -> Json:
    return await finished(run, "Failed")


@play
async def job_failure_policy(run: Run) -> Json:
    return await finished(run, "Failed")


async def finished(run: Run, kind: str) -> Json:
    """Wait for the Job's end; return its counts, and the finalizers that are left on its Pods (none)."""
    async def over() -> Json:
        status = (await run.way.cluster.client.get(JOBS, "work", run.namespace)).get("status") or {}
        conditions = {each["type"]: each for each in status.get("conditions") or () if each["status"] == "True"}
        assert kind in conditions, f"conditions {conditions}"
        counts = {key: status[key] for key in ("succeeded", "failed") if key in status}
        return {**counts, "reason": conditions[kind].get("reason")}

    counts = await eventually(over, within=PATIENCE, what=f"the Job is {kind}")
    await run.until(lambda: not any(pod["metadata"].get("finalizers") for pod in run.pods), "no finalizer is left")
    return counts


@play
async def deployment(run: Run) -> Json:
    container = {"name": "main", "image": "kubeocean.test/toolbox:2", "env": [{"name": "VERSION", "value": "two"}]}
    before = {uid_of(pod) for pod in run.pods}
    change = {"spec": {"template": {"spec": {"containers": [container]}}}}
    await patch(run, DEPLOYMENTS, "web", change, kind=PatchType.STRATEGIC)
    fewest = 2

    def rolled() -> bool:
        nonlocal fewest
        fewest = min(fewest, sum(has_reached(pod, "Ready") for pod in run.pods if not pod["metadata"].get("deletionTimestamp")))
        return len(run.pods) == 2 and not before & {uid_of(pod) for pod in run.pods}

    await run.until(rolled, "only new Pods are left")
    await run.reaches("Ready", pods=2)
    return {"fewest": fewest}


@play
async def statefulset(run: Run) -> Json:
    old = run.pod("store-0")
    await run.way.cluster.remove({**old, "apiVersion": "v1", "kind": "Pod"})
    await run.until(lambda: uid_of(run.pod("store-0")) != uid_of(old), "there is another store-0")
    await run.reaches("Ready", pods=2)
    await run.says('"hostname"', pod="store-0")
    await run.says('"hostname"', pod="store-1")
    return {}


# --- changes of a running Pod ---------------------------------------------------------------------------------------
@play
async def ephemeral_container(run: Run) -> Json:
    await run.until(lambda: "running" in container(run)["state"], "it runs")
    debugger = {
        "name": "debugger", "image": "kubeocean.test/toolbox:1", "targetContainerName": "main",
        "command": ["sh", "-c", "tr '\\0' '\\n' < /proc/1/environ | grep SECRET"],
    }
    await run.way.cluster.client.patch(
        PODS, "watched", run.namespace, {"spec": {"ephemeralContainers": [debugger]}}, kind=PatchType.STRATEGIC,
        subresource="ephemeralcontainers",
    )
    await run.until(lambda: "terminated" in container(run, "debugger")["state"], "the debugger has looked")
    return {"said": (await run.log("debugger")).splitlines()}


@play
async def resize(run: Run) -> Json:
    await run.says('"before"')
    resources = {"cpu": "200m", "memory": "128Mi"}
    change = {"spec": {"containers": [{"name": "main", "resources": {"requests": resources, "limits": resources}}]}}
    await run.way.cluster.client.patch(
        PODS, "growing", run.namespace, change, kind=PatchType.STRATEGIC, subresource="resize"
    )
    await run.says("grown")
    told = {"requests": resources, "limits": resources}
    await run.until(lambda: container(run).get("resources") == told, "the status says so")
    await run.until(lambda: "PodResizeInProgress" not in condition_types(run), "the resize is over")
    return {}


@play
async def readiness_gate(run: Run) -> Json:
    await run.until(lambda: "ContainersReady" in condition_types(run, "True"), "its containers are ready")
    ready = "Ready" in condition_types(run, "True")
    gate = {"type": "example.com/warm", "status": "True", "lastTransitionTime": format_time(datetime.now(UTC))}
    await run.way.cluster.client.patch(
        PODS, "gated", run.namespace, {"status": {"conditions": [gate]}}, kind=PatchType.STRATEGIC, subresource="status",
    )
    await run.reaches("Ready")
    return {"ready before": ready}


@play
async def pod_to_pod(run: Run) -> Json:
    await run.reaches("Ready")
    url = f"http://{run.pod()['status']['podIP']}:8080/healthz"
    container = {"name": "main", "image": "kubeocean.test/toolbox:1", "command": ["toolbox", "get", url]}
    spec = {"restartPolicy": "Never", "containers": [container]}
    await run.way.cluster.apply(run.namespace, [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client"}, "spec": spec},
    ])
    await run.until(lambda: has_reached(run.pod("client"), "Succeeded"), "the client has its answer")
    return {}


@play
async def host_port(run: Run) -> Json:
    await run.reaches("Ready")
    address, port = run.pod()["status"]["hostIP"], run.way.variables["HOST_PORT"]
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(address, int(port))
        writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
        answer = await reader.readline()
        writer.close()
    return {"answer": answer.decode().strip()}


# --- words of the plays ---------------------------------------------------------------------------------------------
def container(run: Run, name: str = "main") -> Json:
    """Return the status of a container of the only Pod; AssertionError as long as there is none."""
    status = run.pod().get("status") or {}
    for field in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for each in status.get(field) or ():
            if each["name"] == name:
                return dict(each)
    raise AssertionError(f"container {name} has no status yet")


def condition_types(run: Run, status: str = "") -> set[str]:
    conditions = (run.pod().get("status") or {}).get("conditions") or ()
    return {each["type"] for each in conditions if status in ("", each["status"])}


async def patch(run: Run, resource: Resource, name: str, change: Json, *, kind: PatchType = PatchType.MERGE) -> None:
    await run.way.cluster.client.patch(resource, name, run.namespace, change, kind=kind)
