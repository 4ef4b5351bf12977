"""Claims on both sides, with a process that may die after any of its writes: the next one ends where it would have ended."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kubeocean.api import names
from kubeocean.clusters.storage import VirtualStorage
from kubeocean.domain.claimpair import is_usable
from kubeocean.domain.naming import persistent_volume_name, physical_name
from kubeocean.domain.podrefs import Reference
from kubeocean.kube.errors import Forbidden, Unreachable
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, finalizers_of, is_deleting, labels_of, name_of, uid_of
from kubeocean.kube.patch import apply_merge
from kubeocean.kube.resources import (
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    SECRETS,
    STORAGECLASSES,
)
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.topdown.claims import ClaimSource
from kubeocean.syncer.topdown.claimsleaving import ClaimsLeaving
from kubeocean.syncer.topdown.objects import ObjectSource
from tests.unit.syncer.world import Server, World

pytestmark = pytest.mark.looptime
KEY = ObjectKey("ns", "data")
TWIN = ObjectKey("mount", physical_name("data", "ns"))
SELECTED_NODE = "volume.kubernetes.io/selected-node"
SETTLED = 5.0  # virtual seconds


class Mortal:
    """Both servers' writes, counted; after number `limit` the process gets no answer to anything any more."""

    def __init__(self, *servers: Server) -> None:
        self.count, self.limit = 0, 0
        for server in servers:
            for verb in ("create", "patch", "delete"):
                setattr(server, verb, self._guard(getattr(server, verb)))

    def _guard(self, call: Callable[..., Awaitable[Json]]) -> Callable[..., Awaitable[Json]]:
        async def guarded(*args: Any, **kwargs: Any) -> Json:
            self._die_if_due()
            answer = await call(*args, **kwargs)
            self.count += 1
            self._die_if_due()
            return answer

        return guarded

    def _die_if_due(self) -> None:
        if self.limit and self.count >= self.limit:
            raise Unreachable("the process is dead")


