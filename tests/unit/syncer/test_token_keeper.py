"""Tokens of running Pods: renewed in time, mended when somebody touched them, told when they run out."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import pytest

from kubeocean.domain.naming import physical_name, token_secret_name
from kubeocean.kube.errors import NotFound, ServerError
from kubeocean.kube.events import EventRecorder
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, uid_of
from kubeocean.kube.patch import apply_merge
from kubeocean.kube.resources import CONFIGMAPS, NAMESPACES, NODES, PODS, SECRETS, Resource
from kubeocean.syncer.pairing import Pairing, SyncerOptions
from kubeocean.syncer.pods import PodController
from kubeocean.syncer.topdown.tokenkeeper import TokenKeeper
from kubeocean.syncer.topdown.twins import TwinMaker
from tests.unit.syncer.world import SPEC, World, meanwhile

pytestmark = pytest.mark.looptime
KEY = ObjectKey("ns", "web")
SOURCES: list[Json] = [
    {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
    {"serviceAccountToken": {"path": "vault", "audience": "vault", "expirationSeconds": 1000}},
    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
]
SHORTEST = 1000


class Case:
    """One virtual Pod with two tokens in one volume, on a leased node."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.physical_server.put(NAMESPACES, {"metadata": {"name": "mount"}})
        world.physical_server.serve(SECRETS, world.physical.token_secrets)
        world.virtual_server.serve(CONFIGMAPS, world.virtual.root_cas)
        self.root_ca("first")
        world.pod("web", volumes=[{"name": "access", "projected": {"sources": SOURCES}}])
        self.place = ObjectKey("mount", token_secret_name("web", "access", "uid-pods-web"))
        self.pairing = Pairing(
            "lender", "binding-uid", SPEC, world.physical.owner, world.virtual, world.physical, cast(EventRecorder, world),
            SyncerOptions(), clock=world.now, real_time=world.now,
        )
        self.pods = PodController(self.pairing)

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[TokenKeeper]:
        keeper = TokenKeeper(self.pairing, TwinMaker(self.pairing))
        keeper.attach()
        task = asyncio.create_task(keeper.controller.run())
        try:
            yield keeper
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.pairing.stop_listening()

    def root_ca(self, text: str) -> None:
        metadata = {"name": "kube-root-ca.crt", "namespace": "ns"}
        self.world.virtual_server.put(CONFIGMAPS, {"metadata": metadata, "data": {"ca.crt": text}})

    def secret(self) -> Json:
        return self.world.physical_server.find(SECRETS, self.place.name, self.place.namespace)

    def files(self) -> dict[str, str]:
        return {key: base64.b64decode(text).decode() for key, text in self.secret()["data"].items()}

    def writes(self) -> list[str]:
        return [write for write in self.world.physical_server.writes if "secrets" in write]


async def begin() -> Case:
    """Return the case, with the Secret written; not a fixture, for the clock of a test starts anew after those."""
    world = World()
    async with world.leading():
        await asyncio.sleep(0.2)
    case = Case(world)
    await asyncio.sleep(0.1)
    await case.pods.reconcile(KEY)
    await asyncio.sleep(0.1)
    return case


async def test_it_is_renewed_at_four_fifths_of_the_shortest_life_and_again() -> None:
    case = await begin()
    before = case.files()
    async with case.keeping():
        await asyncio.sleep(SHORTEST * 0.74)
        assert case.files() == before
        await asyncio.sleep(SHORTEST * 0.07)
        after = case.files()
        assert after["token"] != before["token"]
        assert after["token-1"] != before["token-1"]
        assert after["ca.crt"] == before["ca.crt"]
        assert "vault" in after["token-1"]
        await asyncio.sleep(SHORTEST * 0.9)
    assert case.writes() == ["create secrets", "patch secrets", "patch secrets"]
    assert case.world.virtual_server.minted == 6


async def test_what_runs_keeps_its_tokens_though_it_could_not_be_made_any_more() -> None:
    case = await begin()
    vpod = case.world.virtual_server.find(PODS, "web", "ns")
    vpod["spec"]["volumes"].append({"name": "logs", "hostPath": {"path": "/var/log"}})  # refused by now: allowPrivileged is off
    case.world.virtual_server.put(PODS, vpod)
    async with case.keeping():
        await asyncio.sleep(SHORTEST * 0.82)
        assert case.writes() == ["create secrets", "patch secrets"]
        case.world.physical_server.remove(PODS, ObjectKey("mount", physical_name("web", "ns")))
        await asyncio.sleep(SHORTEST * 0.82)
    assert case.writes() == ["create secrets", "patch secrets"], "nothing runs that could use it, nor will"


