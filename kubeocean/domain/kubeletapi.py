"""What a kubelet is asked about one Pod, and the same question as the physical API server takes it.

kube-apiserver turns `kubectl logs`, `exec`, `attach` and `port-forward` into requests to the kubelet port of the Pod's node.
A virtual node's kubelet is our proxier; it asks the physical API server, for the Pod's twin:

    GET  /containerLogs/{namespace}/{pod}/{container}           pods/{twin}/log
    POST /exec/{namespace}/{pod}[/{uid}]/{container}            pods/{twin}/exec
    POST /attach/{namespace}/{pod}[/{uid}]/{container}          pods/{twin}/attach
    POST /portForward/{namespace}/{pod}[/{uid}]                 pods/{twin}/portforward

Nothing is passed on that is not understood: names are checked by Kubernetes' own rules (so neither `..` nor an encoded slash
means anything), and of the query only what stands in a table here goes on, under the name the API server knows.
Source: kubelet's server.go (paths), remotecommand's constants (query), PodLogOptions and PodExecOptions (API).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import unquote, urlencode


class Action(StrEnum):
    """What is asked; the value is the first word of the path."""

    LOGS = "containerLogs"
    EXEC = "exec"
    ATTACH = "attach"
    PORT_FORWARD = "portForward"


SUBRESOURCES: Final = {Action.LOGS: "log", Action.EXEC: "exec", Action.ATTACH: "attach", Action.PORT_FORWARD: "portforward"}
UPGRADED: Final = frozenset({Action.EXEC, Action.ATTACH, Action.PORT_FORWARD})

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_UID: Final = re.compile(r"[0-9a-zA-Z]([-0-9a-zA-Z]{0,62}[0-9a-zA-Z])?")
_LONGEST_NAME: Final = 253

_STREAMS: Final = {"input": "stdin", "output": "stdout", "error": "stderr", "tty": "tty"}
# Of the kubelet's query, by action: its name there -> its name here.
_QUERY: Final[dict[Action, dict[str, str]]] = {
    Action.LOGS: {
        name: name for name in (
            "follow", "previous", "timestamps", "sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream",
        )
    },
    Action.EXEC: {**_STREAMS, "command": "command"},
    Action.ATTACH: _STREAMS,
    Action.PORT_FORWARD: {"port": "ports"},
}
_FLAGS: Final = frozenset(_STREAMS)  # the kubelet is told "1", an API server "true"


class BadPath(ValueError):
    """A path that begins like one of ours and is none."""


@dataclass(frozen=True, slots=True)
class PodRequest:
    """One question about one virtual Pod; `uid` and, for port-forward, `container` are "" when the path names none."""

    action: Action
    namespace: str
    pod: str
    uid: str = ""
    container: str = ""


def parse_pod_request(raw_path: str) -> PodRequest | None:
    """Read the still encoded path of a request; None when it is about no Pod. Raises BadPath."""
    first, *parts = raw_path.removeprefix("/").split("/")
    if first not in tuple(Action):
        return None
    action = Action(first)
    names = [unquote(part) for part in parts]
    expected = {Action.LOGS: (3,), Action.PORT_FORWARD: (2, 3)}.get(action, (3, 4))
    if len(names) not in expected:
        raise BadPath(f"/{first} wants {' or '.join(map(str, expected))} names after it, not {len(names)}")
    container = "" if action is Action.PORT_FORWARD else names.pop()
    namespace, pod, *rest = names
    uid = rest[0] if rest else ""
    _check(namespace, _LABEL, "namespace")
    _check(pod, _SUBDOMAIN, "Pod")
    if rest:
        _check(uid, _UID, "uid")
    if action is not Action.PORT_FORWARD:
        _check(container, _LABEL, "container")
    return PodRequest(action, namespace, pod, uid, container)


def _check(name: str, rule: re.Pattern[str], what: str) -> None:
    if len(name) > _LONGEST_NAME or not rule.fullmatch(name):
        raise BadPath(f"{what} name {name[:80]!r} is none")


def build_physical_target(request: PodRequest, query: Iterable[tuple[str, str]], namespace: str, name: str) -> str:
    """Return path and query, encoded, that put `request` to the physical API server about the twin `namespace/name`."""
    known = _QUERY[request.action]
    passed = [(known[key], "true" if key in _FLAGS and value == "1" else value) for key, value in query if key in known]
    if request.container:
        passed.append(("container", request.container))
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/{SUBRESOURCES[request.action]}"
    return f"{path}?{urlencode(passed)}" if passed else path


@dataclass(frozen=True, slots=True)
class Access:
    """What a caller must be allowed to do to the virtual node: one of `subresources` of nodes, tried in order."""

    verb: str
    subresources: tuple[str, ...]


_VERBS: Final = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_SUBRESOURCE_OF: Final = {"stats": "stats", "metrics": "metrics", "logs": "log", "pods": "pods", "runningpods": "pods"}


def access_needed(method: str, raw_path: str) -> Access:
    """Return what a kubelet would ask the API server about a caller.

    Source: kubelet's auth.go (KubeletFineGrainedAuthz). Stricter in one thing: whoever reaches into a container must be
    allowed to *create*, whatever method opens the stream, so that a right to read is never one to run commands.
    """
    first = raw_path.removeprefix("/").partition("/")[0]
    if first in UPGRADED or first == "run":
        return Access("create", ("proxy",))
    verb = _VERBS.get(method, "create")
    if first in ("healthz", "pods", "runningpods"):
        return Access(verb, ("healthz" if first == "healthz" else "pods", "proxy"))
    return Access(verb, (_SUBRESOURCE_OF.get(first, "proxy"),))
