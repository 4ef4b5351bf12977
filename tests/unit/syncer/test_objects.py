"""ConfigMaps and Secrets on their way to the Pods that name them: both clusters in memory, in virtual time."""

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from kubeocean.api import names
from kubeocean.domain.depmap import copy_key
from kubeocean.domain.marks import is_marked
from kubeocean.kube.client import Client
from kubeocean.kube.errors import ApiError, Forbidden, ServerError
from kubeocean.kube.events import EventRecorder
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, labels_of
from kubeocean.kube.patch import apply_merge
from kubeocean.kube.resources import CONFIGMAPS, NAMESPACES, PODS, SECRETS, Resource
from kubeocean.syncer.pairing import Pairing, SyncerOptions
from kubeocean.syncer.pods import PodController
from kubeocean.syncer.topdown.marking import remove_marks
from kubeocean.syncer.topdown.objectkeeper import GRACE, TAKEN_AGAIN
from kubeocean.syncer.topdown.objects import ObjectSource
from tests.unit.syncer.watching import Watches
from tests.unit.syncer.world import SPEC, Server, World, meanwhile

pytestmark = pytest.mark.looptime
APP = ObjectKey("ns", "app")
PLACE = copy_key(APP, "mount")
SOON = 0.5  # seconds
KINDS = ("configmaps", "secrets")


class Calls:
    """A Client that notes the calls about our kinds, and whose process dies with call number `last`."""

    def __init__(self, server: Server, case: "Case", side: str) -> None:
        self._server, self._case, self._side = server, case, side

    def __getattr__(self, verb: str) -> Callable[..., Awaitable[Any]]:
        act = getattr(self._server, verb)

        async def call(resource: Resource, *given: Any, **named: Any) -> Any:
            case = self._case
            if resource.plural in (*KINDS, "pods"):
                if case.last is not None and len(case.calls) >= case.last:
                    case.died.set()
                    await asyncio.Event().wait()
                case.calls.append(f"{self._side} {verb} {resource.plural}")
            return await act(resource, *given, **named)

        return call


class Case:
    """A leased node, Pods on it, and one process after the other that serves them."""

    def __init__(self, world: World) -> None:
        self.world, self.virtual, self.physical = world, world.virtual_server, world.physical_server
        self.calls: list[str] = []
        self.last: int | None = None
        self.died = asyncio.Event()
        self.physical.put(NAMESPACES, {"metadata": {"name": "mount"}})
        world.virtual.calls = world.virtual.identity._client = cast(Client, Calls(self.virtual, self, "virtual"))
        world.physical.calls = world.physical.identity._client = cast(Client, Calls(self.physical, self, "physical"))

    @asynccontextmanager
    async def serving(self, *, unbinding: bool = False) -> AsyncIterator[PodController]:
        """Run the Pod controller and all sources until the end of the context; then they are gone, with their memory."""
        world = self.world
        pairing = Pairing(
            "lender", "binding-uid", SPEC, world.physical.owner, world.virtual, world.physical, cast(EventRecorder, world),
            SyncerOptions(), clock=world.now, real_time=world.now, unbinding=unbinding,
        )
        pods = PodController(pairing)
        pods.attach()
        work = [source.run() for source in pods.dependencies.sources]
        tasks = [asyncio.create_task(each) for each in (*work, pods.controller.run())]
        try:
            await asyncio.sleep(SOON)
            yield pods
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            pairing.stop_listening()

    # --- what users and lenders do -----------------------------------------------------------------------------------
    def config(self, name: str = "app", **data: str) -> Json:
        return self.virtual.put(CONFIGMAPS, {"metadata": {"name": name, "namespace": "ns"}, "data": data or {"a": "1"}})

    def edit(self, **fields: Any) -> None:
        self.virtual.put(CONFIGMAPS, apply_merge(self.virtual.find(CONFIGMAPS, "app", "ns"), fields))

    def pod(self, name: str, *, kind: str = "configMapRef", optional: bool = False, **names_it: str) -> None:
        reference = {"name": names_it.get("object", "app"), "optional": optional}
        self.world.pod(name, containers=[{"name": "main", "image": "i", "envFrom": [{kind: reference}]}])

    async def remove_pod(self, name: str) -> None:
        self.virtual.remove(PODS, ObjectKey("ns", name))
        await asyncio.sleep(SOON)

    # --- what there is to see ----------------------------------------------------------------------------------------
    def object(self, server: Server, resource: Resource, key: ObjectKey) -> Json | None:
        return server.objects.get((resource.plural, key))

    def copy(self, resource: Resource = CONFIGMAPS) -> Json | None:
        return self.object(self.physical, resource, PLACE)

    def data(self) -> Json | None:
        return (self.copy() or {}).get("data")

    def marked(self, resource: Resource = CONFIGMAPS) -> bool:
        found = self.object(self.virtual, resource, APP)
        return found is not None and is_marked(found, "edge")

    def has_twin(self, pod: str) -> bool:
        return self.object(self.physical, PODS, copy_key(ObjectKey("ns", pod), "mount")) is not None

    def told(self, pod: str) -> str:
        conditions = self.virtual.find(PODS, pod, "ns")["status"].get("conditions") or ()
        return next((each["reason"] for each in conditions if each["type"] == "PhysicalPodCreated"), "")

    def about(self, plural: str) -> list[str]:
        return [call for call in self.calls if call.endswith(plural)]

    def watches(self, plural: str) -> list[bool]:
        """Return, for each watch of a kind in the virtual cluster, whether it is metadata only."""
        opened = cast(Watches, self.world.virtual.watches).opened
        return [metadata_only for path, metadata_only in opened if path == f"/api/v1/{plural}"]