class Case:
    """One claim in a world whose volume controllers and physical provisioner are played here."""

    def __init__(self) -> None:
        self.world = World()
        self.mortal = Mortal(self.world.virtual_server, self.world.physical_server)
        self.source: ClaimSource
        self.woken: list[ObjectKey] = []
        self.full = False  # the physical provisioner finds room on no node

    # --- what others do ----------------------------------------------------------------------------------------------
    def pod(self, **spec: Any) -> None:
        self.world.pod("web", **spec, volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}])

    def claim(self, **spec: Any) -> None:
        self.world.virtual_server.put(PERSISTENTVOLUMECLAIMS, {
            "metadata": {"name": "data", "namespace": "ns"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec},
        })

    def carried(self) -> None:
        """Make a claim that is bound to a volume with a Secret."""
        csi = {"driver": "d", "volumeHandle": "h", "nodeStageSecretRef": {"name": "key", "namespace": "ns"}}
        reference = {"namespace": "ns", "name": "data", "uid": "uid-persistentvolumeclaims-data"}
        self.world.virtual_server.put(SECRETS, {"metadata": {"name": "key", "namespace": "ns"}, "data": {"a": "Yg=="}})
        self.world.virtual_server.put(PERSISTENTVOLUMES, {"metadata": {"name": "vol"}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "csi": csi, "claimRef": reference,
        }})
        self.claim(volumeName="vol", storageClassName="")

    def provisioned(self, policy: str = "Delete") -> None:
        """Make a claim that the scheduler wants on our node."""
        obj = {
            "metadata": {"name": "fast"}, "provisioner": "p", "volumeBindingMode": "WaitForFirstConsumer",
            "reclaimPolicy": policy,
        }
        self.world.virtual_server.put(STORAGECLASSES, obj)
        self.world.physical_server.put(STORAGECLASSES, obj)
        self.claim(storageClassName="fast")
        self.change(self.world.virtual_server, PERSISTENTVOLUMECLAIMS, KEY, {
            "metadata": {"annotations": {SELECTED_NODE: "vnode-edge-node-1"}},
        })

    def change(self, server: Server, resource: Any, key: ObjectKey, patch: Json) -> None:
        server.put(resource, apply_merge(server.find(resource, key.name, key.namespace), patch))

    def ask_to_delete(self, resource: Any, key: ObjectKey) -> None:
        self.change(self.world.virtual_server, resource, key, {"metadata": {"deletionTimestamp": "2026-01-01T12:00:00Z"}})

    def end_pod(self) -> None:
        self.world.virtual_server.remove(PODS, ObjectKey("ns", "web"))

    async def play(self) -> None:
        """Bind and release, as volume controllers do; provision, as the physical cluster's provisioner does."""
        while True:
            for server in (self.world.virtual_server, self.world.physical_server):
                for (plural, key), obj in list(server.objects.items()):
                    if plural == "persistentvolumes":
                        _bind(server, obj)
                    elif plural == "persistentvolumeclaims" and server is self.world.physical_server:
                        _provision(server, key, obj, refuse=self.full)
            await asyncio.sleep(0.2)

    # --- what there is to see ----------------------------------------------------------------------------------------
    def find(self, server: Server, resource: Any, key: ObjectKey) -> Json | None:
        return server.objects.get((resource.plural, key))

    def twin(self) -> Json | None:
        return self.find(self.world.physical_server, PERSISTENTVOLUMECLAIMS, TWIN)

    def virtual(self) -> Json | None:
        return self.find(self.world.virtual_server, PERSISTENTVOLUMECLAIMS, KEY)

    def ours(self, resource: Any) -> list[str]:
        """Return the names of our objects of a kind in the physical cluster."""
        found = [obj for (plural, _), obj in self.world.physical_server.objects.items() if plural == resource.plural]
        return sorted(name_of(obj) for obj in found if names.OWNER_LABEL in labels_of(obj))

    def marked(self) -> list[str]:
        """Return what in the virtual cluster carries our finalizer."""
        mark = f"{names.DEPENDENCY_FINALIZER_PREFIX}edge"
        return sorted(name_of(obj) for obj in self.world.virtual_server.objects.values() if mark in finalizers_of(obj))

    # --- the process -------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def process(self, *, dies_after: int = 0, unbinding: bool = False) -> AsyncIterator[None]:
        """Run one process with its own caches; writes beyond `dies_after` do not reach the servers."""
        self.mortal.count, self.mortal.limit = 0, 0
        async with self.world.leading(lambda pairing: self._work(pairing, dies_after, unbinding)):
            await asyncio.sleep(1.1)
            yield

    async def _work(self, pairing: Pairing, dies_after: int, unbinding: bool) -> None:
        await asyncio.sleep(1)  # virtual nodes first
        self.mortal.count, self.mortal.limit = 0, dies_after
        pairing.unbinding = unbinding
        pairing.virtual.storage = VirtualStorage(pairing.virtual.watches)
        secrets = ObjectSource(pairing, SECRETS, lambda _: None)
        self.source = ClaimSource(pairing, self.woken.append, secrets)
        async with asyncio.TaskGroup() as tasks:
            for informer in pairing.virtual.storage.informers:
                tasks.create_task(informer.run())
            tasks.create_task(secrets.run())
            tasks.create_task(self.source.run())
            tasks.create_task(self.play())

    async def until_dead_and_again(self, dies_after: int, **process: Any) -> None:
        """Let a process die after some of its writes, and another one finish the work."""
        async with self.process(dies_after=dies_after, **process):
            await asyncio.sleep(SETTLED)
        async with self.process(**process):
            await asyncio.sleep(90)  # unused copies of Secrets have a grace