async def test_a_server_that_gives_less_is_asked_sooner() -> None:
    case = await begin()
    case.world.virtual_server.token_seconds = 700
    async with case.keeping():
        await asyncio.sleep(SHORTEST * 0.8 + 10)
        assert len(case.writes()) == 2
        await asyncio.sleep(700 * 0.8)
        assert len(case.writes()) == 3


async def test_a_restart_writes_nothing_before_it_is_due() -> None:
    case = await begin()
    async with case.keeping():
        await asyncio.sleep(400)
    async with case.keeping():
        await asyncio.sleep(300)
    assert case.writes() == ["create secrets"]
    await asyncio.sleep(400)  # nobody is there while it becomes due
    async with case.keeping():
        await asyncio.sleep(1)
        assert case.writes() == ["create secrets", "patch secrets"]


async def test_a_secret_of_unknown_age_is_renewed_at_once() -> None:
    case = await begin()
    secret = case.secret()
    for name in ("expires-at", "refresh-at"):
        del secret["metadata"]["annotations"][f"kubeocean.io/{name}"]
    case.world.physical_server.put(SECRETS, secret)
    await asyncio.sleep(0.1)
    async with case.keeping():
        await asyncio.sleep(1)
    assert "kubeocean.io/refresh-at" in annotations_of(case.secret())


async def test_another_root_certificate_is_written_without_new_tokens() -> None:
    case = await begin()
    before = case.files()
    async with case.keeping():
        case.root_ca("second")
        await asyncio.sleep(1)
        assert case.files() == before | {"ca.crt": "second"}
        await asyncio.sleep(SHORTEST * 0.7)
        assert len(case.writes()) == 2
    assert case.world.virtual_server.minted == 2


async def test_one_that_changed_while_nobody_was_there() -> None:
    case = await begin()
    case.root_ca("second")
    await asyncio.sleep(0.1)
    async with case.keeping():
        await asyncio.sleep(1)
    assert case.files()["ca.crt"] == "second"


@pytest.mark.parametrize("watched", [True, False], ids=["while we watch", "while nobody was there"])
async def test_a_secret_that_somebody_deleted_is_made_again_while_its_pod_lives(watched: bool) -> None:
    case = await begin()
    if not watched:
        case.world.physical_server.remove(SECRETS, case.place)
        await asyncio.sleep(0.1)
    async with case.keeping():
        await asyncio.sleep(1)
        if watched:
            case.world.physical_server.remove(SECRETS, case.place)
        await asyncio.sleep(1)
        assert set(case.files()) == {"token", "token-1", "ca.crt"}


async def test_one_whose_content_somebody_changed_is_mended() -> None:
    case = await begin()
    secret = case.secret()
    changed = {**secret, "data": {**secret["data"], "token": "c3Rvbg==", "stranger": "eA=="}}
    async with case.keeping():
        case.world.physical_server.put(SECRETS, changed)
        await asyncio.sleep(1)
    assert set(case.files()) == {"token", "token-1", "ca.crt"}
    assert case.files()["token"].startswith("token-")


async def test_none_is_made_for_a_pod_that_has_no_twin_or_has_finished() -> None:
    case = await begin()
    twin = ObjectKey("mount", physical_name("web", "ns"))
    case.world.physical_server.remove(PODS, twin)
    await asyncio.sleep(0.1)
    async with case.keeping():
        case.world.physical_server.remove(SECRETS, case.place)
        await asyncio.sleep(1)
    assert case.writes() == ["create secrets"]


async def test_a_pod_that_is_gone_is_not_remembered_until_its_token_would_have_been_due() -> None:
    case = await begin()
    async with case.keeping() as keeper:
        await asyncio.sleep(1)
        assert list(keeper.controller.queue._due) == [KEY]
        case.world.virtual_server.remove(PODS, KEY)
        case.world.physical_server.remove(SECRETS, case.place)
        await asyncio.sleep(1)
        assert not keeper.controller.queue._due


VNODE = ObjectKey("", "vnode-edge-node-1")


