"""Manager and syncer from start to end: the order of things, who leads, what is ready, a graceful stop.

Order: health server first (a kubelet asks at once) -> which cluster is this -> informers, warm on followers too -> the
lease -> controllers. Leading work is cancelled before the lease is given back, and every mutating call asks for proof of
leadership, so at no moment two processes write. Everything runs in one TaskGroup: a task that dies ends the process, for
its supervisor to start anew, instead of leaving half of it alive.

`InProcessLauncher` is the launcher of laptops, tests and the sandbox: each binding's syncer is a task of the manager, under
the manager's lease. What goes wrong in one of them stays with its binding. The proxier of all of them is a child process.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import Awaitable, Callable

import structlog

from kubeocean import __version__
from kubeocean.api import names
from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.clusters.install import install_crds
from kubeocean.clusters.virtual import VirtualCluster
from kubeocean.domain.bindingstatus import SYNCER_FAILED, SyncerState
from kubeocean.domain.proxierstate import ProxierState
from kubeocean.kube.client import Client
from kubeocean.kube.clock import Clock, ShiftedClock, real_time
from kubeocean.kube.config import ServerConfig, config_from_file
from kubeocean.kube.errors import AlreadyExists, ConfigError, Forbidden, NotFound, NotLeading
from kubeocean.kube.events import EventRecorder
from kubeocean.kube.leader import LeaderConfig, LeaderElector, Leadership, always_leading
from kubeocean.kube.meta import ObjectKey, finalizers_of
from kubeocean.kube.resources import NAMESPACES
from kubeocean.kube.tlsbuffers import shrink_tls_buffers
from kubeocean.manager.bindings import BindingController
from kubeocean.manager.launcher import Launcher, NoLauncher
from kubeocean.manager.policies import OrphanPolicyController
from kubeocean.manager.proxierprocess import LetGo, ProxierProcess
from kubeocean.obs.exit import exit_loudly
from kubeocean.obs.health import HealthServer
from kubeocean.settings import ManagerSettings, ProcessSettings, SyncerSettings, process_identity
from kubeocean.syncer.pairing import SyncerOptions
from kubeocean.syncer.syncer import Syncer

SYNCER_STOP_DEADLINE = 20.0  # seconds that a cancelled syncer may take to end
RESTART_AFTER = 5.0  # seconds after a syncer failed in a way nobody foresaw

log = structlog.get_logger(__name__)


async def run_manager(settings: ManagerSettings) -> None:
    """Run the manager until cancelled."""
    async with _Process(settings, "manager", settings.leader_election_id, syncing=settings.launcher == "inprocess") as process:
        if settings.install_crds:
            await process.install_crds()

        proxiers = LetGo()

        async def lead() -> None:
            async with asyncio.TaskGroup() as tasks:
                launcher = _launcher(settings, process, tasks, proxiers)
                bindings = BindingController(process.virtual, launcher, process.events, user_agent=process.user_agent)
                if isinstance(launcher, InProcessLauncher):
                    launcher.on_change, launcher.proxier_process.on_change = bindings.syncer_changed, bindings.proxier_changed
                    tasks.create_task(launcher.proxier_process.run(), name="proxier")
                policies = OrphanPolicyController(process.virtual, time_zone=settings.time_zone, clock=process.clock)
                tasks.create_task(bindings.run(), name="bindings")
                tasks.create_task(policies.run(), name="policies")

        try:
            await process.serve(lead)
        finally:
            await proxiers.end()


async def run_syncer(settings: SyncerSettings) -> None:
    """Run the syncer of one binding until it is unbound, or until cancelled.

    Without the binding its lease is won only to be removed: whoever held it may have been killed while it left.
    """
    name, served = settings.cluster_binding_name, False
    async with _Process(settings, "syncer", settings.lease_name, syncing=True, only_binding=name) as process:

        async def lead() -> None:
            nonlocal served
            if process.virtual.bindings.store.get(ObjectKey("", name)) is None:
                return
            served = True
            syncer = process.make_syncer(name, lambda _: None)
            process.health.ready["syncer"] = lambda: None if syncer.state.ready else syncer.state.message
            await syncer.run()

        await process.serve(lead)
    if not served:
        raise ConfigError(f"there is no ClusterBinding {name!r}: correct --cluster-binding-name, or create it")


class _Process:
    """What both programs are made of; an async context manager that cleans up in reverse order."""

    def __init__(
        self, settings: ProcessSettings, component: str, lease_name: str, *, syncing: bool, only_binding: str = ""
    ) -> None:
        self.settings, self.component, self.lease_name, self.syncing = settings, component, lease_name, syncing
        self._only_binding = only_binding
        self.user_agent = f"kubeocean-{component}/{__version__}"
        self.clock: Clock = ShiftedClock(settings.clock_file) if settings.clock_file else real_time
        self.leadership: Leadership = Leadership() if settings.leader_elect else always_leading()
        self.health = HealthServer(
            health_address=settings.health_probe_bind_address, metrics_address=settings.metrics_bind_address,
            ready={"informers": lambda: "not started yet"},
        )
        self.virtual: VirtualCluster
        self.events: EventRecorder
        self._config: ServerConfig

    async def __aenter__(self) -> _Process:
        settings = self.settings
        shrink_tls_buffers()
        self._config = await config_from_file(str(settings.kubeconfig) if settings.kubeconfig else None)
        self.virtual = VirtualCluster(
            self._config, user_agent=self.user_agent, guard=self.leadership.check, qps=settings.virtual_client_qps,
            burst=settings.virtual_client_burst,
        )
        self.events = EventRecorder(self.virtual.calls, component=f"kubeocean-{self.component}")
        await self.health.start()
        if settings.clock_file:
            log.warning("leases go by a clock that is not the real one", file=str(settings.clock_file), shows=str(self.clock()))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.health.stop()
        await self.virtual.close()

    async def serve(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Run informers and, while this process leads, `lead`; returns when `lead` does."""
        await self.virtual.connect()
        if self._only_binding:
            await self._show_only(self._only_binding)
        self.health.ready["informers"] = lambda: None if self.virtual.has_synced(syncing=self.syncing) else "not synced yet"
        log.info("started", component=self.component, version=__version__, virtual_cluster=self.virtual.uid)
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self.virtual.run(syncing=self.syncing), name="virtual informers"),
                tasks.create_task(self.events.run(), name="events"),
            ]
            await self.virtual.wait_synced(syncing=self.syncing)
            _spare_the_collector()
            await self._lead(lead)
            for task in background:
                task.cancel()

    async def _show_only(self, binding: str) -> None:
        """Keep no Pods of other bindings, if this one is there to tell which are its own."""
        with contextlib.suppress(NotFound):
            spec = (await self.virtual.calls.get(CLUSTERBINDINGS, binding)).get("spec") or {}
            self.virtual.show_only(str(spec.get("clusterID") or ""))

    async def _lead(self, lead: Callable[[], Awaitable[None]]) -> None:
        if not self.settings.leader_elect:
            await lead()
            return
        settings = self.settings
        config = LeaderConfig(
            settings.leader_election_namespace, self.lease_name, process_identity(),
            lease_duration=settings.leader_election_lease_duration, renew_deadline=settings.leader_election_renew_deadline,
            retry_period=settings.leader_election_retry_period,
        )
        # Its own connection, outside every queue: a renewal must not wait behind a burst.
        agent = f"{self.user_agent} leader-election"
        async with Client(self._config, cluster="virtual", user_agent=agent, connections=1) as client:
            await _ensure_namespace(client, settings.leader_election_namespace)
            await LeaderElector(client, config, self.leadership).run(lambda: _unwrapped(lead))

    async def install_crds(self) -> None:
        """Apply the CRDs before anybody leads: nothing can be watched without them, and replicas apply the same."""
        async with Client(self._config, cluster="virtual", user_agent=self.user_agent) as client:
            await install_crds(client)

    def make_syncer(self, binding: str, on_change: Callable[[SyncerState], None]) -> Syncer:
        """Return the syncer of `binding`, not started."""
        host, port = self.settings.api_server
        options = SyncerOptions(
            vnode_address=self.settings.vnode_address, api_server_host=host, api_server_port=port,
            dns_server=self.settings.virtual_dns, time_zone=self.settings.time_zone, clock=self.clock,
            physical_qps=self.settings.physical_client_qps, physical_burst=self.settings.physical_client_burst,
        )
        return Syncer(
            binding, self.virtual, self.events, options, guard=self.leadership.check, user_agent=self.user_agent,
            on_change=on_change,
        )