def _bind(server: Server, volume: Json) -> None:
    reference = volume["spec"].get("claimRef") or {}
    key = ObjectKey(reference.get("namespace", ""), reference.get("name", ""))
    claim = server.objects.get(("persistentvolumeclaims", key))
    if claim is None or uid_of(claim) != reference.get("uid") or claim["spec"].get("volumeName") not in (None, name_of(volume)):
        if (volume.get("status") or {}).get("phase") == "Bound":
            server.put(PERSISTENTVOLUMES, apply_merge(volume, {"status": {"phase": "Released"}}))
        return
    if (claim.get("status") or {}).get("phase") != "Bound":
        status = {"phase": "Bound", "capacity": volume["spec"]["capacity"]}
        server.put(PERSISTENTVOLUMECLAIMS, apply_merge(claim, {"spec": {"volumeName": name_of(volume)}, "status": status}))
    if (volume.get("status") or {}).get("phase") != "Bound":
        server.put(PERSISTENTVOLUMES, apply_merge(volume, {"status": {"phase": "Bound"}}))


def _provision(server: Server, key: ObjectKey, claim: Json, *, refuse: bool) -> None:
    if SELECTED_NODE not in annotations_of(claim) or claim["spec"].get("volumeName"):
        return
    if refuse:
        server.put(PERSISTENTVOLUMECLAIMS, apply_merge(claim, {"metadata": {"annotations": {SELECTED_NODE: None}}}))
        return
    server.put(PERSISTENTVOLUMES, {"metadata": {"name": "made"}, "spec": {
        "capacity": {"storage": "1Gi"}, "csi": {"driver": "d", "volumeHandle": "h"},
        "claimRef": {"namespace": key.namespace, "name": key.name, "uid": uid_of(claim)},
    }})


def kept(case: Case) -> Json:
    """Return the twin, which is there to stay."""
    twin = case.twin()
    assert twin is not None
    assert not is_deleting(twin)
    return twin


def served(case: Case) -> bool:
    return is_usable(case.source.facts(KEY))


async def test_a_carried_claim_is_usable_with_its_volume_and_its_secret() -> None:
    case = Case()
    case.carried()
    case.pod()
    async with case.process():
        await asyncio.sleep(SETTLED)
        assert served(case)
        assert ObjectKey("ns", "web") in case.woken
        writes = case.mortal.count
        await asyncio.sleep(600)
        assert case.mortal.count == writes, "at rest nothing is written"
    assert case.ours(PERSISTENTVOLUMES) == [persistent_volume_name("vol", "virtual-uid/edge")]
    assert case.ours(SECRETS) == [physical_name("key", "ns")]
    assert case.marked() == ["data", "key", "vol"]


async def test_a_claim_nobody_uses_is_left_alone() -> None:
    case = Case()
    case.carried()
    async with case.process():
        await asyncio.sleep(SETTLED)
    assert case.twin() is None
    assert case.marked() == []


async def test_the_claim_of_a_pod_that_is_refused_is_left_alone_too() -> None:
    case = Case()
    case.carried()
    case.pod(hostNetwork=True)
    for _ in range(2):  # the second one finds all of it in its caches
        async with case.process():
            await asyncio.sleep(SETTLED)
            case.claim(**case.world.virtual_server.find(PERSISTENTVOLUMECLAIMS, "data", "ns")["spec"])
            await asyncio.sleep(SETTLED)
    assert case.twin() is None
    assert (case.ours(PERSISTENTVOLUMES), case.ours(SECRETS), case.marked()) == ([], [], [])


async def test_what_the_lender_refuses_for_a_while_is_tried_again_within_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case()
    case.carried()
    case.pod()
    full, create = True, case.world.physical_server.create

    async def refuse(resource: Any, *given: Any, **named: Any) -> Json:
        if full and resource == PERSISTENTVOLUMECLAIMS:
            raise Forbidden("exceeded quota", cluster="lender", status=403)
        return await create(resource, *given, **named)

    monkeypatch.setattr(case.world.physical_server, "create", refuse)
    async with case.process():
        await asyncio.sleep(600)
        assert case.twin() is None
        full = False
        await asyncio.sleep(35)
        assert served(case)


