"""`kubectl exec` on a virtual node against the same straight to the physical API server: delay, throughput, memory, a crowd.

One Pod on a virtual node, whose twin KWOK plays; commands run on this machine, so nearly all that is measured is the way there.
Everything that is compared takes turns within one run (`ways`). This process speaks asyncio's own loop, not uvloop, which may
lose the last bytes of a stream (see the proxier): a loss is to be the proxier's.
"""

from __future__ import annotations

import asyncio
import os
import platform
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.bench.burst import create_all
from kubeocean.bench.crowd import measure_crowd
from kubeocean.bench.errors import BenchError
from kubeocean.bench.execframes import build_api_target, build_kubelet_target
from kubeocean.bench.federation import MOUNT_NAMESPACE, federate
from kubeocean.bench.idle import fitting, measure_idle
from kubeocean.bench.keystrokes import measure_keystrokes
from kubeocean.bench.managed import Manager
from kubeocean.bench.poll import until_true
from kubeocean.bench.procfs import child_of
from kubeocean.bench.proxierwatch import ProxierWatch
from kubeocean.bench.rig import Rig, RigSpec, open_rig
from kubeocean.bench.streamresults import PROXIER, STRAIGHT, THROUGH, Streams, StreamSetting
from kubeocean.bench.throughput import MEGA, give_input, measure_throughput, take_output
from kubeocean.bench.ways import Way, open_way
from kubeocean.bench.workload import build_pod
from kubeocean.domain.naming import physical_name
from kubeocean.domain.vnode import port_of
from kubeocean.domain.vnode_status import internal_ip
from kubeocean.kube.config import config_from_file
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import NODES, PODS
from kubeocean.obs.openfiles import allow_most_open_files
from kubeocean.sandbox.commands import LOOPBACK, Files
from kubeocean.sandbox.ports import choose_ports
from kubeocean.sandbox.progress import Progress

_POD, _CONTAINER = "streams", "main"
_SERVES_WITHIN = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class StreamsSpec:
    """What to measure: `keystrokes` on each way, `megabytes` in each direction, idle `sessions`, `parallel` commands."""

    keystrokes: int = 2000
    megabytes: float = 256.0
    sessions: int = 1000
    parallel: int = 200
    rig: RigSpec = field(default_factory=lambda: RigSpec(clusters=1, nodes=1))


async def measure_streams(spec: StreamsSpec, progress: Progress) -> Streams:
    """Measure. Raises BenchError, SandboxError or KubeError; whatever was started is ended."""
    load, files = os.getloadavg()[0], allow_most_open_files()
    metrics = f"{LOOPBACK}:{choose_ports(1, (LOOPBACK,))[0]}"
    async with AsyncExitStack() as stack:
        rig = await stack.enter_async_context(open_rig(spec.rig, progress))
        progress.say("starting the manager and its proxier, binding the cluster")
        federated = federate(rig, direct_scheduling=True, profile=None, flags=("--metrics-bind-address", metrics))
        manager = await stack.enter_async_context(federated)
        proxier = await _proxier(rig, manager)
        ways = await stack.enter_async_context(_open_ways(rig))
        for way in ways:
            await until_true(partial(_answers, way), within=_SERVES_WITHIN, what=partial(_why_not, manager))
        watch = ProxierWatch(proxier, f"http://{metrics}/metrics")
        return await _measure(spec, load, fitting(spec.sessions, files), ways, watch, progress)


async def _measure(
    spec: StreamsSpec, load: float, sessions: int, ways: Sequence[Way], watch: ProxierWatch, progress: Progress
) -> Streams:
    straight, _, through = ways
    setting = StreamSetting(
        "KWOK, whose commands run on this machine", os.cpu_count() or 1, load, platform.python_version(), spec.megabytes,
        spec.parallel, spec.sessions,
    )
    progress.say(f"{spec.keystrokes} keystrokes on each way")
    keystrokes = await measure_keystrokes(ways, spec.keystrokes)
    progress.say(f"{sessions} idle sessions")
    idle = await measure_idle(through, sessions, watch)
    size = round(spec.megabytes * MEGA)
    progress.say(f"{spec.megabytes:g} MB of output, on each way, three times")
    output = await measure_throughput(ways, size, take_output, watch.pid)
    progress.say(f"{spec.megabytes:g} MB of input, on each way, three times")
    given = await measure_throughput(ways, size, give_input, watch.pid)
    progress.say(f"{spec.parallel} commands at once, straight and through, three times")
    crowd = await measure_crowd((straight, through), spec.parallel)
    return Streams(setting, keystrokes, output, given, idle, crowd)


@asynccontextmanager
async def _open_ways(rig: Rig) -> AsyncIterator[list[Way]]:
    """Give the ways to a new Pod's container, in the order of `WAYS`."""
    async with AsyncExitStack() as stack:
        namespace = await stack.enter_async_context(rig.namespace(rig.virtual, "streams"))
        pod = await _running_pod(rig, namespace)
        vnode = await rig.virtual.get(NODES, pod["spec"]["nodeName"])
        physical, virtual = [
            await config_from_file(str(cluster.kubeconfig)) for cluster in (rig.sandbox.physical[0], rig.sandbox.virtual)
        ]
        twin = partial(build_api_target, MOUNT_NAMESPACE, physical_name(_POD, namespace), _CONTAINER)
        asked = (namespace, _POD, _CONTAINER)
        kubelet = f"https://{internal_ip(vnode)}:{port_of(vnode)}"
        yield [
            await stack.enter_async_context(way) for way in (
                open_way(STRAIGHT, physical.server, physical.ssl, twin),
                open_way(PROXIER, kubelet, _kubelet_client(rig), partial(build_kubelet_target, *asked)),
                open_way(THROUGH, virtual.server, virtual.ssl, partial(build_api_target, *asked)),
            )
        ]


async def _running_pod(rig: Rig, namespace: str) -> Json:
    await create_all(rig.virtual, [build_pod(_POD, namespace, token=False)])
    return await rig.virtual.get(PODS, _POD, namespace)


def _kubelet_client(rig: Rig) -> ssl.SSLContext:
    """Return the virtual API server's own means to call kubelets."""
    pki = Files(rig.sandbox.virtual.folder).pki
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "kubelet-client.crt", pki / "kubelet-client.key")
    return context


async def _proxier(rig: Rig, manager: Manager) -> int:
    """Return the process id of the manager's proxier, once it serves: its ports are settled then."""

    async def serves() -> bool:
        manager.check()
        binding = await rig.virtual.get(CLUSTERBINDINGS, f"{rig.name}-1")
        conditions = (binding.get("status") or {}).get("conditions") or ()
        return any(each["type"] == "ProxierReady" and each["status"] == "True" for each in conditions)

    await until_true(serves, within=_SERVES_WITHIN, what=partial(_why_not, manager))
    pid = child_of(manager.pid, "proxier")
    if pid is None:
        raise BenchError("the manager has no proxier among its child processes, or this system does not tell")
    return pid


async def _answers(way: Way) -> bool:
    try:
        async with asyncio.timeout(10), way.run("true") as running:
            await running.read_all()
            return running.exit_code == 0
    except (BenchError, TimeoutError):
        return False


def _why_not(manager: Manager) -> str:
    return "\n    ".join(["commands are run on the virtual node; the manager's last words:", *manager.last_words()])
