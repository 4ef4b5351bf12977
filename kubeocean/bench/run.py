"""One run from end to end: rig, baselines, and then, with Kubeocean, the same again.

All baselines come first, before a manager runs: its watches would be in their way. Everything that is compared happens in
one run on one machine, within minutes; figures of different runs are not comparable.
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
from kubeocean.bench.results import Baseline, Report, Setting, Variant
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
        variants = []
        async with federate(rig, direct_scheduling=spec.direct_scheduling, profile=spec.profile) as manager:
            for token in spec.tokens:
                progress.say(f"federated, {_with(token)}: warming up")
                figures = await measure_federated(rig, manager, spec.pods, token=token, quiet_seconds=spec.quiet_seconds)
                variants.append(Variant(token, baselines[token], figures))
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


def _check_room(pods: int, rig: Rig) -> None:
    room = rig.nodes // len(rig.physical) * PODS_PER_NODE
    if pods > room:
        raise BenchError(f"{pods} Pods do not fit into one cluster, which takes about {room}: ask for more --nodes")


def _with(token: bool) -> str:
    return "with token" if token else "without token"
