"""What is remembered of a Pod or a claim goes with it, also when it goes in the middle of a pass over it."""

import asyncio
from collections.abc import Sized
from typing import Any

import pytest

from kubeocean.kube.errors import Invalid
from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.kube.patch import apply_merge
from kubeocean.kube.resources import NODES, PERSISTENTVOLUMECLAIMS, PODS, STORAGECLASSES
from kubeocean.syncer.topdown.claimadvice import ADVISE_AFTER
from tests.unit.syncer.test_claims import KEY as CLAIM
from tests.unit.syncer.test_claims import Case as ClaimCase
from tests.unit.syncer.test_pod_proofs import KEY, Case, with_twin
from tests.unit.syncer.world import World

pytestmark = pytest.mark.looptime


@pytest.fixture
async def case() -> Case:
    made = await with_twin(World())
    made.pods.attach()
    return made


def memory(case: Case) -> dict[str, Sized]:
    """Return what a Pod controller remembers of Pods, by what it is."""
    pods: Any = case.pods
    return {
        "refusals": pods._refusals._refused, "what is not kept of statuses": pods.unsaid._revisions,
        "pauses of pushes": pods._pusher._pauses, "who waits for a name": pods._news.name_waiters,
    }


def remembered(case: Case) -> set[str]:
    return {what for what, known in memory(case).items() if len(known)}


async def without_twin(case: Case) -> None:
    """Have the Pod made anew, under another uid and without a twin so far."""
    old = case.world.virtual_server.find(PODS, KEY.name, KEY.namespace)
    case.world.virtual_server.remove(PODS, KEY)
    case.world.physical_server.remove(PODS, case.twin_key)
    await asyncio.sleep(0.1)
    metadata = {key: value for key, value in old["metadata"].items() if key in ("name", "namespace")}
    case.world.virtual_server.put(PODS, {**old, "metadata": metadata, "status": {"phase": "Pending"}})
    await asyncio.sleep(0.1)


async def refuse_the_twin(case: Case, monkeypatch: pytest.MonkeyPatch) -> str:
    await without_twin(case)
    case.world.physical_server.forbidden.add("create pods")
    await case.run()
    return "refusals"


async def take_its_name(case: Case, monkeypatch: pytest.MonkeyPatch) -> str:
    await without_twin(case)
    metadata = {"name": case.twin_key.name, "namespace": "mount"}
    case.world.physical_server.put(PODS, {"metadata": metadata, "spec": {"containers": []}, "status": {}})
    await asyncio.sleep(0.1)
    await case.run()
    return "who waits for a name"


async def refuse_a_change(case: Case, monkeypatch: pytest.MonkeyPatch) -> str:
    await case.run()
    patch = case.world.physical_server.patch

    async def refuse(*args: Any, **rest: Any) -> Json:
        raise Invalid("no", cluster="lender", status=422)

    monkeypatch.setattr(case.world.physical_server, "patch", refuse)
    found = case.world.virtual_server.find(PODS, KEY.name, KEY.namespace)
    case.world.virtual_server.put(PODS, apply_merge(found, {"metadata": {"labels": {"app": "shop"}}}))
    await asyncio.sleep(0.1)
    await case.run()
    monkeypatch.setattr(case.world.physical_server, "patch", patch)
    return "pauses of pushes"


@pytest.mark.parametrize("happens", [refuse_the_twin, take_its_name, refuse_a_change])
@pytest.mark.parametrize("node_is_gone", [False, True], ids=["on its node", "on a node that went before it"])
async def test_a_pod_that_is_deleted_is_remembered_nowhere(
    case: Case, monkeypatch: pytest.MonkeyPatch, happens: Any, *, node_is_gone: bool
) -> None:
    what = await happens(case, monkeypatch)
    assert remembered(case) == {what}, "there is something to forget"
    if node_is_gone:
        case.world.virtual_server.remove(NODES, ObjectKey("", "vnode-edge-node-1"))
        await asyncio.sleep(0.1)
    case.world.virtual_server.remove(PODS, KEY)
    await asyncio.sleep(0.1)
    assert remembered(case) == set()


async def test_so_is_one_that_goes_while_its_twin_is_being_refused(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    await without_twin(case)

    async def refuse(*_: Any, **__: Any) -> Json:
        case.world.virtual_server.remove(PODS, KEY)
        await asyncio.sleep(0.1)
        raise Invalid("no", cluster="lender", status=422)

    monkeypatch.setattr(case.world.physical_server, "create", refuse)
    await case.run()
    assert remembered(case) == set()


@pytest.mark.parametrize("ends", ["it is deleted", "it is bound"])
async def test_a_claim_that_was_given_advice_is_forgotten_when_it_needs_none_any_more(ends: str) -> None:
    case = ClaimCase()
    server = case.world.virtual_server
    server.put(STORAGECLASSES, {"metadata": {"name": "at-once"}, "provisioner": "p", "volumeBindingMode": "Immediate"})
    case.claim(storageClassName="at-once")
    async with case.process():
        await asyncio.sleep(ADVISE_AFTER.total_seconds() + 1)
        case.change(server, PERSISTENTVOLUMECLAIMS, CLAIM, {"metadata": {"labels": {"looked": "at again"}}})
        await asyncio.sleep(1)
        assert case.world.reasons("PersistentVolumeClaim") == ["ClusterBindingNotNamed"], "once"
        given: Sized = case.source._advice._given
        assert len(given) == 1
        if ends == "it is deleted":
            server.remove(PERSISTENTVOLUMECLAIMS, CLAIM)
        else:
            case.change(server, PERSISTENTVOLUMECLAIMS, CLAIM, {"spec": {"volumeName": "vol"}})
        await asyncio.sleep(1)
        assert len(given) == 0