async def _ensure_namespace(client: Client, name: str) -> None:
    # Installed by the chart in production; a laptop has none, and may usually create it.
    try:
        await client.get(NAMESPACES, name)
    except NotFound:
        with contextlib.suppress(AlreadyExists, Forbidden):
            await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    except Forbidden:
        return  # then it is others who look after it


async def _unwrapped(lead: Callable[[], Awaitable[None]]) -> None:
    """Run `lead` so that NotLeading leaves it as itself: the elector takes it for a lost lease, not for a crash."""
    try:
        await lead()
    except BaseExceptionGroup as group:
        lost = group.subgroup(NotLeading)
        if lost is None:
            raise
        raise NotLeading("leadership was lost while working") from group


def _spare_the_collector() -> None:
    """Take what is loaded by now (modules, caches) out of the garbage collector's rounds, and have it come less often.

    Objects of ours are freed by reference counts; cycles are rare, while every full round over the caches stops the loop.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def _launcher(settings: ManagerSettings, process: _Process, tasks: asyncio.TaskGroup, proxiers: LetGo) -> Launcher:
    if settings.launcher == "inprocess":
        bindings = process.virtual.bindings.store
        command = (sys.executable, "-m", "kubeocean", "proxier", "--supervised", *settings.proxier_flags)
        proxier = ProxierProcess(command, lambda: [entry.key.name for entry in bindings.entries()], proxiers)
        proxier.on_blocked = lambda vnode, port: process.virtual.kubelet_ports.bar(vnode, (settings.vnode_address, port))
        return InProcessLauncher(process.make_syncer, tasks, proxier)

    def is_reported(binding: str) -> bool:
        obj = process.virtual.bindings.store.object(ObjectKey("", binding))
        return obj is not None and names.BINDING_SYNCER_FINALIZER in finalizers_of(obj)

    return NoLauncher(is_reported)


class InProcessLauncher:
    """Runs each binding's syncer as a task of this process, beside one proxier for all of them.

    `on_change` is called with a binding whose syncer's state changed.
    """

    def __init__(
        self, make: Callable[[str, Callable[[SyncerState], None]], Syncer], tasks: asyncio.TaskGroup, proxier: ProxierProcess
    ) -> None:
        self._make, self._tasks, self.proxier_process = make, tasks, proxier
        self._running: dict[str, asyncio.Task[None]] = {}
        self._states: dict[str, SyncerState] = {}
        self.on_change: Callable[[str], None] = lambda _: None

    def ensure(self, binding: str) -> None:
        """Have a syncer running for the binding."""
        task = self._running.get(binding)
        if task is None or task.done():
            self._states[binding] = SyncerState(False, "the syncer is starting")
            self._running[binding] = self._tasks.create_task(self._supervise(binding), name=f"syncer {binding}")

    def state(self, binding: str) -> SyncerState | None:
        """Return how the binding's syncer is doing, None when none runs."""
        return self._states.get(binding)

    def proxier(self, binding: str) -> ProxierState:
        """Return how the binding's virtual nodes are served."""
        return self.proxier_process.state(binding)

    async def stop(self, binding: str) -> None:
        """End the binding's syncer and wait until it has ended."""
        task = self._running.pop(binding, None)
        self._states.pop(binding, None)
        if task and not task.done():
            task.cancel()
            _, stuck = await asyncio.wait((task,), timeout=SYNCER_STOP_DEADLINE)
            if stuck:
                exit_loudly(f"{task.get_name()} did not end within {SYNCER_STOP_DEADLINE:.0f} s after it was cancelled")

    async def _supervise(self, binding: str) -> None:
        while True:
            try:
                await self._make(binding, lambda state: self._note(binding, state)).run()
                return
            except NotLeading:
                raise
            except Exception as error:
                log.error("syncer failed in an unexpected way", binding=binding, exc_info=error)
                self._note(binding, SyncerState(False, f"{type(error).__name__}: {error}; it is started again", SYNCER_FAILED))
                await asyncio.sleep(RESTART_AFTER)

    def _note(self, binding: str, state: SyncerState) -> None:
        if binding in self._running:
            self._states[binding] = state
            self.on_change(binding)
