"""One controller for both directions of a Pod: the virtual Pod and its twin are one thing seen from two sides.

Flow: a Pod changes on either side -> the *virtual* key is queued (`syncer.podnews`) -> the pass reads both caches ->
`domain.podpair` decides on one step -> that step is at most one write, or a few towards a new twin -> the write comes back
through a watch and the key is looked at again. Top-down creates and deletes twins, bottom-up mirrors status; because one key
is never in two workers, the two can never race each other.

Deletion needs proof. A virtual Pod that is not in the cache is asked for live before its twin goes; a twin that is not in
the cache must have been seen DELETED by uid, or be a live 404 from the cluster we know, before its Pod is released or
declared lost. A crash between any two calls leaves facts from which the next pass decides the same step again.
"""

from __future__ import annotations

from datetime import timedelta
from operator import attrgetter

import structlog

from kubeocean.api import names
from kubeocean.domain import podpair
from kubeocean.domain.podmap import build_physical_pod
from kubeocean.domain.podscheduling import GIVEN_UP, build_given_up_patch, check_waiting, given_up
from kubeocean.domain.podstatus import (
    build_ended_patch,
    build_lost_patch,
    build_refusal_patch,
    build_unknown_patch,
    diff_pod_status,
    says_nothing_yet,
)
from kubeocean.domain.priorityclass import explain_missing_class
from kubeocean.domain.refusal import Refusal
from kubeocean.kube.client import PatchType
from kubeocean.kube.controller import Controller, Result
from kubeocean.kube.errors import AlreadyExists, ApiError, Conflict, Forbidden, NotFound
from kubeocean.kube.meta import Json, ObjectKey, finalizers_of, is_deleting, parse_time, resource_version_of, uid_of
from kubeocean.kube.readyqueue import FairQueue
from kubeocean.kube.resources import PODS
from kubeocean.kube.workqueue import Workqueue
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.podnews import PodNews
from kubeocean.syncer.proofs import read_physical_pod, read_virtual_pod
from kubeocean.syncer.topdown.dependencies import Blocked
from kubeocean.syncer.topdown.mending import MountMender
from kubeocean.syncer.topdown.pushing import TwinPusher
from kubeocean.syncer.topdown.refusals import Refusals, may_pass
from kubeocean.syncer.topdown.sources import build_dependencies
from kubeocean.syncer.topdown.tokens import DependencyMissing, collect_token_secrets
from kubeocean.syncer.topdown.twins import TwinMaker
from kubeocean.syncer.unsaid import Unsaid

FIRST_STATUS_WITHIN = timedelta(seconds=5)  # a twin that says nothing yet: how long its mapping may wait for its status
CLAIMED_AGAIN = 5.0  # seconds between looks at a twin whose virtual node is missing
GONE_SOON = 0.2  # seconds until a cache that lags behind a live read is asked again

log = structlog.get_logger(__name__)