async def test_a_deleted_claim_waits_for_its_pod_and_then_takes_everything_along() -> None:
    case = Case()
    case.carried()
    case.pod()
    async with case.process():
        await asyncio.sleep(SETTLED)
        case.ask_to_delete(PERSISTENTVOLUMECLAIMS, KEY)
        await asyncio.sleep(SETTLED)
        assert kept(case)
        case.end_pod()
        await asyncio.sleep(90)
    assert case.virtual() is None
    assert (case.ours(PERSISTENTVOLUMECLAIMS), case.ours(PERSISTENTVOLUMES), case.ours(SECRETS)) == ([], [], [])
    assert case.marked() == []
    assert case.find(case.world.virtual_server, PERSISTENTVOLUMES, ObjectKey("", "vol")) is not None


async def test_a_twin_that_a_lender_deleted_is_made_again_around_the_same_volume() -> None:
    case = Case()
    case.carried()
    case.pod()
    async with case.process():
        await asyncio.sleep(SETTLED)
        case.world.physical_server.remove(PERSISTENTVOLUMECLAIMS, TWIN)
        await asyncio.sleep(SETTLED)
        assert served(case)


async def test_a_claim_without_volume_gets_one_whose_data_the_physical_claim_holds() -> None:
    case = Case()
    case.provisioned()
    async with case.process():
        await asyncio.sleep(SETTLED)
        assert served(case)
        virtual = case.virtual()
        assert virtual
        assert virtual["spec"]["volumeName"] == "edge-uid-persistentvolumeclaims-data"


async def test_lost_data_is_told_and_not_replaced_by_an_empty_volume() -> None:
    case = Case()
    case.provisioned()
    case.pod()
    async with case.process():
        await asyncio.sleep(SETTLED)
        case.world.physical_server.remove(PERSISTENTVOLUMECLAIMS, TWIN)
        await asyncio.sleep(SETTLED)
        assert case.twin() is None
        pod = case.world.virtual_server.find(PODS, "web", "ns")
        reference = Reference("PersistentVolumeClaim", "data", "spec.volumes[0].persistentVolumeClaim")
        blocked = case.source.check(reference, pod)
        assert blocked
        assert blocked.reason == "PhysicalClaimLost"
    assert "PhysicalClaimLost" in case.world.reasons("PersistentVolumeClaim")


async def test_data_whose_claim_is_noted_no_more_stays_and_the_note_comes_back() -> None:
    case = Case()
    case.provisioned()
    async with case.process():
        await asyncio.sleep(SETTLED)
        forgotten = {"metadata": {"annotations": {names.VIRTUAL_UID_ANNOTATION: None}}}
        case.change(case.world.physical_server, PERSISTENTVOLUMECLAIMS, TWIN, forgotten)
        await asyncio.sleep(SETTLED)
        twin = kept(case)
        assert annotations_of(twin)[names.VIRTUAL_UID_ANNOTATION] == "uid-persistentvolumeclaims-data"
        assert served(case)


LABEL_OFF = {"labels": {names.PROVISIONED_LABEL: None}}
NOTE_CHANGED = {"annotations": {names.VIRTUAL_UID_ANNOTATION: "somebody-elses"}}


@pytest.mark.parametrize("altered", [LABEL_OFF, NOTE_CHANGED, LABEL_OFF | NOTE_CHANGED], ids=["label", "note", "both"])
@pytest.mark.parametrize("retained", [False, True], ids=["in use", "retained"])
async def test_data_whose_marks_a_lender_changes_stays_and_the_marks_come_back(altered: Json, retained: bool) -> None:
    case = Case()
    case.provisioned(policy="Retain")
    async with case.process():
        await asyncio.sleep(SETTLED)
        if retained:
            case.ask_to_delete(PERSISTENTVOLUMECLAIMS, KEY)
            await asyncio.sleep(SETTLED)
        case.change(case.world.physical_server, PERSISTENTVOLUMECLAIMS, TWIN, {"metadata": altered})
        await asyncio.sleep(SETTLED)
        twin = kept(case)
        assert annotations_of(twin)[names.VIRTUAL_UID_ANNOTATION] == "uid-persistentvolumeclaims-data"
        assert labels_of(twin)[names.PROVISIONED_LABEL] == "true"
        assert served(case) is not retained


