"""The kubelet API of one process's virtual nodes: from a request on a node's port to an answer.

Every request passes the gate first (who, and may he do this to this node), whatever it asks for. Then:

    logs, exec, attach, port-forward     about one Pod: its twin is found by uid and asked through the physical API server
    pods, runningpods, stats, metrics    about the node: answered by `NodeFigures`
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
from kubeocean.kube.client import Client
from kubeocean.kube.errors import KubeError
from kubeocean.kube.meta import ObjectKey
from kubeocean.proxier.callers import Caller, Denied, Gate, Unauthenticated
from kubeocean.proxier.metrics import REFUSALS
from kubeocean.proxier.sessions import Session, Sessions, TooManySessions
from kubeocean.proxier.side import PhysicalSide
from kubeocean.proxier.tunnel import join, take_over
from kubeocean.proxier.twins import NoTwin, find_uid
from kubeocean.proxier.upstream import Upstream, open_upstream

_LONGEST_REFUSAL: Final = 2**16
_CHUNK: Final = 2**16

log = structlog.get_logger(__name__)

_REFUSALS: Final[dict[type[Exception], tuple[int, dict[str, str]]]] = {
    Unauthenticated: (401, {"WWW-Authenticate": "Bearer"}),
    Denied: (403, {}),
    BadPath: (400, {}),
    NoTwin: (404, {}),
    TooManySessions: (429, {"Retry-After": "1"}),
}

NodePage = Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]


class Sides(Protocol):
    """Finds what stands behind a virtual node."""

    def side_of(self, vnode: str) -> PhysicalSide | None:
        """Return the physical cluster behind a virtual node; None while it cannot be asked."""


class KubeletApi:
    """Answers for every virtual node of the process; `pages` are the paths about nodes rather than Pods."""

    def __init__(
        self, sides: Sides, virtual: Client, gate: Gate, sessions: Sessions, pages: Mapping[str, NodePage]
    ) -> None:
        self._sides, self._virtual, self._gate, self._sessions = sides, virtual, gate, sessions
        self._pages = pages

    async def handle(self, request: web.BaseRequest, vnode: str) -> web.StreamResponse:
        """Answer one request that came in on the port of `vnode`."""
        try:
            return await self._admit_and_answer(request, vnode)
        except tuple(_REFUSALS) as error:
            status, headers = _REFUSALS[type(error)]
            REFUSALS.labels(str(status)).inc()
            log.info("refused", node=vnode, path=request.rel_url.raw_path[:200], status=status, why=str(error))
            return _words(status, error, headers)
        except KubeError as error:
            REFUSALS.labels("503").inc()
            log.warning("kubelet API", node=vnode, path=request.rel_url.raw_path[:200], error=str(error))
            return _words(503, error)

    async def _admit_and_answer(self, request: web.BaseRequest, vnode: str) -> web.StreamResponse:
        caller = await self._gate.admit(request, access_needed(request.method, request.rel_url.raw_path), vnode)
        return await self._answer(request, vnode, caller)

    async def _answer(self, request: web.BaseRequest, vnode: str, caller: Caller) -> web.StreamResponse:
        path = request.rel_url.raw_path
        pod = parse_pod_request(path)
        if pod is None:
            page = self._pages.get(path.rstrip("/"))
            return await page(request, vnode) if page else _words(404, f"{path[:80]} is not served for virtual nodes")
        side = self._sides.side_of(vnode)
        if side is None:
            REFUSALS.labels("503").inc()
            return _words(503, f"the physical cluster behind {vnode} does not answer")
        key = ObjectKey(pod.namespace, pod.pod)
        command = request.rel_url.query.get("command", "").split()
        session = self._sessions.open(
            caller, side.binding, pod.action.name.lower(), pod=str(key), container=pod.container,
            command=command[0][:64] if command else "",
        )
        with self._sessions.hold(session):
            twin = await self._find(side, vnode, pod, session)
            target = build_physical_target(pod, list(request.rel_url.query.items()), twin.namespace, twin.name)
            if pod.action is Action.LOGS:
                return await _relay_logs(request, side, target, session, (twin.name, pod.pod))
            if (stream := await _open_stream(request, side, target)).status != 101:
                self._sessions.close(session, f"refused: {stream.status}")
                headers = {"Content-Type": stream.content_type or "text/plain"}
                return web.Response(status=stream.status, body=stream.body, headers=headers)
            # No await between here and the return: what aiohttp would still write has nowhere to go.
            return self._carry_on(request, stream, session)

    async def _find(self, side: PhysicalSide, vnode: str, pod: PodRequest, session: Session) -> ObjectKey:
        """Return who answers for a Pod. Raises NoTwin, or a KubeError; nobody has been dialled then."""
        try:
            return await side.twins.of(ObjectKey(pod.namespace, pod.pod), await find_uid(self._virtual, vnode, pod))
        except NoTwin:
            self._sessions.close(session, "refused: 404")
            raise

    def _carry_on(self, request: web.BaseRequest, upstream: Upstream, session: Session) -> web.StreamResponse:
        try:
            taken = take_over(request)
        except ConnectionResetError:
            upstream.writer.transport.abort()
            raise

        def abandon() -> None:
            for writer in (taken.writer, upstream.writer):
                writer.transport.abort()

        self._sessions.start(session, lambda: join(taken, upstream, session.traffic), abandon)
        return web.Response()


async def _open_stream(request: web.BaseRequest, side: PhysicalSide, target: str) -> Upstream:
    if "upgrade" not in request.headers.get("Connection", "").lower() or request.method not in ("GET", "POST"):
        raise BadPath("this needs a connection that switches protocols (SPDY/3.1 or WebSocket)")
    return await open_upstream(
        side.config, request.method, target, request.headers, cluster=side.binding, user_agent=side.user_agent
    )


async def _relay_logs(
    request: web.BaseRequest, side: PhysicalSide, target: str, session: Session, rename: tuple[str, str]
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
                session.traffic.note_sent(len(chunk))
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