async def test_a_secret_that_goes_while_its_virtual_node_is_away_is_made_again_once_that_is_back() -> None:
    case = await begin()
    async with case.keeping():
        node = case.world.virtual_server.remove(NODES, VNODE)
        await asyncio.sleep(1)
        case.world.physical_server.remove(SECRETS, case.place)
        await asyncio.sleep(1)
        assert case.writes() == ["create secrets"]
        case.world.virtual_server.put(NODES, node)
        await asyncio.sleep(1)
    assert case.writes() == ["create secrets", "create secrets"]
    assert "vault" in case.files()["token-1"]


async def test_what_comes_due_while_a_virtual_node_is_away_is_renewed_once_it_is_back_or_its_mark_is() -> None:
    case = await begin()
    async with case.keeping():
        node = case.world.virtual_server.remove(NODES, VNODE)
        await asyncio.sleep(SHORTEST * 0.82)
        unmarked = {**node, "metadata": {**node["metadata"], "labels": {}, "annotations": {}}}
        case.world.virtual_server.put(NODES, unmarked)
        await asyncio.sleep(1)
        assert case.writes() == ["create secrets"]
        case.world.virtual_server.put(NODES, node)
        await asyncio.sleep(1)
        assert case.writes() == ["create secrets", "patch secrets"]
        await asyncio.sleep(SHORTEST * 0.82)
    assert case.writes() == ["create secrets", "patch secrets", "patch secrets"]


async def test_a_secret_of_a_predecessor_that_goes_takes_no_renewal_from_its_successor() -> None:
    case = await begin()
    predecessors = json.loads(json.dumps(case.secret()).replace(case.place.name, "earlier").replace("uid-pods-web", "earlier"))
    async with case.keeping() as keeper:
        case.world.physical_server.put(SECRETS, predecessors)
        await asyncio.sleep(1)
        case.world.physical_server.remove(SECRETS, ObjectKey("mount", "earlier"))
        await asyncio.sleep(1)
        assert list(keeper.controller.queue._due) == [KEY]


async def test_a_renewal_that_fails_is_tried_again_and_told_when_time_runs_out() -> None:
    case = await begin()
    server = case.world.virtual_server
    async with case.keeping():
        server.mint_fails = ServerError("no", status=500)
        await asyncio.sleep(SHORTEST * 0.85)
        assert "TokenNotRenewed" not in case.world.heard_by("web")
        await asyncio.sleep(SHORTEST * 0.13)
        assert case.world.heard_by("web") == ["TokenNotRenewed"]
        server.mint_fails = None
        await asyncio.sleep(90)
        assert len(case.writes()) == 2


async def test_a_service_account_that_is_gone_is_waited_for() -> None:
    case = await begin()
    server = case.world.virtual_server
    async with case.keeping():
        server.mint_fails = NotFound("no serviceaccount", status=404)
        await asyncio.sleep(SHORTEST * 0.95)
        assert case.world.heard_by("web") == ["TokenNotRenewed"]
        server.mint_fails = None
        await asyncio.sleep(70)
        assert len(case.writes()) == 2


async def test_a_strangers_secret_under_the_name_is_left_alone() -> None:
    case = await begin()
    stranger: Json = {"metadata": {"name": case.place.name, "namespace": "mount", "uid": "s"}, "data": {"a": "b"}}
    async with case.keeping():
        case.world.physical_server.remove(SECRETS, case.place)
        case.world.physical_server.put(SECRETS, stranger)
        await asyncio.sleep(200)
    assert case.secret()["data"] == {"a": "b"}
    assert case.world.heard_by("web") == ["TokenSecretTaken"]


async def test_a_clock_that_steps_is_no_reason_to_be_late() -> None:
    case = await begin()
    async with case.keeping() as keeper:
        await asyncio.sleep(1)
        case.world.stepped += timedelta(seconds=SHORTEST * 0.9)
        keeper.look_again()
        await asyncio.sleep(1)
    assert len(case.writes()) == 2