async def test_who_keeps_changing_the_marks_of_data_is_answered_ever_more_rarely() -> None:
    case = Case()
    case.provisioned(policy="Retain")
    async with case.process():
        await asyncio.sleep(SETTLED)
        before = case.mortal.count
        for _ in range(600):
            case.change(case.world.physical_server, PERSISTENTVOLUMECLAIMS, TWIN, {"metadata": NOTE_CHANGED})
            await asyncio.sleep(0.1)
        assert 5 <= case.mortal.count - before <= 9, "at once, and after 1, 2, 4, 8, 16 seconds"
        assert not served(case)
        await asyncio.sleep(60)
        assert annotations_of(kept(case))[names.VIRTUAL_UID_ANNOTATION] == "uid-persistentvolumeclaims-data"


@pytest.mark.parametrize("altered", [LABEL_OFF, NOTE_CHANGED, LABEL_OFF | NOTE_CHANGED], ids=["label", "note", "both"])
async def test_what_a_lenders_webhook_does_to_the_marks_of_data_is_told_and_holds_up_no_deletion(altered: Json) -> None:
    case = Case()
    case.provisioned()
    case.pod()
    server = case.world.physical_server
    patch = server.patch

    async def patching(resource: Any, name: str, namespace: str, wanted: Json, **named: Any) -> Json:
        changed = {"metadata": altered} if resource == PERSISTENTVOLUMECLAIMS else {}
        return await patch(resource, name, namespace, apply_merge(wanted, changed), **named)

    server.patch = patching  # type: ignore[assignment]
    async with case.process():
        await asyncio.sleep(SETTLED)
        case.change(server, PERSISTENTVOLUMECLAIMS, TWIN, {"metadata": altered})
        await asyncio.sleep(60)
        assert "PhysicalClaimContested" in case.world.reasons("PersistentVolumeClaim")
        case.end_pod()
        case.ask_to_delete(PERSISTENTVOLUMECLAIMS, KEY)
        await asyncio.sleep(SETTLED)
        assert case.twin() is None
        assert case.virtual() is None


@pytest.mark.parametrize("altered", [LABEL_OFF, NOTE_CHANGED, LABEL_OFF | NOTE_CHANGED], ids=["label", "note", "both"])
async def test_data_goes_by_no_mark_of_its_own_while_no_process_of_ours_looks(altered: Json) -> None:
    case = Case()
    case.provisioned(policy="Retain")
    async with case.process():
        await asyncio.sleep(SETTLED)
    case.change(case.world.physical_server, PERSISTENTVOLUMECLAIMS, TWIN, {"metadata": altered})
    case.ask_to_delete(PERSISTENTVOLUMECLAIMS, KEY)
    async with case.process():
        await asyncio.sleep(SETTLED)
        assert kept(case)
        assert case.virtual() is None


async def test_data_is_not_deleted_on_the_word_of_a_note_that_names_a_claim_on_its_way_out() -> None:
    case = Case()
    case.provisioned()
    async with case.process():
        await asyncio.sleep(SETTLED)
    server, name = case.world.virtual_server, "edge-uid-persistentvolumeclaims-data"
    volume = server.find(PERSISTENTVOLUMES, name)
    attributes = {"volumeAttributes": {"virtualUID": "earlier"}}
    server.put(PERSISTENTVOLUMES, apply_merge(volume, {
        "metadata": {
            "name": "edge-earlier", "uid": "uid-earlier", "deletionTimestamp": "2026-01-01T12:00:00Z",
            "annotations": {names.PHYSICAL_NAME_ANNOTATION: "gone"},
        },
        "spec": {"csi": attributes, "claimRef": {"uid": "earlier"}}, "status": {"phase": "Released"},
    }))
    note = {"metadata": {"annotations": {names.VIRTUAL_UID_ANNOTATION: "earlier"}}}
    case.change(case.world.physical_server, PERSISTENTVOLUMECLAIMS, TWIN, note)
    async with case.process():
        await asyncio.sleep(SETTLED)
        assert kept(case)
        assert served(case)


