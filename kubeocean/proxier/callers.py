"""Who is calling, and may he? As a kubelet asks it.

Authentication: a client certificate of the virtual cluster's CA (the TLS handshake has verified it; CN is the user, O are
the groups), or a bearer token that the virtual API server knows (TokenReview: metrics-server, Prometheus). Nobody is
anonymous. Authorisation: the virtual API server is asked (SubjectAccessReview) whether the user may do this to the virtual
node; yes and no are remembered for moments, as long as a kubelet does by default (yes 5 minutes, no 30 s, a token 2 minutes),
so that a keystroke-like series of requests costs one review. What cannot be decided is denied.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic
from typing import Final, Generic, TypeVar

from aiohttp import web

from kubeocean.domain.kubeletapi import Access
from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import SUBJECTACCESSREVIEWS, TOKENREVIEWS

TOKEN_GOOD_FOR: Final = 120.0  # seconds
ALLOWED_FOR: Final = 300.0  # seconds
DENIED_FOR: Final = 30.0  # seconds
_MOST_REMEMBERED: Final = 1024
_LONGEST_TOKEN: Final = 2**14

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated user, as a SubjectAccessReview takes one."""

    user: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Unauthenticated(Exception):
    """Nobody knows the caller."""


class Denied(Exception):
    """The caller is known and may not; the message says what he lacks."""


class Gate:
    """Authenticates and authorises callers by the virtual API server."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._tokens: _Memory[Caller | None] = _Memory()
        self._access: _Memory[bool] = _Memory()

    async def admit(self, request: web.BaseRequest, access: Access, vnode: str) -> Caller:
        """Return who is calling, if he may have `access` to `vnode`. Raises Unauthenticated or Denied, or a KubeError."""
        caller = _by_certificate(request) or await self._by_token(request)
        if caller is None:
            raise Unauthenticated("show a client certificate of the virtual cluster's CA, or a token it knows")
        for subresource in access.subresources:
            if await self._may(caller, access.verb, subresource, vnode):
                return caller
        wanted = " or ".join(f"nodes/{subresource}" for subresource in access.subresources)
        raise Denied(f"user {caller.user!r} may not {access.verb} {wanted} of node {vnode!r}")

    async def _by_token(self, request: web.BaseRequest) -> Caller | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not 0 < len(token) <= _LONGEST_TOKEN:
            return None
        digest = sha256(token.encode()).digest()  # the token itself is not kept
        if (known := self._tokens.get(digest)) is not None:
            return known[0]
        answer = await self._client.create(TOKENREVIEWS, _review(TOKENREVIEWS.api_version, "TokenReview", {"token": token}))
        status = answer.get("status") or {}
        caller = _caller_of(status.get("user") or {}) if status.get("authenticated") else None
        self._tokens.put(digest, caller, TOKEN_GOOD_FOR if caller else DENIED_FOR)
        return caller

    async def _may(self, caller: Caller, verb: str, subresource: str, vnode: str) -> bool:
        question = (caller, verb, subresource, vnode)
        if (known := self._access.get(question)) is not None:
            return known[0]
        attributes = {"verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource, "name": vnode}
        spec: Json = {
            "user": caller.user, "uid": caller.uid, "groups": list(caller.groups),
            "extra": {key: list(values) for key, values in caller.extra}, "resourceAttributes": attributes,
        }
        answer = await self._client.create(
            SUBJECTACCESSREVIEWS, _review(SUBJECTACCESSREVIEWS.api_version, "SubjectAccessReview", spec)
        )
        allowed = bool((answer.get("status") or {}).get("allowed"))
        self._access.put(question, allowed, ALLOWED_FOR if allowed else DENIED_FOR)
        return allowed


def _by_certificate(request: web.BaseRequest) -> Caller | None:
    certificate = request.transport.get_extra_info("peercert") if request.transport else None
    if not certificate:
        return None
    fields = [(key, value) for name in certificate.get("subject", ()) for key, value in name]
    user = next((value for key, value in fields if key == "commonName"), "")
    groups = tuple(value for key, value in fields if key == "organizationName")
    # As x509.CommonNameUserConversion: without a name nobody. Every authenticated user is in this group.
    return Caller(user, groups=(*groups, "system:authenticated")) if user else None


def _caller_of(user: Json) -> Caller:
    extra = tuple((key, tuple(values)) for key, values in sorted((user.get("extra") or {}).items()))
    return Caller(user.get("username", ""), user.get("uid", ""), tuple(user.get("groups") or ()), extra)


def _review(api_version: str, kind: str, spec: Json) -> Json:
    return {"apiVersion": api_version, "kind": kind, "metadata": {}, "spec": spec}


class _Memory(Generic[V]):
    """A few answers, each good for a while."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._kept: OrderedDict[Hashable, tuple[V, float]] = OrderedDict()
        self._clock = clock

    def get(self, question: Hashable) -> tuple[V] | None:
        """Return the answer in a tuple of its own, None when there is none that is still good."""
        known = self._kept.get(question)
        return (known[0],) if known and known[1] > self._clock() else None

    def put(self, question: Hashable, answer: V, good_for: float) -> None:
        self._kept[question] = (answer, self._clock() + good_for)
        self._kept.move_to_end(question)
        while len(self._kept) > _MOST_REMEMBERED:
            self._kept.popitem(last=False)
