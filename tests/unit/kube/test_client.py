"""The client against a small HTTP server that answers what the test tells it, faults included."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import orjson
import pytest
import tenacity
from aiohttp import web
from prometheus_client import REGISTRY

from kubeocean.kube import retry, transport
from kubeocean.kube.client import Client, PatchType
from kubeocean.kube.config import ServerConfig
from kubeocean.kube.credentials import static_credentials
from kubeocean.kube.errors import (
    AlreadyExists,
    ApiError,
    BadRequest,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    KubeError,
    NotFound,
    NotLeading,
    ServerError,
    TooManyRequests,
    Unauthorized,
    Unreachable,
)
from kubeocean.kube.meta import Json
from kubeocean.kube.metadataonly import MetadataOnly
from kubeocean.kube.resources import NODES, PODS, SELFSUBJECTACCESSREVIEWS, SERVICEACCOUNTS

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Server:
    """Answers with the scripted answers in turn (then `{}` for ever) and remembers what it was asked."""

    url: str = ""
    script: deque[Answer] = field(default_factory=deque)
    asked: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        self.reached.set()
        self.bodies.append(await request.read())
        answer = self.script.popleft() if self.script else ok({})
        return await answer(request)

    @property
    def lines(self) -> list[str]:
        return [f"{request.method} {request.path_qs}" for request in self.asked]

    def body(self) -> Json:
        return dict(orjson.loads(self.bodies[-1]))


def ok(obj: object, status: int = 200) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, body=orjson.dumps(obj), content_type="application/json")

    return answer


def failure(
    status: int, reason: str = "", message: str = "no", headers: dict[str, str] | None = None, **details: object
) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        body = {"kind": "Status", "reason": reason, "message": message, "code": status, "details": details}
        return web.Response(status=status, body=orjson.dumps(body), headers=headers, content_type="application/json")

    return answer


def plain(status: int, text: str, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=text, headers=headers)

    return answer


async def reset(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def hang(request: web.Request) -> web.Response:
    await asyncio.sleep(5)
    return web.Response()


async def half_a_body(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"kind":')
    assert request.transport is not None
    request.transport.abort()
    return response


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_BACKOFF", tenacity.wait_none())


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with Client(ServerConfig(server.url), cluster="east", user_agent="kubeocean-test") as client:
        yield client


# --- verbs -----------------------------------------------------------------------------------------------------------

VERBS: dict[str, tuple[Callable[[Client], Awaitable[object]], str]] = {
    "a namespaced object": (lambda c: c.get(PODS, "web-0", "default"), "GET /api/v1/namespaces/default/pods/web-0"),
    "a cluster-scoped object": (lambda c: c.get(NODES, "n1"), "GET /api/v1/nodes/n1"),
    "a subresource": (lambda c: c.get(PODS, "a", "b", subresource="status"), "GET /api/v1/namespaces/b/pods/a/status"),
    "a name that needs quoting": (lambda c: c.get(NODES, "a/b%"), "GET /api/v1/nodes/a%2Fb%25"),
    "a list of all namespaces": (lambda c: c.list(PODS), "GET /api/v1/pods?limit=500"),
    "a list with selectors": (
        lambda c: c.list(PODS, "x", label_selector="a=b,c", field_selector="spec.nodeName=n", limit=7),
        "GET /api/v1/namespaces/x/pods?limit=7&labelSelector=a%3Db%2Cc&fieldSelector=spec.nodeName%3Dn",
    ),
    "a list from the server's own cache": (
        lambda c: c.list(PODS, field_selector="spec.nodeName=n", cached=True),
        "GET /api/v1/pods?limit=500&fieldSelector=spec.nodeName%3Dn&resourceVersion=0",
    ),
    "a creation": (
        lambda c: c.create(PODS, {"metadata": {"name": "a", "namespace": "b"}}), "POST /api/v1/namespaces/b/pods",
    ),
    "a dry run": (lambda c: c.create(NODES, {"metadata": {}}, dry_run=True), "POST /api/v1/nodes?dryRun=All"),
    "a creation without metadata": (
        lambda c: c.create(SELFSUBJECTACCESSREVIEWS, {"spec": {}}),
        "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    ),
    "a token request": (
        lambda c: c.create(SERVICEACCOUNTS, {"spec": {}}, subresource="token", name="sa", namespace="b"),
        "POST /api/v1/namespaces/b/serviceaccounts/sa/token",
    ),
    "an update": (
        lambda c: c.update(PODS, {"metadata": {"name": "a", "namespace": "b"}}, subresource="status"),
        "PUT /api/v1/namespaces/b/pods/a/status",
    ),
    "a dry run of a patch": (
        lambda c: c.patch(PODS, "a", "b", {}, dry_run=True), "PATCH /api/v1/namespaces/b/pods/a?dryRun=All",
    ),
    "a patch": (lambda c: c.patch(PODS, "a", "b", {"metadata": {}}), "PATCH /api/v1/namespaces/b/pods/a"),
    "server-side apply": (
        lambda c: c.patch(NODES, "a", "", {}, kind=PatchType.APPLY, field_manager="me", force=True),
        "PATCH /api/v1/nodes/a?fieldManager=me&force=true",
    ),
    "a deletion": (lambda c: c.delete(PODS, "a", "b", uid="u"), "DELETE /api/v1/namespaces/b/pods/a"),
    "the version": (lambda c: c.server_version(), "GET /version"),
    "anything else": (lambda c: c.raw("GET", "/readyz", params={"verbose": "true"}), "GET /readyz?verbose=true"),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_a_verb_asks_for_the_right_path(verb: str, server: Server, client: Client) -> None:
    call, line = VERBS[verb]
    await call(client)
    assert server.lines == [line]


async def test_a_server_below_a_path_keeps_its_path(server: Server) -> None:
    async with Client(ServerConfig(server.url + "/k8s/clusters/c-1"), cluster="east") as client:
        await client.get(NODES, "n1")
    assert server.lines == ["GET /k8s/clusters/c-1/api/v1/nodes/n1"]


NAMELESS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "an empty name": lambda c: c.delete(PODS, "", "default", uid="u"),
    "a namespaced object without namespace": lambda c: c.get(PODS, "web-0"),
    "a creation without namespace": lambda c: c.create(PODS, {"metadata": {"name": "a"}}),
    "a way out of the path": lambda c: c.get(PODS, "..", "default"),
    "a deletion without uid": lambda c: c.delete(PODS, "a", "b", uid=""),
    "a subresource of nothing": lambda c: c.create(SERVICEACCOUNTS, {}, subresource="token", namespace="b"),
}


@pytest.mark.parametrize("what", NAMELESS)
async def test_a_call_that_names_no_object_is_never_sent(what: str, server: Server, client: Client) -> None:
    with pytest.raises(ValueError, match=r"\w+ "):
        await NAMELESS[what](client)
    assert server.asked == []


@pytest.mark.parametrize("kind", PatchType)
async def test_a_patch_says_what_kind_it_is(kind: PatchType, server: Server, client: Client) -> None:
    await client.patch(NODES, "a", "", [{"op": "remove", "path": "/x"}], kind=kind, field_manager="me")
    assert server.asked[0].headers["Content-Type"] == kind.value


async def test_a_deletion_carries_its_preconditions_and_options(server: Server, client: Client) -> None:
    await client.delete(PODS, "a", "b", uid="u", resource_version="7", grace_seconds=0, propagation="Foreground")
    assert server.body() == {
        "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "u", "resourceVersion": "7"},
        "gracePeriodSeconds": 0, "propagationPolicy": "Foreground",
    }


async def test_we_say_who_we_are_and_take_no_cookies(server: Server, client: Client) -> None:
    async def with_cookie(request: web.Request) -> web.Response:
        return web.Response(body=b"{}", headers={"Set-Cookie": "a=b"})

    server.script += [with_cookie]
    await client.get(NODES, "n")
    await client.get(NODES, "n")
    headers = server.asked[1].headers
    assert (headers["User-Agent"], headers["Accept"], headers.get("Cookie"), headers.get("Authorization")) == (
        "kubeocean-test", "application/json", None, None,
    )


async def test_managed_fields_stay_at_the_door(server: Server, client: Client) -> None:
    pod = {"metadata": {"name": "a", "managedFields": [{}]}}
    server.script += [ok(pod), ok({"metadata": {}, "items": [pod]})]
    assert await client.get(PODS, "a", "b") == {"metadata": {"name": "a"}}
    assert (await client.list(PODS)).items == [{"metadata": {"name": "a"}, "apiVersion": "v1", "kind": "Pod"}]


# --- lists -----------------------------------------------------------------------------------------------------------


def page(*names: str, token: str = "", revision: str = "10") -> Answer:
    items = [{"metadata": {"name": name}} for name in names]
    return ok({"metadata": {"resourceVersion": revision, "continue": token}, "items": items})


def names(items: list[Json]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


async def test_a_list_follows_every_page(server: Server, client: Client) -> None:
    server.script += [page("a", "b", token="t/1="), page("c", token="t2"), page()]
    listing = await client.list(PODS, limit=2)
    assert (names(listing.items), listing.resource_version) == (["a", "b", "c"], "10")
    assert server.lines[1:] == ["GET /api/v1/pods?limit=2&continue=t%2F1%3D", "GET /api/v1/pods?limit=2&continue=t2"]


async def test_a_token_that_expires_between_pages_starts_the_list_over(server: Server, client: Client) -> None:
    server.script += [page("a", token="t"), failure(410, "Expired"), page("a", "b", revision="20")]
    listing = await client.list(PODS)
    assert (names(listing.items), listing.resource_version) == (["a", "b"], "20")


async def test_a_list_starts_over_only_once(server: Server, client: Client) -> None:
    server.script += [page("a", token="t"), failure(410, "Expired"), page("a", token="t"), failure(410, "Expired")]
    with pytest.raises(Gone):
        await client.list(PODS)


async def test_a_failed_page_fails_the_list(server: Server, client: Client) -> None:
    server.script += [page("a", token="t"), failure(403, "Forbidden")]
    with pytest.raises(Forbidden):
        await client.list(PODS)


async def test_an_empty_list_of_null_items_is_empty(server: Server, client: Client) -> None:
    server.script += [ok({"metadata": {"resourceVersion": "1"}, "items": None})]
    assert await client.list(PODS) == ([], "1")


async def test_the_deadline_of_a_list_covers_all_its_pages(server: Server, client: Client) -> None:
    server.script += [page("a", token="t"), hang]
    with pytest.raises(Unreachable, match="no answer within"):
        await client.list(PODS, deadline=0.05)


# --- what can go wrong -----------------------------------------------------------------------------------------------

ERRORS: dict[str, tuple[Answer, type[ApiError]]] = {
    "400": (failure(400, "BadRequest"), BadRequest),
    "401": (failure(401, "Unauthorized"), Unauthorized),
    "403": (failure(403, "Forbidden"), Forbidden),
    "404": (failure(404, "NotFound"), NotFound),
    "409": (failure(409, "Conflict"), Conflict),
    "409 because it exists": (failure(409, "AlreadyExists"), AlreadyExists),
    "410": (failure(410, "Expired"), Gone),
    "422": (failure(422, "Invalid"), Invalid),
    "500 after every attempt": (failure(500, "InternalError"), ServerError),
    "a redirect": (plain(302, "", Location="https://elsewhere.example/"), ApiError),
}


@pytest.mark.parametrize("case", ERRORS)
async def test_a_failure_has_its_class_and_explains_itself(case: str, server: Server, client: Client) -> None:
    answer, expected = ERRORS[case]
    server.script += [answer] * retry.ATTEMPTS
    with pytest.raises(expected, match=r"^east: GET /api/v1/nodes/n1: \d\d\d") as caught:
        await client.get(NODES, "n1")
    assert type(caught.value) is expected
    assert caught.value.cluster == "east"


async def test_a_redirect_never_carries_our_credentials_away(server: Server) -> None:
    server.script += [plain(307, "", Location=server.url + "/stolen")]
    config = ServerConfig(server.url, authorization=static_credentials({"token": "secret"}))
    async with Client(config, cluster="east") as client:
        with pytest.raises(ApiError, match="redirects are not followed"):
            await client.get(NODES, "n1")
    assert server.lines == ["GET /api/v1/nodes/n1"]


async def test_an_error_carries_what_the_server_said(server: Server, client: Client) -> None:
    server.script += [failure(422, "Invalid", "spec.x: must be y", name="n1", causes=[{"field": "spec.x"}])]
    with pytest.raises(Invalid, match=r"422 Invalid: spec\.x: must be y") as caught:
        await client.update(NODES, {"metadata": {"name": "n1"}})
    assert (caught.value.status, caught.value.reason, caught.value.details["name"]) == (422, "Invalid", "n1")


async def test_a_success_that_is_no_json_is_no_answer(server: Server, client: Client) -> None:
    server.script += [plain(200, "<html>log in</html>")]
    with pytest.raises(Unreachable, match="no JSON object"):
        await client.patch(NODES, "n1", "", {})


REPEATED: dict[str, Answer] = {
    "500": failure(500), "503": plain(503, "no backend"), "429": failure(429, "TooManyRequests"), "a reset": reset,
    "half a body": half_a_body,
}


@pytest.mark.parametrize("fault", REPEATED)
async def test_a_read_survives(fault: str, server: Server, client: Client) -> None:
    server.script += [REPEATED[fault], REPEATED[fault], ok({"metadata": {"name": "n1"}})]
    assert await client.get(NODES, "n1") == {"metadata": {"name": "n1"}}


WRITES: dict[str, Callable[[Client], Awaitable[object]]] = {
    "POST": lambda c: c.create(NODES, {"metadata": {"name": "n"}}),
    "PUT": lambda c: c.update(NODES, {"metadata": {"name": "n"}}),
    "PATCH": lambda c: c.patch(NODES, "n", "", {}),
    "DELETE": lambda c: c.delete(NODES, "n", uid="u"),
    "raw POST": lambda c: c.raw("POST", "/x"),
}


@pytest.mark.parametrize("fault", sorted(REPEATED.keys() - {"429"}))
@pytest.mark.parametrize("write", WRITES)
async def test_a_write_is_not_repeated_after(fault: str, write: str, server: Server, client: Client) -> None:
    server.script += [REPEATED[fault]]
    with pytest.raises((ServerError, Unreachable)):
        await WRITES[write](client)
    assert len(server.asked) == 1


async def test_a_write_that_was_turned_away_at_the_door_is_repeated(server: Server, client: Client) -> None:
    server.script += [failure(429, "TooManyRequests"), ok({"metadata": {"name": "n1"}})]
    await client.create(NODES, {"metadata": {"name": "n1"}})
    assert server.bodies == [b'{"metadata":{"name":"n1"}}'] * 2


async def test_an_eviction_that_a_budget_blocks_is_not_repeated(server: Server, client: Client) -> None:
    server.script += [failure(429, "TooManyRequests", causes=[{"reason": "DisruptionBudget"}])]
    with pytest.raises(TooManyRequests):
        await client.create(PODS, {}, subresource="eviction", name="a", namespace="b")
    assert len(server.asked) == 1


async def test_a_wait_that_would_miss_the_deadline_is_not_begun(server: Server, client: Client) -> None:
    server.script += [failure(429, headers={"Retry-After": "60"})]
    with pytest.raises(TooManyRequests) as caught:
        await client.get(NODES, "n1", deadline=1)
    assert caught.value.retry_after == 60


async def test_a_server_that_hangs_is_left_at_the_deadline(server: Server, client: Client) -> None:
    server.script += [hang]
    with pytest.raises(Unreachable, match=r"east: PATCH /api/v1/nodes/n1: no answer within 0\.03 s"):
        await client.patch(NODES, "n1", "", {}, deadline=0.03)


async def test_nobody_there_is_unreachable() -> None:
    async with Client(ServerConfig("http://127.0.0.1:1"), cluster="east") as client:
        with pytest.raises(Unreachable, match="east: GET /version: "):
            await client.server_version()


async def test_a_closed_client_is_unreachable(client: Client) -> None:
    await client.close()
    with pytest.raises(Unreachable, match="closed"):
        await client.get(NODES, "n1")


async def test_no_tls_where_tls_is_expected_is_unreachable(server: Server) -> None:
    config = ServerConfig(server.url.replace("http:", "https:"), ssl.create_default_context())
    async with Client(config, cluster="east") as client:
        with pytest.raises(Unreachable):
            await client.server_version()


# --- credentials, guard, bucket --------------------------------------------------------------------------------------


class Vault:
    """Credentials "1", "2", ... : a new one with each refresh."""

    def __init__(self, *, renewable: bool = True) -> None:
        self.number, self.refreshed, self.renewable = 1, 0, renewable

    async def __call__(self, refresh: bool) -> str | None:
        await asyncio.sleep(0)
        if refresh:
            self.refreshed += 1
            self.number += self.renewable
        return f"Bearer {self.number}"


def only(credential: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        accepted = request.headers.get("Authorization") == credential
        return await (ok({}) if accepted else failure(401, "Unauthorized"))(request)

    return answer


async def test_a_refused_credential_is_renewed_once_for_all_who_were_refused(server: Server) -> None:
    server.script += [only("Bearer 2")] * 20
    vault = Vault()
    async with Client(ServerConfig(server.url, authorization=vault), cluster="east") as client:
        await asyncio.gather(*(client.create(NODES, {"metadata": {"name": "n"}}) for _ in range(8)))
    assert vault.refreshed == 1


async def test_a_renewed_credential_that_is_refused_too_is_unauthorized(server: Server) -> None:
    server.script += [only("Bearer 9")] * 9
    async with Client(ServerConfig(server.url, authorization=Vault()), cluster="east") as client:
        with pytest.raises(Unauthorized):
            await client.get(NODES, "n")
    assert len(server.asked) == 2


async def test_the_same_credential_is_not_offered_twice(server: Server) -> None:
    server.script += [only("Bearer 9")] * 9
    async with Client(ServerConfig(server.url, authorization=Vault(renewable=False)), cluster="east") as client:
        with pytest.raises(Unauthorized):
            await client.get(NODES, "n")
    assert len(server.asked) == 1


class Guard:
    """Lets the first `allowed` questions pass."""

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed

    def __call__(self) -> None:
        self.allowed -= 1
        if self.allowed < 0:
            raise NotLeading("not leading")


@pytest.mark.parametrize("allowed", [0, 1])
async def test_nothing_is_changed_without_leadership_even_if_lost_on_the_way(allowed: int, server: Server) -> None:
    for write in WRITES.values():
        async with Client(ServerConfig(server.url), cluster="east", guard=Guard(allowed)) as client:
            with pytest.raises(NotLeading):
                await write(client)
    assert server.asked == []


async def test_a_write_that_may_not_be_sent_takes_nobodys_token(server: Server) -> None:
    async with Client(ServerConfig(server.url), cluster="east", guard=Guard(0), qps=0.001, burst=1) as client:
        for _ in range(3):
            with pytest.raises(NotLeading):
                await client.create(NODES, {"metadata": {"name": "n"}}, deadline=2)
        await client.get(NODES, "n", deadline=2)


async def test_reading_needs_no_leadership(server: Server) -> None:
    async with Client(ServerConfig(server.url), cluster="east", guard=Guard(0)) as client:
        await client.get(NODES, "n")
        await client.list(NODES)


async def test_the_guard_is_asked_again_before_a_write_is_repeated(server: Server) -> None:
    server.script += [failure(429)]
    async with Client(ServerConfig(server.url), cluster="east", guard=Guard(2)) as client:
        with pytest.raises(NotLeading):
            await client.create(NODES, {"metadata": {"name": "n"}})
    assert len(server.asked) == 1


async def test_waiting_for_a_token_counts_towards_the_deadline(server: Server) -> None:
    async with Client(ServerConfig(server.url), cluster="east", qps=0.01, burst=1) as client:
        await client.get(NODES, "n")
        with pytest.raises(Unreachable):
            await client.get(NODES, "n", deadline=0.02)
    assert len(server.asked) == 1


async def test_requests_are_counted_as_client_go_does(server: Server, client: Client) -> None:
    server.script += [reset, ok({})]
    await client.get(NODES, "n")
    host = server.url.removeprefix("http://")
    for code in ("200", "<error>"):
        sample = REGISTRY.get_sample_value("rest_client_requests_total", {"code": code, "method": "GET", "host": host})
        assert sample == 1, code


# --- watches ---------------------------------------------------------------------------------------------------------


def streaming(*chunks: bytes, cut: bool = False) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if cut:
            assert request.transport is not None
            request.transport.abort()
        return response

    return answer


async def test_a_watch_gives_the_bytes_as_they_come(server: Server, client: Client) -> None:
    server.script += [streaming(b'{"a":1}\n', b'{"b"', b":2}\n")]
    async with client.stream("/api/v1/pods", {"watch": "true", "labelSelector": "a=b"}) as chunks:
        received = b"".join([chunk async for chunk in chunks])
    assert received == b'{"a":1}\n{"b":2}\n'
    assert server.lines == ["GET /api/v1/pods?watch=true&labelSelector=a%3Db"]


async def test_metadata_alone_can_be_the_answer_to_a_write(server: Server, client: Client) -> None:
    server.script += [ok({"metadata": {"resourceVersion": "7"}})] * 4
    pod = {"metadata": {"name": "web", "namespace": "team"}}
    await client.create(PODS, pod, metadata_only=True)
    await client.patch(PODS, "web", "team", {}, metadata_only=True)
    await client.delete(PODS, "web", "team", uid="u", metadata_only=True)
    await client.delete(PODS, "web", "team", uid="u")
    wanted = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    assert [request.headers["Accept"] for request in server.asked] == [wanted, wanted, wanted, "application/json"]


async def test_metadata_alone_can_be_listed_and_watched(server: Server, client: Client) -> None:
    page = {"items": [{"metadata": {"name": "a"}}], "metadata": {"resourceVersion": "7", "continue": "next"}}
    server.script += [ok(page), ok({**page, "metadata": {"resourceVersion": "7"}}), streaming(b"{}"), ok({}), streaming(b"{}")]
    only = MetadataOnly(client)
    assert len((await only.list(PODS, label_selector="a=b")).items) == 2
    async with only.stream("/api/v1/pods", {"watch": "true"}) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == b"{}"
    await client.list(PODS)
    async with client.stream("/api/v1/pods", {"watch": "true"}) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == b"{}"
    wanted = "application/json;as={};g=meta.k8s.io;v=v1"
    listed, watched = wanted.format("PartialObjectMetadataList"), wanted.format("PartialObjectMetadata")
    accepted = [request.headers["Accept"] for request in server.asked]
    assert accepted == [listed, listed, watched, "application/json", "application/json"]
    assert only.cluster == client.cluster


async def test_a_watch_that_breaks_is_unreachable(server: Server, client: Client) -> None:
    server.script += [streaming(b'{"a":1}\n', cut=True)]
    async with client.stream("/api/v1/pods", {"watch": "true"}) as chunks:
        with pytest.raises(Unreachable, match="east: GET /api/v1/pods"):
            [chunk async for chunk in chunks]


async def test_a_refused_watch_raises_like_any_call(server: Server, client: Client) -> None:
    server.script += [failure(410, "Expired")]
    with pytest.raises(Gone):
        async with client.stream("/api/v1/pods", {}):
            pytest.fail("entered")


async def test_a_watch_renews_its_credential_too(server: Server) -> None:
    server.script += [only("Bearer 2"), only("Bearer 2")]
    config = ServerConfig(server.url, authorization=Vault())
    async with Client(config, cluster="east") as client, client.stream("/api/v1/pods", {}) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == b"{}"


async def test_a_watch_without_a_head_is_given_up(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "WATCH_HEAD_TIMEOUT", 0.03)
    server.script += [hang]
    with pytest.raises(Unreachable, match="no answer within"):
        async with client.stream("/api/v1/pods", {}):
            pytest.fail("entered")


async def test_watches_take_no_connection_from_calls(server: Server) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(5)
        return response

    server.script += [endless, endless]
    client = Client(ServerConfig(server.url), cluster="east", connections=1)
    async with client, client.stream("/a", {}), client.stream("/b", {}):
        await client.get(NODES, "n", deadline=1)


async def test_calls_beyond_what_may_be_in_flight_get_their_turns_in_order(server: Server) -> None:
    async with Client(ServerConfig(server.url), cluster="east", connections=2) as client:

        async def repeated(name: str) -> None:
            for _ in range(20):
                await client.get(NODES, name)

        async with asyncio.TaskGroup() as tasks:
            for number in range(4):
                tasks.create_task(repeated(f"burst-{number}"))
            await asyncio.sleep(0)
            tasks.create_task(client.get(NODES, "late"))
    assert server.lines.index("GET /api/v1/nodes/late") <= 5  # behind four; one more may overtake it on the wire


async def test_no_more_calls_are_in_flight_than_there_may_be(server: Server) -> None:
    running, most, full = 0, 0, asyncio.Event()

    async def counted(request: web.Request) -> web.StreamResponse:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            full.set()
        await full.wait()
        await asyncio.sleep(0.01)  # for a fourth to come
        running -= 1
        return web.json_response({})

    server.script += [counted] * 12
    async with Client(ServerConfig(server.url), cluster="east", connections=3) as client:
        await asyncio.gather(*(client.get(NODES, "n") for _ in range(12)))
    assert most == 3


async def _is_late(client: Client, _: Server) -> None:
    with pytest.raises(Unreachable, match="no answer within"):
        await client.get(NODES, "n", deadline=0.05)


async def _is_cancelled_in_flight(client: Client, server: Server) -> None:
    task = asyncio.create_task(client.get(NODES, "n"))
    await server.reached.wait()
    task.cancel()
    await asyncio.wait([task])


async def _is_cancelled_while_it_waits(client: Client, server: Server) -> None:
    first, second = (asyncio.create_task(client.get(NODES, "n", deadline=0.2)) for _ in range(2))
    await server.reached.wait()
    second.cancel()
    await asyncio.wait([first, second])
    assert isinstance(first.exception(), Unreachable)


async def _is_repeated(client: Client, _: Server) -> None:
    await client.get(NODES, "n")


async def _fails(client: Client, _: Server) -> None:
    with pytest.raises(KubeError):
        await client.get(NODES, "n")


ENDS: dict[str, tuple[list[Answer], Callable[[Client, Server], Awaitable[None]]]] = {
    "comes too late": ([hang], _is_late),
    "is cancelled in flight": ([hang], _is_cancelled_in_flight),
    "is cancelled while it waits": ([hang], _is_cancelled_while_it_waits),
    "is repeated after 429": ([plain(429, "", **{"Retry-After": "0"})], _is_repeated),
    "is repeated after a break": ([reset], _is_repeated),
    "is refused": ([plain(403, "no")], _fails),
    "is unauthorized": ([plain(401, "no")] * 2, _fails),
    "is no JSON": ([plain(200, "x")], _fails),
}


@pytest.mark.parametrize("case", ENDS)
async def test_however_a_call_ends_its_turn_is_given_on(server: Server, case: str) -> None:
    script, end = ENDS[case]
    server.script += script
    async with Client(ServerConfig(server.url), cluster="east", connections=1) as client:
        await end(client, server)
        server.script.clear()
        await client.get(NODES, "n", deadline=2)


async def test_a_write_that_may_not_be_sent_waits_for_no_turn(server: Server) -> None:
    def refuse() -> None:
        raise NotLeading("another leads")

    server.script += [hang]
    async with Client(ServerConfig(server.url), cluster="east", connections=1, guard=refuse) as client:
        hung = asyncio.create_task(client.get(NODES, "n"))
        await server.reached.wait()
        with pytest.raises(NotLeading):
            await client.create(NODES, {"metadata": {"name": "n"}}, deadline=2)
        assert not hung.done()
        hung.cancel()
    assert server.lines == ["GET /api/v1/nodes/n"]


async def test_every_failure_is_a_kube_error(server: Server, client: Client) -> None:
    for answer in (reset, half_a_body, plain(200, "x"), plain(418, "x"), plain(500, ""), ok([1])):
        server.script.clear()
        server.script += [answer] * retry.ATTEMPTS
        with pytest.raises(KubeError):
            await client.get(NODES, "n")