async def test_the_secret_of_a_predecessor_goes_once_its_twin_has_though_its_successor_lives() -> None:
    case = await begin()
    physical, predecessors = case.world.physical_server, case.place
    case.world.virtual_server.remove(PODS, KEY)
    case.world.pod("web", volumes=[{"name": "access", "projected": {"sources": SOURCES}}])
    await asyncio.sleep(0.1)
    await case.pods.reconcile(KEY)  # ends the predecessor's twin
    assert ("secrets", predecessors) in physical.objects
    await asyncio.sleep(0.1)
    await case.pods.reconcile(KEY)
    await asyncio.sleep(0.1)
    await case.pods.reconcile(KEY)
    secrets = [key for plural, key in physical.objects if plural == "secrets"]
    assert secrets == [ObjectKey("mount", token_secret_name("web", "access", "uid-pods-web-2"))]
    assert case.writes() == ["create secrets", "create secrets", "delete secrets"]


async def test_a_secret_that_tells_no_name_any_more_leads_to_no_pass() -> None:
    case = await begin()
    case.pods.attach()
    nameless, queued = case.secret(), len(case.pods.controller.queue)
    for key in ("kubeocean.io/virtual-pod-name", "kubeocean.io/virtual-pod-namespace"):
        del nameless["metadata"]["annotations"][key]
    case.world.physical_server.put(SECRETS, nameless)
    await asyncio.sleep(0.1)
    assert len(case.pods.controller.queue) == queued
    await case.pods.reconcile(ObjectKey("", ""))  # as the patrol may ask for
    assert case.writes() == ["create secrets"]