def sources_of(pods: PodController) -> list[ObjectSource]:
    """Return the two sources that are tried here."""
    return [source for source in pods.dependencies.sources if isinstance(source, ObjectSource)]


@pytest.fixture
async def case() -> Case:
    world = World()
    async with world.leading():
        await asyncio.sleep(0.2)
    return Case(world)


async def test_many_pods_share_one_copy_for_three_calls(case: Case) -> None:
    case.config(color="red")
    async with case.serving():
        for number in range(20):
            case.pod(f"pod-{number}")
        await asyncio.sleep(SOON)
        assert all(case.has_twin(f"pod-{number}") for number in range(20))
        assert case.about("configmaps") == ["virtual get configmaps", "virtual patch configmaps", "physical create configmaps"]
        assert case.data() == {"color": "red"}
        assert case.marked()
        assert not case.about("secrets")
        assert case.watches("configmaps") == [False]


async def test_a_restart_and_a_rest_cost_no_call(case: Case) -> None:
    case.config()
    case.pod("web")
    async with case.serving():
        await asyncio.sleep(SOON)
    case.calls.clear()
    async with case.serving():
        await asyncio.sleep(3 * GRACE)
        case.pod("next")
        await asyncio.sleep(SOON)
        assert case.has_twin("next")
    assert not case.about("configmaps")


@pytest.mark.parametrize(("resource", "kind", "reason"), [
    (CONFIGMAPS, "configMapRef", "MandatoryConfigMapNotFound"), (SECRETS, "secretRef", "MandatorySecretNotFound"),
])
async def test_a_pod_waits_for_what_is_missing_and_starts_within_a_second(
    case: Case, resource: Resource, kind: str, reason: str
) -> None:
    async with case.serving():
        case.pod("web", kind=kind)
        await asyncio.sleep(600)
        assert not case.has_twin("web")
        assert case.told("web") == reason
        assert case.world.heard_by("web") == [reason]
        assert case.about(resource.plural) == [f"virtual get {resource.plural}"]
        assert case.watches(resource.plural) == [False, True]
        case.virtual.put(resource, {"metadata": {"name": "other", "namespace": "ns"}})
        case.virtual.put(resource, {"metadata": {"name": "app", "namespace": "ns"}, "data": {"a": "MQ=="}})
        await asyncio.sleep(1)
        assert case.has_twin("web")
        assert case.copy(resource) is not None


