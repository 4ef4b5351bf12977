"""How the story is played, on a stage without a sandbox."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kubeocean.demo import play as play_module
from kubeocean.demo.narrator import Narrator
from kubeocean.demo.observations import NotYet, Snapshot
from kubeocean.demo.play import play
from kubeocean.demo.stage import Stage, merge_kubeconfigs
from kubeocean.demo.story import Forward, Hear, Observe, Run, StartManager, Step
from kubeocean.kube.meta import Json
from kubeocean.sandbox.state import ComponentInfo

DEAD = ComponentInfo("kubeocean-manager", 1, "", "", Path("/sandbox/manager.log"))


class ScriptedStage(Stage):
    """Commands answer what the test says; the clusters are empty."""

    def __init__(self, *, code: int = 0, manager: ComponentInfo | None = None) -> None:
        self.folder = self.kubeconfig = self.tools = Path("/stage")
        self.code, self.started, self._manager, self.lines = code, False, manager, list[str]()

    def lay_out(self) -> None: ...

    async def run(self, line: str, write: Callable[[str], None]) -> int:
        self.lines.append(line)
        write(f"said by {line}")
        if line == "hang":
            await asyncio.Event().wait()
        return self.code

    @asynccontextmanager
    async def forwarding(self, line: str, write: Callable[[str], None]) -> AsyncIterator[int]:
        self.lines.append(line)
        write("Forwarding from 127.0.0.1:4711 -> 8080")
        yield 4711

    async def ask(self, url: str) -> str:
        if "down" in url:
            raise NotYet(f"{url} answers", "refused")
        return f"ok by {url}\n"

    async def look(self) -> Snapshot:
        return Snapshot({"virtual": []})

    def start_manager(self) -> None:
        self.started = True

    def manager_command(self) -> tuple[str, ...]:
        return ("kubeocean", "manager")

    @property
    def manager(self) -> ComponentInfo | None:
        return self._manager

    def manager_tail(self, lines: int = 15) -> list[str]:
        return ["last words"]


def never(_: Snapshot) -> str:
    raise NotYet("8 Pods", "7")


@pytest.fixture(autouse=True)
def looks_follow_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play_module, "EVERY", 0)


async def told(stage: Stage, *steps: Step) -> tuple[bool, str]:
    stream = io.StringIO()
    observed = await play(stage, steps, Narrator(stream))
    return observed, stream.getvalue()


async def test_a_step_shows_its_sentence_its_command_the_output_and_what_was_seen() -> None:
    step = Step("Look", "One looks.", (StartManager(), Run("kubectl get nodes"), Observe(lambda _: "all is well")))
    stage = ScriptedStage()
    observed, text = await told(stage, step)
    assert observed
    assert stage.started
    for part in ("1/1  Look", "One looks.", "$ kubeocean manager &", "$ kubectl get nodes\nsaid by", "✓ all is well ("):
        assert part in text
    assert "All 1 steps were observed" in text


async def test_what_is_not_there_at_first_is_waited_for() -> None:
    looks = 0

    def third_time(_: Snapshot) -> str:
        nonlocal looks
        looks += 1
        if looks < 3:
            raise NotYet("patience", "none")
        return "here it is"

    observed, text = await told(ScriptedStage(), Step("Wait", "", (Observe(third_time),)))
    assert observed
    assert "✓ here it is" in text


async def test_what_never_comes_is_told_with_what_was_seen_and_the_end_of_the_log() -> None:
    stage = ScriptedStage(manager=DEAD)
    observed, text = await told(stage, Step("Deploy", "", (Observe(never, within=0), Run("never run"))))
    assert not observed
    assert "✗ Deploy: not observed" in text
    assert "expected: 8 Pods" in text
    assert "seen:     7" in text
    assert "the end of the manager's log:\n    last words" in text
    assert stage.lines == []


async def test_a_dead_manager_is_not_waited_for() -> None:
    observed, text = await told(ScriptedStage(manager=DEAD), Step("Deploy", "", (Observe(never, within=3600),)))
    assert not observed
    assert "7; and the manager has died" in text


async def test_a_command_that_fails_ends_the_play() -> None:
    observed, text = await told(ScriptedStage(code=1), Step("Apply", "", (Run("kubectl apply -f x.yaml"),)))
    assert not observed
    assert "seen:     exit code 1" in text
    assert "log" not in text, "there is no manager yet"


async def test_a_command_that_hangs_ends_the_play() -> None:
    observed, text = await told(ScriptedStage(), Step("Hang", "", (Run("hang", within=0.01),)))
    assert not observed
    assert "expected: the command ends within 0.01 s" in text


async def test_what_a_command_is_to_say_is_waited_for() -> None:
    class Later(ScriptedStage):
        async def run(self, line: str, write: Callable[[str], None]) -> int:
            write("said at last" if self.lines else "not yet")
            return await super().run(line, lambda _: None)

    observed, text = await told(Later(), Step("Listen", "", (Hear("kubectl logs x", "at last", "it has spoken"),)))
    assert observed
    assert "$ kubectl logs x\nsaid at last\n" in text
    assert "not yet" not in text
    assert "✓ it has spoken (" in text


async def test_a_command_that_says_something_else_ends_the_play() -> None:
    observed, text = await told(ScriptedStage(), Step("Listen", "", (Hear("kubectl logs x", "at last", "", within=0),)))
    assert not observed
    assert "seen:     said by kubectl logs x" in text


async def test_a_forwarded_port_is_asked_and_its_answer_told() -> None:
    step = Step("Reach", "", (Forward("kubectl port-forward x :8080", "/healthz", "ok"),))
    observed, text = await told(ScriptedStage(), step)
    assert observed
    assert "$ kubectl port-forward x :8080 &\nForwarding from 127.0.0.1:4711 -> 8080\n" in text
    assert "✓ http://127.0.0.1:4711/healthz leads there and answers: ok by" in text


@pytest.mark.parametrize(("path", "part", "seen"), [("/down", "ok", "refused"), ("/healthz", "fine", "ok by")])
async def test_a_forwarded_port_that_does_not_answer_as_it_should_ends_the_play(path: str, part: str, seen: str) -> None:
    observed, text = await told(ScriptedStage(), Step("Reach", "", (Forward("kubectl port-forward x :8080", path, part),)))
    assert not observed
    assert seen in text


async def test_off_a_terminal_lines_are_whole_and_without_colour() -> None:
    long = "kubectl get " + "x" * 300
    _, text = await told(ScriptedStage(), Step("Long", long, (Run(long),)))
    assert f"$ {long}\nsaid by {long}\n" in text
    assert "\x1b" not in text


def test_kubeconfigs_are_merged_under_the_names_of_their_contexts() -> None:
    merged = merge_kubeconfigs([kubeconfig("virtual"), kubeconfig("physical-1")])
    assert merged["current-context"] == "virtual"
    assert merged["contexts"][1] == {"name": "physical-1", "context": {"cluster": "physical-1", "user": "physical-1"}}
    assert merged["users"] == [
        {"name": "virtual", "user": {"token": "of virtual"}}, {"name": "physical-1", "user": {"token": "of physical-1"}},
    ]
    assert [each["cluster"]["server"] for each in merged["clusters"]] == ["https://virtual", "https://physical-1"]


def kubeconfig(name: str) -> Json:
    return {
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}"}}],
        "users": [{"name": "admin", "user": {"token": f"of {name}"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "admin"}}],
    }
