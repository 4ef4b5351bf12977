"""One run from end to end: rig, baselines, then, with Kubeocean, the same again, and the floor once more when it has gone.

No manager runs beside a baseline: its watches would be in the way. Everything that is compared happens in one run on one
machine; figures of different runs are not comparable. But the pace of a machine that others share changes within minutes, and
etcd and the audit logs grow, so the floor is measured on both sides of Kubeocean's laps: midway between the two is what it
would have been in their moment, and how far they are apart tells how much to believe.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

from kubeocean.bench.ceiling import measure_ceiling
from kubeocean.bench.direct import measure_direct
from kubeocean.bench.errors import BenchError
from kubeocean.bench.federated import measure_federated
from kubeocean.bench.federation import federate
from kubeocean.bench.floor import measure_floor
from kubeocean.bench.profiling import read_hotspots
from kubeocean.bench.results import Baseline, Floor, Report, Setting, Variant
from kubeocean.bench.rig import Rig, RigSpec, open_rig
from kubeocean.sandbox.progress import Progress

PODS_PER_NODE = 100  # KWOK's nodes take 110; the direct burst has one cluster only


@dataclass(frozen=True, slots=True)
class BurstSpec:
    """What to measure; `tokens` are the variants, in order. quiet_seconds 0 leaves that part out."""

    pods: int = 500
    tokens: tuple[bool, ...] = (False, True)
    direct_scheduling: bool = True
    quiet_seconds: float = 20.0
    profile: Path | None = None
    rig: RigSpec = field(default_factory=RigSpec)


async def measure_burst(spec: BurstSpec, progress: Progress) -> Report:
    """Measure. Raises BenchError, SandboxError or KubeError; whatever was started is ended."""
    load = os.getloadavg()[0]
    async with open_rig(spec.rig, progress) as rig:
        _check_room(spec.pods, rig)
        baselines = {token: await _baseline(rig, spec.pods, token=token) for token in spec.tokens}
        progress.say("starting the manager, binding all clusters")
        federated = {}
        federation = federate(rig, direct_scheduling=spec.direct_scheduling, profile=spec.profile, leave=True)
        async with federation as manager:
            for token in spec.tokens:
                progress.say(f"federated, {_with(token)}: warming up")
                federated[token] = await measure_federated(
                    rig, manager, spec.pods, token=token, quiet_seconds=spec.quiet_seconds
                )
        variants = [
            Variant(token, baselines[token], federated[token], await _floor_after(rig, spec.pods, token=token))
            for token in spec.tokens
        ]
        setting = Setting(
            spec.pods, rig.nodes, len(rig.physical), "inprocess", spec.direct_scheduling, os.cpu_count() or 1, load,
            platform.python_version(), spec.profile is not None,
        )
    return Report(setting, variants, read_hotspots(spec.profile) if spec.profile else [])


async def _baseline(rig: Rig, pods: int, *, token: bool) -> Baseline:
    rig.progress.say(f"direct, {_with(token)}")
    direct, direct_phase = await measure_direct(rig, pods, token=token)
    rig.progress.say(f"floor, {_with(token)}")
    floor, floor_phase = await measure_floor(rig, pods, token=token)
    rig.progress.say(f"the rig's ceiling, {_with(token)}")
    ceiling, ceiling_phase = await measure_ceiling(rig, pods, token=token)
    return Baseline(direct, direct_phase, floor, floor_phase, ceiling, ceiling_phase)


async def _floor_after(rig: Rig, pods: int, *, token: bool) -> Floor:
    rig.progress.say(f"the floor once more, {_with(token)}")
    await rig.meter.settle()
    floor, _ = await measure_floor(rig, pods, token=token, name="floor-after")
    return floor


def _check_room(pods: int, rig: Rig) -> None:
    room = rig.nodes // len(rig.physical) * PODS_PER_NODE
    if pods > room:
        raise BenchError(f"{pods} Pods do not fit into one cluster, which takes about {room}: ask for more --nodes")


def _with(token: bool) -> str:
    return "with token" if token else "without token"