async def test_what_is_optional_is_told_once_and_carried_later(case: Case) -> None:
    async with case.serving():
        case.pod("web", optional=True)
        await asyncio.sleep(SOON)
        assert case.has_twin("web")
        assert case.world.heard_by("web") == ["OptionalConfigMapNotFound"]
    async with case.serving():  # nobody asks for the Pod any more: it has its twin
        case.config(color="red")
        await asyncio.sleep(SOON)
        assert case.data() == {"color": "red"}
        assert case.world.heard_by("web") == ["OptionalConfigMapNotFound"]


async def test_who_was_told_is_forgotten_with_his_pod(case: Case) -> None:
    """Something that never comes, in a namespace where there always is a Pod that would take it."""
    async with case.serving() as pods:
        case.pod("stays", optional=True)
        for number in range(5):
            case.pod(f"web-{number}", optional=True)
        await asyncio.sleep(SOON)
        (source,) = [source for source in sources_of(pods) if source.keeper.told]
        assert len(source.keeper.told[APP]) == 6
        for number in range(5):
            await case.remove_pod(f"web-{number}")
        assert len(source.keeper.told[APP]) == 1


async def test_who_waits_is_forgotten_with_his_pod(case: Case) -> None:
    """The same of something mandatory: while one waits, others come, wait, and go."""
    async with case.serving() as pods:
        for name in ("stays", *(f"web-{number}" for number in range(5))):
            case.pod(name)
        await asyncio.sleep(SOON)
        (source,) = [source for source in sources_of(pods) if source.keeper.asked]
        assert len(source.keeper.asked[APP]) == 6
        for number in range(5):
            await case.remove_pod(f"web-{number}")
        assert source.keeper.asked == {APP: {ObjectKey("ns", "stays")}}
        case.config()
        await asyncio.sleep(SOON)
        assert case.has_twin("stays")


async def test_names_that_nothing_can_have_are_missing_without_a_question(case: Case) -> None:
    async with case.serving():
        for number, name in enumerate(("..", "a/b", "Upper")):
            case.pod(f"pod-{number}", object=name)
        case.pod("careless", object="Upper", optional=True)
        await asyncio.sleep(SOON)
        assert [case.told(f"pod-{number}") for number in range(3)] == ["MandatoryConfigMapNotFound"] * 3
        assert case.has_twin("careless")
        assert not case.about("configmaps")


async def test_both_sides_changes_end_in_the_virtual_content(case: Case) -> None:
    case.config(color="red", old="1")
    case.pod("web")
    async with case.serving():
        case.virtual.put(CONFIGMAPS, {**case.virtual.find(CONFIGMAPS, "app", "ns"), "data": {"color": "blue"}})
        await asyncio.sleep(SOON)
        assert case.data() == {"color": "blue"}
        drifted = case.physical.find(CONFIGMAPS, PLACE.name, "mount")
        for drift in ({"data": {"color": "theirs", "new": "1"}}, {"metadata": {"labels": {"app": None}}},
                      {"metadata": {"annotations": {names.VIRTUAL_NAME_ANNOTATION: None}}}):
            case.edit(metadata={"labels": {"app": "shop"}})
            await asyncio.sleep(5)  # he who drifts so slowly is no fighter
            case.physical.put(CONFIGMAPS, apply_merge(case.physical.find(CONFIGMAPS, PLACE.name, "mount"), drift))
            await asyncio.sleep(SOON)
            mended = case.physical.find(CONFIGMAPS, PLACE.name, "mount")
            assert (mended["data"], labels_of(mended)["app"]) == ({"color": "blue"}, "shop")
            assert annotations_of(mended)[names.VIRTUAL_NAME_ANNOTATION] == "app"
        await asyncio.sleep(5)  # he who drifts so slowly is no fighter
        case.physical.remove(CONFIGMAPS, PLACE)
        await asyncio.sleep(SOON)
        assert case.data() == {"color": "blue"}
        assert drifted["metadata"]["name"] == PLACE.name