async def test_a_claim_never_bound_goes_although_an_earlier_ones_volume_is_retained() -> None:
    case = Case()
    case.provisioned(policy="Retain")
    async with case.process():
        await asyncio.sleep(SETTLED)
        case.ask_to_delete(PERSISTENTVOLUMECLAIMS, KEY)
        await asyncio.sleep(SETTLED)
        case.world.physical_server.remove(PERSISTENTVOLUMECLAIMS, TWIN)  # and the data is lost; its volume stays
        volume = case.world.physical_server.find(PERSISTENTVOLUMES, "made")
        case.world.physical_server.put(PERSISTENTVOLUMES, apply_merge(volume, {"spec": {"claimRef": None}}))
        case.full = True
        case.claim(storageClassName="fast")
        uid = {"metadata": {"uid": "uid-second", "annotations": {SELECTED_NODE: "vnode-edge-node-1"}}}
        case.change(case.world.virtual_server, PERSISTENTVOLUMECLAIMS, KEY, uid)
        await asyncio.sleep(SETTLED)
        case.ask_to_delete(PERSISTENTVOLUMECLAIMS, KEY)
        await asyncio.sleep(SETTLED)
        assert case.twin() is None
        assert case.virtual() is None


async def test_data_that_nothing_shows_whose_it_is_is_never_deleted() -> None:
    case = Case()
    case.provisioned()
    async with case.process():
        await asyncio.sleep(SETTLED)
        case.world.virtual_server.remove(PERSISTENTVOLUMES, ObjectKey("", "edge-uid-persistentvolumeclaims-data"))
        case.world.virtual_server.remove(PERSISTENTVOLUMECLAIMS, KEY)
        forgotten = {"metadata": {"annotations": {names.VIRTUAL_UID_ANNOTATION: None}}}
        case.change(case.world.physical_server, PERSISTENTVOLUMECLAIMS, TWIN, forgotten)
        await asyncio.sleep(SETTLED)
        assert kept(case)


async def test_a_node_the_physical_provisioner_refuses_is_given_back_to_the_scheduler() -> None:
    case = Case()
    case.provisioned()
    case.full = True
    async with case.process():
        await asyncio.sleep(SETTLED)
        assert case.twin() is None
        assert SELECTED_NODE not in annotations_of(case.virtual() or {"metadata": {}})
    assert "ProvisioningFailed" in case.world.reasons("PersistentVolumeClaim")


async def test_retained_data_outlives_its_claim_and_goes_with_its_volume() -> None:
    case = Case()
    case.provisioned(policy="Retain")
    async with case.process():
        await asyncio.sleep(SETTLED)
        case.ask_to_delete(PERSISTENTVOLUMECLAIMS, KEY)
        await asyncio.sleep(SETTLED)
        assert case.virtual() is None
        assert kept(case)
        volume = ObjectKey("", "edge-uid-persistentvolumeclaims-data")
        case.ask_to_delete(PERSISTENTVOLUMES, volume)
        await asyncio.sleep(SETTLED)
        assert case.twin() is None
        assert case.find(case.world.virtual_server, PERSISTENTVOLUMES, volume) is None


