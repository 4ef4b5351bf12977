"""What begins a session, ends it, and makes it give up a cluster: in virtual time, between two clusters in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import pytest

from kubeocean.api.binding import ClusterBindingSpec
from kubeocean.api.resources import CLUSTERBINDINGS, RESOURCELEASINGPOLICIES
from kubeocean.clusters.physical import PhysicalCluster
from kubeocean.clusters.secretwatch import SecretWatch
from kubeocean.clusters.virtual import OutOfView
from kubeocean.domain.bindingstatus import SyncerState
from kubeocean.kube.errors import ConfigError, Forbidden, ServerError, Unauthorized, Unreachable
from kubeocean.kube.events import EventRecorder
from kubeocean.kube.meta import Json, ObjectKey, finalizers_of
from kubeocean.kube.resources import NAMESPACES, NODES, PODS, SECRETS, SELFSUBJECTACCESSREVIEWS, Resource
from kubeocean.syncer import session as sessions
from kubeocean.syncer.pairing import Pairing, SyncerOptions
from kubeocean.syncer.session import Session
from kubeocean.syncer.surrender import ASKED_EVERY, Refusal
from kubeocean.syncer.syncer import Syncer
from tests.unit.syncer.world import World

pytestmark = pytest.mark.looptime
SPEC: Json = {"clusterID": "edge", "secretRef": {"name": "s", "namespace": "n"}, "mountNamespace": "mount"}
HELD = ["kubeocean.io/clusterbinding-syncer"]
GONE: dict[str, Any] = {"deletionTimestamp": "2026-01-01T12:00:00Z"}


class Secret:
    """Stands in for the watch of the Secret; `data` is what it shows."""

    reference, running = "n/s", True

    def __init__(self) -> None:
        self.data: Json | None = {"data": {"kubeconfig": "a"}}
        self.change: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Nothing runs."""

    def stop(self) -> None:
        """Nothing runs."""

    async def lasting(self) -> None:
        await asyncio.Event().wait()

    async def read(self) -> Json | None:
        return self.data

    def become(self, data: Json | None) -> None:
        self.data = data
        self.change()