async def test_what_is_immutable_is_replaced_when_it_was_made_anew(case: Case) -> None:
    case.virtual.put(CONFIGMAPS, {**case.config(color="red"), "immutable": True})
    case.pod("web")
    async with case.serving():
        stored = case.copy()
        assert stored
        assert stored["immutable"] is True
        case.virtual.remove(CONFIGMAPS, APP)
        case.virtual.put(CONFIGMAPS, {
            "metadata": {**APP._asdict(), "uid": "second"}, "data": {"color": "blue"}, "immutable": True,
        })
        await asyncio.sleep(SOON)
        assert case.data() == {"color": "blue"}
        assert "physical delete configmaps" in case.calls


async def test_what_a_strangers_object_hinders_is_told_and_heals(case: Case) -> None:
    stranger = {"metadata": {"name": PLACE.name, "namespace": "mount"}, "data": {"theirs": "1"}}
    case.physical.put(CONFIGMAPS, stranger)
    case.config()
    async with case.serving():
        case.pod("web")
        await asyncio.sleep(10 * TAKEN_AGAIN)
        assert not case.has_twin("web")
        assert case.told("web") == "DependencyConflict"
        assert case.world.heard_by("web") == ["DependencyConflict"]
        assert case.world.reasons("ConfigMap") == ["DependencyConflict"]
        assert case.data() == {"theirs": "1"}
        assert case.calls.count("physical create configmaps") == 1
        case.physical.remove(CONFIGMAPS, PLACE)
        await asyncio.sleep(TAKEN_AGAIN + SOON)
        assert case.has_twin("web")
        assert case.data() == {"a": "1"}


async def test_a_deletion_is_not_held_up_and_the_copy_stays_for_who_runs(case: Case) -> None:
    case.config(color="red")
    case.pod("web")
    async with case.serving():
        current = case.virtual.find(CONFIGMAPS, "app", "ns")
        await case.virtual.delete(CONFIGMAPS, "app", "ns", uid=current["metadata"]["uid"])
        await asyncio.sleep(SOON)
        assert case.object(case.virtual, CONFIGMAPS, APP) is None
        assert case.data() == {"color": "red"}
        case.pod("late")
        await asyncio.sleep(3 * GRACE)
        assert case.told("late") == "MandatoryConfigMapNotFound"
        assert case.data() == {"color": "red"}
        case.virtual.put(CONFIGMAPS, {"metadata": {**APP._asdict(), "uid": "second"}, "data": {"color": "blue"}})
        await asyncio.sleep(1)
        assert case.has_twin("late")
        assert case.data() == {"color": "blue"}


async def test_one_that_somebody_elses_finalizer_keeps_is_missing_too(case: Case) -> None:
    case.config()
    case.pod("web")
    async with case.serving():
        case.edit(metadata={"finalizers": [names.DEPENDENCY_FINALIZER_PREFIX + "edge", "somebody/else"]})
        current = case.virtual.find(CONFIGMAPS, "app", "ns")
        await case.virtual.delete(CONFIGMAPS, "app", "ns", uid=current["metadata"]["uid"])
        await asyncio.sleep(SOON)
        assert case.virtual.find(CONFIGMAPS, "app", "ns")["metadata"]["finalizers"] == ["somebody/else"]
        case.pod("late")
        await asyncio.sleep(SOON)
        assert case.told("late") == "MandatoryConfigMapNotFound"


async def test_what_nobody_needs_goes_after_the_grace_and_leaves_no_trace(case: Case) -> None:
    before = copy.deepcopy(case.config()["metadata"])
    case.pod("web")
    case.pod("done")
    async with case.serving():
        await case.remove_pod("web")
        case.virtual.put(PODS, apply_merge(case.virtual.find(PODS, "done", "ns"), {"status": {"phase": "Succeeded"}}))
        await asyncio.sleep(GRACE - 2)
        assert case.copy()
        assert case.marked()
        await asyncio.sleep(4)
        assert case.copy() is None
        left = case.virtual.find(CONFIGMAPS, "app", "ns")["metadata"]
        assert {key: value for key, value in left.items() if value and key != "resourceVersion"} == {
            key: value for key, value in before.items() if key != "resourceVersion"
        }


