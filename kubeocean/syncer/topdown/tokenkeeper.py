"""Keeps the token Secrets of running Pods true: renewed in time, whole, and with the present root certificate.

    instant on the Secret ─┐
    Secret gone or altered ┼─► key of the virtual Pod ─► what must its Secrets hold? ─► TokenRequest, live read, one PATCH
    another root CA ───────┤
    virtual node is back ──┘

The Pod's own pass makes its Secrets before the twin and removes them after it (`tokens`, `syncer.pods`); in between they are
looked after here. When a token is due stands on its Secret and is known from the cache: nothing is asked of anybody before,
and after a restart every Secret is due when it was. A write is a difference against a live read: what is well is not written.
What a server made of our last write is well too, be it that a webhook of the lender changes all Secrets: only after a restart
such a one is written once more. Who undoes what we write is answered ever more rarely (`damping`); what is due never waits.

A renewal that fails is tried again until it succeeds; the old token is good for another fifth of its life. Half-way through
that the Pod is told.
"""

from __future__ import annotations

from math import inf

import structlog

from kubeocean.api import names
from kubeocean.clusters.physical import BY_VIRTUAL
from kubeocean.clusters.podsummary import PhysicalPod, VirtualPod
from kubeocean.clusters.tokensummary import TokenSecretHead, Written, ca_mark, note_written
from kubeocean.clusters.virtual import BY_NODE
from kubeocean.domain.ownership import is_ours
from kubeocean.domain.podmap import build_physical_pod, forge_volumes
from kubeocean.domain.podtoken import TokenSecret
from kubeocean.domain.refusal import Refusal
from kubeocean.domain.tokenadoption import as_mounted, may_adopt_token_secret
from kubeocean.domain.tokenlife import TokenLife, diff_token_secret, read_life, texts_of
from kubeocean.kube.backoff import Backoff
from kubeocean.kube.controller import Controller, Result
from kubeocean.kube.errors import AlreadyExists, KubeError, NotFound, NotLeading
from kubeocean.kube.meta import Json, ObjectKey, name_of, namespace_of, uid_of
from kubeocean.kube.resources import SECRETS
from kubeocean.kube.store import Entry
from kubeocean.kube.workqueue import Workqueue
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.topdown.damping import Damper, log_fight
from kubeocean.syncer.topdown.tokens import (
    DependencyMissing,
    fill_token_secret,
    mint_tokens,
    read_root_ca,
    taken,
)
from kubeocean.syncer.topdown.twins import TwinMaker

WORKERS = 4
RETRY = Backoff(base=1.0, cap=60.0)  # the shortest token lives 600 s, and a fifth of that is left when it is due
NOT_RENEWED = "TokenNotRenewed"
SEEN_SOON = 1.0  # seconds until a cache shows what a live call has found

log = structlog.get_logger(__name__)


