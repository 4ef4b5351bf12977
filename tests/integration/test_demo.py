"""The demo itself, as `make demo` plays it: it ends well only because everything was seen, and says so when it was not."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from kubeocean.demo.cast import SLICE
from kubeocean.demo.play import run_demo
from kubeocean.demo.story import Forward, Hear, Observe, Run, build_story
from kubeocean.sandbox.sandbox import Sandbox
from kubeocean.sandbox.state import NoSandbox

STORY = build_story(real=False)
FORGOTTEN = f"kubectl create secret generic {SLICE.context}"
WITHOUT_A_SECRET = replace(STORY[1], acts=tuple(
    replace(act, within=5.0) if isinstance(act, Observe) else act
    for act in STORY[1].acts if not (isinstance(act, Run) and act.line.startswith(FORGOTTEN))
))


@pytest.fixture
async def root(tmp_path: Path) -> AsyncIterator[Path]:
    """A folder for the demo's sandbox, which is ended even when the test was not."""
    yield tmp_path
    with suppress(NoSandbox):
        await Sandbox.load("demo", root=tmp_path).down()


@pytest.mark.usefixtures("assets")
async def test_a_sabotaged_demo_fails_usefully_and_the_next_one_clears_it_away_and_succeeds(root: Path) -> None:
    failed = io.StringIO()
    assert not await run_demo(failed, keep=True, root=root, steps=(STORY[0], WITHOUT_A_SECRET))
    text = failed.getvalue()
    assert f"✗ {STORY[1].title}: not observed" in text
    assert "expected: lender-2 is Ready, within 5 s" in text
    assert "seen:     lender-2 is Failed (ConnectivityFailed: Secret default/physical-2 does not exist" in text
    assert "the end of the manager's log" in text

    kept = Sandbox.load("demo", root=root)
    assert kept.condition == "running"
    assert f"{kept.physical[1].kubeconfig}" in text
    manager = kept.virtual.component("kubeocean-manager")

    played = io.StringIO()
    assert await run_demo(played, root=root)
    text = played.getvalue()
    assert "ending the demo that was left running" in text
    real = "Run a Pod in a real container" in text
    if os.environ.get("KUBEOCEAN_E2E_REQUIRED") == "1":
        assert real, "this machine is to have real nodes, and the demo shows none"
        assert "Hello from a real container" in text
    whole = build_story(real=real)
    assert text.count("✓") == sum(isinstance(act, Observe | Hear | Forward) for step in whole for act in step.acts)
    assert f"All {len(whole)} steps were observed" in text
    assert not manager.alive
    with pytest.raises(NoSandbox):
        Sandbox.load("demo", root=root)
    assert os.listdir(root) == []
