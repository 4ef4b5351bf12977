"""The benchmark of streams measures all it promises, and every stream comes whole. How fast is no test's business."""

import os
import sys
from pathlib import Path

import pytest

from kubeocean.bench.idle import AT_ONCE
from kubeocean.bench.rig import RigSpec
from kubeocean.bench.streamresults import PROXIER, THROUGH, WAYS
from kubeocean.bench.streams import StreamsSpec, measure_streams
from kubeocean.bench.streamverdict import added, crowd_ratio, rate_ratio
from kubeocean.sandbox.assets import Assets
from kubeocean.sandbox.progress import LineProgress

KEYS = 20
# More than there can be connections kept for the next reads, so that a file which each stream left behind is seen.
SESSIONS = 2 * AT_ONCE + 8


@pytest.mark.timeout(400)
async def test_a_small_run_gives_every_figure_loses_nothing_and_leaves_nothing_behind(assets: Assets, tmp_path: Path) -> None:
    said: list[str] = []
    rig = RigSpec(clusters=1, nodes=1, root=tmp_path)
    spec = StreamsSpec(keystrokes=KEYS, megabytes=1.0, sessions=SESSIONS, parallel=5, rig=rig)
    # It raises when a byte of a keystroke, of output or of input is missing.
    found = await measure_streams(spec, LineProgress(said.append))
    assert {name: spread.count for name, spread in found.keystrokes.items()} == dict.fromkeys(WAYS, KEYS)
    assert min(spread.p50 for spread in found.keystrokes.values()) > 0
    assert all(len(added(found.keystrokes, way)) == 2 for way in (PROXIER, THROUGH))
    for rates in (found.output, found.input):
        assert min(rate_ratio(rates, way) for way in WAYS) > 0
    assert [crowd.failures for crowd in found.crowd.values()] == [[], []]
    assert crowd_ratio(found.crowd) > 0
    assert (found.idle.before.sessions, found.idle.full.sessions, found.idle.after.sessions) == (0, SESSIONS, 0)
    assert found.idle.again.sessions == SESSIONS
    assert found.idle.full.tasks > found.idle.after.tasks
    if sys.platform == "linux":
        assert found.idle.bytes_per_session is not None
        assert (found.idle.full.files or 0) >= (found.idle.before.files or 0) + 2 * SESSIONS
        assert (found.idle.after.files or 0) < (found.idle.before.files or 0) + SESSIONS
    assert os.listdir(tmp_path) == []
