"""What the containers of a twin wait for. Those of its beginning come first: until they are done, no other matters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kubeocean.domain.podstory import restarts_of
from kubeocean.kube.meta import Json, ObjectKey

_HIS_TURN: Final = "PodInitializing"  # what every container says before its turn has come
_PULLING: Final = frozenset({
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable",
})
_PULLED_BELOW: Final = (
    "nodes of the physical cluster pull it: see that they reach the registry, and that an imagePullSecret of the virtual Pod "
    "fits"
)


def waiting_containers(ppod: Json, vpod: ObjectKey) -> list[str]:
    """Return what the containers of a twin wait for; [] when they are all as they should be, or no kubelet has spoken."""
    status = ppod.get("status") or {}
    statuses = {each["name"]: each for each in status.get("initContainerStatuses") or ()}
    specs = ppod["spec"].get("initContainers") or ()
    first = [
        told for number, spec in enumerate(specs, 1)
        if (told := _of_init(spec, statuses.get(spec["name"]) or {}, f"{number} of {len(specs)}", vpod))
    ]
    if first:
        return first
    return [told for each in status.get("containerStatuses") or () if (told := _of_container(each, vpod))]


def _of_init(spec: Json, status: Json, number: str, vpod: ObjectKey) -> str:
    sidecar, state = spec.get("restartPolicy") == "Always", status.get("state") or {}
    what = f"{'sidecar' if sidecar else 'init container'} {spec['name']} ({number})"
    if waiting := state.get("waiting"):
        return "" if waiting.get("reason") == _HIS_TURN else _say_waiting(what, status, waiting, vpod)
    if running := state.get("running"):
        if sidecar:
            return "" if status.get("started") is not False else f"{what} to have started: its startup probe has not succeeded"
        return f"{what} to finish: it has run since {running.get('startedAt')}"
    ended = state.get("terminated")
    if not ended or (ended.get("exitCode") == 0 and not sidecar):
        return ""
    return f"{what} to run again: {_end(status, ended, vpod, previous=False)}"


def _of_container(status: Json, vpod: ObjectKey) -> str:
    state, what = status.get("state") or {}, f"container {status['name']}"
    if waiting := state.get("waiting"):
        return _say_waiting(what, status, waiting, vpod)
    if ended := state.get("terminated"):
        return f"{what}, which has ended: {_end(status, ended, vpod, previous=False)}"
    if (running := state.get("running")) and status.get("ready") is False:
        probe = "startup" if status.get("started") is False else "readiness"
        return f"{what} to be ready: it has run since {running.get('startedAt')}, its {probe} probe has not succeeded"
    return ""


def _say_waiting(what: str, status: Json, waiting: Json, vpod: ObjectKey) -> str:
    reason = waiting.get("reason") or "the kubelet does not say why"
    said = f"{what}: {': '.join(filter(None, (reason, waiting.get('message'))))}"
    return "; ".join([said, *_remedies(status, reason, vpod)])


def _remedies(status: Json, reason: str, vpod: ObjectKey) -> Iterator[str]:
    if reason in _PULLING:
        yield f"image {status.get('image') or 'unknown'}: {_PULLED_BELOW}"
    if last := (status.get("lastState") or {}).get("terminated"):
        yield f"it last ended with {_end(status, last, vpod, previous=True)}"


def _end(status: Json, ended: Json, vpod: ObjectKey, *, previous: bool) -> str:
    why = f"{ended.get('reason') or 'no reason'}, exit code {ended.get('exitCode')}"
    flag = " --previous" if previous else ""
    return f"{why}{restarts_of(status)}: `kubectl -n {vpod.namespace} logs {vpod.name} -c {status['name']}{flag}`"
