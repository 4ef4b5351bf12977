"""The lender's own ResourceLeasingPolicies, read over his API server for as long as he lets us.

    discovery ──knows the kind──► watch ──404 or 403, and discovery does not know it any more──► absent: asked every minute
                                    └─ 403: not granted; anything else: unknown. The watch itself keeps trying and heals.

How that is judged stands in `domain.lender`; here is when we look. Handlers hear of policies only once the cache was complete,
and then of all of them, so that nobody decides on half a list; when the kind goes, they hear that every policy went.

Which fields of status the lender's CRD has is asked of its OpenAPI document, which everybody may read: his CRD may be the Go
project's, and may be replaced while we run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic

import structlog

from kubeocean.api.names import GROUP, VERSION
from kubeocean.api.resources import RESOURCELEASINGPOLICIES
from kubeocean.domain.lender import LenderView, Standing, build_view, judge_standing, serves_kind
from kubeocean.domain.lenderstatus import OLDEST_FIELDS, served_status_fields
from kubeocean.domain.policies import Policy, read_lender_policy
from kubeocean.kube import codec
from kubeocean.kube.client import Client
from kubeocean.kube.errors import Forbidden, KubeError, NotFound
from kubeocean.kube.informer import Handler, Informer
from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.kube.store import Entry

LOOK, FIRST_LOOK = 1.0, 0.02  # seconds between looks at the watch; before the first answer
PATIENCE = 10.0  # seconds for the first answer; without one we go on as with any other trouble
LOOK_AGAIN = 60.0  # seconds between looks for a kind that is absent
FIELDS_GOOD_FOR, FIELDS_RETRY = 60.0, 5.0  # seconds; after an answer, after none

log = structlog.get_logger(__name__)


class LenderPolicies:
    """Policies of one physical cluster. `read_before` is asked when they are forbidden: did we ever read (and obey) them?"""

    def __init__(
        self, watches: Client, *, name: str, confirm_identity: Callable[[], Awaitable[None]],
        read_before: Callable[[], bool] = lambda: False,
    ) -> None:
        self.standing, self.why = Standing.UNREAD, ""
        self.read_before = read_before
        self._client, self._name, self._confirm_identity = watches, name, confirm_identity
        self._handlers: list[Handler[Policy]] = []
        self._subscribers: list[Callable[[Standing, str], None]] = []
        self._settled = asyncio.Event()
        self._fields, self._fields_until = OLDEST_FIELDS, 0.0  # monotonic
        self._begin()

    def _begin(self) -> None:
        self._complete = False  # whether handlers have been told of a whole list
        self._absent = False  # what discovery said,
        self._asked_about: Exception | None = None  # upon which failure
        self.informer: Informer[Policy] = Informer(
            self._client, RESOURCELEASINGPOLICIES, summarise=read_lender_policy, name=f"{self._name}-lender-policies"
        )
        self.informer.add_handler(self._policy_changed)

    # --- for those who read ------------------------------------------------------------------------------------------
    @property
    def view(self) -> LenderView:
        """Return what is known of the policies now."""
        known = [entry.summary for entry in self.informer.store.entries()] if self._complete else None
        return build_view(self.standing, known, self.why)

    def get(self, name: str) -> Entry[Policy] | None:
        """Return a policy as last seen, None when there is none (that we may read)."""
        return self.informer.store.get(ObjectKey("", name)) if self._complete else None

    def entries(self) -> list[Entry[Policy]]:
        """Return all policies as last seen."""
        return self.informer.store.entries() if self._complete else []

    def add_handler(self, handler: Handler[Policy]) -> None:
        """Call `handler(old, new)` for every change, on the loop; at once `(None, entry)` for all that is known."""
        self._handlers.append(handler)
        for entry in self.entries():
            handler(None, entry)

    def subscribe(self, on_change: Callable[[Standing, str], None]) -> None:
        """Call `on_change(standing, why)`, on the loop, now and whenever we stand differently with the lender."""
        self._subscribers.append(on_change)
        on_change(self.standing, self.why)

    async def wait_settled(self) -> None:
        """Return once it is known how we stand: the policies were read, or there is a reason why not, or no answer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._settled.wait()

    async def status_fields(self) -> frozenset[str]:
        """Return the fields that a policy's status may have here; an answer is good for a minute."""
        if monotonic() >= self._fields_until:
            try:
                document = await self._json(f"/openapi/v3/apis/{GROUP}/{VERSION}")
            except (KubeError, ValueError) as error:
                log.debug("schema of the lender's policies not read", cluster=self._name, error=str(error))
                self._fields_until = monotonic() + FIELDS_RETRY
            else:
                self._fields = served_status_fields(document, GROUP, VERSION, RESOURCELEASINGPOLICIES.kind)
                self._fields_until = monotonic() + FIELDS_GOOD_FOR
        return self._fields

    # --- looking -----------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Watch until cancelled, whatever the lender answers."""
        while True:
            if await self._kind_is_served():  # asked first, so that a lender without policies is no trouble
                await self._watch()
                self._vanish()
            self._become(Standing.ABSENT, f"the lender has no {RESOURCELEASINGPOLICIES.plural}.{GROUP}")
            await asyncio.sleep(LOOK_AGAIN)

    async def _watch(self) -> None:
        """Keep the cache until the kind is proved absent."""
        watch = asyncio.create_task(self.informer.run(), name=f"informer {self.informer.name}")
        try:
            while not await self._look():
                await asyncio.sleep(FIRST_LOOK if self.standing is Standing.UNREAD else LOOK)
        finally:
            watch.cancel()
            await asyncio.wait([watch])  # not `await watch`: its cancellation must not pass for ours, nor ours for its

    async def _look(self) -> bool:
        """Judge how we stand; returns whether the kind is absent."""
        error = self.informer.last_error
        if error is not self._asked_about:
            # Who may not read a kind hears 403 even where there is none; only discovery tells these two apart.
            self._absent = isinstance(error, NotFound | Forbidden) and not await self._kind_is_served()
            self._asked_about = error
        read_before = isinstance(error, Forbidden) and (bool(self.entries()) or self.read_before())
        synced = self.informer.has_synced
        if synced and not self._complete:
            self._complete = True
            for entry in self.informer.store.entries():
                self._tell(None, entry)
        standing = judge_standing(
            error, failures=self.informer.consecutive_failures, synced=synced, absent=self._absent, read_before=read_before
        )
        self._become(standing, str(error or ""))
        return self._absent

    async def _kind_is_served(self) -> bool:
        """Ask discovery for the kind; only a clear no of the very cluster we know is taken for one."""
        try:
            groups = await self._json("/apis")
            if groups.get("kind") != "APIGroupList":
                return True
            served = serves_kind(groups, GROUP, VERSION) and await self._version_has_kind()
            await self._confirm_identity()
        except (KubeError, ValueError) as error:
            log.debug("discovery gives no answer", cluster=self._name, error=str(error))
            return self.standing is not Standing.ABSENT  # doubt changes nothing
        return served

    async def _version_has_kind(self) -> bool:
        resources = (await self._json(f"/apis/{GROUP}/{VERSION}")).get("resources") or ()
        return any(item.get("name") == RESOURCELEASINGPOLICIES.plural for item in resources)

    async def _json(self, path: str) -> Json:
        return codec.decode(await self._client.raw("GET", path))

    # --- telling -----------------------------------------------------------------------------------------------------
    def _vanish(self) -> None:
        """Tell that every policy is gone, because their kind is."""
        gone = self.entries()
        self._begin()
        for entry in gone:
            self._tell(entry, None)

    def _policy_changed(self, old: Entry[Policy] | None, new: Entry[Policy] | None) -> None:
        if self._complete:
            self._tell(old, new)

    def _tell(self, old: Entry[Policy] | None, new: Entry[Policy] | None) -> None:
        for handler in self._handlers:
            handler(old, new)

    def _become(self, standing: Standing, why: str) -> None:
        before, self.standing, self.why = self.standing, standing, why
        if standing is not Standing.UNREAD:
            self._settled.set()
        if standing is not before:
            log.info("lender's policies", cluster=self._name, standing=standing.value, was=before.value, why=why)
            for subscriber in self._subscribers:
                subscriber(standing, why)