async def test_the_grace_holds_up_no_deletion(case: Case) -> None:
    case.config()
    case.pod("web")
    async with case.serving():
        await case.remove_pod("web")
        current = case.virtual.find(CONFIGMAPS, "app", "ns")
        await case.virtual.delete(CONFIGMAPS, "app", "ns", uid=current["metadata"]["uid"])
        await asyncio.sleep(SOON)
        assert case.object(case.virtual, CONFIGMAPS, APP) is None
        assert case.copy() is None


async def test_a_pod_that_is_refused_has_nothing_carried(case: Case) -> None:
    case.config()
    containers = [{"name": "main", "securityContext": {"privileged": True}, "envFrom": [{"configMapRef": {"name": "app"}}]}]
    case.world.pod("web", containers=containers)
    async with case.serving():
        assert case.told("web")
        assert not case.about("configmaps")


TROUBLES: dict[str, tuple[ApiError, int]] = {
    "a quota": (Forbidden("exceeded quota", cluster="lender", status=403), 1),
    "a webhook that is down": (ServerError("failed calling webhook", cluster="lender", status=500), 3),
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_what_keeps_a_copy_away_is_told_and_tried_again_within_half_a_minute(
    trouble: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    (error, told_at), attempts, create = TROUBLES[trouble], 0, case.physical.create
    lasts = True

    async def refuse(resource: Resource, *given: Any, **named: Any) -> Json:
        nonlocal attempts
        if resource == CONFIGMAPS and lasts:
            attempts += 1
            assert bool(case.told("web")) == (attempts > told_at)
            raise error
        return await create(resource, *given, **named)

    monkeypatch.setattr(case.physical, "create", refuse)
    case.config()
    case.pod("web")
    async with case.serving():
        await asyncio.sleep(600)
        assert case.told("web") == "DependencyRefused"
        lasts = False
        await asyncio.sleep(35)
        assert case.has_twin("web")


async def test_a_pod_within_the_grace_keeps_the_copy(case: Case) -> None:
    case.config()
    case.pod("web")
    async with case.serving():
        await case.remove_pod("web")
        await asyncio.sleep(GRACE / 2)
        case.calls.clear()
        case.pod("next")
        await asyncio.sleep(2 * GRACE)
        assert case.has_twin("next")
        assert case.copy()
        assert not case.about("configmaps")


async def test_a_pod_that_comes_while_the_copy_goes_gets_another(case: Case) -> None:
    case.config()
    case.pod("web")
    async with case.serving():
        deleting, delete = asyncio.Event(), case.physical.delete

        async def slow(resource: Resource, *given: Any, **named: Any) -> Json:
            if resource == CONFIGMAPS:
                deleting.set()
                await asyncio.sleep(0.3)
            return await delete(resource, *given, **named)

        case.physical.delete = slow  # type: ignore[method-assign]
        await case.remove_pod("web")
        await asyncio.wait_for(deleting.wait(), 2 * GRACE)
        case.pod("next")
        await asyncio.sleep(0.2)
        assert not case.has_twin("next")
        await asyncio.sleep(1)
        assert case.has_twin("next")
        assert case.copy()
        assert case.marked()


async def test_unbinding_waits_for_no_grace(case: Case) -> None:
    case.config()
    case.pod("web")
    case.virtual.put(SECRETS, {"metadata": {"name": "app", "namespace": "ns"}, "data": {"a": "MQ=="}})
    case.pod("keen", kind="secretRef")
    async with case.serving() as pods:
        await asyncio.sleep(SOON)
        assert case.marked(SECRETS)
        await case.remove_pod("web")
        await case.remove_pod("keen")
        pods.pairing.unbinding = True
        async with asyncio.timeout(5):
            for source in sources_of(pods):
                await source.take_back()
        for resource in (CONFIGMAPS, SECRETS):
            assert case.copy(resource) is None
            assert not case.marked(resource)


async def test_by_force_the_marks_go_without_the_physical_cluster(case: Case) -> None:
    case.config()
    case.pod("web")
    async with case.serving():
        await asyncio.sleep(SOON)
    case.calls.clear()
    await remove_marks(case.world.virtual, "edge")
    assert not case.marked()
    assert not [call for call in case.calls if call.startswith("physical")]


async def test_a_copy_that_does_not_say_of_what_goes_when_nobody_uses_it(case: Case) -> None:
    marks = {"labels": case.world.physical.owner.labels(), "annotations": case.world.physical.owner.annotations()}
    case.physical.put(CONFIGMAPS, {"metadata": {"name": "stray", "namespace": "mount", **marks}})
    case.physical.put(CONFIGMAPS, {"metadata": {"name": PLACE.name, "namespace": "mount", **marks}})
    case.pod("web", optional=True)
    async with case.serving():
        await asyncio.sleep(GRACE + 5)
        assert case.object(case.physical, CONFIGMAPS, ObjectKey("mount", "stray")) is None
        assert case.copy() is not None


async def test_no_copy_goes_when_the_virtual_cluster_became_another(case: Case) -> None:
    case.config()
    case.pod("web")
    async with case.serving():
        case.virtual.put(NAMESPACES, {"metadata": {"name": "kube-system", "uid": "rebuilt-empty"}})
        await case.remove_pod("web")
        await asyncio.sleep(3 * GRACE)
        assert case.copy() is not None


async def test_what_a_lenders_webhook_makes_of_a_copy_is_no_drift(case: Case) -> None:
    create, patch = case.physical.create, case.physical.patch

    def changed(obj: Json) -> Json:
        return apply_merge(obj, {"data": {"injected": "1"}, "metadata": {"labels": {"injected": "1"}}})

    async def creating(resource: Resource, obj: Json, **named: Any) -> Json:
        return await create(resource, changed(obj) if resource == CONFIGMAPS else obj, **named)

    async def patching(resource: Resource, name: str, namespace: str, wanted: Json, **named: Any) -> Json:
        return await patch(resource, name, namespace, changed(wanted) if resource == CONFIGMAPS else wanted, **named)

    case.physical.create, case.physical.patch = creating, patching  # type: ignore[assignment]
    case.config()
    case.pod("web")
    async with case.serving():
        await asyncio.sleep(GRACE)
        assert case.has_twin("web")
        assert len(case.about("configmaps")) == 3
    async with case.serving():
        await asyncio.sleep(GRACE)
        assert len(case.about("configmaps")) <= 6
        case.pod("next")
        await asyncio.sleep(SOON)
        assert case.has_twin("next")


async def test_no_data_of_a_secret_stays_in_a_cache(case: Case) -> None:
    applied = {"kubectl.kubernetes.io/last-applied-configuration": "hush"}
    case.virtual.put(SECRETS, {
        "metadata": {"name": "app", "namespace": "ns", "annotations": applied}, "type": "Opaque", "data": {"word": "hush"},
    })
    case.pod("web", kind="secretRef")
    async with case.serving() as pods:
        await asyncio.sleep(SOON)
        source = next(each for each in sources_of(pods) if "Secret" in each.kinds)
        marked, copies = list(source.keeper.marked.store.entries()), list(source.keeper.copies.store.entries())
        assert (len(marked), len(copies)) == (1, 1)
        cached = [*(entry.object() for entry in marked), *(entry.object() for entry in copies)]
        assert "hush" not in repr(cached)
        stored = case.copy(SECRETS)
        assert stored
        assert stored["data"] == {"word": "hush"}


@pytest.mark.parametrize("last", range(1, 12))
async def test_a_crash_after_any_call_leaves_what_the_next_process_completes(case: Case, last: int) -> None:
    case.config(color="red")
    case.pod("web")
    case.last = last
    async with case.serving():
        await asyncio.sleep(SOON)
        case.edit(data={"color": "blue"})
        await asyncio.sleep(SOON)
    case.last = None
    case.calls.clear()
    async with case.serving():
        await asyncio.sleep(SOON)
        assert case.has_twin("web")
        assert case.data() == {"color": "blue"}
        assert case.marked()
        assert case.calls.count("physical create configmaps") <= 1
        case.last = len(case.calls) + last
        await case.remove_pod("web")
        await asyncio.sleep(GRACE + 5)
    case.last = None
    async with case.serving():
        await asyncio.sleep(GRACE + 5)
        assert case.copy() is None
        assert not case.marked()


# --- somebody in the physical cluster who undoes what we write ---------------------------------------------------------
@asynccontextmanager
async def undoing(case: Case, change: Json | None) -> AsyncIterator[None]:
    """Have somebody change the copy, or delete it (None), whenever we have written it."""
    async def undo() -> None:
        while True:
            if copied := case.copy():
                if change is None:
                    case.physical.remove(CONFIGMAPS, PLACE)
                else:
                    case.physical.put(CONFIGMAPS, apply_merge(copied, change))
            await asyncio.sleep(0.02)

    async with meanwhile(undo()):
        yield


def written(case: Case) -> int:
    return len([call for call in case.about("configmaps") if call.startswith(("physical create", "physical patch"))])


UNDONE: dict[str, Json | None] = {
    "its data is changed": {"data": {"a": "theirs"}},
    "a key is added": {"data": {"theirs": "1"}},
    "our mark of the content is taken off": {"metadata": {"annotations": {names.CONTENT_HASH_ANNOTATION: None}}},
    "it is deleted": None,
}


@pytest.mark.parametrize("change", UNDONE.values(), ids=UNDONE.keys())
async def test_who_undoes_a_copy_is_answered_ever_more_rarely_and_a_users_change_at_once(
    case: Case, change: Json | None
) -> None:
    case.config()
    case.pod("web")
    async with case.serving():
        assert case.has_twin("web")
        async with undoing(case, change):
            await asyncio.sleep(60)
            before, calls = written(case), len(case.about("configmaps"))
            assert 7 <= before <= 9  # made, mended at once, and after 1, 2, 4, 8, 16 and 32 s
            assert calls <= 4 * before, "nothing is asked either"
            case.edit(data={"a": "2"})
            await asyncio.sleep(0.9)
            assert before < written(case) <= before + 2
        await asyncio.sleep(1.5)
        assert case.data() == {"a": "2"}
        assert names.CONTENT_HASH_ANNOTATION in annotations_of(case.copy() or {})


async def test_a_pod_that_waits_for_a_copy_somebody_fights_over_says_so_and_starts_when_it_is_mended(case: Case) -> None:
    case.config()
    case.pod("web")
    async with case.serving() as pods:
        async with undoing(case, None):
            await asyncio.sleep(20)
            assert "DependencyContested" in case.world.reasons("ConfigMap"), "told although nobody new waits"
            case.pod("late")
            await asyncio.sleep(SOON)
            assert not case.has_twin("late")
            assert case.told("late") == "DependencyContested"
            busy, patched = len(case.calls), len(case.virtual.writes)
            await asyncio.sleep(5)
            assert len(case.calls) - busy <= 3
            assert len(case.virtual.writes) - patched <= 1
        await asyncio.sleep(32)
        assert case.has_twin("late")
        (source,) = [source for source in sources_of(pods) if source.keeper.ready]
        assert not source.keeper.trouble
        assert not source.keeper.asked


async def test_what_nobody_needs_any_more_leaves_nothing_to_remember(case: Case) -> None:
    case.config()
    case.pod("web")
    async with case.serving() as pods:
        dampers = [source.keeper._copier.damper for source in sources_of(pods)]
        assert [len(damper) for damper in dampers] == [1, 0]
        await case.remove_pod("web")
        await asyncio.sleep(GRACE + 5)
        assert case.copy() is None
        assert [len(damper) for damper in dampers] == [0, 0]