class PodController:
    """Keeps every Pod bound to a virtual node of one binding and its twin in step."""

    def __init__(self, pairing: Pairing) -> None:
        self.pairing = pairing
        name = f"pods-{pairing.binding_name}"
        self.controller: Controller[ObjectKey] = Controller(
            name, self.reconcile, workers=pairing.options.pod_workers,
            queue=Workqueue(name, ready=FairQueue(attrgetter("namespace"))),
        )
        self.dependencies = build_dependencies(pairing, self.controller.enqueue)
        self._twins = TwinMaker(pairing)
        self._pusher = TwinPusher(pairing, self.dependencies, self._twins.context_of)
        self._mount = MountMender(pairing)
        self._refusals = Refusals()
        self.unsaid = Unsaid()
        self._news = PodNews(pairing, self.controller.enqueue, self._forget)

    def _forget(self, key: ObjectKey) -> None:
        self._refusals.forget(key)
        self.unsaid.forget(key)
        self._pusher.forget(key)
        self._news.name_waiters.pop(self.pairing.twin_key(key), None)

    def attach(self) -> None:
        """Listen to the caches; what is in them already is queued as well, which is how a restart adopts everything."""
        self._news.attach()
        for gate in self.dependencies.gates:
            gate.attach()

    def enqueue_all(self) -> None:
        """Look at every Pod of ours again: the binding has changed."""
        self._news.tell_all()

    # --- one pass --------------------------------------------------------------------------------------------------
    async def reconcile(self, key: ObjectKey) -> Result:
        """Bring one virtual Pod and its twin one step closer to agreement."""
        try:
            return await self._agree(key)
        finally:
            if self.pairing.virtual.pods.store.get(key) is None:
                self._forget(key)  # it may have gone while this pass noted something about it

    async def _agree(self, key: ObjectKey) -> Result:
        facts = self._facts(key)
        decision = podpair.decide_pod(facts)
        if await self._out_of_sight(key, facts, decision):
            return Result()
        if isinstance(decision, podpair.Later):
            return Result(decision.seconds)
        result = await self._take_step(key, facts.vpod, facts.ppod, decision)
        if facts.ppod is None or isinstance(decision, podpair.Mirror):  # no predecessor runs any more that could need a token
            await self._collect_tokens(key, uid_of(facts.vpod) if facts.vpod else "")
        return result

    async def _take_step(self, key: ObjectKey, vpod: Json | None, ppod: Json | None, decision: podpair.Decision) -> Result:
        match decision:
            case podpair.Mirror() | podpair.Adopt() if vpod and ppod:
                act = self._mirror if isinstance(decision, podpair.Mirror) else self._adopt
                return await act(key, vpod, ppod)
            case podpair.CreateTwin() if vpod:
                return await self._create(key, vpod)
            case podpair.DeleteTwin():
                return await self._delete_twin(key, decision.uid, decision.grace_seconds)
            case podpair.ConfirmOrphan():
                return await self._confirm_orphan(key, decision)
            case podpair.ConfirmGone() if vpod:
                return await self._confirm_gone(key, vpod, decision)
            case podpair.Release() if vpod:
                return await self._release(key, vpod, decision)
            case podpair.Refuse() if vpod:
                if ppod:
                    self._news.name_waiters[self.pairing.twin_key(key)] = key
                return await self._refuse(key, vpod, Refusal(decision.reason, decision.message))
            case _:
                return Result()

    def _facts(self, key: ObjectKey) -> podpair.PodFacts:
        pairing = self.pairing
        vpod, twin = pairing.virtual.pods.store.get(key), pairing.physical.pods.store.get(self.pairing.twin_key(key))
        bound = vpod is not None and bool(pairing.physical_node_of(vpod.summary.node))
        return podpair.PodFacts(
            vpod=vpod.object() if vpod else None, ppod=twin.object() if twin else None, owner=pairing.owner,
            now=pairing.real_time(), bound=bound, running_daemonsets=pairing.spec.running_daemonset_by_default,
            node_gone=bool(twin and twin.summary.node and self._physical_node_is_gone(twin.summary.node)),
        )

    def _physical_node_is_gone(self, node: str) -> bool:
        """Tell whether the server itself said so: missing from the cache alone is no proof."""
        return node in self.pairing.gone_nodes and self.pairing.physical.nodes.store.get(ObjectKey("", node)) is None

    # --- down ------------------------------------------------------------------------------------------------------
    async def _create(self, key: ObjectKey, vpod: Json) -> Result:
        if self.pairing.unbinding:
            return Result()  # its virtual node is on its way out, and so is this Pod
        context = self._twins.context_of(vpod)
        forged = build_physical_pod(vpod, context)
        if isinstance(forged, Refusal):
            self._refusals.forget(key)
            return await self._refuse(key, vpod, forged)  # before anything it names is carried to the lender
        if blocked := self.dependencies.check(vpod):
            return await self._wait_for_dependency(key, vpod, blocked)
        if (wait := self._refusals.wait(key)) > 0:
            return Result(wait)
        try:
            made = await self._twins.create(vpod, forged, context)
        except DependencyMissing as missing:
            await self._wait_for_dependency(key, vpod, Blocked(missing.reason, str(missing)))
            return Result(self._refusals.add(key))
        except AlreadyExists:
            # There before we knew: wait until the cache shows it, then decide what it is.
            live = await self.pairing.physical.calls.get(PODS, *reversed(self.pairing.twin_key(key)))
            self.controller.freshness.expect(key, self.pairing.physical.pods, live)
            return Result(0.0)
        except Conflict:
            raise
        except ApiError as error:
            return await self._take_refusal(key, vpod, error)
        self._refusals.forget(key)
        self.controller.freshness.expect(key, self.pairing.physical.pods, made)
        return Result()

    async def _adopt(self, key: ObjectKey, vpod: Json, ppod: Json) -> Result:
        try:
            adopted = await self._twins.adopt(vpod, ppod)
        except NotFound:
            return Result(GONE_SOON)
        self.controller.freshness.expect(key, self.pairing.physical.pods, adopted)
        return Result()

    async def _take_refusal(self, key: ObjectKey, vpod: Json, error: ApiError) -> Result:
        """Put the server's own words where the user looks for them, and try again soon."""
        again = self._refusals.add(key)
        if not may_pass(error, self._refusals.times(key)):
            below = error.cluster == self.pairing.physical.name
            refusal = Refusal("PhysicalPodRefused" if below else "TokenRefused", str(error))
            priority_class = self.pairing.spec.pod_priority_class_name or names.DEFAULT_PRIORITY_CLASS
            await self._refuse(
                key, vpod, explain_missing_class(str(error), priority_class, self.pairing.binding_name) or refusal
            )
            if below and isinstance(error, Forbidden | NotFound):
                await self._mount.mend()
        return Result(again)

    async def _wait_for_dependency(self, key: ObjectKey, vpod: Json, blocked: Blocked) -> Result:
        """Say what the Pod waits for; its source queues it again."""
        if blocked.reason and await self._say_refused(key, vpod, Refusal(*blocked)):
            self.pairing.events.event(vpod, "Warning", *blocked)
        return Result()

    async def _refuse(self, key: ObjectKey, vpod: Json, refusal: Refusal) -> Result:
        if await self._say_refused(key, vpod, refusal):
            self.pairing.events.event(vpod, "Warning", refusal.reason, refusal.message)
            self._twins.count_refusal()
        return Result()

    async def _say_refused(self, key: ObjectKey, vpod: Json, refusal: Refusal) -> bool:
        patch = build_refusal_patch(vpod, refusal, self.pairing.real_time())
        return patch is not None and await self._patch_status(key, patch) is not None

    async def _delete_twin(self, key: ObjectKey, uid: str, grace: int | None) -> Result:
        twin = self.pairing.twin_key(key)
        try:
            answer = await self.pairing.physical.calls.delete(
                PODS, twin.name, twin.namespace, uid=uid, grace_seconds=grace, metadata_only=True
            )
        except NotFound:
            return Result(GONE_SOON)  # the cache is about to learn of it
        self.controller.freshness.expect(key, self.pairing.physical.pods, answer)
        return Result()

    async def _confirm_orphan(self, key: ObjectKey, orphan: podpair.ConfirmOrphan) -> Result:
        live = await read_virtual_pod(self.pairing, key)
        if live and uid_of(live) == orphan.virtual_uid and not is_deleting(live):
            # Alive, and a Pod never changes its node: it is the virtual node that our cache lacks. It will come back.
            self.controller.freshness.expect(key, self.pairing.virtual.pods, live)
            return Result(CLAIMED_AGAIN)
        log.info("orphan removed", pod=str(self.pairing.twin_key(key)), virtual=str(key), why=orphan.why)
        return await self._delete_twin(key, orphan.uid, orphan.grace_seconds)

    # --- up --------------------------------------------------------------------------------------------------------
    async def _mirror(self, key: ObjectKey, vpod: Json, ppod: Json) -> Result:
        if given_up(vpod):
            return Result() if is_deleting(ppod) else await self._delete_twin(key, uid_of(ppod), podpair.FORCED_GRACE)
        patch, now = diff_pod_status(vpod, ppod), self.pairing.real_time()
        if patch is None or self.unsaid.knows(key, vpod, ppod):
            return _sooner(await self._push(key, vpod, ppod), await self._wait_for_node(key, vpod, ppod))
        if says_nothing_yet(ppod) and "status" not in patch:
            age = now - parse_time(ppod["metadata"]["creationTimestamp"])
            if age < FIRST_STATUS_WITHIN:
                first_status = Result((FIRST_STATUS_WITHIN - age).total_seconds())
                # What comes up of labels and annotations must be noted before anything is pushed: see podlift.
                lifts = "resourceVersion" in patch["metadata"]
                return first_status if lifts else _sooner(await self._push(key, vpod, ppod), first_status)
        written = await self._patch_status(key, patch)
        if written is not None and _changed_nothing(written, vpod) and patch["metadata"].keys() == {"uid"}:
            self.unsaid.note(key, vpod, ppod)
            return Result(0.0)  # no event will bring us back
        return Result()

    async def _push(self, key: ObjectKey, vpod: Json, ppod: Json) -> Result:
        """Give the twin what the virtual Pod wants of it since it was created; what is refused is told on the virtual Pod."""
        try:
            push = await self._pusher.push(key, vpod, ppod)
        except NotFound:
            return Result(GONE_SOON)
        if push.twin:
            self.controller.freshness.expect(key, self.pairing.physical.pods, push.twin)
        if refusal := push.refusal():
            patch = build_refusal_patch(vpod, refusal, self.pairing.real_time(), condition=names.PHYSICAL_POD_UPDATED)
            if patch and await self._patch_status(key, patch):
                self.pairing.events.event(vpod, "Warning", refusal.reason, refusal.message)
        return Result(push.again)

    async def _out_of_sight(self, key: ObjectKey, facts: podpair.PodFacts, decision: podpair.Decision) -> bool:
        """Take a Pod out of service whose node is Unknown; returns whether there is nothing else to do for now."""
        since = self.pairing.unknown_since()
        if since is None or facts.vpod is None or not facts.bound:
            return False
        if patch := build_unknown_patch(facts.vpod, since):
            await self._patch_status(key, patch)
            return True  # this very change brings it back
        return isinstance(decision, podpair.Mirror)  # the twin we remember is old news

    async def _wait_for_node(self, key: ObjectKey, vpod: Json, ppod: Json) -> Result:
        """Tell how a twin without a node fares, with the physical scheduler's words; in the end give it up."""
        now = self.pairing.real_time()
        waiting = check_waiting(ppod, now, self.pairing.binding_name)
        if waiting is None:
            return Result()
        if waiting.refusal is None:
            return Result(waiting.revisit_in)
        if waiting.give_up:
            return await self._give_up(key, vpod, ppod, waiting.refusal)
        if patch := build_refusal_patch(vpod, waiting.refusal, now, condition=names.PHYSICAL_POD_SCHEDULED):
            await self._patch_status(key, patch)
        return Result(waiting.revisit_in)

    async def _give_up(self, key: ObjectKey, vpod: Json, ppod: Json, refusal: Refusal) -> Result:
        """Fail a Pod whose twin found no node, if that is still so: after an outage the cache may be minutes old."""
        live = await read_physical_pod(self.pairing, self.pairing.twin_key(key))
        if live is None:
            return Result(GONE_SOON)
        if uid_of(live) != uid_of(ppod) or live["spec"].get("nodeName"):
            self.controller.freshness.expect(key, self.pairing.physical.pods, live)
            return Result(0.0)
        self.pairing.events.event(vpod, "Warning", GIVEN_UP, refusal.message)
        await self._patch_status(key, build_given_up_patch(vpod, refusal, self.pairing.real_time()))
        return Result()

    async def _patch_status(self, key: ObjectKey, patch: Json) -> Json | None:
        """Write a status patch (it carries the uid); returns the Pod's metadata then, None when it was not there any more."""
        try:
            written = await self.pairing.virtual.calls.patch(
                PODS, key.name, key.namespace, patch, kind=PatchType.STRATEGIC, subresource="status", metadata_only=True
            )
        except NotFound:
            return None
        self.controller.freshness.expect(key, self.pairing.virtual.pods, written)
        return written

    async def _confirm_gone(self, key: ObjectKey, vpod: Json, decision: podpair.ConfirmGone) -> Result:
        if not await self._is_gone(key, vpod, decision.recorded_uid):
            return Result(GONE_SOON)
        if await self._hear_last_words(key, vpod, decision):
            return Result()
        if isinstance(decision.then, podpair.Release):
            return await self._release(key, vpod, decision.then)
        log.warning("twin lost", pod=str(key), physical_uid=decision.recorded_uid)
        await self._patch_status(key, build_lost_patch(vpod, self.pairing.real_time()))
        await self._collect_tokens(key, "")
        return Result()

    async def _hear_last_words(self, key: ObjectKey, vpod: Json, decision: podpair.ConfirmGone) -> bool:
        """Mirror what the twin said before it went, if anybody is to know it; returns whether that was news."""
        last_words, written = self._news.last_words, None
        last = last_words.of(uid_of(vpod), decision.recorded_uid)
        if last and not (isinstance(decision.then, podpair.Release) and not finalizers_of(vpod)):
            patch = diff_pod_status(vpod, last)
            written = await self._patch_status(key, patch) if patch is not None else None
        last_words.forget(uid_of(vpod))  # not before they are written: a write that fails is tried again
        return written is not None and not _changed_nothing(written, vpod)

    async def _is_gone(self, key: ObjectKey, vpod: Json, recorded_uid: str) -> bool:
        """Prove that the twin is gone: seen DELETED by uid, or a live 404 from the cluster we know."""
        physical = self.pairing.physical
        if recorded_uid and physical.pods.was_deleted(recorded_uid):
            return True
        live = await read_physical_pod(self.pairing, self.pairing.twin_key(key))
        if live is None or not podpair.is_or_becomes_twin_of(live, vpod, self.pairing.owner):
            return True
        self.controller.freshness.expect(key, physical.pods, live)
        return False

    async def _release(self, key: ObjectKey, vpod: Json, release: podpair.Release) -> Result:
        if release.again and not await self._is_stuck(key, release.uid):
            return Result()
        if patch := build_ended_patch(vpod):
            # A finalizer keeps it for somebody (a Job) who may wait for a terminal phase.
            await self._patch_status(key, patch)
        try:
            answer = await self.pairing.virtual.calls.delete(
                PODS, key.name, key.namespace, uid=uid_of(vpod), grace_seconds=0, metadata_only=True
            )
        except NotFound:
            answer = None
        if answer:
            # What it needed goes in the pass that its DELETED event brings: that event is the proof.
            self.controller.freshness.expect(key, self.pairing.virtual.pods, answer)
        return Result()

    async def _is_stuck(self, key: ObjectKey, uid: str) -> bool:
        """Tell whether a Pod that was released before is there still; its end, if it came meanwhile, is an event of its own."""
        live = await read_virtual_pod(self.pairing, key)
        if live is None or uid_of(live) != uid or not podpair.was_cut_short(live):
            return False
        log.info("released again", pod=str(key), why="its deletion was cut short between the API server's two writes")
        return True

    # --- what the twin needed --------------------------------------------------------------------------------------
    async def _collect_tokens(self, key: ObjectKey, living_uid: str) -> None:
        """Remove the token Secrets made for this name, except those of the Pod that lives under it now."""
        async for answer in collect_token_secrets(self.pairing, key, living_uid):
            self.controller.freshness.expect(key, self.pairing.physical.token_secrets, answer)


def _sooner(one: Result, other: Result) -> Result:
    """Return the wish that comes due first."""
    wishes = [each.requeue_after for each in (one, other) if each.requeue_after is not None]
    return Result(min(wishes, default=None))


def _changed_nothing(written: Json, vpod: Json) -> bool:
    """Tell whether a write left the Pod as it was: there is no event then."""
    return resource_version_of(written) == resource_version_of(vpod)