async def test_a_secret_that_outlived_its_pod_while_nobody_was_there_is_collected() -> None:
    case = await begin()
    case.world.virtual_server.remove(PODS, KEY)
    case.world.physical_server.remove(PODS, ObjectKey("mount", physical_name("web", "ns")))
    await asyncio.sleep(0.1)
    successor = PodController(case.pairing)
    successor.attach()
    task = asyncio.create_task(successor.controller.run())
    async with case.keeping():
        await asyncio.sleep(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert ("secrets", case.place) not in case.world.physical_server.objects
    assert uid_of(case.world.virtual_server.find(NAMESPACES, "kube-system"))


# --- lenders who change what we write ---------------------------------------------------------------------------------
LIFE = {"kubeocean.io/expires-at": None, "kubeocean.io/refresh-at": None}
WEBHOOKS: dict[str, Json] = {
    "an annotation is added": {"metadata": {"annotations": {"lender": "1"}}},
    "a label is added": {"metadata": {"labels": {"lender": "1"}}},
    "a key is added": {"data": {"lender": "eA=="}},
    "a key is taken away": {"data": {"token-1": None}},
    "the certificate is another": {"data": {"ca.crt": "eA=="}},
    "the hash is taken away": {"metadata": {"annotations": {"kubeocean.io/content-hash": None}}},
    "the life is taken away": {"metadata": {"annotations": LIFE}},
}


def admit_with(case: Case, change: Json) -> None:
    """Have the physical server change every token Secret before it is stored, as a mutating webhook would."""
    put = case.world.physical_server.put

    def putting(resource: Resource, obj: Json) -> Json:
        return put(resource, apply_merge(obj, change) if resource == SECRETS else obj)

    case.world.physical_server.put = putting  # type: ignore[method-assign]


@pytest.mark.parametrize("change", WEBHOOKS.values(), ids=WEBHOOKS.keys())
async def test_what_a_lenders_webhook_makes_of_a_secret_is_no_drift(change: Json) -> None:
    case = await begin()
    admit_with(case, change)
    case.world.physical_server.put(SECRETS, case.secret())
    await asyncio.sleep(0.1)
    for renewals in (0, 1):
        async with case.keeping():
            await asyncio.sleep(SHORTEST * 0.7)
            before, minted = len(case.writes()), case.world.virtual_server.minted
            assert before <= 2 + 2 * renewals, "at most one more after a start"
            await asyncio.sleep(SHORTEST * 0.12)
            assert len(case.writes()) == before + 1, "it is renewed when it is due"
            assert case.world.virtual_server.minted == minted + 2
            case.root_ca(f"another {renewals}")
            await asyncio.sleep(1)
            assert len(case.writes()) == before + 2
            case.world.physical_server.remove(SECRETS, case.place)
            await asyncio.sleep(5)
            assert len(case.writes()) == before + 3
        if renewals == 0:
            case.world.physical_server.writes.clear()
            case.world.physical_server.writes.extend(["create secrets"])


def delete(case: Case) -> None:
    case.world.physical_server.remove(SECRETS, case.place)


def change(**fields: Any) -> Callable[[Case], None]:
    def act(case: Case) -> None:
        case.world.physical_server.put(SECRETS, apply_merge(case.secret(), fields))

    return act


AGED = {"kubeocean.io/refresh-at": "2025-01-01T00:00:00Z"}
UNDONE: dict[str, Callable[[Case], None]] = {
    "it is deleted": delete,
    "its token is another": change(data={"token": "c3Rvbg=="}),
    "a key is added": change(data={"lender": "eA=="}),
    "its certificate is another": change(data={"ca.crt": "eA=="}),
    "its life is taken away": change(metadata={"annotations": LIFE}),
    "it is made to look old": change(metadata={"annotations": AGED}),
}


@asynccontextmanager
async def undoing(case: Case, undo: Callable[[Case], None]) -> AsyncIterator[None]:
    """Have somebody undo whatever we write of the Secret."""
    async def fight() -> None:
        while True:
            if ("secrets", case.place) in case.world.physical_server.objects:
                undo(case)
            await asyncio.sleep(0.02)

    async with meanwhile(fight()):
        yield


@pytest.mark.parametrize("undo", UNDONE.values(), ids=UNDONE.keys())
async def test_who_undoes_what_we_write_is_answered_ever_more_rarely_and_a_new_certificate_never_waits(
    undo: Callable[[Case], None]
) -> None:
    case = await begin()
    async with case.keeping():
        async with undoing(case, undo):
            await asyncio.sleep(60)
            written = len(case.writes())
            assert 7 <= written <= 10  # made, mended twice at once, and after 1, 2, 4, 8, 16 and 32 s
            assert case.world.virtual_server.minted <= 2 * written
            case.root_ca("second")
            await asyncio.sleep(0.9)
            assert written < len(case.writes()) <= written + 2
        await asyncio.sleep(3)
        assert case.files()["ca.crt"] == "second"
        assert set(case.files()) == {"token", "token-1", "ca.crt"}
        assert case.files()["token"].startswith("token-")


async def test_a_token_that_is_due_waits_for_no_pause() -> None:
    case = await begin()
    case.world.virtual_server.token_seconds = 100
    async with case.keeping(), undoing(case, UNDONE["a key is added"]):
        await asyncio.sleep(130)  # the pause is 128 s by now
        written, minted = len(case.writes()), case.world.virtual_server.minted
        await asyncio.sleep(83)
        assert (len(case.writes()), case.world.virtual_server.minted) == (written + 1, minted + 2)


async def test_a_secret_somebody_fights_over_holds_up_no_other_of_its_pod() -> None:
    case = await begin()
    vpod = case.world.virtual_server.find(PODS, "web", "ns")
    case.world.virtual_server.remove(PODS, KEY)
    case.world.physical_server.remove(PODS, ObjectKey("mount", physical_name("web", "ns")))
    case.world.pod("web", volumes=[*vpod["spec"]["volumes"], {"name": "other", "projected": {"sources": SOURCES}}])
    await asyncio.sleep(0.1)
    await case.pods.reconcile(KEY)
    case.place, other = (ObjectKey("mount", token_secret_name("web", name, "uid-pods-web-2")) for name in ("access", "other"))
    async with case.keeping(), undoing(case, delete):
        await asyncio.sleep(40)
        case.world.physical_server.remove(SECRETS, other)
        await asyncio.sleep(0.5)
        assert ("secrets", other) in case.world.physical_server.objects


async def test_nothing_is_remembered_of_a_pod_that_is_gone_whoever_holds_the_name_of_its_secret() -> None:
    case = await begin()
    stranger: Json = {"metadata": {"name": case.place.name, "namespace": "mount", "uid": "s"}, "data": {"a": "b"}}
    async with case.keeping() as keeper:
        for undo in (UNDONE["its token is another"], delete):
            undo(case)
            await asyncio.sleep(1)
        assert keeper._written
        assert len(keeper._damper)
        case.world.physical_server.remove(SECRETS, case.place)
        case.world.physical_server.put(SECRETS, stranger)
        await asyncio.sleep(5)
        assert keeper._told
        case.world.virtual_server.remove(PODS, KEY)
        await asyncio.sleep(1)
        assert (keeper._told, keeper._written, len(keeper._damper)) == (set(), {}, 0)
