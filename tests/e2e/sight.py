"""What was seen of a workload, brought into a form in which two runs can be compared.

A container prints reports (`toolbox report`: one line of JSON each) and other lines. A Pod has a status. Both hold what
differs between any two runs, wherever they happen: addresses, uids, times, generated names, tokens. That is replaced by
what kind of thing it is; everything else must be the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from kubeocean.kube.meta import Json, controller_of, labels_of, name_of

_UNLIKE: Final = (
    (re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+"), "<token>"),
    (re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?"), "<certificate>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<uid>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<id>"),
    (re.compile(r'(?<="resourceVersion":)"\d+"'), '"<revision>"'),
    (re.compile(r"\b\d{4}_\d\d_\d\d_\d\d_\d\d_\d\d\.\d+"), "<time>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
    (re.compile(r"\b(?!127\.0\.0\.1\b)\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b"), "<ip>"),
)
_API_NAMES: Final = (
    "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
)
_LISTS: Final = {"container": "containerStatuses", "init": "initContainerStatuses", "ephemeral": "ephemeralContainerStatuses"}
_MIRRORED: Final = (*_LISTS.values(), "phase", "reason", "message", "podIP", "podIPs", "hostIP", "startTime", "qosClass")
_SAID: Final = ("reason", "message", "exitCode", "signal")
_SCHEDULERS: Final = "PodScheduled"  # not what runs the Pod has set it, but a scheduler
_FADING: Final = "PodReadyToStartContainers"  # turns False some moment after a Pod's end


def read_log(text: str) -> Json:
    """Return {"reports": {label: report}, "prints": [other lines]} of a container's log."""
    reports: dict[str, Json] = {}
    prints: list[str] = []
    for line in text.splitlines():
        try:
            report = json.loads(line)
        except ValueError:
            prints.append(line)
            continue
        if isinstance(report, dict) and "label" in report and "hostname" in report:
            label = report.pop("label")
            reports[label] = report | {
                "hosts": [line for line in report.get("hosts", ()) if not _ours(line)],
                "resolv": [_in_order(line) for line in report.get("resolv", ())],
            }
        else:
            prints.append(line)
    return {"reports": reports, "prints": prints}


def _ours(line: str) -> bool:
    """Tell whether a line of /etc/hosts is one that twins have more: the names of the API server, with its heading."""
    return not line or line.startswith("#") or line.split()[1:] == list(_API_NAMES)


def _in_order(line: str) -> str:
    """Return a line of resolv.conf; a kubelet writes options in any order."""
    first, *rest = line.split()
    return " ".join([first, *sorted(rest)]) if first == "options" else line


def status_of(pod: Json) -> Json:
    """Return what a Pod's status says, without what differs by nature and what depends on the moment."""
    status = pod.get("status") or {}
    conditions = status.get("conditions") or ()
    return {
        **{field: status[field] for field in ("phase", "reason", "message", "qosClass") if status.get(field)},
        "conditions": {
            each["type"]: {key: each[key] for key in ("status", "reason", "message") if each.get(key)}
            for each in conditions if each["type"] not in (_SCHEDULERS, _FADING)
        },
        "containers": {
            each["name"]: {"kind": kind, **_container(each)}
            for kind, field in _LISTS.items() for each in status.get(field) or ()
        },
    }


def _container(status: Json) -> Json:
    seen: Json = {"ready": status["ready"], "restarted": status["restartCount"] > 0, "image": status["image"]}
    if "started" in status:
        seen["started"] = status["started"]
    for field, name in (("state", "state"), ("lastState", "last")):
        for kind, details in (status.get(field) or {}).items():
            seen[name] = {"is": kind, **{key: details[key] for key in _SAID if details.get(key) not in (None, "")}}
    for field in ("resources", "allocatedResources", "user"):
        if field in status:
            seen[field] = status[field]
    return seen


def has_reached(pod: Json, ends: str) -> bool:
    status = pod.get("status") or {}
    every = [each for field in _LISTS.values() for each in status.get(field) or ()]
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ())
    what, _, reason = ends.partition(" ")
    match what:
        case "Ready":
            return ready
        case "Restarted":
            return any(each["restartCount"] > 0 and "running" in each["state"] for each in every)
        case "Waiting":
            return any((each["state"].get("waiting") or {}).get("reason") == reason for each in every)
    # A kubelet tells the phase of a Pod that has outlived its deadline before it has stopped the containers.
    over = what not in ("Failed", "Succeeded") or not any("running" in each["state"] for each in every)
    return bool(status.get("phase") == what) and over


def check_mirrored(pod: Json, twin: Json) -> None:
    """Raise AssertionError unless a virtual Pod says what its twin says, but for what is not the twin's to say."""
    mine, theirs = pod.get("status") or {}, twin.get("status") or {}
    for field in _MIRRORED:
        one, other = mine.get(field), theirs.get(field)
        assert one == other, f"{name_of(pod)}: {field} is {one}, the twin's {other}"
    gates = {gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()}
    left_alone = {_SCHEDULERS, *gates} | ({"Ready"} if gates else set())
    one, other = (
        {each["type"]: (each["status"], each.get("reason"), each.get("message")) for each in status.get("conditions") or ()
         if each["type"] not in left_alone} for status in (mine, theirs)
    )
    assert one == other, f"{name_of(pod)}: conditions {one}, the twin's {other}"


def canonical_names(pods: Iterable[Json]) -> dict[str, str]:
    """Return for each Pod name what to call it in both runs: generated names are counted instead."""
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    for pod in sorted(pods, key=_age):
        owner = controller_of(pod)
        if owner is None or owner["kind"] == "StatefulSet":
            names[name_of(pod)] = name_of(pod)
            continue
        base = _workload_of(pod, owner)
        names[name_of(pod)] = f"{base}[{counts.setdefault(base, 0)}]"
        counts[base] += 1
    return names


def _age(pod: Json) -> tuple[str, str, str]:
    index = labels_of(pod).get("batch.kubernetes.io/job-completion-index", "")
    return index, pod["metadata"]["creationTimestamp"], name_of(pod)


def _workload_of(pod: Json, owner: Json) -> str:
    hashed: str | None = labels_of(pod).get("pod-template-hash")
    name: str = owner["name"]
    return name.removesuffix(f"-{hashed}") if hashed else name


def normaliser(words: Mapping[str, str]) -> Callable[[Any], Any]:
    """Return a function that replaces `words` (longest first) and all that differs by nature, in any JSON value."""
    ordered = sorted((word for word in words.items() if word[0]), key=lambda word: -len(word[0]))

    def of_text(text: str) -> str:
        for word, instead in ordered:
            text = text.replace(word, instead)
        for pattern, instead in _UNLIKE:
            text = pattern.sub(instead, text)
        return text

    def of_any(value: Any) -> Any:
        if isinstance(value, str):
            return of_text(value)
        if isinstance(value, list):
            return [of_any(each) for each in value]
        if isinstance(value, dict):
            return {of_text(key): of_any(each) for key, each in value.items()}
        return value

    return of_any
