"""The benchmark of scale measures all it promises, on a small rig. How fast is no test's business; what was written is."""

import os
import sys
from dataclasses import astuple
from pathlib import Path

import pytest

from kubeocean.bench.rig import RigSpec
from kubeocean.bench.scale import ScaleSpec, measure_scale
from kubeocean.sandbox.assets import Assets
from kubeocean.sandbox.progress import LineProgress


@pytest.mark.timeout(400)
async def test_a_small_run_gives_every_figure_and_a_restart_writes_nothing(assets: Assets, tmp_path: Path) -> None:
    said: list[str] = []
    spec = ScaleSpec(pods=20, foreign=7, rest_seconds=2.0, rig=RigSpec(clusters=2, nodes=2, root=tmp_path))
    found = await measure_scale(spec, LineProgress(said.append))
    assert (found.setting.pods, found.setting.nodes, found.setting.clusters) == (20, 2, 2)
    assert "7 Pods of the lenders'" in said
    for lap in (found.floor.best, found.ceiling.best, found.lap):
        assert min(lap.create, lap.delete) > 0
    assert found.neighbourhood.crowd is not None
    assert found.neighbourhood.crowd.count == 4  # of 20 among five tenants
    assert found.neighbourhood.neighbour is not None
    assert found.writes_at_rest == []
    for restart in (found.restart, found.rolling):
        assert min(restart.leading, restart.steady) >= 0
        assert (restart.writes, restart.deletes) == ([], 0)
    if sys.platform == "linux":
        known = (*astuple(found.memory), found.cpu_creating, found.cpu_deleting, found.cpu_at_rest)
        assert None not in known
    assert os.listdir(tmp_path) == []
