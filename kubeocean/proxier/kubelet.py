"""The kubelet API of one process's virtual nodes: from a request on a node's port to an answer.

Every request passes the gate first (who, and may he do this to this node), whatever it asks for. Then:

    logs, exec, attach, port-forward     about one Pod: its twin is found by uid and asked through the physical API server
    pods, runningpods, stats, metrics    about the node: answered by `NodeFigures` and from our caches
    healthz                              "ok"

Answers are the far side's own where there is one. Where a kubelet answers in plain words (logs), so do we, with the names
the user knows; where kube-apiserver hands the answer through (streams), it goes back byte for byte.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, Protocol

import structlog
from aiohttp import web

from kubeocean.domain.kubeletapi import (
    Action,
    BadPath,
    PodRequest,
    access_needed,
    build_physical_target,
    parse_pod_request,
)
from kubeocean.kube import codec
from kubeocean.kube.errors import KubeError
from kubeocean.kube.meta import ObjectKey
from kubeocean.proxier.callers import Caller, Denied, Gate, Unauthenticated
from kubeocean.proxier.sessions import Sessions, TooManySessions
from kubeocean.proxier.side import PhysicalSide
from kubeocean.proxier.tunnel import Traffic, join, take_over
from kubeocean.proxier.twins import NoTwin, VirtualPods
from kubeocean.proxier.upstream import open_upstream

_LONGEST_REFUSAL: Final = 2**16
_CHUNK: Final = 2**16

log = structlog.get_logger(__name__)

NodePage = Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]


class Sides(Protocol):
    """Finds what stands behind a virtual node."""

    def side_of(self, vnode: str) -> PhysicalSide | None:
        """Return the physical cluster behind a virtual node; None while it cannot be asked."""


class KubeletApi:
    """Answers for every virtual node of the process; `pages` are the paths about nodes rather than Pods."""

    def __init__(
        self, sides: Sides, pods: VirtualPods, gate: Gate, sessions: Sessions, pages: Mapping[str, NodePage]
    ) -> None:
        self._sides, self._pods, self._gate, self._sessions = sides, pods, gate, sessions
        self._pages = pages

    async def handle(self, request: web.BaseRequest, vnode: str) -> web.StreamResponse:
        """Answer one request that came in on the port of `vnode`."""
        try:
            caller = await self._gate.admit(request, access_needed(request.method, request.rel_url.raw_path), vnode)
            return await self._answer(request, vnode, caller)
        except Unauthenticated as error:
            return _words(401, error, {"WWW-Authenticate": "Bearer"})
        except Denied as error:
            return _words(403, error)
        except BadPath as error:
            return _words(400, error)
        except NoTwin as error:
            return _words(404, error)
        except TooManySessions as error:
            return _words(429, error, {"Retry-After": "1"})
        except KubeError as error:
            log.warning("kubelet API", node=vnode, path=request.rel_url.raw_path[:200], error=str(error))
            return _words(503, error)

    async def _answer(self, request: web.BaseRequest, vnode: str, caller: Caller) -> web.StreamResponse:
        path = request.rel_url.raw_path
        pod = parse_pod_request(path)
        if pod is None:
            page = self._pages.get(path.rstrip("/"))
            return await page(request, vnode) if page else _words(404, f"{path[:80]} is not served for virtual nodes")
        side = self._sides.side_of(vnode)
        if side is None:
            return _words(503, f"the physical cluster behind {vnode} does not answer")
        key = ObjectKey(pod.namespace, pod.pod)
        twin = side.twins.of(key, self._pods.uid_on(vnode, pod))
        target = build_physical_target(pod, list(request.rel_url.query.items()), twin.namespace, twin.name)
        what = {"pod": str(key), "container": pod.container, "command": request.rel_url.query.get("command", "")[:64]}
        if pod.action is not Action.LOGS:
            return await self._relay_stream(request, side, pod, target, caller, what)
        async with self._sessions.session(caller, side.binding, "logs", **what) as traffic:
            return await _relay_logs(request, side, target, traffic, (twin.name, pod.pod))

    async def _relay_stream(
        self, request: web.BaseRequest, side: PhysicalSide, pod: PodRequest, target: str, caller: Caller, what: dict[str, str]
    ) -> web.StreamResponse:
        if "upgrade" not in request.headers.get("Connection", "").lower() or request.method not in ("GET", "POST"):
            return _words(400, "this needs a connection that switches protocols (SPDY/3.1 or WebSocket)")
        self._sessions.check(caller, side.binding)
        upstream = await open_upstream(
            side.config, request.method, target, request.headers, cluster=side.binding, user_agent=side.user_agent
        )
        if not upstream.switched:
            headers = {"Content-Type": upstream.content_type or "text/plain"}
            return web.Response(status=upstream.status, body=upstream.body, headers=headers)
        try:
            taken = take_over(request)
        except ConnectionResetError:
            upstream.writer.transport.abort()
            raise
        # No await between here and the return: what aiohttp would still write has nowhere to go.
        action = pod.action.name.lower()
        self._sessions.start(caller, side.binding, action, lambda traffic: join(taken, upstream, traffic), **what)
        return web.Response()


async def _relay_logs(
    request: web.BaseRequest, side: PhysicalSide, target: str, traffic: Traffic, rename: tuple[str, str]
) -> web.StreamResponse:
    if request.method not in ("GET", "HEAD"):
        return _words(405, "logs are read with GET")
    async with side.get(target) as answer:
        if answer.status != 200:
            # Not a newline more: the API server puts these words before the user as they are.
            text = _message(await answer.content.read(_LONGEST_REFUSAL)).replace(*rename)
            return web.Response(status=answer.status, text=text)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        with suppress(ConnectionError):  # the caller has seen enough
            while chunk := await answer.content.readany():
                traffic.sent += len(chunk)
                await response.write(chunk)
            await response.write_eof()
        return response


def _message(body: bytes) -> str:
    """Return the words of a refusal: of a Status its message."""
    with suppress(ValueError):
        status = codec.decode(body)
        if isinstance(message := status.get("message"), str):
            return message
    return body.decode("utf-8", "replace")


def _words(status: int, what: object, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=f"{what}\n", headers=headers)


async def answer_healthz(_: web.BaseRequest, __: str) -> web.StreamResponse:
    """Answer /healthz of a node: whoever hears this has reached its kubelet API."""
    return web.Response(text="ok")