class TokenKeeper:
    """Renews and mends the token Secrets of one binding; `twins` forges, to know what a Pod's Secrets must hold."""

    def __init__(self, pairing: Pairing, twins: TwinMaker) -> None:
        name = f"tokens-{pairing.binding_name}"
        self._pairing, self._twins = pairing, twins
        self.controller: Controller[ObjectKey] = Controller(
            name, self.reconcile, workers=WORKERS, queue=Workqueue(name, backoff=RETRY)
        )
        self._told: set[ObjectKey] = set()  # who has heard that a renewal fails
        self._written: dict[ObjectKey, dict[ObjectKey, Written]] = {}  # Pod -> place of a Secret -> our last write of it
        self._damper: Damper[ObjectKey] = Damper()  # by the place of a Secret: those of one Pod do not hold up each other
        self._starting = False

    def attach(self) -> None:
        """Listen to all that may make a token due; a Pod that lost all of its Secrets meanwhile is looked at as well."""
        self._starting = True
        self._pairing.listen(self._pairing.physical.token_secrets, self._secret_changed)
        self._pairing.listen(self._pairing.virtual.root_cas, self._root_ca_changed)
        self._pairing.listen(self._pairing.physical.pods, self._twin_changed)
        self._pairing.listen(self._pairing.virtual.nodes, self._node_changed)
        self._pairing.listen_to_own_pods(self._pod_changed)
        self._starting = False

    def look_again(self) -> None:
        """Decide anew when each Secret is due: the clock has stepped."""
        for entry in self._pairing.physical.token_secrets.store.entries():
            self._schedule(entry)

    def _secrets_of(self, key: ObjectKey) -> list[Entry[TokenSecretHead]]:
        return self._pairing.physical.token_secrets.store.by_index(BY_VIRTUAL, str(key))

    def _secret_changed(self, old: Entry[TokenSecretHead] | None, new: Entry[TokenSecretHead] | None) -> None:
        if new:
            self._schedule(new)
        elif old and self._living(old.summary.virtual, old.summary.uid):
            self.controller.enqueue(old.summary.virtual)
        elif old and self._is_over(old.summary.virtual):
            self._forget(old.summary.virtual)

    def _node_changed(self, old: Entry[str] | None, new: Entry[str] | None) -> None:
        # A virtual node that was away is back, or its mark is. Until then its Pods were nobody's, and what came due passed by.
        if new and not self._starting and (old is None or old.summary != new.summary):
            for entry in self._pairing.virtual.pods.store.by_index(BY_NODE, new.key.name):
                if self._living(entry.key):
                    self.controller.enqueue(entry.key, low=True)

    def _twin_changed(self, old: Entry[PhysicalPod] | None, new: Entry[PhysicalPod] | None) -> None:
        """Look at twins that were there before us, and at those that became ours as they ran."""
        virtual = new.summary.virtual if new else None
        adopted = old is not None and not old.summary.ours
        if virtual and virtual.name and (self._starting or adopted) and not self._secrets_of(virtual):
            self.controller.enqueue(virtual)

    def _pod_changed(self, old: Entry[VirtualPod] | None, new: Entry[VirtualPod] | None) -> None:
        # It may have no Secret whose going would tell: one that somebody else holds the name of.
        if old and new is None:
            self._forget(old.key)

    def _head(self, entry: Entry[TokenSecretHead]) -> TokenSecretHead:
        """Return what a Secret is like, but for what a server made of our last write."""
        return entry.summary.as_meant(self._written.get(entry.summary.virtual, {}).get(entry.key))

    def _schedule(self, entry: Entry[TokenSecretHead]) -> None:
        head = self._head(entry)
        due = head.due_in(self._pairing.real_time(), self._root_ca(head.virtual.namespace))
        if due is not None and self._living(head.virtual, head.uid):
            self.controller.queue.add_after(head.virtual, due)

    def _root_ca_changed(self, _: Entry[None] | None, new: Entry[None] | None) -> None:
        if new is None or self._starting:  # at the start every Secret has been compared already
            return
        secrets = self._pairing.physical.token_secrets.store
        for entry in secrets.entries():
            if entry.summary.virtual.namespace == new.key.namespace:
                self._schedule(entry)
        for pod, places in self._written.items():  # what somebody keeps deleting, and has its pause
            if pod.namespace == new.key.namespace and any(secrets.get(place) is None for place in places):
                self.controller.enqueue(pod)

    def _root_ca(self, namespace: str) -> int | None:
        return ca_mark(self._pairing.virtual.root_cas.store.object(ObjectKey(namespace, names.ROOT_CA_CONFIGMAP)))

    def _living(self, key: ObjectKey, uid: str = "") -> Entry[VirtualPod] | None:
        """Return the virtual Pod, if it is ours to run, has not finished, and has this uid ("" = any)."""
        vpod = self._pairing.virtual.pods.store.get(key)
        if vpod is None or vpod.summary.finished or uid not in ("", vpod.uid):
            return None
        return vpod if self._pairing.physical_node_of(vpod.summary.node) else None

    def _is_over(self, key: ObjectKey) -> bool:
        """Tell whether no Pod of this name can need a token any more. One whose virtual node is away may be back with it."""
        vpod = self._pairing.virtual.pods.store.get(key)
        return vpod is None or vpod.summary.finished

    def _forget(self, key: ObjectKey) -> None:
        # Else every Pod that comes and goes would be remembered until its token is due, most of an hour later.
        self.controller.withdraw(key)
        self._told.discard(key)
        for place in self._written.pop(key, ()):
            self._damper.forget(place)

    # --- one pass --------------------------------------------------------------------------------------------------
    async def reconcile(self, key: ObjectKey) -> Result:
        """Bring the token Secrets of one Pod up to date, and come back when the next of them is due."""
        living = self._living(key)
        if living is None:
            if self._is_over(key):
                self._forget(key)
            return Result()
        vpod = living.object()
        if not any("projected" in volume or "configMap" in volume for volume in vpod["spec"].get("volumes") or ()):
            return Result()  # nothing that a token Secret could stand for
        entry = self._pairing.twin_of(key)
        twin = entry.object() if entry and entry.summary.ours and entry.summary.virtual_uid == living.uid else None
        context = self._twins.context_of(vpod)
        # What runs may be what could not be made any more: adopted, or forged before the binding or the Services changed.
        forged = forge_volumes(vpod, context) if twin else build_physical_pod(vpod, context)
        if isinstance(forged, Refusal):
            return Result()
        waits = []
        for token in forged.tokens:
            # An adopted twin has its files under other names, or from elsewhere: what it does not mount would serve nobody.
            mounted = as_mounted(token, forged.pod, twin) if twin else None
            waits.append(await self._keep(key, vpod, mounted or token, mounted is not None))
        return Result(min((wait for wait in waits if wait is not None), default=None))

    async def _keep(self, key: ObjectKey, vpod: Json, token: TokenSecret, runs: bool) -> float | None:
        """Bring one Secret up to date if it is due; return in how many seconds it is due (again), None = never."""
        place = ObjectKey(self._pairing.physical.mount_namespace, token.name)
        entry = self._pairing.physical.token_secrets.store.get(place)
        if entry is None and not runs:
            return None  # the pass that makes the twin makes it
        head, now = self._head(entry) if entry else None, self._pairing.real_time()
        wait = head.due_in(now, self._root_ca(key.namespace)) if head else 0.0
        if wait is None or wait > 0:
            return wait
        # What we wrote last counts more than what the Secret says, which somebody may change.
        written = self._written.get(key, {}).get(place)
        life = written.life if written else head.life if head else None
        left = (life.refresh_at - now).total_seconds() if life else inf
        if left > 0 and (pause := self._damper.pause(place, self._meaning(vpod))):
            return min(pause, left)
        try:
            return await self._renew(key, vpod, token, place, mends=left > 0)
        except NotLeading:
            raise
        except KubeError as error:
            self._tell(key, vpod, token, life, error)
            raise
        except DependencyMissing as error:
            self._tell(key, vpod, token, life, error)
            log.warning("token not renewed", binding=self._pairing.binding_name, pod=str(key), error=str(error))
            return RETRY.cap

    def _meaning(self, vpod: Json) -> str:
        return f"{uid_of(vpod)} {self._root_ca(namespace_of(vpod))}"

    async def _renew(
        self, key: ObjectKey, vpod: Json, token: TokenSecret, place: ObjectKey, *, mends: bool
    ) -> float | None:
        """Bring one Secret up to date; `mends`: not because its tokens have come of age."""
        pairing = self._pairing
        live = await self._read(place)
        if live and not (is_ours(live, pairing.owner) or may_adopt_token_secret(live, vpod)):
            if key not in self._told:
                pairing.events.event(vpod, "Warning", *taken(live))
                self._told.add(key)
            return RETRY.cap
        root_ca = read_root_ca(pairing, vpod, token)
        texts, life = await self._tokens(vpod, token, live, place)
        wanted = fill_token_secret(token, texts, life, root_ca, vpod, self._twins.context_of(vpod))
        try:
            written = await self._write(live, wanted)
        except (AlreadyExists, NotFound):
            return SEEN_SOON  # made or removed in between
        if stored := written or live:
            self._written.setdefault(key, {})[place] = note_written(wanted, stored)
        if written:
            self.controller.freshness.expect(key, pairing.physical.token_secrets, written)
            self._told.discard(key)
            log.info("token Secret written", binding=pairing.binding_name, pod=str(key), secret=place.name)
            if mends:
                log_fight("Secret", place, self._damper.mended(place, self._meaning(vpod)))
        return (life.refresh_at - pairing.real_time()).total_seconds() if life else None

    async def _read(self, place: ObjectKey) -> Json | None:
        try:
            return await self._pairing.physical.calls.get(SECRETS, place.name, place.namespace)
        except NotFound:
            return None

    async def _tokens(
        self, vpod: Json, token: TokenSecret, live: Json | None, place: ObjectKey
    ) -> tuple[dict[str, str], TokenLife | None]:
        """Return the tokens for a Secret: those it has while they are good, else new ones."""
        entry = self._pairing.physical.token_secrets.store.get(place)
        if live and entry and not entry.summary.needs_tokens(self._pairing.real_time()):
            try:
                return texts_of(live, [source.key for source in token.sources]), read_life(live)
            except (KeyError, ValueError):
                log.warning("token Secret was altered", secret=str(place))
        return await mint_tokens(self._pairing, vpod, token)

    async def _write(self, live: Json | None, wanted: Json) -> Json | None:
        calls = self._pairing.physical.calls
        if live is None:
            return await calls.create(SECRETS, wanted)
        patch = diff_token_secret(live, wanted)
        return await calls.patch(SECRETS, name_of(live), namespace_of(live), patch) if patch else None

    def _tell(self, key: ObjectKey, vpod: Json, token: TokenSecret, life: TokenLife | None, error: Exception) -> None:
        """Tell the Pod once that its token runs out, if it will not last much longer."""
        if life is None or self._pairing.real_time() < life.tell_at or key in self._told:
            return
        self._told.add(key)
        ends = f"{life.expires_at:%Y-%m-%d %H:%M:%S} UTC"
        self._pairing.events.event(
            vpod, "Warning", NOT_RENEWED,
            f"the ServiceAccount token of volume {token.volume} expires at {ends} and cannot be renewed: {error}",
        )
