"""How the lender's policies are read when his API server has them, has them not, refuses or fails. In virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import cast

import pytest

from kubeocean.clusters.lender import LOOK_AGAIN, LenderPolicies
from kubeocean.domain.lender import Standing
from kubeocean.domain.lenderstatus import OLDEST_FIELDS
from kubeocean.domain.policies import Policy
from kubeocean.kube.client import Client
from kubeocean.kube.errors import ApiError, Forbidden, NotFound, ServerError, Unreachable
from kubeocean.kube.meta import Json
from kubeocean.kube.store import Entry

pytestmark = pytest.mark.looptime

GROUP = {"name": "cloud.tencent.com", "versions": [{"version": "v1beta1"}]}
LATEST = 1000


class ApiServer:
    """Serves one kind: `policies` by name, or the `failure` of its watch; `discovery` is what it says of itself."""

    cluster = "lender"

    def __init__(self, *names: str) -> None:
        self.policies = list(names)
        self.failure: Exception | None = None
        self.group, self.kinds = True, ["clusterbindings", "resourceleasingpolicies"]
        self.discovery_fails = self.another_cluster = False
        self.asked: list[str] = []
        self._ended = asyncio.Event()

    def fail(self, failure: Exception | None) -> None:
        """From now on answer every watch like this; the open one is cut."""
        self.failure = failure
        self._ended.set()
        self._ended = asyncio.Event()

    async def raw(self, method: str, path: str) -> bytes:
        self.asked.append(path)
        if self.discovery_fails:
            raise ServerError("500", status=500)
        if path == "/apis":
            return json.dumps({"kind": "APIGroupList", "groups": [GROUP] if self.group else []}).encode()
        if path.startswith("/openapi"):
            raise NotFound("404", status=404)
        return json.dumps({"resources": [{"name": name} for name in self.kinds]}).encode()

    @asynccontextmanager
    async def stream(self, path: str, params: dict[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        if self.failure:
            raise self.failure
        yield self._lines("sendInitialEvents" in params, self._ended)

    async def _lines(self, whole: bool, ended: asyncio.Event) -> AsyncIterator[bytes]:
        for name in self.policies if whole else ():
            metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": "5"}
            yield line("ADDED", {"metadata": metadata, "spec": {"cluster": "*"}})
        annotations = {"k8s.io/initial-events-end": "true"} if whole else {}
        yield line("BOOKMARK", {"metadata": {"resourceVersion": str(LATEST), "annotations": annotations}})
        await ended.wait()
        raise Unreachable("cut")

    async def confirm_identity(self) -> None:
        if self.another_cluster:
            raise ApiError("another cluster")


def line(kind: str, obj: Json) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


class Diary:
    """What handlers and subscribers heard."""

    def __init__(self, lender: LenderPolicies) -> None:
        self.policies: list[str] = []
        self.standings: list[Standing] = []
        lender.add_handler(self._policy)
        lender.subscribe(lambda standing, _: self.standings.append(standing))

    def _policy(self, old: Entry[Policy] | None, new: Entry[Policy] | None) -> None:
        entry = new or old
        assert entry is not None
        self.policies.append(f"{'+' if new else '-'}{entry.key.name}")


@asynccontextmanager
async def reading(server: ApiServer, *, read_before: bool = False) -> AsyncIterator[tuple[LenderPolicies, Diary]]:
    lender = LenderPolicies(
        cast(Client, server), name="lender", confirm_identity=server.confirm_identity, read_before=lambda: read_before
    )
    diary = Diary(lender)
    task = asyncio.create_task(lender.run())
    await lender.wait_settled()
    try:
        yield lender, diary
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def names(lender: LenderPolicies) -> list[str] | None:
    policies = lender.view.policies
    return None if policies is None else sorted(policy.name for policy in policies)


async def test_what_is_there_is_read_and_told_as_a_whole() -> None:
    async with reading(ApiServer("a", "b")) as (lender, diary):
        assert (names(lender), lender.view.trouble) == (["a", "b"], "")
        assert diary.policies == ["+a", "+b"]
        assert (lender.get("a") is None, lender.get("c") is None) == (False, True)


async def test_a_kind_that_discovery_does_not_know_is_absent() -> None:
    server = ApiServer()
    server.failure, server.group = NotFound("404", status=404), False
    async with reading(server) as (lender, _):
        assert (lender.standing, names(lender), lender.view.trouble) == (Standing.ABSENT, [], "")


async def test_who_is_refused_a_kind_that_is_not_there_is_refused_nothing() -> None:
    server = ApiServer()
    server.failure, server.group = Forbidden("403", status=403), False
    async with reading(server) as (lender, _):
        assert lender.standing is Standing.ABSENT


async def test_so_is_one_whose_group_has_other_kinds_only() -> None:
    server = ApiServer()
    server.failure, server.kinds = NotFound("404", status=404), ["clusterbindings"]
    async with reading(server) as (lender, _):
        assert lender.standing is Standing.ABSENT


DOUBTS = {
    "discovery that knows the kind": {}, "discovery that fails": {"discovery_fails": True},
    "another cluster's discovery": {"group": False, "another_cluster": True},
}


@pytest.mark.parametrize("doubt", DOUBTS)
async def test_a_404_that_is_not_confirmed_is_trouble(doubt: str) -> None:
    server = ApiServer()
    server.failure = NotFound("404", status=404)
    for name, value in DOUBTS[doubt].items():
        setattr(server, name, value)
    async with reading(server) as (lender, _):
        assert (lender.standing, names(lender)) == (Standing.UNKNOWN, None)
        assert "404" in lender.view.trouble


async def test_an_absent_kind_is_looked_for_every_minute() -> None:
    server = ApiServer("a")
    server.failure, server.group = NotFound("404", status=404), False
    async with reading(server) as (lender, diary):
        server.asked.clear()
        await asyncio.sleep(3 * LOOK_AGAIN + 1)
        assert server.asked == ["/apis"] * 3
        server.failure, server.group = None, True
        await asyncio.sleep(LOOK_AGAIN + 1)
        assert (lender.standing, names(lender), diary.policies) == (Standing.READ, ["a"], ["+a"])


async def test_when_the_kind_is_removed_its_policies_are_gone() -> None:
    server = ApiServer("a", "b")
    async with reading(server) as (lender, diary):
        server.group = False
        server.fail(NotFound("404", status=404))
        await asyncio.sleep(5)
        assert (lender.standing, names(lender), lender.entries()) == (Standing.ABSENT, [], [])
        assert diary.policies == ["+a", "+b", "-a", "-b"]


async def test_while_reading_fails_what_was_known_is_kept_and_that_is_trouble() -> None:
    server = ApiServer("a")
    async with reading(server) as (lender, diary):
        server.fail(ServerError("500", status=500))
        await asyncio.sleep(10)
        assert (lender.standing, names(lender), "500" in lender.view.trouble) == (Standing.UNKNOWN, ["a"], True)
        server.failure = None
        await asyncio.sleep(60)
        assert (names(lender), lender.view.trouble) == (["a"], "")
        assert diary.standings == [Standing.UNREAD, Standing.READ, Standing.UNKNOWN, Standing.READ]
        assert diary.policies == ["+a"], "nobody is told of a change that was none"


async def test_a_watch_that_is_cut_once_is_no_trouble() -> None:
    server = ApiServer("a")
    async with reading(server) as (_, diary):
        server.fail(None)
        await asyncio.sleep(10)
        assert diary.standings == [Standing.UNREAD, Standing.READ]


async def test_what_was_never_granted_is_not_honoured() -> None:
    server = ApiServer("a")
    server.failure = Forbidden("403", status=403)
    async with reading(server) as (lender, _):
        assert (lender.standing, names(lender), lender.view.trouble) == (Standing.NOT_GRANTED, [], "")
        server.failure = None
        await asyncio.sleep(40)
        assert (lender.standing, names(lender)) == (Standing.READ, ["a"])


async def test_a_right_that_is_withdrawn_keeps_what_was_known() -> None:
    server = ApiServer("a")
    async with reading(server) as (lender, _):
        server.fail(Forbidden("403", status=403))
        await asyncio.sleep(10)
        assert (lender.standing, names(lender)) == (Standing.UNKNOWN, ["a"])


async def test_so_it_does_after_a_restart() -> None:
    server = ApiServer("a")
    server.failure = Forbidden("403", status=403)
    async with reading(server, read_before=True) as (lender, _):
        assert (lender.standing, names(lender)) == (Standing.UNKNOWN, None)


async def test_without_a_schema_the_oldest_fields_are_taken_for_granted() -> None:
    async with reading(ApiServer()) as (lender, _):
        assert await lender.status_fields() == OLDEST_FIELDS
