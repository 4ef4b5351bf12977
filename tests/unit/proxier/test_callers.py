"""Who is let in to a virtual node: asked of the virtual API server, remembered for moments, denied when in doubt."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from kubeocean.domain.kubeletapi import Access
from kubeocean.kube.client import Client
from kubeocean.kube.errors import ServerError
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import TOKENREVIEWS, Resource
from kubeocean.proxier import callers
from kubeocean.proxier.callers import Denied, Gate, Unauthenticated

EXEC = Access("create", ("proxy",))
PODS = Access("get", ("pods", "proxy"))


class Api:
    """A virtual API server that knows one token, and who may what."""

    def __init__(self, *, tokens: dict[str, Json] | None = None, allowed: tuple[tuple[str, str, str], ...] = ()) -> None:
        self.tokens, self.allowed = tokens or {}, set(allowed)
        self.token_reviews: list[Json] = []
        self.access_reviews: list[Json] = []
        self.broken = False

    async def create(self, resource: Resource, review: Json) -> Json:
        if self.broken:
            raise ServerError("out of order", status=500, reason="InternalError")
        spec = review["spec"]
        if resource is TOKENREVIEWS:
            self.token_reviews.append(spec)
            user = self.tokens.get(spec["token"])
            return {"status": {"authenticated": True, "user": user} if user else {}}
        self.access_reviews.append(spec)
        asked = spec["resourceAttributes"]
        return {"status": {"allowed": (spec["user"], asked["verb"], asked["subresource"]) in self.allowed}}


def gate(api: Api) -> Gate:
    return Gate(cast(Client, api))


def request(*, certificate: str = "", groups: tuple[str, ...] = (), authorization: str = "") -> web.BaseRequest:
    subject: tuple[Any, ...] = tuple((("organizationName", group),) for group in groups)
    subject += ((("commonName", certificate),),) if certificate else ()
    transport = SimpleNamespace(get_extra_info=lambda _: {"subject": subject} if subject else None)
    headers = {"Authorization": authorization} if authorization else {}
    return cast(web.BaseRequest, SimpleNamespace(transport=transport, headers=headers))


async def test_a_certificate_tells_user_and_groups() -> None:
    api = Api(allowed=(("kube-apiserver", "create", "proxy"),))
    caller = await gate(api).admit(request(certificate="kube-apiserver", groups=("a", "b")), EXEC, "vnode-1")
    assert (caller.user, caller.groups) == ("kube-apiserver", ("a", "b", "system:authenticated"))
    assert api.access_reviews[0]["groups"] == ["a", "b", "system:authenticated"]
    assert api.access_reviews[0]["resourceAttributes"] == {
        "verb": "create", "version": "v1", "resource": "nodes", "subresource": "proxy", "name": "vnode-1",
    }


async def test_a_token_tells_what_its_review_says() -> None:
    user: Json = {"username": "sa", "uid": "u", "groups": ["g"], "extra": {"k": ["v"]}}
    api = Api(tokens={"good": user}, allowed=(("sa", "create", "proxy"),))
    await gate(api).admit(request(authorization="Bearer good"), EXEC, "vnode-1")
    assert {key: api.access_reviews[0][key] for key in ("user", "uid", "groups", "extra")} == {
        "user": "sa", "uid": "u", "groups": ["g"], "extra": {"k": ["v"]},
    }


NOBODY = {
    "nothing shown": request(),
    "a certificate without a name": request(groups=("system:masters",)),
    "an unknown token": request(authorization="Bearer bad"),
    "an empty token": request(authorization="Bearer "),
    "another scheme": request(authorization="Basic Z29vZA=="),
    "a token beyond all length": request(authorization="Bearer " + "x" * 20_000),
}


@pytest.mark.parametrize("shown", NOBODY.values(), ids=NOBODY)
async def test_who_shows_nothing_that_is_known_is_nobody(shown: web.BaseRequest) -> None:
    api = Api(tokens={"good": {"username": "sa"}})
    with pytest.raises(Unauthenticated):
        await gate(api).admit(shown, EXEC, "vnode-1")
    assert not api.access_reviews


async def test_a_token_beyond_all_length_is_not_even_asked_about() -> None:
    api = Api()
    with pytest.raises(Unauthenticated):
        await gate(api).admit(request(authorization="Bearer " + "x" * 20_000), EXEC, "vnode-1")
    assert not api.token_reviews


async def test_the_right_to_read_is_none_to_run_commands() -> None:
    api = Api(allowed=(("reader", "get", "proxy"),))
    with pytest.raises(Denied, match="user 'reader' may not create nodes/proxy of node 'vnode-1'"):
        await gate(api).admit(request(certificate="reader"), EXEC, "vnode-1")


async def test_a_fine_right_is_tried_before_the_coarse_one() -> None:
    api = Api(allowed=(("monitor", "get", "proxy"),))
    await gate(api).admit(request(certificate="monitor"), PODS, "vnode-1")
    assert [each["resourceAttributes"]["subresource"] for each in api.access_reviews] == ["pods", "proxy"]


async def test_what_cannot_be_decided_is_not_allowed() -> None:
    api = Api(allowed=(("kube-apiserver", "create", "proxy"),))
    api.broken = True
    with pytest.raises(ServerError):
        await gate(api).admit(request(certificate="kube-apiserver"), EXEC, "vnode-1")


async def test_answers_are_remembered_for_moments_a_yes_longer_than_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(callers._Memory.__init__, "__defaults__", (lambda: now,))
    api = Api(tokens={"good": {"username": "sa"}}, allowed=(("sa", "create", "proxy"),))
    guard = gate(api)
    for now, reviews in ((0.0, (1, 1)), (119.0, (1, 1)), (121.0, (2, 1)), (301.0, (3, 2))):
        await guard.admit(request(authorization="Bearer good"), EXEC, "vnode-1")
        assert (len(api.token_reviews), len(api.access_reviews)) == reviews, now

    api.allowed.clear()  # taken back: felt when the yes runs out, and given again when the no does
    now = 602.0
    with pytest.raises(Denied):
        await guard.admit(request(authorization="Bearer good"), EXEC, "vnode-1")
    api.allowed.add(("sa", "create", "proxy"))
    now = 631.0
    with pytest.raises(Denied):
        await guard.admit(request(authorization="Bearer good"), EXEC, "vnode-1")
    now = 633.0
    await guard.admit(request(authorization="Bearer good"), EXEC, "vnode-1")


async def test_a_yes_for_one_node_is_none_for_another() -> None:
    api = Api(allowed=(("sa", "create", "proxy"),))
    guard = gate(api)
    await guard.admit(request(certificate="sa"), EXEC, "vnode-1")
    api.allowed.clear()
    with pytest.raises(Denied):
        await guard.admit(request(certificate="sa"), EXEC, "vnode-2")