async def test_data_that_another_claim_was_given_outlives_its_own_and_goes_with_that_one() -> None:
    case = Case()
    case.provisioned(policy="Retain")
    name, heir = ObjectKey("", "edge-uid-persistentvolumeclaims-data"), ObjectKey("ns", "heir")
    server = case.world.virtual_server
    async with case.process():
        await asyncio.sleep(SETTLED)
        case.ask_to_delete(PERSISTENTVOLUMECLAIMS, KEY)
        await asyncio.sleep(SETTLED)
        server.put(PERSISTENTVOLUMECLAIMS, {
            "metadata": {"name": heir.name, "namespace": heir.namespace, "uid": "uid-heir"},
            "spec": {"volumeName": name.name, "storageClassName": "fast"}, "status": {"phase": "Bound"},
        })
        given = {"claimRef": {**heir._asdict(), "uid": "uid-heir"}, "persistentVolumeReclaimPolicy": "Delete"}
        volume = server.find(PERSISTENTVOLUMES, name.name)
        server.put(PERSISTENTVOLUMES, apply_merge(volume, {"spec": given, "status": {"phase": "Bound"}}))
        await asyncio.sleep(SETTLED)
        assert kept(case)
        server.remove(PERSISTENTVOLUMECLAIMS, heir)
        await asyncio.sleep(SETTLED)
        assert case.twin() is None
        assert case.find(server, PERSISTENTVOLUMES, name) is None


async def test_a_new_claim_of_an_old_name_never_gets_the_old_ones_data() -> None:
    case = Case()
    case.provisioned()
    async with case.process():
        await asyncio.sleep(SETTLED)
        case.ask_to_delete(PERSISTENTVOLUMECLAIMS, KEY)
        while case.virtual() is not None:
            await asyncio.sleep(0.01)
        assert case.twin() is None, "the finalizer held the claim until its data was gone"


async def test_unbinding_takes_back_what_holds_no_data() -> None:
    case = Case()
    case.carried()
    case.pod()
    async with case.process():
        await asyncio.sleep(SETTLED)
    case.end_pod()
    async with case.process(unbinding=True):
        await asyncio.wait_for(case.source.take_back(), 60)
    assert (case.ours(PERSISTENTVOLUMECLAIMS), case.ours(PERSISTENTVOLUMES)) == ([], [])
    assert [name for name in case.marked() if name != "key"] == []


async def test_the_secret_of_a_claim_whose_finalizer_was_taken_off_by_hand_is_needed_no_more() -> None:
    case = Case()
    case.carried()
    case.pod()
    async with case.process():
        await asyncio.sleep(SETTLED)
        case.end_pod()
        case.world.virtual_server.remove(PERSISTENTVOLUMECLAIMS, KEY)
        case.world.virtual_server.remove(PERSISTENTVOLUMES, ObjectKey("", "vol"))
        await asyncio.sleep(90)  # unused copies have a grace
        assert case.ours(SECRETS) == []


async def test_unbinding_waits_for_data_and_says_so() -> None:
    case = Case()
    case.provisioned()
    async with case.process():
        await asyncio.sleep(SETTLED)
    async with case.process(unbinding=True):
        leaving = asyncio.create_task(case.source.take_back())
        await asyncio.sleep(60)
        assert not leaving.done()
        assert case.twin() is not None
        assert "waits for ns/data" in case.source.pairing.obstacle
        case.ask_to_delete(PERSISTENTVOLUMECLAIMS, KEY)
        await asyncio.wait_for(leaving, 60)
    assert case.twin() is None
    assert case.virtual() is None
    assert case.marked() == []