class Case:
    """One binding, its syncer, and a physical cluster that can be opened as long as `trouble` is None."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.secret, self.trouble = World(), Secret(), cast(Exception | None, None)
        self.said: list[SyncerState] = []
        self.opened: list[str] = []  # the mountNamespaces served, by session
        virtual = self.world.virtual_server
        virtual.grace = self.world.physical_server.grace = 0.1
        virtual.serve(CLUSTERBINDINGS, self.world.virtual.bindings)
        self.uid = self.world.physical.identity.uid
        self.bind()
        monkeypatch.setattr(sessions, "Pairing", partial(Pairing, real_time=self.world.now))
        monkeypatch.setattr(Session, "_open", lambda _, spec, *__: self._open(spec))
        monkeypatch.setattr("kubeocean.syncer.syncer.SecretWatch", self._watch)
        physical: Any = self.world.physical
        for name, act in (("run", _for_ever), ("wait_synced", _at_once), ("close", _at_once)):
            monkeypatch.setattr(physical, name, act)
        monkeypatch.setattr(physical, "serve_namespace", self._serve)
        self.syncer = Syncer(
            "lender", self.world.virtual, cast(EventRecorder, self.world), SyncerOptions(clock=self.world.now),
            guard=lambda: None, user_agent="test", on_change=self.said.append,
        )

    def bind(self, name: str = "lender", *, spec: Json | None = None, **metadata: Any) -> None:
        """Create the binding, or replace it."""
        defaults = {"finalizers": HELD, "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
        self.world.virtual_server.put(CLUSTERBINDINGS, {
            "metadata": {"name": name, **defaults, **metadata}, "spec": SPEC | (spec or {}),
            "status": {"physicalClusterUID": self.uid},
        })

    async def _open(self, spec: ClusterBindingSpec) -> PhysicalCluster:
        self.opened.append("")
        if self.trouble:
            raise self.trouble
        self.world.physical.mount_namespace = spec.mount_namespace
        return self.world.physical

    def _serve(self, namespace: str) -> None:
        self.world.physical.mount_namespace = self.opened[-1] = namespace

    def _watch(self, _: object, *, on_change: Callable[[], None], **__: str) -> SecretWatch:
        self.secret.change = on_change
        return cast(SecretWatch, self.secret)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.syncer.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait((task,))

    @property
    def state(self) -> tuple[bool, str]:
        return self.syncer.state.ready, self.syncer.state.reason

    def binding(self) -> Json | None:
        return self.world.virtual_server.objects.get(("clusterbindings", ObjectKey("", "lender")))

    def vnode(self) -> Json | None:
        return self.world.virtual_server.objects.get(("nodes", ObjectKey("", "vnode-edge-node-1")))

    def taints(self) -> set[str]:
        vnode = self.vnode()
        assert vnode
        return {taint["key"] for taint in vnode["spec"]["taints"]}


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _at_once() -> None:
    return


@pytest.fixture
async def case(monkeypatch: pytest.MonkeyPatch) -> Case:
    made = Case(monkeypatch)
    await asyncio.sleep(0.1)
    return made


async def test_a_session_serves_its_binding(case: Case) -> None:
    async with case.running():
        await asyncio.sleep(2)
        assert case.state == (True, "")
        assert case.vnode() is not None


# --- letting go ------------------------------------------------------------------------------------------------------
async def test_force_lets_go_only_of_a_cluster_that_was_silent_for_40_s(case: Case) -> None:
    async with case.running():
        await asyncio.sleep(2)
    case.trouble = Unreachable("refused", cluster="lender")
    case.bind(spec={"deletionPolicy": "Force"}, **GONE)
    async with case.running() as task:
        await asyncio.sleep(38)
        assert case.vnode() is not None
        assert case.state == (False, "ClusterUnreachable")
        await asyncio.sleep(8)
        assert task.done()
    assert (case.binding(), case.vnode()) == (None, None)
    assert case.world.reasons("ClusterBinding") == ["LeftBehind"]


async def test_a_cluster_that_answers_in_time_is_not_let_go_of(case: Case) -> None:
    case.trouble = Unreachable("refused", cluster="lender")
    case.bind(spec={"deletionPolicy": "Force"}, **GONE)
    async with case.running() as task:
        await asyncio.sleep(30)
        case.trouble = None
        await asyncio.sleep(10)
        assert task.done()
    assert case.world.reasons("ClusterBinding") == []
    assert case.binding() is None


async def test_a_failure_of_the_virtual_cluster_never_lets_go(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.bind(spec={"deletionPolicy": "Force"}, **GONE)

    async def fail(*_: object, **__: object) -> Json:
        raise Unreachable("virtual: refused", cluster="virtual")

    monkeypatch.setattr(case.world.virtual_server, "get", fail)
    async with case.running():
        await asyncio.sleep(300)
    assert case.world.reasons("ClusterBinding") == []
    assert case.binding() is not None


async def test_another_cluster_under_the_old_address_is_as_good_as_gone(case: Case) -> None:
    case.world.physical_server.put(NAMESPACES, {"metadata": {"name": "kube-system", "uid": "another"}})
    case.bind(spec={"deletionPolicy": "Force"}, **GONE)
    async with case.running() as task:
        await asyncio.sleep(50)
        assert task.done()
    assert case.world.reasons("ClusterBinding") == ["LeftBehind"]


async def test_letting_go_spares_a_node_that_merely_bears_the_label(case: Case) -> None:
    case.world.virtual_server.put(NODES, {
        "metadata": {"name": "real", "labels": {"kubeocean.io/physical-cluster-id": "edge"}}, "spec": {}, "status": {},
    })
    case.trouble = Unreachable("refused", cluster="lender")
    case.bind(spec={"deletionPolicy": "Force"}, **GONE)
    async with case.running():
        await asyncio.sleep(60)
    assert case.world.virtual_server.find(NODES, "real")
    assert case.binding() is None


# --- premises --------------------------------------------------------------------------------------------------------
async def test_while_unbinding_a_secret_that_is_deleted_too_disturbs_nobody(case: Case) -> None:
    async with case.running():
        await asyncio.sleep(2)
        case.world.pod("slow")
        case.world.virtual_server.grace = 20.0
        await asyncio.sleep(1)
        case.bind(**GONE, generation=2)
        await asyncio.sleep(2)
        case.secret.become(None)
        await asyncio.sleep(60)
    assert (len(case.opened), case.binding(), case.vnode()) == (1, None, None)


async def test_a_binding_that_was_made_anew_gets_a_session_of_its_own(case: Case) -> None:
    async with case.running():
        await asyncio.sleep(2)
        case.bind(uid="another-binding", generation=2)
        await asyncio.sleep(2)
        assert len(case.opened) == 2


async def test_a_syncer_that_is_stopped_while_a_session_comes_to_its_end_begins_no_other(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow_to_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)

    monkeypatch.setattr(case.world.physical, "run", slow_to_end)
    async with case.running() as task:
        await asyncio.sleep(2)
        case.bind(uid="another-binding", generation=2)
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.sleep(5)
        assert task.cancelled()
        assert len(case.opened) == 1


async def test_a_process_that_keeps_the_pods_of_another_cluster_id_ends(case: Case) -> None:
    case.world.virtual.show_only("core")
    async with case.running() as task:
        await asyncio.sleep(2)
        assert isinstance(task.exception(), OutOfView)
        assert case.opened == []


async def test_an_edit_while_the_session_begins_is_not_lost(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slowly() -> None:
        case.bind(spec={"disableNodeDefaultTaint": True}, generation=2)
        await asyncio.sleep(1)

    monkeypatch.setattr(case.world.physical, "wait_synced", slowly)
    async with case.running():
        await asyncio.sleep(3)
        assert "kubeocean.io/vnode" not in case.taints()


async def test_a_time_zone_that_nobody_knows_ends_neither_a_session_nor_the_next_one(case: Case) -> None:
    misspelt = {"timeZone": "Europe/Berln", "disableNodeDefaultTaint": True}
    async with case.running():
        await asyncio.sleep(2)
        case.bind(spec=misspelt, generation=2)
        await asyncio.sleep(2)
        assert "kubeocean.io/vnode" not in case.taints(), "the rest of the edit counts"
        await asyncio.sleep(300)
        assert (case.state, len(case.opened)) == ((True, ""), 1)
    async with case.running():
        await asyncio.sleep(2)
        assert case.state == (True, "")
        case.bind(spec=misspelt, generation=3, **GONE)
        await asyncio.sleep(60)
    assert case.binding() is None


async def test_whatever_else_cannot_be_read_is_as_if_the_edit_had_not_been_made(case: Case) -> None:
    async with case.running():
        await asyncio.sleep(2)
        case.bind(spec={"secretRef": {"name": ""}}, generation=2)  # a kind that is not ours may let it through
        await asyncio.sleep(300)
        assert (case.state, len(case.opened)) == ((True, ""), 1)


async def test_a_binding_that_never_was_served_is_not_with_a_time_zone_that_nobody_knows(case: Case) -> None:
    case.bind(finalizers=["other"], spec={"timeZone": "Europe/Berln"}, generation=2)
    await asyncio.sleep(0.1)
    async with case.running():
        await asyncio.sleep(3)
        assert (case.state, case.opened) == ((False, "ValidationFailed"), [])


async def test_an_edit_during_a_failing_attempt_is_tried_soon(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.trouble = ConfigError("Secret n/s: no")
    async with case.running():
        await asyncio.sleep(200)
        attempts = len(case.opened)
        case.trouble = None
        case.secret.become({"data": {"kubeconfig": "b"}})
        await asyncio.sleep(2)
        assert case.state == (True, "")
        assert len(case.opened) == attempts + 1


async def test_what_changes_in_the_very_attempt_that_fails_is_tried_soon(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[float] = []

    async def fail(session: Session, *_: object) -> PhysicalCluster:
        attempts.append(asyncio.get_running_loop().time())
        if len(attempts) == 6:
            case.secret.become({"data": {"kubeconfig": "b"}})  # after it was read
        raise ConfigError("Secret n/s: no")

    monkeypatch.setattr(Session, "_open", fail)
    async with case.running():
        await asyncio.sleep(200)
    assert attempts[5] - attempts[4] > 5
    assert attempts[6] - attempts[5] <= 2
    assert attempts[7] - attempts[6] > 5


async def test_a_duplicate_holds_nothing(case: Case) -> None:
    case.bind("older", creationTimestamp="2025-01-01T00:00:00Z")
    case.bind(finalizers=["other"], generation=2)
    await asyncio.sleep(0.1)
    async with case.running():
        await asyncio.sleep(3)
        assert case.state == (False, "ValidationFailed")
        assert "already used by ClusterBinding 'older'" in case.syncer.state.message
        binding = case.binding()
        assert binding
        assert finalizers_of(binding) == ["other"]
        assert case.opened == []
        case.world.virtual_server.remove(CLUSTERBINDINGS, ObjectKey("", "older"))
        await asyncio.sleep(2)
        assert case.state == (True, "")


async def test_what_an_outage_put_off_by_minutes_is_tried_as_soon_as_the_cluster_answers_again(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, down = case.world.physical_server.create, False

    async def refuse(*args: Any, **rest: Any) -> Json:
        if down:
            raise Unreachable("refused", cluster="lender")
        return await create(*args, **rest)

    monkeypatch.setattr(case.world.physical_server, "create", refuse)
    async with case.running():
        await asyncio.sleep(2)
        down = True
        case.world.pod("web")
        await asyncio.sleep(400)  # the next attempt is minutes away
        down = False
        for listener in case.world.physical.reachability._subscribers:
            listener(True)
        await asyncio.sleep(1)
        assert [key for plural, key in case.world.physical_server.objects if plural == "pods"]


# --- cut off ---------------------------------------------------------------------------------------------------------
TROUBLES: dict[str, tuple[Exception, bool]] = {
    "the cluster does not answer": (Unreachable("refused", cluster="lender"), True),
    "the kubeconfig is broken": (ConfigError("no server"), True),
    "the virtual cluster does not answer": (Unreachable("refused", cluster="virtual"), False),
    "the cluster has a bad moment": (ServerError("500", cluster="lender", status=500), False),
}


@pytest.mark.parametrize("how", TROUBLES)
async def test_vnodes_are_shut_while_no_session_can_begin(how: str, case: Case) -> None:
    async with case.running():
        await asyncio.sleep(2)
    trouble, shut = TROUBLES[how]
    case.trouble = trouble
    before = case.taints()
    async with case.running():
        await asyncio.sleep(10)
        assert ("kubeocean.io/cluster-unreachable" in case.taints()) is shut
        writes = len(case.world.writes)
        await asyncio.sleep(300)
        assert len(case.world.writes) == writes, "said once"
        case.trouble = None
        await asyncio.sleep(65)
        assert case.taints() == before


# --- another mountNamespace ------------------------------------------------------------------------------------------
async def test_twins_go_on_in_their_namespace_when_the_spec_names_another(case: Case) -> None:
    owner = case.world.physical.owner
    async with case.running():
        await asyncio.sleep(2)
        case.world.pod("web")
        await asyncio.sleep(1)
        case.bind(spec={"mountNamespace": "other"}, generation=2)
        await asyncio.sleep(2)
        assert case.state == (False, "MountNamespaceInUse")
        assert "set spec.mountNamespace back to mount" in case.syncer.state.message
        case.world.pod("later")
        await asyncio.sleep(1)
        twins = {key.namespace for plural, key in case.world.physical_server.objects if plural == "pods"}
        assert twins == {"mount"}
        assert case.vnode() is not None
        for name in ("web", "later"):
            await case.world.virtual_server.delete(PODS, name, "ns", uid=f"uid-pods-{name}")
        await asyncio.sleep(8)
        assert case.opened == ["mount", "mount", "other"]
        assert case.state == (True, "")
        claim = case.world.physical_server.find(NAMESPACES, "other")["metadata"]["annotations"]
        assert claim["kubeocean.io/claimed-by"] == owner.annotation


async def test_unbinding_works_in_the_namespace_that_is_served(case: Case) -> None:
    async with case.running():
        await asyncio.sleep(2)
        case.world.pod("web")
        await asyncio.sleep(1)
        case.bind(spec={"mountNamespace": "other"}, generation=2)
        await asyncio.sleep(2)
        case.bind(spec={"mountNamespace": "other"}, generation=3, **GONE)
        await asyncio.sleep(60)
    assert case.binding() is None
    assert not [key for plural, key in case.world.physical_server.objects if plural == "pods"]


async def test_a_lender_who_undoes_what_we_take_back_does_not_keep_us(case: Case) -> None:
    writes = 0

    async def put_back(*args: Any, **rest: Any) -> Json:
        nonlocal writes
        writes += 1
        return {}

    lender = case.world.physical_server
    entry = {"virtualClusterUID": case.world.virtual.uid, "clusterID": "edge"}
    lender.put(RESOURCELEASINGPOLICIES, {
        "metadata": {"name": "his"}, "spec": {}, "status": {"borrowers": [entry]},
    })
    patch = lender.patch

    async def refuse_to_forget(resource: Resource, *args: Any, **rest: Any) -> Json:
        return await (put_back() if resource == RESOURCELEASINGPOLICIES else patch(resource, *args, **rest))

    lender.patch = refuse_to_forget  # type: ignore[method-assign]
    case.bind(**GONE)
    async with case.running():
        await asyncio.sleep(60)
    assert writes == 10
    assert case.binding() is None


# --- giving up ---------------------------------------------------------------------------------------------------------
REFUSALS = {
    "the token is no good any more": Unauthorized("401", cluster="lender", status=401),
    "the rights were taken back": Forbidden("403", cluster="lender", status=403),
    "nobody answers": Unreachable("refused", cluster="lender"),
    "the kubeconfig is gone": ConfigError("no Secret"),
}


@pytest.mark.parametrize("how", REFUSALS)
async def test_force_lets_go_of_a_cluster_to_which_nothing_leads(how: str, case: Case) -> None:
    async with case.running():
        await asyncio.sleep(2)
    case.trouble = REFUSALS[how]
    case.bind(spec={"deletionPolicy": "Force"}, generation=2, **GONE)
    async with case.running():
        await asyncio.sleep(35)
        assert case.binding() is not None, "it has to last"
        await asyncio.sleep(15)
    assert (case.binding(), case.vnode()) == (None, None)


async def test_force_lets_go_of_a_cluster_that_takes_its_rights_back_meanwhile(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> Any:
        raise Forbidden("403", cluster="lender", status=403)

    async with case.running():
        await asyncio.sleep(2)
        case.world.pod("web")
        await asyncio.sleep(1)
        for call in ("get", "list", "delete", "patch"):
            monkeypatch.setattr(case.world.physical_server, call, refuse)
        case.bind(spec={"deletionPolicy": "Force"}, generation=2, **GONE)
        await asyncio.sleep(35)
        assert case.binding() is not None, "it has to last"
        await asyncio.sleep(20)
    assert (case.binding(), case.vnode()) == (None, None)


RIGHTS = {
    "nothing in the mountNamespace may be read": ("list secrets", "watch secrets", "list configmaps", "watch configmaps"),
    "Secrets may not be listed": ("list secrets",),
    "copies may not be deleted": ("delete secrets", "delete configmaps"),
    "nodes may not be marked": ("patch nodes",),
}


@pytest.mark.parametrize("how", RIGHTS)
async def test_force_lets_go_of_a_cluster_that_takes_some_rights_back(how: str, case: Case) -> None:
    server = case.world.physical_server
    async with case.running():
        await asyncio.sleep(2)
        case.world.pod("web")
        put_copy(case)
        await asyncio.sleep(1)
        server.forbidden |= set(RIGHTS[how])
        case.bind(spec={"deletionPolicy": "Force"}, generation=2, **GONE)
        await asyncio.sleep(35)
        assert case.binding() is not None, "it has to last"
        assert case.state == (False, "PermissionDenied")
        assert "`kubeocean rbac --mount-namespace mount`" in case.syncer.state.message
        assert RIGHTS[how][0] in case.syncer.state.message
        await asyncio.sleep(20)
    assert (case.binding(), case.vnode()) == (None, None)
    assert case.world.reasons("ClusterBinding") == ["LeftBehind"]
    assert not [key for plural, key in server.objects if plural == "pods"], "what may be cleaned has been cleaned"


@pytest.mark.parametrize("how", RIGHTS)
async def test_a_binding_without_force_waits_for_lost_rights_and_goes_when_they_are_granted_again(
    how: str, case: Case
) -> None:
    server = case.world.physical_server
    async with case.running():
        await asyncio.sleep(2)
        put_copy(case)
        server.forbidden |= set(RIGHTS[how])
        case.bind(generation=2, **GONE)
        await asyncio.sleep(100)
        assert case.binding() is not None
        assert case.state == (False, "PermissionDenied")
        server.forbidden.clear()
        await asyncio.sleep(70)
    assert case.binding() is None
    assert case.world.reasons("ClusterBinding") == []
    assert not [key for plural, key in server.objects if plural == "secrets"]


@pytest.mark.parametrize("force", [False, True])
async def test_a_webhook_that_lets_nobody_delete_is_quoted(case: Case, monkeypatch: pytest.MonkeyPatch, force: bool) -> None:
    """Our rights are complete, as far as anybody can ask."""
    server = case.world.physical_server
    delete = server.delete

    async def refuse(resource: Resource, *args: Any, **rest: Any) -> Json:
        if resource == SECRETS:
            raise Forbidden("lender: admission webhook says no", cluster="lender", status=403)
        return await delete(resource, *args, **rest)

    async with case.running():
        await asyncio.sleep(2)
        put_copy(case)
        monkeypatch.setattr(server, "delete", refuse)
        case.bind(generation=2, spec={"deletionPolicy": "Force"} if force else None, **GONE)
        await asyncio.sleep(30)
        assert case.state == (False, "PermissionDenied")
        assert case.syncer.state.message == "lender: admission webhook says no"
        await asyncio.sleep(30)
        assert (case.binding() is None) is force
        monkeypatch.setattr(server, "delete", delete)
        await asyncio.sleep(10)
    assert case.binding() is None


async def test_pods_that_are_still_leaving_are_not_let_go_of_for_a_right_that_is_not_in_their_way(case: Case) -> None:
    """To let go would have the Pod run on both sides."""
    server = case.world.physical_server
    async with case.running():
        await asyncio.sleep(2)
        case.world.pod("web")
        await asyncio.sleep(1)
        case.world.virtual_server.blocked.add("web")  # by its disruption budget, until the drain gives up asking
        server.forbidden |= {"patch nodes", "delete configmaps"}
        case.bind(spec={"deletionPolicy": "Force"}, generation=2, **GONE)
        await asyncio.sleep(120)
        assert case.world.pods() == ["web"]
        assert [key for plural, key in server.objects if plural == "pods"]
        case.world.virtual_server.blocked.clear()
        await asyncio.sleep(100)
    assert case.binding() is None
    assert not [key for plural, key in server.objects if plural == "pods"]


async def test_a_priority_class_that_may_not_be_deleted_holds_up_nobody(case: Case) -> None:
    async with case.running():
        await asyncio.sleep(2)
        case.world.physical_server.forbidden.add("delete priorityclasses")
        case.bind(generation=2, **GONE)
        await asyncio.sleep(10)
    assert case.binding() is None


async def test_force_looks_where_the_twins_are_and_not_where_the_spec_would_have_them(case: Case) -> None:
    """Rights are missing in a mountNamespace that was never served."""
    server = case.world.physical_server
    create = server.create

    async def answer(resource: Resource, obj: Json, **rest: Any) -> Json:
        if resource == SELFSUBJECTACCESSREVIEWS:
            return {"status": {"allowed": obj["spec"]["resourceAttributes"]["namespace"] != "other"}}
        return await create(resource, obj, **rest)

    async with case.running():
        await asyncio.sleep(2)
        case.world.pod("web")
        await asyncio.sleep(2)
    server.put(NAMESPACES, {"metadata": {"name": "other"}})
    server.create = answer  # type: ignore[method-assign]
    case.bind(spec={"mountNamespace": "other", "deletionPolicy": "Force"}, generation=3, **GONE)
    async with case.running() as task:
        await asyncio.sleep(30)
        assert task.done()
    assert case.world.reasons("ClusterBinding") == []
    assert not [key for plural, key in server.objects if plural == "pods"]


async def test_one_refusal_and_then_failures_are_no_lasting_refusal(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = Refusal(case.world.physical, lambda: False)
    answer: list[Exception] = [Forbidden("403", cluster="lender", status=403)]

    async def ask() -> str:
        raise answer[0]

    monkeypatch.setattr(case.world.physical.identity, "ask", ask)
    await asyncio.sleep(ASKED_EVERY + 0.1)
    await refusal.look()
    assert (refusal.why, refusal.lasts) == ("403", False)
    answer[0] = ServerError("500", cluster="lender", status=500)
    for _ in range(6):
        await asyncio.sleep(ASKED_EVERY + 0.1)
        await refusal.look()
    assert not refusal.lasts
    answer[0] = Forbidden("403", cluster="lender", status=403)
    for _ in range(5):
        await asyncio.sleep(ASKED_EVERY + 0.1)
        assert not refusal.lasts
        await refusal.look()
    await asyncio.sleep(ASKED_EVERY + 0.1)
    assert refusal.lasts


async def test_a_session_that_may_not_read_what_it_needs_says_so_soon_and_takes_no_new_pods(case: Case) -> None:
    async with case.running():
        await asyncio.sleep(2)
    case.trouble = Forbidden("lender: secrets is forbidden", cluster="lender", status=403)
    async with case.running():
        await asyncio.sleep(10)
        assert case.state == (False, "PermissionDenied")
        assert case.syncer.state.message == (
            "lender: secrets is forbidden; where a right is missing, `kubeocean rbac` prints what the lender has to grant"
        )
        assert "kubeocean.io/cluster-unreachable" in case.taints()


def put_copy(case: Case) -> None:
    """Have a token Secret of ours that only unbinding takes back."""
    owner = case.world.physical.owner
    case.world.physical_server.put(SECRETS, {"metadata": {
        "name": "left", "namespace": "mount", "labels": owner.labels() | {"kubeocean.io/service-account-token": "true"},
        "annotations": {"kubeocean.io/owned-by": owner.annotation},
    }})


MOUNTED = ("secrets", "configmaps", "persistentvolumeclaims")


@pytest.mark.parametrize("force", [False, True])
async def test_a_mount_namespace_that_is_gone_with_the_rights_in_it_holds_up_nobody(case: Case, force: bool) -> None:
    """The way a lender gets rid of a borrower: the Role goes with the namespace, and every look into it is refused."""
    server = case.world.physical_server
    async with case.running():
        await asyncio.sleep(2)
        server.forbidden |= {f"{verb} {plural}" for plural in MOUNTED for verb in ("get", "list", "watch", "delete", "create")}
        server.forbidden |= {"patch namespaces", "delete pods", "create pods"}
        server.remove(NAMESPACES, ObjectKey("", "mount"))
        case.bind(generation=2, spec={"deletionPolicy": "Force"} if force else None, **GONE)
        await asyncio.sleep(10)
    assert (case.binding(), case.vnode()) == (None, None)
    assert case.world.reasons("ClusterBinding") == []


# --- unbinding -------------------------------------------------------------------------------------------------------
async def test_a_virtual_node_that_no_cache_shows_keeps_the_binding(case: Case) -> None:
    async with case.running():
        await asyncio.sleep(2)
        labels = {"kubeocean.io/managed-by": "kubeocean", "kubeocean.io/physical-cluster-id": "edge"}
        unseen = {"metadata": {"name": "vnode-edge-node-2", "labels": labels, "resourceVersion": "1"}}
        case.world.virtual_server.objects["nodes", ObjectKey("", "vnode-edge-node-2")] = unseen
        case.bind(**GONE, generation=2)
        await asyncio.sleep(30)
        assert (case.vnode(), case.binding() is None) == (None, False)
        case.world.virtual_server.remove(NODES, ObjectKey("", "vnode-edge-node-2"))
        await asyncio.sleep(3)
        assert case.binding() is None