def forbid_looking(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = case.world.physical_server.list

    async def refuse(resource: Any, *args: Any, **rest: Any) -> Any:
        if resource in (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES):
            raise Forbidden("list claims: 403", cluster="lender", status=403)
        return await listing(resource, *args, **rest)

    monkeypatch.setattr(case.world.physical_server, "list", refuse)


@pytest.mark.parametrize("force", [False, True])
async def test_data_that_unbinding_may_not_look_at_is_abandoned_only_by_force(
    monkeypatch: pytest.MonkeyPatch, *, force: bool
) -> None:
    case = Case()
    case.provisioned()
    async with case.process():
        await asyncio.sleep(SETTLED)
    async with case.process(unbinding=True):
        monkeypatch.setattr(ClaimsLeaving, "_forced", lambda _: force)
        forbid_looking(case, monkeypatch)
        leaving = asyncio.create_task(case.source.take_back())
        await asyncio.sleep(35)
        assert not leaving.done(), "it has to last"
        assert "403" in case.source.pairing.obstacle
        await asyncio.sleep(60)
        assert leaving.done() is force
        leaving.cancel()
    assert (case.marked() == []) is force
    assert case.twin() is not None


def lose_namespace(case: Case) -> None:
    """Have the lender delete the mountNamespace, and with it all claims and our rights in there."""
    server = case.world.physical_server
    for plural, key in list(server.objects):
        if plural == "persistentvolumeclaims":
            server.remove(PERSISTENTVOLUMECLAIMS, key)
    server.forbidden |= {f"{verb} persistentvolumeclaims" for verb in ("get", "list", "watch", "create", "patch", "delete")}


async def test_a_carried_claim_whose_namespace_is_gone_with_our_rights_holds_up_nobody() -> None:
    case = Case()
    case.carried()
    case.pod()
    async with case.process():
        await asyncio.sleep(SETTLED)
    case.end_pod()
    lose_namespace(case)
    async with case.process(unbinding=True):
        await asyncio.wait_for(case.source.take_back(), 60)
    assert [name for name in case.marked() if name != "key"] == []
    assert case.ours(PERSISTENTVOLUMES) == []


@pytest.mark.parametrize("force", [False, True])
async def test_lost_data_is_told_while_unbinding_and_force_lets_go_of_it(
    monkeypatch: pytest.MonkeyPatch, *, force: bool
) -> None:
    case = Case()
    case.provisioned()
    async with case.process():
        await asyncio.sleep(SETTLED)
    lose_namespace(case)
    monkeypatch.setattr(ClaimsLeaving, "_forced", lambda _: force)
    async with case.process(unbinding=True):
        leaving = asyncio.create_task(case.source.take_back())
        await asyncio.sleep(35)
        assert not leaving.done(), "it has to last"
        assert "waits for ns/data: the physical claims that held their data are gone" in case.source.pairing.obstacle
        await asyncio.sleep(20)
        assert leaving.done() is force
        case.ask_to_delete(PERSISTENTVOLUMECLAIMS, KEY)
        await asyncio.wait_for(leaving, 60)
    assert (case.marked(), case.source.pairing.obstacle) == ([], "")


async def test_a_moments_refusal_abandons_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case()
    case.provisioned()
    async with case.process():
        await asyncio.sleep(SETTLED)
    async with case.process(unbinding=True):
        with monkeypatch.context() as moment:
            forbid_looking(case, moment)
            leaving = asyncio.create_task(case.source.take_back())
            await asyncio.sleep(1)
        await asyncio.sleep(60)
        assert not leaving.done()
        leaving.cancel()
    assert len(case.marked()) == 2, "the claim, and its volume"


@pytest.mark.parametrize("kind", ["carried", "provisioned"])
@pytest.mark.parametrize("writes", range(1, 9))
async def test_whatever_write_a_process_dies_after_the_next_one_serves_the_claim(kind: str, writes: int) -> None:
    case = Case()
    getattr(case, kind)()
    case.pod()
    await case.until_dead_and_again(writes)
    assert served(case)
    assert case.ours(PERSISTENTVOLUMECLAIMS) == [TWIN.name]


@pytest.mark.parametrize("kind", ["carried", "provisioned"])
@pytest.mark.parametrize("writes", range(1, 9))
async def test_whatever_write_a_process_dies_after_the_next_one_takes_a_claim_back(kind: str, writes: int) -> None:
    case = Case()
    getattr(case, kind)()
    case.pod()
    async with case.process():
        await asyncio.sleep(SETTLED)
        assert served(case)
    case.end_pod()
    case.ask_to_delete(PERSISTENTVOLUMECLAIMS, KEY)
    await case.until_dead_and_again(writes)
    assert case.virtual() is None
    assert (case.ours(PERSISTENTVOLUMECLAIMS), case.ours(PERSISTENTVOLUMES), case.ours(SECRETS)) == ([], [], [])
    assert case.marked() == []
